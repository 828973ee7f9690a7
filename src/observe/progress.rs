//! One epoch as one line, in the manner of Keras' `fit`:
//!
//! ```text
//! epoch 5/5  938/938 [==============] 0.6s 0.64ms/step  loss 0.0520  accuracy 0.9850   2 workers  gen 1.3
//! ```
//!
//! While the epoch runs, the time is what remains (`eta 0.3s`). In a narrow
//! terminal the line gives up what a reader misses least, piece by piece, and
//! in the end is cut: it never wraps, because a wrapped line can't be redrawn.

use super::count;
use crate::world::Generation;

/// Characters of a whole bar, as in Keras' older, ASCII look.
const BAR: usize = 14;
/// A shorter bar says nothing.
const BAR_MIN: usize = 5;

/// What one line shows. Everything is a plain value: formatting decides nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochLine {
    /// The running epoch, counted from 1.
    pub epoch: u64,
    /// Of how many; unknown when the job counts steps.
    pub epochs: Option<u64>,
    /// Steps of this epoch that are done.
    pub step: u64,
    /// Steps of a whole epoch.
    pub steps: u64,
    /// Seconds that this process has watched the epoch.
    pub seconds: f64,
    /// Steps done in those seconds; fewer than `step` after a resume.
    pub timed_steps: u64,
    /// Whether the epoch is over (its evaluation too).
    pub done: bool,
    /// Names and means, in the order in which they are shown: `loss` first.
    pub values: Vec<(String, f64)>,
    /// Members of the world.
    pub workers: u64,
    /// Its generation.
    pub generation: Option<Generation>,
}

/// Which pieces of the line are shown.
#[derive(Clone, Copy)]
struct Detail {
    generation: bool,
    long_names: bool,
    pace: bool,
    bar: bool,
    workers: bool,
    time: bool,
}

const ALL: Detail = Detail {
    generation: true,
    long_names: true,
    pace: true,
    bar: true,
    workers: true,
    time: true,
};

/// From everything to least, each giving up one more piece.
const LADDER: [Detail; 7] = {
    let no_generation = Detail {
        generation: false,
        ..ALL
    };
    let short = Detail {
        long_names: false,
        ..no_generation
    };
    let no_pace = Detail {
        pace: false,
        ..short
    };
    let no_bar = Detail {
        bar: false,
        ..no_pace
    };
    let no_workers = Detail {
        workers: false,
        ..no_bar
    };
    let no_time = Detail {
        time: false,
        ..no_workers
    };
    [
        ALL,
        no_generation,
        short,
        no_pace,
        no_bar,
        no_workers,
        no_time,
    ]
};

impl EpochLine {
    /// The whole line, however long.
    pub fn full(&self) -> String {
        self.compose(ALL, BAR)
    }

    /// The whole line without the bar, for a pipe or a log.
    pub fn plain(&self) -> String {
        self.compose(Detail { bar: false, ..ALL }, 0)
    }

    /// The line in at most `columns` terminal columns.
    pub fn fit(&self, columns: usize) -> String {
        for detail in LADDER {
            let bare = width(&self.compose(detail, 0));
            let spare = columns.saturating_sub(bare).min(BAR);
            let fits = if detail.bar {
                bare + BAR_MIN <= columns
            } else {
                bare <= columns
            };
            if fits {
                return self.compose(detail, spare);
            }
        }
        cut(&self.compose(LADDER[LADDER.len() - 1], 0), columns)
    }

    fn compose(&self, detail: Detail, bar: usize) -> String {
        let mut line = format!("epoch {}", self.epoch);
        if let Some(epochs) = self.epochs {
            line.push_str(&format!("/{epochs}"));
        }
        // Padded to the final width, so that nothing to the right moves.
        let digits = self.steps.to_string().len();
        line.push_str(&format!("  {:>digits$}/{}", self.step, self.steps));
        if detail.bar {
            line.push_str(&format!(" [{}]", self.bar(bar)));
        }
        let pace = self.seconds_per_step();
        if detail.time {
            line.push_str(&self.time(pace));
        }
        if let (true, Some(pace)) = (detail.pace, pace) {
            line.push_str(&format!(" {}", step_time(pace)));
        }
        for (name, value) in &self.values {
            let name = if detail.long_names {
                name.clone()
            } else {
                short(name)
            };
            line.push_str(&format!("  {name} {}", number(*value)));
        }
        if detail.workers {
            line.push_str(&format!("   {}", count(self.workers, "worker")));
        }
        if let (true, Some(generation)) = (detail.generation, self.generation) {
            line.push_str(&format!("  gen {generation}"));
        }
        line
    }

    fn bar(&self, cells: usize) -> String {
        if self.step >= self.steps {
            return "=".repeat(cells);
        }
        // Wide enough for any step count; the quotient is below `cells`.
        let filled = (self.step as u128 * cells as u128 / self.steps as u128) as usize;
        let head = usize::from(filled < cells);
        format!(
            "{}{}{}",
            "=".repeat(filled),
            ">".repeat(head),
            ".".repeat(cells - filled - head)
        )
    }

    fn seconds_per_step(&self) -> Option<f64> {
        (self.timed_steps > 0 && self.seconds >= 0.0)
            .then(|| self.seconds / self.timed_steps as f64)
    }

    fn time(&self, pace: Option<f64>) -> String {
        if self.done {
            return pace.map_or(String::new(), |_| format!(" {}", seconds(self.seconds)));
        }
        let left = self.steps.saturating_sub(self.step) as f64;
        pace.map_or(String::new(), |pace| {
            format!(" eta {}", seconds(pace * left))
        })
    }
}

/// A loss or metric as Keras prints it: four decimals, or an exponent where
/// four decimals would say nothing.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        format!("{value}").to_lowercase()
    } else if size == 0.0 || (1e-3..1e6).contains(&size) {
        format!("{value:.4}")
    } else {
        format!("{value:.4e}")
    }
}

/// A duration for people: `0.6s`, `59.9s`, `2m05s`, `1h02m`, `3d04h`.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "?".to_owned();
    }
    if value < 59.95 {
        return format!("{value:.1}s");
    }
    let whole = value.round() as u64;
    let (minutes, hours) = (whole / 60, whole / 3600);
    match hours {
        0 => format!("{minutes}m{:02}s", whole % 60),
        1..48 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{}d{:02}h", hours / 24, hours % 24),
    }
}

/// The pace of training with three significant digits or so: `0.64ms/step`.
fn step_time(seconds_per_step: f64) -> String {
    let ms = seconds_per_step * 1e3;
    if ms < 9.995 {
        format!("{ms:.2}ms/step")
    } else if ms < 99.95 {
        format!("{ms:.1}ms/step")
    } else if ms < 9_999.5 {
        format!("{ms:.0}ms/step")
    } else {
        format!("{seconds_per_step:.1}s/step")
    }
}

/// The names people abbreviate anyway.
fn short(name: &str) -> String {
    name.replace("accuracy", "acc")
}

/// An upper bound of the columns that a text takes: whatever isn't ASCII may
/// take two.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// The start of a text in at most `columns` columns, with `~` where it was cut.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        let next = if c.is_ascii() { 1 } else { 2 };
        if width(&kept) + next + 1 > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('~');
    }
    kept
}

#[cfg(test)]
mod tests;
