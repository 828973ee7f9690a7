//! The last words of a start, and what the run came to.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Report, unix_now};
use crate::checkpoint::{RunStore, export_run};
use crate::observe::history::RunStatus;
use crate::observe::{Event, History, Summary, summary};
use crate::strategy::Plan;
use crate::world::membership::{Durable, Outcome};

/// The weights alone, in the run's folder.
const WEIGHTS: &str = "weights.safetensors";

impl Report {
    /// The last words, and what the run came to. A file that can't be written any more is told of,
    /// but keeps nobody from the result.
    pub(in crate::coordinator) async fn finish(
        mut self,
        run: &RunStore,
        plan: &Arc<Plan>,
        outcome: Outcome,
        kinds: BTreeSet<String>,
        elapsed: Duration,
    ) -> Summary {
        let seconds = elapsed.as_secs_f64();
        let mut summary = self.counters(plan, kinds, seconds);
        let newest = told(
            "the newest checkpoint can't be read",
            run.newest_verified(|_| {}).await,
        );
        if let Some(manifest) = newest.flatten() {
            let header = &manifest.header;
            let value = |name: &str| header.metrics.get(name).copied();
            summary.steps = Some(header.step);
            summary.epochs = Some(header.step / self.steps_per_epoch);
            summary.train_loss = value("loss");
            summary.val_loss = value("val_loss");
            summary.val_accuracy = value("val_accuracy");
            summary.weights_sha256 = Some(header.weights_sha256.clone());
            summary.checkpoint = Some(format!(
                "{}/{}",
                self.checkpoint_url, manifest.reference.key
            ));
        }
        let (status, error) = match outcome {
            Outcome::Finished { .. } => {
                self.event(Event::Finished {
                    step: summary.steps.unwrap_or(self.step),
                    epochs: summary.epochs.unwrap_or_default(),
                    seconds,
                    weights_sha256: summary.weights_sha256.clone().unwrap_or_default(),
                    checkpoint: summary.checkpoint.clone(),
                });
                summary.status = summary::Outcome::Finished;
                (RunStatus::Finished, None)
            }
            Outcome::Failed(error) => {
                self.event(Event::Failed {
                    step: Some(self.step),
                    error: error.clone(),
                });
                summary.status = summary::Outcome::Failed;
                summary.error = Some(error.clone());
                (RunStatus::Failed, Some(error))
            }
            Outcome::Stopped => {
                let asked = self.stop_asked.clone();
                let reason = asked.unwrap_or_else(|| "all workers were drained".to_owned());
                self.event(Event::Stopped {
                    step: summary.steps.unwrap_or(self.step),
                    reason,
                });
                summary.status = summary::Outcome::Stopped;
                (RunStatus::Stopped, None)
            }
        };
        if status == RunStatus::Finished && plan.job.checkpoint.export_weights {
            summary.weights = export_weights(run, &self.folder).await;
        }
        self.record_step();
        let digest = summary
            .weights_sha256
            .as_deref()
            .filter(|_| status == RunStatus::Finished);
        let ended =
            (self.history).set_run_status(&self.run, unix_now(), status, error.as_deref(), digest);
        told("the run's end can't be written down", ended);
        told("the metrics can't be written", self.metrics.sync());
        told("the events can't be written", self.events.sync());
        self.screen.lock().finish();
        summary
    }

    fn counters(&self, plan: &Plan, kinds: BTreeSet<String>, seconds: f64) -> Summary {
        let mut summary = Summary {
            job: plan.job.name.clone(),
            run: Some(self.run.clone()),
            steps: Some(self.step),
            exact: Some(kinds.len() <= 1),
            kinds: kinds.into_iter().collect(),
            seconds,
            resumed_from_step: self.resumed_from,
            micro_batches_by_worker: (self.workers.iter())
                .map(|(worker, known)| (worker.to_string(), known.micro_batches))
                .collect(),
            run_dir: Some(self.folder.display().to_string()),
            ..Summary::default()
        };
        fill(&mut summary, &self.history, &self.run);
        summary
    }
}

/// What came of it, if anything did; else the error is told.
fn told<T, E: std::fmt::Display>(problem: &str, result: Result<T, E>) -> Option<T> {
    result
        .inspect_err(|error| tracing::error!(%error, "{problem}"))
        .ok()
}

/// Writes the weights alone, for whoever doesn't want a checkpoint; where to. A
/// full disk here is no failure of the training: `ebbtide export` makes up for it.
async fn export_weights(run: &RunStore, folder: &Path) -> Option<String> {
    let to = folder.join(WEIGHTS);
    match export_run(run, &to).await {
        Ok(_) => Some(to.display().to_string()),
        Err(error) => {
            tracing::warn!(%error, "the weights were not exported; `ebbtide export` does it");
            None
        }
    }
}

/// Where the weights of a complete run are; written now if the coordinator was
/// killed before it came to that.
pub(in crate::coordinator) async fn exported_weights(
    run: &RunStore,
    folder: &Path,
) -> Option<String> {
    let there = folder.join(WEIGHTS);
    if there.exists() {
        return Some(there.display().to_string());
    }
    export_weights(run, folder).await
}

/// What the run's folder knows of a run that was complete before this start.
pub(in crate::coordinator) fn fill_from_history(summary: &mut Summary, folder: &Path, run: &str) {
    let path = folder.join("history.sqlite");
    if path.exists()
        && let Ok(history) = History::open(&path)
    {
        fill(summary, &history, run);
        let recorded = history.run(run).ok().flatten();
        let recorded = recorded.map_or(Vec::new(), |run| run.kinds);
        let kinds: BTreeSet<String> = summary.kinds.drain(..).chain(recorded).collect();
        summary.exact = Some(kinds.len() <= 1);
        summary.kinds = kinds.into_iter().collect();
    }
}

/// Whether a coordinator that was killed left members behind, by its own disk.
pub(in crate::coordinator) fn has_recorded_members(folder: &Path, run: &str) -> bool {
    let path = folder.join("history.sqlite");
    let recorded = || {
        let history = History::open(&path).ok()?;
        let stored = history.latest_generation(run).ok()??;
        let durable: Durable = serde_json::from_slice(&stored.record).ok()?;
        durable.current.filter(|record| !record.members.is_empty())
    };
    path.exists() && recorded().is_some()
}

/// The counters that are kept over all starts.
fn fill(summary: &mut Summary, history: &History, run: &str) {
    let counter = |name: &str| history.counter(run, name).ok();
    summary.generations = counter("generations");
    summary.workers_seen = history.workers_seen(run).ok();
    summary.recomputed_micro_batches = counter("recomputed_micro_batches");
    summary.sums_fetched = counter("sums_fetched");
    summary.damaged_frames = counter("damaged_frames");
    summary.recomputed_after_resume = counter("recomputed_after_resume");
}
