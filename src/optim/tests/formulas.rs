//! The update against the published formulas, in `f64`.

use super::*;

/// The formula in f64, as Keras' documentation has it.
#[test]
fn adam_follows_keras() {
    let mut optimizer = Optimizer::new(&spec(OptimizerKind::Adam), &parameters()).unwrap();
    let mut weights = normals(0, 0.05);
    let mut expected: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
    let (mut m, mut v) = (vec![0.0; LEN], vec![0.0; LEN]);
    for t in 1..=5 {
        let gradient = normals(t as u64, 0.01);
        optimizer.begin_step();
        optimizer.update(0..LEN, &mut weights, &gradient, 1e-3);
        let alpha = 1e-3 * (1.0 - 0.999f64.powi(t)).sqrt() / (1.0 - 0.9f64.powi(t));
        for i in 0..LEN {
            let g = f64::from(gradient[i]);
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            expected[i] -= alpha * m[i] / (v[i].sqrt() + 1e-7);
        }
    }
    assert_near(&weights, &expected);
}

/// The formula in f64, as torch's documentation has it.
#[test]
fn adamw_follows_torch() {
    let mut optimizer = Optimizer::new(&spec(OptimizerKind::AdamW), &parameters()).unwrap();
    // Gradients near epsilon, so that its place shows.
    let mut weights = normals(0, 0.05);
    let mut expected: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
    let (mut m, mut v) = (vec![0.0; LEN], vec![0.0; LEN]);
    for t in 1..=5 {
        let gradient = normals(t as u64, 1e-8);
        optimizer.begin_step();
        optimizer.update(0..LEN, &mut weights, &gradient, 1e-3);
        for i in 0..LEN {
            let g = f64::from(gradient[i]);
            expected[i] -= 1e-3 * 0.01 * expected[i];
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let m_hat = m[i] / (1.0 - 0.9f64.powi(t));
            let v_hat: f64 = v[i] / (1.0 - 0.999f64.powi(t));
            expected[i] -= 1e-3 * m_hat / (v_hat.sqrt() + 1e-8);
        }
    }
    assert_near(&weights, &expected);
}

#[test]
fn sgd_with_momentum_follows_torch() {
    for nesterov in [false, true] {
        let mut optimizer = Optimizer::new(&momentum(nesterov), &parameters()).unwrap();
        let mut weights = normals(0, 0.05);
        let mut expected: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        let mut velocity = vec![0.0; LEN];
        for t in 1..=5 {
            let gradient = normals(t, 0.01);
            optimizer.begin_step();
            let lr = 0.1 / t as f64;
            optimizer.update(0..LEN, &mut weights, &gradient, lr);
            for i in 0..LEN {
                let g = f64::from(gradient[i]);
                velocity[i] = 0.9 * velocity[i] + g;
                expected[i] -= lr
                    * if nesterov {
                        g + 0.9 * velocity[i]
                    } else {
                        velocity[i]
                    };
            }
        }
        assert_near(&weights, &expected);
    }
}

fn assert_near(weights: &[f32], expected: &[f64]) {
    for (i, (w, x)) in weights.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*w) - x).abs() < 1e-7,
            "element {i}: {w}, expected {x}"
        );
    }
}
