//! One copy of the model on one device.

use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var, bail};

use super::error::StrategyError;
use super::summing::{SharedSum, Summing};
use crate::data::{Gathered, GatheredField};
use crate::model::{Batch, DynModel, ParameterLayout};

/// A model and its variables on one device, with its own buffer for samples.
pub struct Replica {
    pub(super) device: candle_core::Device,
    pub(super) model: Box<dyn DynModel>,
    pub(super) variables: Mirror,
    pub(super) gathered: Gathered,
    pub(super) summing: Box<dyn Summing>,
    /// What it sums into, where that is on its GPU.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "never there"))]
    pub(super) sum: Option<SharedSum>,
}

/// The variables of one replica, in layout order: what the optimizer's result
/// is copied into. Cloning it clones handles, not weights.
#[derive(Debug, Clone)]
pub(super) struct Mirror(pub Vec<Var>);

impl Mirror {
    /// Copies `weights`, the flat elements `range`, into the variable that they
    /// are part of; `range` lies within parameter `index`.
    pub fn write(
        &self,
        layout: &ParameterLayout,
        index: usize,
        range: &Range<usize>,
        weights: &[f32],
    ) -> std::result::Result<(), StrategyError> {
        let parameter = &layout.parameters()[index];
        let copy = CopyInto {
            offset: range.start - parameter.range.start,
            values: weights,
        };
        self.0[index]
            .inplace_op1(&copy)
            .map_err(|source| StrategyError::SetWeights {
                parameter: parameter.name.clone(),
                source,
            })
    }
}

impl Replica {
    /// What was gathered as tensors on the replica's device. Buffers of the
    /// processor become tensors without a copy.
    pub(super) fn batch(&mut self) -> Result<Batch> {
        let len = self.gathered.len;
        let fields = self.gathered.fields.drain(..);
        let fields = fields
            .map(|field| match field {
                GatheredField::F32 { shape, data } => Tensor::from_vec(data, shape, &self.device),
                GatheredField::U32 { shape, data } => Tensor::from_vec(data, shape, &self.device),
            })
            .collect::<Result<_>>()?;
        Ok(Batch { fields, len })
    }
}

/// Calls `read` with the values of a tensor: in place on the processor, copied
/// from elsewhere.
pub(super) fn with_values<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (candle_core::Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Ok(read(&values[start..end]))
        }
        _ => {
            drop(storage);
            Ok(read(&tensor.flatten_all()?.to_vec1::<f32>()?))
        }
    }
}

/// Overwrites part of a variable without allocating.
struct CopyInto<'a> {
    offset: usize,
    values: &'a [f32],
}

impl InplaceOp1 for CopyInto<'_> {
    fn name(&self) -> &'static str {
        "copy-weights"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(variable), Some((start, end))) =
            (storage, layout.contiguous_offsets())
        else {
            bail!("a variable is contiguous f32, this one has {layout:?}")
        };
        let place = self.offset..self.offset + self.values.len();
        match variable[start..end].get_mut(place) {
            Some(place) => place.copy_from_slice(self.values),
            None => bail!("{} values don't fit at {}", self.values.len(), self.offset),
        }
        Ok(())
    }
}
