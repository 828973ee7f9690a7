//! One round of a member: compute the share, contribute, complete, apply.

use super::*;

impl Member {
    /// Starts the round at hand: our share of it, and an exchange in which
    /// nothing has arrived.
    pub(super) fn begin(&mut self, keep_partial: bool) {
        let (Some(record), Some(round)) = (self.record.clone(), self.round) else {
            return;
        };
        let Next::Round {
            micro_batches,
            values,
        } = self.next
        else {
            if record.is_written_by(self.id) {
                self.out.push(Command::Save { last: true });
            }
            return;
        };
        if record.paused {
            return;
        }
        if !keep_partial {
            self.held.clear();
        }
        let share = record.share(self.id, round, micro_batches);
        let missing: Vec<u32> = share
            .into_iter()
            .filter(|m| !self.held.contains(m))
            .collect();
        let members: Vec<WorkerId> = record.members.iter().map(|m| m.id).collect();
        let counts = (self.buckets)(values, members.len());
        self.exchange = Some(Exchange::new(
            record.generation,
            round,
            members,
            self.id,
            counts,
        ));
        self.votes.clear();
        let task = self.new_task();
        self.work = Work::Computing(task);
        self.out.push(Command::Compute {
            task,
            round,
            micro_batches: missing,
            fresh: self.held.is_empty(),
        });
    }

    /// Our share is in the partial sum: contribute, or stop and report.
    pub(super) fn computed(&mut self, task: Task, held: Vec<u32>) {
        if self.work != Work::Computing(task) {
            return; // of a world that is no more
        }
        self.work = Work::Idle;
        self.held = held;
        self.held.sort_unstable();
        if self.report_due.is_some() {
            return self.try_report();
        }
        let (Some(round), Some(exchange)) = (self.round, &self.exchange) else {
            return;
        };
        let vote = self.vote();
        if self.record.as_ref().is_some_and(|r| r.members.len() == 1) {
            debug_assert_eq!(exchange.round, round);
            self.votes = vote.into_iter().map(|g| (g, 1)).collect();
            return self.apply(round, SumSource::Partial);
        }
        self.out.push(Command::Contribute { round, vote });
    }

    /// The planned change that our next contribution votes for.
    pub(super) fn vote(&self) -> Option<Generation> {
        let from = Origin::Planned {
            from: self.installed(),
        };
        self.proposal
            .as_ref()
            .filter(|p| p.origin == from)
            .map(|p| p.generation)
    }

    pub(super) fn contributed(&mut self, from: WorkerId, bucket: u32) -> Result<(), Violation> {
        let Some(exchange) = &mut self.exchange else {
            return Ok(());
        };
        if exchange.contributed(from, bucket)? {
            let round = exchange.round;
            self.out.push(Command::Broadcast { round, bucket });
        }
        self.try_complete();
        Ok(())
    }

    pub(super) fn trailer_contributed(&mut self, from: WorkerId) -> Result<(), Violation> {
        let Some(exchange) = &mut self.exchange else {
            return Ok(());
        };
        if exchange.trailer_contributed(from)? {
            self.out.push(Command::BroadcastTrailer);
        }
        Ok(())
    }

    pub(super) fn reduced(&mut self, from: WorkerId, bucket: u32) -> Result<(), Violation> {
        if let Some(exchange) = &mut self.exchange {
            exchange.reduced(from, bucket)?;
        }
        self.try_complete();
        Ok(())
    }

    /// The finished trailer is known: the first member's own, or its message.
    pub(super) fn trailer_reduced(
        &mut self,
        votes: BTreeMap<Generation, u32>,
    ) -> Result<(), Violation> {
        if let (Some(exchange), Some(record)) = (&mut self.exchange, &self.record) {
            exchange.trailer_reduced(record.members[0].id)?;
            self.votes = votes;
        }
        self.try_complete();
        Ok(())
    }

    pub(super) fn try_complete(&mut self) {
        let complete = self.exchange.as_ref().is_some_and(Exchange::is_complete);
        if complete && self.work == Work::Idle && !self.fenced {
            let round = self.exchange.as_ref().map(|x| x.round);
            if let Some(round) = round {
                self.exchange = None;
                self.apply(round, SumSource::Exchange);
            }
        }
    }

    pub(super) fn apply(&mut self, round: Round, sum: SumSource) {
        assert_eq!(
            Some(round),
            self.round,
            "{:?} applies a sum out of order",
            self.id
        );
        let task = self.new_task();
        self.work = Work::Applying(task, sum);
        self.out.push(Command::Apply { task, round, sum });
    }

    /// One round further. Rule 7: the partial is free, the sum is kept.
    pub(super) fn applied(&mut self, task: Task, next: Next, checkpoint: bool) {
        let sum = match self.work {
            Work::Applying(t, sum) if t == task => sum,
            _ => return,
        };
        let Some(done) = self.round else { return };
        self.work = Work::Idle;
        self.round = Some(done.next());
        self.next = next;
        self.held.clear();
        self.has_last_sum = sum != SumSource::Partial || self.keeps_sums_of_its_own();
        self.exchange = None;
        let was_member = self.is_member();
        let exchanged = matches!(sum, SumSource::Partial | SumSource::Exchange);
        let before = self.record.clone().filter(|_| checkpoint && exchanged);
        if exchanged {
            self.enter_change_if_voted();
        }
        if let Some(record) = self.record.clone().filter(|_| self.has_subscribers()) {
            let to = self.subscribers.iter().copied().collect();
            self.out.push(Command::Stream {
                round: done,
                record,
                to,
            });
        }
        if checkpoint {
            self.checkpoint_due(sum, done.next(), before);
        }
        if self.report_due.is_some() {
            return self.try_report();
        }
        if was_member && self.is_member() {
            if sum == SumSource::Fetched {
                self.tell_progress();
            }
            self.begin(false);
        } else if self.follow.is_some() {
            self.advance();
        }
    }

    /// The state that we have come to is to be written. Several that have come to
    /// it in the same exchange share the work; a shadow needs nobody's help.
    fn checkpoint_due(&mut self, sum: SumSource, round: Round, before: Option<GenerationRecord>) {
        let members = before.map_or(Vec::new(), |before| self.still_members(&before));
        let ours = match (&self.record, sum) {
            (_, SumSource::Streamed) => self.is_ours(round),
            (record, _) => record.as_ref().is_some_and(|r| r.is_written_by(self.id)),
        };
        if members.len() > 1 && members.contains(&self.id) {
            self.out.push(Command::SaveTogether { members });
        } else if ours {
            self.out.push(Command::Save { last: false });
        }
    }

    /// Those that have exchanged the last sum and stay, ranked, if they write it
    /// themselves. Whoever enters with it has not come to the state with them.
    fn still_members(&self, before: &GenerationRecord) -> Vec<WorkerId> {
        let Some(record) = self.record.as_ref().filter(|r| r.writer.is_none()) else {
            return Vec::new();
        };
        let stayed = record.members.iter().filter(|m| before.has(m.id));
        stayed.map(|m| m.id).collect()
    }

    /// Rule 8: a change takes effect after the first sum in which every member
    /// of its own generation has voted for it.
    pub(super) fn enter_change_if_voted(&mut self) {
        let (Some(record), Some(proposal)) = (&self.record, &self.proposal) else {
            return;
        };
        let members = record.members.len() as u32;
        let voted = self.votes.get(&proposal.generation) == Some(&members);
        let ours = proposal.origin
            == Origin::Planned {
                from: record.generation,
            };
        if voted && ours && proposal.generation > self.fence {
            let proposal = proposal.clone();
            self.enter(proposal);
        }
    }

    pub(super) fn enter(&mut self, record: GenerationRecord) {
        self.fence = self.fence.max(record.generation);
        self.proposal = None;
        self.votes.clear();
        self.out.push(Command::Connect(record.clone()));
        self.record = Some(record);
        self.tell_progress();
    }
}
