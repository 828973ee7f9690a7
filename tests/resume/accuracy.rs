//! The quick start as it is in `examples`, all 60,000 images five times.

use super::command::run;
use crate::support::{Folder, to_its_end};

#[test]
fn the_quick_start_learns_as_much_as_elsewhere() {
    let folder = Folder::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let job = std::fs::read_to_string(format!("{root}/examples/mnist.toml")).unwrap();
    let job = job.replace("\"data/mnist\"", &format!("\"{root}/examples/data/mnist\""));
    std::fs::write(folder.path().join("job.toml"), job).unwrap();
    let summary = to_its_end(&mut run(&folder, &["--workers", "2"]))
        .expect(0)
        .summary();
    assert_eq!(
        (&summary["steps"], &summary["epochs"]),
        (&4690.into(), &5.into())
    );
    let accuracy = summary["val_accuracy"].as_f64().unwrap();
    // Keras: 0.978, torch: 0.974.
    assert!((0.972..=0.982).contains(&accuracy), "{accuracy}");
}
