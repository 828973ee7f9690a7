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
use super::share::{Extent, Origin, Tensors};
use super::snapshot::NamedTensor;

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
    /// Names of the part's tensors that are in it.
    pub(super) tensors: Vec<String>,
    /// Bytes of their values.
    pub(super) bytes: usize,
}

impl PlannedShard {
    /// What tells it from the state's other shards.
    pub fn place(&self) -> (Part, u32) {
        (self.part, self.index)
    }

    /// Whether this tensor's values are in it.
    pub fn holds(&self, part: Part, tensor: &str) -> bool {
        let name = |name: &String| name.as_bytes().cmp(tensor.as_bytes());
        self.part == part && self.tensors.binary_search_by(name).is_ok()
    }
}

/// Cuts a part between its tensors.
pub(super) fn plan(part: Part, tensors: &[Extent], shard_bytes_max: usize) -> Vec<PlannedShard> {
    let mut order: Vec<&Extent> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.name.as_bytes());
    let mut shards: Vec<PlannedShard> = Vec::new();
    for tensor in order {
        match shards.last_mut() {
            Some(shard) if shard.bytes + tensor.bytes <= shard_bytes_max => {
                shard.tensors.push(tensor.name.clone());
                shard.bytes += tensor.bytes;
            }
            _ => shards.push(PlannedShard {
                part,
                index: shards.len() as u32,
                count: 0,
                tensors: vec![tensor.name.clone()],
                bytes: tensor.bytes,
            }),
        }
    }
    let count = shards.len() as u32;
    shards.iter_mut().for_each(|shard| shard.count = count);
    shards
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

/// The key of a shard that `writer` has written, of this content.
pub(super) fn key(origin: &Origin, writer: &str, shard: &PlannedShard, sha256: &str) -> String {
    format!(
        "{}/{writer}/{}-{:05}-of-{:05}-{}.safetensors",
        folder(origin.step, origin.round),
        shard.part.name(),
        shard.index,
        shard.count,
        &sha256[..16],
    )
}

/// A shard's bytes and its entry for the manifest.
pub(super) fn build(
    source: &impl Tensors,
    shard: &PlannedShard,
) -> Result<(Bytes, ShardEntry), String> {
    let origin = source.origin();
    let metadata = serde_json::json!({
        "run": origin.identity.run,
        "identity": origin.identity.hash(),
        "part": shard.part,
        "round": origin.round,
        "step": origin.step,
    });
    let part = source.part(shard.part).iter();
    let by_name: HashMap<&str, &NamedTensor> = part.map(|t| (t.name.as_str(), t)).collect();
    let tensor = |name: &String| {
        let found = by_name.get(name.as_str()).copied();
        found.ok_or_else(|| format!("it lacks the tensor {name}"))
    };
    let tensors = shard.tensors.iter().map(tensor);
    let tensors: Vec<&NamedTensor> = tensors.collect::<Result<_, _>>()?;
    let bytes = encode(tensors, &metadata).map_err(|error| error.to_string())?;
    let digest = sha256(&bytes);
    let entry = ShardEntry {
        key: key(&origin, origin.writer, shard, &digest),
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

    fn tensor(name: &str, values: usize) -> Extent {
        let (name, bytes) = (name.into(), 4 * values);
        Extent { name, bytes }
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
        let cut = |max| -> Vec<String> {
            plan(Part::Weights, &tensors, max)
                .into_iter()
                .map(|shard| shard.tensors.concat())
                .collect()
        };
        assert_eq!(cut(16), ["a", "b", "cde"]);
        assert_eq!(cut(1 << 20), ["abcde"]);
        assert_eq!(cut(0), ["a", "b", "c", "d", "e"]);
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
