//! The numbers of the protocol, each a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One process of one run. Never used twice: the upper half is the incarnation
/// of the coordinator that gave it out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub u64);

impl WorkerId {
    /// The `number`-th worker that this incarnation of the coordinator admits.
    pub fn new(incarnation: u32, number: u32) -> Self {
        WorkerId((u64::from(incarnation) << 32) | u64::from(number))
    }

    /// Which incarnation of the coordinator has admitted it.
    pub fn incarnation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for WorkerId {
    /// `3` for the first coordinator's third worker, `2.3` for its successor's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (incarnation, number) = (self.incarnation(), self.0 as u32);
        if incarnation <= 1 {
            write!(f, "{number}")
        } else {
            write!(f, "{incarnation}.{number}")
        }
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {self}")
    }
}

/// The number of a world. Only ever grows; a coordinator that starts again
/// takes the next incarnation, so that two of them can't give out the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Generation {
    /// Which start of the coordinator gave it out, from 1.
    pub incarnation: u32,
    /// Counts within the incarnation.
    pub counter: u32,
}

impl Generation {
    /// Lower than every generation that is given out.
    pub const NONE: Generation = Generation {
        incarnation: 0,
        counter: 0,
    };
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.counter)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {self}")
    }
}

/// How many rounds have been applied; also the name of the round that is to be
/// completed next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Round(pub u64);

impl Round {
    /// No run gets as far; whoever says so is not believed.
    pub const MAX: Round = Round(1 << 53);

    /// The round after this one.
    pub fn next(self) -> Round {
        Round(self.0 + 1)
    }

    /// The round before this one, if there is one.
    pub fn previous(self) -> Option<Round> {
        self.0.checked_sub(1).map(Round)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}", self.0)
    }
}
