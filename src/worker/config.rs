//! What a worker is told, already parsed.

use std::time::Duration;

use crate::collective::Token;
use crate::devices::Devices;
use crate::model::Registry;

/// Everything a worker is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST:PORT` of the coordinator.
    pub coordinator: String,
    /// The join token.
    pub token: Token,
    /// What `--devices` comes to here.
    pub devices: Devices,
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
