//! Exit codes: a contract with scripts, service managers and schedulers.

use std::process::ExitCode;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; also Ctrl-C after a clean drain.
    Done,
    /// Training failed.
    Failed,
    /// The command line or the job has to be changed.
    Usage,
    /// The coordinator could not be reached for too long (`EX_UNAVAILABLE`).
    Unreachable,
    /// Under `--chaos` training stood still although somebody could train
    /// (`EX_SOFTWARE`).
    Standstill,
    /// Drained by a signal or a notice, or the coordinator stopped before the
    /// run was complete: start me again (`EX_TEMPFAIL`).
    Drained,
    /// Not taken any more: this node crashed in the same way again and again
    /// (`EX_NOPERM`).
    CrashLoop,
    /// Another build, a wrong token: refused (`EX_CONFIG`).
    Refused,
    /// Stopped at once by a second Ctrl-C.
    Interrupted,
}

impl Exit {
    pub(super) const ALL: [Exit; 9] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Unreachable,
        Exit::Standstill,
        Exit::Drained,
        Exit::CrashLoop,
        Exit::Refused,
        Exit::Interrupted,
    ];

    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 69,
            Exit::Standstill => 70,
            Exit::Drained => 75,
            Exit::CrashLoop => 77,
            Exit::Refused => 78,
            Exit::Interrupted => 130,
        }
    }

    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(self.number())
    }
}

/// Says what is wrong and ends with this code.
pub(super) fn complain(exit: Exit, error: impl std::fmt::Display) -> Exit {
    eprintln!("error: {error}");
    exit
}
