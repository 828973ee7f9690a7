//! Following: subscribe first, then restore, then apply faster than the others
//! train; and the other end of it, streaming our sums to followers.

use super::*;

/// A subscription to a member's sums.
#[derive(Clone, Debug)]
pub struct Follow {
    /// Whom we follow.
    pub source: WorkerId,
    /// The first sum that we are sent; unknown before the answer.
    first: Option<Round>,
    /// The round that the source has reached, as far as we know.
    reached: Round,
    /// Where the source's world stands still: it never comes to a later round.
    stands_at: Option<Round>,
    /// The world that takes us in, and the round at which we enter it.
    entry: Option<(GenerationRecord, Round)>,
    /// We have said that we caught up.
    ready_told: bool,
    /// We have asked for a checkpoint.
    asked: bool,
    /// Rounds after which the state is ours to write, if it is a checkpoint's.
    ours: BTreeSet<Round>,
    /// The newest record that we know of has us write.
    writes: bool,
    /// We were told to write the last checkpoint.
    last_saved: bool,
}

impl Follow {
    /// An Install came: what was planned before it is void, and whoever has
    /// caught up has to say so again.
    pub fn fenced_off(&mut self, record: &GenerationRecord) {
        self.source_is_in(record);
        self.entry = None;
        self.ready_told = false;
        self.asked = false;
        self.last_saved = false;
    }

    /// Whether the newest record that we know of has us write.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// A paused world stands at its base, though a member may still have to
    /// fetch the sum that leads there.
    fn source_is_in(&mut self, record: &GenerationRecord) {
        self.stands_at = record.paused.then(|| record.base.max(self.reached));
    }

    /// Whether the source's sums lead on from this state.
    fn leads_on_from(&self, round: Round) -> bool {
        let ahead = self.stands_at.is_some_and(|at| round > at);
        self.first.is_some_and(|first| round >= first) && !ahead
    }
}

impl Member {
    pub(super) fn start_following(&mut self, source: WorkerId, address: String) {
        if self.is_member() {
            return;
        }
        // A source is named while a world is in force: whatever Prepare we have
        // heard of is over, though its Install may have missed us.
        self.fenced = false;
        self.report_due = None;
        if self.follow.is_some() {
            self.out.push(Command::Unfollow);
        }
        self.follow = Some(Follow {
            source,
            first: None,
            reached: Round(0),
            stands_at: None,
            entry: None,
            ready_told: false,
            asked: false,
            ours: BTreeSet::new(),
            writes: false,
            last_saved: false,
        });
        self.out.push(Command::Follow { source, address });
    }

    /// Rule 8: the answer carries the source's generation, so that a follower
    /// that has been voted in meanwhile knows where to enter.
    pub(super) fn subscribed(&mut self, from: WorkerId, first: Round, record: GenerationRecord) {
        let Some(follow) = self.follow.as_mut().filter(|f| f.source == from) else {
            return;
        };
        follow.first = Some(first);
        follow.reached = first;
        follow.writes = record.writer == Some(self.id);
        follow.source_is_in(&record);
        self.learn(first, record);
        self.advance();
    }

    /// The sums that we are sent don't lead on from what we have, if anything.
    fn need_state(&mut self, first: Round) {
        if first == Round(0) {
            return self.load(None, None);
        }
        let asked = self
            .follow
            .as_mut()
            .is_some_and(|f| std::mem::replace(&mut f.asked, true));
        if !asked {
            self.tell(FromWorker::NeedCheckpoint { round: first });
        }
    }

    pub(super) fn restore_from(&mut self, manifest: String) {
        let subscribed = self.follow.as_ref().filter(|follow| follow.first.is_some());
        let waiting =
            subscribed.is_some_and(|f| !self.round.is_some_and(|round| f.leads_on_from(round)));
        if waiting && self.work == Work::Idle && !self.fenced {
            if let Some(follow) = &mut self.follow {
                follow.asked = false; // if this answers an older question, we ask anew
            }
            self.load(Some(manifest), None);
        }
    }

    pub(super) fn checkpoint_gone(&mut self, task: Task) {
        if matches!(self.work, Work::Restoring(t, _) if t == task) {
            self.work = Work::Idle;
            self.try_report();
            self.advance();
        }
    }

    pub(super) fn streamed(&mut self, from: WorkerId, round: Round, record: GenerationRecord) {
        let Some(follow) = self.follow.as_mut().filter(|f| f.source == from) else {
            return;
        };
        follow.reached = follow.reached.max(round.next());
        follow.writes = record.writer == Some(self.id);
        if follow.writes {
            follow.ours.insert(round.next());
        }
        follow.source_is_in(&record);
        self.learn(round.next(), record);
        self.advance();
    }

    /// A record of the source's that has us in it is where we enter.
    fn learn(&mut self, at: Round, record: GenerationRecord) {
        let newer = record.has(self.id) && record.generation > self.installed();
        let Some(follow) = &mut self.follow else {
            return;
        };
        let known = follow
            .entry
            .as_ref()
            .is_some_and(|(r, _)| r.generation >= record.generation);
        if newer && !known {
            follow.entry = Some((record, at));
        }
    }

    /// Applies the next sum, enters the world, or says that we caught up.
    pub(super) fn advance(&mut self) {
        let Some(follow) = &self.follow else { return };
        let Some(first) = follow.first else { return };
        if self.fenced || self.work != Work::Idle {
            return;
        }
        let Some(round) = self.round.filter(|round| follow.leads_on_from(*round)) else {
            return self.need_state(first);
        };
        if let Some((record, at)) = &follow.entry
            && *at == round
            && record.generation >= self.fence
        {
            let record = record.clone();
            self.follow = None;
            self.out.push(Command::Unfollow);
            self.enter(record);
            return self.begin(false);
        }
        if follow.reached > round {
            return self.apply(round, SumSource::Streamed);
        }
        let over = follow.writes && self.next == Next::End && follow.reached == round;
        let (generation, source) = (self.fence, Some(follow.source));
        let caught_up = !follow.ready_told && follow.reached == round;
        if let Some(follow) = &mut self.follow {
            follow.ready_told |= caught_up;
            // The run is over; whoever writes ends it.
            if over && !std::mem::replace(&mut follow.last_saved, true) {
                self.out.push(Command::Save { last: true });
            }
        }
        if caught_up {
            self.tell(FromWorker::Ready {
                generation,
                round,
                source,
            });
        }
    }

    /// Whether the state that we have come to is ours to write.
    pub(super) fn is_ours(&mut self, round: Round) -> bool {
        let Some(follow) = &mut self.follow else {
            return false;
        };
        let later = follow.ours.split_off(&round);
        follow.ours = later;
        follow.ours.remove(&round)
    }

    /// The coordinator gives us another source.
    pub(super) fn source_lost(&mut self, from: WorkerId, error: String) {
        if self.follow.as_ref().is_some_and(|f| f.source == from) {
            self.follow = None;
            self.out.push(Command::Unfollow);
            self.tell(FromWorker::SourceLost { error });
        }
    }

    pub(super) fn subscribe(&mut self, worker: WorkerId) {
        let (Some(record), Some(first), true) = (self.record.clone(), self.round, self.is_member())
        else {
            return self.out.push(Command::RefuseSubscription(worker));
        };
        self.subscribers.insert(worker);
        self.out.push(Command::AnswerSubscription {
            to: worker,
            first,
            record,
        });
    }
}
