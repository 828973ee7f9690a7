//! Members that fall silent, with their sessions open.

use super::*;

/// What of 30 s of patience passes before somebody who speaks every tenth of a
/// second is asked.
const QUIET: u64 = 300;

/// Members that have spoken every 100 ms for a while.
fn speaking(members: &[u64]) -> Coordinator {
    let mut c = Coordinator::running(auto(), members);
    for _ in 0..10 {
        passes(&mut c, 100, members, &[]);
    }
    c
}

/// So long do the `speakers` say, every 100 ms, that they lack the part of `awaited`.
fn passes(c: &mut Coordinator, ms: u64, speakers: &[u64], awaited: &[u64]) {
    let generation = c.current().expect("a world").generation;
    for _ in 0..ms / 100 {
        c.now += Duration::from_millis(100);
        for id in speakers {
            c.progresses_awaiting(*id, generation, 0, awaited);
        }
        c.on(Event::Tick);
    }
}

fn asked(c: &Coordinator, id: u64) -> bool {
    let of = |d: &Command| matches!(d, Command::Probe { worker: w, .. } if *w == worker(id));
    c.done.iter().any(of)
}

#[test]
fn one_that_falls_silent_is_asked_and_the_others_go_on_without_it() {
    let mut c = speaking(&[1, 2, 3]);
    passes(&mut c, QUIET - 100, &[1, 2], &[3]);
    assert!(!asked(&c, 3), "a word or two may be late");
    passes(&mut c, 100, &[1, 2], &[3]);
    assert!(asked(&c, 3), "{:?}", c.done);
    c.on(Event::Probed(worker(3), Probe::Silent));
    assert_eq!(c.left(3), Some(&Departure::Vanished));
    assert!(matches!(c.released(3), Some(ReleaseReason::Evicted(_))));
    c.everybody_reports(&[1, 2], 0);
    assert_eq!(c.members(), [1, 2]);
}

#[test]
fn one_that_answers_stays() {
    let mut c = speaking(&[1, 2, 3]);
    passes(&mut c, QUIET, &[1, 2], &[3]);
    c.on(Event::Probed(worker(3), Probe::Accepted));
    assert_eq!(c.members(), [1, 2, 3]);
    passes(&mut c, QUIET, &[1, 2], &[3]);
    assert!(asked(&c, 3), "it is asked again");
}

#[test]
fn an_answer_that_comes_after_a_word_is_old() {
    let mut c = speaking(&[1, 2, 3]);
    passes(&mut c, QUIET, &[1, 2], &[3]);
    passes(&mut c, 100, &[1, 2, 3], &[]);
    c.on(Event::Probed(worker(3), Probe::Silent));
    assert_eq!(c.left(3), None);
}

#[test]
fn nobody_is_asked_while_nobody_waits() {
    let mut c = speaking(&[1, 2, 3]);
    passes(&mut c, 5000, &[1, 2], &[]);
    assert!(!asked(&c, 3), "its sums come: only we don't hear it");
}

#[test]
fn what_it_said_before_it_fell_silent_is_not_what_it_waits_for() {
    let mut c = speaking(&[1, 2]);
    passes(&mut c, 100, &[1, 2], &[1, 2]); // each lacks the other's part
    passes(&mut c, QUIET, &[1], &[2]);
    assert!(asked(&c, 2), "{:?}", c.done);
}

#[test]
fn when_all_are_silent_nobody_goes() {
    let mut c = speaking(&[1, 2]);
    passes(&mut c, 100, &[1], &[2]);
    passes(&mut c, 10_000, &[], &[]);
    assert!(!asked(&c, 1) && !asked(&c, 2), "they may train on");
}

#[test]
fn after_a_pause_of_our_own_nobody_is_quiet() {
    let mut c = speaking(&[1, 2]);
    passes(&mut c, 100, &[1], &[2]);
    c.later(Duration::from_secs(5));
    assert!(!asked(&c, 2));
}

#[test]
fn one_that_falls_silent_before_it_has_reported_is_not_waited_for() {
    let mut c = speaking(&[1, 2, 3]);
    c.dies(3);
    let installed = c.current().expect("a world").generation;
    c.reports(1, installed, 0, &[]);
    for _ in 0..QUIET / 100 {
        c.now += Duration::from_millis(100);
        c.on(Event::Tick);
    }
    assert!(asked(&c, 2));
    c.on(Event::Probed(worker(2), Probe::Silent));
    assert_eq!(c.members(), [1]);
}
