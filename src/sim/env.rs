//! What all processes of a simulated run share: time, the network, the store,
//! the hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Planted;
use super::agenda::{Agenda, What};
use super::faults::FOR_GOOD;
use super::network::{Delivered, End, Kind, LinkId, Message, Network, Node};
use super::store::Store;
use super::values::{Course, Random};
use crate::world::{Generation, Round, WorkerId};

/// How long an end bears hearing nothing, beside up to a third more: TCP and
/// HTTP/2 keep-alives of the real rims.
const SILENCE: Duration = Duration::from_secs(13);

/// One end of a connection that breaks may learn of it so much later.
const LATE_NEWS: Duration = Duration::from_secs(3);

/// How fast everything is in this run.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Most messages take between a tenth of this and this.
    pub latency: Duration,
    /// So many in a thousand take up to a hundred times as long.
    pub late_per_mille: u64,
    /// Of one micro-batch on the fastest node.
    pub micro_batch: Duration,
    /// Writing or reading a checkpoint.
    pub store: Duration,
    /// The reconnect limit of all workers.
    pub reconnect: Duration,
}

impl Weather {
    /// Of a message, while nothing is cut off.
    pub fn longest_delay(&self) -> Duration {
        match self.late_per_mille {
            0 => self.latency,
            _ => self.latency * 100,
        }
    }
}

/// Everything that isn't a process.
pub struct Env {
    pub now: Duration,
    pub step: u64,
    pub agenda: Agenda,
    pub random: Random,
    pub weather: Weather,
    pub course: Course,
    pub net: Network,
    pub store: Store,
    /// Processes that listen at their address.
    pub alive: BTreeSet<WorkerId>,
    /// Nodes whose coordinator runs, with its incarnation.
    pub coordinators: BTreeMap<Node, u32>,
    /// The node whose coordinator has the newest incarnation.
    pub leads: Node,
    /// Another node to which the coordinator's name still leads some, until then.
    pub named: (Node, Duration),
    /// Processes that don't run until then, though their hosts do.
    pub frozen: BTreeMap<End, Duration>,
    /// The port of everybody that ever came; one that is free is given again.
    pub ports: BTreeMap<WorkerId, u32>,
    pub planted: Option<Planted>,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// The newest round that the shadow has told of.
    pub told: Round,
    /// Processes that are shadows.
    pub shadows: BTreeSet<WorkerId>,
    /// Gradients computed, by round and micro-batch.
    pub computed: BTreeMap<(Round, u32), u32>,
    /// The first round that each generation has completed.
    pub first_completed: BTreeMap<Generation, Round>,
    /// The one that it has completed since a newer one did.
    pub one_more: BTreeMap<Generation, Round>,
    /// Worlds of this incarnation or an older one went down with their
    /// coordinator's disk; until then they may not have heard.
    pub forgotten: Option<(u32, Duration)>,
    /// The newest incarnation whose coordinator lives though another one leads.
    pub fenced: u32,
    /// Whoever was gone or cut off so far was missed at once.
    pub loud: bool,
    /// Promises that were broken.
    pub broken: Vec<String>,
    pub trace: bool,
}

impl Env {
    pub fn log(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:9.3} s  {}", self.now.as_secs_f64(), what());
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn broken(&mut self, what: String) {
        self.log(|| format!("BROKEN {what}"));
        self.broken.push(what);
    }

    pub fn after(&mut self, time: Duration, what: What) {
        self.agenda.at(self.now + time, what);
    }

    /// A time between these, drawn evenly.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_micros() as u64 + 1;
        from + Duration::from_micros(self.random.next() % span)
    }

    fn delay(&mut self) -> Duration {
        let usual = self.weather.latency;
        let most = match self.random.next() % 1000 < self.weather.late_per_mille {
            true => self.weather.longest_delay(),
            false => usual,
        };
        self.between(usual / 10, most)
    }

    /// Whether it is on its way.
    pub fn send(&mut self, link: LinkId, from: End, message: Message) -> bool {
        let arrives = self.now + self.delay();
        if let Some((side, at)) = self.net.send(link, from, message, arrives) {
            self.agenda.at(at, What::Deliver(link, side));
            return true;
        }
        false
    }

    /// Opens a connection. Where nobody listens it breaks soon, where nobody
    /// answers it breaks late.
    pub fn dial(&mut self, kind: Kind, from: End, to: End) -> LinkId {
        let link = self.net.open(kind, from, to);
        let listens = match to {
            End::Coordinator(node) => self.coordinators.contains_key(&node),
            End::Worker(worker) => self.alive.contains(&worker),
        };
        if !listens && !self.net.dark.contains(&to) {
            self.close(link, to);
        } else if !self.net.reach_each_other(from, to, self.now) {
            let patience = self.between(SILENCE / 4, SILENCE / 3);
            self.after(patience, What::Silence(link, 0));
        }
        link
    }

    pub fn close(&mut self, link: LinkId, by: End) {
        self.net.close(link, by);
        self.news(link, 0);
        self.news(link, 1);
    }

    pub fn cut(&mut self, link: LinkId) {
        self.net.cut(link, &mut self.random);
        // One end may learn of it long before the other.
        let late = self.random.below(2);
        self.news(link, 1 - late);
        let time = self.between(Duration::ZERO, LATE_NEWS);
        self.news_after(link, late, time);
    }

    /// All exchange connections of a worker break; who dialled each learns of it
    /// soon, the other one late.
    pub fn forget_exchange(&mut self, worker: WorkerId) -> bool {
        let theirs = |kind, a, b| {
            let worker = End::Worker(worker);
            kind == Kind::Exchange && (a == worker || b == worker)
        };
        let sides = self.net.sides(theirs);
        for (link, side) in &sides {
            match side {
                0 => {
                    self.net.cut(*link, &mut self.random);
                    self.news(*link, 0);
                }
                _ => {
                    let late = self.between(SILENCE, SILENCE * 4 / 3);
                    self.news_after(*link, 1, late);
                }
            }
        }
        !sides.is_empty()
    }

    /// This side learns, after what is under way, that a connection broke.
    fn news(&mut self, link: LinkId, side: usize) {
        let delay = self.delay();
        self.news_after(link, side, delay);
    }

    fn news_after(&mut self, link: LinkId, side: usize, time: Duration) {
        if let Some(at) = self.net.tell(link, side, self.now + time) {
            self.agenda.at(at, What::Deliver(link, side));
        }
    }

    /// What a connection has for this side now; what can't come yet comes later.
    pub fn deliver(&mut self, link: LinkId, side: usize) -> Option<Delivered> {
        let (_, to, from) = self.net.ends(link, side)?;
        if let Some(until) = self.net.held_back(from, to, self.now) {
            let at = until + self.delay();
            self.agenda.at(at, What::Deliver(link, side));
            return None;
        }
        let (kind, from, what) = self.net.deliver(link, side, self.now)?;
        Some((kind, to, from, what))
    }

    /// Whether this side of a connection has really heard nothing for so long;
    /// then it takes it for lost.
    pub fn is_silent(&mut self, link: LinkId, side: usize) -> Option<Delivered> {
        let (kind, here, there) = self.net.ends(link, side)?;
        let answers = self.net.reach_each_other(here, there, self.now);
        // The kernel of a frozen process still answers for it; HTTP/2 doesn't.
        let stopped = kind == Kind::Control && self.frozen_until(there).is_some();
        if answers && !stopped {
            return None;
        }
        self.net.give_up(link, side);
        self.news(link, 1 - side);
        let (kind, from, what) = self.net.deliver(link, side, self.now)?;
        Some((kind, here, from, what))
    }

    /// What was held back by partitions that are no more comes.
    pub fn deliver_what_was_held(&mut self) {
        for (link, side) in self.net.sides(|_, _, _| true) {
            let delay = self.delay();
            // One each, and one for the news that it is broken.
            for _ in 0..=self.net.under_way(link, side) {
                self.after(delay, What::Deliver(link, side));
            }
        }
    }

    /// From now on somebody may hear nothing on these connections.
    pub fn grow_silent(&mut self, which: impl Fn(Kind, End, End) -> bool) {
        for (link, side) in self.net.sides(which) {
            let patience = self.between(SILENCE, SILENCE * 4 / 3);
            self.after(patience, What::Silence(link, side));
        }
    }

    /// Nobody is frozen, nothing is cut off (but two that one of them has to leave
    /// for), and the store answers.
    pub fn is_calm(&self) -> bool {
        let past = |until: &Duration| *until <= self.now;
        let store = &self.store;
        self.frozen.values().all(past)
            && self
                .net
                .partitions
                .iter()
                .all(|p| past(&p.until) || p.until == FOR_GOOD)
            && past(&store.down_until)
            && past(&store.slow_until)
    }

    /// Where the coordinator's name leads whoever asks for it now.
    pub fn resolve(&mut self) -> End {
        let (other, until) = self.named;
        let late = self.now < until && self.random.chance(50);
        End::Coordinator(if late { other } else { self.leads })
    }

    /// Whether a coordinator answers there, if one is asked that it reaches.
    pub fn serves(&self, end: End) -> bool {
        let End::Coordinator(node) = end else {
            return false;
        };
        self.coordinators.contains_key(&node) && self.frozen_until(end).is_none()
    }

    /// Worlds of this incarnation and older ones aren't known to those that come
    /// after it; until then they may not have heard.
    pub fn forget(&mut self, incarnation: u32, until: Duration) {
        let last = self.forgotten.map_or(0, |(last, _)| last);
        self.forgotten = Some((incarnation.max(last), until));
    }

    pub fn frozen_until(&self, end: End) -> Option<Duration> {
        self.frozen
            .get(&end)
            .copied()
            .filter(|until| *until > self.now)
    }

    /// A process comes and listens.
    pub fn settle(&mut self, worker: WorkerId) {
        let free = |port: &u32| self.listener(&port.to_string()).is_none();
        let port = (1..).find(free).unwrap_or_default();
        self.alive.insert(worker);
        self.ports.insert(worker, port);
    }

    /// Who answers at an address.
    pub fn listener(&self, address: &str) -> Option<WorkerId> {
        let at = |w: &&WorkerId| self.ports.get(w).is_some_and(|p| p.to_string() == address);
        self.alive.iter().find(at).copied()
    }

    /// A process is gone; with its host, if that is dark.
    pub fn vanish(&mut self, end: End) {
        match end {
            End::Coordinator(node) => drop(self.coordinators.remove(&node)),
            End::Worker(worker) => drop(self.alive.remove(&worker)),
        }
        self.frozen.remove(&end);
        for (link, side) in self.net.vanish(end, &mut self.random) {
            if self.net.dark.contains(&end) {
                let patience = self.between(SILENCE, SILENCE * 4 / 3);
                self.after(patience, What::Silence(link, side));
            } else {
                self.news(link, side);
            }
        }
    }
}
