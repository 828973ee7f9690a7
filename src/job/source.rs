//! TOML text and `--set` overrides, as values that know where they were written.
//!
//! An override changes the values, not the text: the place of what it sets is
//! the `--set` itself, so whatever is wrong with it later is said of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::de::{Fault, Problem};
use super::errors::{JobError, Place};
use super::keys;

/// Job files are pages, not data: longer ones are refused.
pub(super) const TEXT_BYTES_MAX: usize = 1 << 20;

/// The file a job came from and the place of each of its keys.
///
/// Equal to every other source: where a value was written is no part of what
/// the job is.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    /// The file as it was named; for messages.
    file: String,
    /// The folder that relative paths in the file start from.
    base: Option<PathBuf>,
    /// Key path to line or override.
    places: BTreeMap<Vec<String>, Place>,
}

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

impl Source {
    /// Reads `text`; `base` is the folder that relative paths in it start from.
    pub fn parse(
        text: &str,
        file: &str,
        base: Option<&Path>,
    ) -> Result<(Source, toml::Table), JobError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(JobError::Unreadable {
                file: file.to_owned(),
                reason: format!("it is longer than {TEXT_BYTES_MAX} bytes"),
            });
        }
        let mut source = Source {
            file: file.to_owned(),
            base: base.map(Path::to_owned),
            places: BTreeMap::new(),
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::new(text);
        let mut path = Vec::new();
        let root = source.table(document.get_ref(), &lines, &mut path);
        match errors.first() {
            None => Ok((source, root?)),
            Some(error) => Err(source.syntax(error, text, &lines)),
        }
    }

    /// Sets one `key=value`: dotted path, TOML value; a bare word is a string.
    pub fn set(&mut self, root: &mut toml::Table, text: &str) -> Result<(), JobError> {
        let fail = |problem: String| JobError::Override {
            text: text.to_owned(),
            problem,
        };
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| fail("expected key=value, such as optimizer.lr=3e-4".to_owned()))?;
        let path = override_path(key)
            .ok_or_else(|| fail(format!("expected a dotted key before `=`, found `{key}`")))?;
        let value = override_value(value).map_err(fail)?;
        insert(root, &path, value).map_err(fail)?;
        // What stood below the key is gone, and so are its lines.
        self.places.retain(|known, _| !known.starts_with(&path));
        self.places
            .insert(path.clone(), Place::Set(text.to_owned()));
        for len in 1..path.len() {
            // A table that no line has begun was made by the override.
            let made = || Place::Set(text.to_owned());
            self.places.entry(path[..len].to_vec()).or_insert_with(made);
        }
        Ok(())
    }

    /// A flag of the command line has replaced the value at `path`.
    pub fn replaced(&mut self, path: Vec<String>, flag: String) {
        self.places.insert(path, Place::Flag(flag));
    }

    /// Where the key at `path` was written, or the nearest table around it.
    pub fn place(&self, path: &[String]) -> Place {
        (1..=path.len())
            .rev()
            .find_map(|len| self.places.get(&path[..len]).cloned())
            .unwrap_or_else(|| Place::File(self.file.clone()))
    }

    /// The folder that a relative path at `path` starts from: the job file's
    /// for what the file says, the working directory for an override.
    pub fn base(&self, path: &[String]) -> Option<PathBuf> {
        match self.place(path) {
            Place::Set(_) => std::env::current_dir().ok(),
            _ => self.base.clone(),
        }
    }

    /// An error about the key at `path`.
    pub fn error(&self, path: &[String], problem: impl Into<String>) -> JobError {
        JobError::Key {
            place: self.place(path),
            key: path.join("."),
            problem: problem.into(),
        }
    }

    /// Puts what serde found wrong into words, with the place.
    pub fn explain(&self, fault: Fault) -> JobError {
        let mut path = fault.path.unwrap_or_default();
        let problem = match fault.problem {
            Problem::UnknownKey { key, valid } => {
                path.push(key);
                unknown_key(&path, valid)
            }
            Problem::MissingKey { key } => {
                path.push(key);
                let expected = keys::expected(&path).unwrap_or("a value");
                format!("missing; expected {expected}")
            }
            Problem::Unexpected { expected, found } => {
                let expected = keys::expected(&path).unwrap_or(keys::spoken(&expected));
                format!("expected {expected}; found {found}")
            }
            Problem::UnknownWord { found, valid } => {
                let words: Vec<String> = valid.iter().map(|word| format!("\"{word}\"")).collect();
                let nearest = keys::nearest(&found, valid).unwrap_or_default();
                format!(
                    "expected {}; found \"{found}\"; the nearest is \"{nearest}\"",
                    words.join(" or ")
                )
            }
            Problem::Said(words) => words,
        };
        self.error(&path, problem)
    }

    fn syntax(&self, error: &toml::de::Error, text: &str, lines: &Lines) -> JobError {
        let span = error.span().unwrap_or(0..0);
        let place = Place::Line {
            file: self.file.clone(),
            line: lines.of(span.start),
        };
        if error.message() != "duplicate key" {
            return JobError::Syntax {
                place,
                problem: error.message().to_owned(),
            };
        }
        let key = text.get(span).unwrap_or_default().trim();
        JobError::Syntax {
            place,
            problem: format!("{key}: set a second time; expected each key once"),
        }
    }

    fn table(
        &mut self,
        table: &DeTable<'_>,
        lines: &Lines,
        path: &mut Vec<String>,
    ) -> Result<toml::Table, JobError> {
        let mut values = toml::Table::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            path.push(name.clone());
            let line = lines.of(key.span().start);
            self.places.insert(
                path.clone(),
                Place::Line {
                    file: self.file.clone(),
                    line,
                },
            );
            let value = self.value(value.get_ref(), lines, path)?;
            path.pop();
            values.insert(name, value);
        }
        Ok(values)
    }

    fn value(
        &mut self,
        value: &DeValue<'_>,
        lines: &Lines,
        path: &mut Vec<String>,
    ) -> Result<Value, JobError> {
        Ok(match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(date) => Value::Datetime(*date),
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .map(Value::Integer)
                .map_err(|_| self.error(path, format!("{digits} is no 64-bit whole number")))?,
            DeValue::Float(digits) => digits
                .as_str()
                .parse()
                .map(Value::Float)
                .map_err(|_| self.error(path, format!("{digits} is no number")))?,
            DeValue::Table(table) => Value::Table(self.table(table, lines, path)?),
            DeValue::Array(items) => {
                let mut values = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    let line = lines.of(item.span().start);
                    self.places.insert(
                        path.clone(),
                        Place::Line {
                            file: self.file.clone(),
                            line,
                        },
                    );
                    values.push(self.value(item.get_ref(), lines, path)?);
                    path.pop();
                }
                Value::Array(values)
            }
        })
    }
}

/// The problem of an unknown key: the table it belongs in, the nearest valid
/// key, and all valid keys of its table.
fn unknown_key(path: &[String], valid: &[&str]) -> String {
    let key = path.last().map_or("", String::as_str);
    let table = match &path[..path.len().saturating_sub(1)] {
        [] => "a job file".to_owned(),
        table => format!("[{}]", table.join(".")),
    };
    let hint = match (keys::other_table(path), keys::nearest(key, valid)) {
        (Some(place), _) => format!("; `{key}` stands {place}"),
        (None, Some(nearest)) => format!("; the nearest valid key is `{nearest}`"),
        (None, None) => String::new(),
    };
    match valid {
        [] => format!("unknown key{hint}; expected no key in {table}"),
        valid => format!(
            "unknown key{hint}; the keys of {table} are {}",
            valid.join(", ")
        ),
    }
}

/// The segments of a dotted key, by TOML's own rules for bare and quoted keys.
fn override_path(key: &str) -> Option<Vec<String>> {
    let mut table: toml::Table = toml::from_str(&format!("{key} = 0")).ok()?;
    let mut path = Vec::new();
    loop {
        // One entry a level, down to our zero: anything else was no plain key.
        let (name, value) = (table.len() == 1)
            .then(|| table.into_iter().next())
            .flatten()?;
        path.push(name);
        match value {
            Value::Table(inner) => table = inner,
            Value::Integer(0) => return Some(path),
            _ => return None,
        }
    }
}

/// A TOML value, or a bare word as a string.
fn override_value(text: &str) -> Result<Value, String> {
    match text.trim().parse::<Value>() {
        Ok(Value::Datetime(_)) => Ok(Value::String(text.to_owned())),
        Ok(value) => Ok(value),
        Err(error) if text.trim_start().starts_with(['"', '\'', '[', '{']) => {
            Err(format!("the value is no TOML: {}", error.message()))
        }
        Err(_) => Ok(Value::String(text.to_owned())),
    }
}

/// Puts `value` at `path`, making the tables that lead there.
fn insert(root: &mut toml::Table, path: &[String], value: Value) -> Result<(), String> {
    let Some((last, tables)) = path.split_last() else {
        return Ok(());
    };
    let Some((first, rest)) = tables.split_first() else {
        root.insert(last.clone(), value);
        return Ok(());
    };
    let empty = || Value::Table(toml::Table::new());
    let mut at = root.entry(first.clone()).or_insert_with(empty);
    for key in rest {
        at = child(at, key, empty).ok_or_else(|| no_table(path, key))?;
    }
    *child(at, last, || Value::Boolean(false)).ok_or_else(|| no_table(path, last))? = value;
    Ok(())
}

/// The entry `key` of a table (made if missing), or an existing item of an array.
fn child<'a>(at: &'a mut Value, key: &str, make: impl Fn() -> Value) -> Option<&'a mut Value> {
    match at {
        Value::Table(table) => Some(table.entry(key.to_owned()).or_insert_with(make)),
        Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    }
}

fn no_table(path: &[String], key: &str) -> String {
    let above: Vec<&str> = path
        .iter()
        .map(String::as_str)
        .take_while(|segment| segment != &key)
        .collect();
    format!(
        "`{}` has no entry `{key}`: it is no table, or a shorter array",
        above.join(".")
    )
}

/// Byte offset to line number.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Lines {
        let after_breaks = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Lines {
            starts: std::iter::once(0).chain(after_breaks).collect(),
        }
    }

    /// The line, counted from 1, that holds the byte at `offset`.
    fn of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }
}
