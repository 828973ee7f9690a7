//! Lines that something writes, and waiting for one of them without looking
//! again and again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bounds a hang; no test depends on its length.
pub const HANG: Duration = Duration::from_secs(120);

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// Those that somebody has waited for.
    seen: BTreeSet<usize>,
    closed: bool,
}

/// All lines of one source, as they come.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<State>, Condvar)>);

impl Lines {
    /// Reads `source` to its end on a thread of its own; `end` is a line after
    /// which nothing more is read.
    pub fn of(source: impl Read + Send + 'static, end: Option<&'static str>) -> Lines {
        let lines = Lines::default();
        let writing = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                if Some(line.as_str()) == end {
                    break;
                }
                writing.change(|state| state.lines.push(line));
            }
            writing.change(|state| state.closed = true);
        });
        lines
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.0.1.notify_all();
    }

    /// The first line that contains `text` and that nobody has waited for yet:
    /// lines may come in another order than they are waited for.
    pub fn wait(&self, what: &str, text: &str) -> String {
        self.until(what, &format!("{text:?}"), |state| {
            let mut lines = state.lines.iter().enumerate();
            let (at, line) =
                lines.find(|(at, line)| !state.seen.contains(at) && line.contains(text))?;
            state.seen.insert(at);
            Some(line.clone())
        })
    }

    /// The first `count` lines, once they are there.
    pub fn first(&self, what: &str, count: usize) -> Vec<String> {
        self.until(what, &format!("{count} lines"), |state| {
            state.lines.get(..count).map(<[String]>::to_vec)
        })
    }

    fn until<T>(&self, what: &str, it: &str, there: impl Fn(&mut State) -> Option<T>) -> T {
        let deadline = Instant::now() + HANG;
        let mut state = self.state();
        loop {
            if let Some(found) = there(&mut state) {
                return found;
            }
            assert!(!state.closed, "{what} ended without {it}");
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} hangs: no {it}");
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the end of the source.
    pub fn wait_for_end(&self, what: &str) {
        let waited = self
            .0
            .1
            .wait_timeout_while(self.state(), HANG, |s| !s.closed);
        assert!(
            !waited.unwrap().1.timed_out(),
            "{what} hangs: it does not end"
        );
    }

    pub fn all(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    pub fn contain(&self, text: &str) -> bool {
        self.state().lines.iter().any(|line| line.contains(text))
    }
}
