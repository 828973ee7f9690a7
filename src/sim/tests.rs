//! The campaign of `cargo test`, and that it would find mistakes.

use super::Planted;
use super::campaign::{campaign, campaign_with, drawn, fails_with, shrink, shrink_with, trace};
use super::faults;

const PLANTED: [Planted; 28] = [
    Planted::PartialNotKept,
    Planted::NewerDropped,
    Planted::OlderTaken,
    Planted::OneVoteIsEnough,
    Planted::NothingDurable,
    Planted::ReportAtOnce,
    Planted::LeaverGoesAtOnce,
    Planted::ReplacedSilently,
    Planted::LastBucketKept,
    Planted::CountedTwice,
    Planted::FollowerSkips,
    Planted::ManifestBeforeShards,
    Planted::NotFenced,
    Planted::VotesDiffer,
    Planted::NewcomerVotes,
    Planted::IncarnationReused,
    Planted::OlderInstallTaken,
    Planted::SentBeforeApplied,
    Planted::AnotherSumFetched,
    Planted::AppliedBeforeTrailer,
    Planted::LeaverCountedAgain,
    Planted::ShadowsManifestEarly,
    Planted::SecondNotRefused,
    Planted::FencedGoesOn,
    Planted::TwoIncarnations,
    Planted::SleeperGoesOn,
    Planted::SubscriptionUnanswered,
    Planted::StandingNotRestored,
];

/// What has to have happened in a campaign, besides each kind of trouble, or it would show nothing.
const HAPPENED: [&str; 31] = [
    "another one answered",
    "change entered",
    "connection replaced",
    "drained",
    "evicted",
    "failed write",
    "fenced coordinator ended",
    "fetched",
    "finished",
    "gave up the coordinator",
    "held",
    "installed",
    "joined",
    "kept while it trains",
    "last bucket completes",
    "nothing lost with the disk",
    "parted for good",
    "paused",
    "rescued by the shadow",
    "second coordinator refused",
    "source named",
    "stopped",
    "stopped early",
    "streamed",
    "switched off",
    "taken over",
    "thawed after it was given up",
    "told by the shadow",
    "upload torn",
    "world found in the store",
    "world lost",
];

/// A number from the environment.
fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .and_then(|value| value.parse().ok())
}

#[test]
fn one_seed() {
    if let Some(seed) = number_from("SEED") {
        let report = trace(seed);
        assert!(report.broken.is_empty(), "SEED={seed}: {:?}", report.broken);
    }
}

/// `SEEDS=n` for another length than the usual one, `FIRST=n` for other seeds.
#[test]
fn a_run_finishes_with_the_right_state_whatever_breaks() {
    let seeds = number_from("SEEDS").unwrap_or(3_000);
    let first = number_from("FIRST").unwrap_or(0);
    let campaign = campaign(first..first + seeds);
    println!("{:#?}", campaign.counts);
    assert!(
        campaign.failures.is_empty(),
        "{} of {seeds} runs broke a promise\n{}",
        campaign.failures.len(),
        campaign.explain()
    );
    for what in HAPPENED.into_iter().chain(faults::names()) {
        let times = campaign.counts.get(what).copied().unwrap_or(0);
        assert!(
            times * 1000 >= seeds,
            "{what:?} happened only {times} times"
        );
    }
}

#[test]
fn a_failing_schedule_is_shrunk_to_the_faults_that_it_takes() {
    let planted = Some(Planted::NothingDurable);
    let fails = |seed: &u64| {
        let all = drawn(*seed);
        all.faults.len() >= 6 && fails_with(*seed, &all, planted)
    };
    let (mut several, mut left_out) = (0, 0);
    for seed in (0..).filter(fails).take(10) {
        let fewest = shrink_with(seed, planted);
        assert!(fails_with(seed, &fewest, planted), "SEED={seed}");
        left_out += drawn(seed).faults.len() - fewest.faults.len();
        for one in 0..fewest.faults.len() {
            let mut fewer = fewest.clone();
            fewer.faults.remove(one);
            assert!(!fails_with(seed, &fewer, planted), "SEED={seed}: {fewer:?}");
        }
        several += usize::from(fewest.faults.len() > 1);
    }
    println!("{left_out} faults left out; {several} of ten schedules keep more than one");
    assert!(several > 0 && left_out > 0);
}

#[test]
fn a_schedule_that_breaks_nothing_stays_as_it_is() {
    assert_eq!(shrink(1).faults.len(), drawn(1).faults.len());
}

/// The rarest is noticed in one run of some thousand.
#[test]
fn every_planted_mistake_is_noticed() {
    for planted in PLANTED {
        let seeds = number_from("SEEDS").unwrap_or(20_000);
        let fails = |seed: &u64| {
            !campaign_with(*seed..*seed + 1, Some(planted))
                .failures
                .is_empty()
        };
        let noticed = (0..seeds).find(fails);
        println!("{planted:?}: {noticed:?}");
        assert!(noticed.is_some(), "{planted:?} goes unnoticed");
    }
}
