//! The first job, on the real data.

use super::*;
use crate::job::Decision;

pub const MNIST: &str = "seed = 1\n[model]\nkind = \"mlp\"\n[data]\nkind = \"mnist\"\nurl = \"data/mnist\"\n\
                     [train]\nsteps = 300\nglobal_batch = 64\nmicro_batch = 16\n\
                     [optimizer]\nkind = \"adam\"\nlr = 1e-3\n";

#[test]
fn three_hundred_steps_learn_most_digits() {
    let plan = plan(MNIST, &[]);
    let mut accuracy = None;
    let state = TrainState::initial(&plan).unwrap();
    train_alone(&plan, &Devices::cpu(1), state, |_, finished| {
        for decision in &finished.decisions {
            if let Decision::Evaluated { validation, .. } = decision {
                accuracy = validation.means.as_ref().map(|means| means.metrics[0]);
            }
        }
    })
    .unwrap();
    let accuracy = accuracy.expect("evaluated at the end");
    assert!(
        (0.90..0.96).contains(&accuracy),
        "accuracy {accuracy} after 300 steps"
    );
}

#[test]
fn replicas_that_share_real_steps_come_to_the_same_digest() {
    let plan = plan(MNIST, &["train.steps=40", "evaluation.every=\"never\""]);
    let alone = digest_of_run(&plan, 1);
    assert_eq!(alone, digest_of_run(&plan, 2));
    assert_eq!(alone, digest_of_run(&plan, 3));
}
