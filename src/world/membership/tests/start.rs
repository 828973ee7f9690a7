//! Beginnings, restarts of the coordinator, and ends.

use super::*;

#[test]
fn a_world_starts_when_enough_workers_hold_the_state_to_start_from() {
    let mut c = Coordinator::new(settings(2, 1, 8));
    assert_eq!(c.done, [Command::FindStart]);
    c.hello(1);
    assert_eq!(c.done, []);
    let manifest = Some("round 4".to_owned());
    c.on(Event::Start {
        manifest: manifest.clone(),
        round: Round(4),
    });
    let restore = ToWorker::Restore {
        generation: Generation::NONE,
        manifest,
    };
    assert_eq!(c.told(1), [&restore]);
    c.restored(1, 4);
    assert_eq!(c.done, []);
    let (who, next) = c.world.waiting(c.now).expect("it waits");
    assert_eq!(who, ["1 of 2 workers"]);
    assert_eq!(next, "training starts when they have come");

    c.hello(2);
    c.restored(2, 4);
    c.assert_durable_first();
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
    c.everybody_reports(&[1, 2], 4);
    c.assert_durable_first();
    assert!(c.is_told(1, "Install") && c.is_told(2, "Install"));
    assert_eq!(c.members(), [1, 2]);
    assert_eq!(c.current().map(|r| r.base), Some(Round(4)));
}

/// The first world of two is being made.
fn two_are_ready() -> Coordinator {
    let mut c = Coordinator::new(settings(2, 1, 8));
    c.on(Event::Start {
        manifest: None,
        round: Round(0),
    });
    for id in [1, 2] {
        c.hello(id);
        c.restored(id, 0);
    }
    c
}

#[test]
fn the_first_world_waits_for_all_it_was_asked_to_though_one_goes_while_it_is_made() {
    let mut c = two_are_ready();
    assert!(c.is_told(1, "Prepare"));
    c.on(Event::SessionBroken(worker(2)));
    c.hello(2);
    c.everybody_reports(&[1], 0);
    assert!(c.current().is_none() && c.done.contains(&Command::FindStart));
    c.on(Event::Start {
        manifest: None,
        round: Round(0),
    });
    for id in [1, 2] {
        c.restored(id, 0);
    }
    c.everybody_reports(&[1, 2], 0);
    assert_eq!(c.members(), [1, 2]);
}

#[test]
fn each_first_member_is_noted_also_one_that_lost_its_session_meanwhile() {
    let mut c = two_are_ready();
    c.on(Event::SessionBroken(worker(2)));
    c.hello(2);
    c.everybody_reports(&[2, 1], 0);
    assert_eq!(c.members(), [1, 2]);
    for id in [1, 2] {
        assert_eq!(c.joined(id), c.current().map(|r| r.generation));
    }
}

#[test]
fn the_last_checkpoint_ends_the_run_for_everybody() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    c.commits(1, 9, true);
    for id in 1..4 {
        assert_eq!(c.released(id), Some(&ReleaseReason::Finished));
    }
    let end = Outcome::Finished {
        manifest: "round 9".into(),
    };
    assert!(c.done.contains(&Command::End(end)));
    assert_eq!(c.durable.current, None);
    c.hello(4);
    assert_eq!(c.released(4), Some(&ReleaseReason::Finished));
}

#[test]
fn a_job_that_fails_on_one_worker_ends_for_all() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.says(
        2,
        FromWorker::JobFailed {
            error: "loss is not finite".into(),
        },
    );
    let failed = ReleaseReason::Failed("loss is not finite".into());
    assert_eq!(c.released(1), Some(&failed));
    assert!(
        c.done
            .contains(&Command::End(Outcome::Failed("loss is not finite".into())))
    );
}

#[test]
fn a_stop_saves_the_state_and_lets_everybody_go() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.on(Event::Stop);
    let change = c.world.number;
    assert!(c.is_told(1, "Propose"));
    c.progresses(1, change, 4);
    assert_eq!(c.told(1), [&ToWorker::Save]);
    c.commits(1, 4, false);
    assert_eq!(c.released(1), Some(&ReleaseReason::Stopped));
    assert_eq!(c.released(2), Some(&ReleaseReason::Stopped));
    assert!(c.done.contains(&Command::End(Outcome::Stopped)));
}

#[test]
fn a_stop_before_there_is_a_world_needs_no_checkpoint() {
    let mut c = Coordinator::new(auto());
    c.hello(1);
    c.on(Event::Stop);
    assert_eq!(c.released(1), Some(&ReleaseReason::Stopped));
    c.hello(2);
    assert_eq!(c.released(2), Some(&ReleaseReason::Stopped));
}

#[test]
fn a_restarted_coordinator_prepares_when_all_are_known() {
    let before = Coordinator::running(auto(), &[1, 2]);
    let installed = before.current().map(|r| r.generation).unwrap_or_default();
    let mut c = before.restarted();
    let probes = [1, 2].map(probe);
    assert_eq!(c.done, probes);
    let holdings = Holdings {
        installed,
        fence: installed,
        ..Holdings::default()
    };
    c.hello_with(1, holdings.clone());
    assert_eq!(c.done, []);
    let (who, _) = c.world.waiting(c.now).expect("it waits");
    assert_eq!(who, ["worker 2"]);
    c.hello_with(2, holdings);
    c.assert_durable_first();
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
    assert_eq!(
        c.world.number,
        Generation {
            incarnation: 2,
            counter: 1
        }
    );
}

#[test]
fn a_restarted_coordinator_that_hears_of_the_end_waits_for_all_to_tell_them() {
    let before = Coordinator::running(auto(), &[1, 2]);
    let installed = before.current().map(|r| r.generation).unwrap_or_default();
    let mut c = before.restarted();
    let holdings = Holdings {
        installed,
        fence: installed,
        ..Holdings::default()
    };
    c.hello_with(1, holdings.clone());
    c.commits(1, 9, true);
    assert_eq!((c.released(1), c.world.phase_name()), (None, "recovering"));
    c.hello_with(2, holdings);
    for id in [1, 2] {
        assert_eq!(c.released(id), Some(&ReleaseReason::Finished));
    }
}

#[test]
fn a_restarted_coordinator_gives_up_those_that_are_gone() {
    let before = Coordinator::running(auto(), &[1, 2, 3]);
    let installed = before.current().map(|r| r.generation).unwrap_or_default();
    let mut c = before.restarted();
    c.hello_with(
        1,
        Holdings {
            installed,
            fence: installed,
            ..Holdings::default()
        },
    );
    c.on(Event::Probed(worker(2), Probe::Refused));
    c.on(Event::Probed(worker(3), Probe::Accepted));
    assert_eq!(c.done, [], "worker 3 lives and will come");
    c.now += PATIENCE;
    c.on(Event::Tick);
    assert!(c.is_told(1, "Prepare"));
    c.reports(1, installed, 2, &[]);
    assert_eq!(c.members(), [1]);
    c.hello_with(
        3,
        Holdings {
            installed,
            fence: installed,
            ..Holdings::default()
        },
    );
    assert!(
        matches!(c.released(3), Some(ReleaseReason::Evicted(_))),
        "too late"
    );
}

#[test]
fn a_restarted_coordinator_whose_world_is_gone_looks_for_a_checkpoint() {
    let mut c = Coordinator::running(auto(), &[1]).restarted();
    c.on(Event::Probed(worker(1), Probe::Refused));
    assert!(c.done.contains(&Command::FindStart));
    assert!(
        c.notes()
            .iter()
            .any(|note| matches!(note, Note::WorldLost { .. }))
    );
}

/// Nobody knows where to ask for it, and alone it trains nothing.
#[test]
fn a_restarted_coordinator_does_not_wait_for_ever_for_one_that_was_leaving() {
    let mut before = Coordinator::running(auto(), &[1, 2]);
    before.drain(2);
    let change = before.world.number;
    before.progresses(1, change, 4);
    before.progresses(2, change, 4);
    let mut c = before.restarted();
    c.on(Event::Probed(worker(1), Probe::Refused));
    assert!(
        c.world.waiting(c.now).is_some(),
        "it may bring the last sum"
    );
    c.later(PATIENCE);
    assert!(c.done.contains(&Command::FindStart), "{:?}", c.done);
}

#[test]
fn a_change_that_somebody_entered_before_the_crash_is_in_force() {
    let mut before = with_a_newcomer();
    let entered = before.world.number;
    before.says(
        3,
        FromWorker::Ack {
            generation: entered,
        },
    );
    let mut c = before.restarted();
    for id in 1..4 {
        let installed = if id == 2 { entered } else { generation(1) };
        c.hello_with(
            id,
            Holdings {
                installed,
                fence: installed,
                ..Holdings::default()
            },
        );
    }
    c.reports(1, generation(1), 6, &[]);
    c.reports(2, entered, 6, &[]);
    c.reports(3, generation(1), 5, &[]);
    assert_eq!(c.members(), [1, 2, 3]);
}

#[test]
fn a_stranger_from_another_world_is_put_out() {
    let mut c = Coordinator::running(auto(), &[1]);
    let installed = Generation {
        incarnation: 1,
        counter: 77,
    };
    c.hello_with(
        9,
        Holdings {
            installed,
            fence: installed,
            ..Holdings::default()
        },
    );
    assert!(matches!(c.released(9), Some(ReleaseReason::Evicted(_))));
}

#[test]
fn what_a_worker_did_before_a_restore_is_no_answer_to_it() {
    let mut c = Coordinator::running(auto(), &[1]);
    c.hello(2);
    c.dies(1);
    let (generation, holdings) = (c.world.number, Holdings::default());
    c.says(
        2,
        FromWorker::Report {
            generation,
            holdings,
        },
    );
    assert!(c.done.contains(&Command::FindStart), "it holds no state");
    c.on(Event::Start {
        manifest: Some("round 4".into()),
        round: Round(4),
    });
    assert!(c.is_told(2, "Restore"));
    let (generation, source) = (Generation::NONE, None);
    let ready = FromWorker::Ready {
        generation,
        round: Round(0),
        source,
    };
    c.says(2, ready);
    let error = "worker 1 is gone".into();
    c.says(2, FromWorker::SourceLost { error });
    assert_eq!(c.done, []);
    c.restored(2, 4);
    assert!(c.is_told(2, "Prepare"), "all that it waits for is here");
    c.says(
        2,
        FromWorker::SourceLost {
            error: "again".into(),
        },
    );
    c.reports(2, Generation::NONE, 4, &[]);
    assert_eq!(c.members(), [2]);
}

#[test]
fn a_recorded_member_that_answers_is_waited_for() {
    let mut c = Coordinator::running(auto(), &[1, 2]).restarted();
    c.on(Event::Probed(worker(1), Probe::Refused));
    c.on(Event::Probed(worker(2), Probe::Accepted));
    c.later(Duration::from_secs(60));
    assert!(c.done.contains(&probe(2)), "{:?}", c.done);
    assert!(c.world.waiting(c.now).is_some(), "its process lives");
    // This time it does not answer.
    c.later(Duration::from_secs(60));
    assert!(c.world.waiting(c.now).is_some(), "it may train on alone");
    c.later(TRAINS_ON);
    assert!(
        c.notes()
            .iter()
            .any(|n| matches!(n, Note::WorldLost { .. }))
    );
}

#[test]
fn a_coordinator_without_its_disk_is_listened_to_by_whoever_the_last_one_fenced() {
    let mut before = Coordinator::new(settings(1, 1, 8));
    before.durable = Durable::default();
    let mut c = before.restarted();
    c.hello(1);
    c.on(Event::Start {
        manifest: None,
        round: Round(0),
    });
    let fence = generation(7);
    let told = c.told(1);
    let [ToWorker::Restore { generation, .. }] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(*generation > fence, "{generation:?}");
}
