//! What serde can't see: divisors, limits, contradictions between keys.
//!
//! Each check names the key to change, with its place, and says what would be
//! accepted. The first one that fails is reported.

use super::Place;
use super::errors::JobError;
use super::load::{local_path, segments};
use super::spec::{Every, Job, MICRO_BATCHES_MAX, Mode};

/// Longest name of a job: it becomes part of paths.
const NAME_CHARS_MAX: usize = 64;

const GLOBAL_BATCH: &str = "train.global_batch";
const MICRO_BATCH: &str = "train.micro_batch";

impl Job {
    /// Spells out the defaults that depend on other keys.
    pub(super) fn fill_defaults(&mut self) {
        if self.train.steps.is_some() {
            self.train.epochs = None;
        }
        self.optimizer = self.optimizer.resolved();
        if let Some(stopping) = &mut self.early_stopping {
            stopping.mode = stopping.mode.or_else(|| Mode::of(&stopping.monitor));
        }
        if let Some(metric) = &self.checkpoint.keep_best {
            let mode = self.checkpoint.keep_best_mode.or_else(|| Mode::of(metric));
            let same = self
                .early_stopping
                .as_ref()
                .filter(|stopping| &stopping.monitor == metric);
            self.checkpoint.keep_best_mode = mode.or_else(|| same.and_then(|s| s.mode));
        }
    }

    /// Everything that has to hold between and within the keys.
    pub(super) fn validate(&self) -> Result<(), JobError> {
        self.validate_name()?;
        self.validate_locations()?;
        self.validate_length()?;
        self.validate_batches()?;
        self.validate_optimizer()?;
        self.validate_monitors()?;
        self.at_least_one(
            "evaluation.micro_batch",
            u64::from(self.evaluation.micro_batch),
        )?;
        self.at_least_one("checkpoint.keep_last", u64::from(self.checkpoint.keep_last))?;
        self.at_least_one("verify.every", self.verify.every)?;
        self.at_least_one("log.every", self.log.every)?;
        let bits = self.exact.fraction_bits;
        if !(8..=48).contains(&bits) {
            return Err(self.wrong("exact.fraction_bits", bits));
        }
        Ok(())
    }

    fn validate_name(&self) -> Result<(), JobError> {
        let fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = &self.name;
        let ok = !name.is_empty()
            && name.len() <= NAME_CHARS_MAX
            && !name.starts_with('.')
            && name.chars().all(fit);
        if ok {
            return Ok(());
        }
        let problem = format!(
            "expected 1 to {NAME_CHARS_MAX} letters, digits, `.`, `_` or `-`, not beginning with \
             `.` (it becomes part of paths); found \"{name}\""
        );
        Err(self.error("name", problem))
    }

    fn validate_locations(&self) -> Result<(), JobError> {
        let local = |key: &str, location: &str| match local_path(location) {
            None if location.starts_with("file://") => Err(self.error(
                key,
                format!("expected file:/// and an absolute path; found \"{location}\""),
            )),
            _ => Ok(()),
        };
        local("data.url", &self.data.url)?;
        let Some(init) = &self.init else {
            return Ok(());
        };
        local("init.from", &init.from)?;
        if init.from.is_empty() {
            return Err(self.wrong("init.from", "\"\""));
        }
        match &init.sha256 {
            Some(hex) if hex.len() != 64 || !hex.chars().all(|c| c.is_ascii_hexdigit()) => {
                Err(self.wrong("init.sha256", format!("\"{hex}\"")))
            }
            _ => Ok(()),
        }
    }

    fn validate_length(&self) -> Result<(), JobError> {
        match (self.train.steps, self.train.epochs) {
            (Some(steps), _) => self.at_least_one("train.steps", steps),
            (None, Some(epochs)) => self.at_least_one("train.epochs", epochs),
            (None, None) => Err(self.error(
                "train",
                "has no length; expected train.epochs or train.steps",
            )),
        }
    }

    fn validate_batches(&self) -> Result<(), JobError> {
        let (global, micro) = (self.train.global_batch, self.train.micro_batch);
        self.at_least_one(GLOBAL_BATCH, u64::from(global))?;
        self.at_least_one(MICRO_BATCH, u64::from(micro))?;
        if !global.is_multiple_of(micro) {
            return Err(self.indivisible(global, micro));
        }
        let micro_batches = self.train.micro_batches();
        if micro_batches <= MICRO_BATCHES_MAX {
            return Ok(());
        }
        let smallest = (global.div_ceil(MICRO_BATCHES_MAX)..=global)
            .find(|size| global.is_multiple_of(*size))
            .unwrap_or(global);
        let place = self.source.place(&segments(GLOBAL_BATCH));
        let problem = format!(
            "cuts {GLOBAL_BATCH} = {global} ({place}) into {micro_batches} micro-batches; expected \
             at most {MICRO_BATCHES_MAX}; the smallest possible is {smallest}"
        );
        Err(self.error(MICRO_BATCH, problem))
    }

    /// Who has overridden only one of the two wants to hear about that one.
    fn indivisible(&self, global: u32, micro: u32) -> JobError {
        let global_place = self.source.place(&segments(GLOBAL_BATCH));
        let micro_place = self.source.place(&segments(MICRO_BATCH));
        if matches!(global_place, Place::Set(_)) && !matches!(micro_place, Place::Set(_)) {
            let below = global - global % micro;
            let above = u64::from(below) + u64::from(micro);
            let nearest = match below {
                0 => above.to_string(),
                below => format!("{below} or {above}"),
            };
            let problem = format!(
                "expected a multiple of {MICRO_BATCH} = {micro} ({micro_place}); found {global}; \
                 the nearest is {nearest}"
            );
            return self.error(GLOBAL_BATCH, problem);
        }
        let nearest = (1..=global.min(1 << 16))
            .filter(|size| global.is_multiple_of(*size))
            .min_by_key(|size| size.abs_diff(micro))
            .unwrap_or(global);
        let problem = format!(
            "expected a divisor of {GLOBAL_BATCH} = {global} ({global_place}); found {micro}; the \
             nearest is {nearest}"
        );
        self.error(MICRO_BATCH, problem)
    }

    fn validate_monitors(&self) -> Result<(), JobError> {
        if let Some(stopping) = &self.early_stopping {
            self.validate_monitor("early_stopping.monitor", &stopping.monitor)?;
            self.at_least_one("early_stopping.patience", u64::from(stopping.patience))?;
            if !(stopping.min_delta.is_finite() && stopping.min_delta >= 0.0) {
                return Err(self.wrong("early_stopping.min_delta", stopping.min_delta));
            }
        }
        match (&self.checkpoint.keep_best, self.checkpoint.keep_best_mode) {
            (Some(metric), _) => self.validate_monitor("checkpoint.keep_best", metric),
            (None, Some(_)) => Err(self.error(
                "checkpoint.keep_best_mode",
                "expected only beside checkpoint.keep_best, which is not set",
            )),
            (None, None) => Ok(()),
        }
    }

    /// Whether there is such a metric, only the model can tell: see `Course::new`.
    fn validate_monitor(&self, key: &str, monitor: &str) -> Result<(), JobError> {
        if monitor.starts_with("val_") && self.evaluation.every == Every::Never {
            let place = self.source.place(&segments("evaluation.every"));
            let problem = format!(
                "\"{monitor}\" is never measured: evaluation.every is \"never\" ({place}); \
                 expected a `train_` metric, or an evaluation"
            );
            return Err(self.error(key, problem));
        }
        Ok(())
    }

    fn validate_optimizer(&self) -> Result<(), JobError> {
        // Which keys its kind knows and what they take is the optimizer's own business.
        self.optimizer
            .validate()
            .map_err(|error| self.error(&error.key, error.problem.to_string()))
    }

    fn at_least_one(&self, key: &str, value: u64) -> Result<(), JobError> {
        if value == 0 {
            Err(self.wrong(key, 0))
        } else {
            Ok(())
        }
    }

    /// The value of `key` isn't what the key takes.
    fn wrong(&self, key: &str, found: impl std::fmt::Display) -> JobError {
        let expected = super::keys::expected(&segments(key)).unwrap_or("another value");
        self.error(key, format!("expected {expected}; found {found}"))
    }
}
