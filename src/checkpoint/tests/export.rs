//! Weights out as plain safetensors, and in again.

use super::*;

async fn two_runs(store: &Store) -> Snapshot {
    save_round(&store.run("older").unwrap(), 90).await;
    let run = store.run("newer").unwrap();
    save_round(&run, 10).await;
    let mut last = snapshot("newer", 20, "worker-1");
    last.header.is_final = true;
    // A file's time may not be finer than this test is quick.
    let older = store.run("older").unwrap().manifests().await.unwrap()[0].modified_ms;
    save(&run, last.clone()).await;
    while run.manifests().await.unwrap()[0].modified_ms <= older {
        let key = run.manifests().await.unwrap()[0].key.clone();
        overwrite(store, &key, read(store, &key).await).await;
    }
    last
}

fn assert_exported(report: &ExportReport, expected: &Snapshot, to: &Path) {
    assert_eq!(report.weights_sha256, expected.header.weights_sha256);
    assert_eq!(
        (report.step, report.tensors, report.parameters),
        (expected.header.step, 3, 44)
    );
    let tensors = load_initial(to).unwrap();
    let listed = tensors
        .iter()
        .map(|(name, (_, values))| (name.as_str(), values.as_slice()));
    assert_eq!(weights_sha256(listed), report.weights_sha256);
    for tensor in &expected.weights {
        assert_eq!(
            tensors[&tensor.name],
            (tensor.shape.clone(), tensor.data.clone())
        );
    }
}

#[tokio::test]
async fn every_way_to_name_a_checkpoint_exports_its_weights() {
    let folder = TempFolder::new();
    let checkpoints = folder.0.join("out/checkpoints");
    let store = Store::open(&checkpoints.display().to_string()).unwrap();
    let last = two_runs(&store).await;
    let run = store.run("newer").unwrap();
    write_pointer(&folder.0.join("out/newer"), &run).unwrap();
    let plain = checkpoints.display().to_string();
    let to = folder.0.join("exports/weights.safetensors");
    for from in [
        plain.clone(),
        format!("{plain}/"),
        format!("file://{plain}"),
        format!("{plain}/newer"),
        format!("file://{plain}/newer/"),
        format!("{plain}/newer/manifests/r000000000020.json"),
        folder.0.join("out").display().to_string(),
        folder.0.join("out/newer").display().to_string(),
    ] {
        println!("from {from}");
        let report = export(&from, &to).await.unwrap();
        assert_eq!((report.run.as_str(), report.is_final), ("newer", true));
        assert_exported(&report, &last, &to);
        std::fs::remove_file(&to).unwrap();
    }
    let report = export(&format!("{plain}/newer/manifests/r000000000010.json"), &to)
        .await
        .unwrap();
    assert_exported(&report, &snapshot("newer", 10, "w"), &to);
    let report = export(&format!("{plain}/older"), &to).await.unwrap();
    assert_eq!((report.run.as_str(), report.is_final), ("older", false));
    let left: Vec<_> = std::fs::read_dir(to.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing staged is left: {left:?}");
}

#[tokio::test]
async fn a_named_memory_store_exports_too() {
    let folder = TempFolder::new();
    let store = Store::open("memory://export-suite").unwrap();
    let last = two_runs(&store).await;
    let to = folder.0.join("weights.safetensors");
    for from in ["memory://export-suite", "memory://export-suite/newer"] {
        assert_exported(&export(from, &to).await.unwrap(), &last, &to);
    }
    let run = store.run("newer").unwrap();
    assert_exported(&export_run(&run, &to).await.unwrap(), &last, &to);
}

#[tokio::test]
async fn an_export_passes_over_damage_and_says_so() {
    let folder = TempFolder::new();
    let store = Store::open(&folder.url()).unwrap();
    let run = store.run("r").unwrap();
    save_round(&run, 10).await;
    let key = save_round(&run, 20).await.manifest.key;
    overwrite(&store, &key, "{").await;
    let to = folder.0.join("weights.safetensors");
    let report = export(&folder.url(), &to).await.unwrap();
    assert_exported(&report, &snapshot("r", 10, "w"), &to);
    assert!(report.damaged[0].contains(&key), "{:?}", report.damaged);
    let error = export(&format!("{}/{key}", folder.url()), &to)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ExportError::Load(LoadError::Damaged(_))),
        "{error}"
    );
}

#[tokio::test]
async fn equal_weights_give_equal_files_with_a_readable_header() {
    let folder = TempFolder::new();
    let snapshot = snapshot("r", 10, "w");
    let paths = [folder.0.join("a"), folder.0.join("b")];
    for path in &paths {
        write_weights(&snapshot.header, &snapshot.weights, path).unwrap();
    }
    let bytes = std::fs::read(&paths[0]).unwrap();
    assert_eq!(bytes, std::fs::read(&paths[1]).unwrap());
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header["dense1.weight"]["shape"], json!([4, 8]));
    assert_eq!(header["dense1.weight"]["dtype"], "F32");
    let ours: serde_json::Value =
        serde_json::from_str(header["__metadata__"][METADATA_KEY].as_str().unwrap()).unwrap();
    assert_eq!((&ours["run"], &ours["step"]), (&json!("r"), &json!(9)));
}

#[tokio::test]
async fn nothing_to_export_is_said_clearly() {
    let folder = TempFolder::new();
    let to = folder.0.join("w");
    let missing = folder.0.join("missing").display().to_string();
    assert!(
        export(&missing, &to)
            .await
            .unwrap_err()
            .to_string()
            .contains("missing")
    );
    let error = export(&folder.url(), &to).await.unwrap_err().to_string();
    assert!(
        error.contains("neither a store of checkpoints nor a run's folder"),
        "{error}"
    );
    let store = Store::open(&folder.url()).unwrap();
    let key = save_round(&store.run("r").unwrap(), 1).await.manifest.key;
    overwrite(&store, &key, "{").await;
    let error = export(&folder.url(), &to).await.unwrap_err().to_string();
    assert!(
        error.contains("no checkpoint that verifies") && error.contains(&key),
        "{error}"
    );
    assert!(!exists(&to));
}

#[test]
fn initial_weights_that_cannot_be_read_name_their_file() {
    let folder = TempFolder::new();
    let path = folder.0.join("init.safetensors");
    assert!(
        load_initial(&path)
            .unwrap_err()
            .to_string()
            .contains("init.safetensors")
    );
    std::fs::write(&path, "not safetensors").unwrap();
    let error = load_initial(&path).unwrap_err().to_string();
    assert!(
        error.contains("init.safetensors is not a safetensors file"),
        "{error}"
    );
}

#[test]
fn initial_weights_of_other_float_types_are_converted() {
    use safetensors::tensor::{Dtype, TensorView};
    let folder = TempFolder::new();
    let path = folder.0.join("init.safetensors");
    let (wide, brain, half, whole) = (
        (0.1f64).to_le_bytes(),
        [0x80u8, 0x3f],
        [0x00u8, 0x3c],
        7i64.to_le_bytes(),
    );
    let views = [
        ("wide", TensorView::new(Dtype::F64, vec![1], &wide).unwrap()),
        (
            "brain",
            TensorView::new(Dtype::BF16, vec![1, 1], &brain).unwrap(),
        ),
        ("half", TensorView::new(Dtype::F16, vec![], &half).unwrap()),
        (
            "counter",
            TensorView::new(Dtype::I64, vec![1], &whole).unwrap(),
        ),
    ];
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let tensors = load_initial(&path).unwrap();
    assert_eq!(tensors["wide"], (vec![1], vec![0.1f32]));
    assert_eq!(tensors["brain"], (vec![1, 1], vec![1.0]));
    assert_eq!(tensors["half"], (vec![], vec![1.0]));
    assert!(!tensors.contains_key("counter"));
}
