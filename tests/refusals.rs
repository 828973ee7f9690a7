//! What a person gets to see who starts something wrong: one line that names
//! what to change, an exit code that scripts know, and nothing begun.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::support::{Folder, Process, to_its_end};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 69;
const REFUSED: i32 = 78;

fn mnist() -> String {
    let text = std::fs::read_to_string(format!("{EXAMPLES}/mnist.toml")).unwrap();
    text.replace("data/mnist", &format!("{EXAMPLES}/data/mnist"))
}

/// A folder with a job file, and where its runs would be.
struct Place(Folder);

impl Place {
    fn with(job: &str) -> Place {
        let place = Place(Folder::new());
        std::fs::write(place.path("job.toml"), job).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn run(&self, flags: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
        command.args(["run", &self.path("job.toml"), "--out", &self.path("out")]);
        command.args(flags).stdin(Stdio::null()).output().unwrap()
    }

    fn coordinator(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
        command.args(["--job", &self.path("job.toml"), "--out", &self.path("out")]);
        command.args(flags);
        command
    }

    /// Refused with this exit code and these words, and nothing was begun.
    #[track_caller]
    fn refuses(&self, output: &Output, words: &[&str]) {
        let text = said(output, USAGE);
        assert!(text.starts_with("error: "), "{text}");
        assert!(
            words.iter().all(|word| text.contains(word)),
            "{words:?} in {text}"
        );
        assert!(
            !Path::new(&self.path("out")).exists(),
            "something was begun"
        );
    }
}

#[track_caller]
fn said(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn worker(coordinator: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(["--coordinator", coordinator, "--exit-with-parent"]);
    command.args(flags);
    command
}

/// What a worker says that ends with this code.
#[track_caller]
fn worker_says(coordinator: &str, flags: &[&str], code: i32) -> String {
    let ended = to_its_end(&mut worker(coordinator, flags));
    ended.expect(code).stderr
}

/// A worker that is sent away: what it says.
#[track_caller]
fn sent_away(coordinator: &str, flags: &[&str], words: &[&str]) {
    let text = worker_says(coordinator, flags, REFUSED);
    assert!(
        words.iter().all(|word| text.contains(word)),
        "{words:?} in {text}"
    );
}

/// A coordinator of the quick start, waiting for workers, and its URL.
fn waiting(place: &Place, flags: &[&str]) -> (Process, String) {
    let mut command = place.coordinator(flags);
    if !flags.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(["--set", "data.options.train_limit=640"]);
    let process = Process::start("coordinator", &mut command);
    let line = process.stdout.wait("the coordinator", "join with");
    let url = line.rsplit(' ').next().unwrap().to_owned();
    (process, url)
}

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
    let contradiction = ["--world-size", "3", "--max-world-size", "2"];
    let output = place.coordinator(&contradiction).output().unwrap();
    place.refuses(&output, &["--world-size 3", "--max-world-size 2"]);
}

#[test]
fn a_switch_is_turned_on_in_the_environment_by_the_usual_words() {
    let place = Place(Folder::new());
    for word in ["1", "true", "yes", "on", "0"] {
        let mut command = place.coordinator(&[]);
        let command = command.env("EBBTIDE_NEW", word).env("EBBTIDE_JSON", word);
        let refused = command.output().unwrap();
        place.refuses(&refused, &["job.toml: cannot read the job file"]);
    }
}

#[test]
fn a_job_file_that_is_not_there_is_named() {
    let place = Place(Folder::new());
    place.refuses(&place.run(&[]), &["job.toml: cannot read the job file"]);
}

/// The real data, but for one file.
fn data_with(place: &Place, name: &str, bytes: &[u8]) -> String {
    let folder = place.path("data");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(format!("{EXAMPLES}/data/mnist")).unwrap() {
        let file = entry.unwrap();
        symlink(file.path(), Path::new(&folder).join(file.file_name())).unwrap();
    }
    std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    folder
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
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::with(&mnist());
    let output = place.coordinator(&["--listen", &address]).output().unwrap();
    place.refuses(&output, &[&address, "in use", "give another --listen"]);

    let text = worker_says("127.0.0.1:1", &["--peer-listen", &address], USAGE);
    assert!(
        text.contains(&address) && text.contains("give another --peer-listen"),
        "{text}"
    );
}

#[test]
fn the_same_command_twice_at_once_is_refused_and_the_first_goes_on() {
    let place = Place::with(&mnist());
    let (mut first, url) = waiting(&place, &[]);
    let set = [
        "--listen",
        "127.0.0.1:0",
        "--set",
        "data.options.train_limit=640",
    ];
    let second = place.coordinator(&set).output().unwrap();
    let text = said(&second, USAGE);
    for word in ["trained by another process", "lock", "--new"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let _joined = Process::start("worker", &mut worker(&url, &[]));
    assert_eq!(first.end().code(), Some(0));
}

#[test]
fn peers_are_not_listened_for_beyond_loopback_without_a_token() {
    let text = worker_says("127.0.0.1:1", &["--peer-listen", "0.0.0.0:0"], USAGE);
    assert!(text.contains("EBBTIDE_TOKEN"), "{text}");
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
        ("s3://bucket/mnist", "no backend for s3://"),
        ("ftp://host/mnist", "unknown scheme ftp://"),
        ("file://host/mnist", "three slashes"),
    ] {
        let output = place.run(&["--checkpoint", url]);
        place.refuses(&output, &[url, words]);
    }
}

#[test]
fn a_worker_of_another_build_is_sent_away() {
    let place = Place::with(&mnist());
    let (_coordinator, url) = waiting(&place, &[]);
    let words = [
        "build is \"ebbtide 0.0 of old\"",
        "start the same build on both",
    ];
    sent_away(&url, &["--claim-build", "ebbtide 0.0 of old"], &words);
}

#[test]
fn a_worker_with_other_data_is_sent_away() {
    let place = Place::with(&mnist());
    let (_coordinator, url) = waiting(&place, &[]);
    let mut other = vec![0, 0, 8, 1, 0, 0, 0xea, 0x60];
    other.resize(8 + 60_000, 3);
    let folder = data_with(&place, "train-labels-idx1-ubyte", &other);
    sent_away(
        &url,
        &["--data", &folder],
        &["fingerprint", "the same files"],
    );
    let nowhere = place.path("nowhere");
    sent_away(&url, &["--data", &nowhere], &[&nowhere, "--data"]);
}

#[test]
fn a_worker_that_sees_another_checkpoint_store_is_sent_away() {
    let place = Place::with(&mnist());
    let (_coordinator, url) = waiting(&place, &["--checkpoint", "memory://of-the-coordinator"]);
    let words = ["not the coordinator's checkpoint store", "all nodes share"];
    sent_away(&url, &[], &words);
}

#[test]
fn without_the_token_nobody_gets_in_and_the_join_line_has_it() {
    let place = Place::with(&mnist());
    // A variable that was set to nothing is no token.
    let beyond = [
        "--listen",
        "0.0.0.0:0",
        "--public-host",
        "127.0.0.1",
        "--token",
        "",
    ];
    let flags = [&beyond[..], &["--json", "--set", "train.steps=6"]].concat();
    let (mut coordinator, url) = waiting(&place, &flags);
    let lines = coordinator.stdout.all();
    let line = lines
        .iter()
        .find(|line| line.starts_with("join with"))
        .unwrap();
    let command = line.strip_prefix("join with    ").unwrap();
    let token = command.strip_prefix("EBBTIDE_TOKEN=").unwrap();
    let token = token
        .strip_suffix(&format!(" worker --coordinator {url}"))
        .unwrap();
    assert_eq!(token.len(), 26, "128 bits in {line}");

    sent_away(&url, &[], &["wrong token", "EBBTIDE_TOKEN"]);
    sent_away(
        &url,
        &["--token", "guessed"],
        &["wrong token", "EBBTIDE_TOKEN"],
    );
    let asked = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
        .args(["status", "--coordinator", &url])
        .output()
        .unwrap();
    assert!(said(&asked, REFUSED).contains("wrong token"));

    // The line itself, as a shell reads it.
    let bin = Path::new(env!("CARGO_BIN_EXE_worker")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let mut pasted = Command::new("sh");
    let mut pasted = Process::start(
        "worker",
        pasted
            .args(["-c", &format!("{command} --exit-with-parent")])
            .env("PATH", path),
    );
    assert_eq!(pasted.end().code(), Some(0));
    assert_eq!(coordinator.end().code(), Some(0));
}

#[test]
fn a_token_that_a_person_gave_is_not_shown() {
    let place = Place::with(&mnist());
    let (coordinator, url) = waiting(&place, &["--token", "open-sesame"]);
    let said = coordinator.stdout.all().join("\n");
    assert!(!said.contains("open-sesame"), "{said}");
    let join = format!("join with    EBBTIDE_TOKEN=\"$EBBTIDE_TOKEN\" worker --coordinator {url}");
    assert!(said.contains(&join), "{said}");
}

#[test]
fn a_coordinator_that_cannot_be_reached_is_given_up() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = worker_says(
        &closed.to_string(),
        &["--reconnect-timeout", "0.1"],
        UNREACHABLE,
    );
    assert!(text.contains(&closed.to_string()), "{text}");
    let asked = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
        .args(["status", "--coordinator", &format!("http://{closed}")])
        .output()
        .unwrap();
    assert!(said(&asked, UNREACHABLE).contains("connection refused"));
}

#[test]
fn a_worker_that_came_first_joins_once_the_coordinator_is_there() {
    let place = Place::with(&mnist());
    let early = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = early.local_addr().unwrap().to_string();
    let mut worker = Process::start("worker", &mut worker(&address, &[]));
    drop(early.accept().unwrap()); // it knocks, and nobody is in
    drop(early);
    let flags = ["--listen", &address, "--set", "train.steps=6"];
    let (mut coordinator, _) = waiting(&place, &flags);
    assert_eq!(coordinator.end().code(), Some(0));
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn a_job_that_fails_in_a_step_says_where_and_ends_all() {
    let place = Place::with(&mnist());
    let flags = [
        "--set",
        "model.classes=4",
        "--set",
        "data.options.train_limit=640",
    ];
    let output = place.run(&flags);
    let text = said(&output, 1) + &String::from_utf8_lossy(&output.stdout);
    for words in [
        "step 0, micro-batch ",
        "is no class: the model has classes 0 to 3",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}
