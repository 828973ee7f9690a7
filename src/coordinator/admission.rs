//! What a registration may say. Whoever brings the token is believed, but not
//! with anything: texts have a length, numbers were given out before.

use tonic::Status;

use super::crashes::Crash;
use crate::wire::control::RegisterRequest;
use crate::world::WorkerId;

/// Bytes of each text about a process.
const TEXT_LEN_MAX: usize = 256;
/// Devices that a process may list.
const DEVICES_MAX: usize = 256;
/// Processes that may be registered at a time.
pub(super) const REGISTERED_MAX: usize = 1 << 16;

/// What this coordinator and its workers have to have in common.
pub(super) struct Ours<'a> {
    pub build: &'a str,
    pub artifact: &'a str,
    pub incarnation: u32,
    /// The number that the next newcomer gets.
    pub next_worker: u32,
}

impl Ours<'_> {
    /// # Errors
    /// What the worker has to be told; nothing else is looked at then.
    pub fn judge(
        &self,
        request: &RegisterRequest,
        known: Option<&RegisterRequest>,
    ) -> Result<(), Status> {
        same("build", &request.build, self.build)?;
        same("artifact", &request.artifact, self.artifact)?;
        texts(request)?;
        if request.advertise_port == 0 || request.advertise_port > u32::from(u16::MAX) {
            let port = request.advertise_port;
            return Err(Status::invalid_argument(format!("{port} is no port")));
        }
        if request.worker == 0 {
            return Ok(());
        }
        let worker = WorkerId(request.worker);
        if worker.0 == 0 || worker >= WorkerId::new(self.incarnation, self.next_worker) {
            return Err(Status::permission_denied(format!(
                "{worker:?} was never given out"
            )));
        }
        match known {
            Some(known) if (known.process, &known.node) != (request.process, &request.node) => {
                let problem = format!("{worker:?} is another process, on {}", known.node);
                Err(Status::permission_denied(problem))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a node crashed here in the same way again and again. Its worker ends
/// with an exit code of its own (77), so that nobody starts it again.
///
/// # Errors
/// It did: what it is told.
pub(super) fn refuse_crashing(node: &str, crash: Option<(&Crash, u32)>) -> Result<(), Status> {
    let Some((Crash { round, error, .. }, times)) = crash else {
        return Ok(());
    };
    Err(Status::aborted(format!(
        "node {node} crashed {times} times in round {round} in the same way and isn't taken in any \
         more; mend it, and start it under another --node: {error}"
    )))
}

fn same(what: &str, theirs: &str, ours: &str) -> Result<(), Status> {
    if theirs == ours {
        return Ok(());
    }
    let theirs: String = theirs.chars().take(TEXT_LEN_MAX).collect();
    Err(Status::failed_precondition(format!(
        "this worker's {what} is {theirs:?}, the coordinator's is {ours:?}: \
         start the same {what} on both"
    )))
}

fn texts(request: &RegisterRequest) -> Result<(), Status> {
    let devices = request.devices.iter().map(|device| ("device", device));
    let texts = [
        ("node's name", &request.node),
        ("zone", &request.zone),
        ("advertised host", &request.advertise_host),
        ("numerics kind", &request.numerics_kind),
    ];
    for (what, text) in texts.into_iter().chain(devices) {
        short(what, text)?;
    }
    if request.devices.len() > DEVICES_MAX {
        return Err(Status::invalid_argument(format!(
            "more than {DEVICES_MAX} devices"
        )));
    }
    Ok(())
}

/// # Errors
/// A text that is too long, or no text for a line.
fn short(what: &str, text: &str) -> Result<(), Status> {
    if text.len() > TEXT_LEN_MAX || text.contains(char::is_control) {
        return Err(Status::invalid_argument(format!(
            "the {what} has more than {TEXT_LEN_MAX} bytes, or a control character"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    const OURS: Ours<'_> = Ours {
        build: "b",
        artifact: "a",
        incarnation: 2,
        next_worker: 4,
    };

    fn request() -> RegisterRequest {
        RegisterRequest {
            build: "b".into(),
            artifact: "a".into(),
            node: "spot-1".into(),
            advertise_port: 4000,
            process: 17,
            ..Default::default()
        }
    }

    #[track_caller]
    fn refused(request: &RegisterRequest, code: Code, word: &str) {
        let status = OURS.judge(request, Some(&self::request())).unwrap_err();
        assert_eq!(status.code(), code);
        assert!(status.message().contains(word), "{}", status.message());
    }

    #[test]
    fn a_newcomer_and_one_that_comes_back_are_admitted() {
        assert!(OURS.judge(&request(), None).is_ok());
        for (incarnation, number) in [(1, 9), (2, 3)] {
            let worker = WorkerId::new(incarnation, number).0;
            let back = RegisterRequest {
                worker,
                ..request()
            };
            assert!(OURS.judge(&back, None).is_ok(), "after our own restart");
            assert!(OURS.judge(&back, Some(&request())).is_ok());
        }
    }

    #[test]
    fn another_build_and_another_artifact_are_refused_for_good() {
        let build = RegisterRequest {
            build: "c".into(),
            ..request()
        };
        refused(&build, Code::FailedPrecondition, "build");
        let artifact = RegisterRequest {
            artifact: "c".into(),
            ..request()
        };
        refused(&artifact, Code::FailedPrecondition, "artifact");
    }

    #[test]
    fn nobody_takes_a_number_that_is_another_ones() {
        for (incarnation, number) in [(2, 4), (3, 1)] {
            let worker = WorkerId::new(incarnation, number).0;
            let early = RegisterRequest {
                worker,
                ..request()
            };
            refused(&early, Code::PermissionDenied, "never given out");
        }
        let thief = RegisterRequest {
            worker: WorkerId::new(2, 3).0,
            process: 18,
            ..request()
        };
        refused(&thief, Code::PermissionDenied, "another process");
    }

    #[test]
    fn texts_and_numbers_have_their_limits() {
        let long = RegisterRequest {
            node: "n".repeat(257),
            ..request()
        };
        refused(&long, Code::InvalidArgument, "node's name");
        let lines = RegisterRequest {
            zone: "a\nerror: b".into(),
            ..request()
        };
        refused(&lines, Code::InvalidArgument, "zone");
        let portless = RegisterRequest {
            advertise_port: 70_000,
            ..request()
        };
        refused(&portless, Code::InvalidArgument, "no port");
    }
}
