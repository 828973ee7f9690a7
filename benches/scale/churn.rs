//! Who comes and goes when: a recorded night, or one that a seed draws.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Variable with the folder of the recordings.
const FOLDER: &str = "TRACES_DIR";
const RECORDING: &str = "aws-p3-32nodes-11h.csv";
const SEED: u64 = 11;

/// At one moment.
pub struct Change {
    pub at: Duration,
    /// Groups that come.
    pub come: Vec<usize>,
    /// Groups that are gone.
    pub gone: Vec<usize>,
}

/// The changes, and where they are from.
pub fn changes(groups: usize) -> (Vec<Change>, String) {
    let recorded = std::env::var_os(FOLDER).and_then(|folder| {
        let path = std::path::Path::new(&folder).join(RECORDING);
        std::fs::read_to_string(path).ok()
    });
    match recorded {
        Some(text) => (parsed(&text, groups), RECORDING.to_owned()),
        None => (drawn(groups), format!("seed {SEED}")),
    }
}

fn parsed(text: &str, groups: usize) -> Vec<Change> {
    let mut group_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut here = BTreeSet::new();
    let mut changes: Vec<Change> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let &[ms, what, node] = fields.as_slice() else {
            continue;
        };
        let Ok(ms) = ms.parse() else { continue };
        let at = Duration::from_millis(ms);
        if changes.last().is_none_or(|last| last.at != at) {
            let (come, gone) = (Vec::new(), Vec::new());
            changes.push(Change { at, come, gone });
        }
        let Some(change) = changes.last_mut() else {
            continue;
        };
        if what == "add" {
            let Some(group) = (0..groups).find(|g| !here.contains(g)) else {
                continue;
            };
            here.insert(group);
            group_of.insert(node.to_owned(), group);
            change.come.push(group);
        } else if let Some(group) = group_of.remove(node) {
            here.remove(&group);
            change.gone.push(group);
        }
    }
    changes
}

/// All at first; then every few minutes one group or a few are gone or come.
fn drawn(groups: usize) -> Vec<Change> {
    let mut state = SEED;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) as usize % end
    };
    let mut here: BTreeSet<usize> = (0..groups).collect();
    let mut at = Duration::ZERO;
    let mut changes = vec![Change {
        at,
        come: here.iter().copied().collect(),
        gone: Vec::new(),
    }];
    for _ in 0..150 {
        at += Duration::from_secs(60 + below(400) as u64);
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        for _ in 0..=below(3) {
            let group = below(groups);
            if here.len() > groups / 2 && here.remove(&group) {
                gone.push(group);
            } else if !gone.contains(&group) && here.insert(group) {
                come.push(group);
            }
        }
        changes.push(Change { at, come, gone });
    }
    changes
}
