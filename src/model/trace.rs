//! Which layer made which tensor, for those who look into a step.
//!
//! candle shows the values of a graph but not the names of its operations. So
//! layers name what they give with [`named`]; outside of [`recorded`] that does
//! nothing. Inside, a copy of the tensor goes on in its place, whose backward
//! pass notes what gradient has come down to it. The values are the same.

use std::cell::RefCell;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, TensorId, bail};

/// What was named during a pass.
#[derive(Debug, Default)]
pub struct Recording {
    /// In the order of the forward pass.
    pub forward: Vec<Named>,
    /// In the order of the backward pass.
    pub backward: Vec<Incoming>,
}

/// A tensor and the layer that gave it.
#[derive(Debug, Clone)]
pub struct Named {
    /// `dense`, `dropout`, ...
    pub op: &'static str,
    /// The layer's path in the model.
    pub layer: String,
    /// The tensor itself.
    pub value: TensorId,
    /// Its copy that the pass went on with.
    pub copy: TensorId,
}

/// The gradient that the backward pass has brought to what a layer gave.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// See [`Named::op`].
    pub op: &'static str,
    /// See [`Named::layer`].
    pub layer: String,
    /// Elements that aren't finite.
    pub non_finite: usize,
    /// Elements.
    pub elements: usize,
}

thread_local! {
    static RECORDING: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// Runs a pass, forward and backward, and returns what was named in it.
pub fn recorded<T>(pass: impl FnOnce() -> T) -> (T, Recording) {
    /// A pass that panics leaves no recording behind.
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            RECORDING.take();
        }
    }
    RECORDING.set(Some(Recording::default()));
    let ends = Ends;
    let result = pass();
    let recording = RECORDING.take().unwrap_or_default();
    drop(ends);
    (result, recording)
}

/// Names what `layer` gave by `op`, for `ebbtide replay`. In training it returns
/// `xs` as it is.
///
/// # Errors
/// When candle fails.
pub fn named(xs: Tensor, op: &'static str, layer: &str) -> Result<Tensor> {
    if RECORDING.with_borrow(Option::is_none) {
        return Ok(xs);
    }
    let copy = match xs.device().is_cpu() && xs.dtype() == candle_core::DType::F32 {
        true => xs.contiguous()?.apply_op1(Watch {
            op,
            layer: layer.to_owned(),
        })?,
        false => xs.clone(),
    };
    let named = Named {
        op,
        layer: layer.to_owned(),
        value: xs.id(),
        copy: copy.id(),
    };
    RECORDING.with_borrow_mut(|recording| {
        if let Some(recording) = recording {
            recording.forward.push(named);
        }
    });
    Ok(copy)
}

/// The identity, which looks at the gradient that comes back.
struct Watch {
    op: &'static str,
    layer: String,
}

impl CustomOp1 for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) => Ok((
                CpuStorage::F32(values[start..end].to_vec()),
                layout.shape().clone(),
            )),
            _ => bail!("watch: expected contiguous f32 values, got {layout:?}"),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = gradient.flatten_all()?.to_vec1::<f32>()?;
        let incoming = Incoming {
            op: self.op,
            layer: self.layer.clone(),
            non_finite: values.iter().filter(|value| !value.is_finite()).count(),
            elements: values.len(),
        };
        RECORDING.with_borrow_mut(|recording| {
            if let Some(recording) = recording {
                recording.backward.push(incoming);
            }
        });
        Ok(Some(gradient.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn pass(xs: &Var) -> (Tensor, Tensor) {
        let ys = named((xs.as_tensor() * 2.0).unwrap(), "double", "first").unwrap();
        let ys = named(ys.sqrt().unwrap(), "root", "second").unwrap();
        let loss = ys.sum_all().unwrap();
        let gradient = loss.backward().unwrap();
        (loss, gradient.get(xs).unwrap().clone())
    }

    #[test]
    fn what_layers_give_is_named_and_no_value_changes() {
        let xs = Var::new(&[1f32, 4.0, 0.0], &Device::Cpu).unwrap();
        let (loss, gradient) = pass(&xs);
        let ((again, same), recording) = recorded(|| pass(&xs));
        assert_eq!(
            loss.to_scalar::<f32>().unwrap(),
            again.to_scalar::<f32>().unwrap()
        );
        assert_eq!(
            gradient.to_vec1::<f32>().unwrap(),
            same.to_vec1::<f32>().unwrap()
        );
        let names: Vec<_> = recording.forward.iter().map(|n| n.layer.as_str()).collect();
        assert_eq!(names, ["first", "second"]);
        // The root of 0 has no finite derivative: what comes to `first` isn't finite.
        let back: Vec<_> = recording
            .backward
            .iter()
            .map(|i| (i.layer.as_str(), i.non_finite))
            .collect();
        assert_eq!(back, [("second", 0), ("first", 1)]);
    }

    #[test]
    fn a_pass_that_panics_leaves_nothing_recorded() {
        let caught = std::panic::catch_unwind(|| recorded(|| panic!("a model's mistake")));
        assert!(caught.is_err());
        let xs = Tensor::new(&[1f32], &Device::Cpu).unwrap();
        let same = named(xs.clone(), "op", "layer").unwrap();
        assert_eq!(same.id(), xs.id());
    }
}
