//! Every micro-batch of every applied step is in its sum exactly once, computed from the state
//! before that step.

use crate::sim::env::Env;
use crate::sim::values::Sum;
use crate::world::{Round, WorkerId};

/// A process applies the sum of a round.
pub fn exactly_once(env: &mut Env, who: WorkerId, round: Round, sum: Sum) {
    let expected = env.course.expected(round);
    if sum.counts() != expected.counts() {
        let (is, should) = (sum.counts(), expected.counts());
        env.broken(format!(
            "{who:?}: round {round}: micro-batches {is:016x}, not {should:016x}"
        ));
    } else if sum != expected {
        env.broken(format!(
            "{who:?}: round {round}: a gradient from a stale state"
        ));
    }
}
