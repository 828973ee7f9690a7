//! What every data set must do, and what becomes of samples that don't fit.

use std::path::Path;

use super::mnist::tests::small_mnist;
use super::*;

/// Doubles every value and adds numbers that depend on the context.
struct Shift;

impl Transform for Shift {
    fn apply(&self, mut sample: Sample, context: &SampleContext) -> Result<Sample, DataError> {
        let shift = (context.seed * 1000 + context.epoch * 100 + context.index) as f32;
        if let Field::F32 { data, .. } = &mut sample.fields[0] {
            data.iter_mut()
                .for_each(|value| *value = *value * 2.0 + shift);
        }
        Ok(sample)
    }
}

fn in_memory() -> MemoryDataset {
    let sample = |i: u32| Sample::new([Field::vector(vec![i as f32, 0.5]), Field::label(i)]);
    MemoryDataset::new((0..7).map(sample).collect()).unwrap()
}

/// Gathering as the trait does it by default.
struct Plain<'a>(&'a dyn Dataset);

impl Dataset for Plain<'_> {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn get(&self, index: u64) -> Result<Sample, DataError> {
        self.0.get(index)
    }
    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }
}

#[test]
fn every_dataset_keeps_the_contract() {
    let small = small_mnist().open("").unwrap();
    let datasets: [&dyn Dataset; 3] = [
        &*small.train,
        &**small.validation.as_ref().unwrap(),
        &in_memory(),
    ];
    for dataset in datasets {
        let len = dataset.len();
        assert!(!dataset.is_empty());
        assert_eq!(dataset.shards().samples(), len);
        assert_eq!(dataset.fingerprint(), dataset.fingerprint());
        let beyond = dataset.get(len).unwrap_err();
        assert!(
            matches!(beyond, DataError::NoSuchSample { index, len: l } if index == len && l == len)
        );
        assert!(matches!(
            dataset.get(u64::MAX),
            Err(DataError::NoSuchSample { .. })
        ));

        let (mut fast, mut plain) = (Gathered::new(), Gathered::new());
        for indices in [vec![len - 1, 0, 2, 2], vec![1], vec![], (0..len).collect()] {
            dataset.gather(&indices, &mut fast).unwrap();
            Plain(dataset).gather(&indices, &mut plain).unwrap();
            assert_eq!(fast, plain);
            assert_eq!(fast.len, indices.len());
            assert_eq!(fast.fields.is_empty(), indices.is_empty());
            assert!(
                fast.fields
                    .iter()
                    .all(|field| field.shape()[0] == indices.len())
            );
        }
        assert!(dataset.gather(&[0, len], &mut fast).is_err());
        dataset.gather(&[0], &mut fast).unwrap();
        assert_eq!(fast.len, 1);
    }
}

#[test]
fn a_transform_sees_seed_epoch_and_index() {
    let splits = Splits {
        transform: Some(Arc::new(Shift)),
        ..Splits::train_only(Arc::new(in_memory()))
    };
    let mut gathered = Gathered::new();
    splits
        .gather_train(Draw { seed: 3, epoch: 2 }, &[5, 1], &mut gathered)
        .unwrap();
    let expected = GatheredField::F32 {
        shape: vec![2, 2],
        data: vec![10.0 + 3205.0, 1.0 + 3205.0, 2.0 + 3201.0, 1.0 + 3201.0],
    };
    assert_eq!(gathered.fields[0], expected);
    let labels = GatheredField::U32 {
        shape: vec![2],
        data: vec![5, 1],
    };
    assert_eq!(gathered.fields[1], labels);
}

#[test]
fn samples_that_differ_are_named() {
    let image = |shape: Vec<usize>, n| Field::F32 {
        shape,
        data: vec![0.0; n],
    };
    let good = Sample::new([image(vec![2, 2], 4), Field::label(1)]);
    let bad = [
        (
            Sample::new([image(vec![4], 4), Field::label(1)]),
            "field 0 is f32 of shape [4], in the",
        ),
        (
            Sample::new([image(vec![2, 2], 4)]),
            "has 1 fields, the samples before it 2",
        ),
        (
            Sample::new([image(vec![2, 2], 4), image(vec![], 1)]),
            "field 1 is f32 of shape []",
        ),
        (
            Sample::new([image(vec![2, 2], 3), Field::label(1)]),
            "field 0 holds 3 values",
        ),
        (
            Sample::new([image(vec![usize::MAX, 2], 3)]),
            "field 0 holds 3 values",
        ),
    ];
    for (sample, problem) in bad {
        let error = MemoryDataset::new(vec![good.clone(), sample])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("sample 1: ") && error.contains(problem),
            "{error}"
        );
    }
    assert!(MemoryDataset::new(Vec::new()).is_err());
}

#[test]
fn a_url_names_a_place_of_this_machine() {
    assert_eq!(
        local_path("examples/data").unwrap(),
        Path::new("examples/data")
    );
    assert_eq!(
        local_path("file:///data/a%20b").unwrap(),
        Path::new("/data/a b")
    );
    for url in [
        "s3://bucket/mnist",
        "https://host/mnist",
        "file://host/mnist",
    ] {
        if let Ok(path) = local_path(url) {
            panic!("{url} became {}", path.display());
        }
    }
    assert!(
        local_path("s3://bucket/x")
            .unwrap_err()
            .to_string()
            .contains("s3://bucket/x")
    );
}
