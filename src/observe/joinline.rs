//! What the coordinator prints when it starts: where it is, the exact line that
//! a node joins with, and what it waits for.
//!
//! ```text
//! coordinator  http://stable:7070   run mnist-1f2e   checkpoint file:///mnt/shared/mnist
//! join with    EBBTIDE_TOKEN=k3v9 worker --coordinator http://stable:7070
//! waiting for  the first worker
//! ```

use std::fmt;

use super::{count, printable};

/// The token that a worker needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// None: this coordinator listens on loopback only.
    NotNeeded,
    /// Made by this coordinator, so it has to be shown.
    Made(&'a str),
    /// Given by a person, who has it: it isn't repeated in a log.
    Given,
}

/// When training begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// `--world-size auto`: with the first worker, growing from there.
    Auto,
    /// `--world-size N`: with that many.
    Workers(u64),
    /// It goes on with the members of an earlier start, of whom there were so many.
    Recorded(u64),
}

/// What is printed; [`fmt::Display`] gives lines without a last line end.
#[derive(Clone, Copy, Debug)]
pub struct JoinLine<'a> {
    /// The host that nodes reach: a name or an address.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// What a worker has to bring.
    pub token: Token<'a>,
    /// The run's id.
    pub run: &'a str,
    /// Where checkpoints go.
    pub checkpoint: Option<&'a str>,
    /// When training begins.
    pub start: Start,
}

impl JoinLine<'_> {
    /// `http://host:port`, with brackets around an IPv6 address.
    pub fn url(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            format!("http://[{}]:{}", self.host, self.port)
        } else {
            format!("http://{}:{}", self.host, self.port)
        }
    }

    /// The command that joins, as a shell reads it.
    pub fn command(&self) -> String {
        let token = match self.token {
            Token::NotNeeded => String::new(),
            Token::Made(token) => format!("EBBTIDE_TOKEN={} ", quoted(token)),
            Token::Given => "EBBTIDE_TOKEN=\"$EBBTIDE_TOKEN\" ".to_owned(),
        };
        format!("{token}worker --coordinator {}", quoted(&self.url()))
    }
}

impl fmt::Display for JoinLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "coordinator  {}   run {}",
            printable(&self.url()),
            printable(self.run)
        )?;
        if let Some(checkpoint) = self.checkpoint {
            write!(f, "   checkpoint {}", printable(checkpoint))?;
        }
        write!(f, "\njoin with    {}", printable(&self.command()))?;
        match self.start {
            Start::Auto | Start::Workers(1) => write!(f, "\nwaiting for  the first worker"),
            Start::Workers(n) => write!(f, "\nwaiting for  {n} workers"),
            Start::Recorded(n) => {
                let members = count(n, "member");
                write!(
                    f,
                    "\nlooking for  {members} of the world that was there before"
                )
            }
        }
    }
}

/// As one word of a POSIX shell, quoted only where it has to be.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The host's name, as the kernel knows it.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(host: &'a str, token: Token<'a>, start: Start) -> JoinLine<'a> {
        JoinLine {
            host,
            port: 7070,
            token,
            run: "mnist-1f2e",
            checkpoint: None,
            start,
        }
    }

    #[test]
    fn the_line_to_join_with_can_be_pasted() {
        let checkpoint = Some("file:///mnt/shared/mnist");
        let start = JoinLine {
            checkpoint,
            ..line("stable", Token::Made("k3v9"), Start::Workers(4))
        };
        assert_eq!(
            start.to_string(),
            "coordinator  http://stable:7070   run mnist-1f2e   checkpoint file:///mnt/shared/mnist\n\
             join with    EBBTIDE_TOKEN=k3v9 worker --coordinator http://stable:7070\n\
             waiting for  4 workers"
        );
        assert_eq!(
            line("127.0.0.1", Token::NotNeeded, Start::Auto).to_string(),
            "coordinator  http://127.0.0.1:7070   run mnist-1f2e\n\
             join with    worker --coordinator http://127.0.0.1:7070\n\
             waiting for  the first worker"
        );
    }

    #[test]
    fn a_coordinator_that_is_back_looks_for_its_members() {
        let text = line("127.0.0.1", Token::NotNeeded, Start::Recorded(3)).to_string();
        let last = text.lines().last();
        let words = "looking for  3 members of the world that was there before";
        assert_eq!(last, Some(words));
    }

    #[test]
    fn a_token_that_a_person_gave_is_not_repeated() {
        assert_eq!(
            line("stable", Token::Given, Start::Auto).command(),
            "EBBTIDE_TOKEN=\"$EBBTIDE_TOKEN\" worker --coordinator http://stable:7070"
        );
    }

    #[test]
    fn the_shell_reads_what_was_meant() {
        assert_eq!(
            line("fd00::7", Token::Made("a b'$c"), Start::Auto).command(),
            r"EBBTIDE_TOKEN='a b'\''$c' worker --coordinator 'http://[fd00::7]:7070'"
        );
        assert_eq!(
            line("[::1]", Token::NotNeeded, Start::Auto).url(),
            "http://[::1]:7070"
        );
    }
}
