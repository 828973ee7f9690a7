//! Shares that follow the measured speeds.

use super::*;

/// The members have computed for `seconds`, at so many micro-batches a second.
fn compute(c: &mut Coordinator, seconds: u64, rates: &[(u64, u64)]) {
    let generation = c.current().expect("a world").generation;
    for _ in 0..seconds * 10 {
        c.now += Duration::from_millis(100);
        for (id, rate) in rates {
            let known = c.world.pool[&worker(*id)].counters;
            let counters = WorkerCounters {
                timed: known.timed + rate / 10,
                computing: known.computing + Duration::from_millis(100),
                ..known
            };
            let round = Round(0);
            c.says(
                *id,
                FromWorker::Progress {
                    generation,
                    round,
                    counters,
                    awaits: Vec::new(),
                },
            );
        }
        c.on(Event::Tick);
        let proposed = c.world.pending.as_ref().map(|p| p.record.generation);
        if let Some(generation) = proposed {
            for (id, _) in rates {
                c.progresses(*id, generation, 0);
            }
            return; // the members have voted
        }
    }
}

fn shares(c: &Coordinator) -> Vec<usize> {
    let record = c.current().expect("a world");
    let of = |m: &Member| record.share(m.id, Round(9), 8).len();
    record.members.iter().map(of).collect()
}

#[test]
fn a_node_three_times_slower_gets_a_third_of_the_share() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    assert_eq!(shares(&c), [4, 4]);
    compute(&mut c, 5, &[(1, 300), (2, 100)]);
    assert_eq!(shares(&c), [6, 2]);
}

#[test]
fn equal_nodes_keep_their_shares_whatever_the_noise() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let before = c.current().cloned();
    compute(&mut c, 60, &[(1, 110), (2, 100)]);
    assert_eq!(c.current(), before.as_ref());
}

#[test]
fn shares_change_at_most_every_ten_seconds() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    compute(&mut c, 5, &[(1, 300), (2, 100)]);
    compute(&mut c, 6, &[(1, 100), (2, 300)]);
    assert_eq!(shares(&c), [6, 2]);
    compute(&mut c, 20, &[(1, 100), (2, 300)]);
    assert_eq!(shares(&c), [2, 6]);
}

#[test]
fn a_newcomer_is_expected_to_be_as_fast_as_the_others_are_on_average() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    compute(&mut c, 5, &[(1, 300), (2, 100)]);
    c.hello(3);
    c.caught_up(3, 0);
    let record = &c.world.pending.as_ref().expect("it is taken in").record;
    let weights: Vec<u32> = record.members.iter().map(|m| m.weight).collect();
    assert_eq!(weights, [1000, 333, 667]);
}
