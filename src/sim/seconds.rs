//! A second coordinator for the same run, on another node and with nothing but
//! the store: refused while the first one answers, and else the one that leads.

use std::time::Duration;

use super::Planted;
use super::agenda::{Second, What};
use super::coordinator::{Coordinator, NOTICED_AFTER, STORE_PAUSE};
use super::env::Env;
use super::invariants;
use super::network::{End, Kind, Node};
use super::run::{Run, TICK};
use crate::world::lead::ANSWER;

/// So long may the coordinator's name lead to the first one's node.
const NAMED: Duration = Duration::from_secs(30);

impl Run {
    /// Somebody starts another coordinator for this run.
    pub(super) fn start_second(&mut self) -> bool {
        if self.coordinator.outcome.is_some() {
            return false;
        }
        self.nodes += 1;
        let node = self.nodes;
        let asks = What::Second(node, Second::Asks);
        self.env.after(Duration::ZERO, asks);
        true
    }

    /// It comes one step further.
    pub(super) fn second(&mut self, node: Node, so_far: Second) {
        let first = End::Coordinator(self.env.leads);
        let (us, now) = (End::Coordinator(node), self.env.now);
        let reached = self.env.net.reach_each_other(us, first, now);
        let answers = reached && self.env.serves(first);
        let last = self.env.store.newest(now, None).flatten();
        if self.coordinator.outcome.is_some() || last.is_some_and(|(_, c)| c.last) {
            return; // already complete
        }
        let careless = self.env.planted == Some(Planted::SecondNotRefused);
        match so_far {
            Second::Asks | Second::Waited if answers && !careless => {
                self.env.log(|| format!("coordinator {node} is refused"));
                self.env.count("second coordinator refused");
            }
            Second::Asks => {
                let waited = What::Second(node, Second::Waited);
                self.env.after(ANSWER, waited);
            }
            Second::Waited => {
                invariants::one_leads::goes_on(&mut self.env, answers);
                let opening = self.env.weather.store;
                let time = self.env.between(Duration::ZERO, opening);
                self.env.after(time, What::Second(node, Second::Takes));
            }
            Second::Takes if now < self.env.store.down_until => {
                let takes = What::Second(node, Second::Takes);
                self.env.after(STORE_PAUSE, takes);
            }
            Second::Takes => self.take_over(node),
            Second::Moves => {
                let sessions = self.env.net.up(Kind::Control);
                sessions.into_iter().for_each(|link| self.env.cut(link));
            }
        }
    }

    fn take_over(&mut self, node: Node) {
        let first = self.env.leads;
        let time = self.env.between(Duration::ZERO, NAMED);
        self.env.named = (first, self.env.now + time);
        if self.env.random.chance(50) {
            self.env.after(time / 2, What::Second(node, Second::Moves));
        }
        self.env.leads = node;
        self.env.count("taken over");
        invariants::shadow_holds::is_gone(&mut self.env);
        let mut second = Coordinator::new(self.coordinator.settings.clone(), node);
        second.start(&mut self.env);
        let mut first = std::mem::replace(&mut self.coordinator, second);
        self.env.after(TICK, What::Tick(node));
        if first.world.is_some() {
            first.is_replaced(self.env.now);
            self.env.fenced = self.env.fenced.max(first.incarnation);
            self.fenced.push(first);
        } else {
            let until = self.env.now + self.env.weather.reconnect + NOTICED_AFTER;
            self.env.forget(first.incarnation, until);
        }
    }

    /// Coordinators that have found out that another one leads are gone.
    pub(super) fn bury_fenced(&mut self) {
        let Some(at) = self.fenced.iter().position(|c| c.superseded) else {
            return;
        };
        let gone = self.fenced.remove(at);
        self.env.log(|| format!("coordinator {} ends", gone.node));
        self.env.count("fenced coordinator ended");
        self.env.vanish(End::Coordinator(gone.node));
        self.shadows_end_with(gone.node);
        let left = self.fenced.iter().map(|c| c.incarnation);
        self.env.fenced = left.max().unwrap_or(0);
        let until = self.env.now + self.env.weather.reconnect + NOTICED_AFTER;
        self.env.forget(gone.incarnation, until);
    }

    /// A shadow ends with its parent.
    pub(super) fn shadows_end_with(&mut self, node: Node) {
        let shadows = self.processes.values_mut();
        let shadows = shadows.filter(|p| p.shadow && p.home == node);
        shadows.for_each(|p| p.fuse = Some(0));
    }

    /// The coordinator of a node, if it is one's that still runs.
    pub(super) fn coordinator_at(&mut self, node: Node) -> Option<(&mut Coordinator, &mut Env)> {
        let mut all = self.fenced.iter_mut().chain([&mut self.coordinator]);
        let there = all.find(|c| c.node == node && c.world.is_some())?;
        Some((there, &mut self.env))
    }

    /// Time passes for the coordinator of a node.
    pub(super) fn tick(&mut self, node: Node) {
        if let Some((coordinator, env)) = self.coordinator_at(node) {
            coordinator.tick(env);
        } else if node != self.coordinator.node {
            return;
        }
        self.env.after(TICK, What::Tick(node));
    }
}
