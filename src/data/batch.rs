//! Samples side by side: what a micro-batch is made of before it becomes tensors.

use super::{DataError, Dataset, Field, Sample, SampleContext, Transform};

/// Samples gathered field by field into one contiguous buffer each.
///
/// Reuse one value for many micro-batches: [`Gathered::clear`] keeps the buffers unless somebody
/// has taken them out.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// One entry for each field of a sample, in the samples' order. Empty when `len` is 0.
    pub fields: Vec<GatheredField>,
    /// How many samples there are.
    pub len: usize,
    /// Buffers of the time before, to be filled again.
    spare: Vec<GatheredField>,
}

/// One field of all gathered samples.
#[derive(Debug, Clone, PartialEq)]
pub enum GatheredField {
    /// Floating-point values; `shape` is `[samples, ...shape of one sample's field]`.
    F32 { shape: Vec<usize>, data: Vec<f32> },
    /// Whole numbers, such as labels or tokens; `shape` as above.
    U32 { shape: Vec<usize>, data: Vec<u32> },
}

impl GatheredField {
    /// `[samples, ...shape of one sample's field]`.
    pub fn shape(&self) -> &[usize] {
        match self {
            GatheredField::F32 { shape, .. } | GatheredField::U32 { shape, .. } => shape,
        }
    }
}

impl PartialEq for Gathered {
    /// Equal when the samples are; spare buffers don't count.
    fn eq(&self, other: &Gathered) -> bool {
        self.len == other.len && self.fields == other.fields
    }
}

impl Gathered {
    /// No samples.
    pub fn new() -> Gathered {
        Gathered::default()
    }

    /// Forgets the samples and keeps their buffers for the next ones.
    pub fn clear(&mut self) {
        if !self.fields.is_empty() {
            self.spare = std::mem::take(&mut self.fields);
        }
        self.len = 0;
    }

    /// An empty buffer for field number `field`, with the memory of the time before if that field
    /// held the same type. For data sets that gather faster than sample by sample.
    pub fn spare_f32(&mut self, field: usize) -> Vec<f32> {
        match self.spare.get_mut(field) {
            Some(GatheredField::F32 { data, .. }) => {
                data.clear();
                std::mem::take(data)
            }
            _ => Vec::new(),
        }
    }

    /// As [`Gathered::spare_f32`], for whole numbers.
    pub fn spare_u32(&mut self, field: usize) -> Vec<u32> {
        match self.spare.get_mut(field) {
            Some(GatheredField::U32 { data, .. }) => {
                data.clear();
                std::mem::take(data)
            }
            _ => Vec::new(),
        }
    }

    /// Adds one sample. The first one decides the number, types and shapes of the fields; one
    /// that differs is an error that names `index`, and is not added.
    pub fn push(&mut self, index: u64, sample: &Sample) -> Result<(), DataError> {
        for (field, value) in sample.fields.iter().enumerate() {
            value
                .check()
                .map_err(|problem| DataError::sample(index, format!("field {field} {problem}")))?;
        }
        if self.len == 0 {
            self.fields = (0..)
                .zip(&sample.fields)
                .map(|(i, f)| self.empty_like(i, f))
                .collect();
        }
        self.check_alike(index, sample)?;
        for (gathered, field) in self.fields.iter_mut().zip(&sample.fields) {
            gathered.extend(field);
        }
        self.len += 1;
        Ok(())
    }

    fn empty_like(&mut self, index: usize, field: &Field) -> GatheredField {
        let shape = std::iter::once(0)
            .chain(field.shape().iter().copied())
            .collect();
        match field {
            Field::F32 { .. } => GatheredField::F32 {
                shape,
                data: self.spare_f32(index),
            },
            Field::U32 { .. } => GatheredField::U32 {
                shape,
                data: self.spare_u32(index),
            },
        }
    }

    fn check_alike(&self, index: u64, sample: &Sample) -> Result<(), DataError> {
        if sample.fields.len() != self.fields.len() {
            let (found, expected) = (sample.fields.len(), self.fields.len());
            let problem = format!("has {found} fields, the samples before it {expected}");
            return Err(DataError::sample(index, problem));
        }
        for (i, (gathered, field)) in self.fields.iter().zip(&sample.fields).enumerate() {
            if !gathered.takes(field) {
                let problem = format!(
                    "field {i} is {} of shape {:?}, in the samples before it {} of shape {:?}",
                    field.type_name(),
                    field.shape(),
                    gathered.type_name(),
                    &gathered.shape()[1..]
                );
                return Err(DataError::sample(index, problem));
            }
        }
        Ok(())
    }
}

impl GatheredField {
    fn type_name(&self) -> &'static str {
        match self {
            GatheredField::F32 { .. } => "f32",
            GatheredField::U32 { .. } => "u32",
        }
    }

    fn takes(&self, field: &Field) -> bool {
        self.type_name() == field.type_name() && &self.shape()[1..] == field.shape()
    }

    fn extend(&mut self, field: &Field) {
        match (self, field) {
            (GatheredField::F32 { shape, data }, Field::F32 { data: values, .. }) => {
                data.extend_from_slice(values);
                shape[0] += 1;
            }
            (GatheredField::U32 { shape, data }, Field::U32 { data: values, .. }) => {
                data.extend_from_slice(values);
                shape[0] += 1;
            }
            _ => unreachable!("the types were compared before"),
        }
    }
}

/// What a transform may draw random numbers from, apart from the sample's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The job's seed.
    pub seed: u64,
    /// The epoch, from zero: a sample is transformed anew in every epoch.
    pub epoch: u64,
}

/// Gathers samples into `into` (which starts over), each passed through `transform` if there is
/// one. Without a transform the data set's own way of gathering is taken.
pub fn gather(
    dataset: &dyn Dataset,
    transform: Option<&dyn Transform>,
    draw: Draw,
    indices: &[u64],
    into: &mut Gathered,
) -> Result<(), DataError> {
    let Some(transform) = transform else {
        return dataset.gather(indices, into);
    };
    into.clear();
    for &index in indices {
        let context = SampleContext {
            seed: draw.seed,
            epoch: draw.epoch,
            index,
        };
        into.push(index, &transform.apply(dataset.get(index)?, &context)?)?;
    }
    Ok(())
}
