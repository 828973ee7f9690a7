//! Samples that are all in memory: for tests and for small data of one's own.

use super::{DataError, Dataset, Field, Fingerprint, Gathered, Sample, ShardTable};

/// A data set made of given samples.
#[derive(Debug, Clone)]
pub struct MemoryDataset {
    samples: Vec<Sample>,
    fingerprint: Fingerprint,
}

impl MemoryDataset {
    /// Takes samples that all have the same fields. The fingerprint covers every value.
    ///
    /// # Errors
    /// No sample at all, or one whose fields differ from those of the samples before it.
    pub fn new(samples: Vec<Sample>) -> Result<MemoryDataset, DataError> {
        let Some(first) = samples.first() else {
            return Err(DataError::sample(
                0,
                "does not exist: the data holds no sample",
            ));
        };
        // Gathering each sample beside the first one finds any that differs.
        let mut beside = Gathered::new();
        for (index, sample) in (0..).zip(&samples) {
            beside.clear();
            beside.push(0, first)?;
            beside.push(index, sample)?;
        }
        let fingerprint = fingerprint(&samples);
        Ok(MemoryDataset {
            samples,
            fingerprint,
        })
    }
}

fn fingerprint(samples: &[Sample]) -> Fingerprint {
    let mut builder = Fingerprint::of("memory 1").numbers([samples.len() as u64]);
    let mut bytes = Vec::new();
    for field in samples.iter().flat_map(|sample| &sample.fields) {
        builder = builder.part(field.type_name().as_bytes());
        builder = builder.numbers(field.shape().iter().map(|&size| size as u64));
        bytes.clear();
        match field {
            Field::F32 { data, .. } => bytes.extend(data.iter().flat_map(|v| v.to_le_bytes())),
            Field::U32 { data, .. } => bytes.extend(data.iter().flat_map(|v| v.to_le_bytes())),
        }
        builder = builder.part(&bytes);
    }
    builder.finish()
}

impl Dataset for MemoryDataset {
    fn len(&self) -> u64 {
        self.samples.len() as u64
    }

    fn get(&self, index: u64) -> Result<Sample, DataError> {
        let sample = usize::try_from(index)
            .ok()
            .and_then(|index| self.samples.get(index));
        sample.cloned().ok_or(DataError::NoSuchSample {
            index,
            len: self.len(),
        })
    }

    fn largest(&self, field: usize) -> Option<u32> {
        let numbers = self
            .samples
            .iter()
            .filter_map(|s| match s.fields.get(field) {
                Some(Field::U32 { data, .. }) => data.iter().copied().max(),
                _ => None,
            });
        numbers.max()
    }

    fn shards(&self) -> ShardTable {
        ShardTable::single("memory", self.len())
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}
