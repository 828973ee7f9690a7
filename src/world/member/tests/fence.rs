//! Prepare, Report, Install.

use super::*;

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
    let first = FirstShares::from([(FIRST, vec![0, 1]), (ME, vec![2, 3])]);
    let commands = worker.told(ToWorker::Install(GenerationRecord {
        first: Some(first.into()),
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
        garbled: false,
    };
    assert_eq!(told_of(&commands), [&lost]);
    assert_eq!(
        worker.on(Event::PeerLost(WorkerId(7))),
        [],
        "nobody that matters"
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

#[test]
fn a_state_that_comes_late_names_the_restore_that_asked_for_it() {
    let mut worker = Worker::new(ME);
    worker.told(ToWorker::Restore {
        generation: generation(1),
        manifest: None,
    });
    let prepare = ToWorker::Prepare {
        generation: generation(2),
    };
    assert_eq!(worker.told(prepare), [], "it restores");
    let commands = worker.restored_at(0);
    let [
        FromWorker::Ready {
            generation: answered,
            ..
        },
        FromWorker::Report { .. },
    ] = told_of(&commands)[..]
    else {
        panic!("{commands:?} is not Ready and Report");
    };
    assert_eq!(*answered, generation(1));
}
