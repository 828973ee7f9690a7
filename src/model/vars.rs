//! Variables by name: what stands behind a model's `VarBuilder`.
//!
//! Asked for a name the first time, [`Variables`] creates a candle `Var` with
//! seeded initial values; asked again, it gives the same one, so that tied
//! weights need nothing special. A replica keeps the `Variables` it was built
//! from: they're what the training step reads gradients for and writes into.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::init;
use super::layout::{LayoutError, ParameterLayout};

/// The variables of one replica, created while its model is built.
#[derive(Debug, Clone)]
pub struct Variables {
    device: Device,
    values: Values,
    /// In byte order of the names: `str` is ordered by its bytes.
    created: Arc<Mutex<BTreeMap<String, Var>>>,
}

/// What new variables are filled with.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// By seed and name.
    Seeded(u64),
    /// Not at all: only names and shapes are wanted, and untouched zero pages
    /// cost no memory.
    Zeros,
}

impl Variables {
    /// Variables on `device`, filled by (seed, name, element).
    pub fn seeded(seed: u64, device: &Device) -> Self {
        Self::with(Values::Seeded(seed), device)
    }

    /// Variables for their names and shapes only: zeros, on the CPU.
    pub fn shapes_only() -> Self {
        Self::with(Values::Zeros, &Device::Cpu)
    }

    fn with(values: Values, device: &Device) -> Self {
        Variables {
            device: device.clone(),
            values,
            created: Arc::default(),
        }
    }

    /// The builder that a model takes its variables from.
    pub fn builder(&self) -> VarBuilder<'static> {
        let backend: Box<dyn SimpleBackend> = Box::new(self.clone());
        VarBuilder::new_with_args(backend, DType::F32, &self.device)
    }

    /// What was created so far, in byte order of the names: the order of
    /// [`layout`](Self::layout).
    pub fn in_order(&self) -> Vec<(String, Var)> {
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        created
            .iter()
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect()
    }

    /// The layout of what was created so far.
    ///
    /// # Errors
    /// When there is nothing, or a name or shape makes no parameter.
    pub fn layout(&self) -> std::result::Result<ParameterLayout, LayoutError> {
        ParameterLayout::new(
            self.in_order()
                .into_iter()
                .map(|(name, var)| (name, var.dims().to_vec())),
        )
    }

    fn create(&self, shape: &Shape, name: &str, init: Init, device: &Device) -> Result<Var> {
        match self.values {
            Values::Zeros => Var::zeros(shape, DType::F32, device),
            Values::Seeded(seed) => {
                let values = init::values(init, seed, name, shape);
                Var::from_vec(values, shape, device)
            }
        }
    }
}

impl SimpleBackend for Variables {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if dtype != DType::F32 {
            bail!(
                "parameter {name:?} is asked for as {dtype:?}: weights are kept in f32; convert \
                 in the forward pass with `to_dtype`"
            )
        }
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(var) = created.get(name) {
            if var.shape() != &shape {
                bail!(
                    "parameter {name:?} is asked for with shape {shape:?}, but was created with \
                     shape {:?}: tied weights have one shape, others need names of their own",
                    var.shape()
                )
            }
            return Ok(var.as_tensor().clone());
        }
        let var = self.create(&shape, name, init, device)?;
        created.insert(name.to_owned(), var.clone());
        Ok(var.into_inner())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        match created.get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => Err(Error::CannotFindTensor {
                path: name.to_owned(),
            }),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        created.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::init::{glorot_uniform, normal};

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn two_replicas_start_with_the_same_bits_whatever_the_order_of_creation() {
        let (one, two) = (
            Variables::seeded(5, &Device::Cpu),
            Variables::seeded(5, &Device::Cpu),
        );
        let (vb, wb) = (one.builder(), two.builder());
        let hint = glorot_uniform(4, 8);
        let a = vb.pp("a").get_with_hints((8, 4), "weight", hint).unwrap();
        let b = vb.pp("b").get_with_hints((8, 4), "weight", hint).unwrap();
        let b2 = wb.pp("b").get_with_hints((8, 4), "weight", hint).unwrap();
        let a2 = wb.pp("a").get_with_hints((8, 4), "weight", hint).unwrap();
        assert_eq!(bits(&a), bits(&a2));
        assert_eq!(bits(&b), bits(&b2));
        assert_ne!(bits(&a), bits(&b));
        assert!(a.is_variable());
        assert_eq!(one.layout().unwrap(), two.layout().unwrap());
    }

    #[test]
    fn the_same_name_asked_twice_is_one_variable() {
        let vars = Variables::seeded(5, &Device::Cpu);
        let vb = vars.builder();
        let first = vb.get_with_hints((2, 2), "tied", normal(1.0)).unwrap();
        let second = vb.get_with_hints((2, 2), "tied", normal(1.0)).unwrap();
        assert_eq!(first.id(), second.id());
        assert_eq!(vars.in_order().len(), 1);
        assert_eq!(vb.get_unchecked("tied").unwrap().id(), first.id());
        assert!(vb.contains_tensor("tied") && !vb.contains_tensor("other"));
        let error = vb.get((4, 1), "tied").unwrap_err().to_string();
        assert!(
            error.contains("\"tied\"") && error.contains("[2, 2]"),
            "{error}"
        );
    }

    #[test]
    fn weights_in_another_type_than_f32_are_refused_by_name() {
        let vb = Variables::seeded(5, &Device::Cpu).builder();
        let error = vb
            .to_dtype(DType::BF16)
            .get((2, 2), "half")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"half\"") && error.contains("f32"),
            "{error}"
        );
    }
}
