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
use super::layout::{ELEMENTS_MAX, LayoutError, ParameterLayout};

/// The variables of one replica, created while its model is built.
#[derive(Debug, Clone)]
pub struct Variables {
    device: Device,
    values: Values,
    /// In byte order of the names: `str` is ordered by its bytes.
    created: Arc<Mutex<BTreeMap<String, Created>>>,
}

/// What there is under a name.
#[derive(Debug, Clone)]
enum Created {
    /// A variable with its values.
    Variable(Var),
    /// One zero, stretched to the variable's shape.
    Shape(Tensor),
}

impl Created {
    fn tensor(&self) -> &Tensor {
        match self {
            Created::Variable(var) => var.as_tensor(),
            Created::Shape(zero) => zero,
        }
    }
}

/// What new variables are filled with.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// By seed and name.
    Seeded(u64),
    /// Not at all: only names and shapes are wanted, whether or not there is
    /// memory for the values.
    None,
}

impl Variables {
    /// Variables on `device`, filled by (seed, name, element).
    pub fn seeded(seed: u64, device: &Device) -> Self {
        Self::with(Values::Seeded(seed), device)
    }

    /// Names and shapes only, on the CPU: what a model gets is a zero in its shape.
    pub fn shapes_only() -> Self {
        Self::with(Values::None, &Device::Cpu)
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

    /// The variables created so far, in byte order of the names: the order of
    /// [`layout`](Self::layout).
    pub fn in_order(&self) -> Vec<(String, Var)> {
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        created
            .iter()
            .filter_map(|(name, created)| match created {
                Created::Variable(var) => Some((name.clone(), var.clone())),
                Created::Shape(_) => None,
            })
            .collect()
    }

    /// The layout of what was created so far.
    ///
    /// # Errors
    /// When there is nothing, or a name or shape makes no parameter.
    pub fn layout(&self) -> std::result::Result<ParameterLayout, LayoutError> {
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        let shapes = created.iter();
        ParameterLayout::new(shapes.map(|(name, c)| (name.clone(), c.tensor().dims().to_vec())))
    }

    fn create(&self, shape: &Shape, name: &str, init: Init, device: &Device) -> Result<Created> {
        match self.values {
            Values::None => {
                let zero = Tensor::zeros((), DType::F32, device)?;
                Ok(Created::Shape(zero.broadcast_as(shape)?))
            }
            Values::Seeded(seed) => {
                let variable = init::variable(init, seed, name, shape, device)?;
                Ok(Created::Variable(variable))
            }
        }
    }
}

/// `None` where they can't even be counted.
fn elements(shape: &Shape) -> Option<usize> {
    let mut sizes = shape.dims().iter();
    sizes.try_fold(1usize, |all, &size| all.checked_mul(size))
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
        if let Some(there) = created.get(name).map(Created::tensor) {
            if there.shape() != &shape {
                bail!(
                    "parameter {name:?} is asked for with shape {shape:?}, but was created with \
                     shape {:?}: tied weights have one shape, others need names of their own",
                    there.shape()
                )
            }
            return Ok(there.clone());
        }
        let sizes = created.values().map(|c| c.tensor().elem_count());
        let room = ELEMENTS_MAX.saturating_sub(sizes.sum());
        if elements(&shape).is_none_or(|elements| elements > room) {
            bail!(
                "parameter {name:?} of shape {shape:?} makes it more than {ELEMENTS_MAX} values, \
                 the most that a model may have"
            )
        }
        let new = self.create(&shape, name, init, device)?;
        let tensor = new.tensor().clone();
        created.insert(name.to_owned(), new);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        match created.get(name) {
            Some(there) => Ok(there.tensor().clone()),
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
    fn a_layout_needs_no_memory_and_has_a_largest_size() {
        let vars = Variables::shapes_only();
        let vb = vars.builder();
        let half = vb.get((1 << 15, 1 << 15), "half").unwrap();
        assert_eq!(half.dims(), [1 << 15, 1 << 15]);
        vb.get((1 << 15, 1 << 15), "second half").unwrap();
        for (shape, name) in [((1, 1), "one more"), ((1 << 40, 1 << 40), "uncountable")] {
            let error = vb.get(shape, name).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("2147483648"),
                "{error}"
            );
        }
        assert_eq!(vars.layout().unwrap().elements(), ELEMENTS_MAX);
        assert!(vars.in_order().is_empty());
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
