//! One step again, on this machine.
//!
//! ```text
//!  newest checkpoint before step S ──▶ steps in between ──▶ step S, micro-batch by micro-batch
//!  (or the job's beginning)             each sum compared    │ one that can't be summed:
//!                                       with the logged one  └─▶ which samples, which operation
//! ```
//!
//! The sums say whether what is seen here is what happened there: on a machine of
//! the run's numerics kind every one of them has to be the logged one.

mod culprit;
mod error;
mod figures;
mod text;

use std::sync::Arc;

pub use error::ReplayError;
pub use figures::Replay;

use super::folder::RunFolder;
use crate::checkpoint::{RunStore, Store, StoreError};
use crate::exact::{SumDigest, Verdict};
use crate::job::{Job, Kind};
use crate::model::Registry;
use crate::numerics;
use crate::observe::Event;
use crate::strategy::{Devices, Partial, Plan, Replicas, Stop, TrainState, Values};
use crate::wire::StepRow;
use figures::{MicroBatchRow, OperationRow, ParameterRow};

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct Question {
    /// Index of the step, from 0.
    pub step: u64,
    /// Only this micro-batch of it.
    pub micro_batch: Option<u32>,
    /// All operations, not only the first that isn't finite.
    pub trace_ops: bool,
    /// Where the data is on this machine, if elsewhere.
    pub data: Option<String>,
}

/// What is told while it computes.
pub trait Watch {
    /// The step is so many steps away.
    fn begins(&mut self, from: u64, step: u64);
    /// The first step whose sum isn't the logged one.
    fn differs(&mut self, step: u64, here: SumDigest, logged: SumDigest, kinds: &Kinds);
}

/// Numerics kinds: of this machine, and of the run.
#[derive(Clone, Debug)]
pub struct Kinds {
    /// Of this machine.
    pub here: String,
    /// That took part in the run.
    pub run: Vec<String>,
}

/// A run that is ready to be computed again.
struct Stage {
    plan: Arc<Plan>,
    replicas: Replicas,
    state: TrainState,
    /// What is logged, by step.
    logged: Vec<Option<StepRow>>,
    kinds: Kinds,
    figures: Replay,
}

/// Computes a step of a run again.
///
/// # Errors
/// [`ReplayError`].
pub async fn replay(
    folder: &RunFolder,
    registry: &Registry,
    question: &Question,
    watch: &mut dyn Watch,
) -> Result<Replay, ReplayError> {
    let mut stage = Stage::open(folder, registry, question).await?;
    stage.go_to(question.step, watch)?;
    stage.look(question, watch)?;
    Ok(stage.figures)
}

impl Stage {
    async fn open(
        folder: &RunFolder,
        registry: &Registry,
        question: &Question,
    ) -> Result<Stage, ReplayError> {
        let past = Past::of(folder, registry.artifact_name())?;
        let mut job = Job::from_resolved(&folder.config()?)?;
        if let Some(url) = &question.data {
            job.relocate_data("--data", url);
        }
        let plan = Arc::new(Plan::new(&job, registry)?);
        let last = plan.course.total_steps() - 1;
        if question.step > last {
            let step = question.step;
            return Err(ReplayError::NoStep { step, last });
        }
        let last = plan.job.train.micro_batches() - 1;
        if let Some(micro_batch) = question.micro_batch.filter(|m| *m > last) {
            return Err(ReplayError::NoMicroBatch { micro_batch, last });
        }
        let url = folder.checkpoints();
        let (state, from) =
            beginning(&plan, url.as_deref(), question.step, past.parent_step).await?;
        let mut replicas = Replicas::of(&plan, &Devices::cpu(1))?;
        state.put(&plan, &mut replicas)?;
        let figures = Replay::new(&plan, &state, question.step, from);
        Ok(Stage {
            logged: folder.steps()?,
            kinds: Kinds {
                here: numerics::fingerprint(),
                run: past.kinds,
            },
            plan,
            replicas,
            state,
            figures,
        })
    }

    /// Computes the rounds before the step.
    fn go_to(&mut self, step: u64, watch: &mut dyn Watch) -> Result<(), ReplayError> {
        watch.begins(self.state.course.step, step);
        loop {
            match self.plan.course.kind(&self.state.course) {
                Kind::Train { step: next, .. } if next == step => return Ok(()),
                Kind::End(_) => {
                    let last = self.state.course.step.saturating_sub(1);
                    return Err(ReplayError::NoStep { step, last });
                }
                kind => {
                    let round = self.round(&kind)?;
                    self.finish(&kind, &round, watch)?;
                }
            }
        }
    }

    /// The whole sum of a round.
    fn round(&mut self, kind: &Kind) -> Result<Partial, ReplayError> {
        let mut round = Partial::default();
        self.plan.clear(&mut round, kind, false);
        let all: Vec<u32> = (0..self.plan.course.micro_batches(kind)).collect();
        let stop = Stop::new();
        self.replicas
            .compute(&self.plan, kind, &all, &mut round, &stop)?;
        Ok(round)
    }

    /// Applies a round and compares its sum.
    fn finish(
        &mut self,
        kind: &Kind,
        round: &Partial,
        watch: &mut dyn Watch,
    ) -> Result<Option<f64>, ReplayError> {
        let (sum, totals) = (round.complete(), &round.totals);
        let replicas = Some(&mut self.replicas);
        let finished = self.state.finish(&self.plan, replicas, sum, totals)?;
        if let (Kind::Train { step, .. }, Some(here)) = (kind, finished.sum) {
            let logged = self.logged.get(*step as usize).copied().flatten();
            let figures = &mut self.figures;
            match logged.map(|row| row.sum) {
                None => figures.unknown += 1,
                Some(logged) if logged == here => figures.same += 1,
                Some(logged) => {
                    if figures.first_difference.is_none() {
                        watch.differs(*step, here, logged, &self.kinds);
                        figures.first_difference = Some(*step);
                    }
                }
            }
            figures.sum = here.to_string();
            figures.logged_sum = logged.map(|row| row.sum.to_string());
        }
        Ok(finished.applied.map(|applied| applied.lr))
    }

    /// The step itself.
    fn look(&mut self, question: &Question, watch: &mut dyn Watch) -> Result<(), ReplayError> {
        let kind = self.plan.course.kind(&self.state.course);
        let plan = Arc::clone(&self.plan);
        let before = self.state.weights().to_vec();
        for m in 0..plan.course.micro_batches(&kind) {
            if question.micro_batch.is_some_and(|only| only != m) {
                continue;
            }
            let samples = plan.order.samples(question.step, m);
            if samples.is_empty() {
                let empty = MicroBatchRow::empty(m);
                self.figures.micro_batches.push(empty);
                continue;
            }
            let examined = self.replicas.examine(&plan, &kind, m, &samples)?;
            let row = MicroBatchRow::new(&plan, m, samples.len(), &examined);
            self.figures.micro_batches.push(row);
            if let Some(only) = question.micro_batch.filter(|only| *only == m) {
                let of = |index: usize| examined.gradients[index];
                self.figures.samples = samples.clone();
                self.figures.parameters = ParameterRow::all(&plan, &before, None, of);
                self.figures.of_micro_batch = Some(only);
            }
            let bad = matches!(examined.verdict, Verdict::NonFinite | Verdict::OutOfRange);
            // Of the first bad one, else of the first one.
            let first = self.figures.operations.is_empty();
            if question.trace_ops && (first || bad && self.figures.causes.is_empty()) {
                self.figures.operations = OperationRow::all(m, &examined);
            }
            if bad {
                let cause =
                    culprit::find(&plan, &kind, m, &samples, &examined, &mut self.replicas)?;
                self.figures.causes.push(cause);
            }
        }
        let round = self.round(&kind)?;
        self.figures.lr = self.finish(&kind, &round, watch)?;
        self.figures.total(&plan, &kind, &round.totals);
        let gradient = figures::gradient(&plan, &round);
        self.figures.gradient_norm = gradient.as_deref().map(|g| Values::of(g).norm);
        if question.micro_batch.is_none() {
            let ranges: Vec<_> = plan.layout.iter().map(|p| p.range.clone()).collect();
            let of = |index: usize| {
                let gradient = gradient.as_ref()?;
                plan.is_trained(index)
                    .then(|| Values::of(&gradient[ranges[index].clone()]))
            };
            let after = self.figures.lr.map(|_| self.state.weights());
            self.figures.parameters = ParameterRow::all(&plan, &before, after, of);
        }
        Ok(())
    }
}

/// What the events say that matters here.
#[derive(Default)]
struct Past {
    /// Of a fork: the step that it goes on from.
    parent_step: Option<u64>,
    kinds: Vec<String>,
}

impl Past {
    /// Of a run that this program has trained.
    fn of(folder: &RunFolder, artifact: &str) -> Result<Past, ReplayError> {
        let mut past = Past::default();
        for record in folder.events()? {
            match record.event {
                Event::WorkerRegistered(info) if info.artifact != artifact => {
                    let (ours, theirs) = (artifact.to_owned(), info.artifact);
                    return Err(ReplayError::Artifact { ours, theirs });
                }
                Event::RunStarted { parent_step, .. } => past.parent_step = parent_step,
                Event::KindsChanged { kinds, .. } => past.kinds = kinds,
                _ => {}
            }
        }
        Ok(past)
    }
}

/// The state of the newest checkpoint before the step, else the job's beginning;
/// and where that is, in words.
async fn beginning(
    plan: &Plan,
    url: Option<&str>,
    step: u64,
    parent: Option<u64>,
) -> Result<(TrainState, String), ReplayError> {
    let mut from = "the beginning".to_owned();
    let run = url.map(store).transpose().unwrap_or_else(|error| {
        from = format!("the beginning, as its checkpoints can't be had ({error})");
        None
    });
    if let Some(run) = run {
        check_data(plan, &run).await?;
        if let Some(manifest) = run.before_step(step).await? {
            let snapshot = run.load(&manifest).await?;
            let state = TrainState::restore(plan, &snapshot)?;
            let from = format!("the checkpoint of step {}", manifest.header.step);
            return Ok((state, from));
        }
    }
    if let Some(at) = parent {
        return Err(ReplayError::NoBeginning {
            run: plan.identity().run,
            at,
            tail: "ask for a step after one of its checkpoints",
        });
    }
    Ok((TrainState::initial(plan)?, from))
}

/// `STORE/RUN`.
fn store(url: &str) -> Result<RunStore, StoreError> {
    let (store, run) = url
        .trim_end_matches('/')
        .rsplit_once('/')
        .unwrap_or((url, ""));
    Store::open_existing(store)?.run(run)
}

async fn check_data(plan: &Plan, run: &RunStore) -> Result<(), ReplayError> {
    let Some(record) = run.run_record().await? else {
        return Ok(());
    };
    let (ours, theirs) = (plan.data_fingerprint(), record.identity.data_fingerprint);
    match ours == theirs {
        true => Ok(()),
        false => Err(ReplayError::Data {
            url: plan.job.data.url.clone(),
            ours,
            theirs,
        }),
    }
}
