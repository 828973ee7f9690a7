//! The files that are read, the files that are refused, and the committed MNIST.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::data::MemoryDataset;

/// A folder of its own that goes away with the test.
pub(in crate::data) struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ebbtide-data-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(in crate::data) fn open(&self, options: &str) -> Result<Splits, DataError> {
        open_folder(self.0.to_str().unwrap(), &toml::from_str(options).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";

/// Twelve training and five validation images of 2 x 3 pixels.
pub(in crate::data) fn small_mnist() -> Folder {
    let folder = Folder::new();
    for (split, count) in [("train", 12u8), ("t10k", 5)] {
        let pixels: Vec<u8> = (0..count * 6).map(|i| i.wrapping_mul(41)).collect();
        let labels: Vec<u8> = (0..count).map(|i| i % 10).collect();
        let images = idx(&[count.into(), 2, 3], &pixels);
        folder.write(&format!("{split}-images-idx3-ubyte"), &images);
        folder.write(
            &format!("{split}-labels-idx1-ubyte"),
            &idx(&[count.into()], &labels),
        );
    }
    folder
}

#[test]
fn a_fingerprint_covers_values_and_order_but_not_how_they_are_stored() {
    let folder = small_mnist();
    let plain = folder.open("").unwrap().fingerprint();
    for name in fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let compressed = gzip(&fs::read(&name).unwrap());
        fs::write(format!("{}.gz", name.display()), compressed).unwrap();
        fs::remove_file(name).unwrap();
    }
    assert_eq!(folder.open("").unwrap().fingerprint(), plain);
    assert_ne!(
        folder.open("train_limit = 11").unwrap().fingerprint(),
        plain
    );
    assert_ne!(
        folder.open("validation_limit = 1").unwrap().fingerprint(),
        plain
    );

    let pixels: Vec<u8> = (0..72u8).map(|i| i.wrapping_mul(41)).rev().collect();
    folder.write(TRAIN_IMAGES, &idx(&[12, 2, 3], &pixels));
    let reversed = folder.open("").unwrap().fingerprint();
    folder.write(TRAIN_IMAGES, &idx(&[12, 3, 2], &pixels));
    assert_ne!(reversed, plain);
    assert_ne!(folder.open("").unwrap().fingerprint(), reversed);

    let sample = |x: f32| Sample::new([Field::vector(vec![x])]);
    let memory = |values: &[f32]| {
        MemoryDataset::new(values.iter().map(|&x| sample(x)).collect())
            .unwrap()
            .fingerprint()
    };
    assert_eq!(memory(&[1.0, 2.0]), memory(&[1.0, 2.0]));
    assert_ne!(memory(&[1.0, 2.0]), memory(&[2.0, 1.0]));
}

#[test]
fn pixels_are_divided_by_255() {
    let splits = small_mnist().open("").unwrap();
    let sample = splits.train.get(1).unwrap();
    let data: Vec<f32> = (6..12u8)
        .map(|i| f32::from(i.wrapping_mul(41)) / 255.0)
        .collect();
    assert_eq!(
        sample,
        Sample::new([
            Field::F32 {
                shape: vec![2, 3],
                data
            },
            Field::label(1)
        ])
    );
}

#[test]
fn limits_read_the_first_samples_and_no_more() {
    let folder = small_mnist();
    let whole = folder.open("").unwrap();
    // Damage beyond the limit is not looked at.
    let mut compressed = gzip(&fs::read(folder.0.join(TRAIN_IMAGES)).unwrap());
    fs::remove_file(folder.0.join(TRAIN_IMAGES)).unwrap();
    let checksum = compressed.len() - 8;
    compressed[checksum] ^= 1;
    folder.write(&format!("{TRAIN_IMAGES}.gz"), &compressed);
    let limited = folder
        .open("train_limit = 4\nvalidation_limit = 99")
        .unwrap();
    assert_eq!(limited.train.len(), 4);
    assert_eq!(limited.validation.as_ref().unwrap().len(), 5);
    assert_eq!(limited.train.get(3).unwrap(), whole.train.get(3).unwrap());
    assert!(limited.train.get(4).is_err());
}

#[test]
fn a_file_that_ends_too_early_is_named_whatever_the_limit() {
    let labels = idx(&[12], &[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]);
    let (first, second) = labels.split_at(14);
    let members = [gzip(first), gzip(second)].concat();
    let cases = [
        (labels[..19].to_vec(), Some("it ends after 11")),
        ([&labels[..], &[0]].concat(), Some("goes on after")),
        (
            gzip(&labels)[..25].to_vec(),
            Some("gzip data ends too early"),
        ),
        (gzip(&labels[..19]), Some("it ends after 11")),
        (
            members[..members.len() - 9].to_vec(),
            Some("gzip data ends too early"),
        ),
        (members, None),
        (labels.clone(), None),
    ];
    for (bytes, problem) in cases {
        let folder = small_mnist();
        let path = folder.write(TRAIN_LABELS, &bytes);
        let opened = folder.open("train_limit = 2");
        match problem {
            None => assert_eq!(opened.unwrap().train.len(), 2),
            Some(problem) => {
                let error = opened.err().expect(problem).to_string();
                assert!(error.contains(problem), "{error}");
                assert!(error.starts_with(&path.display().to_string()), "{error}");
            }
        }
    }
}

#[test]
fn damaged_files_are_named_with_what_is_wrong() {
    let images = idx(&[12, 2, 3], &[7; 72]);
    let labels = idx(&[12], &[3; 12]);
    let flipped = {
        let mut bytes = gzip(&images);
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        bytes
    };
    let with_junk = [gzip(&images), b"and something after it".to_vec()].concat();
    let cases: [(&str, Vec<u8>, &str); 15] = [
        (
            TRAIN_IMAGES,
            labels.clone(),
            "starts with 0x00000801 where 0x00000803 is expected",
        ),
        (
            TRAIN_LABELS,
            images.clone(),
            "starts with 0x00000803 where 0x00000801 is expected",
        ),
        (
            TRAIN_IMAGES,
            b"<html>not found</html>".to_vec(),
            "0x3c68746d",
        ),
        (TRAIN_IMAGES, Vec::new(), "ends within the IDX header"),
        (
            TRAIN_IMAGES,
            images[..15].to_vec(),
            "ends within the IDX header",
        ),
        (
            TRAIN_IMAGES,
            images[..87].to_vec(),
            "= 72 values, but it ends after 71",
        ),
        (
            TRAIN_IMAGES,
            [&images[..], &[0]].concat(),
            "goes on after the 12 x 2 x 3 = 72 values",
        ),
        (
            TRAIN_IMAGES,
            idx(&[12, u32::MAX, u32::MAX], &[7; 72]),
            "more than the file can hold",
        ),
        (
            TRAIN_IMAGES,
            idx(&[u32::MAX; 3], &[7; 72]),
            "more than the file can hold",
        ),
        (TRAIN_IMAGES, idx(&[12, 0, 3], &[]), "holds no values"),
        (
            TRAIN_IMAGES,
            gzip(&images)[..30].to_vec(),
            "gzip data ends too early",
        ),
        (TRAIN_IMAGES, flipped, "damaged gzip data"),
        (TRAIN_IMAGES, with_junk, "damaged gzip data"),
        (TRAIN_LABELS, idx(&[11], &[3; 11]), "holds 11 labels, but"),
        (
            TRAIN_LABELS,
            idx(&[12], &[3, 9, 10, 3, 3, 3, 3, 3, 3, 3, 3, 3]),
            "label 10 of sample 2",
        ),
    ];
    for (name, bytes, problem) in cases {
        let folder = small_mnist();
        let path = folder.write(name, &bytes);
        let error = folder.open("").err().expect(problem);
        assert!(
            matches!(error, DataError::Damaged { .. } | DataError::Missing { .. }),
            "{error:?}"
        );
        let error = error.to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_compressed_file_cannot_ask_for_more_memory_than_it_could_fill() {
    let folder = small_mnist();
    fs::remove_file(folder.0.join(TRAIN_IMAGES)).unwrap();
    let bytes = gzip(&idx(&[u32::MAX, 1024, 1024], &[7; 72]));
    folder.write(&format!("{TRAIN_IMAGES}.gz"), &bytes);
    let error = folder.open("").err().unwrap().to_string();
    assert!(
        error.contains("4294967295 x 1024 x 1024 values, more than the file can hold"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let folder = small_mnist();
    fs::remove_file(folder.0.join(TRAIN_LABELS)).unwrap();
    let error = folder.open("").err().unwrap().to_string();
    assert!(
        error.contains(TRAIN_LABELS) && error.contains("mend data.url"),
        "{error}"
    );

    let nowhere = folder.0.join("nowhere");
    let error = open_folder(nowhere.to_str().unwrap(), &Options::default());
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("nowhere") && error.contains("no such folder"),
        "{error}"
    );
    assert!(matches!(
        DataError::read("x", fs::read("/no/such/file").unwrap_err()),
        DataError::Missing { .. }
    ));
}

#[test]
fn labels_beyond_the_classes_are_named_and_the_largest_is_known() {
    let folder = small_mnist();
    let whole = folder.open("").unwrap();
    assert_eq!(
        (whole.train.largest(1), whole.train.largest(0)),
        (Some(9), None)
    );
    assert_eq!(whole.validation.unwrap().largest(1), Some(4));
    let error = folder.open("classes = 9").err().unwrap().to_string();
    assert!(error.contains("label 9 of sample 9") && error.contains("data.options.classes"));
}

#[test]
fn the_committed_mnist_is_the_known_one() {
    let url = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/mnist");
    let splits = open_folder(url, &Options::default()).unwrap();
    let validation = splits.validation.as_ref().unwrap();
    assert_eq!((splits.train.len(), validation.len()), (60_000, 10_000));
    let label = |dataset: &dyn Dataset, index| match &dataset.get(index).unwrap().fields[1] {
        Field::U32 { data, .. } => data[0],
        Field::F32 { .. } => unreachable!(),
    };
    assert_eq!(
        (0..5).map(|i| label(&*splits.train, i)).collect::<Vec<_>>(),
        [5, 0, 4, 1, 9]
    );
    assert_eq!(
        (0..5).map(|i| label(&**validation, i)).collect::<Vec<_>>(),
        [7, 2, 1, 0, 4]
    );
    // The mean pixel that everyone normalises with.
    let (mut gathered, mut sum) = (Gathered::new(), 0.0);
    for first in (0..60_000).step_by(1000) {
        let indices: Vec<_> = (first..first + 1000).collect();
        splits.train.gather(&indices, &mut gathered).unwrap();
        let GatheredField::F32 { shape, data } = &gathered.fields[0] else {
            panic!("no pixels")
        };
        assert_eq!(shape, &[1000, 28, 28]);
        sum += data.iter().map(|&pixel| f64::from(pixel)).sum::<f64>();
    }
    let mean = sum / (60_000.0 * 784.0);
    assert!((mean - 0.1307).abs() < 5e-5, "{mean}");
}
