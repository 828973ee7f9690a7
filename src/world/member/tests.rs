//! What a worker does, event by event.

use std::sync::Arc;

use super::super::message::ReleaseReason;
use super::*;
use crate::world::{FirstShares, Member as Node};

const ME: WorkerId = WorkerId(2);
const FIRST: WorkerId = WorkerId(1);

fn generation(counter: u32) -> Generation {
    Generation {
        incarnation: 1,
        counter,
    }
}

fn node(id: u64) -> Node {
    Node {
        id: WorkerId(id),
        address: format!("node:{id}"),
        weight: 1,
    }
}

fn world(counter: u32, members: &[u64]) -> GenerationRecord {
    GenerationRecord {
        generation: generation(counter),
        members: members.iter().map(|id| node(*id)).collect(),
        base: Round(0),
        first: None,
        source: None,
        leavers: Vec::new(),
        paused: false,
        origin: Origin::Installed,
    }
}

fn change(counter: u32, from: u32, members: &[u64]) -> GenerationRecord {
    let origin = Origin::Planned {
        from: generation(from),
    };
    GenerationRecord {
        origin,
        ..world(counter, members)
    }
}

const NEXT: Next = Next::Round {
    micro_batches: 4,
    values: 1,
};

/// A worker and what it was last told to do.
struct Worker {
    member: Member,
    task: Task,
}

impl Worker {
    fn new(id: WorkerId) -> Worker {
        let buckets = Arc::new(|_: u64, owners: usize| vec![1; owners]);
        Worker {
            member: Member::new(id, buckets),
            task: 0,
        }
    }

    /// At round 0, with nothing to do.
    fn restored(id: WorkerId) -> Worker {
        let mut worker = Worker::new(id);
        worker.told(ToWorker::Restore {
            generation: generation(0),
            manifest: None,
        });
        worker.restored_at(0);
        worker
    }

    /// A member of this world, computing its share.
    fn member_of(id: WorkerId, record: GenerationRecord) -> Worker {
        let mut worker = Worker::restored(id);
        worker.told(ToWorker::Prepare {
            generation: record.generation,
        });
        worker.told(ToWorker::Install(record));
        worker
    }

    fn on(&mut self, event: Event) -> Vec<Command> {
        let commands = self.member.handle(event).expect("no violation");
        for command in &commands {
            match command {
                Command::Compute { task, .. }
                | Command::Apply { task, .. }
                | Command::Restore { task, .. } => self.task = *task,
                _ => {}
            }
        }
        commands
    }

    fn told(&mut self, message: ToWorker) -> Vec<Command> {
        self.on(Event::Control(message))
    }

    fn restored_at(&mut self, round: u64) -> Vec<Command> {
        self.on(Event::Restored {
            task: self.task,
            round: Round(round),
            next: NEXT,
        })
    }

    fn computed(&mut self, held: &[u32]) -> Vec<Command> {
        self.on(Event::Computed {
            task: self.task,
            held: held.to_vec(),
        })
    }

    fn applied(&mut self) -> Vec<Command> {
        self.on(Event::Applied {
            task: self.task,
            next: NEXT,
            checkpoint: false,
        })
    }

    /// Worker 2 of the world of workers 1 and 2 gets all pieces of a round.
    fn exchanged(&mut self, votes: &[(u32, u32)]) -> Vec<Command> {
        self.on(Event::Contributed {
            from: ME,
            bucket: 0,
        });
        self.on(Event::Contributed {
            from: FIRST,
            bucket: 0,
        });
        self.on(Event::Reduced {
            from: FIRST,
            bucket: 0,
        });
        let votes = votes
            .iter()
            .map(|(change, n)| (generation(*change), *n))
            .collect();
        self.on(Event::TrailerReduced { votes })
    }
}

fn told_of(commands: &[Command]) -> Vec<&FromWorker> {
    let told = commands.iter().filter_map(|c| match c {
        Command::Tell(message) => Some(message),
        _ => None,
    });
    told.collect()
}

fn share_of(commands: &[Command]) -> Option<(&[u32], bool)> {
    commands.iter().find_map(|c| match c {
        Command::Compute {
            micro_batches,
            fresh,
            ..
        } => Some((&micro_batches[..], *fresh)),
        _ => None,
    })
}

#[test]
fn a_member_contributes_its_share_and_applies_the_sum_when_all_of_it_has_come() {
    let mut worker = Worker::restored(ME);
    worker.told(ToWorker::Prepare {
        generation: generation(1),
    });
    let commands = worker.told(ToWorker::Install(world(1, &[1, 2])));
    assert_eq!(share_of(&commands), Some((&[2, 3][..], true)));

    let commands = worker.computed(&[2, 3]);
    assert_eq!(
        commands,
        [Command::Contribute {
            round: Round(0),
            vote: None
        }]
    );
    assert_eq!(
        worker.on(Event::Contributed {
            from: ME,
            bucket: 0
        }),
        []
    );
    let commands = worker.on(Event::Contributed {
        from: FIRST,
        bucket: 0,
    });
    assert_eq!(commands, [Command::Broadcast { bucket: 0 }]);
    assert_eq!(
        worker.on(Event::Reduced {
            from: FIRST,
            bucket: 0
        }),
        [],
        "the trailer is missing"
    );
    let commands = worker.on(Event::TrailerReduced {
        votes: BTreeMap::new(),
    });
    let sum = SumSource::Exchange;
    assert_eq!(
        commands,
        [Command::Apply {
            task: worker.task,
            round: Round(0),
            sum
        }]
    );

    let commands = worker.applied();
    assert_eq!(share_of(&commands), Some((&[2, 3][..], true)));
    assert_eq!(worker.member.round(), Some(Round(1)));
    assert!(worker.member.holdings().has_last_sum);
}

#[test]
fn the_first_member_finishes_the_trailer_before_it_applies() {
    let mut worker = Worker::member_of(FIRST, world(1, &[1, 2]));
    worker.computed(&[0, 1]);
    worker.on(Event::Contributed {
        from: FIRST,
        bucket: 0,
    });
    worker.on(Event::Contributed {
        from: ME,
        bucket: 0,
    });
    worker.on(Event::TrailerContributed { from: FIRST });
    let commands = worker.on(Event::TrailerContributed { from: ME });
    assert_eq!(commands, [Command::BroadcastTrailer]);
    assert_eq!(
        worker.on(Event::Reduced {
            from: ME,
            bucket: 0
        }),
        [],
        "its votes are not known"
    );
    let commands = worker.on(Event::TrailerReduced {
        votes: BTreeMap::new(),
    });
    assert!(matches!(commands[..], [Command::Apply { .. }]));
}

#[test]
fn an_only_member_applies_its_own_partial() {
    let mut worker = Worker::member_of(ME, world(1, &[2]));
    let commands = worker.computed(&[0, 1, 2, 3]);
    assert!(matches!(
        commands[..],
        [Command::Apply {
            sum: SumSource::Partial,
            ..
        }]
    ));
    worker.applied();
    assert!(
        !worker.member.holdings().has_last_sum,
        "nobody needs it, so it isn't packed"
    );
}

#[test]
fn a_report_waits_until_the_compute_thread_is_at_rest() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    let prepare = ToWorker::Prepare {
        generation: generation(2),
    };
    assert_eq!(worker.told(prepare), [Command::StopCompute]);
    let commands = worker.computed(&[2]);
    let [
        FromWorker::Report {
            generation: answered,
            holdings,
        },
    ] = told_of(&commands)[..]
    else {
        panic!("{commands:?} is no report");
    };
    assert_eq!(*answered, generation(2));
    assert_eq!(holdings.held, [2]);
    assert_eq!(
        (holdings.installed, holdings.fence),
        (generation(1), generation(2))
    );
}

#[test]
fn a_sum_that_is_being_applied_is_part_of_the_report() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    worker.computed(&[2, 3]);
    worker.exchanged(&[]);
    assert_eq!(
        worker.told(ToWorker::Prepare {
            generation: generation(2)
        }),
        []
    );
    let commands = worker.applied();
    let [FromWorker::Report { holdings, .. }] = told_of(&commands)[..] else {
        panic!("{commands:?} is no report");
    };
    assert_eq!(
        (holdings.round, holdings.has_last_sum),
        (Some(Round(1)), true)
    );
    assert!(holdings.held.is_empty());
}

#[test]
fn nothing_moves_between_report_and_install() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    worker.computed(&[2, 3]);
    worker.told(ToWorker::Prepare {
        generation: generation(2),
    });
    let before = worker.member.holdings();
    assert_eq!(
        worker.member.admit(FIRST, generation(1), Round(0)),
        Ok(Admit::Drop)
    );
    assert_eq!(
        worker.member.admit(FIRST, generation(2), Round(0)),
        Ok(Admit::Hold)
    );
    let fetched = Event::Fetched {
        generation: generation(1),
        round: Round(0),
    };
    assert_eq!(worker.on(fetched), []);
    assert_eq!(worker.member.holdings(), before);
}

#[test]
fn a_prepare_that_was_overtaken_is_not_answered() {
    let mut worker = Worker::member_of(ME, world(3, &[1, 2]));
    assert_eq!(
        worker.told(ToWorker::Prepare {
            generation: generation(2)
        }),
        []
    );
    assert_eq!(worker.told(ToWorker::Install(world(2, &[2]))), []);
    assert_eq!(worker.member.installed(), generation(3));
}

#[test]
fn a_partial_survives_and_only_what_is_missing_is_computed() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2, 3]));
    worker.told(ToWorker::Prepare {
        generation: generation(2),
    });
    worker.computed(&[2]);
    let first = Some(FirstShares::from([(FIRST, vec![0, 1]), (ME, vec![2, 3])]));
    let commands = worker.told(ToWorker::Install(GenerationRecord {
        first,
        ..world(2, &[1, 2])
    }));
    assert_eq!(share_of(&commands), Some((&[3][..], false)));
}

#[test]
fn a_partial_that_the_new_world_does_not_count_on_is_dropped() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    worker.told(ToWorker::Prepare {
        generation: generation(2),
    });
    worker.computed(&[2, 3]);
    let commands = worker.told(ToWorker::Install(world(2, &[2, 9])));
    assert_eq!(share_of(&commands), Some((&[0, 1][..], true)));
}

#[test]
fn frames_of_the_past_are_dropped_and_those_of_the_future_kept() {
    let worker = Worker::member_of(ME, world(3, &[1, 2]));
    let admit = |counter, round| {
        worker
            .member
            .admit(FIRST, generation(counter), Round(round))
    };
    assert_eq!(admit(2, 0), Ok(Admit::Drop));
    assert_eq!(admit(3, 0), Ok(Admit::Now));
    assert_eq!(admit(3, 1), Ok(Admit::Hold));
    assert_eq!(admit(4, 7), Ok(Admit::Hold));
    assert_eq!(
        admit(3, 2),
        Err(Violation::TooFarAhead {
            from: FIRST,
            round: Round(2)
        })
    );
}

#[test]
fn a_member_that_lacks_the_last_sum_fetches_it_and_does_not_count_its_votes() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    worker.told(ToWorker::Propose(change(2, 1, &[1])));
    worker.computed(&[2, 3]);
    worker.told(ToWorker::Prepare {
        generation: generation(3),
    });
    let record = GenerationRecord {
        base: Round(1),
        source: Some(node(9)),
        ..world(3, &[2])
    };
    let commands = worker.told(ToWorker::Install(record.clone()));
    let fetch = Command::Fetch {
        from: WorkerId(9),
        round: Round(0),
    };
    assert_eq!(commands, [Command::Connect(record), fetch]);
    let commands = worker.on(Event::Fetched {
        generation: generation(3),
        round: Round(0),
    });
    assert!(matches!(
        commands[..],
        [Command::Apply {
            sum: SumSource::Fetched,
            ..
        }]
    ));
    let commands = worker.applied();
    assert!(matches!(
        told_of(&commands)[..],
        [FromWorker::Progress {
            round: Round(1),
            ..
        }]
    ));
    assert_eq!(worker.member.installed(), generation(3));
}

#[test]
fn a_source_that_is_no_member_connects_and_tells_of_a_lost_connection() {
    let mut worker = Worker::restored(ME);
    let record = GenerationRecord {
        source: Some(node(2)),
        ..world(1, &[1])
    };
    let commands = worker.told(ToWorker::Install(record.clone()));
    assert_eq!(commands, [Command::Connect(record)]);
    let commands = worker.on(Event::PeerLost(FIRST));
    let lost = FromWorker::PeerLost {
        peer: FIRST,
        generation: generation(1),
    };
    assert_eq!(told_of(&commands), [&lost]);
    assert_eq!(
        worker.on(Event::PeerLost(WorkerId(7))),
        [],
        "nobody that matters"
    );
}

#[test]
fn a_change_is_entered_with_the_votes_of_all_and_not_before() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    worker.told(ToWorker::Propose(change(2, 1, &[1, 2, 3])));
    let commands = worker.computed(&[2, 3]);
    let vote = Some(generation(2));
    assert_eq!(
        commands,
        [Command::Contribute {
            round: Round(0),
            vote
        }]
    );
    worker.exchanged(&[(2, 1)]);
    worker.applied();
    assert_eq!(
        worker.member.installed(),
        generation(1),
        "worker 1 had not heard of it"
    );

    worker.computed(&[2, 3]);
    worker.exchanged(&[(2, 2)]);
    let commands = worker.applied();
    assert_eq!(worker.member.installed(), generation(2));
    assert!(commands.contains(&Command::Connect(change(2, 1, &[1, 2, 3]))));
    assert_eq!(
        share_of(&commands),
        Some((&[2][..], true)),
        "of three members now"
    );
}

#[test]
fn a_prepare_comes_before_a_change_that_all_have_voted_for() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    worker.told(ToWorker::Propose(change(2, 1, &[1])));
    worker.computed(&[2, 3]);
    worker.exchanged(&[(2, 2)]);
    worker.told(ToWorker::Prepare {
        generation: generation(3),
    });
    worker.applied();
    assert_eq!(worker.member.installed(), generation(1));
}

#[test]
fn a_change_to_another_world_is_not_voted_for() {
    let mut worker = Worker::member_of(ME, world(3, &[1, 2]));
    worker.told(ToWorker::Propose(change(2, 1, &[1])));
    worker.told(ToWorker::Propose(change(4, 2, &[1])));
    let commands = worker.computed(&[2, 3]);
    assert_eq!(
        commands,
        [Command::Contribute {
            round: Round(0),
            vote: None
        }]
    );
}

#[test]
fn a_leaver_has_nothing_to_compute() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    worker.told(ToWorker::Propose(change(2, 1, &[1])));
    worker.computed(&[2, 3]);
    worker.exchanged(&[(2, 2)]);
    let commands = worker.applied();
    assert_eq!(share_of(&commands), None);
    let release = ToWorker::Release(ReleaseReason::Drained);
    assert_eq!(
        worker.told(release),
        [Command::Exit(ReleaseReason::Drained)]
    );
}

/// A newcomer that follows worker 1, which is at round 5 in generation 1.
fn follower() -> Worker {
    let mut worker = Worker::new(ME);
    worker.told(ToWorker::Follow {
        source: FIRST,
        address: "node:1".into(),
    });
    let record = world(1, &[1]);
    let commands = worker.on(Event::Subscribed {
        from: FIRST,
        first: Round(5),
        record,
    });
    assert_eq!(
        told_of(&commands),
        [&FromWorker::NeedCheckpoint { round: Round(5) }]
    );
    worker
}

#[test]
fn a_follower_subscribes_then_restores_then_catches_up_and_says_so() {
    let mut worker = follower();
    let streamed = |round| Event::Streamed {
        from: FIRST,
        round,
        record: world(1, &[1]),
    };
    assert_eq!(worker.on(streamed(Round(5))), [], "asks once");
    let manifest = "round 5".to_owned();
    let commands = worker.told(ToWorker::RestoreFrom {
        manifest: manifest.clone(),
    });
    let manifest = Some(manifest);
    assert_eq!(
        commands,
        [Command::Restore {
            task: worker.task,
            manifest
        }]
    );
    let commands = worker.restored_at(5);
    assert!(matches!(
        commands[..],
        [Command::Apply {
            sum: SumSource::Streamed,
            ..
        }]
    ));
    let commands = worker.applied();
    let generation = Generation::NONE;
    let ready = FromWorker::Ready {
        generation,
        round: Round(6),
        source: Some(FIRST),
    };
    assert_eq!(told_of(&commands), [&ready]);
}

#[test]
fn a_newcomer_enters_where_all_have_voted() {
    let mut worker = follower();
    worker.told(ToWorker::RestoreFrom {
        manifest: "round 5".into(),
    });
    worker.restored_at(5);
    let joined = change(2, 1, &[1, 2]);
    let commands = worker.told(ToWorker::Propose(joined.clone()));
    let ack = FromWorker::Ack {
        generation: generation(2),
    };
    assert_eq!(
        commands,
        [Command::Connect(joined.clone()), Command::Tell(ack)]
    );

    // The record that comes with a sum says which world the source is in then.
    worker.on(Event::Streamed {
        from: FIRST,
        round: Round(5),
        record: world(1, &[1]),
    });
    worker.applied();
    assert_eq!(worker.member.installed(), Generation::NONE);
    worker.on(Event::Streamed {
        from: FIRST,
        round: Round(6),
        record: joined.clone(),
    });
    let commands = worker.applied();
    assert_eq!(worker.member.record(), Some(&joined));
    assert_eq!(commands[0], Command::Unfollow);
    assert_eq!(share_of(&commands), Some((&[2, 3][..], true)));
}

#[test]
fn a_newcomer_that_subscribes_late_enters_where_its_source_stands() {
    let mut worker = Worker::restored(ME);
    worker.told(ToWorker::Follow {
        source: FIRST,
        address: "node:1".into(),
    });
    let record = change(2, 1, &[1, 2]);
    let commands = worker.on(Event::Subscribed {
        from: FIRST,
        first: Round(0),
        record,
    });
    assert_eq!(worker.member.installed(), generation(2));
    assert_eq!(share_of(&commands), Some((&[2, 3][..], true)));
}

#[test]
fn an_install_voids_the_entry_and_the_word_of_having_caught_up() {
    let mut worker = Worker::restored(ME);
    worker.told(ToWorker::Follow {
        source: FIRST,
        address: "node:1".into(),
    });
    let record = world(1, &[1]);
    worker.on(Event::Subscribed {
        from: FIRST,
        first: Round(0),
        record,
    });
    worker.told(ToWorker::Prepare {
        generation: generation(3),
    });
    let record = change(2, 1, &[1, 2]);
    let commands = worker.on(Event::Streamed {
        from: FIRST,
        round: Round(0),
        record,
    });
    assert_eq!(commands, [], "fenced");
    let commands = worker.told(ToWorker::Install(world(3, &[1])));
    assert!(matches!(
        commands[..],
        [Command::Apply {
            sum: SumSource::Streamed,
            ..
        }]
    ));
    let commands = worker.applied();
    let (generation, source) = (generation(3), Some(FIRST));
    let ready = FromWorker::Ready {
        generation,
        round: Round(1),
        source,
    };
    assert_eq!(told_of(&commands), [&ready]);
    assert_eq!(worker.member.installed(), generation);
}

#[test]
fn a_follower_whose_source_is_put_out_gives_it_up() {
    let mut worker = follower();
    assert_eq!(
        worker.told(ToWorker::Install(world(2, &[7]))),
        [Command::Unfollow]
    );
    let lost = Event::SourceLost {
        from: FIRST,
        error: "late".into(),
    };
    assert_eq!(worker.on(lost), [], "it is not followed any more");
}

#[test]
fn a_follower_ahead_of_a_world_that_stands_still_takes_an_older_state() {
    let mut worker = follower();
    worker.told(ToWorker::RestoreFrom {
        manifest: "round 8".into(),
    });
    worker.restored_at(8);
    let record = GenerationRecord {
        paused: true,
        ..world(2, &[1])
    };
    let commands = worker.told(ToWorker::Install(record));
    assert_eq!(
        told_of(&commands),
        [&FromWorker::NeedCheckpoint { round: Round(5) }]
    );
    let commands = worker.told(ToWorker::RestoreFrom {
        manifest: "round 5".into(),
    });
    assert!(matches!(commands[..], [Command::Restore { .. }]));
}

#[test]
fn sums_are_streamed_with_the_world_that_is_entered_after_them() {
    let mut worker = Worker::member_of(ME, world(1, &[2]));
    let joined = change(2, 1, &[2, 5]);
    worker.told(ToWorker::Propose(joined.clone()));
    let commands = worker.on(Event::Subscribe(WorkerId(5)));
    let (to, first, record) = (WorkerId(5), Round(0), world(1, &[2]));
    assert_eq!(
        commands,
        [Command::AnswerSubscription { to, first, record }]
    );
    worker.computed(&[0, 1, 2, 3]);
    let commands = worker.applied();
    let (round, record, to) = (Round(0), joined, vec![WorkerId(5)]);
    assert!(commands.contains(&Command::Stream { round, record, to }));
    assert!(worker.member.holdings().has_last_sum);
}

#[test]
fn who_is_no_member_has_no_sums_to_offer() {
    let mut worker = Worker::restored(ME);
    let commands = worker.on(Event::Subscribe(WorkerId(5)));
    assert_eq!(commands, [Command::RefuseSubscription(WorkerId(5))]);
}

#[test]
fn the_first_member_saves_the_end_even_of_a_paused_world() {
    let record = GenerationRecord {
        base: Round(9),
        paused: true,
        ..world(1, &[2, 3])
    };
    let mut worker = Worker::new(ME);
    worker.told(ToWorker::Restore {
        generation: generation(0),
        manifest: None,
    });
    let task = worker.task;
    worker.on(Event::Restored {
        task,
        round: Round(9),
        next: Next::End,
    });
    worker.told(ToWorker::Prepare {
        generation: generation(1),
    });
    let commands = worker.told(ToWorker::Install(record));
    assert_eq!(commands.last(), Some(&Command::Save { last: true }));
}

#[test]
fn a_paused_world_computes_nothing() {
    let mut worker = Worker::restored(ME);
    let record = GenerationRecord {
        paused: true,
        ..world(1, &[2])
    };
    let commands = worker.told(ToWorker::Install(record.clone()));
    assert_eq!(commands[0], Command::Connect(record));
    assert_eq!(share_of(&commands), None);
}

#[test]
fn an_answer_to_a_question_that_no_longer_matters_is_ignored() {
    let mut worker = Worker::member_of(ME, world(1, &[2]));
    let task = worker.task;
    worker.told(ToWorker::Restore {
        generation: generation(2),
        manifest: None,
    });
    assert_eq!(
        worker.on(Event::Computed {
            task,
            held: vec![0, 1, 2, 3]
        }),
        []
    );
    assert_eq!(worker.member.round(), None);
    let commands = worker.restored_at(3);
    let (generation, source) = (generation(2), None);
    let ready = FromWorker::Ready {
        generation,
        round: Round(3),
        source,
    };
    assert_eq!(told_of(&commands), [&ready]);
}
