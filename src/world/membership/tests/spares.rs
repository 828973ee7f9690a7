//! Hot spares: in step with a world that has no place for them yet.

use super::*;

/// A full world of two; the third worker has caught up with the second.
fn with_a_spare() -> Coordinator {
    let mut settings = settings(2, 1, 2);
    settings.spares = 1;
    let mut c = Coordinator::running(settings, &[1, 2]);
    c.hello(3);
    c.caught_up(3, 4);
    assert_eq!(c.world.pool[&worker(3)].source(), Some(worker(2)));
    let name = "node 3".to_owned();
    let worker = worker(3);
    assert_eq!(c.notes(), [&Note::Spare { worker, name }]);
    c
}

fn loses_its_source(c: &mut Coordinator) {
    let error = "it hung up".to_owned();
    c.says(3, FromWorker::SourceLost { error });
}

const A_TICK: Duration = Duration::from_millis(100);

#[test]
fn a_spare_that_followed_the_lost_member_takes_its_place() {
    for (before, between) in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 9)] {
        let mut c = with_a_spare();
        loses_its_source(&mut c);
        (0..before).for_each(|_| c.later(A_TICK));
        c.on(Event::SessionBroken(worker(2)));
        (0..between).for_each(|_| c.later(A_TICK));
        c.on(Event::Probed(worker(2), Probe::Refused));
        let generation = c.current().expect("a world").generation;
        c.reports(1, generation, 4, &[0, 1, 2]);
        c.reports(3, Generation::NONE, 4, &[]);
        assert_eq!(c.members(), [1, 3], "{before}, {between}");
    }
}

#[test]
fn a_spare_that_is_told_of_its_loss_late_has_a_place_already() {
    let mut c = with_a_spare();
    c.dies(2);
    let generation = c.current().expect("a world").generation;
    c.reports(1, generation, 4, &[0, 1, 2]);
    c.reports(3, Generation::NONE, 4, &[]);
    loses_its_source(&mut c);
    assert_eq!(c.done, []);
    assert_eq!(c.world.phase_name(), "running");
}

#[test]
fn a_spare_whose_source_lives_is_given_one_again() {
    let mut c = with_a_spare();
    loses_its_source(&mut c);
    c.later(A_TICK);
    assert_eq!(c.world.pool[&worker(3)].source(), None);
    c.later(Duration::from_secs(1));
    assert!(c.is_told(3, "Follow"), "{:?}", c.done);
}
