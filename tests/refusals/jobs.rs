//! Jobs and command lines that have to be changed.

use super::*;

#[test]
fn a_bad_job_is_refused_by_its_file_line_and_key() {
    let text = mnist();
    for (line, replacement, words) in [
        (
            "micro_batch = 16 ",
            "micro_bach = 16",
            &["train.micro_bach: unknown key", "`micro_batch`"][..],
        ),
        (
            "epochs = 5",
            "epochs = 'five'",
            &["train.epochs: expected a whole number"],
        ),
        (
            "micro_batch = 16 ",
            "micro_batch = 48",
            &["train.micro_batch: expected a divisor", "the nearest is 32"],
        ),
        (
            "hidden = ",
            "hiden = [128]",
            &["model.hiden: unknown key", "`hidden`"],
        ),
        (
            "hidden = ",
            "hidden = [128, 0]",
            &["model.hidden.1: expected a whole number of at least 1"],
        ),
        (
            "inputs = ",
            "inputs = 100",
            &["model.inputs: expected 784, as a sample of the training data has 28 x 28"],
        ),
        (
            "classes = ",
            "classes = 5",
            &["model.classes: expected at least 10"],
        ),
        (
            "url = ",
            "url = 'nowhere'",
            &["data.url: expected data at", "nowhere"],
        ),
        (
            "kind = \"mlp\"",
            "kind = 'mpl'",
            &["model.kind: ", "the nearest is \"mlp\""],
        ),
    ] {
        let mut lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|l| l.starts_with(line)).unwrap();
        lines[at] = replacement;
        let place = Place::with(&lines.join("\n"));
        let place_in_file = format!("job.toml:{}: ", at + 1);
        let words = [&[place_in_file.as_str()], words].concat();
        place.refuses(&place.run(&[]), &words);
        place.refuses(&place.coordinator(&[]).output().unwrap(), &words);
    }
}

#[test]
fn a_bad_override_is_refused_as_it_was_typed() {
    let place = Place::with(&mnist());
    for (set, words) in [
        ("optimiser.lr=1", "`optimizer`"),
        ("optimizer.lr=fast", "expected a number above 0"),
        ("optimizer.lr", "--set optimizer.lr"),
        ("data.options.train_limt=4", "`train_limit`"),
        ("data.url=s3://bucket/mnist", "expected a path"),
        (
            "early_stopping={monitor='val_los',patience=1}",
            "the nearest is \"val_loss\"",
        ),
        ("model.hidden=[1000000000000]", "at most 2147483648 values"),
        ("init.from=gone.safetensors", "gone.safetensors"),
    ] {
        place.refuses(
            &place.run(&["--set", set]),
            &[&format!("--set {set}: "), words],
        );
    }
    let many = [
        "--set",
        "train.global_batch=40960",
        "--set",
        "train.micro_batch=10",
    ];
    let words = [
        "4096 micro-batches; expected at most 2048",
        "the smallest possible is 20",
    ];
    place.refuses(&place.run(&many), &words);
}

#[test]
fn world_sizes_that_could_only_wait_are_refused() {
    let place = Place::with(&mnist());
    for (flags, words) in [
        (&["--min-world-size", "3"][..], "is more than --workers 2"),
        (&["--min-world-size", "0"], "somebody has to train"),
        (
            &["--min-world-size", "5", "--workers", "5"],
            "a step has only 4 micro-batches",
        ),
    ] {
        place.refuses(&place.run(flags), &["--min-world-size", words]);
    }
    place.refuses(
        &place.run(&["--patience", "0"]),
        &["--patience", "default is 30"],
    );
    let contradiction = ["--world-size", "3", "--max-world-size", "2"];
    let output = place.coordinator(&contradiction).output().unwrap();
    place.refuses(&output, &["--world-size 3", "--max-world-size 2"]);
}

#[test]
fn a_job_file_that_is_not_there_is_named() {
    let place = Place(Folder::new());
    place.refuses(&place.run(&[]), &["job.toml: cannot read the job file"]);
}

#[test]
fn a_data_file_with_the_wrong_magic_or_size_is_named() {
    let short = [&[0, 0, 8, 1, 0, 0, 0xea, 0x60][..], &[7; 100]].concat();
    for (bytes, words) in [
        (&b"<html>not found</html>"[..], "starts with 0x3c68746d"),
        (&short, "60000"),
        (&short[..6], "is truncated"),
    ] {
        let place = Place::with(&mnist());
        let folder = data_with(&place, "train-labels-idx1-ubyte", bytes);
        let set = format!("data.url={folder}");
        let name = "train-labels-idx1-ubyte";
        place.refuses(&place.run(&["--set", &set]), &[name, words]);
    }
}

#[test]
fn a_checkpoint_url_that_cannot_work_is_refused_before_anything_begins() {
    let place = Place::with(&mnist());
    let below_a_file = place.path("job.toml/checkpoints");
    for (url, words) in [
        (&below_a_file[..], "cannot make the folder"),
        (
            "file:///proc/ebbtide",
            "choose a folder that you may write to",
        ),
        (
            "memory://here",
            "can't see this one's memory; give a folder",
        ),
        ("s3://bucket/mnist", "no backend for s3://"),
        ("ftp://host/mnist", "unknown scheme ftp://"),
        ("file://host/mnist", "three slashes"),
    ] {
        let output = place.run(&["--checkpoint", url]);
        place.refuses(&output, &[url, words]);
    }
}

#[test]
fn a_job_that_fails_in_a_step_says_where_and_ends_all() {
    let place = Place::with(&mnist());
    let flags = [
        "--set",
        "optimizer.lr=1e30",
        "--set",
        "train.max_skipped_steps=0",
        "--set",
        "data.options.train_limit=640",
    ];
    let output = place.run(&flags);
    let text = said(&output, 1) + &String::from_utf8_lossy(&output.stdout);
    for words in [
        "in step 1, micro-batch ",
        "of dense_0.bias, dense_0.weight",
        "train.max_skipped_steps",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn a_model_that_cannot_fit_into_the_machine_is_refused() {
    let place = Place::with(&mnist());
    let large = ["--workers", "64", "--set", "model.hidden=[2700000]"];
    let words = [
        "job.toml:",
        "model.kind: ",
        "needs 2747",
        "workers: 64, replicas of each: 1",
    ];
    place.refuses(&place.run(&large), &words);
}
