//! What `ebbtide status` shows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::driver::Registered;
use super::report::Report;
use crate::collective::CONTROL_MESSAGE_LEN_MAX;
use crate::world::WorkerId;
use crate::world::membership::World;
use crate::world::pool::{Approach, Session};

/// What a message adds to its text, and more.
const AROUND_TEXT: usize = 1 << 10;

/// The object that `ebbtide status --json` prints.
pub(super) fn json(
    world: &World,
    report: &Report,
    registered: &BTreeMap<WorkerId, Registered>,
    now: Duration,
) -> String {
    let mut status = object(world, report, registered, now);
    let text = status.to_string();
    if text.len() + AROUND_TEXT <= CONTROL_MESSAGE_LEN_MAX {
        return text;
    }
    // A fleet so large that what it says of its GPUs doesn't fit into a message.
    let workers = status["workers"].as_array_mut();
    for worker in workers
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        worker.remove("gpus");
    }
    status.to_string()
}

fn object(
    world: &World,
    report: &Report,
    registered: &BTreeMap<WorkerId, Registered>,
    now: Duration,
) -> Value {
    let record = world.current();
    let workers: Vec<_> = world
        .pool()
        .iter()
        .map(|(id, node)| {
            let registered = registered.get(id);
            let devices = registered.map(|r| r.request.devices.join(", "));
            let mut worker = json!({
                "worker": id.to_string(),
                "name": node.name,
                "devices": devices,
                "address": node.member.address,
                "role": role(world, *id),
                "session": match node.session {
                    Session::Open => "open",
                    Session::Broken { .. } => "broken",
                },
                "round": node.progress.1.0,
                "micro_batches": node.counters.micro_batches,
                "steps": node.counters.steps,
                "micro_batches_per_second": node.speed.rate(),
                "joins_in_seconds": world.waits_for(now, *id).map(|left| left.as_secs_f64()),
                "weight": record.and_then(|r| r.member(*id)).map(|m| m.weight),
                "damaged_frames": node.counters.damaged_frames,
            });
            if let Some(gpus) = registered.map(|r| &r.gpus).filter(|gpus| !gpus.is_empty()) {
                worker["gpus"] = json!(gpus);
            }
            worker
        })
        .collect();
    let waiting = world
        .waiting(now)
        .map(|(missing, next)| json!({"missing": missing, "next": next}));
    json!({
        "job": report.job(),
        "run": report.run(),
        "phase": world.phase_name(),
        "generation": record.map(|r| r.generation.to_string()),
        "members": record.map_or(0, |r| r.members.len()),
        "step": report.step_reached(),
        "round": world.reached().0,
        "waiting": waiting,
        "workers": workers,
    })
}

fn role(world: &World, worker: WorkerId) -> &'static str {
    let node = &world.pool()[&worker];
    let member = world.current().is_some_and(|r| r.has(worker));
    let leaver = world.current().is_some_and(|r| r.leavers.contains(&worker));
    match (member, leaver, node.approach) {
        _ if node.shadow => "shadow",
        _ if node.leaving.is_some() || leaver => "leaving",
        (true, ..) => "member",
        (_, _, Approach::Idle) => "idle",
        (_, _, Approach::Restoring) => "restoring",
        (_, _, Approach::Following { .. }) => "following",
        (_, _, Approach::Ready { .. }) if world.is_spare(worker) => "spare",
        (_, _, Approach::Ready { .. }) => "ready",
    }
}
