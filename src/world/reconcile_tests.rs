//! How a world goes on, given what everybody holds.

use proptest::prelude::*;

use super::*;

fn worker(id: u64) -> WorkerId {
    WorkerId(id)
}

fn node(id: u64) -> Member {
    Member {
        id: worker(id),
        address: format!("node:{id}"),
        weight: 1,
    }
}

fn generation(counter: u32) -> Generation {
    Generation {
        incarnation: 1,
        counter,
    }
}

/// A world of these workers, in its usual shares.
fn world(members: &[u64]) -> GenerationRecord {
    let members = members.iter().map(|id| node(*id)).collect();
    GenerationRecord::installed(generation(1), members)
}

/// Somebody at `round` of 6 micro-batches who holds these of it.
fn at(round: u64, held: &[u32]) -> Holdings {
    Holdings {
        installed: generation(1),
        fence: generation(2),
        round: Some(Round(round)),
        has_last_sum: round > 0,
        held: held.to_vec(),
        micro_batches: 6,
        leaving: None,
    }
}

struct Case {
    current: GenerationRecord,
    reports: BTreeMap<WorkerId, Holdings>,
    leaving: BTreeSet<WorkerId>,
    shadows: BTreeSet<WorkerId>,
    writer: Option<WorkerId>,
    admit: BTreeSet<WorkerId>,
    members_min: usize,
    members_max: usize,
    checkpoint: Round,
}

fn case(current: GenerationRecord, reports: &[(u64, Holdings)]) -> Case {
    Case {
        current,
        reports: reports
            .iter()
            .map(|(id, h)| (worker(*id), h.clone()))
            .collect(),
        leaving: BTreeSet::new(),
        shadows: BTreeSet::new(),
        writer: None,
        admit: BTreeSet::new(),
        members_min: 1,
        members_max: 8,
        checkpoint: Round(0),
    }
}

impl Case {
    fn decide(&self) -> Outcome {
        let nodes = self.reports.keys().map(|id| (*id, node(id.0))).collect();
        reconcile(&Situation {
            generation: generation(2),
            current: &self.current,
            reports: &self.reports,
            nodes: &nodes,
            leaving: &self.leaving,
            shadows: &self.shadows,
            writer: self.writer,
            admit: &self.admit,
            members_min: self.members_min,
            members_max: self.members_max,
            checkpoint: self.checkpoint,
        })
    }

    fn plan(&self) -> Plan {
        match self.decide() {
            Outcome::Install(plan) => plan,
            Outcome::Lost => panic!("nobody holds a state to go on from"),
        }
    }
}

fn ids(plan: &Plan) -> Vec<u64> {
    plan.record.members.iter().map(|m| m.id.0).collect()
}

fn first(plan: &Plan) -> Vec<(u64, Vec<u32>)> {
    let shares = plan.record.first.clone().unwrap_or_default();
    shares
        .iter()
        .map(|(id, share)| (id.0, share.clone()))
        .collect()
}

#[test]
fn worker_killed_during_all_gather_loses_no_micro_batch() {
    // All had contributed, nobody got the whole sum, worker 3 is gone with
    // what it held: 4 and 5 are handed out, all else is kept.
    let plan = case(
        world(&[1, 2, 3]),
        &[(1, at(4, &[0, 1])), (2, at(4, &[2, 3]))],
    )
    .plan();
    assert_eq!(ids(&plan), [1, 2]);
    assert_eq!(plan.record.base, Round(4));
    assert_eq!(first(&plan), [(1, vec![0, 1, 4]), (2, vec![2, 3, 5])]);
    assert_eq!(plan.recomputed, 2);
    assert_eq!(plan.record.source, None);
}

#[test]
fn the_only_holder_of_the_sum_is_the_source() {
    let plan = case(world(&[1, 2, 3]), &[(1, at(4, &[0, 1])), (2, at(5, &[]))]).plan();
    assert_eq!(plan.record.base, Round(5));
    assert_eq!(plan.record.source, Some(node(2)));
    assert_eq!(
        ids(&plan),
        [1, 2],
        "worker 1 fetches the sum and goes on with it"
    );
}

#[test]
fn a_follower_that_is_one_sum_ahead_is_the_source_but_no_member() {
    // Worker 2 streamed the sum to worker 9 and died before anybody else had it.
    let reports = [(1, at(4, &[0, 1, 2])), (9, at(5, &[]))];
    let plan = case(world(&[1, 2]), &reports).plan();
    assert_eq!(plan.record.base, Round(5));
    assert_eq!(plan.record.source, Some(node(9)));
    assert_eq!(ids(&plan), [1]);
}

#[test]
fn a_state_without_its_sum_is_no_base_for_those_behind_it() {
    // Worker 9 has restored a checkpoint that the members haven't reached.
    let ahead = Holdings {
        has_last_sum: false,
        ..at(5, &[])
    };
    let plan = case(
        world(&[1, 2]),
        &[(1, at(4, &[])), (2, at(4, &[])), (9, ahead)],
    )
    .plan();
    assert_eq!(plan.record.base, Round(4));
}

#[test]
fn who_cannot_catch_up_is_no_member() {
    let without_sum = Holdings {
        has_last_sum: false,
        ..at(5, &[])
    };
    let plan = case(world(&[1, 2]), &[(1, without_sum), (2, at(4, &[1]))]).plan();
    assert_eq!(ids(&plan), [1]);
    assert_eq!(plan.record.source, None);
}

#[test]
fn what_a_survivor_was_about_to_compute_stays_with_it() {
    // Nobody has begun: the shares of three were 0..2, 2..4 and 4..6.
    let plan = case(world(&[1, 2, 3]), &[(1, at(4, &[])), (2, at(4, &[]))]).plan();
    assert_eq!(first(&plan), [(1, vec![0, 1, 4]), (2, vec![2, 3, 5])]);
}

#[test]
fn a_broken_connection_costs_no_gradient() {
    let plan = case(world(&[1, 2]), &[(1, at(4, &[0, 1, 2])), (2, at(4, &[3]))]).plan();
    assert_eq!(first(&plan), [(1, vec![0, 1, 2]), (2, vec![3, 4, 5])]);
    assert_eq!(plan.recomputed, 0);
}

#[test]
fn a_partial_of_an_older_round_does_not_count() {
    let plan = case(world(&[1, 2]), &[(1, at(5, &[])), (2, at(4, &[3, 4, 5]))]).plan();
    assert_eq!(first(&plan), [(1, vec![0, 1, 2]), (2, vec![3, 4, 5])]);
}

#[test]
fn the_partial_of_a_process_outside_the_world_is_void() {
    let mut current = world(&[1]);
    current.leavers = vec![worker(2)];
    let plan = case(current, &[(1, at(4, &[])), (2, at(4, &[3, 4, 5]))]).plan();
    assert_eq!(first(&plan), [(1, vec![0, 1, 2, 3, 4, 5])]);
    assert_eq!(plan.record.leavers, [worker(2)]);
}

#[test]
fn below_the_minimum_the_world_is_paused() {
    let mut case = case(world(&[1, 2]), &[(1, at(4, &[0]))]);
    case.members_min = 2;
    assert!(case.plan().record.paused);
}

#[test]
fn a_paused_world_takes_in_whoever_has_caught_up() {
    let mut current = world(&[1]);
    current.paused = true;
    let mut case = case(
        current,
        &[(1, at(4, &[0])), (7, at(4, &[])), (8, at(3, &[]))],
    );
    case.admit = [7, 8].map(worker).into();
    case.members_min = 2;
    let plan = case.plan();
    assert_eq!(ids(&plan), [1, 7], "worker 8 is not there yet");
    assert!(!plan.record.paused);
    assert_eq!(first(&plan), [(1, vec![0, 2, 4]), (7, vec![1, 3, 5])]);
}

#[test]
fn a_hot_spare_takes_the_share_of_a_lost_member() {
    let reports = [(1, at(4, &[0, 1, 2])), (9, at(4, &[]))];
    let mut case = case(world(&[1, 2]), &reports);
    case.admit = [9].map(worker).into();
    let plan = case.plan();
    assert_eq!(ids(&plan), [1, 9]);
    assert_eq!(first(&plan), [(1, vec![0, 1, 2]), (9, vec![3, 4, 5])]);
}

#[test]
fn a_hot_spare_that_lacks_the_last_sum_fetches_it() {
    let reports = [(1, at(4, &[0, 1, 2])), (8, at(2, &[])), (9, at(3, &[]))];
    let mut case = case(world(&[1, 2]), &reports);
    case.admit = [8, 9].map(worker).into();
    let plan = case.plan();
    assert_eq!(ids(&plan), [1, 9], "worker 8 is too far behind");
    assert_eq!(plan.record.source.map(|m| m.id), Some(worker(1)));
}

#[test]
fn where_all_members_are_gone_a_follower_goes_on() {
    let plan = case(world(&[1]), &[(8, at(3, &[])), (9, at(4, &[]))]).plan();
    assert_eq!(ids(&plan), [9]);
    assert_eq!(plan.record.base, Round(4));
}

#[test]
fn a_checkpoint_is_better_than_a_follower_that_is_older() {
    let mut case = case(world(&[1]), &[(9, at(4, &[]))]);
    case.checkpoint = Round(5);
    assert_eq!(case.decide(), Outcome::Lost);
}

#[test]
fn a_leaver_that_holds_the_only_state_stays_until_it_is_saved() {
    let mut current = world(&[]);
    current.leavers = vec![worker(3)];
    let mut case = case(current, &[(3, at(4, &[0, 1]))]);
    case.leaving = [worker(3)].into();
    assert_eq!(ids(&case.plan()), [3]);
}

/// It joined by a change that the leaver has entered, but its stream had broken.
#[test]
fn a_newcomer_that_never_came_to_the_leavers_state_leaves_the_world_to_it() {
    let mut current = world(&[1]);
    current.leavers = vec![worker(2)];
    let behind = case(current, &[(1, at(0, &[])), (2, at(2, &[]))]);
    let plan = behind.plan();
    assert_eq!((ids(&plan), plan.record.base), (vec![2], Round(2)));
    assert_eq!(plan.recomputed, 0);
}

/// Then what the shadow holds is saved, and a new world starts there.
#[test]
fn members_that_never_came_to_the_writers_state_are_no_world() {
    let mut current = world(&[1]);
    current.writer = Some(worker(9));
    let mut behind = case(current, &[(1, at(0, &[])), (9, at(2, &[]))]);
    behind.shadows.insert(worker(9));
    assert_eq!(behind.decide(), Outcome::Lost);
}

#[test]
fn without_any_state_the_world_is_lost() {
    assert_eq!(
        case(world(&[1, 2]), &[(9, Holdings::default())]).decide(),
        Outcome::Lost
    );
    assert_eq!(case(world(&[1, 2]), &[]).decide(), Outcome::Lost);
}

#[test]
fn two_that_hold_the_same_micro_batch_are_not_both_believed() {
    let plan = case(world(&[1, 2]), &[(1, at(4, &[0, 1])), (2, at(4, &[1, 2]))]).plan();
    assert_eq!(ids(&plan), [1]);
    assert_eq!(plan.conflicting, [worker(2)]);
}

#[test]
fn a_world_begins_with_all_that_hold_its_state_and_no_more_than_the_maximum() {
    let reports: Vec<(u64, Holdings)> = (1..6).map(|id| (id, at(0, &[]))).collect();
    let mut case = case(world(&[]), &reports);
    case.members_max = 3;
    let plan = case.plan();
    assert_eq!(ids(&plan), [1, 2, 3]);
    assert_eq!((plan.record.first, plan.recomputed), (None, 0));
}

/// Members, of whom some are gone, and how far each of the others has come.
fn survivors() -> impl Strategy<Value = (u64, u32, Vec<(u64, bool, u32)>)> {
    (1u64..7, 0u32..20).prop_flat_map(|(members, micro_batches)| {
        let one = (0..members, any::<bool>(), 0..=micro_batches);
        let survivors = prop::collection::vec(one, 1..7);
        (Just(members), Just(micro_batches), survivors)
    })
}

proptest! {
    #[test]
    fn every_micro_batch_is_computed_exactly_once(
        (members, micro_batches, survivors) in survivors()
    ) {
        let all: Vec<u64> = (0..members).collect();
        let current = world(&all);
        let mut reports = BTreeMap::new();
        for (id, ahead, done) in survivors {
            let round = if ahead { Round(5) } else { Round(4) };
            let share = current.share(worker(id), round, micro_batches);
            let done = (done as usize).min(share.len());
            let held = share[..done].to_vec();
            let held = if round == Round(4) { held } else { Vec::new() };
            let holdings = Holdings { micro_batches, held, ..at(round.0, &[]) };
            reports.insert(id, holdings);
        }
        let reports: Vec<(u64, Holdings)> = reports.into_iter().collect();
        let plan = case(current.clone(), &reports).plan();

        let mut computed = Vec::new();
        let mut lost = 0;
        for member in &plan.record.members {
            let share = plan.record.share(member.id, plan.record.base, micro_batches);
            let report = &reports.iter().find(|(id, _)| *id == member.id.0).unwrap().1;
            if report.round == Some(plan.record.base) {
                prop_assert!(report.held.iter().all(|m| share.contains(m)));
            }
            computed.extend(share);
        }
        for member in current.members.iter().filter(|m| !plan.record.has(m.id)) {
            lost += current.share(member.id, plan.record.base, micro_batches).len();
        }
        computed.sort_unstable();
        prop_assert_eq!(computed, (0..micro_batches).collect::<Vec<_>>());
        prop_assert!(plan.recomputed as usize <= lost);
    }
}
