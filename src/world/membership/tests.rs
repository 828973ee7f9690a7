//! What the coordinator decides, event by event.

use super::*;
use crate::world::message::WorkerCounters;

const PATIENCE: Duration = Duration::from_secs(30);

fn worker(id: u64) -> WorkerId {
    WorkerId(id)
}

fn generation(counter: u32) -> Generation {
    Generation {
        incarnation: 1,
        counter,
    }
}

/// A coordinator, what it has written down, and what it has just done.
struct Coordinator {
    world: World,
    now: Duration,
    durable: Durable,
    done: Vec<Command>,
}

fn settings(start_size: usize, members_min: usize, members_max: usize) -> Settings {
    Settings {
        start_size,
        members_min,
        members_max,
        patience: PATIENCE,
    }
}

impl Coordinator {
    fn new(settings: Settings) -> Coordinator {
        let world = World::new(settings, 1, Durable::default(), Duration::ZERO);
        let mut coordinator = Coordinator {
            world,
            now: Duration::ZERO,
            durable: Durable::default(),
            done: Vec::new(),
        };
        coordinator.done = coordinator.world.begin();
        coordinator
    }

    /// A world of these workers at round 0, all of whom have said so.
    fn running(settings: Settings, workers: &[u64]) -> Coordinator {
        let mut coordinator = Coordinator::new(settings);
        for id in workers {
            coordinator.hello(*id);
        }
        coordinator.on(Event::Start {
            manifest: None,
            round: Round(0),
        });
        for id in workers {
            coordinator.restored(*id, 0);
        }
        coordinator.everybody_reports(workers, 0);
        coordinator.everybody_progresses(workers, 0);
        coordinator
    }

    /// The next coordinator, after a crash of this one.
    fn restarted(&self) -> Coordinator {
        let durable = self.durable.clone();
        let settings = self.world.settings.clone();
        let mut world = World::new(settings, 2, durable.clone(), self.now);
        let done = world.begin();
        Coordinator {
            world,
            now: self.now,
            durable,
            done,
        }
    }

    fn on(&mut self, event: Event) -> &[Command] {
        self.done = self.world.handle(self.now, event);
        for command in &self.done {
            if let Command::Persist(durable) = command {
                self.durable = durable.clone();
            }
        }
        &self.done
    }

    fn hello(&mut self, id: u64) {
        self.hello_with(id, Holdings::default());
    }

    fn hello_with(&mut self, id: u64, holdings: Holdings) {
        let worker = worker(id);
        let member = Member {
            id: worker,
            address: format!("node:{id}"),
            weight: 1,
        };
        self.on(Event::Hello {
            worker,
            member,
            name: format!("node {id}"),
            holdings,
        });
    }

    fn says(&mut self, id: u64, message: FromWorker) {
        self.on(Event::From(worker(id), message));
    }

    /// Restored as told, before there was a world.
    fn restored(&mut self, id: u64, round: u64) {
        let generation = self.world.pool[&worker(id)].told;
        self.says(
            id,
            FromWorker::Ready {
                generation,
                round: Round(round),
                source: None,
            },
        );
    }

    /// Caught up with its source.
    fn caught_up(&mut self, id: u64, round: u64) {
        let node = &self.world.pool[&worker(id)];
        let (generation, source) = (node.told, node.source());
        self.says(
            id,
            FromWorker::Ready {
                generation,
                round: Round(round),
                source,
            },
        );
    }

    fn reports(&mut self, id: u64, installed: Generation, round: u64, held: &[u32]) {
        let generation = self.world.number;
        let holdings = Holdings {
            installed,
            fence: generation,
            round: Some(Round(round)),
            has_last_sum: round > 0,
            held: held.to_vec(),
            micro_batches: 6,
            leaving: false,
        };
        self.says(
            id,
            FromWorker::Report {
                generation,
                holdings,
            },
        );
    }

    fn everybody_reports(&mut self, workers: &[u64], round: u64) {
        let installed = self.current().map_or(Generation::NONE, |r| r.generation);
        for id in workers {
            self.reports(*id, installed, round, &[]);
        }
    }

    fn progresses(&mut self, id: u64, generation: Generation, round: u64) {
        let (round, counters) = (Round(round), WorkerCounters::default());
        self.says(
            id,
            FromWorker::Progress {
                generation,
                round,
                counters,
            },
        );
    }

    fn everybody_progresses(&mut self, workers: &[u64], round: u64) {
        let generation = self.current().expect("a world").generation;
        for id in workers {
            self.progresses(*id, generation, round);
        }
    }

    fn drain(&mut self, id: u64) {
        self.says(
            id,
            FromWorker::Drain {
                reason: "notice".into(),
            },
        );
    }

    fn dies(&mut self, id: u64) {
        self.on(Event::SessionBroken(worker(id)));
        assert_eq!(
            self.done,
            [Command::Probe(worker(id), format!("node:{id}"))]
        );
        self.on(Event::Probed(worker(id), Probe::Refused));
    }

    fn commits(&mut self, id: u64, round: u64, last: bool) {
        let (manifest, round) = (format!("round {round}"), Round(round));
        self.says(
            id,
            FromWorker::Committed {
                manifest,
                round,
                last,
            },
        );
    }

    fn current(&self) -> Option<&GenerationRecord> {
        self.world.current()
    }

    fn members(&self) -> Vec<u64> {
        let members = self
            .current()
            .map(|r| r.members.iter().map(|m| m.id.0).collect());
        members.unwrap_or_default()
    }

    /// What this worker was just told.
    fn told(&self, id: u64) -> Vec<&ToWorker> {
        let to = |command| match command {
            &Command::Send(to, ref message) if to == worker(id) => Some(message),
            _ => None,
        };
        self.done.iter().filter_map(to).collect()
    }

    fn released(&self, id: u64) -> Option<&ReleaseReason> {
        self.told(id).into_iter().find_map(|message| match message {
            ToWorker::Release(reason) => Some(reason),
            _ => None,
        })
    }

    fn is_told(&self, id: u64, what: &str) -> bool {
        self.told(id)
            .iter()
            .any(|message| format!("{message:?}").starts_with(what))
    }

    fn notes(&self) -> Vec<&Note> {
        let note = |command| match command {
            &Command::Note(ref note) => Some(note),
            _ => None,
        };
        self.done.iter().filter_map(note).collect()
    }

    /// Nobody hears of a number or a world that isn't written down.
    fn assert_durable_first(&self) {
        let persisted = self
            .done
            .iter()
            .position(|c| matches!(c, Command::Persist(_)));
        let sent = self.done.iter().position(|c| {
            let Command::Send(_, message) = c else {
                return false;
            };
            use ToWorker::{Install, Prepare, Propose};
            matches!(message, Prepare { .. } | Install(_) | Propose(_))
        });
        assert!(persisted < sent, "{:?}", self.done);
        assert!(persisted.is_some());
    }
}

fn auto() -> Settings {
    settings(1, 1, 8)
}

#[test]
fn a_world_starts_when_enough_workers_hold_the_state_to_start_from() {
    let mut c = Coordinator::new(settings(2, 1, 8));
    assert_eq!(c.done, [Command::FindStart]);
    c.hello(1);
    assert_eq!(c.done, []);
    let manifest = Some("round 4".to_owned());
    c.on(Event::Start {
        manifest: manifest.clone(),
        round: Round(4),
    });
    let restore = ToWorker::Restore {
        generation: Generation::NONE,
        manifest,
    };
    assert_eq!(c.told(1), [&restore]);
    c.restored(1, 4);
    assert_eq!(c.done, []);
    let (who, next) = c.world.waiting().expect("it waits");
    assert_eq!(who, ["1 of 2 workers"]);
    assert_eq!(next, "training starts when they have come");

    c.hello(2);
    c.restored(2, 4);
    c.assert_durable_first();
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
    c.everybody_reports(&[1, 2], 4);
    c.assert_durable_first();
    assert!(c.is_told(1, "Install") && c.is_told(2, "Install"));
    assert_eq!(c.members(), [1, 2]);
    assert_eq!(c.current().map(|r| r.base), Some(Round(4)));
}

#[test]
fn a_killed_worker_makes_the_others_report_and_go_on_without_it() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    let before = c.current().map(|r| r.generation).unwrap_or_default();
    c.dies(2);
    c.assert_durable_first();
    assert!(c.is_told(1, "Prepare") && c.is_told(3, "Prepare"));
    let (who, _) = c.world.waiting().expect("it waits");
    assert_eq!(who, ["worker 1 (node 1)", "worker 3 (node 3)"]);
    c.reports(1, before, 7, &[0, 1]);
    assert_eq!(c.done, [], "worker 3 may hold the sum");
    c.reports(3, before, 7, &[4, 5]);
    c.assert_durable_first();
    assert_eq!(c.members(), [1, 3]);
    let recomputed = c.notes().iter().find_map(|note| match note {
        Note::Installed { recomputed, .. } => Some(*recomputed),
        _ => None,
    });
    assert_eq!(recomputed, Some(2));
}

#[test]
fn a_second_loss_before_the_install_is_part_of_the_same_decision() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    c.dies(2);
    c.everybody_reports(&[3], 7);
    c.dies(1);
    assert_eq!(c.members(), [3]);
}

#[test]
fn a_broken_session_alone_is_no_death() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.on(Event::SessionBroken(worker(2)));
    c.on(Event::Probed(worker(2), Probe::Accepted));
    assert_eq!(c.done, []);
    assert_eq!(c.world.phase_name(), "running");
}

#[test]
fn a_worker_that_stays_silent_is_given_up_when_the_patience_is_over() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.on(Event::SessionBroken(worker(2)));
    c.on(Event::Probed(worker(2), Probe::Silent));
    assert_eq!(c.done, []);
    c.now += PATIENCE;
    c.on(Event::Tick);
    assert!(c.is_told(1, "Prepare"));
    c.now += PATIENCE;
    c.on(Event::Tick);
    assert!(
        matches!(c.released(1), Some(ReleaseReason::Evicted(_))),
        "it never reports"
    );
}

#[test]
fn what_a_session_missed_is_made_good_by_a_prepare() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let installed = c.current().map(|r| r.generation).unwrap_or_default();
    c.on(Event::SessionBroken(worker(2)));
    let holdings = Holdings {
        installed,
        fence: installed,
        leaving: true,
        ..Holdings::default()
    };
    c.hello_with(2, holdings);
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
    c.everybody_reports(&[1, 2], 3);
    c.everybody_progresses(&[1, 2], 3);
    assert!(
        c.is_told(2, "Propose"),
        "it had asked to leave when nobody could hear it"
    );
}

#[test]
fn a_broken_exchange_is_made_anew() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let generation = c.current().map(|r| r.generation).unwrap_or_default();
    c.says(
        1,
        FromWorker::PeerLost {
            peer: worker(2),
            generation,
        },
    );
    assert_eq!(c.done, [Command::Probe(worker(2), "node:2".into())]);
    c.on(Event::Probed(worker(2), Probe::Accepted));
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
    c.everybody_reports(&[1, 2], 0);
    assert_eq!(c.members(), [1, 2]);
}

/// Worker `by` loses `peer`, which lives, in the world in force.
fn exchange_breaks(c: &mut Coordinator, by: u64, peer: u64) {
    let generation = c.current().map(|r| r.generation).unwrap_or_default();
    c.says(
        by,
        FromWorker::PeerLost {
            peer: worker(peer),
            generation,
        },
    );
    c.on(Event::Probed(worker(peer), Probe::Accepted));
}

#[test]
fn a_second_broken_exchange_evicts_the_later_worker() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    exchange_breaks(&mut c, 2, 1);
    assert!(matches!(c.released(2), Some(ReleaseReason::Evicted(_))));
    c.everybody_reports(&[1], 0);
    assert_eq!(c.members(), [1]);
}

#[test]
fn the_other_side_of_a_broken_exchange_is_no_second_one() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    exchange_breaks(&mut c, 1, 2);
    c.everybody_reports(&[1, 2], 0);
    assert_eq!(c.members(), [1, 2]);
}

#[test]
fn a_second_broken_exchange_much_later_is_a_first_one() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    c.now += PATIENCE * 2;
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    assert_eq!(c.members(), [1, 2]);
}

#[test]
fn an_accusation_from_before_an_install_is_out_of_date() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    let before = c.current().map(|r| r.generation).unwrap_or_default();
    exchange_breaks(&mut c, 2, 1);
    c.everybody_reports(&[1, 2], 0);
    c.says(
        1,
        FromWorker::PeerLost {
            peer: worker(2),
            generation: before,
        },
    );
    assert_eq!(c.done, []);
}

/// Worker 3 comes to the world of 1 and 2 and has caught up at round 5.
fn with_a_newcomer() -> Coordinator {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    assert!(c.is_told(3, "Follow"));
    c.caught_up(3, 5);
    c
}

#[test]
fn a_newcomer_hears_of_its_change_first_and_the_members_when_it_has_confirmed() {
    let mut c = with_a_newcomer();
    c.assert_durable_first();
    assert!(c.is_told(3, "Propose") && !c.is_told(1, "Propose"));
    let generation = c.world.number;
    c.says(3, FromWorker::Ack { generation });
    assert!(c.is_told(1, "Propose") && c.is_told(2, "Propose"));
    assert_eq!(c.members(), [1, 2]);
    c.progresses(2, generation, 6);
    assert_eq!(c.members(), [1, 2, 3]);
    assert!(
        c.notes()
            .contains(&&Note::Joined(worker(3), "node 3".into()))
    );
    assert!(c.durable.pending.is_none());
}

#[test]
fn a_newcomer_that_goes_before_anybody_heard_of_it_is_not_noticed() {
    let mut c = with_a_newcomer();
    c.dies(3);
    assert_eq!(c.world.phase_name(), "running");
    assert_eq!(c.durable.pending, None);
}

#[test]
fn a_newcomer_that_cannot_come_is_gone_on_without() {
    let mut c = with_a_newcomer();
    let generation = c.world.number;
    c.says(3, FromWorker::Ack { generation });
    c.says(
        3,
        FromWorker::SourceLost {
            error: "it broke".into(),
        },
    );
    assert!(
        c.is_told(1, "Prepare"),
        "the members may already wait for it"
    );
}

#[test]
fn a_word_from_before_the_newest_source_is_out_of_date() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    let generation = Generation::NONE;
    c.says(
        3,
        FromWorker::Ready {
            generation,
            round: Round(0),
            source: None,
        },
    );
    assert_eq!(c.done, []);
}

#[test]
fn the_next_change_waits_until_all_members_are_in() {
    let mut c = with_a_newcomer();
    let entered = c.world.number;
    c.says(
        3,
        FromWorker::Ack {
            generation: entered,
        },
    );
    c.progresses(1, entered, 6);
    c.drain(2);
    assert_eq!(c.done, [], "workers 2 and 3 may be in the world before");
    c.progresses(2, entered, 6);
    assert_eq!(c.done, []);
    c.progresses(3, entered, 6);
    assert!(c.is_told(1, "Propose"));
}

#[test]
fn a_leaver_is_let_go_when_all_have_applied_its_last_step() {
    let mut c = Coordinator::running(auto(), &[1, 2, 3]);
    c.drain(3);
    c.assert_durable_first();
    let change = c.world.number;
    assert!(c.is_told(3, "Propose") && c.is_told(1, "Propose"));
    c.progresses(3, change, 4);
    assert_eq!(
        c.current().map(|r| r.leavers.clone()),
        Some(vec![worker(3)])
    );
    assert_eq!(c.released(3), None);
    c.progresses(1, change, 4);
    assert_eq!(c.released(3), None, "worker 2 may lack the sum");
    c.progresses(2, change, 4);
    assert_eq!(c.released(3), Some(&ReleaseReason::Drained));
    c.says(
        3,
        FromWorker::Bye {
            reason: "drained".into(),
        },
    );
    assert_eq!(c.done, []);
    assert!(!c.world.pool().contains_key(&worker(3)));
}

#[test]
fn a_follower_that_wants_to_leave_may_go_at_once() {
    let mut c = Coordinator::running(auto(), &[1]);
    c.hello(2);
    c.drain(2);
    assert_eq!(c.released(2), Some(&ReleaseReason::Drained));
}

#[test]
fn a_follower_that_asked_to_leave_during_a_reconciliation_goes_after_it() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    c.dies(2);
    c.drain(3);
    assert_eq!(c.released(3), None);
    c.everybody_reports(&[1], 0);
    assert_eq!(c.released(3), Some(&ReleaseReason::Drained));
}

#[test]
fn where_everybody_drains_the_last_state_is_saved_first() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.drain(1);
    let change = c.world.number;
    c.drain(2);
    c.progresses(2, change, 4); // 1 leaves, 2 remains and drains next
    assert!(c.is_told(2, "Propose"));
    let change = c.world.number;
    c.progresses(2, change, 5);
    assert_eq!(c.told(2), [&ToWorker::Save]);
    c.commits(2, 5, false);
    assert_eq!(c.released(2), Some(&ReleaseReason::Drained));
    assert!(
        c.done.contains(&Command::FindStart),
        "for whoever comes next"
    );
    assert_eq!(c.durable.current, None);
}

#[test]
fn a_checkpoint_that_lacks_the_last_round_lets_nobody_go() {
    let mut c = Coordinator::running(auto(), &[1]);
    c.drain(1);
    let change = c.world.number;
    c.progresses(1, change, 4);
    c.commits(1, 3, false);
    assert_eq!(c.released(1), None);
    assert_eq!(c.told(1), [&ToWorker::Save]);
    c.says(
        1,
        FromWorker::SaveFailed {
            round: Round(4),
            error: "full".into(),
        },
    );
    assert_eq!(c.told(1), [] as [&ToWorker; 0], "not at once");
    c.on(Event::Tick);
    assert_eq!(c.told(1), [&ToWorker::Save]);
}

#[test]
fn below_the_minimum_the_world_pauses_and_names_what_it_waits_for() {
    let mut c = Coordinator::running(settings(2, 2, 8), &[1, 2]);
    c.dies(2);
    c.everybody_reports(&[1], 3);
    assert_eq!(c.world.phase_name(), "paused");
    let (who, next) = c.world.waiting().expect("it waits");
    assert_eq!(who, ["1 more workers"]);
    assert_eq!(next, "training goes on when they have come");

    c.everybody_progresses(&[1], 3);
    c.hello(3);
    c.caught_up(3, 3);
    assert!(c.is_told(1, "Prepare") && c.is_told(3, "Prepare"));
    c.everybody_reports(&[1, 3], 3);
    assert_eq!(c.members(), [1, 3]);
    assert_eq!(c.world.phase_name(), "running");
}

#[test]
fn workers_that_find_no_place_are_named_once() {
    let mut c = Coordinator::running(settings(1, 1, 1), &[1]);
    c.hello(2);
    assert_eq!(c.notes(), [&Note::Idle(vec![worker(2)])]);
    c.on(Event::Tick);
    assert_eq!(c.done, []);
    c.dies(1);
    assert!(c.is_told(2, "Prepare"));
}

#[test]
fn a_follower_is_given_the_newest_checkpoint_or_a_fresh_one() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    let source = c.world.pool[&worker(3)]
        .source()
        .map(|w| w.0)
        .unwrap_or_default();
    c.says(3, FromWorker::NeedCheckpoint { round: Round(5) });
    assert_eq!(c.told(source), [&ToWorker::Save]);
    c.commits(source, 6, false);
    let manifest = "round 6".to_owned();
    assert_eq!(
        c.told(3),
        [&ToWorker::RestoreFrom {
            manifest: manifest.clone()
        }]
    );
    c.hello(4);
    c.says(4, FromWorker::NeedCheckpoint { round: Round(6) });
    assert_eq!(c.told(4), [&ToWorker::RestoreFrom { manifest }]);
}

#[test]
fn followers_spread_over_the_members() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    for id in 3..7 {
        c.hello(id);
    }
    let followers = |of| {
        c.world
            .pool()
            .values()
            .filter(|n| n.source() == Some(worker(of)))
            .count()
    };
    assert_eq!((followers(1), followers(2)), (2, 2));
}

#[test]
fn the_last_checkpoint_ends_the_run_for_everybody() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.hello(3);
    c.commits(1, 9, true);
    for id in 1..4 {
        assert_eq!(c.released(id), Some(&ReleaseReason::Finished));
    }
    let end = Outcome::Finished {
        manifest: "round 9".into(),
    };
    assert!(c.done.contains(&Command::End(end)));
    assert_eq!(c.durable.current, None);
    c.hello(4);
    assert_eq!(c.released(4), Some(&ReleaseReason::Finished));
}

#[test]
fn a_job_that_fails_on_one_worker_ends_for_all() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.says(
        2,
        FromWorker::JobFailed {
            error: "loss is not finite".into(),
        },
    );
    let failed = ReleaseReason::Failed("loss is not finite".into());
    assert_eq!(c.released(1), Some(&failed));
    assert!(
        c.done
            .contains(&Command::End(Outcome::Failed("loss is not finite".into())))
    );
}

#[test]
fn a_stop_saves_the_state_and_lets_everybody_go() {
    let mut c = Coordinator::running(auto(), &[1, 2]);
    c.on(Event::Stop);
    let change = c.world.number;
    assert!(c.is_told(1, "Propose"));
    c.progresses(1, change, 4);
    assert_eq!(c.told(1), [&ToWorker::Save]);
    c.commits(1, 4, false);
    assert_eq!(c.released(1), Some(&ReleaseReason::Stopped));
    assert_eq!(c.released(2), Some(&ReleaseReason::Stopped));
    assert!(c.done.contains(&Command::End(Outcome::Stopped)));
}

#[test]
fn a_stop_before_there_is_a_world_needs_no_checkpoint() {
    let mut c = Coordinator::new(auto());
    c.hello(1);
    c.on(Event::Stop);
    assert_eq!(c.released(1), Some(&ReleaseReason::Stopped));
    c.hello(2);
    assert_eq!(c.released(2), Some(&ReleaseReason::Stopped));
}

#[test]
fn a_restarted_coordinator_prepares_when_all_are_known() {
    let before = Coordinator::running(auto(), &[1, 2]);
    let installed = before.current().map(|r| r.generation).unwrap_or_default();
    let mut c = before.restarted();
    let probes = [1, 2].map(|id| Command::Probe(worker(id), format!("node:{id}")));
    assert_eq!(c.done, probes);
    let holdings = Holdings {
        installed,
        fence: installed,
        ..Holdings::default()
    };
    c.hello_with(1, holdings.clone());
    assert_eq!(c.done, []);
    let (who, _) = c.world.waiting().expect("it waits");
    assert_eq!(who, ["worker 2"]);
    c.hello_with(2, holdings);
    c.assert_durable_first();
    assert!(c.is_told(1, "Prepare") && c.is_told(2, "Prepare"));
    assert_eq!(
        c.world.number,
        Generation {
            incarnation: 2,
            counter: 1
        }
    );
}

#[test]
fn a_restarted_coordinator_gives_up_those_that_are_gone() {
    let before = Coordinator::running(auto(), &[1, 2, 3]);
    let installed = before.current().map(|r| r.generation).unwrap_or_default();
    let mut c = before.restarted();
    c.hello_with(
        1,
        Holdings {
            installed,
            fence: installed,
            ..Holdings::default()
        },
    );
    c.on(Event::Probed(worker(2), Probe::Refused));
    c.on(Event::Probed(worker(3), Probe::Accepted));
    assert_eq!(c.done, [], "worker 3 lives and will come");
    c.now += PATIENCE;
    c.on(Event::Tick);
    assert!(c.is_told(1, "Prepare"));
    c.reports(1, installed, 2, &[]);
    assert_eq!(c.members(), [1]);
    c.hello_with(
        3,
        Holdings {
            installed,
            fence: installed,
            ..Holdings::default()
        },
    );
    assert!(
        matches!(c.released(3), Some(ReleaseReason::Evicted(_))),
        "too late"
    );
}

#[test]
fn a_restarted_coordinator_whose_world_is_gone_looks_for_a_checkpoint() {
    let mut c = Coordinator::running(auto(), &[1]).restarted();
    c.on(Event::Probed(worker(1), Probe::Refused));
    assert!(c.done.contains(&Command::FindStart));
    assert!(
        c.notes()
            .iter()
            .any(|note| matches!(note, Note::WorldLost { .. }))
    );
}

#[test]
fn a_change_that_somebody_entered_before_the_crash_is_in_force() {
    let mut before = with_a_newcomer();
    let entered = before.world.number;
    before.says(
        3,
        FromWorker::Ack {
            generation: entered,
        },
    );
    let mut c = before.restarted();
    for id in 1..4 {
        let installed = if id == 2 { entered } else { generation(1) };
        c.hello_with(
            id,
            Holdings {
                installed,
                fence: installed,
                ..Holdings::default()
            },
        );
    }
    c.reports(1, generation(1), 6, &[]);
    c.reports(2, entered, 6, &[]);
    c.reports(3, generation(1), 5, &[]);
    assert_eq!(c.members(), [1, 2, 3]);
}

#[test]
fn a_stranger_from_another_world_is_put_out() {
    let mut c = Coordinator::running(auto(), &[1]);
    let installed = Generation {
        incarnation: 1,
        counter: 77,
    };
    c.hello_with(
        9,
        Holdings {
            installed,
            fence: installed,
            ..Holdings::default()
        },
    );
    assert!(matches!(c.released(9), Some(ReleaseReason::Evicted(_))));
}

#[test]
fn where_all_members_are_gone_the_world_goes_on_from_a_follower() {
    let mut c = Coordinator::running(auto(), &[1]);
    c.hello(2);
    c.caught_up(2, 5);
    c.dies(1);
    assert!(c.is_told(2, "Prepare"));
    c.reports(2, generation(1), 5, &[]);
    assert_eq!(c.members(), [2]);
    assert_eq!(c.current().map(|r| r.base), Some(Round(5)));
}
