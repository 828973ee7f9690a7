//! What a GPU says of itself at the moment, as `nvidia-smi` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Gpu;

/// What it says; what it doesn't know is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// In use, by whomever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// All that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    /// Share of the last moments in which something ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation_percent: Option<u32>,
    /// What it draws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<f64>,
    /// Of its chip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<u32>,
}

/// The reading of one of several GPUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuReading {
    /// As the driver counts.
    pub index: u32,
    /// `"NVIDIA H200"`.
    pub name: String,
    /// What it says.
    #[serde(flatten)]
    pub reading: Reading,
}

/// `70.1 of 139.8 GiB used, 99 % busy, 640 W, 61 C`; nothing where nothing is known.
impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let memory = match (self.memory_used_bytes, self.memory_total_bytes) {
            (Some(used), Some(all)) => {
                Some(format!("{:.1} of {:.1} GiB used", gib(used), gib(all)))
            }
            (Some(used), None) => Some(format!("{:.1} GiB used", gib(used))),
            (None, _) => None,
        };
        let parts = [
            memory,
            self.utilisation_percent
                .map(|percent| format!("{percent} % busy")),
            self.power_watts.map(|watts| format!("{watts:.0} W")),
            self.temperature_celsius
                .map(|degrees| format!("{degrees} C")),
        ];
        f.write_str(&Vec::from_iter(parts.into_iter().flatten()).join(", "))
    }
}

/// `cuda:0 NVIDIA H200: 70.1 of 139.8 GiB used, 99 % busy, 640 W, 61 C`
impl fmt::Display for GpuReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} {}: {}", self.index, self.name, self.reading)
    }
}

/// NVIDIA's management library, which comes with the driver.
#[cfg(feature = "cuda")]
pub struct Meter(nvml_wrapper::Nvml);

/// A build without the feature has none.
#[cfg(not(feature = "cuda"))]
pub struct Meter(std::convert::Infallible);

impl Meter {
    /// What these GPUs say. One that doesn't answer is left out.
    pub fn readings(&self, gpus: &[Gpu]) -> Vec<GpuReading> {
        let of = |gpu: &Gpu| {
            Some(GpuReading {
                index: gpu.index,
                name: gpu.name.clone(),
                reading: self.reading(gpu)?,
            })
        };
        gpus.iter().filter_map(of).collect()
    }
}

#[cfg(feature = "cuda")]
impl Meter {
    /// `None` where the library isn't: that is no error, nothing depends on it.
    pub fn open() -> Option<Meter> {
        // Containers have the library under this name only.
        let library = std::ffi::OsStr::new("libnvidia-ml.so.1");
        let nvml = nvml_wrapper::Nvml::builder().lib_path(library).init();
        nvml.ok().map(Meter)
    }

    /// What this GPU says; `None` if the library doesn't know it.
    pub fn reading(&self, gpu: &Gpu) -> Option<Reading> {
        use nvml_wrapper::enum_wrappers::device::TemperatureSensor;

        let gpu = self.0.device_by_uuid(&*gpu.uuid).ok()?;
        let memory = gpu.memory_info().ok();
        let milliwatts = gpu.power_usage().ok();
        Some(Reading {
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_total_bytes: memory.as_ref().map(|memory| memory.total),
            utilisation_percent: gpu.utilization_rates().ok().map(|rates| rates.gpu),
            power_watts: milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0),
            temperature_celsius: gpu.temperature(TemperatureSensor::Gpu).ok(),
        })
    }
}

#[cfg(not(feature = "cuda"))]
impl Meter {
    /// Never one.
    pub fn open() -> Option<Meter> {
        None
    }

    /// Nobody can ask.
    pub fn reading(&self, _: &Gpu) -> Option<Reading> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let all = Reading {
            memory_used_bytes: Some(70 << 30),
            memory_total_bytes: Some(140 << 30),
            utilisation_percent: Some(99),
            power_watts: Some(640.4),
            temperature_celsius: Some(61),
        };
        let said = "70.0 of 140.0 GiB used, 99 % busy, 640 W, 61 C";
        assert_eq!(all.to_string(), said);
        let some = Reading {
            temperature_celsius: Some(61),
            ..Reading::default()
        };
        assert_eq!(some.to_string(), "61 C");
    }

    #[test]
    fn a_reading_comes_back_from_json_with_what_was_known() {
        let reading = GpuReading {
            index: 2,
            name: "NVIDIA L4".into(),
            reading: Reading {
                memory_used_bytes: Some(u64::MAX),
                power_watts: Some(71.5),
                ..Reading::default()
            },
        };
        let json = serde_json::to_value(&reading).unwrap();
        let known = json!({
            "index": 2, "name": "NVIDIA L4", "memory_used_bytes": u64::MAX, "power_watts": 71.5,
        });
        assert_eq!(json, known);
        assert_eq!(serde_json::from_value::<GpuReading>(json).unwrap(), reading);
    }
}
