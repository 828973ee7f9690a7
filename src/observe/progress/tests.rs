use super::*;

fn finished() -> EpochLine {
    let value = |name: &str, value| (name.to_owned(), value);
    EpochLine {
        epoch: 5,
        epochs: Some(5),
        step: 938,
        steps: 938,
        seconds: 0.6,
        timed_steps: 938,
        done: true,
        values: vec![
            value("loss", 0.052),
            value("accuracy", 0.985),
            value("val_loss", 0.078),
            value("val_accuracy", 0.977),
        ],
        workers: 2,
        generation: Some(Generation {
            incarnation: 1,
            counter: 3,
        }),
    }
}

fn running() -> EpochLine {
    let mut line = finished();
    line.values.truncate(2);
    EpochLine {
        epoch: 2,
        step: 412,
        timed_steps: 412,
        seconds: 0.412,
        done: false,
        ..line
    }
}

#[test]
fn a_finished_epoch_reads_as_in_keras() {
    assert_eq!(
        finished().full(),
        "epoch 5/5  938/938 [==============] 0.6s 0.64ms/step  loss 0.0520  accuracy 0.9850  \
         val_loss 0.0780  val_accuracy 0.9770   2 workers  gen 1.3"
    );
}

/// The coordinator was away while its steps were done.
#[test]
fn a_finished_epoch_that_nobody_watched_has_no_time() {
    let line = EpochLine {
        seconds: 0.009,
        timed_steps: 0,
        ..finished()
    };
    let text = line.plain();
    assert!(
        text.starts_with("epoch 5/5  938/938  loss 0.0520"),
        "{text}"
    );
}

#[test]
fn a_pipe_gets_the_numbers_without_the_bar() {
    assert_eq!(
        running().plain(),
        "epoch 2/5  412/938 eta 0.5s 1.00ms/step  loss 0.0520  accuracy 0.9850   2 workers  gen 1.3"
    );
}

#[test]
fn a_running_epoch_shows_the_time_that_remains() {
    assert_eq!(
        running().full(),
        "epoch 2/5  412/938 [======>.......] eta 0.5s 1.00ms/step  loss 0.0520  \
         accuracy 0.9850   2 workers  gen 1.3"
    );
}

#[test]
fn an_epoch_that_has_just_begun_has_no_pace_yet() {
    let line = EpochLine {
        epoch: 1,
        epochs: None,
        step: 0,
        timed_steps: 0,
        seconds: 0.0,
        values: Vec::new(),
        workers: 1,
        generation: None,
        ..running()
    };
    assert_eq!(line.full(), "epoch 1    0/938 [>.............]   1 worker");
}

#[test]
fn after_a_resume_the_pace_counts_only_steps_seen_here() {
    let line = EpochLine {
        step: 900,
        timed_steps: 10,
        seconds: 0.5,
        ..running()
    };
    assert!(
        line.full().contains(" eta 1.9s 50.0ms/step "),
        "{}",
        line.full()
    );
}

#[test]
fn a_narrow_terminal_loses_the_least_missed_piece_first() {
    let line = finished();
    // Train and validation values of the line, with long names and short ones.
    let long = "loss 0.0520  accuracy 0.9850  val_loss 0.0780  val_accuracy 0.9770";
    let short = "loss 0.0520  acc 0.9850  val_loss 0.0780  val_acc 0.9770";
    let e = "epoch 5/5  938/938";
    let expected = [
        (
            137,
            format!("{e} [==========] 0.6s 0.64ms/step  {long}   2 workers  gen 1.3"),
        ),
        (
            125,
            format!("{e} [=======] 0.6s 0.64ms/step  {long}   2 workers"),
        ),
        (
            120,
            format!("{e} [============] 0.6s 0.64ms/step  {short}   2 workers"),
        ),
        (105, format!("{e} [=========] 0.6s  {short}   2 workers")),
        (96, format!("{e} 0.6s  {short}   2 workers")),
        (84, format!("{e} 0.6s  {short}")),
        (79, format!("{e}  {short}")),
        (40, format!("{e}  loss 0.0520  acc 0.~")),
        (1, "~".to_owned()),
        (0, String::new()),
    ];
    for (columns, text) in expected {
        assert_eq!(line.fit(columns), text, "{columns} columns");
    }
}

#[test]
fn in_eighty_columns_a_running_epoch_still_shows_its_workers() {
    assert_eq!(
        running().fit(79),
        "epoch 2/5  412/938 [=====>......] eta 0.5s  loss 0.0520  acc 0.9850   2 workers"
    );
}

#[test]
fn no_width_makes_it_wrap() {
    let mut line = running();
    line.values.push(("genauigkeit_ä_東".to_owned(), f64::NAN));
    for columns in 0..200 {
        assert!(
            width(&line.fit(columns)) <= columns,
            "{columns}: {}",
            line.fit(columns)
        );
    }
    assert_eq!(line.fit(200), line.full());
}

#[test]
fn the_bar_survives_odd_counts() {
    let bar = |step, steps| {
        EpochLine {
            step,
            steps,
            ..EpochLine::default()
        }
        .bar(5)
    };
    assert_eq!(bar(0, 0), "=====");
    assert_eq!(bar(7, 5), "=====");
    assert_eq!(bar(u64::MAX - 1, u64::MAX), "====>");
    assert_eq!(bar(1, 5), "=>...");
}

#[test]
fn numbers_keep_what_can_be_read() {
    let texts: Vec<String> = [
        0.0,
        0.052,
        0.000_52,
        1e-3,
        -3.5,
        999_999.0,
        2e6,
        f64::NAN,
        f64::NEG_INFINITY,
    ]
    .into_iter()
    .map(number)
    .collect();
    let expected = [
        "0.0000",
        "0.0520",
        "5.2000e-4",
        "0.0010",
        "-3.5000",
        "999999.0000",
        "2.0000e6",
        "nan",
        "-inf",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn durations_change_unit_without_a_jump() {
    let cases = [
        0.04, 0.6, 59.94, 59.96, 125.0, 3599.6, 3720.0, 172_800.0, -1.0,
    ];
    let texts: Vec<String> = cases.into_iter().map(seconds).collect();
    let expected = [
        "0.0s", "0.6s", "59.9s", "1m00s", "2m05s", "1h00m", "1h02m", "2d00h", "?",
    ];
    assert_eq!(texts, expected);
    let paces: Vec<String> = [0.000_64, 0.009_994, 0.0123, 0.4567, 12.3]
        .into_iter()
        .map(step_time)
        .collect();
    assert_eq!(
        paces,
        [
            "0.64ms/step",
            "9.99ms/step",
            "12.3ms/step",
            "457ms/step",
            "12.3s/step"
        ]
    );
}
