//! What a replica computes on, behind one enum.

use std::fmt;
use std::str::FromStr;

/// One device of this node, for one replica.
///
/// A door for more: `cuda` is a compile-time feature that adds its variant here;
/// nothing outside this file and the copy of weights in `replica.rs` asks which
/// one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor, with candle's own kernels: one thread of tensor work a
    /// replica, as `RAYON_NUM_THREADS=1` makes it.
    Cpu,
}

/// More replicas in one worker than any node has use for.
const REPLICAS_MAX: usize = 64;

impl Device {
    /// Opens it for candle.
    pub fn open(self) -> candle_core::Device {
        match self {
            Device::Cpu => candle_core::Device::Cpu,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
        }
    }
}

/// The devices of a worker, one a replica, as `--devices` names them: `auto`,
/// `cpu` or `cpu:N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

/// A `--devices` that names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no devices: expected \"auto\", \"cpu\" or \"cpu:N\" with N from 1 to \
     {REPLICAS_MAX}"
)]
pub struct DevicesError {
    /// What was given.
    text: String,
}

impl Devices {
    /// So many replicas on the processor, at least one.
    pub fn cpu(replicas: usize) -> Self {
        Devices(vec![Device::Cpu; replicas.clamp(1, REPLICAS_MAX)])
    }

    /// One entry a replica, never empty.
    pub fn as_slice(&self) -> &[Device] {
        &self.0
    }
}

impl Default for Devices {
    /// What `auto` finds: one replica on the processor.
    fn default() -> Self {
        Devices::cpu(1)
    }
}

impl FromStr for Devices {
    type Err = DevicesError;

    fn from_str(text: &str) -> Result<Self, DevicesError> {
        let count = match text {
            "auto" => return Ok(Devices::default()),
            "cpu" => Some(1),
            _ => text.strip_prefix("cpu:").and_then(|n| n.parse().ok()),
        };
        match count {
            Some(count @ 1..=REPLICAS_MAX) => Ok(Devices::cpu(count)),
            _ => Err(DevicesError {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("cpu"),
            count => write!(f, "cpu:{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_on_the_command_line() {
        for (text, replicas, shown) in
            [("auto", 1, "cpu"), ("cpu", 1, "cpu"), ("cpu:3", 3, "cpu:3")]
        {
            let devices: Devices = text.parse().unwrap();
            assert_eq!(devices.as_slice(), vec![Device::Cpu; replicas]);
            assert_eq!(devices.to_string(), shown);
        }
        for text in ["", "gpu", "cpu:", "cpu:0", "cpu:65", "cpu:-1", "cpu:two"] {
            let error = text.parse::<Devices>().unwrap_err().to_string();
            assert!(error.contains("cpu:N"), "{error}");
        }
    }
}
