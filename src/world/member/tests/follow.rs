//! Followers, newcomers and their sources.

use super::*;

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
fn the_named_source_keeps_its_sum_while_it_follows_the_one_that_fetches_it() {
    const LAST: WorkerId = WorkerId(3);
    let mut worker = Worker::restored(ME);
    worker.told(ToWorker::Follow {
        source: FIRST,
        address: "node:1".into(),
    });
    worker.on(Event::Subscribed {
        from: FIRST,
        first: Round(0),
        record: world(1, &[1, 3]),
    });
    worker.on(Event::Streamed {
        from: FIRST,
        round: Round(0),
        record: world(1, &[1, 3]),
    });
    worker.applied();

    // Worker 1 is gone, and too few are left: 3 needs the sum that only we hold.
    let record = GenerationRecord {
        base: Round(1),
        source: Some(node(2)),
        paused: true,
        ..world(2, &[3])
    };
    worker.told(ToWorker::Install(record.clone()));
    worker.told(ToWorker::Follow {
        source: LAST,
        address: "node:3".into(),
    });
    let commands = worker.on(Event::Subscribed {
        from: LAST,
        first: Round(0),
        record: record.clone(),
    });
    assert_eq!(commands, [], "3 will come to where we are");
    assert!(worker.member.holdings().has_last_sum);
    let commands = worker.on(Event::Streamed {
        from: LAST,
        round: Round(0),
        record,
    });
    let (generation, round, source) = (generation(2), Round(1), Some(LAST));
    let ready = FromWorker::Ready {
        generation,
        round,
        source,
    };
    assert_eq!(told_of(&commands), [&ready]);
}

#[test]
fn a_checkpoint_that_answers_an_older_question_is_not_the_last() {
    let mut worker = follower();
    let restore_from = |round: u64| ToWorker::RestoreFrom {
        manifest: format!("round {round}"),
    };
    let commands = worker.told(restore_from(2));
    assert!(matches!(commands[..], [Command::Restore { .. }]));
    assert_eq!(worker.told(restore_from(5)), [], "it restores");
    let commands = worker.restored_at(2);
    let need = FromWorker::NeedCheckpoint { round: Round(5) };
    assert_eq!(told_of(&commands), [&need]);
    let commands = worker.told(restore_from(5));
    assert!(matches!(commands[..], [Command::Restore { .. }]));
}

#[test]
fn a_follower_whose_checkpoint_is_gone_asks_for_a_newer_one() {
    let mut worker = follower();
    let manifest = "round 5".to_owned();
    worker.told(ToWorker::RestoreFrom { manifest });
    let task = worker.task;
    assert!(!worker.member.must_restore(task));
    let commands = worker.on(Event::CheckpointGone { task });
    assert_eq!(
        told_of(&commands),
        [&FromWorker::NeedCheckpoint { round: Round(5) }]
    );
    let manifest = "round 9".to_owned();
    let commands = worker.told(ToWorker::RestoreFrom { manifest });
    assert!(matches!(commands[..], [Command::Restore { .. }]));
    assert_eq!(worker.on(Event::CheckpointGone { task }), [], "an old word");
}

#[test]
fn who_is_told_to_restore_needs_that_very_checkpoint() {
    let mut worker = Worker::new(ME);
    worker.told(ToWorker::Restore {
        generation: generation(0),
        manifest: Some("round 5".into()),
    });
    assert!(worker.member.must_restore(worker.task));
}
