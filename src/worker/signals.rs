//! SIGTERM and Ctrl-C: the first drains, the second stops at once.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::Ended;
use super::driver::Input;
use crate::world::message::ReleaseReason;

/// What comes so soon after a signal is the same one: a shell or `timeout`
/// tells the process and then its whole group.
pub const SIGNAL_ECHO: Duration = Duration::from_millis(50);
/// Exit code of a second signal, as a shell would tell it.
const INTERRUPTED: i32 = 130;

/// Who wants this process to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// SIGTERM: a service manager, which is to start it again.
    Terminate,
    /// Ctrl-C: a person, who is done with it.
    Interrupt,
}

/// What the process has been told.
#[derive(Clone, Default)]
pub(super) struct Signals {
    state: Arc<Mutex<State>>,
    told: Arc<Notify>,
}

#[derive(Default)]
struct State {
    first: Option<Told>,
    /// Signals before this are echoes of the first.
    echo_until: Option<Instant>,
    driver: Option<SyncSender<Input>>,
}

impl Signals {
    /// Watches for the rest of the process's life.
    pub fn watch(runtime: &Runtime) -> Signals {
        let signals = Signals::default();
        for (kind, told) in [
            (SignalKind::terminate(), Told::Terminate),
            (SignalKind::interrupt(), Told::Interrupt),
        ] {
            let watching = signals.clone();
            // Registered before anything else is done, so none is missed.
            let _entered = runtime.enter();
            let Ok(mut stream) = signal(kind) else {
                continue;
            };
            runtime.spawn(async move {
                while stream.recv().await.is_some() {
                    watching.heard(told);
                }
            });
        }
        signals
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, told: Told) {
        let driver = {
            let mut state = self.state();
            if state.echo_until.is_some_and(|until| Instant::now() < until) {
                return;
            }
            if state.first.replace(told).is_some() {
                // Whatever state we are in, and whoever is stuck.
                std::process::exit(INTERRUPTED);
            }
            state.echo_until = Some(Instant::now() + SIGNAL_ECHO);
            state.driver.clone()
        };
        let signals = self.clone();
        // The driver's inbox may be full, and the next signal must be heard.
        tokio::task::spawn_blocking(move || {
            std::thread::sleep(SIGNAL_ECHO); // said when the next one counts
            tracing::info!("{}: leaving; a second signal stops at once", told.name());
            let drain = Input::Drain(told.name().into());
            if driver.is_none_or(|driver| driver.send(drain).is_err()) {
                signals.told.notify_waiters();
            }
        });
    }

    /// From now on the driver is told.
    pub fn forward(&self, driver: SyncSender<Input>) {
        let mut state = self.state();
        if let Some(told) = state.first {
            let _ = driver.send(Input::Drain(told.name().into())); // it has just begun
        }
        state.driver = Some(driver);
    }

    /// How a process ends that has left as it was told; `None` if nobody told
    /// it anything.
    pub fn ended(&self) -> Option<Ended> {
        self.state().first.map(|told| match told {
            Told::Terminate => Ended::Released(ReleaseReason::Drained),
            Told::Interrupt => Ended::Interrupted,
        })
    }

    /// Resolves at the first signal while there is no driver: there is nothing
    /// to hand over yet.
    pub async fn told(&self) -> Ended {
        loop {
            let told = self.told.notified();
            if let Some(ended) = self.ended() {
                return ended;
            }
            told.await;
        }
    }
}

impl Told {
    fn name(self) -> &'static str {
        match self {
            Told::Terminate => "SIGTERM",
            Told::Interrupt => "Ctrl-C",
        }
    }
}
