//! Who comes and what they say: registering, sessions, and their words for the
//! world.

use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Status;

use super::super::CoordinatorError;
use super::super::admission::{Ours, REGISTERED_MAX, refuse_crashing};
use super::super::service::Outbox;
use super::{Driver, OpenSession, Registered, crashing};
use crate::collective::Caller;
use crate::wire::control as pb;
use crate::wire::control::worker_message::Body;
use crate::wire::{Record, build, gpu_readings};
use crate::world::membership::{Agreed, Event};
use crate::world::message::{FromWorker, Holdings};
use crate::world::{Generation, Member, Round, WorkerId};

/// Different numerics kinds that are believed.
const KINDS_MAX: usize = 256;

/// What a process that may take part brings.
struct Admitted {
    member: Member,
    name: String,
    kind: String,
    holdings: Holdings,
    trains_on: Duration,
    shadow: bool,
}

/// For a worker that has heard of a newer coordinator than us: it is not to end
/// because of that, but to look for the other one.
fn newer_leads() -> Status {
    Status::unavailable("a newer coordinator leads this run")
}

/// A longer reconnect limit is taken for this one: no run waits longer for the dead.
const TRAINS_ON_MAX: Duration = Duration::from_secs(24 * 3600);

impl Driver {
    /// Admits a process of the same build; everything else about it is for the
    /// world to decide when its session opens.
    pub(super) fn register(
        &mut self,
        request: pb::RegisterRequest,
        from: Caller,
    ) -> Result<pb::RegisterReply, Status> {
        let host = from.peer.remote_addr.ip().to_canonical().to_string();
        if self
            .lead
            .is_led_by_another(WorkerId(request.worker), Generation::NONE)
        {
            return Err(newer_leads());
        }
        let ours = Ours {
            build: &build(),
            artifact: &self.plan.artifact,
            incarnation: self.incarnation,
            next_worker: self.next_worker,
        };
        let known = self.registered.get(&WorkerId(request.worker));
        if let Err(refusal) = ours.judge(&request, known.map(|r| &r.request)) {
            self.report.refused(&host, refusal.message());
            return Err(refusal);
        }
        let public = if request.advertise_host.is_empty() {
            host.clone()
        } else {
            request.advertise_host.clone()
        };
        let public = if public.contains(':') {
            format!("[{public}]")
        } else {
            public
        };
        let address = format!("{public}:{}", request.advertise_port);
        let node = crashing::key(&request.node, &address);
        if request.worker == 0
            && let Err(refusal) = refuse_crashing(&request.node, self.crashes.of(&node))
        {
            self.report.refused(&host, refusal.message());
            return Err(refusal);
        }
        if self.registered.len() >= REGISTERED_MAX {
            return Err(Status::resource_exhausted(format!(
                "{REGISTERED_MAX} processes are registered, no more are taken for now"
            )));
        }
        let worker = if request.worker == 0 {
            let id = WorkerId::new(self.incarnation, self.next_worker);
            self.next_worker += 1;
            id
        } else {
            WorkerId(request.worker)
        };
        let mut kinds = self.kinds.clone();
        if !request.shadow {
            kinds.insert(request.numerics_kind.clone());
        }
        let first = !self.registered.contains_key(&worker);
        let registered = Registered {
            request,
            address: address.clone(),
            from,
            at: self.now(),
            met: false,
            gpus: Vec::new(),
        };
        if first {
            self.report.registered(worker, &registered);
        }
        self.registered.insert(worker, registered);
        Ok(pb::RegisterReply {
            worker: worker.0,
            run: self.run.run().to_owned(),
            job: self.plan.job.resolved_toml(),
            checkpoint_url: self.checkpoint_url.clone(),
            data_fingerprint: self.plan.data_fingerprint(),
            address,
            data_url: self.data_url.clone(),
            numerics_kinds: kinds.into_iter().collect(),
        })
    }

    pub(super) fn open(
        &mut self,
        (hello, from): (pb::Hello, Caller),
        outbox: Outbox,
        reply: oneshot::Sender<Result<u64, Status>>,
    ) -> Result<(), CoordinatorError> {
        let worker = WorkerId(hello.worker);
        let admitted = self.admit(&hello, &from).and_then(|admitted| {
            let newer = self.lead.is_led_by_another(worker, admitted.holdings.fence);
            if newer {
                Err(newer_leads())
            } else {
                Ok(admitted)
            }
        });
        let Admitted {
            member,
            name,
            kind,
            holdings,
            trains_on,
            shadow,
        } = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                let _ = reply.send(Err(refused));
                return Ok(());
            }
        };
        if let Some(registered) = self.registered.get_mut(&worker) {
            registered.met = true;
        }
        if let Some(old) = self.session_of.remove(&worker) {
            self.sessions.remove(&old);
        }
        let session = self.next_session;
        self.next_session += 1;
        self.sessions
            .insert(session, OpenSession { worker, outbox });
        self.session_of.insert(worker, session);
        if reply.send(Ok(session)).is_err() {
            return self.closed(session);
        }
        // What computes no gradients can make no difference.
        if !shadow && self.kinds.insert(kind) {
            self.report.kinds(&self.kinds);
        }
        if let Some(reason) = &holdings.leaving {
            self.report.wants_to_leave(worker, reason);
        }
        self.handle(Event::Hello {
            trains_on,
            shadow,
            worker,
            member,
            name,
            holdings,
        })
    }

    fn admit(&self, hello: &pb::Hello, from: &Caller) -> Result<Admitted, Status> {
        let worker = WorkerId(hello.worker);
        let registered = self.registered.get(&worker);
        let Some(registered) = registered.filter(|r| r.from.is_same(from)) else {
            return Err(Status::not_found("register first, on this connection"));
        };
        let kind = &registered.request.numerics_kind;
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains(kind) {
            return Err(Status::permission_denied("too many numerics kinds"));
        }
        let ours = self.plan.data_fingerprint();
        if hello.data_fingerprint != ours {
            return Err(Status::failed_precondition(format!(
                "this worker's data has fingerprint {}, the coordinator's {ours}: \
                 they have to be the same files (worker --data says where they are)",
                hello.data_fingerprint
            )));
        }
        let pinned = self.plan.job.numerics.mode == crate::job::NumericsMode::Pinned;
        if let Some(first) = self
            .kinds
            .iter()
            .next()
            .filter(|k| pinned && *k != kind && !registered.request.shadow)
        {
            return Err(Status::failed_precondition(format!(
                "this worker computes as {kind}, the run is pinned to {first} (numerics.mode)"
            )));
        }
        let holdings = hello
            .holdings
            .clone()
            .ok_or_else(|| Status::invalid_argument("Hello without holdings"))?
            .try_into()
            .map_err(|e: crate::wire::WireError| Status::invalid_argument(e.to_string()))?;
        let member = Member {
            id: worker,
            address: registered.address.clone(),
            weight: registered.request.replicas.clamp(1, 1 << 16),
        };
        Ok(Admitted {
            member,
            name: registered.request.node.clone(),
            kind: kind.clone(),
            holdings,
            shadow: registered.request.shadow,
            trains_on: Duration::from_millis(registered.request.trains_on_ms).min(TRAINS_ON_MAX),
        })
    }

    pub(super) fn said(&mut self, session: u64, body: Body) -> Result<(), CoordinatorError> {
        let Some(worker) = self.sessions.get(&session).map(|s| s.worker) else {
            return Ok(());
        };
        match body {
            Body::Records(records) => {
                let now = self.now();
                for json in records.json {
                    match serde_json::from_str::<Record>(&json) {
                        Ok(Record::Drifted(drift)) => {
                            self.handle(Event::Drifted(worker, drift))?;
                        }
                        Ok(Record::Agreed {
                            round,
                            chain,
                            members,
                            repeated,
                        }) => {
                            let agreed = Agreed {
                                round: Round(round),
                                chain,
                                members,
                                repeated,
                            };
                            self.handle(Event::Agreed(worker, agreed))?;
                        }
                        Ok(record) => {
                            if let Record::Digest { round, chain, .. } = &record {
                                let (round, chain) = (Round(*round), chain.clone());
                                self.handle(Event::Holds(worker, round, chain))?;
                            }
                            self.report.record(now, record, &self.world)?;
                        }
                        Err(error) => tracing::warn!(%worker, %error, "a record that is none"),
                    }
                }
                Ok(())
            }
            Body::Trouble(trouble) => {
                // Damaged since we looked: what we know of it is not true any more.
                if self.run.doubt(&trouble.damaged) {
                    self.world.doubt(&trouble.damaged);
                    self.errands.find_start(None, None);
                }
                let crash = trouble.damaged.is_empty();
                let (error, tail) = (trouble.error.clone(), trouble.log_tail.clone());
                self.report.trouble(worker, trouble);
                match crash {
                    true => self.crashed(worker, &error, tail),
                    false => Ok(()),
                }
            }
            Body::Gpus(gpus) => {
                if let Some(registered) = self.registered.get_mut(&worker) {
                    registered.gpus = gpu_readings(gpus);
                }
                Ok(())
            }
            body => match FromWorker::try_from(body) {
                Ok(message) => {
                    self.report.heard(worker, &message);
                    self.handle(Event::From(worker, message))
                }
                Err(error) => {
                    tracing::warn!(%worker, %error, "closing its session");
                    self.closed(session)
                }
            },
        }
    }

    pub(super) fn closed(&mut self, session: u64) -> Result<(), CoordinatorError> {
        let Some(open) = self.sessions.remove(&session) else {
            return Ok(());
        };
        if self.session_of.get(&open.worker) == Some(&session) {
            self.session_of.remove(&open.worker);
            self.handle(Event::SessionBroken(open.worker))?;
        }
        Ok(())
    }

    pub(super) fn drain(&mut self, worker: u64) -> Result<u32, CoordinatorError> {
        let pool = self.world.pool();
        // All that train: the shadow is there for those that come.
        let trains = |w: &WorkerId| !pool.get(w).is_some_and(|node| node.shadow);
        let all = self.session_of.keys().copied();
        let chosen: Vec<WorkerId> = all
            .filter(|w| w.0 == worker || worker == 0 && trains(w))
            .collect();
        for worker in &chosen {
            let reason = "asked to by a person".to_owned();
            self.handle(Event::From(*worker, FromWorker::Drain { reason }))?;
        }
        Ok(chosen.len() as u32)
    }
}
