//! Rounds, and the changes that are voted for in them.

use super::*;

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
    assert_eq!(worker.contributed(ME), []);
    let commands = worker.contributed(FIRST);
    let round = Round(0);
    assert_eq!(commands, [Command::Broadcast { round, bucket: 0 }]);
    assert_eq!(worker.reduced(FIRST), [], "the trailer is missing");
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
    worker.contributed(FIRST);
    worker.contributed(ME);
    worker.on(Event::TrailerContributed { from: FIRST });
    let commands = worker.on(Event::TrailerContributed { from: ME });
    assert_eq!(commands, [Command::BroadcastTrailer]);
    assert_eq!(worker.reduced(ME), [], "its votes are not known");
    let commands = worker.on(Event::TrailerReduced {
        votes: BTreeMap::new(),
    });
    assert!(matches!(commands[..], [Command::Apply { .. }]));
}

/// A peer's part may come by another way, and later, than the finished trailer.
#[test]
fn the_bucket_that_completes_the_round_is_sent_before_the_sum_is_applied() {
    let mut worker = Worker::member_of(ME, world(1, &[1, 2]));
    worker.computed(&[2, 3]);
    worker.contributed(ME);
    worker.reduced(FIRST);
    let votes = BTreeMap::new();
    assert_eq!(worker.on(Event::TrailerReduced { votes }), []);
    let commands = worker.contributed(FIRST);
    let round = Round(0);
    assert!(
        matches!(
            commands[..],
            [Command::Broadcast { round: r, bucket: 0 }, Command::Apply { .. }] if r == round
        ),
        "{commands:?}"
    );
    // What the rim sends it with is still there.
    assert!(
        worker
            .member
            .record()
            .is_some_and(|r| r.rank(ME) == Some(1))
    );
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

/// What is to be written after this worker's first round, with that change
/// entered after it.
fn written_after(mut worker: Worker, next: Option<GenerationRecord>) -> Vec<Command> {
    let votes = worker.member.record().unwrap().members.len() as u32;
    let count = next.as_ref().map(|next| next.generation.counter);
    if let Some(next) = next {
        worker.told(ToWorker::Propose(next));
    }
    worker.computed(&[]);
    let votes: Vec<(u32, u32)> = count.map(|count| (count, votes)).into_iter().collect();
    worker.exchanged(&votes);
    let task = worker.task;
    let commands = worker.on(Event::Applied {
        task,
        next: NEXT,
        checkpoint: true,
    });
    let saves = |c: &Command| matches!(c, Command::Save { .. } | Command::SaveTogether { .. });
    commands.into_iter().filter(saves).collect()
}

fn together(members: &[u64]) -> Vec<Command> {
    let members = members.iter().copied().map(WorkerId).collect();
    vec![Command::SaveTogether { members }]
}

#[test]
fn those_who_have_come_to_a_state_together_write_it_together() {
    let member = || Worker::member_of(ME, world(1, &[1, 2]));
    assert_eq!(written_after(member(), None), together(&[1, 2]));
    let joined = change(2, 1, &[1, 2, 3]);
    assert_eq!(written_after(member(), Some(joined)), together(&[1, 2]));
    // Worker 1 leaves: we are alone with it, and then with a newcomer.
    let alone = vec![Command::Save { last: false }];
    let left = change(2, 1, &[2]);
    assert_eq!(written_after(member(), Some(left)), alone);
    let left = change(2, 1, &[2, 3]);
    assert_eq!(written_after(member(), Some(left)), alone);
}

#[test]
fn a_shadow_writes_without_the_members() {
    let record = GenerationRecord {
        writer: Some(WorkerId(9)),
        ..world(1, &[1, 2])
    };
    assert_eq!(written_after(Worker::member_of(ME, record), None), []);
}
