//! Events as sentences: what is printed above the progress line.
//!
//! Every event is in `events.jsonl`; a person is told who came, who left and
//! why, what it cost, and what went wrong. The rest stays in the file.

use super::events::{Event, InstallReason, LeaveReason};
use super::progress::{number, seconds};
use super::{count, listed};
use crate::world::WorkerId;

/// How a sentence is meant, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Plain,
    /// Help has come.
    Good,
    /// Somebody left, or somebody is waited for.
    Warning,
    /// Something is broken.
    Bad,
}

/// A sentence and its tone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headline {
    /// How it is meant.
    pub tone: Tone,
    /// What is said; not yet [`printable`](super::printable).
    pub text: String,
}

impl Headline {
    /// A sentence of that tone.
    pub fn new(tone: Tone, text: impl Into<String>) -> Headline {
        Headline {
            tone,
            text: text.into(),
        }
    }
}

/// `worker 3 (spot-7f, cpu)`, `worker 3 (spot-7f)`, `worker 3`.
pub fn worker_label(worker: WorkerId, name: &str, devices: &str) -> String {
    let about: Vec<&str> = [name, devices]
        .into_iter()
        .filter(|t| !t.is_empty())
        .collect();
    if about.is_empty() {
        format!("worker {worker}")
    } else {
        format!("worker {worker} ({})", about.join(", "))
    }
}

impl Event {
    /// What a person is told, if anything.
    pub fn headline(&self) -> Option<Headline> {
        let said = |tone, text: String| Some(Headline { tone, text });
        match self {
            Event::WorkerJoined {
                worker,
                name,
                devices,
                step,
                ..
            } => {
                let who = worker_label(*worker, name, devices);
                said(Tone::Good, format!("+ {who} joined at step {step}"))
            }
            Event::WorkerLeft {
                worker,
                reason,
                why,
                recomputed_micro_batches: again,
                last_error,
                ..
            } => Some(left(*worker, *reason, why, *again, last_error.as_deref())),
            Event::GenerationInstalled { .. } => self.installed(),
            Event::RunResumed { .. }
            | Event::WorldLost { .. }
            | Event::CheckpointFailed { .. }
            | Event::CheckpointDamaged { .. } => self.about_checkpoints(),
            Event::StateMismatch { .. }
            | Event::SumDiffers { .. }
            | Event::StepSkipped { .. }
            | Event::RoundedToZero { .. }
            | Event::KindsChanged { .. } => self.about_numbers(),
            Event::DrainRequested {
                worker, name, why, ..
            } => {
                let who = worker_label(*worker, name, "");
                said(
                    Tone::Plain,
                    format!("  {who} leaves after this round: {why}"),
                )
            }
            Event::Flapping {
                worker,
                name,
                losses,
                seconds: wait,
            } => {
                let who = worker_label(*worker, name, "");
                let text = format!(
                    "… {who} was lost {losses} times lately: it follows, and joins in {}",
                    seconds(*wait)
                );
                said(Tone::Warning, text)
            }
            Event::CrashLoop {
                node,
                step,
                times,
                last_error,
                ..
            } => {
                let error = last_error.lines().next().unwrap_or_default();
                let text = format!(
                    "! {node} crashed {times} times at step {step} in the same way, and isn't \
                     taken in any more: {error}"
                );
                said(Tone::Bad, text)
            }
            Event::Suspicious { problem } => said(Tone::Warning, format!("! {problem}")),
            Event::ConnectionRefused { peer, problem } => {
                said(Tone::Warning, format!("! refused {peer}: {problem}"))
            }
            Event::Stalled { missing, next, .. } => {
                let names: Vec<String> = missing
                    .iter()
                    .map(|m| format!("{} ({})", m.name, seconds(m.since_seconds)))
                    .collect();
                said(
                    Tone::Warning,
                    format!("… waiting for {}; next: {next}", listed(&names)),
                )
            }
            Event::Paused {
                members,
                minimum,
                step,
            } => {
                let text = match (members, minimum) {
                    (0, 1) => format!(
                        "… paused at step {step}: all workers have left; \
                         training goes on when one comes"
                    ),
                    (0, _) => format!(
                        "… paused at step {step}: all workers have left; \
                         training goes on when {minimum} have come"
                    ),
                    _ => {
                        let have = count(*members, "worker");
                        format!("… paused at step {step}: {have}, {minimum} needed")
                    }
                };
                said(Tone::Warning, text)
            }
            Event::WriterChanged { shadow, .. } => match shadow {
                Some(_) => said(
                    Tone::Good,
                    "  the shadow has caught up: it writes the checkpoints".into(),
                ),
                None => said(
                    Tone::Warning,
                    "  without a shadow: the workers write the checkpoints".into(),
                ),
            },
            Event::ShadowTooSlow {
                rounds_per_second,
                able,
                kept,
                ..
            } => {
                let then = match kept {
                    true => "training goes on ahead of it, unprotected",
                    false => "it is let go (--shadow on keeps it)",
                };
                let text = format!(
                    "  the shadow can't keep up: {rounds_per_second:.0} rounds a second, it can do {able:.0}; {then}"
                );
                said(Tone::Warning, text)
            }
            Event::HotSpare { worker, name } => said(
                Tone::Good,
                format!("  worker {worker} ({name}) follows as a hot spare"),
            ),
            Event::IdleWorkers {
                workers,
                micro_batches,
                members_max,
            } => {
                let why = if *members_max < u64::from(*micro_batches) {
                    format!("--max-world-size is {members_max}")
                } else {
                    format!("a step has only {}", batches(u64::from(*micro_batches)))
                };
                said(Tone::Warning, format!("  idle, {why}: {}", listed(workers)))
            }
            Event::EarlyStopped {
                epoch,
                monitor,
                best,
                patience,
                ..
            } => {
                let best = number(*best);
                let waited = count(*patience, "evaluation");
                let why = format!("{monitor} no better than {best} for {waited}");
                said(
                    Tone::Plain,
                    format!("  stopping early after epoch {epoch}: {why}"),
                )
            }
            Event::Stopped { step, reason } => {
                said(Tone::Plain, format!("  stopped at step {step}: {reason}"))
            }
            Event::Failed { step, error } => {
                let step = step.map_or(String::new(), |step| format!(" at step {step}"));
                said(Tone::Bad, format!("! failed{step}: {error}"))
            }
            Event::RunStarted { .. }
            | Event::WorkerRegistered(_)
            | Event::CheckpointCommitted { .. }
            | Event::EpochEnded { .. }
            | Event::Finished { .. } => None,
        }
    }

    /// A planned change is told by who came or left; a loss by what it cost.
    fn installed(&self) -> Option<Headline> {
        let Event::GenerationInstalled {
            generation,
            members,
            step,
            reason,
            recomputed_micro_batches,
            ..
        } = self
        else {
            return None;
        };
        let again = recomputed(*recomputed_micro_batches);
        let world = count(members.len() as u64, "worker");
        let text = match reason {
            InstallReason::Started | InstallReason::Planned => return None,
            InstallReason::Disconnected => {
                format!("  two workers found each other again: {world} (gen {generation}); {again}")
            }
            InstallReason::Standstill => {
                format!("  the round is exchanged anew: {world} (gen {generation}); {again}")
            }
            InstallReason::Returned => {
                format!("  a worker is back: {world} (gen {generation}); {again}")
            }
            InstallReason::Loss => {
                format!("  {world} from step {step} (gen {generation}); {again}")
            }
            InstallReason::Restarted => {
                format!(
                    "  coordinator is back: {world} from step {step} (gen {generation}); {again}"
                )
            }
        };
        Some(Headline::new(Tone::Plain, text))
    }

    fn about_checkpoints(&self) -> Option<Headline> {
        match self {
            Event::RunResumed {
                step, steps_lost, ..
            } => {
                let lost = count(*steps_lost, "step");
                let lost = if *steps_lost == 0 {
                    String::new()
                } else {
                    format!("; {lost} done again")
                };
                Some(Headline::new(
                    Tone::Plain,
                    format!("  resumed from step {step}{lost}"),
                ))
            }
            Event::WorldLost { step, shadow, .. } => {
                let rest = match shadow {
                    true => "the shadow holds what they had",
                    false => "a checkpoint brings it back",
                };
                let text = format!("! all workers are gone after step {step}; {rest}");
                Some(Headline::new(Tone::Bad, text))
            }
            Event::CheckpointFailed {
                step, url, problem, ..
            } => {
                let text = format!(
                    "! checkpoint of step {step} not written to {url}: {problem}; training goes on"
                );
                Some(Headline::new(Tone::Bad, text))
            }
            Event::CheckpointDamaged {
                url,
                problem,
                used_instead,
                ..
            } => {
                let instead = match used_instead {
                    Some(url) => format!("using {url}"),
                    None => "there is none before it".to_owned(),
                };
                let text = format!("! damaged checkpoint {url}: {problem}; {instead}");
                Some(Headline::new(Tone::Bad, text))
            }
            _ => None,
        }
    }

    fn about_numbers(&self) -> Option<Headline> {
        match self {
            Event::StepSkipped {
                step,
                kind,
                micro_batch,
                sample_indices,
                parameters,
                ..
            } => {
                let samples: Vec<String> = sample_indices.iter().map(u64::to_string).collect();
                let place = format!("micro-batch {micro_batch} (samples {})", listed(&samples));
                let (kind, of) = (kind.name(), listed(parameters));
                let text = format!("! step {step} skipped: {kind} gradient in {place} of {of}");
                Some(Headline::new(Tone::Bad, text))
            }
            Event::StateMismatch {
                step,
                digests,
                culprits,
                agreed,
                ..
            } => {
                let who = match culprits.is_empty() {
                    true => "who is wrong isn't known yet".to_owned(),
                    false => format!("worker {} is wrong", listed(culprits)),
                };
                let text = format!(
                    "! the members hold {} different states after step {step}, the same after \
                     step {agreed}: {who}",
                    digests.len()
                );
                Some(Headline::new(Tone::Bad, text))
            }
            Event::SumDiffers {
                step,
                before,
                now,
                exact,
            } => {
                let text = format!(
                    "! step {step} was trained again and came to another sum: {before} before, \
                     {now} now"
                );
                let (tone, text) = match exact {
                    true => (Tone::Bad, text),
                    false => (Tone::Plain, format!("{text}, on another numerics kind")),
                };
                Some(Headline::new(tone, text))
            }
            Event::RoundedToZero {
                epoch,
                fraction_bits,
                shares,
                ..
            } => {
                let mut worst: Vec<(&String, &f64)> = shares.iter().collect();
                worst.sort_by(|a, b| b.1.total_cmp(a.1));
                let worst: Vec<String> = worst
                    .iter()
                    .map(|(name, share)| format!("{name} {:.1} %", *share * 100.0))
                    .collect();
                let text = format!(
                    "! gradients of epoch {epoch} too small for {fraction_bits} fraction bits \
                     (exact.fraction_bits), lost: {}",
                    listed(&worst)
                );
                Some(Headline::new(Tone::Warning, text))
            }
            Event::KindsChanged { kinds, exact } => {
                let text = format!("  numerics kinds: {} (exact: {exact})", listed(kinds));
                let tone = if *exact { Tone::Plain } else { Tone::Warning };
                Some(Headline::new(tone, text))
            }
            _ => None,
        }
    }
}

fn left(
    worker: WorkerId,
    reason: LeaveReason,
    why: &str,
    recomputed_micro_batches: Option<u64>,
    last_error: Option<&str>,
) -> Headline {
    // An error explains a failure; a lost node's last words only confuse.
    let failed = matches!(reason, LeaveReason::Crashed | LeaveReason::Evicted);
    let cause = last_error
        .filter(|_| failed)
        .unwrap_or(why)
        .lines()
        .next()
        .unwrap_or_default();
    let cause = if cause.is_empty() {
        String::new()
    } else {
        format!(" ({cause})")
    };
    let mut text = format!("- worker {worker} left: {}{cause}", reason.name());
    if let Some(n) = recomputed_micro_batches {
        text.push_str(&format!("; {}", recomputed(n)));
    }
    let tone = if failed { Tone::Bad } else { Tone::Warning };
    Headline { tone, text }
}

fn recomputed(micro_batches: u64) -> String {
    format!("{} recomputed", batches(micro_batches))
}

/// `1 micro-batch`, `3 micro-batches`.
pub(crate) fn batches(n: u64) -> String {
    if n == 1 {
        "1 micro-batch".to_owned()
    } else {
        format!("{n} micro-batches")
    }
}

#[cfg(test)]
mod tests;
