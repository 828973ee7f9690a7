//! The terminal, or the pipe that stands where one could be.
//!
//! On a terminal the running epoch is one line that is redrawn in place, at
//! most ten times a second; whatever else there is to say is printed above it.
//! In a pipe or a file the same calls give plain lines without a bar: each
//! finished epoch, each message, and a progress line at most every ten seconds.
//!
//! A person who stops looking must not stop the training: a closed pipe or a
//! full disk is remembered ([`Screen::failure`]), and nothing more is written.

use std::io::{self, Write};
use std::time::Duration;

use super::headline::{Headline, Tone};
use super::printable;
use super::progress::{EpochLine, width};

/// Redraws on a terminal are at least this far apart.
const REDRAW: Duration = Duration::from_millis(100);
/// Progress lines in a pipe are at least this far apart.
const PLAIN: Duration = Duration::from_secs(10);
/// Assumed where a terminal doesn't say how wide it is.
const COLUMNS: usize = 80;
/// Back to the first column, and clear to the end of the line.
const ERASE: &str = "\r\x1b[K";

/// What the output can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Whether lines can be redrawn in place.
    pub live: bool,
    /// Its width; only used when live.
    pub columns: usize,
    /// Whether to colour.
    pub colour: bool,
}

impl Terminal {
    /// A pipe or a file.
    pub const PIPE: Terminal = Terminal {
        live: false,
        columns: COLUMNS,
        colour: false,
    };

    /// What standard output is in this process: the rim's one call.
    pub fn stdout() -> Terminal {
        let live = io::IsTerminal::is_terminal(&io::stdout());
        let env = |name: &str| std::env::var(name).ok();
        Terminal::detect(live, Self::asked_columns(), env)
    }

    /// The width that the terminal itself reports now (it may be resized).
    pub fn asked_columns() -> Option<usize> {
        terminal_size::terminal_size().map(|(columns, _)| usize::from(columns.0))
    }

    /// What an output can do, from what was found out about it. `NO_COLOR` (set
    /// and not empty) and `TERM=dumb` are honoured; the terminal's own answer
    /// goes before `COLUMNS`, which shells leave stale.
    pub fn detect(
        is_terminal: bool,
        asked_columns: Option<usize>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Terminal {
        let live = is_terminal && env("TERM").is_none_or(|term| term != "dumb");
        let told = || env("COLUMNS").and_then(|text| text.parse().ok());
        let columns = asked_columns
            .or_else(told)
            .filter(|c| *c > 0)
            .unwrap_or(COLUMNS);
        let colour = live && env("NO_COLOR").is_none_or(|value| value.is_empty());
        Terminal {
            live,
            columns,
            colour,
        }
    }
}

/// Draws progress and prints messages; see the module's text.
///
/// Times are a monotonic clock's, since any fixed moment.
#[derive(Debug)]
pub struct Screen<W: Write> {
    out: W,
    terminal: Terminal,
    /// The line now on the terminal, without a line end.
    drawn: Option<String>,
    /// When a progress line was last drawn or printed.
    last: Option<Duration>,
    failure: Option<io::Error>,
}

impl<W: Write> Screen<W> {
    /// A screen on `out`. Each call writes and flushes once.
    pub fn new(out: W, terminal: Terminal) -> Screen<W> {
        Screen {
            out,
            terminal,
            drawn: None,
            last: None,
            failure: None,
        }
    }

    /// What the output can do.
    pub fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// The first error in writing; nothing has been written since.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// A running epoch, as often as the caller likes: most calls draw nothing.
    pub fn progress(&mut self, now: Duration, line: &EpochLine) {
        let pause = if self.terminal.live { REDRAW } else { PLAIN };
        match self.last {
            Some(last) if now.saturating_sub(last) < pause => return,
            // In a pipe a quick job says nothing before its first epoch ends.
            None if !self.terminal.live => {
                self.last = Some(now);
                return;
            }
            _ => self.last = Some(now),
        }
        if self.terminal.live {
            let text = self.fitted(line);
            self.put(&format!("{ERASE}{text}"));
            self.drawn = Some(text);
        } else {
            self.put(&format!("{}\n", printable(&line.plain())));
        }
    }

    /// An epoch that is over: its line stays.
    pub fn epoch_finished(&mut self, now: Duration, line: &EpochLine) {
        self.last = Some(now);
        if self.terminal.live {
            self.drawn = None;
            // What stays has everything in it, even if it takes two rows.
            let full = line.full();
            let text = if width(&full) < self.terminal.columns {
                full
            } else {
                line.plain()
            };
            self.put(&format!("{ERASE}{}\n", printable(&text)));
        } else {
            self.put(&format!("{}\n", printable(&line.plain())));
        }
    }

    /// A message, above the running line; several lines if it holds line ends.
    pub fn line(&mut self, text: &str) {
        self.toned(Tone::Plain, text);
    }

    /// What an event has to say to a person.
    pub fn headline(&mut self, headline: &Headline) {
        self.toned(headline.tone, &headline.text);
    }

    /// Leaves the terminal as a program should: the last line ended. Also done
    /// on drop, so that a panic's message starts in the first column.
    pub fn finish(&mut self) {
        if self.drawn.take().is_some() {
            self.put("\n");
        }
    }

    fn toned(&mut self, tone: Tone, text: &str) {
        let (on, off) = match (self.terminal.colour, tone) {
            (false, _) | (_, Tone::Plain) => ("", ""),
            (true, Tone::Good) => ("\x1b[32m", "\x1b[0m"),
            (true, Tone::Warning) => ("\x1b[33m", "\x1b[0m"),
            (true, Tone::Bad) => ("\x1b[31m", "\x1b[0m"),
        };
        let mut output = String::new();
        if self.drawn.is_some() {
            output.push_str(ERASE);
        }
        for line in text.lines() {
            output.push_str(&format!("{on}{}{off}\n", printable(line)));
        }
        output.push_str(self.drawn.as_deref().unwrap_or_default());
        self.put(&output);
    }

    /// One column stays free: some terminals wrap when the last one is written.
    fn fitted(&self, line: &EpochLine) -> String {
        printable(&line.fit(self.terminal.columns.saturating_sub(1)))
    }

    /// In one write, so that a reader never sees half a redraw.
    fn put(&mut self, text: &str) {
        if self.failure.is_none() {
            let written = self
                .out
                .write_all(text.as_bytes())
                .and_then(|()| self.out.flush());
            self.failure = written.err();
        }
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests;
