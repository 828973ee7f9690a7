//! Followers and their checkpoints.

use super::*;

#[test]
fn workers_that_find_no_place_are_named_once() {
    let mut c = Coordinator::running(settings(1, 1, 1), &[1]);
    c.hello(2);
    assert_eq!(c.notes(), [&Note::Idle(vec![worker(2)])]);
    c.on(Event::Tick);
    assert_eq!(c.done, []);
    c.dies(1);
    assert!(c.is_told(2, "Prepare"));
}

#[test]
fn a_follower_is_given_the_newest_checkpoint_or_a_fresh_one() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    let source = c.world.pool[&worker(3)]
        .source()
        .map(|w| w.0)
        .unwrap_or_default();
    c.says(3, FromWorker::NeedCheckpoint { round: Round(5) });
    assert_eq!(c.told(source), [&ToWorker::Save]);
    c.commits(source, 6, false);
    let manifest = "round 6".to_owned();
    assert_eq!(
        c.told(3),
        [&ToWorker::RestoreFrom {
            manifest: manifest.clone()
        }]
    );
    c.hello(4);
    c.says(4, FromWorker::NeedCheckpoint { round: Round(6) });
    assert_eq!(c.told(4), [&ToWorker::RestoreFrom { manifest }]);
}

#[test]
fn followers_spread_over_the_members() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    for id in 3..7 {
        c.hello(id);
    }
    let followers = |of| {
        c.world
            .pool()
            .values()
            .filter(|n| n.source() == Some(worker(of)))
            .count()
    };
    assert_eq!((followers(1), followers(2)), (2, 2));
}

#[test]
fn who_has_been_let_go_is_not_asked_for_a_checkpoint() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    c.says(3, FromWorker::NeedCheckpoint { round: Round(1) });
    assert_eq!(c.told(2), [&ToWorker::Save]);
    c.drain(2);
    c.on(Event::Stop);
    let drained = c.world.number;
    c.progresses(1, drained, 4);
    assert_eq!(c.released(2), Some(&ReleaseReason::Drained));
    c.on(Event::Tick);
    assert_eq!(c.told(2), [] as [&ToWorker; 0]);
    c.says(
        2,
        FromWorker::Bye {
            reason: "Drained".into(),
        },
    );
    let stopped = c.world.number;
    c.progresses(1, stopped, 5);
    assert_eq!(c.told(1), [&ToWorker::Save], "nobody else is at it");
}

#[test]
fn a_checkpoint_committed_while_an_older_one_was_looked_for_stays_the_newest() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    c.commits(1, 6, false);
    let found = |round: u64| Event::Start {
        manifest: Some(format!("round {round}")),
        round: Round(round),
    };
    let given = |c: &mut Coordinator, round: u64| {
        let round = Round(round);
        c.says(3, FromWorker::NeedCheckpoint { round });
        c.told(3).first().map(|message| format!("{message:?}"))
    };
    c.on(found(4));
    let six = given(&mut c, 3).expect("the newest will do");
    assert!(six.contains("round 6"), "{six}");
    // That one is damaged: the one before it is the newest now.
    c.world.doubt("round 6");
    c.on(found(4));
    let four = given(&mut c, 3).expect("the one before it will do");
    assert!(four.contains("round 4"), "{four}");
}
