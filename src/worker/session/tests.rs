use super::*;

fn said(outward: &mut mpsc::Receiver<pb::WorkerMessage>) -> Vec<Body> {
    std::iter::from_fn(|| outward.try_recv().ok()?.body).collect()
}

#[test]
fn nothing_is_said_before_hello_and_what_counts_comes_after_it() {
    let session = Session::new(WorkerId(1), String::new(), LogTail::new());
    let mut outward = session.opened();
    session.trouble("none".into(), String::new());
    let error = "notice".to_owned();
    session.tell(FromWorker::JobFailed { error });
    assert_eq!(said(&mut outward), []);
    session.hello(&Holdings::default());
    let said = said(&mut outward);
    assert!(
        matches!(said[..], [Body::Hello(_), Body::JobFailed(_)]),
        "{said:?}"
    );
}

#[test]
fn what_gpus_say_is_told_and_told_again_in_each_new_session() {
    let session = Session::new(WorkerId(1), String::new(), LogTail::new());
    let gpu = GpuReading {
        index: 0,
        name: "L4".into(),
        reading: crate::devices::Reading::default(),
    };
    session.gpus_say(vec![gpu.clone()]);
    let told = Body::Gpus(gpus_message(&[gpu]));
    for _ in 0..2 {
        let mut outward = session.opened();
        session.hello(&Holdings::default());
        assert!(matches!(&said(&mut outward)[..], [Body::Hello(_), gpus] if *gpus == told));
    }
    let mut outward = session.opened();
    session.hello(&Holdings::default());
    session.gpus_say(Vec::new());
    session.gpus_say(Vec::new());
    let none = Body::Gpus(gpus_message(&[]));
    assert_eq!(
        said(&mut outward)[1..],
        [told, none],
        "and nothing of nothing"
    );
}

#[test]
fn session_that_nobody_reads_ends_and_what_counts_is_said_in_the_next() {
    let session = Session::new(WorkerId(1), String::new(), LogTail::new());
    let mut outward = session.opened();
    session.hello(&Holdings::default());
    for _ in 1..OUTBOX {
        session.trouble("none".into(), String::new());
    }
    let error = "notice".to_owned();
    session.tell(FromWorker::JobFailed { error });
    assert_eq!(said(&mut outward).len(), OUTBOX);
    assert!(outward.is_closed());
    let mut outward = session.opened();
    session.hello(&Holdings::default());
    let said = said(&mut outward);
    assert!(
        matches!(said[..], [Body::Hello(_), Body::JobFailed(_)]),
        "{said:?}"
    );
}
