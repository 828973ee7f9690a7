//! What people are told: who is here, what is waited for, who idles.

use super::hung::HeldUpBy;
use super::*;

impl World {
    /// The generation in force, if there is one.
    pub fn current(&self) -> Option<&GenerationRecord> {
        self.current.as_ref()
    }

    /// Every worker that is here.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The newest round that anybody is known to have applied.
    pub fn reached(&self) -> Round {
        self.reached
    }

    /// Fewer members than this pause.
    pub fn members_min(&self) -> usize {
        self.settings.members_min
    }

    /// No more members than this.
    pub fn members_max(&self) -> usize {
        self.settings.members_max
    }

    /// No world has begun, or none is left.
    pub fn is_gathering(&self) -> bool {
        matches!(self.phase, Phase::Gathering { .. })
    }

    /// Nobody trains: workers, or news of them, are waited for.
    pub fn waits_for_workers(&self) -> bool {
        let paused = self.current.as_ref().is_some_and(|r| r.paused);
        match self.phase {
            Phase::Gathering { .. } | Phase::Recovering { .. } => true,
            Phase::Running => paused,
            Phase::Preparing(_) | Phase::Ended(_) => false,
        }
    }

    /// One word for people.
    pub fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Gathering { .. } => "gathering",
            Phase::Recovering { .. } => "recovering",
            Phase::Preparing(_) => "reconciling",
            Phase::Running if self.current.as_ref().is_some_and(|r| r.paused) => "paused",
            Phase::Running => "running",
            Phase::Ended(_) => "ended",
        }
    }

    /// Whom everybody waits for right now, and what happens when they come.
    pub fn waiting(&self, now: Duration) -> Option<(Vec<String>, String)> {
        let name = |w: &WorkerId| {
            self.pool.get(w).map_or(format!("worker {w}"), |n| {
                format!("worker {w} ({})", n.name)
            })
        };
        match &self.phase {
            Phase::Gathering { start: None, .. } => Some((
                vec!["the checkpoint store".into()],
                "training resumes from the newest checkpoint".into(),
            )),
            Phase::Gathering { needed, .. } => {
                let here = self.pool.iter().filter(|(_, n)| n.can_train());
                let missing = needed.saturating_sub(here.clone().count());
                if missing > 0 {
                    return Some((
                        vec![format!("{missing} of {needed} workers")],
                        "training starts when they have come".into(),
                    ));
                }
                let restoring: Vec<String> = here
                    .filter(|(_, n)| !matches!(n.approach, Approach::Ready { .. }))
                    .map(|(w, _)| name(w))
                    .collect();
                (!restoring.is_empty()).then(|| {
                    let next = "training starts when they have restored the state to start from";
                    (restoring, next.into())
                })
            }
            Phase::Recovering { awaited, .. } => Some((
                awaited.iter().map(name).collect(),
                format!(
                    "they may still train; given up after {} s of silence, or when known to be gone",
                    self.lease().as_secs()
                ),
            )),
            Phase::Running | Phase::Preparing(_)
                if self.current.is_some() && !self.reaches_one() =>
            {
                Some((
                    self.required().iter().map(name).collect(),
                    format!(
                        "they may still train; without a word for {} s they are given up, \
                         and others start from the newest checkpoint",
                        self.lease().as_secs()
                    ),
                ))
            }
            Phase::Preparing(p) => Some((
                self.unreported(p).iter().map(name).collect(),
                "whoever stays silent is evicted and the others go on".into(),
            )),
            Phase::Running if self.closes() && self.saving.is_some() => {
                let next = "everybody leaves when it has saved the state";
                Some((self.saving.iter().map(name).collect(), next.into()))
            }
            Phase::Running if !self.current.as_ref().is_some_and(|r| r.paused) => {
                let (late, next) = match self.held_up_by(now) {
                    HeldUpBy::Nobody => return None,
                    HeldUpBy::Members(late) => {
                        (late, "whoever stays silent is evicted and the others go on")
                    }
                    HeldUpBy::EachOther(late) => (
                        late,
                        "they wait for each other and will exchange the round anew",
                    ),
                };
                Some((late.iter().map(name).collect(), next.into()))
            }
            Phase::Running => self.current.as_ref().filter(|r| r.paused).map(|r| {
                let missing = self.settings.members_min.saturating_sub(r.members.len());
                match missing {
                    1 => (
                        vec!["1 more worker".into()],
                        "training goes on when it has come".into(),
                    ),
                    _ => (
                        vec![format!("{missing} more workers")],
                        "training goes on when they have come".into(),
                    ),
                }
            }),
            Phase::Ended(_) => None,
        }
    }

    /// Whether every process has been let go and has left.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    pub(super) fn name_of(&self, worker: WorkerId) -> String {
        self.pool
            .get(&worker)
            .map_or_else(String::new, |n| n.name.clone())
    }

    /// Whether this one has nothing to do because the world is full.
    pub fn is_idle(&self, worker: WorkerId) -> bool {
        self.idle_told.contains(&worker)
    }

    /// Says once which workers have nothing to do because the world is full.
    pub(super) fn name_idle(&mut self) {
        let full = match (&self.phase, &self.current) {
            (Phase::Running, Some(r)) => r.members.len() >= self.settings.members_max,
            _ => false,
        };
        if !full {
            return self.idle_told.clear();
        }
        let idle: Vec<WorkerId> = self
            .pool
            .iter()
            .filter(|(_, n)| n.approach == Approach::Idle && n.can_train())
            .map(|(w, _)| *w)
            .filter(|w| !self.current.as_ref().is_some_and(|r| r.has(*w)))
            .collect();
        if idle != self.idle_told {
            if !idle.is_empty() {
                self.note(Note::Idle(idle.clone()));
            }
            self.idle_told = idle;
        }
    }
}
