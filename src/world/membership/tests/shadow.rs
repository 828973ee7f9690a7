//! A shadow: a follower that writes the checkpoints.

use super::*;

/// Members 1 and 2, and worker 9, a shadow that has caught up and writes.
pub(super) fn with_a_shadow() -> Coordinator {
    gets_a_shadow(Coordinator::running(auto(), &[1, 2]))
}

/// As if the members were in round 5.
pub(super) fn gets_a_shadow(mut c: Coordinator) -> Coordinator {
    c.on(Event::Hello {
        trains_on: TRAINS_ON,
        worker: worker(9),
        member: Member {
            id: worker(9),
            address: "node:9".into(),
            weight: 1,
        },
        name: "shadow".into(),
        holdings: Holdings::default(),
        shadow: true,
    });
    assert!(c.is_told(9, "Follow"));
    c.caught_up(9, 5);
    let planned = c
        .world
        .pending
        .as_ref()
        .expect("it is to write")
        .record
        .clone();
    assert_eq!(planned.writer, Some(worker(9)));
    assert!(!planned.has(worker(9)), "it is never a member");
    for id in [1, 2] {
        c.progresses(id, planned.generation, 6);
    }
    assert_eq!(writer(&c), Some(9));
    c
}

fn writer(c: &Coordinator) -> Option<u64> {
    c.current().and_then(|r| r.writer).map(|w| w.0)
}

#[test]
fn when_the_shadow_dies_the_first_member_writes_and_begins_with_a_fresh_checkpoint() {
    let mut c = with_a_shadow();
    c.dies(9);
    c.everybody_reports(&[1, 2], 6);
    assert_eq!(writer(&c), None);
    assert!(c.is_told(1, "Save"), "{:?}", c.done);
}

#[test]
fn when_all_members_die_the_shadow_saves_and_others_start_from_there() {
    let mut c = with_a_shadow();
    c.dies(1);
    c.dies(2);
    let installed = c.current().expect("a world").generation;
    c.reports(9, installed, 6, &[]);
    assert!(c.is_told(9, "Save"), "{:?}", c.done);
    c.commits(9, 6, false);
    c.hello(3);
    assert!(c.is_told(3, "Restore"), "{:?}", c.done);
    c.restored(3, 6);
    c.reports(3, Generation::NONE, 6, &[]);
    assert_eq!(c.members(), [3]);
    assert_eq!(c.current().map(|r| r.base), Some(Round(6)));
}

#[test]
fn a_shadow_that_dies_while_it_saves_leaves_what_there_is() {
    let mut c = with_a_shadow();
    c.dies(1);
    c.dies(2);
    let installed = c.current().expect("a world").generation;
    c.reports(9, installed, 6, &[]);
    c.dies(9);
    c.later(Duration::from_millis(100));
    assert!(c.done.contains(&Command::FindStart), "{:?}", c.done);
}

#[test]
fn a_shadow_that_is_let_go_leaves_when_somebody_else_writes() {
    let mut c = with_a_shadow();
    c.drain(9);
    assert_eq!(c.released(9), None);
    let planned = c.world.pending.as_ref().expect("a change").record.clone();
    assert_eq!(planned.writer, None);
    c.progresses(1, planned.generation, 7);
    assert_eq!(c.released(9), Some(&ReleaseReason::Drained));
}

#[test]
fn a_shadow_that_falls_behind_is_asked_only_once_for_the_checkpoint_it_can_give() {
    let mut c = with_a_shadow();
    let installed = c.current().expect("a world").generation;
    c.progresses(9, installed, 6);
    c.hello(3);
    let round = Round(8);
    c.says(3, FromWorker::NeedCheckpoint { round });
    assert!(c.is_told(9, "Save"), "{:?}", c.done);
    c.commits(9, 6, false);
    assert!(!c.is_told(9, "Save"), "{:?}", c.done);
    let member = c.is_told(1, "Save") || c.is_told(2, "Save");
    assert!(member, "{:?}", c.done);
}

/// Until another one writes: at the end of a run nobody takes its place any more.
#[test]
fn shadow_that_wants_to_leave_still_gets_what_it_needs_to_write() {
    let mut c = with_a_shadow();
    c.drain(9);
    assert_eq!(writer(&c), Some(9));
    c.says(9, FromWorker::NeedCheckpoint { round: Round(8) });
    assert!(c.is_told(1, "Save") || c.is_told(2, "Save"), "{:?}", c.done);
    c.commits(2, 8, false);
    assert!(c.is_told(9, "RestoreFrom"), "{:?}", c.done);
    let error = "it hung up".to_owned();
    c.says(9, FromWorker::SourceLost { error });
    c.later(Duration::from_secs(2));
    assert!(c.is_told(9, "Follow"), "{:?}", c.done);
}
