//! `kill 1/5s, freeze 1/20s, join 2/m`: what is to happen, and how often on
//! average.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// More often than this is no trouble any more but a denial of service.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Less often than this never happens in a test.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Units of time, in milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
/// What an example looks like in a message.
const EXAMPLE: &str = "kill 1/5s, freeze 1/20s, join 1/5s, drain 1/m, coordinator 1/30s";

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Act {
    /// SIGKILL to a worker.
    Kill,
    /// SIGSTOP to a worker, and SIGCONT later.
    Freeze,
    /// One more worker.
    Join,
    /// SIGTERM to a worker.
    Drain,
    /// SIGKILL to the coordinator, and the same command again later.
    Coordinator,
}

impl Act {
    pub const ALL: [Act; 5] = [
        Act::Kill,
        Act::Freeze,
        Act::Join,
        Act::Drain,
        Act::Coordinator,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Act::Kill => "kill",
            Act::Freeze => "freeze",
            Act::Join => "join",
            Act::Drain => "drain",
            Act::Coordinator => "coordinator",
        }
    }
}

/// How often each act happens: the mean time between two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Expression(Vec<(Act, Duration)>);

impl Expression {
    /// In the order of [`Act::ALL`], whatever the order they were written in.
    pub fn pauses(&self) -> impl Iterator<Item = (Act, Duration)> {
        self.0.iter().copied()
    }
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum ExpressionError {
    #[error("nothing is to happen; expected something like \"{EXAMPLE}\"")]
    Empty,
    #[error("{0:?}: expected a word and a rate, such as \"kill 1/5s\"")]
    Shape(String),
    #[error("{word:?} is nothing that can happen; expected one of {}", words())]
    Unknown { word: String },
    #[error("{word} is there twice; one rate each")]
    Twice { word: &'static str },
    #[error(
        "{rate:?} is no rate; expected COUNT/TIME in ms, s, m or h, such as 1/5s, 3/m or 1/500ms"
    )]
    Rate { rate: String },
    #[error("{rate:?}: expected at least one in 24 h and at most one each 10 ms")]
    Range { rate: String },
}

fn words() -> String {
    Act::ALL.map(Act::word).join(", ")
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Expression, ExpressionError> {
        if text.trim().is_empty() {
            return Err(ExpressionError::Empty);
        }
        let mut pauses: Vec<(Act, Duration)> = Vec::new();
        for part in text.split(',') {
            let (act, pause) = item(part.trim())?;
            if pauses.iter().any(|(known, _)| *known == act) {
                return Err(ExpressionError::Twice { word: act.word() });
            }
            pauses.push((act, pause));
        }
        pauses.sort_unstable();
        Ok(Expression(pauses))
    }
}

fn item(part: &str) -> Result<(Act, Duration), ExpressionError> {
    let mut words = part.split_whitespace();
    let (Some(word), Some(rate), None) = (words.next(), words.next(), words.next()) else {
        // A word that nobody knows is the better news.
        return match part.split_whitespace().next().map(act) {
            Some(Err(unknown)) => Err(unknown),
            _ => Err(ExpressionError::Shape(part.to_owned())),
        };
    };
    Ok((act(word)?, pause(rate)?))
}

fn act(word: &str) -> Result<Act, ExpressionError> {
    let known = Act::ALL.into_iter().find(|act| act.word() == word);
    known.ok_or_else(|| ExpressionError::Unknown { word: word.into() })
}

/// The mean time between two of `COUNT/TIME`.
fn pause(rate: &str) -> Result<Duration, ExpressionError> {
    let bad = || ExpressionError::Rate { rate: rate.into() };
    let (count, time) = rate.split_once('/').ok_or_else(bad)?;
    let digits = time.len() - time.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = time.split_at(digits);
    let unit = if unit == "min" { "m" } else { unit };
    let known = UNITS.into_iter().find(|(name, _)| *name == unit);
    let (_, unit_ms) = known.ok_or_else(bad)?;
    let whole = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
    let count = whole(count).ok_or_else(bad)?;
    let number = if number.is_empty() {
        1
    } else {
        whole(number).ok_or_else(bad)?
    };
    let pause = Duration::from_millis(u64::from(number) * unit_ms) / count;
    if pause < PAUSE_MIN || pause > PAUSE_MAX {
        return Err(ExpressionError::Range { rate: rate.into() });
    }
    Ok(pause)
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (act, pause)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let ms = pause.as_millis();
            let whole = UNITS
                .iter()
                .rev()
                .find(|(_, unit)| ms % u128::from(*unit) == 0);
            let (unit, of_ms) = whole.copied().unwrap_or(UNITS[0]);
            let number = ms / u128::from(of_ms);
            write!(f, "{comma}{} 1/{number}{unit}", act.word())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Expression, String> {
        text.parse().map_err(|e: ExpressionError| e.to_string())
    }

    #[test]
    fn words_and_rates_become_pauses_whatever_their_order() {
        let expected = "kill 1/5s, freeze 1/1500ms, join 1/500ms, drain 1/20s, coordinator 1/30m";
        let text = " join 2/s,kill 1/5s, coordinator 2/h,  freeze 2/3s , drain 3/min";
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.to_string(), expected);
        assert_eq!(parse(expected), Ok(parsed), "it reads what it writes");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_right() {
        for (text, words) in [
            ("", "nothing is to happen"),
            (" ", "such as"),
            (
                "kil 1/5s",
                "\"kil\" is nothing that can happen; expected one of kill, freeze, join, drain, coordinator",
            ),
            ("KILL 1/5s", "\"KILL\""),
            ("reboot", "\"reboot\" is nothing that can happen"),
            ("kill", "\"kill\": expected a word and a rate"),
            ("kill 1/5s,", "\"\": expected a word and a rate"),
            ("kill 1/5s join 1/5s", "expected a word and a rate"),
            ("kill 1 / 5s", "expected a word and a rate"),
            ("kill 5s", "\"5s\" is no rate"),
            ("kill 1/5", "\"1/5\" is no rate"),
            ("kill 0/5s", "no rate"),
            ("kill -1/5s", "no rate"),
            ("kill 1/0s", "no rate"),
            ("kill 1/5sec", "no rate"),
            ("kill 1.5/5s", "no rate"),
            ("kill 1/99999999999s", "no rate"),
            ("kill 1000/s", "at most one each 10 ms"),
            ("kill 1/25h", "at least one in 24 h"),
            ("kill 1/5s, join 1/5s, kill 1/9s", "kill is there twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words) || text == " ", "{text:?}: {error}");
        }
    }
}
