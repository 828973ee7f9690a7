//! What it is trained on: data sets, the order of their samples, and file formats.
//!
//! A [`Dataset`] is a numbered list of samples: it says how many there are and gives any of them
//! by its index. Which samples a micro-batch holds is decided elsewhere, by [`order`], from seed,
//! step and micro-batch alone. So a data set has no state, no cursor and no shuffle of its own,
//! and a worker that joins late reads exactly what it needs.
//!
//! ```text
//! order::Order::samples(step, micro-batch) --> indices
//!                                                |
//!              Dataset::get or gather  <---------+--->  Transform::apply(sample, its context)
//!                                                |
//!                                            Gathered: one buffer a field, ready to become tensors
//! ```
//!
//! # Your own data
//! If it fits into memory, make samples of it and let [`MemoryDataset`] do the rest:
//! ```
//! use std::sync::Arc;
//! use ebbtide::data::{DataError, Field, MemoryDataset, Sample, Splits, local_path};
//! use ebbtide::job::DataSpec;
//!
//! /// Lines such as `5.1,3.5,2`: two measurements and a class.
//! fn open_flowers(spec: &DataSpec) -> Result<Splits, DataError> {
//!     let path = local_path(&spec.url)?;
//!     let text = std::fs::read_to_string(&path).map_err(|error| DataError::read(&path, error))?;
//!     let parse = |line: &str| -> Option<Sample> {
//!         let values: Vec<f32> = line.split(',').map(|v| v.parse().ok()).collect::<Option<_>>()?;
//!         let (class, inputs) = values.split_last()?;
//!         Some(Sample::new([Field::vector(inputs.to_vec()), Field::label(*class as u32)]))
//!     };
//!     let samples: Option<Vec<Sample>> = text.lines().map(parse).collect();
//!     let samples = samples.ok_or_else(|| DataError::damaged(&path, "not all are numbers"))?;
//!     Ok(Splits::train_only(Arc::new(MemoryDataset::new(samples)?)))
//! }
//! # let path = std::env::temp_dir().join(format!("ebbtide-flowers-{}.csv", std::process::id()));
//! # std::fs::write(&path, "5.1,3.5,2\n4.9,3.0,1\n").unwrap();
//! # let spec = |url: &str| DataSpec {
//! #     kind: "flowers".to_owned(),
//! #     url: url.to_owned(),
//! #     shuffle: Default::default(),
//! #     options: Default::default(),
//! # };
//! # let splits = open_flowers(&spec(path.to_str().unwrap())).unwrap();
//! # assert_eq!(splits.train.get(1).unwrap().fields[1], Field::label(1));
//! # std::fs::remove_file(&path).unwrap();
//! # assert!(open_flowers(&spec("/no/such/file")).is_err());
//! ```
//! If it doesn't, or if samples can be computed, implement [`Dataset`]:
//! ```
//! use ebbtide::data::{DataError, Dataset, Field, Fingerprint, Sample};
//!
//! /// y = x^2 at a million points.
//! struct Parabola;
//! impl Dataset for Parabola {
//!     fn len(&self) -> u64 {
//!         1_000_000
//!     }
//!     fn get(&self, index: u64) -> Result<Sample, DataError> {
//!         let x = index as f32 / 1e6;
//!         Ok(Sample::new([Field::vector(vec![x]), Field::vector(vec![x * x])]))
//!     }
//!     fn fingerprint(&self) -> Fingerprint {
//!         Fingerprint::of("parabola 1").finish()
//!     }
//! }
//! # assert_eq!(Parabola.shards().samples(), 1_000_000);
//! ```
//! A function from the job's `[data]` section to [`Splits`] is registered under a name, which the
//! job file then gives as `data.kind`; its own keys, if it has any, stand in `[data.options]`.
//!
//! # What the fingerprint is for
//! It stands in every checkpoint and handshake: a worker whose files hold other samples is
//! refused instead of spoiling the run. It must cover all that a sample's values depend on, and
//! nothing that they don't depend on, such as where the files lie or how they are compressed.

mod batch;
mod error;
mod fingerprint;
pub mod idx;
mod memory;
pub mod mnist;
pub mod order;
mod shard;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use batch::{Draw, Gathered, GatheredField, gather};
pub use error::DataError;
pub use fingerprint::{Fingerprint, FingerprintBuilder, ParseFingerprintError};
pub use memory::MemoryDataset;
pub use order::{ORDER_VERSION, Order, Shuffle};
pub use shard::{Shard, ShardTable};

/// One sample: its inputs first, then its targets, then whatever else the model wants.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// All samples of a data set have the same number of fields, with the same types and shapes.
    pub fields: Vec<Field>,
}

impl Sample {
    /// A sample of these fields.
    pub fn new(fields: impl Into<Vec<Field>>) -> Sample {
        Sample {
            fields: fields.into(),
        }
    }
}

/// One array of a sample, in row-major order. A shape of `[]` is a single number.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// Floating-point values: pixels, measurements, real targets.
    F32 { shape: Vec<usize>, data: Vec<f32> },
    /// Whole numbers: class labels, tokens.
    U32 { shape: Vec<usize>, data: Vec<u32> },
}

impl Field {
    /// Values in one dimension.
    pub fn vector(data: Vec<f32>) -> Field {
        Field::F32 {
            shape: vec![data.len()],
            data,
        }
    }

    /// One class label.
    pub fn label(class: u32) -> Field {
        Field::U32 {
            shape: Vec::new(),
            data: vec![class],
        }
    }

    /// The shape of this one sample's array.
    pub fn shape(&self) -> &[usize] {
        match self {
            Field::F32 { shape, .. } | Field::U32 { shape, .. } => shape,
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Field::F32 { .. } => "f32",
            Field::U32 { .. } => "u32",
        }
    }

    /// Says what is wrong when the shape is not that of the data.
    fn check(&self) -> Result<(), String> {
        let len = match self {
            Field::F32 { data, .. } => data.len(),
            Field::U32 { data, .. } => data.len(),
        };
        let expected = self
            .shape()
            .iter()
            .try_fold(1usize, |all, &size| all.checked_mul(size));
        if expected == Some(len) {
            return Ok(());
        }
        Err(format!(
            "holds {len} values, which is not a shape of {:?}",
            self.shape()
        ))
    }
}

/// A numbered list of samples that stay the same for as long as the data set is open.
///
/// `get` and `gather` are pure: the same index gives the same bits on every worker, at any time,
/// from any thread.
pub trait Dataset: Send + Sync {
    /// How many samples there are; at least one.
    fn len(&self) -> u64;

    /// Whether there is no sample, which no data set for training may say.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `index`, counted from zero.
    ///
    /// # Errors
    /// [`DataError::NoSuchSample`] beyond the end; whatever reading it brings.
    fn get(&self, index: u64) -> Result<Sample, DataError>;

    /// The identity of all samples (see the [module's documentation](self)). It is asked for
    /// often, so it is computed once, when the data set is opened.
    fn fingerprint(&self) -> Fingerprint;

    /// The largest whole number in field `field` over all samples, such as the last class, if the
    /// data set knows it: a model with fewer classes is then refused before anything starts.
    fn largest(&self, field: usize) -> Option<u32> {
        let _ = field;
        None
    }

    /// Where the samples lie.
    fn shards(&self) -> ShardTable {
        ShardTable::single("data", self.len())
    }

    /// Puts the samples at `indices`, in this order, into `into`, which starts over. Overwrite it
    /// where that is faster than sample by sample; the result must be the same.
    fn gather(&self, indices: &[u64], into: &mut Gathered) -> Result<(), DataError> {
        into.clear();
        for &index in indices {
            into.push(index, &self.get(index)?)?;
        }
        Ok(())
    }
}

/// What a [`Transform`] may depend on, apart from the sample itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleContext {
    /// The job's seed.
    pub seed: u64,
    /// The epoch, from zero.
    pub epoch: u64,
    /// The sample's index in the data set.
    pub index: u64,
}

/// Changes samples on their way into a training step, as augmentation does. Not applied in
/// evaluation.
pub trait Transform: Send + Sync {
    /// A pure function of its arguments: random choices are drawn from `context`, never from a
    /// generator with a state, or workers would disagree about the sample.
    fn apply(&self, sample: Sample, context: &SampleContext) -> Result<Sample, DataError>;
}

/// A split as a model is shown it before anything starts: its first sample stands for all, which
/// have the same fields.
pub struct Preview<'a> {
    /// `"training"` or `"validation"`.
    pub split: &'static str,
    /// The first sample, as the model would get it.
    pub sample: Sample,
    dataset: Option<&'a dyn Dataset>,
}

impl Preview<'_> {
    /// See [`Dataset::largest`]; unknown of samples that a transform changes.
    pub fn largest(&self, field: usize) -> Option<u32> {
        self.dataset.and_then(|dataset| dataset.largest(field))
    }
}

/// The data of a job.
#[derive(Clone)]
pub struct Splits {
    /// What is trained on.
    pub train: Arc<dyn Dataset>,
    /// What is evaluated on, if anything.
    pub validation: Option<Arc<dyn Dataset>>,
    /// What training samples pass through, if anything.
    pub transform: Option<Arc<dyn Transform>>,
}

impl Splits {
    /// Data that is only trained on, as it is.
    pub fn train_only(train: Arc<dyn Dataset>) -> Splits {
        Splits {
            train,
            validation: None,
            transform: None,
        }
    }

    /// The identity of all data of the job: training and validation.
    pub fn fingerprint(&self) -> Fingerprint {
        let train = Fingerprint::of("splits 1").part(self.train.fingerprint().as_bytes());
        match &self.validation {
            Some(validation) => train.part(validation.fingerprint().as_bytes()).finish(),
            None => train.finish(),
        }
    }

    /// What a model gets to see of the training data, and of the validation data if there is any,
    /// before it is built.
    ///
    /// # Errors
    /// A first sample that can't be read, or that the transform refuses.
    pub fn previews(&self, seed: u64) -> Result<Vec<Preview<'_>>, DataError> {
        let mut sample = self.train.get(0)?;
        if let Some(transform) = &self.transform {
            let (epoch, index) = (0, 0);
            sample = transform.apply(sample, &SampleContext { seed, epoch, index })?;
        }
        let mut previews = vec![Preview {
            split: "training",
            sample,
            // What a transform makes of the labels, nobody knows.
            dataset: self.transform.is_none().then_some(&*self.train),
        }];
        if let Some(validation) = &self.validation {
            previews.push(Preview {
                split: "validation",
                sample: validation.get(0)?,
                dataset: Some(&**validation),
            });
        }
        Ok(previews)
    }

    /// Gathers training samples, transformed if there is a transform.
    pub fn gather_train(
        &self,
        draw: Draw,
        indices: &[u64],
        into: &mut Gathered,
    ) -> Result<(), DataError> {
        gather(&*self.train, self.transform.as_deref(), draw, indices, into)
    }
}

/// The folder or file that a job's `data.url` names, for whoever opens it: what
/// [`job::local_path`](crate::job::local_path) makes of it, or the reason to give.
///
/// # Errors
/// [`DataError::Url`] for other schemes: the data has to be on this machine.
pub fn local_path(url: &str) -> Result<PathBuf, DataError> {
    crate::job::local_path(url).ok_or_else(|| DataError::Url {
        url: url.to_owned(),
        problem: "expected a path or file:///an/absolute/path of this machine".to_owned(),
    })
}
