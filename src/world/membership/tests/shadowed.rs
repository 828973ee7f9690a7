//! A shadow that holds something else than the members.

use super::shadow::with_a_shadow;
use super::*;

fn shadow_holds(c: &mut Coordinator, round: u64, chain: &str) {
    c.on(Event::Holds(worker(9), Round(round), chain.to_owned()));
}

fn members_hold(c: &mut Coordinator, by: u64, round: u64, chain: &str) {
    let agreed = Agreed {
        round: Round(round),
        chain: chain.to_owned(),
        members: c.members().len(),
        repeated: None,
    };
    c.on(Event::Agreed(worker(by), agreed));
}

/// Both members and the shadow hold the same after round 10.
fn same_after_10() -> Coordinator {
    let mut c = with_a_shadow();
    members_hold(&mut c, 1, 10, "ab");
    members_hold(&mut c, 2, 10, "ab");
    shadow_holds(&mut c, 10, "ab");
    c.commits(9, 12, false);
    assert_eq!(c.left(9), None);
    c
}

#[test]
fn shadow_that_holds_another_state_is_evicted_and_its_checkpoints_go() {
    for shadow_first in [true, false] {
        let mut c = same_after_10();
        if shadow_first {
            shadow_holds(&mut c, 15, "ef");
            members_hold(&mut c, 1, 15, "cd");
        } else {
            members_hold(&mut c, 1, 15, "cd");
            members_hold(&mut c, 1, 20, "cd2");
            shadow_holds(&mut c, 15, "ef");
        }
        assert_eq!(c.left(9), Some(&Departure::Drifted));
        assert_eq!((c.left(1), c.left(2)), (None, None));
        assert!(c.done.contains(&Command::GoBack(Round(10))), "{:?}", c.done);
    }
}

#[test]
fn what_only_one_side_has_said_is_no_difference() {
    let mut c = same_after_10();
    shadow_holds(&mut c, 13, "of another round");
    members_hold(&mut c, 1, 15, "cd");
    shadow_holds(&mut c, 15, "cd");
    members_hold(&mut c, 2, 15, "cd");
    assert_eq!((c.left(9), c.done.len()), (None, 0));
}

#[test]
fn who_does_not_write_is_not_compared() {
    let mut c = same_after_10();
    c.dies(9);
    c.everybody_reports(&[1, 2], 14);
    shadow_holds(&mut c, 15, "ef");
    members_hold(&mut c, 1, 15, "cd");
    assert_eq!(c.done, []);
}

/// Nobody can say who of them is wrong: both go back.
#[test]
fn one_member_that_holds_another_state_than_its_shadow_goes_back_with_it() {
    let mut c = same_after_10();
    c.dies(2);
    c.everybody_reports(&[1, 9], 14);
    assert_eq!(c.members(), [1]);
    c.everybody_progresses(&[1], 14);
    assert_eq!(c.current().expect("a world").writer, Some(worker(9)));
    members_hold(&mut c, 1, 15, "cd");
    shadow_holds(&mut c, 15, "ef");
    assert!(c.done.contains(&Command::GoBack(Round(10))), "{:?}", c.done);
    assert_eq!((c.left(1), c.left(9)), (None, None));
    c.on(Event::Start {
        manifest: Some("round 10".into()),
        round: Round(10),
    });
    assert!(c.is_told(1, "Restore") && c.is_told(9, "Restore"));
}

#[test]
fn before_they_were_compared_what_was_there_when_the_shadow_came_is_sound() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.commits(1, 4, false);
    let mut c = super::shadow::gets_a_shadow(c);
    members_hold(&mut c, 1, 15, "cd");
    shadow_holds(&mut c, 15, "ef");
    assert!(c.done.contains(&Command::GoBack(Round(4))), "{:?}", c.done);
}
