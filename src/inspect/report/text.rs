//! The report as a page of text.

use super::figures::{Loss, Report, Stay};
use crate::inspect::clock::{date_and_time, time_of_day};
use crate::inspect::thousands;
use crate::observe::headline::batches as micro_batches;
use crate::observe::progress::{number, seconds};
use crate::observe::{UnixMillis, count, printable};

/// Workers, losses, absences and notes that are listed; of more, the last ones.
const LISTED: usize = 40;

impl Report {
    /// For a person, line by line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.head();
        lines.extend(self.members());
        lines.extend(self.costs());
        lines.extend(self.coordinator_and_checkpoints());
        lines.extend(self.paces());
        lines.extend(self.skipped());
        if !self.notes.is_empty() {
            lines.extend(["".into(), "also".into()]);
            let notes = self.notes.iter().map(|(time, text)| {
                let time = self.time(*time);
                format!("  {time}  {text}")
            });
            lines.extend(last_of(notes.collect()));
        }
        let lines = lines.iter();
        lines.map(|line| printable(line.trim_end())).collect()
    }

    fn head(&self) -> Vec<String> {
        let steps = thousands(self.steps);
        let of = self
            .steps_planned
            .filter(|planned| *planned != self.steps)
            .map_or(String::new(), |planned| {
                format!(" of {}", thousands(planned))
            });
        let after = seconds(self.seconds());
        let mut lines = vec![
            format!(
                "run {} ({}): {}, {steps}{of} steps",
                self.run, self.job, self.status
            ),
            format!(
                "  {} to {} UTC, {after}",
                date_and_time(self.began),
                self.time(self.ended)
            ),
        ];
        lines.extend(self.why.as_ref().map(|why| format!("  because: {why}")));
        let parent = self.parent.as_ref();
        lines.extend(parent.map(|(run, step)| format!("  goes on from run {run} at step {step}")));
        let values = self.last_values.iter();
        let values: Vec<String> = values
            .filter(|(name, _)| *name != "rounded_to_zero")
            .map(|(name, value)| format!("{name} {}", number(*value)))
            .collect();
        if !values.is_empty() {
            lines.push(format!("  {}", values.join("  ")));
        }
        let weights = self.weights_sha256.as_ref();
        lines.extend(weights.map(|sha| format!("  weights sha256:{sha}")));
        if self.kinds.len() > 1 {
            lines.push(format!(
                "  not exact: numerics kinds {}",
                self.kinds.join(", ")
            ));
        }
        lines
    }

    fn members(&self) -> Vec<String> {
        let zero: f64 = self.zero.iter().map(|(_, seconds)| seconds).sum();
        let none = match self.zero.is_empty() {
            true => String::new(),
            false => format!("; none for {}", seconds(zero)),
        };
        let mut lines = vec![
            String::new(),
            format!(
                "workers  {} took part, at most {} at once, {:.1} on average{none}",
                self.workers.len(),
                self.workers_max,
                self.workers_mean,
            ),
        ];
        if self.never_members > 0 {
            let waited = count(self.never_members, "worker");
            lines.push(format!("  {waited} registered and never became a member"));
        }
        let cost: Vec<f64> = self.workers.iter().filter_map(|stay| stay.cost).collect();
        if !cost.is_empty() {
            let sum: f64 = cost.iter().sum();
            let of = count(cost.len() as u64, "worker");
            lines.push(format!(
                "  cost ${sum:.4}, for the {of} whose price is known"
            ));
        }
        let names = self.workers.iter().map(|stay| stay.name.chars().count());
        let width = names.max().unwrap_or(0).max(4);
        let mut rows = vec![format!(
            "  {:<7} {:<width$} {:<8} {:>9} {:>9} {:>9} {:>8}  left",
            "worker", "node", "devices", "came", "at step", "to step", "stayed"
        )];
        let stays = self.workers.iter().map(|stay| self.stay(stay, width));
        rows.extend(last_of(stays.collect()));
        lines.extend(rows);
        if !self.zero.is_empty() {
            let absences = self.zero.iter().map(|(from, lasted)| {
                format!(
                    "  nobody from {} for {}",
                    self.time(*from),
                    seconds(*lasted)
                )
            });
            lines.extend(last_of(absences.collect()));
        }
        lines
    }

    fn stay(&self, stay: &Stay, width: usize) -> String {
        let left = match (stay.left, stay.reason) {
            (None, _) if self.status == "running" => "is here".to_owned(),
            (None, _) => "stayed to the end".to_owned(),
            (Some(_), None) => "with everybody".to_owned(),
            (Some(_), Some(reason)) if stay.why.is_empty() => reason.to_owned(),
            (Some(_), Some(reason)) => format!("{reason}: {}", stay.why),
        };
        let left = match stay.left {
            Some(time) => format!("{}  {left}", self.time(time)),
            None => left,
        };
        format!(
            "  {:<7} {:<width$} {:<8} {:>9} {:>9} {:>9} {:>8}  {left}",
            stay.worker.to_string(),
            stay.name,
            stay.devices,
            self.time(stay.joined),
            thousands(stay.joined_step),
            stay.left_step.map_or("-".into(), thousands),
            seconds(stay.seconds),
        )
    }

    fn costs(&self) -> Vec<String> {
        if self.losses.is_empty() {
            return vec![String::new(), "losses   none".into()];
        }
        let known = self.losses.iter().filter_map(|loss| loss.seconds);
        let batches: u64 = self.losses.iter().map(|loss| loss.micro_batches).sum();
        let again: u64 = self.losses.iter().map(|loss| loss.steps_again).sum();
        let after = self.losses.iter().filter(|loss| loss.steps_again > 0);
        let after: u64 = after.map(|loss| loss.micro_batches).sum();
        let steps = match again {
            0 => String::new(),
            again => format!(
                ", {} of them in {}",
                thousands(after),
                count(again, "whole step")
            ),
        };
        let mut lines = vec![
            String::new(),
            format!(
                "losses   {}: {} of waiting, {} again{steps}",
                self.losses.len(),
                milliseconds(known.fold(0.0, |sum, cost| sum + cost)),
                micro_batches(batches),
            ),
            format!(
                "  {:<8} {:>9} {:<10} {:>9} {:>13}  what",
                "time", "step", "generation", "cost", "micro-batches"
            ),
        ];
        let rows = self.losses.iter().map(|loss| self.loss(loss));
        lines.extend(last_of(rows.collect()));
        lines
    }

    fn loss(&self, loss: &Loss) -> String {
        format!(
            "  {} {:>9} {:<10} {:>9} {:>13}  {}",
            self.time(loss.time),
            thousands(loss.step),
            loss.generation,
            loss.seconds.map_or("-".into(), milliseconds),
            thousands(loss.micro_batches),
            match loss.steps_again {
                0 => loss.what.clone(),
                again => format!("{} ({} done again)", loss.what, count(again, "step")),
            },
        )
    }

    fn coordinator_and_checkpoints(&self) -> Vec<String> {
        let starts = count(u64::from(self.coordinator_starts), "start");
        let mut lines = vec![String::new(), format!("coordinator  {starts}")];
        let restarts = self.restarts.iter().map(|(time, step, generation)| {
            let time = self.time(*time);
            format!(
                "  {time}  back at step {} (gen {generation})",
                thousands(*step)
            )
        });
        lines.extend(last_of(restarts.collect()));
        let checkpoints = &self.checkpoints;
        let last = checkpoints.last_step.map_or(String::new(), |step| {
            format!(", the last at step {}", thousands(step))
        });
        let mut line = format!("checkpoints  {} written{last}", checkpoints.committed);
        for (n, what) in [
            (checkpoints.failed, "failed"),
            (checkpoints.damaged, "damaged"),
        ] {
            if n > 0 {
                line.push_str(&format!("; {n} {what}"));
            }
        }
        lines.push(line);
        lines
    }

    fn paces(&self) -> Vec<String> {
        let Some(pace) = &self.pace else {
            return Vec::new();
        };
        let mut lines = vec![format!(
            "steps        {} each (median), 1 in 100 over {}; the slowest:",
            milliseconds(pace.median_ms / 1e3),
            milliseconds(pace.p99_ms / 1e3)
        )];
        for (step, ms, happened) in &pace.slowest {
            lines.push(format!(
                "  step {:>9} {:>9}  {happened}",
                thousands(*step),
                milliseconds(ms / 1e3)
            ));
        }
        lines
    }

    fn skipped(&self) -> Option<String> {
        let (first, last) = (self.skipped.first()?, self.skipped.last()?);
        let which = match first == last {
            true => format!("step {first}"),
            false => format!(
                "{}, {first} to {last}",
                count(self.skipped.len() as u64, "step")
            ),
        };
        Some(format!(
            "skipped      {which}: a gradient was not finite or out of range; why: \
             ebbtide replay {} --step {first}",
            self.run
        ))
    }

    fn seconds(&self) -> f64 {
        self.ended.0.saturating_sub(self.began.0) as f64 / 1e3
    }

    /// Of a run that went on over midnight, the day too.
    fn time(&self, time: UnixMillis) -> String {
        const DAY: u64 = 86_400_000;
        match self.began.0 / DAY == self.ended.0 / DAY {
            true => time_of_day(time),
            false => date_and_time(time),
        }
    }
}

/// `1.9ms`, and from a second on as everywhere.
fn milliseconds(value: f64) -> String {
    match value {
        value if value < 0.1 => format!("{:.1}ms", value * 1e3),
        value if value < 1.0 => format!("{:.0}ms", value * 1e3),
        value => seconds(value),
    }
}

fn last_of(mut rows: Vec<String>) -> Vec<String> {
    let hidden = rows.len().saturating_sub(LISTED);
    if hidden > 0 {
        rows.drain(..hidden);
        rows.insert(0, format!("  ({hidden} before these; --json has all)"));
    }
    rows
}
