//! Tensors as safetensors files of bounded size.
//!
//! A snapshot's tensors are cut into shards between tensors, in byte order of
//! names, so the same snapshot always gives the same shards. A shard's key ends
//! in the digest of its content: a key never stands for two contents, writing it
//! twice is harmless, and nobody can overwrite what a manifest points to.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::digest::{little_endian, sha256};
use super::snapshot::{Header, NamedTensor, Snapshot};

/// The key of our metadata in a safetensors header. One key only: the library
/// writes several in a random order, and equal content should be equal bytes.
pub const METADATA_KEY: &str = "ebbtide";

/// Which of the snapshot's two lists a shard belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The model's parameters.
    Weights,
    /// The optimizer's buffers.
    Optimizer,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Weights => "weights",
            Part::Optimizer => "optimizer",
        }
    }
}

/// One shard as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Key relative to the run's folder.
    pub key: String,
    /// Which list its tensors belong to.
    pub part: Part,
    /// Place among the shards of that part.
    pub index: u32,
    /// How many shards that part has.
    pub count: u32,
    /// Length of the object.
    pub bytes: u64,
    /// CRC-32C of the object in hexadecimal: the quick check.
    pub crc32c: String,
    /// SHA-256 of the object: the sure one.
    pub sha256: String,
}

/// A shard to be written: which tensors of which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedShard {
    pub(super) part: Part,
    pub(super) index: u32,
    /// Shards of this part.
    pub(super) count: u32,
    /// Indices into the part's list of tensors.
    tensors: Vec<usize>,
}

impl Snapshot {
    /// Cuts the tensors into shards of at most `shard_bytes_max` bytes of values;
    /// a larger tensor gets a shard of its own. Pure: every process that holds
    /// the snapshot cuts alike, so they can share the upload.
    pub fn plan_shards(&self, shard_bytes_max: usize) -> Vec<PlannedShard> {
        let mut shards = plan(Part::Weights, &self.weights, shard_bytes_max);
        shards.extend(plan(Part::Optimizer, &self.optimizer, shard_bytes_max));
        shards
    }

    pub(super) fn part(&self, part: Part) -> &[NamedTensor] {
        match part {
            Part::Weights => &self.weights,
            Part::Optimizer => &self.optimizer,
        }
    }
}

fn plan(part: Part, tensors: &[NamedTensor], shard_bytes_max: usize) -> Vec<PlannedShard> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&index| tensors[index].name.as_bytes());
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for index in order {
        let bytes = tensors[index].byte_len();
        match groups.last_mut() {
            Some(group) if bytes <= room => {
                group.push(index);
                room -= bytes;
            }
            _ => {
                groups.push(vec![index]);
                room = shard_bytes_max.saturating_sub(bytes);
            }
        }
    }
    let count = groups.len() as u32;
    let shards = groups.into_iter().zip(0..);
    shards
        .map(|(tensors, index)| PlannedShard {
            part,
            index,
            count,
            tensors,
        })
        .collect()
}

/// Values of a tensor as safetensors wants them.
struct LittleEndian<'a>(&'a NamedTensor);

impl View for LittleEndian<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        little_endian(&self.0.data, &mut bytes);
        Cow::Owned(bytes)
    }
    fn data_len(&self) -> usize {
        self.0.byte_len()
    }
}

/// `tensors` as one safetensors file with `metadata` under [`METADATA_KEY`].
pub(super) fn encode<'a>(
    tensors: impl IntoIterator<Item = &'a NamedTensor>,
    metadata: &serde_json::Value,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let views = tensors
        .into_iter()
        .map(|tensor| (tensor.name.as_str(), LittleEndian(tensor)));
    let metadata = HashMap::from([(METADATA_KEY.to_string(), metadata.to_string())]);
    safetensors::serialize(views, Some(metadata))
}

/// The tensors of a safetensors file of f32 values, in byte order of names.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<NamedTensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor {name} is {:?}, not F32", view.dtype()));
        }
        let (values, _) = view.data().as_chunks::<4>();
        tensors.push(NamedTensor {
            name: name.to_string(),
            shape: view.shape().to_vec(),
            data: values
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect(),
        });
    }
    tensors.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    Ok(tensors)
}

/// The folder of a checkpoint's shards, relative to the run's folder.
pub(super) fn folder(step: u64, round: u64) -> String {
    format!("shards/step-{step:012}-r{round:012}")
}

/// The round that a shard's key (relative to the run's folder) belongs to.
pub(super) fn round_of(key: &str) -> Option<u64> {
    let folder = key.strip_prefix("shards/step-")?.split('/').next()?;
    let (_, round) = folder.split_once("-r")?;
    round.parse().ok()
}

/// A shard's bytes and its entry for the manifest.
pub(super) fn build(
    snapshot: &Snapshot,
    shard: &PlannedShard,
) -> Result<(Bytes, ShardEntry), String> {
    let header: &Header = &snapshot.header;
    let metadata = serde_json::json!({
        "run": header.identity.run,
        "identity": header.identity.hash(),
        "part": shard.part,
        "round": header.round,
        "step": header.step,
    });
    let part = snapshot.part(shard.part);
    let tensors = shard.tensors.iter().map(|&index| &part[index]);
    let bytes = encode(tensors, &metadata).map_err(|error| error.to_string())?;
    let digest = sha256(&bytes);
    let key = format!(
        "{}/{}/{}-{:05}-of-{:05}-{}.safetensors",
        folder(header.step, header.round),
        header.writer,
        shard.part.name(),
        shard.index,
        shard.count,
        &digest[..16],
    );
    let entry = ShardEntry {
        key,
        part: shard.part,
        index: shard.index,
        count: shard.count,
        bytes: bytes.len() as u64,
        crc32c: format!("{:08x}", crc32c::crc32c(&bytes)),
        sha256: digest,
    };
    Ok((Bytes::from(bytes), entry))
}

/// Whether `shards` holds every shard of each part exactly once.
pub(super) fn complete(shards: &[ShardEntry]) -> Result<(), String> {
    for part in [Part::Weights, Part::Optimizer] {
        let of_part = || shards.iter().filter(move |shard| shard.part == part);
        let found = of_part().count();
        let whole = (0..)
            .zip(sorted_indices(of_part()))
            .all(|(place, index)| place == index);
        if !whole || of_part().any(|shard| shard.count as usize != found) {
            let count = of_part().map(|shard| shard.count).max().unwrap_or(0);
            return Err(format!(
                "it lists {found} of {count} {} shards",
                part.name()
            ));
        }
    }
    Ok(())
}

fn sorted_indices<'a>(shards: impl Iterator<Item = &'a ShardEntry>) -> Vec<u32> {
    let mut indices: Vec<u32> = shards.map(|shard| shard.index).collect();
    indices.sort_unstable();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, values: usize) -> NamedTensor {
        NamedTensor {
            name: name.into(),
            shape: vec![values],
            data: vec![1.0; values],
        }
    }

    #[test]
    fn shards_are_cut_between_tensors_in_order_of_names() {
        let tensors = [
            tensor("c", 2),
            tensor("a", 2),
            tensor("b", 100),
            tensor("d", 2),
            tensor("e", 0),
        ];
        let cut = |max| -> Vec<Vec<usize>> {
            plan(Part::Weights, &tensors, max)
                .into_iter()
                .map(|shard| shard.tensors)
                .collect()
        };
        assert_eq!(cut(16), [vec![1], vec![2], vec![0, 3, 4]]);
        assert_eq!(cut(1 << 20), [vec![1, 2, 0, 3, 4]]);
        assert_eq!(cut(0), [vec![1], vec![2], vec![0], vec![3, 4]]);
        assert!(plan(Part::Weights, &[], 16).is_empty());
    }

    #[test]
    fn every_bit_of_a_value_survives_a_shard() {
        let odd = f32::from_bits(0x7fc0_1234);
        let tensors = [NamedTensor {
            name: "x".into(),
            shape: vec![2, 2],
            data: vec![odd, -0.0, f32::INFINITY, 1e-45],
        }];
        let bytes = encode(&tensors, &serde_json::json!({"step": 1})).unwrap();
        let back = decode(&bytes).unwrap();
        let bits =
            |list: &[NamedTensor]| list[0].data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&tensors));
        assert_eq!(back[0].shape, [2, 2]);
    }

    #[test]
    fn the_round_is_read_off_a_key() {
        let key = format!("{}/w/weights-00000-of-00001-0.safetensors", folder(7, 9));
        assert_eq!(round_of(&key), Some(9));
        assert_eq!(round_of("shards/other/x"), None);
        assert_eq!(round_of("manifests/r1.json"), None);
    }

    proptest::proptest! {
        #[test]
        fn decoding_survives_any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            let _ = decode(&bytes);
        }
    }
}
