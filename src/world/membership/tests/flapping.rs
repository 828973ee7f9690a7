//! Nodes that come and are lost again and again.

use super::*;

/// Another process of the same node.
fn comes(c: &mut Coordinator, id: u64) {
    let member = Member {
        id: worker(id),
        address: format!("node:{id}"),
        weight: 1,
    };
    c.on(Event::Hello {
        trains_on: TRAINS_ON,
        worker: worker(id),
        member,
        name: "flap".into(),
        shadow: false,
        holdings: Holdings::default(),
    });
}

fn joins(c: &mut Coordinator, id: u64) {
    comes(c, id);
    c.caught_up(id, 5);
    let generation = c.world.number;
    c.says(id, FromWorker::Ack { generation });
    c.progresses(1, generation, 6);
    c.progresses(id, generation, 6);
    assert_eq!(c.members(), [1, id]);
}

fn is_lost(c: &mut Coordinator, id: u64) {
    c.later(Duration::from_millis(100));
    c.dies(id);
    let installed = c.current().unwrap().generation;
    c.reports(1, installed, 6, &[]);
    c.everybody_progresses(&[1], 6);
}

fn patience(c: &Coordinator) -> Option<(u32, Duration)> {
    c.notes().into_iter().find_map(|note| match note {
        Note::Flapping { losses, wait, .. } => Some((*losses, *wait)),
        _ => None,
    })
}

#[test]
fn a_node_lost_twice_follows_for_a_second_and_is_a_member_then() {
    let mut c = Coordinator::running(auto(), &[1]);
    for id in [2, 3] {
        joins(&mut c, id);
        is_lost(&mut c, id);
    }
    comes(&mut c, 4);
    assert_eq!(patience(&c), Some((2, Duration::from_secs(1))));
    assert!(c.is_told(4, "Follow"));
    c.caught_up(4, 6);
    assert!(!c.is_told(4, "Propose"));
    assert!(c.world.waits_for(c.now, worker(4)).is_some());
    c.later(Duration::from_millis(900));
    assert!(!c.is_told(4, "Propose"));
    c.everybody_progresses(&[1], 6);
    c.later(Duration::from_millis(100));
    assert!(c.is_told(4, "Propose"));
}

#[test]
fn a_node_that_leaves_with_notice_each_time_is_taken_in_at_once() {
    let mut c = Coordinator::running(auto(), &[1]);
    for id in [2, 3, 4] {
        joins(&mut c, id);
        c.drain(id);
        let generation = c.world.number;
        c.progresses(1, generation, 7);
        assert_eq!(c.released(id), Some(&ReleaseReason::Drained));
        let reason = "drained".to_owned();
        c.says(id, FromWorker::Bye { reason });
    }
    comes(&mut c, 5);
    assert_eq!(patience(&c), None);
}

#[test]
fn where_nobody_trains_nobody_waits() {
    let mut c = Coordinator::running(auto(), &[1]);
    for id in [2, 3] {
        joins(&mut c, id);
        is_lost(&mut c, id);
    }
    comes(&mut c, 4);
    c.caught_up(4, 6);
    assert!(c.world.is_waiting(worker(4)));
    let installed = c.current().unwrap().generation;
    c.dies(1);
    c.reports(4, installed, 6, &[]);
    assert_eq!(c.members(), [4]);
}
