//! SIGTERM and Ctrl-C: the first drains, the second stops at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::driver::Input;

/// What the process has been told.
#[derive(Clone, Default)]
pub(super) struct Signals {
    count: Arc<AtomicU32>,
    driver: Arc<Mutex<Option<SyncSender<Input>>>>,
    told: Arc<Notify>,
}

impl Signals {
    /// Watches for the rest of the process's life.
    pub fn watch(runtime: &Runtime) -> Signals {
        let signals = Signals::default();
        for (kind, name) in [
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::interrupt(), "Ctrl-C"),
        ] {
            let watching = signals.clone();
            runtime.spawn(async move {
                let Ok(mut stream) = signal(kind) else { return };
                while stream.recv().await.is_some() {
                    watching.heard(name);
                }
            });
        }
        signals
    }

    fn heard(&self, name: &str) {
        let before = self.count.fetch_add(1, Ordering::SeqCst);
        let input = if before == 0 {
            Input::Drain(name.to_owned())
        } else {
            Input::Quit
        };
        let driver = self
            .driver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match driver {
            Some(driver) => drop(driver.send(input)),
            None => self.told.notify_waiters(),
        }
        if before >= 2 {
            std::process::exit(130);
        }
    }

    /// From now on the driver is told.
    pub fn forward(&self, driver: SyncSender<Input>) {
        if self.is_told() {
            let _ = driver.send(Input::Drain("a signal before it began".into()));
        }
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(driver);
    }

    pub fn is_told(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Resolves at the first signal while there is no driver.
    pub async fn told(&self) {
        let told = self.told.notified();
        if !self.is_told() {
            told.await;
        }
    }
}
