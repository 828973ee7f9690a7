//! What a seed draws of a run's surroundings.

use std::time::Duration;

use super::env::Weather;
use super::values::Random;
use crate::world::membership::Settings;

/// How fast everything is.
pub fn weather(random: &mut Random) -> Weather {
    let micros = |random: &mut Random, from: &[u64]| Duration::from_micros(random.pick(from));
    Weather {
        latency: micros(random, &[200, 1_000, 10_000, 50_000]),
        late_per_mille: random.pick(&[0, 0, 10, 100]),
        micro_batch: micros(random, &[500, 5_000, 50_000, 500_000]),
        store: micros(random, &[1_000, 50_000, 1_000_000]),
        reconnect: Duration::from_secs(random.pick(&[5, 60, 600])),
    }
}

/// What the operator asks for.
pub fn settings(random: &mut Random) -> Settings {
    let patience = Duration::from_millis(random.pick(&[1_000, 5_000, 30_000]));
    let members_max = random.pick(&[1, 2, 3, 4, 5, 5, 5]);
    let spares = random.pick(&[0, 0, 1, 2]);
    let micro_batches = random.pick(&[1, 2, 3, 4, 5, 8]);
    match random.below(4) {
        0 => {
            let size = random.range(1, members_max.min(3));
            Settings {
                start_size: size,
                members_min: 1,
                members_max: size,
                patience,
                micro_batches,
                spares,
            }
        }
        1 => {
            let least = random.range(1, members_max.min(3));
            Settings {
                start_size: least,
                members_min: least,
                members_max,
                patience,
                micro_batches,
                spares,
            }
        }
        _ => Settings {
            start_size: 1,
            members_min: 1,
            members_max,
            patience,
            micro_batches,
            spares,
        },
    }
}
