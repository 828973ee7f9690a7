//! One pass over the events, with what is true at the time.

use std::collections::{BTreeMap, BTreeSet};

use super::figures::{Loss, Report, Stay};
use crate::observe::events::{EventRecord, InstallReason};
use crate::observe::labels::Labelled;
use crate::observe::{Event, UnixMillis};
use crate::world::WorkerId;

/// Why somebody left whom a coordinator that has started again doesn't find.
const AWAY: &str = "gone while the coordinator was away";

/// What the events have come to so far.
#[derive(Default)]
pub(super) struct Night {
    report: Report,
    micro_batches: Option<u64>,
    /// Who has registered: name, devices, price an hour.
    known: BTreeMap<WorkerId, (String, String, Option<f64>)>,
    /// Members, by where they stand in the report.
    here: BTreeMap<WorkerId, usize>,
    /// Who left since the last generation: the coordinator learns only then how
    /// far they had come.
    leavers: Vec<usize>,
    /// Why there is no world to go on with, until one starts from a checkpoint.
    lost: Option<&'static str>,
    /// Since when nobody is here, once somebody was.
    empty_since: Option<UnixMillis>,
    /// For the mean: member-seconds, and until when they are counted.
    member_seconds: f64,
    counted: UnixMillis,
}

impl Night {
    pub fn new(micro_batches: Option<u64>) -> Night {
        let mut night = Night {
            micro_batches,
            ..Night::default()
        };
        night.report.status = "running";
        night
    }

    pub fn goes_on(&mut self, record: &EventRecord) {
        let (time, report) = (record.time, &mut self.report);
        if report.run.is_empty() {
            (report.run, report.began) = (record.run.clone(), time);
            self.counted = time;
        }
        report.ended = report.ended.max(time);
        let passed = time.0.saturating_sub(self.counted.0) as f64 / 1e3;
        self.member_seconds += passed * self.here.len() as f64;
        self.counted = self.counted.max(time);
        match &record.event {
            Event::RunStarted {
                job,
                steps,
                parent,
                parent_step,
                ..
            } => {
                report.job.clone_from(job);
                report.steps_planned = *steps;
                report.parent = parent.clone().map(|run| (run, parent_step.unwrap_or(0)));
            }
            // A shadow is no worker.
            Event::WorkerRegistered(info) if info.devices == "shadow" => {}
            Event::WorkerRegistered(info) => {
                let about = (info.name.clone(), info.devices.clone(), info.price_per_hour);
                self.known.insert(info.worker, about);
                self.start((info.worker.0 >> 32) as u32);
            }
            Event::WorkerJoined { worker, step, .. } => self.joins(time, *worker, *step),
            Event::WorkerLeft {
                worker,
                reason,
                why,
                step,
                last_error,
                ..
            } => {
                let why = last_error.as_deref().unwrap_or(why);
                let why = why.lines().next().unwrap_or_default();
                self.leaves(time, *worker, *step, Some((reason.name(), why)));
            }
            Event::GenerationInstalled { .. } => self.installed(time, &record.event),
            Event::RunResumed {
                step, steps_lost, ..
            } => self.resumed(time, *step, *steps_lost),
            Event::WorldLost { step, .. } => {
                self.lost = Some("everybody gone");
                let gone: Vec<WorkerId> = self.here.keys().copied().collect();
                for worker in gone {
                    self.leaves(time, worker, Some(*step), None);
                }
            }
            Event::CheckpointCommitted { step, .. } => {
                report.checkpoints.committed += 1;
                report.checkpoints.last_step = Some(*step);
            }
            Event::KindsChanged { kinds, .. } => report.kinds.clone_from(kinds),
            Event::Finished { .. } | Event::Stopped { .. } | Event::Failed { .. } => {
                self.over(&record.event);
            }
            Event::EpochEnded { step, .. } => report.steps = report.steps.max(*step),
            Event::StepSkipped { step, .. } => {
                if report.skipped.last() != Some(step) {
                    report.skipped.push(*step);
                }
            }
            Event::DrainRequested { .. } | Event::IdleWorkers { .. } => {}
            other => {
                match other {
                    Event::StateMismatch { .. } => self.lost = Some("states differed"),
                    Event::CheckpointFailed { .. } => report.checkpoints.failed += 1,
                    Event::CheckpointDamaged { .. } => report.checkpoints.damaged += 1,
                    _ => {}
                }
                let headline = other.headline().map(|headline| headline.text);
                let said = headline.map(|text| (time, text.trim_start_matches(['!', ' ']).into()));
                report.notes.extend(said);
            }
        }
    }

    /// A coordinator of this incarnation is there.
    fn start(&mut self, incarnation: u32) {
        let starts = &mut self.report.coordinator_starts;
        *starts = (*starts).max(incarnation);
    }

    fn joins(&mut self, time: UnixMillis, worker: WorkerId, step: u64) {
        if self.here.contains_key(&worker) {
            return;
        }
        if let Some(since) = self.empty_since.take() {
            let seconds = time.0.saturating_sub(since.0) as f64 / 1e3;
            self.report.zero.push((since, seconds));
        }
        let (name, devices, _) = self.known.get(&worker).cloned().unwrap_or_default();
        self.here.insert(worker, self.report.workers.len());
        self.report.workers.push(Stay {
            worker,
            name,
            devices,
            joined: time,
            joined_step: step,
            left: None,
            left_step: None,
            reason: None,
            why: String::new(),
            seconds: 0.0,
            cost: None,
        });
        self.report.workers_max = self.report.workers_max.max(self.here.len() as u64);
    }

    fn leaves(
        &mut self,
        time: UnixMillis,
        worker: WorkerId,
        step: Option<u64>,
        said: Option<(&'static str, &str)>,
    ) {
        let Some(at) = self.here.remove(&worker) else {
            // Lost with its world, and found out about only later.
            let mut stays = self.report.workers.iter_mut().rev();
            if let Some(stay) = stays.find(|stay| stay.worker == worker && stay.reason.is_none())
                && let Some((reason, why)) = said
            {
                (stay.reason, stay.why) = (Some(reason), why.to_owned());
            }
            return;
        };
        self.leavers.push(at);
        let stay = &mut self.report.workers[at];
        (stay.left, stay.left_step) = (Some(time), step);
        if let Some((reason, why)) = said {
            (stay.reason, stay.why) = (Some(reason), why.to_owned());
        }
        if self.here.is_empty() {
            self.empty_since = Some(time);
        }
    }

    fn installed(&mut self, time: UnixMillis, event: &Event) {
        let Event::GenerationInstalled {
            generation,
            members,
            step,
            reason,
            why,
            recomputed_micro_batches,
            ..
        } = event
        else {
            return;
        };
        self.start(generation.incarnation);
        let members: BTreeSet<WorkerId> = members.iter().copied().collect();
        for worker in &members {
            self.joins(time, *worker, *step);
        }
        let gone = self.here.keys().copied();
        let gone: Vec<WorkerId> = gone.filter(|worker| !members.contains(worker)).collect();
        // Nobody was there to say it then.
        let said = (*reason == InstallReason::Restarted).then_some(("lost", AWAY));
        for worker in &gone {
            self.leaves(time, *worker, Some(*step), said);
        }
        for at in self.leavers.drain(..) {
            let stay = &mut self.report.workers[at];
            stay.left_step = stay.left_step.max(Some(*step));
        }
        let mut loss = Loss {
            time,
            step: *step,
            generation: generation.to_text(),
            what: why.clone(),
            seconds: None,
            micro_batches: *recomputed_micro_batches,
            steps_again: 0,
        };
        match reason {
            InstallReason::Started | InstallReason::Planned => {}
            InstallReason::Restarted => {
                let at = (time, *step, generation.to_text());
                self.report.restarts.push(at);
                if !gone.is_empty() || *recomputed_micro_batches > 0 {
                    let named: Vec<String> = gone.iter().map(|w| format!("worker {w}")).collect();
                    let who = if named.is_empty() {
                        "somebody".into()
                    } else {
                        named.join(", ")
                    };
                    loss.what = format!("{who} left: {AWAY}");
                    self.report.losses.push(loss);
                }
            }
            _ => self.report.losses.push(loss),
        }
    }

    fn resumed(&mut self, time: UnixMillis, step: u64, steps_lost: u64) {
        self.leavers.clear();
        self.report.skipped.retain(|skipped| *skipped < step);
        let lost = self.lost.take();
        if lost.is_none() && steps_lost == 0 {
            return; // all had left with notice
        }
        let why = lost.unwrap_or("everybody gone");
        self.report.losses.push(Loss {
            time,
            step,
            generation: String::new(),
            what: format!("{why}: resumed from step {step}"),
            seconds: None,
            micro_batches: self.micro_batches.unwrap_or(0) * steps_lost,
            steps_again: steps_lost,
        });
    }

    fn over(&mut self, event: &Event) {
        let report = &mut self.report;
        match event {
            Event::Finished {
                step,
                weights_sha256,
                ..
            } => {
                report.status = "finished";
                report.steps = *step;
                report.weights_sha256 = Some(weights_sha256.clone());
            }
            Event::Stopped { step, reason } => {
                (report.status, report.steps) = ("stopped", *step);
                report.why = Some(reason.clone());
            }
            Event::Failed { step, error } => {
                report.status = "failed";
                report.steps = step.unwrap_or(report.steps);
                report.why = Some(error.clone());
            }
            _ => {}
        }
    }

    pub fn ends(mut self) -> Report {
        let end = self.report.ended;
        let over = self.report.status != "running";
        if let Some(since) = self.empty_since.filter(|_| !over) {
            let seconds = end.0.saturating_sub(since.0) as f64 / 1e3;
            self.report.zero.push((since, seconds));
        }
        for stay in &mut self.report.workers {
            let left = stay.left.unwrap_or(end);
            stay.seconds = left.0.saturating_sub(stay.joined.0) as f64 / 1e3;
            let price = self.known.get(&stay.worker).and_then(|known| known.2);
            stay.cost = price.map(|price| price * stay.seconds / 3600.0);
        }
        let members: BTreeSet<WorkerId> = self.report.workers.iter().map(|s| s.worker).collect();
        let never = self.known.keys().filter(|worker| !members.contains(worker));
        self.report.never_members = never.count() as u64;
        let first = self.report.workers.first().map(|stay| stay.joined);
        let zero: f64 = self.report.zero.iter().map(|(_, seconds)| seconds).sum();
        let with_any = first.map_or(0.0, |first| {
            end.0.saturating_sub(first.0) as f64 / 1e3 - zero
        });
        if with_any > 0.0 {
            self.report.workers_mean = self.member_seconds / with_any;
        }
        self.report
    }
}
