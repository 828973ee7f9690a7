//! Initial weights: by seed, or from somebody's safetensors file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::plan::Plan;
use super::state::TrainState;
use crate::checkpoint::{InitialError as UnreadableInitial, load_initial};
use crate::job::{InitSpec, JobError, local_path};
use crate::model::ModelError;

/// How many names a message lists before it says "and so on".
const NAMES_SHOWN_MAX: usize = 5;

/// Why there are no initial weights.
#[derive(Debug, thiserror::Error)]
pub enum InitialError {
    /// The file isn't there on this node, can't be read, or isn't the pinned one.
    #[error("{0}; every node needs the same file at this place")]
    File(JobError),
    /// The file doesn't fit the model, on any node.
    #[error(transparent)]
    Unfit(JobError),
    /// The model can't be built.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl TrainState {
    /// The state before the first round: seeded initial values, and over them
    /// what the file of `[init]` holds.
    ///
    /// # Errors
    /// A file that isn't there, isn't the one whose hash the job gives, or doesn't
    /// fit the model: then with the names.
    pub fn initial(plan: &Plan) -> Result<TrainState, InitialError> {
        let mut state = TrainState::seeded(plan)?;
        if let Some(init) = &plan.job.init {
            overlay(plan, init, &mut state.weights)?;
        }
        Ok(state)
    }
}

fn overlay(plan: &Plan, init: &InitSpec, weights: &mut [f32]) -> Result<(), InitialError> {
    // Compares the file's hash with the pinned one, if there is one.
    plan.job.clone().pin_init().map_err(InitialError::File)?;
    let path = local_path(&init.from).unwrap_or_else(|| PathBuf::from(&init.from));
    let problem = |problem: String| plan.job.error("init.from", problem);
    let refused = |text: String| InitialError::Unfit(problem(text));
    let file = load_initial(&path).map_err(|error| match error {
        UnreadableInitial::Read { .. } => InitialError::File(problem(error.to_string())),
        UnreadableInitial::Format { .. } => refused(error.to_string()),
    })?;
    if !init.partial {
        check_exact(plan, &file).map_err(&refused)?;
    }
    let mut taken = 0;
    for parameter in &plan.layout {
        match file.get(&parameter.name) {
            Some((shape, values)) if *shape == parameter.shape => {
                if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                    let (file, name, value) = (path.display(), &parameter.name, values[index]);
                    return Err(refused(format!(
                        "expected finite weights in f32; {file} has {value} as value {index} of \
                         parameter {name}"
                    )));
                }
                weights[parameter.range.clone()].copy_from_slice(values);
                taken += 1;
            }
            _ => {}
        }
    }
    if taken == 0 {
        let problem = "expected weights that fit the model; found none in the file that fits by \
                       name and shape";
        return Err(refused(problem.to_owned()));
    }
    Ok(())
}

/// Tensors by name: shape and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Says what keeps the file from holding exactly the model's parameters.
fn check_exact(plan: &Plan, file: &Tensors) -> Result<(), String> {
    let mut problems = Vec::new();
    for parameter in &plan.layout {
        let (name, expected) = (&parameter.name, &parameter.shape);
        match file.get(name) {
            None => problems.push(format!("{name} is missing")),
            Some((found, _)) if found != expected => {
                problems.push(format!("{name} has shape {found:?}, expected {expected:?}"));
            }
            Some(_) => {}
        }
    }
    let unknown = file.keys().filter(|name| plan.layout.get(name).is_none());
    problems.extend(unknown.map(|name| format!("{name} is no parameter of the model")));
    if problems.is_empty() {
        return Ok(());
    }
    let more = problems.len().saturating_sub(NAMES_SHOWN_MAX);
    problems.truncate(NAMES_SHOWN_MAX);
    let more = match more {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Err(format!(
        "expected exactly the model's parameters (init.partial = true takes what fits); {}{more}",
        problems.join(", ")
    ))
}
