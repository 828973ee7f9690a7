//! Parts of a record that many messages carry: written once, then shared.
//!
//! An Install goes to every worker and holds a line for every member. Copies
//! would grow with the square of the fleet; these cost a counter each.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Member, WorkerId};

/// A value that is cheap to clone and never changes.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Shared(Arc::new(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Shared::from)
    }
}

/// The members of a world by rank, each found by its id without a search
/// through all.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Ranked(Shared<Inner>);

#[derive(PartialEq, Eq, Default)]
struct Inner {
    members: Vec<Member>,
    /// Sorted.
    ranks: Vec<(WorkerId, usize)>,
}

impl Ranked {
    /// The place of a member, if it is one.
    pub fn rank(&self, worker: WorkerId) -> Option<usize> {
        let ranks = &self.0.ranks;
        let found = ranks.get(ranks.partition_point(|(id, _)| *id < worker))?;
        (found.0 == worker).then_some(found.1)
    }
}

impl From<Vec<Member>> for Ranked {
    fn from(members: Vec<Member>) -> Self {
        let ids = members.iter().map(|m| m.id).zip(0..);
        let mut ranks: Vec<(WorkerId, usize)> = ids.collect();
        ranks.sort_unstable();
        Ranked(Inner { members, ranks }.into())
    }
}

impl FromIterator<Member> for Ranked {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        members.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Ranked {
    type Item = &'a Member;
    type IntoIter = std::slice::Iter<'a, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Deref for Ranked {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        &self.0.members
    }
}

impl std::fmt::Debug for Ranked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Ranked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ranked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Member>::deserialize(deserializer).map(Ranked::from)
    }
}
