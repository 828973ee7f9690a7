//! A committed checkpoint is whole and holds the state of its round. (That it
//! is whole is told by whoever reads it, see [`crate::sim::engine`].)

use crate::sim::env::Env;

/// At the end of a complete run.
pub fn last_checkpoint(env: &mut Env) {
    let end = env.course.end();
    let last = env.store.checkpoints.values().find(|c| c.last);
    let right = last.is_some_and(|c| c.round == end && c.state == env.course.state(end));
    if !right {
        env.broken("the last checkpoint doesn't hold the final state".into());
    }
    let wrong: Vec<String> = env
        .store
        .checkpoints
        .iter()
        .filter(|(_, c)| c.state != env.course.state(c.round))
        .map(|(manifest, _)| manifest.clone())
        .collect();
    for manifest in wrong {
        env.broken(format!("checkpoint {manifest} holds another state"));
    }
}
