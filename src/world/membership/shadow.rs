//! The shadow: a follower on the stable node that is never a member.
//!
//! While it keeps in step it is the *writer*: the record names it, it writes
//! every checkpoint, and it alone tells what has been decided, so that whatever
//! the log calls finished is held outside the fleet. When all members are gone at once,
//! the state that it holds is saved and a new world starts there. Nobody
//! ever waits for it for longer than it takes to see that it is quiet.

use super::*;

impl World {
    fn shadow(&self) -> Option<(WorkerId, &Node)> {
        let here = self.pool.iter().filter(|(_, n)| n.shadow && n.available());
        here.map(|(w, n)| (*w, n)).next()
    }

    /// The shadow, once it has caught up.
    pub(super) fn shadow_in_step(&self) -> Option<WorkerId> {
        let ready = |n: &Node| matches!(n.approach, Approach::Ready { .. });
        self.shadow().filter(|(_, n)| ready(n)).map(|(w, _)| w)
    }

    /// Who writes the checkpoints of the next record, if not its first member.
    /// Whoever does so goes on, unless it leaves or has fallen far behind.
    pub(super) fn next_writer(&self) -> Option<WorkerId> {
        let today = self.current.as_ref().and_then(|r| r.writer);
        let keeps_up = |n: &Node| match n.approach {
            Approach::Ready { .. } | Approach::Following { needs: None, .. } => true,
            Approach::Idle => n.session == Session::Open,
            Approach::Following { needs: Some(_), .. } | Approach::Restoring => false,
        };
        let stays = self
            .shadow()
            .filter(|(w, n)| Some(*w) == today && keeps_up(n));
        stays.map(|(w, _)| w).or_else(|| self.shadow_in_step())
    }

    /// Whether the record in force names another writer than the next one would.
    pub(super) fn wants_another_writer(&self) -> bool {
        let today = self.current.as_ref().and_then(|r| r.writer);
        !self.stopping && self.next_writer() != today
    }

    /// Whether it writes, or does as soon as a change is entered that members may
    /// have entered.
    pub(super) fn is_writer(&self, worker: WorkerId) -> bool {
        let told = self.pending.iter().filter(|p| p.unconfirmed.is_empty());
        let mut records = self.current.iter().chain(told.map(|p| &p.record));
        records.any(|r| r.writer == Some(worker))
    }

    /// Whether its report is worth waiting for: it may hold the only complete
    /// sum, and answers as soon as anybody if it is well.
    pub(super) fn prompt_shadow(&self) -> Option<WorkerId> {
        let (worker, node) = self.shadow()?;
        let told = matches!(&self.phase, Phase::Preparing(p) if node.told == p.generation);
        let in_step = self.is_writer(worker) || self.shadow_in_step() == Some(worker);
        (told && in_step && !self.is_quiet(self.now, node)).then_some(worker)
    }

    /// The shadow, if all else is lost and it holds more than any checkpoint.
    pub(super) fn rescuer(&self) -> Option<WorkerId> {
        let newest = self.newest.as_ref().map_or(Round(0), |(_, round)| *round);
        let (worker, node) = self.shadow()?;
        (node.progress.1 > newest && !self.stopping).then_some(worker)
    }

    /// The world is lost; what the shadow holds is where the next one starts.
    pub(super) fn rescue(&mut self, worker: WorkerId) {
        self.rescuing = true;
        self.saving = Some(worker);
        self.send(worker, ToWorker::Save);
    }

    /// The shadow's state is saved: it is the newest there is.
    pub(super) fn rescued(&mut self, now: Duration, manifest: &str, round: Round) {
        if !self.rescuing {
            return;
        }
        match self.shadow().filter(|(_, n)| n.progress.1 > round) {
            // One that it had begun before; ours is on its way.
            Some((shadow, _)) => self.saving = Some(shadow),
            None => {
                let manifest = manifest.to_owned();
                self.note(Note::Rescued {
                    manifest: manifest.clone(),
                    round,
                });
                self.start_point(now, Some(manifest), round);
            }
        }
    }

    /// The shadow could not save, and tries again; or it went away: back to
    /// what there is.
    pub(super) fn go_on_rescuing(&mut self) {
        if !self.rescuing || self.saving.is_some() {
            return;
        }
        match self.rescuer() {
            Some(shadow) => self.rescue(shadow),
            None => {
                self.rescuing = false;
                self.find_start();
            }
        }
    }

    /// The first member writes the checkpoints from now on. What the shadow was
    /// to write when it went may be missing, so there is a fresh one.
    pub(super) fn take_over_writing(&mut self, before: Option<WorkerId>) {
        let Some(current) = &self.current else { return };
        if before.is_some()
            && current.writer.is_none()
            && !current.paused
            && self.saving.is_none()
            && let Some(first) = current.members.first().map(|m| m.id)
        {
            self.saving = Some(first);
            self.send(first, ToWorker::Save);
        }
    }
}
