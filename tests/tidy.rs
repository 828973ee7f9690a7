//! The rules of the source tree that no compiler knows.
//!
//! Each rule is a predicate on one line of code, or on one file, with the reason in
//! the message that a person gets to see. Comments and tests aren't code
//! here: a test may compare with the system's logarithm, and should.

use std::fs;
use std::path::{Path, PathBuf};

/// Files are read by people: about 400 lines, never more than this.
const LINES_MAX: usize = 450;

/// Rooms (or files) whose results all replicas must share to the last bit.
const REPLICATED: &[&str] = &[
    "src/exact/",
    "src/numerics/",
    "src/optim/",
    "src/job/course",
    "src/data/order",
];

/// It computes what does differ between machines, to give it a name.
const MEASURES_THE_MACHINE: &str = "src/numerics/fingerprint.rs";

/// Rooms that decide: time, randomness and messages come in as arguments.
const PURE: &[&str] = &[
    "src/world/",
    "src/exact/",
    "src/numerics/",
    "src/optim/",
    "src/job/",
    "src/data/order",
    "src/cli/chaos/crew",
    "src/cli/chaos/expression",
    "src/cli/chaos/schedule",
    "src/cli/chaos/watch",
];

/// Functions of the system's mathematics library, and those that round once where
/// the plain operations round twice: their bits differ between machines.
const LIBM: &[&str] = &[
    "sin", "cos", "tan", "sin_cos", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh",
    "asinh", "acosh", "atanh", "exp", "exp2", "exp_m1", "ln", "ln_1p", "log", "log2", "log10",
    "powf", "powi", "cbrt", "hypot", "mul_add", "gamma",
];

/// One source file: its path from the repository's root, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| self.path.starts_with(room))
    }

    /// Whether the whole file is tests.
    fn is_test(&self) -> bool {
        let path = &self.path;
        path.starts_with("tests/") || path.ends_with("tests.rs") || path.contains("/tests/")
    }

    /// Numbered lines without comments, up to the tests at the file's end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        });
        let end = if self.is_test() {
            0
        } else {
            tests.unwrap_or(lines.len())
        };
        let code = lines.into_iter().take(end).enumerate();
        code.map(|(i, line)| {
            (
                i + 1,
                line.find("//").map_or(line, |comment| &line[..comment]),
            )
        })
    }

    /// `path:line: reason` for each line of code that breaks the rule.
    fn offences(&self, reason: &str, breaks: impl Fn(&str) -> bool) -> Vec<String> {
        let offending = self.code().filter(|(_, line)| breaks(line));
        offending
            .map(|(i, line)| format!("{}:{i}: {reason}: {}", self.path, line.trim()))
            .collect()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "proto"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let sources: Vec<Source> = files
        .iter()
        .map(|file| Source {
            path: file
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/"),
            text: fs::read_to_string(file).unwrap(),
        })
        .collect();
    assert!(
        sources.iter().any(|source| source.path == "src/lib.rs"),
        "the search finds the crate"
    );
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[track_caller]
fn assert_none(offences: Vec<String>) {
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word)
    })
}

/// A call as a method, `x.ln()`, or through the type, `f64::ln(x)`.
fn calls_libm(line: &str) -> bool {
    let called = |f: &&&str| {
        [format!(".{f}("), format!("f32::{f}"), format!("f64::{f}")]
            .iter()
            .any(|call| {
                line.match_indices(call.as_str()).any(|(at, _)| {
                    call.ends_with('(')
                        || !line[at + call.len()..]
                            .starts_with(|c: char| c.is_alphanumeric() || c == '_')
                })
            })
    };
    has_word(line, "libm") || LIBM.iter().find(called).is_some()
}

#[test]
fn what_is_replicated_calls_no_mathematics_library() {
    let reason = "not the same bits on every machine; use crate::numerics::maths";
    let replicated = sources()
        .into_iter()
        .filter(|source| source.is_in(REPLICATED) && source.path != MEASURES_THE_MACHINE);
    assert_none(
        replicated
            .flat_map(|source| source.offences(reason, calls_libm))
            .collect(),
    );
}

#[test]
fn what_decides_knows_no_runtime_no_clock_and_no_random_source() {
    let reason = "a pure room takes time, randomness and messages as arguments";
    let impure = |line: &str| {
        [
            "tokio",
            "tonic",
            "Instant",
            "SystemTime",
            "getrandom",
            "rand",
            "thread_rng",
        ]
        .iter()
        .any(|word| has_word(line, word))
    };
    let pure = sources().into_iter().filter(|source| source.is_in(PURE));
    assert_none(
        pure.flat_map(|source| source.offences(reason, impure))
            .collect(),
    );
}

#[test]
fn coordinator_and_worker_never_import_each_other() {
    let reason = "they meet in the protocol and in world";
    let mut offences = Vec::new();
    for source in sources() {
        for (room, other) in [
            ("src/coordinator/", "worker"),
            ("src/worker/", "coordinator"),
        ] {
            if source.is_in(&[room]) {
                let path = format!("crate::{other}");
                offences.extend(source.offences(reason, |line| has_word(line, &path)));
            }
        }
    }
    assert_none(offences);
}

#[test]
fn every_queue_has_a_limit() {
    let reason = "a queue without a limit";
    let unbounded = |line: &str| {
        ["unbounded_channel", "unbounded", "UnboundedSender"]
            .iter()
            .any(|word| has_word(line, word))
    };
    assert_none(
        sources()
            .iter()
            .flat_map(|source| source.offences(reason, unbounded))
            .collect(),
    );
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    let long = sources().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines, at most {LINES_MAX}", source.path))
    });
    assert_none(long.collect());
}

#[test]
fn no_test_is_ignored() {
    // Put together here, so that this line isn't one.
    let ignored = concat!("#[", "ignore");
    let found = sources()
        .into_iter()
        .filter(|source| source.text.contains(ignored));
    assert_none(
        found
            .map(|source| format!("{}: an ignored test", source.path))
            .collect(),
    );
}

/// The rules bite: planted offences are found, and look-alikes aren't.
#[test]
fn the_rules_tell_offences_from_look_alikes() {
    for line in [
        "let y = x.ln();",
        "xs.map(f64::exp)",
        "x.powi(2)",
        "a.mul_add(b, c)",
        "libm::sin(x)",
    ] {
        assert!(calls_libm(line), "{line}");
    }
    for line in [
        "maths::ln(x)",
        "self.cosine(x)",
        "x.sqrt()",
        "f64::expand",
        "optim.exponent()",
        "let ln = 1;",
    ] {
        assert!(!calls_libm(line), "{line}");
    }
    assert!(has_word("use tokio::sync;", "tokio") && !has_word("use tokio_like;", "tokio"));
    let source = Source {
        path: "src/optim/planted.rs".into(),
        text: "//! x.ln()\nlet y = x.exp(); // why\n#[cfg(test)]\nmod tests {\n    x.sin();\n}\n"
            .into(),
    };
    assert_eq!(
        source.offences("found", calls_libm),
        ["src/optim/planted.rs:2: found: let y = x.exp();"]
    );
}
