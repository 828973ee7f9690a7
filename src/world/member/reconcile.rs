//! Prepare, Report, Install: how a worker comes to rest and goes on.

use super::*;

impl Member {
    /// Rule 2: from the Report on nothing changes, so whatever runs on the
    /// compute thread is brought to its end first.
    pub(super) fn prepare(&mut self, generation: Generation) {
        if generation < self.fence || generation <= self.installed() {
            return;
        }
        self.fence = generation;
        self.report_due = Some(generation);
        self.fenced = true;
        if matches!(self.work, Work::Computing(_)) {
            self.out.push(Command::StopCompute);
        }
        self.try_report();
    }

    pub(super) fn try_report(&mut self) {
        if self.work != Work::Idle {
            return;
        }
        if let Some(generation) = self.report_due.take() {
            let holdings = self.holdings();
            self.tell(FromWorker::Report {
                generation,
                holdings,
            });
        }
    }

    /// Rule 6. What a partial sum holds survives; half-reduced pieces don't.
    pub(super) fn install(&mut self, record: GenerationRecord) {
        if record.generation < self.fence || record.generation <= self.installed() {
            return;
        }
        self.fence = record.generation;
        self.report_due = None;
        self.fenced = false;
        self.proposal = None;
        self.exchange = None;
        self.votes.clear();
        let member = record.has(self.id);
        let (base, source) = (record.base, record.source.clone());
        self.record = Some(record.clone());
        if !member {
            return self.installed_without_us(&record);
        }
        if self.follow.take().is_some() {
            self.out.push(Command::Unfollow);
        }
        self.out.push(Command::Connect(record.clone()));
        let Some(round) = self.round else {
            panic!("{:?} was made a member without a state", self.id);
        };
        if round == base {
            self.tell_progress();
            self.begin(self.is_counted_on(&record));
        } else {
            assert_eq!(
                round.next(),
                base,
                "{:?} was made a member out of reach",
                self.id
            );
            // Rule 7: our partial counts until the sum is complete here; if the
            // source dies with it, the partial is all that is left.
            if let Some(source) = source {
                self.out.push(Command::Fetch {
                    from: source.id,
                    round,
                });
            }
        }
    }

    /// Whether our partial is part of the new world's plan; if it isn't, its
    /// micro-batches are somebody else's.
    fn is_counted_on(&self, record: &GenerationRecord) -> bool {
        let share = record.first.as_ref().and_then(|first| first.get(&self.id));
        share.is_some_and(|share| self.held.iter().all(|m| share.contains(m)))
    }

    /// We are a leaver, a follower, or were left behind. Our partial is void.
    fn installed_without_us(&mut self, record: &GenerationRecord) {
        self.held.clear();
        self.subscribers.clear();
        if record
            .source
            .as_ref()
            .is_some_and(|source| source.id == self.id)
        {
            self.out.push(Command::Connect(record.clone()));
        }
        if let Work::Computing(_) = self.work {
            self.out.push(Command::StopCompute);
            self.work = Work::Idle;
        }
        let over = self.next == Next::End && self.round == Some(record.base);
        if over && record.writer == Some(self.id) {
            self.out.push(Command::Save { last: true });
        }
        let orphaned = self.follow.as_ref().is_some_and(|f| !record.has(f.source));
        if orphaned {
            self.follow = None;
            self.out.push(Command::Unfollow);
        } else if let Some(follow) = &mut self.follow {
            follow.fenced_off(record);
        }
        self.advance();
    }

    /// The sum that leads to the base is at hand.
    pub(super) fn fetched(&mut self, generation: Generation, round: Round) {
        let wanted = generation == self.installed() && Some(round) == self.round;
        if wanted && !self.fenced && self.is_member() && self.work == Work::Idle {
            self.apply(round, SumSource::Fetched);
        }
    }

    /// The coordinator starts the world from a checkpoint.
    pub(super) fn restore(&mut self, generation: Generation, manifest: Option<String>) {
        if generation < self.fence.max(self.installed()) {
            return;
        }
        self.fence = generation;
        self.record = None;
        self.report_due = None;
        self.fenced = false;
        self.proposal = None;
        self.exchange = None;
        self.subscribers.clear();
        if self.follow.take().is_some() {
            self.out.push(Command::Unfollow);
        }
        self.load(manifest, Some(generation));
    }

    /// Comes to a checkpoint's state; `told` by a Restore of that generation.
    pub(super) fn load(&mut self, manifest: Option<String>, told: Option<Generation>) {
        if matches!(self.work, Work::Computing(_)) {
            self.out.push(Command::StopCompute);
        }
        self.held.clear();
        self.round = None;
        self.has_last_sum = false;
        let task = self.new_task();
        self.work = Work::Restoring(task, told);
        self.out.push(Command::Restore { task, manifest });
    }

    pub(super) fn restored(&mut self, task: Task, round: Round, next: Next) {
        let told = match self.work {
            Work::Restoring(t, told) if t == task => told,
            _ => return,
        };
        self.work = Work::Idle;
        self.round = Some(round);
        self.next = next;
        if let Some(generation) = told {
            self.tell(FromWorker::Ready {
                generation,
                round,
                source: None,
            });
        }
        self.try_report();
        self.advance();
    }
}
