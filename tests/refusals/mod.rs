//! What a person gets to see who starts something wrong: one line that names
//! what to change, an exit code that scripts know, and nothing begun.

mod environment;
mod jobs;
mod nodes;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{Folder, Process, to_its_end};

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
