//! Losses and broken connections.

use super::*;

#[test]
fn a_killed_worker_makes_the_others_report_and_go_on_without_it() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    let before = c.current().map(|r| r.generation).unwrap_or_default();
    c.dies(2);
    c.assert_durable_first();
    assert!(c.is_told(1, "Prepare") && c.is_told(3, "Prepare"));
    let (who, _) = c.world.waiting(c.now).expect("it waits");
    assert_eq!(who, ["worker 1 (node 1)", "worker 3 (node 3)"]);
    c.reports(1, before, 7, &[0, 1]);
    assert_eq!(c.done, [], "worker 3 may hold the sum");
    c.reports(3, before, 7, &[4, 5]);
    c.assert_durable_first();
    assert_eq!(c.members(), [1, 3]);
    let recomputed = c.notes().iter().find_map(|note| match note {
        Note::Installed { recomputed, .. } => Some(*recomputed),
        _ => None,
    });
    assert_eq!(recomputed, Some(2));
}

#[test]
fn a_second_loss_before_the_install_is_part_of_the_same_decision() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    c.dies(2);
    c.everybody_reports(&[3], 7);
    c.dies(1);
    assert_eq!(c.members(), [3]);
}

#[test]
fn a_broken_session_alone_is_no_death() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.on(Event::SessionBroken(worker(2)));
    c.on(Event::Probed(worker(2), Probe::Accepted));
    assert_eq!(c.done, []);
    assert_eq!(c.world.phase_name(), "running");
}

#[test]
fn a_worker_that_stays_silent_is_given_up_when_the_patience_is_over() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.on(Event::SessionBroken(worker(2)));
    c.on(Event::Probed(worker(2), Probe::Silent));
    assert_eq!(c.done, []);
    c.now += PATIENCE;
    c.on(Event::Tick);
    assert!(c.is_told(1, "Prepare"));
    c.now += PATIENCE;
    c.on(Event::Tick);
    assert_eq!(c.released(1), None, "nobody else is there");
    c.later(TRAINS_ON);
    assert!(
        matches!(c.released(1), Some(ReleaseReason::Evicted(_))),
        "it never reports"
    );
}

#[test]
fn no_second_world_begins_while_members_that_nobody_hears_may_still_train() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    for id in [1, 2] {
        c.on(Event::SessionBroken(worker(id)));
        c.on(Event::Probed(worker(id), Probe::Silent));
    }
    c.hello(3);
    c.later(TRAINS_ON);
    assert_eq!(c.members(), [1, 2], "they may have noticed later than we");
    let (who, _) = c.world.waiting(c.now).expect("it waits");
    assert_eq!(who, ["worker 1 (node 1)", "worker 2 (node 2)"]);
    let asked = |w: u64| c.done.contains(&probe(w));
    assert!(asked(1) && asked(2), "it asks again whether they live");
    c.later(Duration::from_secs(20));
    assert!(c.done.contains(&Command::FindStart), "{:?}", c.done);
}

#[test]
fn where_nobody_was_heard_for_long_the_others_have_their_time_once_one_is_back() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let installed = c.current().map(|r| r.generation).unwrap_or_default();
    for id in [1, 2] {
        c.on(Event::SessionBroken(worker(id)));
        c.on(Event::Probed(worker(id), Probe::Silent));
    }
    c.later(PATIENCE * 2);
    let holdings = Holdings {
        installed,
        fence: installed,
        ..Holdings::default()
    };
    c.hello_with(2, holdings.clone());
    c.later(PATIENCE / 2);
    assert_eq!(c.left(1), None);
    c.hello_with(1, holdings);
    c.everybody_reports(&[1, 2], 3);
    assert_eq!(c.members(), [1, 2]);
}

#[test]
fn members_known_to_be_dead_are_not_waited_for() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    for id in [1, 2] {
        c.on(Event::SessionBroken(worker(id)));
        c.on(Event::Probed(worker(id), Probe::Refused));
    }
    assert!(c.done.contains(&Command::FindStart), "{:?}", c.done);
}

#[test]
fn what_a_session_missed_is_made_good_by_a_prepare() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let installed = c.current().map(|r| r.generation).unwrap_or_default();
    c.on(Event::SessionBroken(worker(2)));
    let holdings = Holdings {
        installed,
        fence: installed,
        leaving: Some("asked".into()),
        ..Holdings::default()
    };
    c.hello_with(2, holdings);
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
    c.everybody_reports(&[1, 2], 3);
    c.everybody_progresses(&[1, 2], 3);
    assert!(
        c.is_told(2, "Propose"),
        "it had asked to leave when nobody could hear it"
    );
}

#[test]
fn a_broken_exchange_is_made_anew() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let generation = c.current().map(|r| r.generation).unwrap_or_default();
    c.says(
        1,
        FromWorker::PeerLost {
            peer: worker(2),
            generation,
            garbled: false,
        },
    );
    assert_eq!(c.done, [probe(2)]);
    c.on(Event::Probed(worker(2), Probe::Accepted));
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
    c.everybody_reports(&[1, 2], 0);
    assert_eq!(c.members(), [1, 2]);
}

/// Worker `by` loses `peer`, which lives, in the world in force.
fn exchange_breaks(c: &mut Coordinator, by: u64, peer: u64) {
    loses(c, by, peer, false);
}

/// Worker `by` gets damaged frames from `peer`.
fn gets_damage(c: &mut Coordinator, by: u64, peer: u64) {
    loses(c, by, peer, true);
}

fn loses(c: &mut Coordinator, by: u64, peer: u64, garbled: bool) {
    let generation = c.current().map(|r| r.generation).unwrap_or_default();
    c.says(
        by,
        FromWorker::PeerLost {
            peer: worker(peer),
            generation,
            garbled,
        },
    );
    c.on(Event::Probed(worker(peer), Probe::Accepted));
}

#[test]
fn a_second_broken_exchange_evicts_the_later_worker() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    exchange_breaks(&mut c, 2, 1);
    assert!(matches!(c.released(2), Some(ReleaseReason::Evicted(_))));
    c.everybody_reports(&[1], 0);
    assert_eq!(c.members(), [1]);
}

/// Round 0 is finished on the later one alone, and the earlier needs its sum.
#[test]
fn who_has_the_sum_that_the_other_lacks_is_not_the_one_that_goes() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    let installed = generation(1);
    for _ in 0..2 {
        exchange_breaks(&mut c, 2, 1);
        if c.released(1).is_none() {
            c.reports(1, installed, 0, &[0]);
            c.reports(3, installed, 0, &[1]);
            c.reports(2, installed, 1, &[]);
            let source = c.current().and_then(|r| r.source.as_ref());
            assert_eq!(source.map(|m| m.id), Some(worker(2)));
        }
    }
    assert!(matches!(c.released(1), Some(ReleaseReason::Evicted(_))));
}

/// Where packets are swallowed, a new connection takes its time to fail.
#[test]
fn however_short_the_patience_the_next_broken_exchange_is_the_second_one() {
    let mut impatient = auto();
    impatient.patience = Duration::from_secs(1);
    let mut c = Coordinator::running(impatient, &[1, 2]);
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    c.now += Duration::from_secs(12);
    exchange_breaks(&mut c, 2, 1);
    assert!(matches!(c.released(2), Some(ReleaseReason::Evicted(_))));
}

#[test]
fn the_other_side_of_a_broken_exchange_is_no_second_one() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    exchange_breaks(&mut c, 1, 2);
    c.everybody_reports(&[1, 2], 0);
    assert_eq!(c.members(), [1, 2]);
}

#[test]
fn a_worker_whose_frames_come_damaged_again_is_the_one_that_goes() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    // The other end of the broken connection is heard first.
    exchange_breaks(&mut c, 1, 2);
    gets_damage(&mut c, 2, 1);
    c.everybody_reports(&[1, 2, 3], 0);
    gets_damage(&mut c, 3, 1);
    c.everybody_reports(&[1, 2, 3], 0);
    exchange_breaks(&mut c, 1, 2);
    let Some(ReleaseReason::Evicted(why)) = c.released(1) else {
        panic!("worker 1 stays");
    };
    assert!(why.contains("damaged"), "{why}");
    c.everybody_reports(&[2, 3], 0);
    assert_eq!(c.members(), [2, 3]);
}

#[test]
fn who_gets_damage_from_everybody_is_the_one_that_goes() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    for peer in [1, 2, 1] {
        gets_damage(&mut c, 3, peer);
        if c.released(1).is_none() && c.released(3).is_none() {
            c.everybody_reports(&[1, 2, 3], 0);
        }
    }
    assert!(c.released(1).is_none() && c.released(2).is_none());
    assert!(matches!(c.released(3), Some(ReleaseReason::Evicted(_))));
}

#[test]
fn a_second_broken_exchange_much_later_is_a_first_one() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    c.now += PATIENCE * 2;
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    assert_eq!(c.members(), [1, 2]);
}

#[test]
fn an_accusation_from_before_an_install_is_out_of_date() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let before = c.current().map(|r| r.generation).unwrap_or_default();
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    c.says(
        1,
        FromWorker::PeerLost {
            peer: worker(2),
            generation: before,
            garbled: false,
        },
    );
    assert_eq!(c.done, []);
}

#[test]
fn where_all_members_are_gone_the_world_goes_on_from_a_follower() {
    let mut c = Coordinator::running(auto(), &[1]);
    c.hello(2);
    c.caught_up(2, 5);
    c.dies(1);
    assert!(c.is_told(2, "Prepare"));
    c.reports(2, generation(1), 5, &[]);
    assert_eq!(c.members(), [2]);
    assert_eq!(c.current().map(|r| r.base), Some(Round(5)));
}

#[test]
fn a_member_without_a_session_is_kept_while_rounds_are_completed() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let generation = c.current().map(|r| r.generation).unwrap_or_default();
    c.on(Event::SessionBroken(worker(2)));
    c.on(Event::Probed(worker(2), Probe::Accepted));
    for round in 1..4 {
        c.now += PATIENCE / 2;
        c.progresses(1, generation, round);
        c.on(Event::Tick);
        assert_eq!(c.done, []);
    }
    c.now += PATIENCE;
    c.progresses(1, generation, 3);
    c.on(Event::Tick);
    assert!(c.is_told(1, "Prepare"), "the rounds stand still");
    assert_eq!(c.world.pool().len(), 1);
}

#[test]
fn a_member_that_holds_the_others_up_is_named_and_then_sent_away() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    let here = c.current().expect("a world").generation;
    c.later(Duration::from_secs(2));
    c.everybody_progresses(&[1, 2, 3], 8);
    // Worker 2 lacks nothing but its own share; the others wait for it, or for
    // whoever waits for it.
    c.progresses_awaiting(1, here, 8, &[2, 3]);
    c.progresses_awaiting(3, here, 8, &[1, 2]);
    assert_eq!(c.world.waiting(c.now), None, "no round is that fast");
    c.later(Duration::from_secs(12));
    let (who, _) = c.world.waiting(c.now).expect("it waits");
    assert_eq!(who, ["worker 2 (node 2)"]);
    c.later(Duration::from_secs(60));
    assert!(
        c.is_told(2, "Release") && c.is_told(1, "Prepare"),
        "{:?}",
        c.done
    );
    c.everybody_reports(&[1, 3], 8);
    assert_eq!(c.members(), [1, 3]);
}

#[test]
fn members_that_wait_for_each_other_are_named_and_exchange_the_round_anew() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let here = c.current().expect("a world").generation;
    c.later(Duration::from_secs(2));
    c.everybody_progresses(&[1, 2], 8);
    c.progresses_awaiting(1, here, 8, &[2]);
    c.progresses_awaiting(2, here, 8, &[1]);
    c.later(Duration::from_secs(12));
    let (who, _) = c.world.waiting(c.now).expect("it waits");
    assert_eq!(who, ["worker 1 (node 1)", "worker 2 (node 2)"]);
    c.later(Duration::from_secs(60));
    assert!(c.is_told(1, "Prepare") && !c.is_told(2, "Release"));
    c.everybody_reports(&[1, 2], 8);
    assert_eq!(c.members(), [1, 2]);
    assert!(c.current().expect("a world").generation > here);
}

#[test]
fn a_round_that_is_merely_as_slow_as_others_were_costs_nobody_its_place() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let here = c.current().expect("a world").generation;
    c.later(Duration::from_secs(100));
    c.everybody_progresses(&[1, 2], 8);
    c.progresses_awaiting(1, here, 8, &[2]);
    c.later(Duration::from_secs(500));
    assert_eq!(c.members(), [1, 2]);
    assert_eq!(c.done, []);
}

#[test]
fn a_member_that_claims_what_another_one_holds_leaves_as_any_other() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    let before = c.current().map(|r| r.generation).unwrap_or_default();
    c.dies(3);
    c.reports(1, before, 7, &[0, 1]);
    c.reports(2, before, 7, &[1, 2]);
    assert_eq!(c.members(), [1]);
    assert_eq!(c.left(2), Some(&Departure::Conflicting));
    assert!(matches!(c.released(2), Some(ReleaseReason::Evicted(_))));
}
