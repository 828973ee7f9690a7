//! A hold: shut until somebody writes a byte to its FIFO.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::strategy::Stop;

#[derive(Debug)]
pub(super) struct Gate {
    path: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    /// A thread waits at the FIFO.
    watched: bool,
}

impl Gate {
    pub fn at(path: &str) -> Arc<Gate> {
        Arc::new(Gate {
            path: path.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// Waits for the byte.
    pub fn wait(self: &Arc<Gate>) {
        self.wait_unless(&Stop::new());
    }

    /// Waits for the byte, or until `stop` is asked for.
    pub fn wait_unless(self: &Arc<Gate>, stop: &Stop) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.watched, true) {
            let gate = Arc::clone(self);
            std::thread::spawn(move || gate.watch());
        }
        while !state.open && !stop.is_asked() {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn watch(&self) {
        let mut byte = [0; 1];
        let read = std::fs::File::open(&self.path).and_then(|mut f| f.read(&mut byte));
        if read.is_ok() {
            self.open();
        } // else it is no FIFO but a name, and opened by that
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.path == name
    }

    pub fn open(&self) {
        self.state().open = true;
        self.changed.notify_all();
    }

    /// Whoever waits looks at its stop again.
    pub fn look_up(&self) {
        drop(self.state());
        self.changed.notify_all();
    }
}
