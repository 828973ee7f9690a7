//! The whole protocol under random trouble, in memory and in virtual time.
//!
//! Workers, a coordinator, a checkpoint store and the network between them are
//! simulated; the machines are the very ones that run. A seed draws everything:
//! the fleet, its speeds, the delays, and a list of faults. In the first part
//! of a run the faults strike; in the second nothing breaks any more, and
//! everything has to heal.
//!
//! | what | where |
//! |---|---|
//! | one run, event by event | [`run`] |
//! | what breaks, and when | [`faults`] |
//! | what has to hold | `invariants`, one promise a file |
//! | the rims | `process`, `exchange`, `engine`, `uploads`, `coordinator`, `seconds` |
//! | time, connections, hosts, store | `agenda`, `network`, `env`, `store` |
//! | gradients, sums and states by which every mistake shows | `values` |
//! | many seeds; the fewest faults that still fail | [`campaign`] |
//!
//! `cargo run --release --example simulate -- --seeds 100000` runs many,
//! `--seed N` (or `SEED=N cargo test --lib one_seed -- --nocapture`) one, with
//! a trace.

mod agenda;
pub mod campaign;
mod coordinator;
mod draw;
mod engine;
mod env;
mod errands;
mod exchange;
pub mod faults;
mod invariants;
mod mistakes;
mod network;
mod process;
pub mod run;
mod seconds;
mod store;
#[cfg(test)]
mod tests;
mod uploads;
mod values;

/// A rule that is left out on purpose, to see that the promises notice. Only
/// tests can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests plant mistakes"))]
pub(crate) enum Planted {
    /// A worker forgets its partial sum at an Install.
    PartialNotKept,
    /// Frames that come early are thrown away.
    NewerDropped,
    /// Frames of an older generation are taken.
    OlderTaken,
    /// A planned change is entered as soon as one member has voted.
    OneVoteIsEnough,
    /// The coordinator forgets everything when it stops.
    NothingDurable,
    /// A worker reports before it has come to rest.
    ReportAtOnce,
    /// A leaver goes as soon as the others can do without it, by its own view.
    LeaverGoesAtOnce,
    /// A connection that is dialled anew hides that the old one broke.
    ReplacedSilently,
    /// A bucket that completes the whole round isn't sent any more.
    LastBucketKept,
    /// A micro-batch is now and then added twice.
    CountedTwice,
    /// A follower goes past a sum that it never had.
    FollowerSkips,
    /// A manifest is written before its shards.
    ManifestBeforeShards,
    /// A worker answers a Prepare and goes on as if there were none.
    NotFenced,
    /// Some members find other votes in the same trailer.
    VotesDiffer,
    /// A newcomer's vote is counted with the members'.
    NewcomerVotes,
    /// A coordinator that starts again takes the incarnation of the last one.
    IncarnationReused,
    /// What an Install said before is taken for what it says now.
    OlderInstallTaken,
    /// A gradient is now and then computed before the last sum is applied.
    SentBeforeApplied,
    /// Who lacks a sum is given the holder's own part of another.
    AnotherSumFetched,
    /// A sum is applied as soon as its buckets are complete, without its trailer.
    AppliedBeforeTrailer,
    /// What a leaver contributed last is counted once more after it has left.
    LeaverCountedAgain,
    /// A shadow's manifest names a round whose sum it has only begun to receive.
    ShadowsManifestEarly,
    /// A second coordinator takes over though the first one answers.
    SecondNotRefused,
    /// A coordinator goes on though another one has taken over.
    FencedGoesOn,
    /// A coordinator acts before it has looked who leads, however long it slept.
    SleeperGoesOn,
    /// A source now and then doesn't answer a subscription.
    SubscriptionUnanswered,
    /// What a worker has decided isn't in the checkpoint that another one restores.
    StandingNotRestored,
    /// A worker doesn't ask from which incarnation a number is, and an older
    /// coordinator takes whoever comes.
    TwoIncarnations,
}
