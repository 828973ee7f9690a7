//! Joins, drains and pauses.

use super::*;

#[test]
fn a_newcomer_hears_of_its_change_first_and_the_members_when_it_has_confirmed() {
    let mut c = with_a_newcomer();
    c.assert_durable_first();
    assert!(c.is_told(3, "Propose") && !c.is_told(1, "Propose"));
    let generation = c.world.number;
    c.says(3, FromWorker::Ack { generation });
    assert!(c.is_told(1, "Propose") && c.is_told(2, "Propose"));
    assert_eq!(c.members(), [1, 2]);
    c.progresses(2, generation, 6);
    assert_eq!(c.members(), [1, 2, 3]);
    assert_eq!(c.joined(3), Some(generation));
    assert!(c.durable.pending.is_none());
}

#[test]
fn a_newcomer_is_noted_with_the_world_that_took_it_in_also_if_the_next_has_come() {
    let mut c = with_a_newcomer();
    let change = c.world.number;
    c.says(3, FromWorker::Ack { generation: change });
    c.dies(2);
    c.reports(1, change, 6, &[]);
    c.reports(3, change, 6, &[]);
    assert_eq!(c.members(), [1, 3]);
    assert!(c.current().is_some_and(|r| r.generation > change));
    assert_eq!(c.joined(3), Some(change));
}

#[test]
fn a_newcomer_that_goes_before_anybody_heard_of_it_is_not_noticed() {
    let mut c = with_a_newcomer();
    c.dies(3);
    assert_eq!(c.world.phase_name(), "running");
    assert_eq!(c.durable.pending, None);
}

#[test]
fn a_newcomer_that_cannot_come_is_gone_on_without() {
    let mut c = with_a_newcomer();
    let generation = c.world.number;
    c.says(3, FromWorker::Ack { generation });
    c.says(
        3,
        FromWorker::SourceLost {
            error: "it broke".into(),
        },
    );
    assert!(
        c.is_told(1, "Prepare"),
        "the members may already wait for it"
    );
}

#[test]
fn a_word_from_before_the_newest_source_is_out_of_date() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    let generation = Generation::NONE;
    c.says(
        3,
        FromWorker::Ready {
            generation,
            round: Round(0),
            source: None,
        },
    );
    assert_eq!(c.done, []);
}

#[test]
fn the_next_change_waits_until_all_members_are_in() {
    let mut c = with_a_newcomer();
    let entered = c.world.number;
    c.says(
        3,
        FromWorker::Ack {
            generation: entered,
        },
    );
    c.progresses(1, entered, 6);
    c.drain(2);
    assert_eq!(c.done, [], "workers 2 and 3 may be in the world before");
    c.progresses(2, entered, 6);
    assert_eq!(c.done, []);
    c.progresses(3, entered, 6);
    assert!(c.is_told(1, "Propose"));
}

#[test]
fn a_leaver_is_let_go_when_all_have_applied_its_last_step() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    c.drain(3);
    c.assert_durable_first();
    let change = c.world.number;
    assert!(c.is_told(3, "Propose") && c.is_told(1, "Propose"));
    c.progresses(3, change, 4);
    assert_eq!(
        c.current().map(|r| r.leavers.clone()),
        Some(vec![worker(3)])
    );
    assert_eq!(c.released(3), None);
    c.progresses(1, change, 4);
    assert_eq!(c.released(3), None, "worker 2 may lack the sum");
    c.progresses(2, change, 4);
    assert_eq!(c.released(3), Some(&ReleaseReason::Drained));
    c.says(
        3,
        FromWorker::Bye {
            reason: "drained".into(),
        },
    );
    assert_eq!(c.done, []);
    assert!(!c.world.pool().contains_key(&worker(3)));
}

#[test]
fn a_follower_that_wants_to_leave_may_go_at_once() {
    let mut c = Coordinator::running(auto(), &[1]);
    c.hello(2);
    c.drain(2);
    assert_eq!(c.released(2), Some(&ReleaseReason::Drained));
}

#[test]
fn a_follower_that_asked_to_leave_during_a_reconciliation_goes_after_it() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    c.dies(2);
    c.drain(3);
    assert_eq!(c.released(3), None);
    c.everybody_reports(&[1], 0);
    assert_eq!(c.released(3), Some(&ReleaseReason::Drained));
}

#[test]
fn where_everybody_drains_the_last_state_is_saved_first() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.drain(1);
    let change = c.world.number;
    c.drain(2);
    c.progresses(2, change, 4); // 1 leaves, 2 remains and drains next
    assert!(c.is_told(2, "Propose"));
    let change = c.world.number;
    c.progresses(2, change, 5);
    assert_eq!(c.told(2), [&ToWorker::Save]);
    c.commits(2, 5, false);
    assert_eq!(c.released(2), Some(&ReleaseReason::Drained));
    assert!(
        c.done.contains(&Command::FindStart),
        "for whoever comes next"
    );
    assert_eq!(c.durable.current, None);
}

#[test]
fn a_checkpoint_that_lacks_the_last_round_lets_nobody_go() {
    let mut c = Coordinator::running(auto(), &[1]);
    c.drain(1);
    let change = c.world.number;
    c.progresses(1, change, 4);
    c.commits(1, 3, false);
    assert_eq!(c.released(1), None);
    assert_eq!(c.told(1), [&ToWorker::Save]);
    c.says(
        1,
        FromWorker::SaveFailed {
            round: Round(4),
            error: "full".into(),
        },
    );
    assert_eq!(c.told(1), [] as [&ToWorker; 0], "not at once");
    c.on(Event::Tick);
    assert_eq!(c.told(1), [&ToWorker::Save]);
}

#[test]
fn below_the_minimum_the_world_pauses_and_names_what_it_waits_for() {
    let mut c = Coordinator::running(settings(2, 2, 8), &[1, 2]);
    c.dies(2);
    c.everybody_reports(&[1], 3);
    assert_eq!(c.world.phase_name(), "paused");
    let (who, next) = c.world.waiting(c.now).expect("it waits");
    assert_eq!(who, ["1 more worker"]);
    assert_eq!(next, "training goes on when it has come");

    c.everybody_progresses(&[1], 3);
    c.hello(3);
    c.caught_up(3, 3);
    assert!(c.is_told(1, "Prepare") && c.is_told(3, "Prepare"));
    c.everybody_reports(&[1, 3], 3);
    assert_eq!(c.members(), [1, 3]);
    assert_eq!(c.world.phase_name(), "running");
}

#[test]
fn who_did_not_hear_that_it_may_go_is_told_again() {
    let mut c = with_a_newcomer();
    let installed = c.current().map(|r| r.generation).unwrap_or_default();
    c.hello(4);
    c.drain(4);
    assert_eq!(c.released(4), Some(&ReleaseReason::Drained));
    let holdings = Holdings {
        leaving: Some("asked".into()),
        ..Holdings::default()
    };
    c.hello_with(4, holdings);
    assert_eq!(c.told(4), [&ToWorker::Release(ReleaseReason::Drained)]);
    c.on(Event::SessionBroken(worker(4)));
    assert_eq!(c.current().map(|r| r.generation), Some(installed));
    assert!(!c.world.pool().contains_key(&worker(4)));
}

#[test]
fn a_leaver_of_a_coordinator_that_crashed_does_not_join_again() {
    let mut before = Coordinator::running(auto(), &[1, 2]);
    before.drain(2);
    let change = before.world.number;
    before.progresses(2, change, 4);
    assert_eq!(before.released(2), None, "worker 1 may lack the sum");
    let mut c = before.restarted();
    for id in [1, 2] {
        c.hello_with(
            id,
            Holdings {
                installed: change,
                fence: change,
                ..Holdings::default()
            },
        );
    }
    c.reports(1, change, 4, &[]);
    c.reports(2, change, 4, &[]);
    assert_eq!(c.members(), [1]);
    assert!(!c.is_told(2, "Follow"), "it was on its way out");
    c.everybody_progresses(&[1], 4);
    assert_eq!(c.released(2), Some(&ReleaseReason::Drained));
}

#[test]
fn a_member_that_is_not_here_any_more_is_not_waited_for() {
    let mut c = with_a_newcomer();
    let change = c.world.number;
    c.says(3, FromWorker::Ack { generation: change });
    c.progresses(1, change, 6);
    c.world.pool.remove(&worker(3));
    let peer = worker(3);
    c.says(
        1,
        FromWorker::PeerLost {
            peer,
            generation: change,
            garbled: false,
        },
    );
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
}

#[test]
fn the_last_one_to_leave_is_waited_for_while_it_saves() {
    let mut c = Coordinator::running(auto(), &[1]);
    c.drain(1);
    c.progresses(1, c.world.number, 4);
    assert!(c.is_told(1, "Save"));
    let (who, next) = c.world.waiting(c.now).expect("it waits");
    assert_eq!(who, ["worker 1 (node 1)"]);
    assert!(next.contains("has saved"), "{next}");
}
