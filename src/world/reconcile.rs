//! What the new world is, given what everybody reported: one pure decision.
//!
//! The rule in one sentence: go on from the newest state for which somebody
//! holds the sum that leads there; keep every partial sum of that round, and
//! hand out only the micro-batches that no survivor's partial holds.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::message::Holdings;
use super::{FirstShares, Generation, GenerationRecord, Member, Origin, Round, Shared, WorkerId};

/// All that the decision depends on.
pub struct Situation<'a> {
    /// The number of the world to come.
    pub generation: Generation,
    /// The world that was in force when its members reported (a planned change
    /// that any of them reports as entered is in force).
    pub current: &'a GenerationRecord,
    /// What those that are still there reported.
    pub reports: &'a BTreeMap<WorkerId, Holdings>,
    /// How each of them is reached and how much it can do.
    pub nodes: &'a BTreeMap<WorkerId, Member>,
    /// Those that asked to leave.
    pub leaving: &'a BTreeSet<WorkerId>,
    /// Those that can never be members.
    pub shadows: &'a BTreeSet<WorkerId>,
    /// Who is to write the checkpoints, if it is in step.
    pub writer: Option<WorkerId>,
    /// Processes outside `current` that may enter right away if they hold the
    /// right state and there is room: whoever comes to a paused world, and hot
    /// spares in place of the lost.
    pub admit: &'a BTreeSet<WorkerId>,
    /// Fewer members than this pause.
    pub members_min: usize,
    /// No more members than this.
    pub members_max: usize,
    /// The round of the newest checkpoint: what is older is not gone on from
    /// once all members are gone.
    pub checkpoint: Round,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The world goes on.
    Install(Plan),
    /// Nobody holds a state to go on from.
    Lost,
}

/// A world that can go on, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The new world.
    pub record: GenerationRecord,
    /// Micro-batches that had been handed out to a process that is gone, and
    /// are handed out again.
    pub recomputed: u32,
    /// Reporters whose partial overlaps another's: a bug, they are let go.
    pub conflicting: Vec<WorkerId>,
}

/// Decides how the world goes on.
pub fn reconcile(s: &Situation) -> Outcome {
    let Some(base) = base(s) else {
        return Outcome::Lost;
    };
    let holder = sum_holder(s, base);
    let (members, conflicting) = members(s, base, holder.is_some());
    if members.is_empty() {
        return Outcome::Lost;
    }
    let total = members
        .iter()
        .chain(&holder)
        .filter_map(|w| s.reports.get(w))
        .find(|h| h.round == Some(base))
        .map_or(0, |h| h.micro_batches);
    let (first, recomputed) = first_shares(s, base, total, &members);
    let lags = members.iter().any(|w| s.reports[w].round != Some(base));
    let record = GenerationRecord {
        generation: s.generation,
        members: members
            .iter()
            .filter_map(|w| s.nodes.get(w).cloned())
            .collect(),
        base,
        first: first.map(Shared::from),
        source: holder
            .filter(|_| lags)
            .and_then(|w| s.nodes.get(&w).cloned()),
        leavers: leavers(s, &members),
        paused: members.len() < s.members_min,
        writer: s
            .writer
            .filter(|w| s.reports.get(w).is_some_and(|h| h.round == Some(base))),
        origin: Origin::Installed,
    };
    Outcome::Install(Plan {
        record,
        recomputed,
        conflicting,
    })
}

/// Whether no member is left, or there was none. Then whoever holds a state, a
/// follower or a leaver, is welcome to go on from it.
fn is_orphaned(s: &Situation) -> bool {
    !s.reports
        .iter()
        .any(|(w, h)| s.current.has(*w) && h.round.is_some())
}

/// Reporters whose state the new world may go on from. A leaver and the writer are
/// of this world too: members may have joined it and never have come to its state.
fn eligible(s: &Situation, worker: WorkerId, round: Round) -> bool {
    let of_it = s.current.leavers.contains(&worker) || s.current.writer == Some(worker);
    s.current.has(worker) || ((of_it || is_orphaned(s)) && round >= s.checkpoint)
}

fn base(s: &Situation) -> Option<Round> {
    let newest_member = s
        .reports
        .iter()
        .filter_map(|(w, h)| h.round.filter(|round| eligible(s, *w, *round)))
        .max()?;
    // Somebody outside (a follower, a leaver) may hold one sum more than any
    // member; further ahead it can't be, so it would belong to another world.
    let ahead = s
        .reports
        .values()
        .filter(|h| h.has_last_sum)
        .filter_map(|h| h.round)
        .filter(|n| *n == newest_member.next())
        .max();
    Some(ahead.unwrap_or(newest_member))
}

/// Who gives sum `base - 1` to the members that lack it; a member if possible.
fn sum_holder(s: &Situation, base: Round) -> Option<WorkerId> {
    let holders = || {
        s.reports
            .iter()
            .filter(|(_, h)| h.round == Some(base) && h.has_last_sum)
            .map(|(w, _)| *w)
    };
    holders()
        .find(|w| s.current.has(*w))
        .or_else(|| holders().next())
}

fn members(s: &Situation, base: Round, can_fetch: bool) -> (Vec<WorkerId>, Vec<WorkerId>) {
    let fits = |h: &Holdings| {
        h.round == Some(base) || (can_fetch && h.round.is_some() && h.round == base.previous())
    };
    let mut members: Vec<WorkerId> = s
        .current
        .members
        .iter()
        .map(|m| m.id)
        .filter(|w| s.reports.get(w).is_some_and(fits))
        .collect();
    // Only a hot spare is worth the wait for a sum.
    let spares = !s.current.paused && !is_orphaned(s);
    let at_hand = |h: &Holdings| h.round == Some(base) || (spares && fits(h));
    let outside = s.reports.iter().filter(|(w, _)| !s.current.has(**w));
    let others: Vec<WorkerId> = outside
        .filter(|(_, h)| at_hand(h))
        .map(|(w, _)| *w)
        .collect();
    let admitted = |w: &&WorkerId| s.admit.contains(w) || is_orphaned(s);
    let stays = |w: &&WorkerId| !s.leaving.contains(w);
    members.extend(others.iter().filter(admitted).filter(stays));
    if members.is_empty() {
        members = others; // those that leave hold the only state
    }
    members.retain(|w| s.nodes.contains_key(w) && !s.shadows.contains(w));
    members.truncate(s.members_max.max(1));

    let mut seen = BTreeSet::new();
    let mut conflicting = Vec::new();
    members.retain(|w| {
        let held = held(s, base, *w);
        let overlaps = held.iter().any(|m| seen.contains(m));
        if overlaps {
            conflicting.push(*w)
        } else {
            seen.extend(held)
        }
        !overlaps
    });
    (members, conflicting)
}

/// A partial counts only if it is of the round that comes next.
fn held(s: &Situation, base: Round, worker: WorkerId) -> Vec<u32> {
    s.reports
        .get(&worker)
        .filter(|h| h.round == Some(base) && s.current.has(worker))
        .map(|h| h.held.clone())
        .unwrap_or_default()
}

/// What each member's partial of round `base` will be made of, and how many of
/// its micro-batches a process that is gone had been given.
fn first_shares(
    s: &Situation,
    base: Round,
    total: u32,
    members: &[WorkerId],
) -> (Option<FirstShares>, u32) {
    let mut shares: FirstShares = members.iter().map(|w| (*w, held(s, base, *w))).collect();
    let begun = !s.current.members.is_empty() && !s.current.paused;
    if shares.values().all(Vec::is_empty) && !begun {
        return (None, 0);
    }
    let held: BTreeSet<u32> = shares.values().flatten().copied().collect();
    let owner = match begun {
        true => owners(s.current, base, total),
        false => BTreeMap::new(),
    };
    // What a survivor was about to compute stays with it; only what the lost
    // ones had is dealt out, each to whoever has least for its weight.
    let begun_by = |w: &WorkerId| s.reports.get(w).is_none_or(|h| h.round >= Some(base));
    let (mut orphans, mut recomputed) = (Vec::new(), 0);
    for m in (0..total).filter(|m| !held.contains(m)) {
        let given = owner.get(&m);
        match given.and_then(|w| shares.get_mut(w)) {
            Some(share) => share.push(m),
            None => {
                recomputed += u32::from(begun && given.is_none_or(begun_by));
                orphans.push(m);
            }
        }
    }
    let weight = |w: &WorkerId| u64::from(s.nodes.get(w).map_or(1, |n| n.weight.max(1)));
    let busy = |worker: WorkerId, share: &Vec<u32>| {
        Reverse(Busy {
            micro_batches: share.len() as u64,
            weight: weight(&worker),
            worker,
        })
    };
    let mut least: BinaryHeap<Reverse<Busy>> = shares.iter().map(|(w, s)| busy(*w, s)).collect();
    for m in orphans {
        let Some(mut next) = least.peek_mut() else {
            break;
        };
        next.0.micro_batches += 1;
        if let Some(share) = shares.get_mut(&next.0.worker) {
            share.push(m);
        }
    }
    shares.values_mut().for_each(|share| share.sort_unstable());
    (Some(shares), recomputed)
}

/// Whom each micro-batch had been given to.
fn owners(current: &GenerationRecord, base: Round, total: u32) -> BTreeMap<u32, WorkerId> {
    if let Some(first) = current.first.as_ref().filter(|_| base == current.base) {
        let given = first.iter().filter(|(w, _)| current.has(**w));
        return given
            .flat_map(|(w, share)| share.iter().map(|m| (*m, *w)))
            .collect();
    }
    let shares = current.usual_shares(total);
    let given = current.members.iter().zip(shares);
    given
        .flat_map(|(member, share)| share.map(|m| (m, member.id)))
        .collect()
}

/// What a member has to do for its weight; ties go to the lower id.
#[derive(PartialEq, Eq)]
struct Busy {
    micro_batches: u64,
    weight: u64,
    worker: WorkerId,
}

impl Ord for Busy {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (
            self.micro_batches * other.weight,
            other.micro_batches * self.weight,
        );
        ours.cmp(&theirs).then(self.worker.cmp(&other.worker))
    }
}

impl PartialOrd for Busy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn leavers(s: &Situation, members: &[WorkerId]) -> Vec<WorkerId> {
    s.reports
        .keys()
        .filter(|w| s.current.leavers.contains(w))
        .filter(|w| !members.contains(w))
        .copied()
        .collect()
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
