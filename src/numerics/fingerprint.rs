//! The numerics kind: do two machines compute the same gradients?
//!
//! The bits of a matrix product depend on the instruction set, on how the
//! kernel blocks its sums (which depends on the cache), on the library and its
//! version; those of `exp` on the system's mathematics library. Nobody can list
//! all of it, so a worker is asked to compute something and show the bits. Two
//! workers with the same fingerprint give the same micro-batch gradients, and
//! the exactness of the sums (design 4.1, 4.9) does the rest.

use super::dispatch::Level;
use super::philox::{self, Key};
use candle_core::{Device, Result, Tensor, Var};
use sha2::{Digest, Sha256};

/// The version of the tensor library, a part of the fingerprint: a newer one may
/// differ in an operation that the probe doesn't use. A test holds it against
/// `Cargo.lock`.
const CANDLE_VERSION: &str = "0.11.1";

/// What a replica computes on, as it registers it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The device model, for people: `"AMD EPYC 9B14"`.
    pub device: String,
    /// `cpu:avx512:1a2b3c4d5e6f7890`: equal for replicas that compute the same bits.
    pub fingerprint: String,
}

impl Kind {
    /// The kind of this machine's CPU replicas. Runs the probe: some milliseconds.
    pub fn cpu() -> Kind {
        let device = cpu_model();
        let level = Level::best().name();
        let parts = [CANDLE_VERSION, std::env::consts::ARCH, level, &device];
        let hash = hash(&parts, &Device::Cpu);
        let hash = hash.expect("the probe's shapes are constants that fit each other");
        Kind {
            device,
            fingerprint: format!("cpu:{level}:{hash}"),
        }
    }

    /// The kind of replicas on a GPU, which is open: its name, its compute
    /// capability, and the CUDA of its driver, which compiles the kernels and
    /// chooses those of matrix products.
    ///
    /// # Errors
    /// What the device says.
    pub fn gpu(
        name: &str,
        capability: (u32, u32),
        driver: (u32, u32),
        open: &Device,
    ) -> Result<Kind> {
        let capability = format!("sm{}{}", capability.0, capability.1);
        let driver = format!("{}.{}", driver.0, driver.1);
        let hash = hash(&[CANDLE_VERSION, "cuda", name, &capability, &driver], open)?;
        Ok(Kind {
            device: name.to_owned(),
            fingerprint: format!("cuda:{capability}:{hash}"),
        })
    }
}

/// What the parts say and what the device computes, in sixteen digits.
fn hash(parts: &[&str], device: &Device) -> Result<String> {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part.as_bytes());
        sha.update([0]);
    }
    probe(&mut sha, device)?;
    let hash = sha.finalize();
    Ok(hash[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The numerics fingerprint of this machine's CPU replicas: [`Kind::cpu`] without
/// the device's name.
pub fn fingerprint() -> String {
    Kind::cpu().fingerprint
}

/// Feeds the hash with what the kernels under a training step give, forward and
/// backward, on inputs that are the same everywhere.
fn probe(sha: &mut Sha256, device: &Device) -> Result<()> {
    // The inner dimension decides how a matrix product's sums are blocked: 784
    // and 2048 forward, the number of outputs and of samples backward.
    for (inner, outputs) in [(784, 128), (2048, 64)] {
        let xs = input("product.x", &[16, inner], device)?;
        let weight = input("product.weight", &[outputs, inner], device)?;
        let ys = xs.matmul(&weight.t()?)?;
        digest(sha, &ys)?;
        let gradients = ys.sqr()?.mean_all()?.backward()?;
        for var in [&xs, &weight] {
            digest(sha, gradient(&gradients, var)?)?;
        }
    }

    let xs = input("elementwise", &[8, 250], device)?;
    digest(sha, &xs.exp()?)?;
    digest(sha, &xs.tanh()?)?;
    digest(sha, &xs.gelu()?)?;
    digest(sha, &xs.sqr()?.affine(1.0, 0.01)?.log()?)?;
    digest(sha, &xs.sum(1)?)?;
    digest(sha, &candle_nn::ops::softmax(&xs, 1)?)?;
    let loss = candle_nn::ops::log_softmax(&xs, 1)?.sqr()?.mean_all()?;
    digest(sha, &loss)?;
    digest(sha, gradient(&loss.backward()?, &xs)?)?;

    let images = input("conv.x", &[2, 3, 12, 12], device)?;
    let kernel = input("conv.kernel", &[8, 3, 3, 3], device)?;
    let ys = images.conv2d(&kernel, 1, 1, 1, 1)?;
    digest(sha, &ys)?;
    let gradients = ys.sqr()?.mean_all()?.backward()?;
    for var in [&images, &kernel] {
        digest(sha, gradient(&gradients, var)?)?;
    }
    Ok(())
}

/// Normal numbers of this shape, from a stream named by the shape's use.
fn input(name: &str, shape: &[usize], device: &Device) -> Result<Var> {
    let mut values = vec![0.0; shape.iter().product()];
    philox::fill_normal(
        Key::derive(0, "fingerprint", &[name.as_bytes()]),
        0,
        &mut values,
    );
    Var::from_vec(values, shape, device)
}

fn gradient<'a>(gradients: &'a candle_core::backprop::GradStore, var: &Var) -> Result<&'a Tensor> {
    gradients
        .get(var)
        .ok_or_else(|| candle_core::Error::Msg("the probe's graph ends before its variable".into()))
}

fn digest(sha: &mut Sha256, tensor: &Tensor) -> Result<()> {
    for value in tensor.flatten_all()?.to_vec1::<f32>()? {
        sha.update(value.to_le_bytes());
    }
    Ok(())
}

/// The processor's own name for itself, else its architecture.
fn cpu_model() -> String {
    #[cfg(target_arch = "x86_64")]
    if let Some(name) = brand_string() {
        return name;
    }
    std::env::consts::ARCH.to_owned()
}

/// The 48 characters of cpuid leaves 0x80000002 to 0x80000004.
#[cfg(target_arch = "x86_64")]
fn brand_string() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    const LEAVES: std::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;
    if __cpuid(0x8000_0000).eax < *LEAVES.end() {
        return None;
    }
    let bytes: Vec<u8> = LEAVES
        .map(__cpuid)
        .flat_map(|answer| [answer.eax, answer.ebx, answer.ecx, answer.edx])
        .flat_map(u32::to_le_bytes)
        .take_while(|byte| *byte != 0)
        .collect();
    let name = String::from_utf8_lossy(&bytes)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_gives_the_same_fingerprint_twice() {
        let kind = Kind::cpu();
        assert_eq!(kind, Kind::cpu());
        assert_eq!(kind.fingerprint, fingerprint());
        let parts: Vec<&str> = kind.fingerprint.split(':').collect();
        assert_eq!(parts[..2], ["cpu", Level::best().name()]);
        assert_eq!(parts[2].len(), 16, "{}", kind.fingerprint);
        assert!(!kind.device.is_empty());
    }

    #[test]
    fn the_version_of_candle_is_the_locked_one() {
        let lock = include_str!("../../Cargo.lock");
        let entry = format!("name = \"candle-core\"\nversion = \"{CANDLE_VERSION}\"\n");
        assert!(
            lock.contains(&entry),
            "CANDLE_VERSION is {CANDLE_VERSION}, Cargo.lock has another"
        );
    }
}
