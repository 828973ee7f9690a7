//! What rides with a sum, and what must not.

use super::*;
use proptest::prelude::*;

fn trailer(micro_batch: u32, change: u32, sha: u8) -> Trailer {
    let mut totals = Totals::new(1, 2);
    totals.add_empty(micro_batch);
    let mut trailer = Trailer::new(totals);
    trailer.votes.insert(
        Generation {
            incarnation: 1,
            counter: change,
        },
        1,
    );
    let digest = StateDigest {
        round: 100,
        sha256: [sha; 32],
    };
    let by = vec![WorkerId(u64::from(micro_batch))];
    trailer.digests.push(Held { digest, by });
    trailer
}

#[test]
fn votes_are_counted_and_equal_digests_kept_once() {
    let mut sum = trailer(0, 7, 1);
    sum.merge(&trailer(1, 7, 1)).unwrap();
    assert_eq!(sum.votes.values().collect::<Vec<_>>(), [&2]);
    assert_eq!(sum.digests.len(), 1);
    assert_eq!(sum.drift(), None);
    assert_eq!(sum.agreed_by(2).map(|state| state.round), Some(100));
    assert_eq!(sum.agreed_by(3), None);
    assert_eq!(Trailer::from_bytes(&sum.to_bytes()).unwrap(), sum);
}

#[test]
fn members_with_different_states_after_a_round_are_noticed() {
    let mut sum = trailer(0, 7, 1);
    let mut other = trailer(1, 7, 2);
    other.agreed = 90;
    sum.merge(&other).unwrap();
    sum.merge(&trailer(2, 7, 1)).unwrap();
    assert_eq!(Trailer::from_bytes(&sum.to_bytes()).unwrap(), sum);
    let drift = sum.drift().unwrap();
    assert_eq!((drift.round, drift.agreed), (Round(100), Round(90)));
    let by: Vec<&[WorkerId]> = drift.states.iter().map(|s| &s.by[..]).collect();
    assert_eq!(by, [&[WorkerId(0), WorkerId(2)][..], &[WorkerId(1)]]);
    assert_eq!(sum.agreed_by(3), None);
}

#[test]
fn a_contribution_is_of_the_share_and_the_model_that_it_should_be_of() {
    let shape = Shape {
        values: 9,
        metrics: 1,
        parameters: 2,
    };
    let mut ours = trailer(3, 7, 1);
    ours.totals.add_empty(5);
    assert!(ours.covers(shape, [3, 5]).is_ok() && ours.is_ones(WorkerId(3)).is_ok());
    assert!(ours.is_ones(WorkerId(4)).is_err(), "it speaks for another");
    for other in [vec![3], vec![3, 5, 6], vec![3, 4]] {
        assert!(matches!(
            ours.covers(shape, other),
            Err(TrailerError::Share)
        ));
    }
    assert!(matches!(
        ours.covers(shape.of_evaluation(), [3, 5]),
        Err(TrailerError::Shape { .. })
    ));
    ours.merge(&trailer(4, 7, 1)).unwrap();
    assert!(
        matches!(ours.is_ones(WorkerId(3)), Err(TrailerError::Votes)),
        "two votes of one"
    );
}

#[test]
fn totals_that_no_gradients_add_up_to_are_refused_before_they_are_merged() {
    let shape = Shape {
        values: 9,
        metrics: 1,
        parameters: 2,
    };
    let absurd: [fn(&mut Totals); 4] = [
        |totals| totals.weight = u64::MAX,
        |totals| totals.loss = i64::MIN,
        |totals| totals.metrics[0] = i64::MAX,
        |totals| totals.parameters[1].rounded_to_zero = u64::MAX,
    ];
    for make_absurd in absurd {
        let mut theirs = trailer(3, 7, 1);
        make_absurd(&mut theirs.totals);
        let theirs = Trailer::from_bytes(&theirs.to_bytes()).unwrap();
        let refused = theirs.covers(shape, [3]);
        assert!(matches!(refused, Err(TrailerError::Excess)), "{refused:?}");
    }
}

/// So many shards that this member has written.
fn shards(by: u64, count: usize) -> Vec<Written> {
    let shard = |index: usize| Written {
        by: WorkerId(by),
        round: 9,
        part: [Part::Weights, Part::Optimizer][index % 2],
        index: index as u32,
        sha256: [index as u8; 32],
    };
    (0..count).map(shard).collect()
}

#[test]
fn a_member_tells_of_its_own_shards_and_of_so_many_at_a_time() {
    let mut ours = trailer(3, 7, 1);
    ours.written = shards(3, WRITTEN_OF_ONE_MAX);
    assert!(ours.is_ones(WorkerId(3)).is_ok());
    ours.written.extend(shards(3, 1));
    assert!(ours.is_ones(WorkerId(3)).is_err(), "too many");
    ours.written = shards(4, 1);
    assert!(ours.is_ones(WorkerId(3)).is_err(), "another's");
}

#[test]
fn of_more_shards_than_a_trailer_holds_the_first_are_told() {
    let members = WRITTEN_MAX / WRITTEN_OF_ONE_MAX + 2;
    let mut sum = trailer(0, 7, 1);
    for member in 1..members {
        let mut other = trailer(member as u32, 7, 1);
        other.written = shards(member as u64, WRITTEN_OF_ONE_MAX);
        sum.merge(&other).unwrap();
    }
    assert_eq!(sum.written.len(), WRITTEN_MAX);
    assert_eq!(Trailer::from_bytes(&sum.to_bytes()).unwrap(), sum);
}

proptest! {
    #[test]
    fn what_is_written_down_is_read_again(
        micro_batch in 0u32..100,
        change in any::<u32>(),
        sha in any::<u8>(),
        agreed in any::<u64>(),
        written in prop::collection::vec(
            (any::<u64>(), any::<u64>(), any::<bool>(), any::<u32>(), any::<[u8; 32]>()),
            0..40,
        ),
    ) {
        let mut trailer = trailer(micro_batch, change, sha);
        trailer.agreed = agreed;
        let written = written.into_iter();
        trailer.written.extend(written.map(|(by, round, weights, index, sha256)| Written {
            by: WorkerId(by),
            round,
            part: if weights { Part::Weights } else { Part::Optimizer },
            index,
            sha256,
        }));
        let bytes = trailer.to_bytes();
        prop_assert_eq!(Trailer::from_bytes(&bytes).unwrap(), trailer);
        prop_assert!(Trailer::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Trailer::from_bytes(&bytes);
    }
}
