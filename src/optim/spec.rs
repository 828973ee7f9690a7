//! `[optimizer]` of the job file: kinds, defaults, limits.

use super::error::{Problem, SpecError, check, error};
use super::schedule::ScheduleSpec;
use serde::{Deserialize, Serialize};

/// The most parameter groups of a job.
pub(super) const GROUPS_MAX: usize = 64;
/// The longest name pattern, in bytes.
pub(super) const PATTERN_BYTES_MAX: usize = 256;
/// The smallest epsilon: far enough above the smallest `f32` that it stays a
/// normal number whatever it is multiplied with here.
const EPS_MIN: f64 = 1e-30;

/// Which update rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with Keras' epsilon and defaults.
    #[default]
    Adam,
    /// Adam with decoupled weight decay, with torch's epsilon and defaults.
    AdamW,
    /// Stochastic gradient descent, with or without momentum.
    Sgd,
}

impl OptimizerKind {
    /// The kind as the job file writes it.
    pub fn name(self) -> &'static str {
        match self {
            OptimizerKind::Adam => "adam",
            OptimizerKind::AdamW => "adamw",
            OptimizerKind::Sgd => "sgd",
        }
    }
}

/// The update rule as the job file gives it. What isn't given has the default of
/// its kind; [`OptimizerSpec::resolved`] fills it in.
///
/// | key | adam | adamw | sgd |
/// |---|---|---|---|
/// | `lr` | 0.001 | 0.001 | 0.01 |
/// | `beta1`, `beta2` | 0.9, 0.999 | 0.9, 0.999 | |
/// | `eps` | 1e-7 | 1e-8 | |
/// | `momentum`, `nesterov` | | | 0, false |
/// | `weight_decay` | | 0.01 | 0 |
///
/// A key that the kind doesn't know is an error, not ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// The update rule.
    pub kind: OptimizerKind,
    /// The learning rate that the schedule and the groups multiply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// How much of the first moment survives a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta1: Option<f64>,
    /// How much of the second moment survives a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta2: Option<f64>,
    /// Keeps the division away from zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// How much of the velocity survives a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Nesterov's look-ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Decoupled: a weight loses `lr * weight_decay` of itself each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// The largest global norm of the gradient; a longer one is scaled down to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// How the learning rate changes over the run.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// Other settings for some parameters; of two groups that match one, the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSpec>,
}

/// Settings for the parameters whose name matches a pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// A parameter name in which each `*` stands for any characters, also none.
    pub pattern: String,
    /// Times the learning rate.
    #[serde(default = "one")]
    pub lr_multiplier: f64,
    /// Times the weight decay.
    #[serde(default = "one")]
    pub decay_multiplier: f64,
    /// Neither the weights nor their moments change, and their gradients don't
    /// count in the global norm.
    #[serde(default)]
    pub frozen: bool,
}

fn one() -> f64 {
    1.0
}

/// The update rule with every number given and checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Adam and AdamW.
    Adam {
        /// How much of the first moment survives a step.
        beta1: f64,
        /// How much of the second moment survives a step.
        beta2: f64,
        /// Keeps the division away from zero.
        eps: f64,
        /// Torch's place for epsilon instead of Keras': beside the corrected moment.
        eps_corrected: bool,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// How much of the velocity survives a step; 0: there is none.
        momentum: f64,
        /// Nesterov's look-ahead.
        nesterov: bool,
    },
}

impl OptimizerSpec {
    /// The same optimizer with every default written out, as it is filed and hashed.
    pub fn resolved(&self) -> OptimizerSpec {
        let mut spec = self.clone();
        let adam = self.kind != OptimizerKind::Sgd;
        spec.lr.get_or_insert(if adam { 1e-3 } else { 1e-2 });
        if adam {
            spec.beta1.get_or_insert(0.9);
            spec.beta2.get_or_insert(0.999);
            spec.eps.get_or_insert(if self.kind == OptimizerKind::Adam {
                1e-7
            } else {
                1e-8
            });
        } else {
            spec.momentum.get_or_insert(0.0);
            spec.nesterov.get_or_insert(false);
        }
        match self.kind {
            OptimizerKind::Adam => {}
            OptimizerKind::AdamW => _ = spec.weight_decay.get_or_insert(0.01),
            OptimizerKind::Sgd => _ = spec.weight_decay.get_or_insert(0.0),
        }
        spec.schedule = self.schedule.resolved();
        spec
    }

    /// The learning rate before schedule and groups.
    pub fn base_lr(&self) -> f64 {
        self.lr.unwrap_or(if self.kind == OptimizerKind::Sgd {
            1e-2
        } else {
            1e-3
        })
    }

    /// Checks all that can be checked without the model.
    ///
    /// # Errors
    /// The first key that is beyond its limits or doesn't belong to the kind.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.check_kind()?;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let fraction = |x: f64| (0.0..1.0).contains(&x);
        let lr = self.base_lr();
        check(
            "lr",
            positive(lr) && lr <= f64::from(f32::MAX),
            "a number above 0",
            lr,
        )?;
        for (key, value) in [
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("momentum", self.momentum),
        ] {
            if let Some(x) = value {
                check(key, fraction(x), "a number of at least 0 and below 1", x)?;
            }
        }
        if let Some(eps) = self.eps {
            check(
                "eps",
                (EPS_MIN..=1.0).contains(&eps),
                "a number from 1e-30 to 1",
                eps,
            )?;
        }
        if self.nesterov == Some(true) {
            let momentum = self.momentum.unwrap_or(0.0);
            check(
                "momentum",
                momentum > 0.0,
                "a number above 0, as nesterov = true",
                momentum,
            )?;
        }
        if let Some(decay) = self.weight_decay {
            check(
                "weight_decay",
                decay >= 0.0 && decay.is_finite(),
                "a number of at least 0",
                decay,
            )?;
            // Beyond it, a step would turn the sign of every weight.
            check(
                "weight_decay",
                decay * lr <= 1.0,
                "at most 1 / optimizer.lr",
                decay,
            )?;
        }
        if let Some(norm) = self.clip_norm {
            check("clip_norm", positive(norm), "a number above 0", norm)?;
        }
        self.schedule.validate()?;
        check(
            "groups",
            self.groups.len() <= GROUPS_MAX,
            "at most 64 groups",
            self.groups.len(),
        )?;
        let decay = self.resolved().weight_decay.unwrap_or(0.0) * lr;
        self.groups
            .iter()
            .enumerate()
            .try_for_each(|(i, group)| group.validate(i, decay))
    }

    /// Refuses the keys that this kind doesn't use.
    fn check_kind(&self) -> Result<(), SpecError> {
        let adam = self.kind != OptimizerKind::Sgd;
        let decays = self.kind != OptimizerKind::Adam;
        for (key, given, belongs, belongs_to) in [
            (
                "beta1",
                self.beta1.is_some(),
                adam,
                "\"adam\" and \"adamw\"",
            ),
            (
                "beta2",
                self.beta2.is_some(),
                adam,
                "\"adam\" and \"adamw\"",
            ),
            ("eps", self.eps.is_some(), adam, "\"adam\" and \"adamw\""),
            ("momentum", self.momentum.is_some(), !adam, "\"sgd\""),
            ("nesterov", self.nesterov.is_some(), !adam, "\"sgd\""),
            (
                "weight_decay",
                self.weight_decay.is_some(),
                decays,
                "\"adamw\" and \"sgd\"",
            ),
        ] {
            if given && !belongs {
                let kind = self.kind.name();
                return Err(error(key, Problem::Misplaced { kind, belongs_to }));
            }
        }
        Ok(())
    }

    /// The rule with every number in place.
    ///
    /// # Errors
    /// Those of [`OptimizerSpec::validate`].
    pub fn rule(&self) -> Result<Rule, SpecError> {
        self.validate()?;
        Ok(match self.kind {
            OptimizerKind::Adam | OptimizerKind::AdamW => {
                let torch = self.kind == OptimizerKind::AdamW;
                Rule::Adam {
                    beta1: self.beta1.unwrap_or(0.9),
                    beta2: self.beta2.unwrap_or(0.999),
                    eps: self.eps.unwrap_or(if torch { 1e-8 } else { 1e-7 }),
                    eps_corrected: torch,
                }
            }
            OptimizerKind::Sgd => Rule::Sgd {
                momentum: self.momentum.unwrap_or(0.0),
                nesterov: self.nesterov.unwrap_or(false),
            },
        })
    }
}

impl GroupSpec {
    /// `decay` is what a weight loses a step, as a share, before the multipliers.
    fn validate(&self, index: usize, decay: f64) -> Result<(), SpecError> {
        let key = |name: &str| format!("groups.{index}.{name}");
        check(
            key("pattern"),
            (1..=PATTERN_BYTES_MAX).contains(&self.pattern.len()),
            "a pattern of 1 to 256 bytes",
            format!("{} bytes", self.pattern.len()),
        )?;
        for (name, value) in [
            ("lr_multiplier", self.lr_multiplier),
            ("decay_multiplier", self.decay_multiplier),
        ] {
            let valid = value >= 0.0 && value.is_finite();
            check(key(name), valid, "a number of at least 0", value)?;
        }
        let decay = decay * self.lr_multiplier * self.decay_multiplier;
        let expected = "a decay of at most all of a weight a step";
        check(
            key("lr_multiplier"),
            decay <= 1.0,
            expected,
            format!("{decay} of it"),
        )
    }
}
