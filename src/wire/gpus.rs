//! What a worker's GPUs say of themselves, on the wire: for people, so that what makes
//! no sense is cut or left out instead of refused.

use super::control as pb;
use crate::devices::{GpuReading, REPLICAS_MAX, Reading};

/// Of a GPU's name.
const NAME_CHARS_MAX: usize = 64;
/// Nothing in a socket draws more.
const POWER_WATTS_MAX: f64 = 1e6;

/// As a message.
pub fn gpus_message(gpus: &[GpuReading]) -> pb::Gpus {
    let gpu = |gpu: &GpuReading| pb::Gpu {
        index: gpu.index,
        name: gpu.name.clone(),
        memory_used_bytes: gpu.reading.memory_used_bytes,
        memory_total_bytes: gpu.reading.memory_total_bytes,
        utilisation_percent: gpu.reading.utilisation_percent,
        power_watts: gpu.reading.power_watts,
        temperature_celsius: gpu.reading.temperature_celsius,
    };
    pb::Gpus {
        gpus: gpus.iter().take(REPLICAS_MAX).map(gpu).collect(),
    }
}

/// From a message: no more than a worker can have.
pub fn gpu_readings(message: pb::Gpus) -> Vec<GpuReading> {
    let reading = |gpu: pb::Gpu| GpuReading {
        index: gpu.index,
        name: gpu.name.chars().take(NAME_CHARS_MAX).collect(),
        reading: Reading {
            memory_used_bytes: gpu.memory_used_bytes,
            memory_total_bytes: gpu.memory_total_bytes,
            utilisation_percent: gpu.utilisation_percent,
            power_watts: gpu
                .power_watts
                .filter(|watts| (0.0..=POWER_WATTS_MAX).contains(watts)),
            temperature_celsius: gpu.temperature_celsius,
        },
    };
    let gpus = message.gpus.into_iter().take(REPLICAS_MAX);
    gpus.map(reading).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> GpuReading {
        GpuReading {
            index: 1,
            name: "NVIDIA H200".into(),
            reading: Reading {
                memory_used_bytes: Some(1 << 36),
                memory_total_bytes: Some(139 << 30),
                utilisation_percent: Some(0),
                power_watts: Some(75.25),
                temperature_celsius: None,
            },
        }
    }

    #[test]
    fn readings_survive_the_wire() {
        let two = [
            reading(),
            GpuReading {
                index: 5,
                ..reading()
            },
        ];
        assert_eq!(gpu_readings(gpus_message(&two)), two);
    }

    #[test]
    fn what_no_gpu_says_is_cut_or_left_out() {
        let mut message = gpus_message(&vec![reading(); 100]);
        assert_eq!(message.gpus.len(), REPLICAS_MAX);
        let gpu = &mut message.gpus[0];
        gpu.name = "é".repeat(10_000);
        gpu.power_watts = Some(f64::NAN);
        let mut odd = message.gpus[1].clone();
        odd.power_watts = Some(-1.0);
        message.gpus[1] = odd.clone();
        message.gpus.extend(vec![odd; 1000]);
        let there = gpu_readings(message);
        assert_eq!(there.len(), REPLICAS_MAX);
        assert_eq!(there[0].name.chars().count(), NAME_CHARS_MAX);
        assert_eq!(there[0].reading.power_watts, None);
        assert_eq!(there[1].reading.power_watts, None);
    }
}
