//! The step as a page of text.

use super::figures::{Cause, FirstOdd, MicroBatchRow, ParameterRow, Replay};
use crate::inspect::thousands;
use crate::observe::{count, printable};

impl Replay {
    /// For a person, line by line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.head();
        lines.extend(self.table_of_micro_batches());
        if !self.samples.is_empty() {
            let samples: Vec<String> = self.samples.iter().map(u64::to_string).collect();
            lines.push(format!("  samples {}", samples.join(", ")));
        }
        lines.extend(self.table_of_parameters());
        for cause in &self.causes {
            lines.extend(["".into()]);
            lines.extend(cause.lines());
        }
        lines.extend(self.table_of_operations());
        lines.iter().map(|l| printable(l.trim_end())).collect()
    }

    fn head(&self) -> Vec<String> {
        let went = match (self.from_step, self.step) {
            (from, step) if from == step => format!("from {}", self.from),
            (from, step) if from + 1 == step => format!("from {}, step {from} again", self.from),
            (from, step) => format!("from {}, steps {from} to {} again", self.from, step - 1),
        };
        let mut lines = vec![
            format!(
                "run {}, step {} (of 0 to {}), epoch {}",
                self.run,
                self.step,
                self.steps - 1,
                self.epoch
            ),
            format!("  {went}; {}", self.sums()),
        ];
        let logged = match &self.logged_sum {
            Some(logged) if *logged == self.sum => "as it was logged".to_owned(),
            Some(logged) => format!("logged was {logged}"),
            None => "none was logged".to_owned(),
        };
        lines.push(format!("  sum {}, {logged}", self.sum));
        let gradient = self.gradient_norm.map_or("-".into(), value);
        lines.push(format!(
            "  of all samples: loss {}{}  gradient norm {gradient}",
            value(self.loss),
            metrics(&self.metrics)
        ));
        let bad = self.micro_batches.iter();
        let bad = bad.filter(|row| !matches!(row.verdict, "clean" | "empty"));
        lines.push(match (self.lr, bad.count()) {
            (Some(lr), _) => format!("  applied with learning rate {lr}"),
            (None, 0) => "  not applied".to_owned(),
            (None, 1) => "  skipped: a micro-batch could not be summed".to_owned(),
            (None, bad) => format!("  skipped: {bad} micro-batches could not be summed"),
        });
        lines
    }

    fn sums(&self) -> String {
        let unknown = match self.unknown {
            0 => String::new(),
            1 => "; 1 sum was not logged".to_owned(),
            n => format!("; {} sums were not logged", thousands(n)),
        };
        match (self.first_difference, self.same) {
            (Some(step), _) => format!("from step {step} on other sums than logged{unknown}"),
            (None, 0) => format!("no sum to compare{unknown}"),
            (None, 1) => format!("its sum is the logged one{unknown}"),
            (None, same) => format!("all {} sums are the logged ones{unknown}", thousands(same)),
        }
    }

    fn table_of_micro_batches(&self) -> Vec<String> {
        let mut lines = vec![
            String::new(),
            format!(
                "{:>11} {:>8} {:>11} {:>13}  verdict",
                "micro-batch", "samples", "loss", "gradient norm"
            ),
        ];
        let row = |row: &MicroBatchRow| {
            format!(
                "{:>11} {:>8} {:>11} {:>13}  {}{}",
                row.micro_batch,
                row.samples,
                value(row.loss),
                value(row.gradient_norm),
                row.verdict,
                metrics(&row.metrics)
            )
        };
        lines.extend(self.micro_batches.iter().map(row));
        lines
    }

    fn table_of_parameters(&self) -> Vec<String> {
        let names = self.parameters.iter().map(|row| row.name.chars().count());
        let width = names.max().unwrap_or(0).max(9);
        let of = match self.of_micro_batch {
            Some(m) => format!("gradient of micro-batch {m}"),
            None => "gradient of the step".to_owned(),
        };
        let head = format!(
            "{:<width$} {:>12} {:>11} {:>11} {:>11} {:>7} {:>11}   ({of})",
            "parameter", "shape", "weight rms", "norm", "largest", "zero", "update rms"
        );
        let row = |row: &ParameterRow| {
            let cells = match &row.gradient {
                None => format!("{:>11} {:>11} {:>7}", "-", "-", "-"),
                Some(gradient) => format!(
                    "{:>11} {:>11} {:>6.1}%",
                    value(gradient.norm),
                    value(gradient.largest),
                    gradient.zeros * 100.0
                ),
            };
            let mut odd = String::new();
            let non_finite = row.gradient.as_ref().map_or(0, |g| g.non_finite);
            for (n, what) in [
                (non_finite, "gradients"),
                (row.weights_non_finite, "weights"),
            ] {
                if n > 0 {
                    odd.push_str(&format!("  {} {what} not finite", thousands(n as u64)));
                }
            }
            format!(
                "{:<width$} {:>12} {:>11} {cells} {:>11}{odd}",
                row.name,
                shape(&row.shape),
                value(row.weight_rms),
                row.update_rms.map_or("-".into(), value),
            )
        };
        let mut lines = vec![String::new(), head];
        lines.extend(self.parameters.iter().map(row));
        lines
    }

    fn table_of_operations(&self) -> Vec<String> {
        let Some(first) = self.operations.first() else {
            return Vec::new();
        };
        let names = self
            .operations
            .iter()
            .map(|row| row.operation.chars().count());
        let width = names.max().unwrap_or(0).max(9);
        let mut lines = vec![
            String::new(),
            format!(
                "{:<width$} {:>12} {:>11} {:>11} {:>7}   (micro-batch {}, in the order of the forward pass)",
                "operation", "shape", "rms", "largest", "zero", first.micro_batch
            ),
        ];
        for row in &self.operations {
            let odd = match row.non_finite {
                0 => String::new(),
                n => format!("  {} not finite", thousands(n as u64)),
            };
            lines.push(format!(
                "{:<width$} {:>12} {:>11} {:>11} {:>6.1}%{odd}",
                row.operation,
                shape(&row.shape),
                value(row.rms),
                value(row.largest),
                row.zeros * 100.0
            ));
        }
        lines
    }
}

impl Cause {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "why micro-batch {} is {}",
            self.micro_batch, self.verdict
        )];
        let samples: Vec<String> = self.samples.iter().map(u64::to_string).collect();
        let (n, of, samples) = (samples.len(), self.of_samples, samples.join(", "));
        lines.push(match (n, self.alone) {
            (1, true) => format!("  sample {samples}, alone (1 of {of})"),
            (_, true) if n == of => format!("  every sample alone: all {of} of them"),
            (_, true) => format!("  samples {samples}, each of them alone ({n} of {of})"),
            (_, false) if n == of => {
                format!("  no sample alone, and no half of them: all {of} together")
            }
            (_, false) => {
                format!("  no sample alone, but samples {samples} together ({n} of {of})")
            }
        });
        for (field, values) in &self.odd_fields {
            let values = count(*values as u64, "value");
            lines.push(format!(
                "  the data itself: field {field} has {values} not finite"
            ));
        }
        if !self.odd_weights.is_empty() {
            let weights = self.odd_weights.join(", ");
            lines.push(format!(
                "  the weights themselves are not finite: {weights}"
            ));
        }
        lines.extend(self.first.as_ref().map(FirstOdd::line));
        let before = self.largest_before.as_ref();
        lines.extend(before.map(|(what, largest)| {
            format!(
                "  the largest value before it is {}, in {what}",
                value(*largest)
            )
        }));
        let parameters: Vec<String> = match self.limit {
            None => self
                .parameters
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            Some(_) => {
                let with =
                    |(name, largest): &(String, f64)| format!("{name} ({})", value(*largest));
                self.parameters.iter().map(with).collect()
            }
        };
        if !parameters.is_empty() {
            let parameters = crate::observe::listed(&parameters);
            lines.push(match self.limit {
                None => format!("  spoils the gradient of {parameters}"),
                Some(limit) => format!(
                    "  all values are finite; gradients of {} and more can't be summed \
                     (exact.fraction_bits): {parameters}",
                    value(limit)
                ),
            });
        }
        lines
    }
}

impl FirstOdd {
    fn line(&self) -> String {
        let FirstOdd {
            pass, operation, ..
        } = self;
        let values = match self.elements {
            0 => String::new(),
            elements => format!(
                ": {} of {} values not finite",
                thousands(self.non_finite as u64),
                thousands(elements as u64)
            ),
        };
        let shape = match &self.shape[..] {
            [] => String::new(),
            dims => format!(", shape {}", shape(dims)),
        };
        format!("  first in the {pass} pass: {operation}{shape}{values}")
    }
}

fn metrics(metrics: &[(String, f64)]) -> String {
    let each = metrics.iter();
    each.map(|(name, of)| format!("  {name} {}", value(*of)))
        .collect()
}

fn shape(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    match dims.is_empty() {
        true => "scalar".to_owned(),
        false => dims.join("x"),
    }
}

/// Five digits, however large or small.
fn value(of: f64) -> String {
    let size = of.abs();
    if !of.is_finite() {
        format!("{of}").to_lowercase()
    } else if size == 0.0 {
        "0".to_owned()
    } else if (1e-2..1e4).contains(&size) {
        format!("{of:.4}")
    } else {
        format!("{of:.3e}")
    }
}
