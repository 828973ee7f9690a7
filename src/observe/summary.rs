//! How a run ended: lines for a person, one JSON object for a script.
//!
//! The object's keys are a contract (`--json`, the last line on standard
//! output): all of them are always there, `null` where something is unknown;
//! keys are only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::progress::seconds;
use super::{count, printable};

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Trained to its end now.
    #[serde(rename = "finished")]
    Finished,
    /// It had been trained to its end before; nothing was done.
    #[serde(rename = "already complete")]
    AlreadyComplete,
    /// A person stopped it; started again, it goes on.
    #[serde(rename = "stopped")]
    Stopped,
    /// Training failed; `error` says why.
    #[default]
    #[serde(rename = "failed")]
    Failed,
}

/// What there is to say at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How it ended.
    pub status: Outcome,
    /// The job's name.
    pub job: String,
    /// The run's id.
    pub run: Option<String>,
    /// Steps applied.
    pub steps: Option<u64>,
    /// Whole epochs trained.
    pub epochs: Option<u64>,
    /// Mean training loss of the last epoch.
    pub train_loss: Option<f64>,
    /// Loss of the last evaluation.
    pub val_loss: Option<f64>,
    /// Accuracy of the last evaluation.
    pub val_accuracy: Option<f64>,
    /// SHA-256 of the weights, in hexadecimal; see [`crate::checkpoint`].
    pub weights_sha256: Option<String>,
    /// Whether all members were of one numerics kind, so that the digest is a
    /// function of the job alone.
    pub exact: Option<bool>,
    /// The numerics kinds that took part.
    pub kinds: Vec<String>,
    /// Wall-clock seconds of this start of the run.
    pub seconds: f64,
    /// How many generations there were.
    pub generations: Option<u64>,
    /// How many workers registered.
    pub workers_seen: Option<u64>,
    /// Micro-batches assigned in one generation and computed again in a later
    /// one, over all starts of the run.
    pub recomputed_micro_batches: Option<u64>,
    /// Complete sums fetched from a survivor after a loss.
    pub sums_fetched: Option<u64>,
    /// Frames that came damaged from another worker; the exchange was done
    /// again each time.
    pub damaged_frames: Option<u64>,
    /// The step this start resumed from; `null` if it began at the beginning.
    pub resumed_from_step: Option<u64>,
    /// Micro-batches done again because a checkpoint lay behind.
    pub recomputed_after_resume: Option<u64>,
    /// Micro-batches that each worker of this start computed, by its number, as
    /// far as it told before it left.
    pub micro_batches_by_worker: BTreeMap<String, u64>,
    /// The last checkpoint.
    pub checkpoint: Option<String>,
    /// The file with the weights alone, if the job asks for one.
    pub weights: Option<String>,
    /// The run's folder.
    pub run_dir: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Summary {
    /// The object on one line, without a line end. Numbers that aren't finite
    /// are `null`, as JSON has none.
    pub fn json_line(&self) -> String {
        // Milliseconds are enough, and don't look like a measurement of more.
        let rounded = Summary {
            seconds: (self.seconds * 1e3).round() / 1e3,
            ..self.clone()
        };
        serde_json::to_string(&rounded).expect("strings and numbers under text keys are JSON")
    }

    /// The same for a person.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.status == Outcome::AlreadyComplete {
            let run = self.run.as_deref().unwrap_or(&self.job);
            lines.push(format!(
                "already complete: run {run}; --new trains another repeat"
            ));
        }
        let mut result: Vec<String> = Vec::new();
        result.extend(
            self.weights_sha256
                .as_ref()
                .map(|w| format!("weights  sha256:{w}")),
        );
        result.extend(self.weights.clone().or(self.run_dir.clone()));
        if !result.is_empty() {
            lines.push(result.join("   "));
        }
        lines.extend(
            self.checkpoint
                .as_ref()
                .map(|url| format!("checkpoint  {url}")),
        );
        if self.status == Outcome::Finished || self.status == Outcome::Stopped {
            lines.push(self.work());
        }
        if self.exact == Some(false) {
            let kinds = self.kinds.join(", ");
            lines.push(format!(
                "not exact: workers of several numerics kinds took part ({kinds})"
            ));
        }
        if self.status == Outcome::Failed {
            lines.push(format!(
                "failed: {}",
                self.error.as_deref().unwrap_or("cause unknown")
            ));
        }
        lines.iter().map(|line| printable(line)).collect()
    }

    /// `finished in 3.1s: 4690 steps, 5 epochs; 4 generations, 3 workers seen; …`
    fn work(&self) -> String {
        let verb = if self.status == Outcome::Stopped {
            "stopped after"
        } else {
            "finished in"
        };
        let counted = |n: Option<u64>, noun| n.map(|n| count(n, noun));
        let join =
            |parts: [Option<String>; 2]| parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let again = self.recomputed_micro_batches.map(|n| {
            let noun = if n == 1 {
                "micro-batch"
            } else {
                "micro-batches"
            };
            format!("{n} {noun} recomputed")
        });
        let workers = self
            .workers_seen
            .map(|n| format!("{} seen", count(n, "worker")));
        let parts = [
            join([counted(self.steps, "step"), counted(self.epochs, "epoch")]),
            join([counted(self.generations, "generation"), workers]),
            join([again, None]),
        ];
        let told: Vec<String> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        let colon = if told.is_empty() { "" } else { ": " };
        format!("{verb} {}{colon}{}", seconds(self.seconds), told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished() -> Summary {
        Summary {
            status: Outcome::Finished,
            job: "mnist".into(),
            run: Some("mnist-1f2e".into()),
            steps: Some(4690),
            epochs: Some(5),
            train_loss: Some(0.052),
            val_loss: Some(f64::NAN),
            val_accuracy: Some(0.977),
            weights_sha256: Some("5f1c".into()),
            exact: Some(true),
            kinds: vec!["cpu-9a1b".into()],
            seconds: 3.123_456,
            generations: Some(4),
            workers_seen: Some(1),
            recomputed_micro_batches: Some(0),
            sums_fetched: Some(0),
            damaged_frames: Some(0),
            resumed_from_step: None,
            recomputed_after_resume: Some(0),
            micro_batches_by_worker: BTreeMap::from([("1".to_owned(), 18760)]),
            checkpoint: Some("file:///c/4690".into()),
            weights: None,
            run_dir: Some("runs/mnist/1f2e".into()),
            error: None,
        }
    }

    #[test]
    fn a_script_gets_one_line_with_every_key() {
        assert_eq!(
            finished().json_line(),
            concat!(
                r#"{"status":"finished","job":"mnist","run":"mnist-1f2e","steps":4690,"epochs":5,"#,
                r#""train_loss":0.052,"val_loss":null,"val_accuracy":0.977,"weights_sha256":"5f1c","#,
                r#""exact":true,"kinds":["cpu-9a1b"],"seconds":3.123,"generations":4,"workers_seen":1,"#,
                r#""recomputed_micro_batches":0,"sums_fetched":0,"damaged_frames":0,"resumed_from_step":null,"#,
                r#""recomputed_after_resume":0,"#,
                r#""micro_batches_by_worker":{"1":18760},"checkpoint":"file:///c/4690","weights":null,"run_dir":"runs/mnist/1f2e","error":null}"#,
            )
        );
    }

    #[test]
    fn what_is_unknown_is_null_and_never_absent() {
        let summary = Summary {
            error: Some("two\nlines".into()),
            ..Summary::default()
        };
        let line = summary.json_line();
        assert!(!line.contains('\n'));
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let keys = "job run steps epochs train_loss val_loss val_accuracy weights_sha256 exact kinds \
                    seconds generations workers_seen recomputed_micro_batches sums_fetched damaged_frames \
                    resumed_from_step checkpoint status error recomputed_after_resume \
                    micro_batches_by_worker";
        for key in keys.split_whitespace() {
            assert!(object.get(key).is_some(), "{key}");
        }
        assert_eq!(object["status"], "failed");
        assert_eq!(object["run"], serde_json::Value::Null);
    }

    #[test]
    fn a_person_gets_the_digest_the_folder_and_the_cost() {
        assert_eq!(
            finished().lines(),
            [
                "weights  sha256:5f1c   runs/mnist/1f2e",
                "checkpoint  file:///c/4690",
                "finished in 3.1s: 4690 steps, 5 epochs; 4 generations, 1 worker seen; 0 micro-batches recomputed",
            ]
        );
    }

    #[test]
    fn other_ends_say_what_they_are() {
        let complete = Summary {
            status: Outcome::AlreadyComplete,
            ..finished()
        };
        assert_eq!(
            complete.lines(),
            [
                "already complete: run mnist-1f2e; --new trains another repeat",
                "weights  sha256:5f1c   runs/mnist/1f2e",
                "checkpoint  file:///c/4690",
            ]
        );
        let failed = Summary {
            error: Some("loss is NaN".into()),
            ..Summary::default()
        };
        assert_eq!(failed.lines(), ["failed: loss is NaN"]);
        let stopped = Summary {
            status: Outcome::Stopped,
            seconds: 1.0,
            ..Summary::default()
        };
        assert_eq!(stopped.lines(), ["stopped after 1.0s"]);
        let mixed = Summary {
            exact: Some(false),
            kinds: vec!["cpu-1".into(), "t4-2".into()],
            ..stopped
        };
        assert_eq!(
            mixed.lines()[1],
            "not exact: workers of several numerics kinds took part (cpu-1, t4-2)"
        );
    }
}
