//! What a worker is told, already parsed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::collective::Token;
use crate::model::Registry;
use crate::strategy::Devices;

/// `--devices auto|cpu|cpu:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevicesChoice {
    /// What there is: one CPU replica, as long as this build knows no other.
    Auto,
    /// So many CPU replicas.
    Cpu(usize),
}

impl DevicesChoice {
    /// How many replicas.
    pub fn replicas(self) -> usize {
        match self {
            DevicesChoice::Auto => 1,
            DevicesChoice::Cpu(n) => n,
        }
    }

    pub(super) fn open(self) -> Devices {
        Devices::cpu(self.replicas())
    }
}

impl fmt::Display for DevicesChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replicas() {
            1 => f.write_str("cpu"),
            n => write!(f, "cpu:{n}"),
        }
    }
}

impl FromStr for DevicesChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = match text {
            "auto" => return Ok(DevicesChoice::Auto),
            "cpu" => Some(1),
            _ => text
                .strip_prefix("cpu:")
                .and_then(|n| n.parse().ok())
                .filter(|n| (1..=256).contains(n)),
        };
        count
            .map(DevicesChoice::Cpu)
            .ok_or_else(|| format!("{text:?} is none of auto, cpu, cpu:N (N from 1 to 256)"))
    }
}

/// Everything a worker is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST:PORT` of the coordinator.
    pub coordinator: String,
    /// The join token.
    pub token: Token,
    /// `--devices`.
    pub devices: DevicesChoice,
    /// `--peer-listen`.
    pub peer_listen: String,
    /// `--advertise`: how peers reach us, if not as the coordinator sees us.
    pub advertise: Option<(String, Option<u16>)>,
    /// `--reconnect-timeout`.
    pub reconnect_timeout: Duration,
    /// `--data`: where the data is on this node.
    pub data: Option<String>,
    /// The node's name, for people.
    pub node: String,
    /// It only follows.
    pub shadow: bool,
    /// The node's zone, if known.
    pub zone: Option<String>,
    /// Dollars an hour, if known.
    pub price: Option<f64>,
    /// Which models and data this build knows.
    pub registry: Registry,
    /// What to claim to be built from; for tests of refusals.
    pub build: Option<String>,
}
