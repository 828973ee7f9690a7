//! With a shadow no finished step is lost: what it has told of as finished is
//! where a new world starts at the earliest, as long as it lives and is heard.

use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::world::{GenerationRecord, Round};

/// A process has applied a round; the shadow tells of it while it is the writer.
pub fn tells(env: &mut Env, process: &Process) {
    if process.shadow && process.home == env.leads && process.member.writes() {
        let round = process.member.round().unwrap_or_default();
        env.told = env.told.max(round);
        env.count("told by the shadow");
    }
}

/// The shadow is gone, or nobody hears it.
pub fn is_gone(env: &mut Env) {
    env.told = Round(0);
}

/// A world starts anew.
pub fn starts_at(env: &mut Env, record: &GenerationRecord) {
    if env.told > Round(0) {
        env.count("rescued by the shadow");
    }
    if record.base < env.told {
        let (base, told) = (record.base, env.told);
        env.broken(format!(
            "a world starts at {base:?}, the shadow has told of {told:?}"
        ));
    }
}
