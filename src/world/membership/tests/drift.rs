//! Members that hold different states.

use super::*;

/// After round 20 worker 2 of these holds another state than the others, as
/// `by` says; after round 10 all held the same.
fn drifts(c: &mut Coordinator, by: u64, workers: &[u64]) {
    let held = |chain: &str, by: Vec<u64>| HeldState {
        chain: chain.to_owned(),
        by: by.into_iter().map(worker).collect(),
    };
    let others = workers.iter().copied().filter(|w| *w != 2).collect();
    let drift = Drift {
        round: Round(20),
        agreed: Round(10),
        states: vec![held("ab", others), held("cd", vec![2])],
    };
    c.on(Event::Drifted(worker(by), drift));
}

fn starts(c: &mut Coordinator, round: u64) {
    c.on(Event::Start {
        manifest: Some(format!("round {round}")),
        round: Round(round),
    });
}

fn restarts(c: &mut Coordinator, workers: &[u64]) {
    starts(c, 10);
    for id in workers {
        assert!(c.is_told(*id, "Restore"));
    }
    for id in workers {
        c.restored(*id, 10);
    }
    for id in workers {
        c.reports(*id, Generation::NONE, 10, &[]);
    }
}

#[test]
fn the_minority_is_evicted_and_all_go_back_to_where_they_agreed() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    c.commits(1, 10, false);
    c.commits(1, 18, false);
    drifts(&mut c, 3, &[1, 2, 3]);
    assert!(matches!(c.released(2), Some(ReleaseReason::Evicted(_))));
    assert_eq!(c.left(2), Some(&Departure::Drifted));
    let last: Vec<&Command> = c.done.iter().rev().take(2).collect();
    assert_eq!(last, [&Command::FindStart, &Command::GoBack(Round(10))]);
    assert_eq!(c.durable.go_back, Some(Round(10)));
    drifts(&mut c, 1, &[1, 2, 3]);
    assert_eq!(c.done, [], "it is known");
    c.commits(3, 19, false);
    starts(&mut c, 18);
    assert_eq!(c.done, [], "found before it was thrown away");
    restarts(&mut c, &[1, 3]);
    assert_eq!(c.durable.go_back, None);
    assert_eq!(c.current().unwrap().base, Round(10));
}

#[test]
fn a_coordinator_that_starts_again_throws_away_first_what_it_was_about_to() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    drifts(&mut c, 3, &[1, 2, 3]);
    let c = c.restarted();
    assert_eq!(c.done, [Command::GoBack(Round(10)), Command::FindStart]);
}

/// `by` and another hold this after a round.
fn agrees(c: &mut Coordinator, by: u64, round: u64, chain: &str, repeated: Option<(u64, bool)>) {
    let agreed = Agreed {
        round: Round(round),
        chain: chain.to_owned(),
        members: c.members().len(),
        repeated: repeated.map(|(to, differs)| Repeated {
            to: Round(to),
            differs,
        }),
    };
    c.on(Event::Agreed(worker(by), agreed));
}

#[test]
fn of_two_the_one_that_the_repetition_contradicts_is_evicted() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    drifts(&mut c, 1, &[1, 2]);
    assert_eq!((c.left(1), c.left(2)), (None, None));
    restarts(&mut c, &[1, 2]);
    agrees(&mut c, 1, 15, "ef", None);
    assert_eq!(c.left(2), None);
    agrees(&mut c, 1, 20, "ab", None);
    assert_eq!(c.left(2), Some(&Departure::Drifted));
    assert_eq!(c.left(1), None);
}

#[test]
fn of_two_that_were_both_wrong_by_then_the_one_that_was_so_first_is_evicted() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    drifts(&mut c, 1, &[1, 2]);
    restarts(&mut c, &[1, 2]);
    agrees(&mut c, 1, 20, "99", Some((18, true)));
    assert_eq!((c.left(1), c.left(2)), (None, None), "2 may say less");
    agrees(&mut c, 2, 20, "99", Some((17, true)));
    assert_eq!(c.left(2), Some(&Departure::Drifted));
    assert_eq!(c.left(1), None);
}

#[test]
fn of_two_nobody_is_evicted_if_it_can_not_be_told_who_was_wrong_first() {
    type Said = Option<(u64, bool)>;
    let unclear: [(Said, Said); 4] = [
        (None, None),
        (Some((17, true)), Some((17, true))),
        (Some((17, true)), Some((17, false))),
        (Some((17, true)), None),
    ];
    for (first, second) in unclear {
        let mut c = Coordinator::running(auto(), &[1, 2]);
        drifts(&mut c, 1, &[1, 2]);
        restarts(&mut c, &[1, 2]);
        agrees(&mut c, 1, 20, "99", first);
        agrees(&mut c, 2, 20, "99", second);
        agrees(&mut c, 1, 30, "98", Some((1, true)));
        assert_eq!((c.left(1), c.left(2)), (None, None), "{first:?} {second:?}");
    }
}

#[test]
fn two_that_differed_do_the_rounds_again_together() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    drifts(&mut c, 1, &[1, 2]);
    starts(&mut c, 10);
    c.restored(1, 10);
    assert!(!c.is_told(1, "Prepare"), "2 is still here");
    c.dies(2);
    assert!(c.is_told(1, "Prepare"));
}

#[test]
fn checkpoint_of_the_drifted_state_that_comes_late_is_thrown_away_too() {
    let mut c = super::shadow::with_a_shadow();
    drifts(&mut c, 1, &[1, 2]);
    starts(&mut c, 10);
    assert!(c.is_told(9, "Restore"));
    c.commits(9, 18, false);
    let done = [Command::GoBack(Round(10)), Command::FindStart];
    assert!(c.done.ends_with(&done), "{:?}", c.done);
    starts(&mut c, 18);
    assert_eq!(c.done, [], "found before it was thrown away");
    starts(&mut c, 10);
    for id in [1, 2] {
        c.restored(id, 10);
        assert!(!c.is_told(1, "Prepare"), "the shadow still goes back");
    }
    c.restored(9, 10);
    assert!(c.is_told(1, "Prepare"));
}

#[test]
fn states_that_differ_a_third_time_before_the_round_is_passed_end_the_run() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    for _ in 0..2 {
        drifts(&mut c, 1, &[1, 2]);
        assert!(c.done.contains(&Command::FindStart));
        restarts(&mut c, &[1, 2]);
    }
    drifts(&mut c, 1, &[1, 2]);
    let failed = |c: &Command| matches!(c, Command::End(Outcome::Failed(_)));
    assert!(c.done.iter().any(failed), "{:?}", c.done);
}
