//! Initial weights from somebody else's safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::error::InitialError;

/// Shape and values of each tensor, by name.
pub type InitialWeights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Reads a safetensors file for `init.from`: shape and f32 values by name. F16
/// and BF16 convert exactly, F64 is rounded once; tensors of other types
/// (counters, masks) can't be parameters and are left out with a warning.
pub fn load_initial(path: &Path) -> Result<InitialWeights, InitialError> {
    let bytes = std::fs::read(path).map_err(|source| InitialError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| InitialError::Format {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        match to_f32(&view) {
            Some(values) => drop(tensors.insert(name.to_string(), (view.shape().to_vec(), values))),
            None => tracing::warn!(
                tensor = name, kind = ?view.dtype(), file = %path.display(),
                "not a tensor of floating-point numbers, left out"
            ),
        }
    }
    Ok(tensors)
}

fn to_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|&value| convert(value))
            .collect()
    }
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => Some(each(bytes, f32::from_le_bytes)),
        Dtype::F64 => Some(each(bytes, |value| f64::from_le_bytes(value) as f32)),
        Dtype::BF16 => Some(each(bytes, |value| {
            f32::from_bits(u32::from(u16::from_le_bytes(value)) << 16)
        })),
        Dtype::F16 => Some(each(bytes, |value| half_to_f32(u16::from_le_bytes(value)))),
        _ => None,
    }
}

/// IEEE 754 binary16 to binary32, exactly.
fn half_to_f32(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half) & 0x3ff;
    match exponent {
        // Zero and subnormals: the fraction counts units of 2^-24.
        0 => {
            let magnitude = fraction as f32 * f32::from_bits((127 - 24) << 23);
            f32::from_bits(sign | magnitude.to_bits())
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_converts_exactly() {
        for (half, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half_to_f32(half), value, "{half:#06x}");
        }
        assert!(half_to_f32(0x7e01).is_nan());
        assert_eq!(half_to_f32(0x8000).to_bits(), (-0.0f32).to_bits());
    }
}
