//! What a GPU says of itself at the moment, as `nvidia-smi` shows it.

use std::fmt;

/// What it says; what it doesn't know is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    /// Bytes in use, by whomever.
    pub memory_used: Option<u64>,
    /// Percent of the last moments in which something ran.
    pub utilisation: Option<u32>,
    /// What it draws, in watts.
    pub power_watts: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
}

/// `70.1 GiB used, 99 % busy, 640 W, 61 C`; nothing where nothing is known.
impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let parts = [
            self.memory_used
                .map(|used| format!("{:.1} GiB used", gib(used))),
            self.utilisation.map(|percent| format!("{percent} % busy")),
            self.power_watts.map(|watts| format!("{watts:.0} W")),
            self.temperature.map(|degrees| format!("{degrees} C")),
        ];
        f.write_str(&Vec::from_iter(parts.into_iter().flatten()).join(", "))
    }
}

/// Asks NVIDIA's management library, which comes with the driver. `None` where it
/// isn't, or doesn't know the GPU: that is no error, nothing depends on it.
#[cfg(feature = "cuda")]
pub fn reading(uuid: &str) -> Option<Reading> {
    use std::ffi::OsStr;

    use nvml_wrapper::Nvml;
    use nvml_wrapper::enum_wrappers::device::TemperatureSensor;

    // Containers have the library under this name only.
    let library = OsStr::new("libnvidia-ml.so.1");
    let nvml = Nvml::builder().lib_path(library).init().ok()?;
    let gpu = nvml.device_by_uuid(uuid).ok()?;
    Some(Reading {
        memory_used: gpu.memory_info().ok().map(|memory| memory.used),
        utilisation: gpu.utilization_rates().ok().map(|rates| rates.gpu),
        power_watts: gpu
            .power_usage()
            .ok()
            .map(|milli| f64::from(milli) / 1000.0),
        temperature: gpu.temperature(TemperatureSensor::Gpu).ok(),
    })
}

/// A build without the feature asks nobody.
#[cfg(not(feature = "cuda"))]
pub fn reading(_: &str) -> Option<Reading> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let all = Reading {
            memory_used: Some(70 << 30),
            utilisation: Some(99),
            power_watts: Some(640.4),
            temperature: Some(61),
        };
        assert_eq!(all.to_string(), "70.0 GiB used, 99 % busy, 640 W, 61 C");
        let some = Reading {
            temperature: Some(61),
            ..Reading::default()
        };
        assert_eq!(some.to_string(), "61 C");
    }

    #[test]
    fn a_gpu_that_nobody_knows_has_no_reading_and_that_is_no_error() {
        assert_eq!(reading("GPU-00000000-0000-0000-0000-000000000000"), None);
    }
}
