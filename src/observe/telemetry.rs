//! What the program says to whoever looks for a fault: `tracing`, set up once.
//!
//! A person at a terminal sees progress and events; log lines go to stderr or
//! above the bar, never through it. A worker also keeps its last lines in memory ([`LogTail`]): when it fails, they reach
//! the coordinator while the node may already be gone.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, filter};

use super::logtail::LogTail;
use super::screen::Screen;

/// Without `RUST_LOG`: what we say, and what libraries warn of.
pub const DEFAULT_FILTER: &str = "warn,ebbtide=info";

/// Why telemetry can't start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` can't be read.
    #[error("RUST_LOG=`{value}`: {source}; expected a form such as `{DEFAULT_FILTER}`")]
    Filter {
        /// Its value.
        value: String,
        /// What is wrong.
        source: filter::ParseError,
    },
    /// It has been started before, in this process.
    #[error("tracing is already set up in this process")]
    AlreadySet,
}

/// Where log lines go.
pub enum Sink {
    /// Standard error.
    Stderr {
        /// Whether to colour.
        colour: bool,
    },
    /// Above the bar of a shared screen.
    Screen(SharedScreen),
}

/// Sets up `tracing` for this process: the binaries' call.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(
    rust_log: Option<&str>,
    sink: Sink,
    tail: Option<LogTail>,
) -> Result<(), TelemetryError> {
    let value = rust_log
        .filter(|v| !v.trim().is_empty())
        .unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(value).map_err(|source| TelemetryError::Filter {
        value: value.to_owned(),
        source,
    })?;
    let (writer, colour) = match sink {
        Sink::Stderr { colour } => (BoxMakeWriter::new(io::stderr), colour),
        Sink::Screen(screen) => (BoxMakeWriter::new(screen), false),
    };
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_ansi(colour)
        .with_writer(writer);
    let subscriber = Registry::default().with(filter).with(lines).with(tail);
    subscriber
        .try_init()
        .map_err(|_| TelemetryError::AlreadySet)
}

/// A screen that several threads print to; as a log's writer, it puts each
/// record above the bar.
#[derive(Clone)]
pub struct SharedScreen(Arc<Mutex<Screen<Box<dyn Write + Send>>>>);

impl SharedScreen {
    /// Shares a screen.
    pub fn new(screen: Screen<Box<dyn Write + Send>>) -> SharedScreen {
        SharedScreen(Arc::new(Mutex::new(screen)))
    }

    /// The screen, for one call. A panic elsewhere leaves it usable.
    pub fn lock(&self) -> MutexGuard<'_, Screen<Box<dyn Write + Send>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for SharedScreen {
    type Writer = AboveTheBar;

    fn make_writer(&'a self) -> AboveTheBar {
        AboveTheBar(self.clone())
    }
}

/// One log record on its way to the screen.
pub struct AboveTheBar(SharedScreen);

impl Write for AboveTheBar {
    /// `tracing` writes a record in one call.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().line(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::jsonl::scratch::Folder;
    use super::super::progress::EpochLine;
    use super::super::screen::Terminal;
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn a_log_record_goes_above_the_bar() {
        let folder = Folder::new();
        let path = folder.file("terminal");
        let out: Box<dyn Write + Send> = Box::new(File::create(&path).expect("creates"));
        let terminal = Terminal {
            live: true,
            columns: 30,
            colour: false,
        };
        let screen = SharedScreen::new(Screen::new(out, terminal));
        let line = EpochLine {
            epoch: 1,
            steps: 9,
            workers: 2,
            ..EpochLine::default()
        };
        screen.lock().progress(Duration::ZERO, &line);
        let layer = tracing_subscriber::fmt::layer()
            .compact()
            .without_time()
            .with_ansi(false)
            .with_writer(screen.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::warn!(target: "net", "peer lost\r\u{202e}");
        });
        let text = std::fs::read_to_string(&path).expect("readable");
        let bar = "epoch 1  0/9   2 workers";
        let (before, after) = text.split_once('\n').expect("a line");
        assert_eq!(
            before,
            format!("\r\x1b[K{bar}\r\x1b[K WARN net: peer lost??")
        );
        assert_eq!(after, bar);
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = init(Some("ebbtide=loud"), Sink::Stderr { colour: false }, None);
        let error = error.expect_err("refused").to_string();
        assert!(error.starts_with("RUST_LOG=`ebbtide=loud`: "), "{error}");
    }
}
