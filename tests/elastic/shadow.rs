//! A shadow beside the coordinator: it writes the checkpoints, and training
//! goes on from it when all workers are gone at once.

use super::*;
use crate::support::{FaultLog, Fleet, Folder, Outcome};

/// Until the shadow has caught up, the second worker's share of step 5 isn't done.
const UNTIL_IN_STEP: &str = "hold@computed,step=5,until=proposed";

/// Two workers and a shadow that meets `of_shadow`; in step from step 6 on.
fn with_a_shadow(first: &str, second: &str, of_shadow: &str) -> Fleet {
    let kept = (JOB, &["--shadow", "on"][..]);
    shadowed(kept, &[("EBBTIDE_FAULT", of_shadow)], first, second)
}

/// The same with another job and other flags, and a shadow in this environment.
fn shadowed(
    (job, flags): (&str, &[&str]),
    of_shadow: &[(&str, &str)],
    first: &str,
    second: &str,
) -> Fleet {
    let flags = [&["--world-size", "2"], flags].concat();
    let mut fleet = Fleet::start_with(job, &flags, of_shadow);
    fleet.hire("w1", first);
    fleet.hire("w2", &format!("{UNTIL_IN_STEP};{second}"));
    fleet
}

/// A fault of the shadow that tells when it strikes.
struct Struck {
    fault: &'static str,
    log: FaultLog,
    _folder: Folder,
}

impl Struck {
    fn of_the_shadow(fault: &'static str) -> Struck {
        let folder = Folder::new();
        Struck {
            fault,
            log: FaultLog::new(folder.path().join("log")),
            _folder: folder,
        }
    }

    fn environment(&self) -> [(&str, &str); 2] {
        let log = self.log.path.to_str().unwrap();
        [("EBBTIDE_FAULT", self.fault), ("EBBTIDE_FAULT_LOG", log)]
    }

    fn wait(&self) {
        self.log.wait("the shadow", self.fault);
    }
}

/// Who wrote the checkpoints, and of which steps.
fn checkpoints(outcome: &Outcome) -> Vec<(String, u64)> {
    let committed = outcome.events("checkpoint_committed");
    let of = |event: &serde_json::Value| {
        let worker = event["worker"].as_str().unwrap();
        let mut registered = outcome.events("worker_registered");
        let writer = registered.find(|r| r["worker"] == worker).unwrap();
        let name = writer["name"].as_str().unwrap().to_owned();
        (name, event["step"].as_u64().unwrap())
    };
    committed.map(of).collect()
}

/// Those after the one that the shadow itself caught up from.
fn since_in_step(outcome: &Outcome) -> Vec<(String, u64)> {
    let mut written = checkpoints(outcome);
    written.retain(|(_, step)| *step > 6);
    written
}

#[test]
fn the_shadow_writes_all_checkpoints() {
    let outcome = with_a_shadow("", "", "").finish();
    let written = since_in_step(&outcome);
    assert!(
        written.iter().all(|(name, _)| name == "shadow"),
        "{written:?}"
    );
    let steps: Vec<u64> = written.iter().map(|(_, step)| *step).collect();
    assert_eq!(steps.last(), Some(&STEPS));
    assert!(steps.contains(&20) && steps.contains(&60), "{steps:?}");
    assert_eq!(outcome.count("writer_changed"), 1);
}

/// Both have contributed to the 38th step, nobody has its sum, and the shadow has
/// applied the 37th: there the new fleet goes on. No log calls a step finished
/// that it doesn't hold: it alone tells of them.
#[test]
fn all_workers_killed_in_an_exchange_cost_nothing_that_was_told() {
    let in_exchange = "hold@contributed,step=37,until=HOLD";
    let struck = Struck::of_the_shadow("tell@applied,step=36");
    let kept = (JOB, &["--shadow", "on"][..]);
    let mut fleet = shadowed(kept, &struck.environment(), in_exchange, in_exchange);
    fleet.struck("w1", "hold@contributed");
    fleet.struck("w2", "hold@contributed");
    struck.wait();
    fleet.kill("w1");
    fleet.kill("w2");
    fleet.said("all workers are gone");
    let told = fleet.finished_steps();
    // Alone it could be through before the other one is there.
    fleet.hire("w3", "hold@computed,step=60,until=HOLD");
    fleet.hire("w4", "");
    fleet.release("w3");
    let outcome = fleet.finish();
    let resumed = outcome.events("run_resumed").last().expect("it resumed");
    for name in ["w1", "w2"] {
        let applied = outcome.steps_applied(name).max();
        assert_eq!(resumed["step"].as_u64(), applied, "{name}: {resumed}");
    }
    assert!(told <= 37, "{told} are told, 37 are finished");
    assert_eq!(resumed["steps_lost"], 0);
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
}

#[test]
fn a_shadow_that_dies_stops_nobody() {
    let outcome = with_a_shadow("", "", "kill@committed,step=40").finish();
    let written = checkpoints(&outcome);
    assert!(written.contains(&("shadow".into(), 20)), "{written:?}");
    assert_eq!(outcome.left("shadow"), "lost");
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert_eq!(written.last().map(|(_, step)| *step), Some(STEPS));
}

#[test]
fn a_joiner_is_served_by_the_shadow() {
    let mut fleet = with_a_shadow("hold@computed,step=33,until=HOLD", "", "");
    fleet.struck("w1", "hold@computed");
    fleet.hire("w3", "tell@proposed");
    fleet.struck("w3", "tell@proposed");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert!(outcome.first_contribution("w3") > 33);
    let written = since_in_step(&outcome);
    assert!(
        written.iter().all(|(name, _)| name == "shadow"),
        "{written:?}"
    );
}

/// The shadow ends with its coordinator.
#[test]
fn while_the_coordinator_is_down_the_first_member_writes_instead_of_the_shadow() {
    let first = "hold@computed,step=30,until=HOLD;tell@committed,step=40;\
                 hold@computed,step=50,until=HOLD";
    let mut fleet = with_a_shadow(first, "", "");
    fleet.struck("w1", "hold@computed,step=30");
    fleet.kill_coordinator();
    fleet.release("w1");
    fleet.struck("w1", "tell@committed,step=40");
    fleet.struck("w1", "hold@computed,step=50");
    fleet.start_coordinator();
    fleet.said("coordinator is back");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
}

#[test]
fn a_shadow_on_trial_that_keeps_up_is_kept() {
    let trial = (JOB, &["--shadow", "auto"][..]);
    let outcome = shadowed(trial, &[], "", "").finish();
    assert_eq!(outcome.count("shadow_too_slow"), 0);
    let written = since_in_step(&outcome);
    assert!(
        written.iter().all(|(name, _)| name == "shadow"),
        "{written:?}"
    );
    assert_eq!(written.last().map(|(_, step)| *step), Some(STEPS));
}

/// A sum takes it 200 ms: five a second, a fifth of which is to spare.
#[test]
fn a_shadow_on_trial_that_is_too_slow_is_let_go_with_the_numbers_and_stops_nobody() {
    let job = JOB.replace("epochs = 2", "epochs = 10");
    let trial = (&job[..], &["--shadow", "auto"][..]);
    let slow = [("EBBTIDE_PACE", "200ms")];
    let holds = "hold@computed,step=350,until=HOLD;hold@computed,step=352,until=proposed;\
                 hold@computed,step=400,until=HOLD";
    let mut fleet = shadowed(trial, &slow, holds, "");
    fleet.struck("w1", "hold@computed,step=350");
    fleet.said("the shadow can't keep up");
    fleet.release("w1");
    fleet.struck("w1", "hold@computed,step=400");
    fleet.said("left: drained");
    fleet.release("w1");
    let outcome = fleet.finish();
    let declined = outcome.events("shadow_too_slow").next().unwrap();
    assert_eq!(declined["kept"], false, "{declined}");
    let number = |key: &str| declined[key].as_f64().unwrap();
    let (fleet, able) = (number("rounds_per_second"), number("able"));
    assert!(able <= 5.0 && fleet > able * 0.8, "{declined}");
    assert_eq!(outcome.left("shadow"), "drained");
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    let written = checkpoints(&outcome);
    assert_eq!(written.last(), Some(&("w1".into(), STEPS * 5)));
}

/// It answers nobody, and its connections stay open.
#[test]
fn a_shadow_that_is_stopped_stops_nobody() {
    let frozen = Struck::of_the_shadow("freeze@applied,step=30");
    let trial = (JOB, &["--shadow", "auto", "--patience", "1"][..]);
    let outcome = shadowed(trial, &frozen.environment(), "", "").finish();
    frozen.wait();
    assert_eq!(outcome.left("shadow"), "silent");
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    let written = checkpoints(&outcome);
    let since = written.iter().filter(|(_, step)| *step > 30);
    let since: Vec<_> = since.collect();
    assert!(since.iter().all(|(name, _)| name == "w1"), "{since:?}");
    assert_eq!(since.last().map(|(_, step)| *step), Some(STEPS));
}
