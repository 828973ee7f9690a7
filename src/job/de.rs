//! serde over TOML values, with the path to the key in every error.
//!
//! The errors of `toml` are text with a byte range; ours are data: which key,
//! and what is wrong with it. With this the same function explains a mistake
//! in the file, in a `--set`, and in a table that a model's own `Config` reads.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Value;

/// Reads a `T` out of `value`; `path` is where the value stands in the job.
pub(super) fn from_value<T: DeserializeOwned>(value: &Value, path: &[String]) -> Result<T, Fault> {
    T::deserialize(Reader {
        value,
        path: Path::Root(path),
    })
}

/// One thing that is wrong, and with which key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    /// Set once, by the innermost value that the error passes on its way out.
    pub path: Option<Vec<String>>,
    pub problem: Problem,
}

/// What can be wrong with a key, before it is put into words.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Problem {
    /// The path's table has no such key; these it has.
    UnknownKey {
        key: String,
        valid: &'static [&'static str],
    },
    /// The path's table lacks this key.
    MissingKey { key: String },
    /// Wrong type, or a number that the type can't hold.
    Unexpected { expected: String, found: String },
    /// None of the words that are possible here.
    UnknownWord {
        found: String,
        valid: &'static [&'static str],
    },
    /// What a type of ours said itself.
    Said(String),
}

impl Fault {
    fn new(problem: Problem) -> Fault {
        Fault {
            path: None,
            problem,
        }
    }

    fn at(mut self, path: Path<'_>) -> Fault {
        self.path.get_or_insert_with(|| path.to_vec());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.problem)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault::new(Problem::Said(message.to_string()))
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::new(Problem::Unexpected {
            expected: expected.to_string(),
            found: describe(found),
        })
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
    fn unknown_variant(found: &str, valid: &'static [&'static str]) -> Self {
        Fault::new(Problem::UnknownWord {
            found: found.to_owned(),
            valid,
        })
    }
    fn unknown_field(key: &str, valid: &'static [&'static str]) -> Self {
        Fault::new(Problem::UnknownKey {
            key: key.to_owned(),
            valid,
        })
    }
    fn missing_field(key: &'static str) -> Self {
        Fault::new(Problem::MissingKey {
            key: key.to_owned(),
        })
    }
}

/// What was found, as a person would call it.
fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("the whole number {value}"),
        Unexpected::Unsigned(value) => format!("the whole number {value}"),
        Unexpected::Float(value) => format!("the number {value:?}"),
        Unexpected::Str(text) => {
            let cut: String = text.chars().take(60).collect();
            let dots = if cut.len() < text.len() { "..." } else { "" };
            format!("the string \"{cut}{dots}\"")
        }
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// The keys that lead to a value, as a list that lives on the stack.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root(&'a [String]),
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn to_vec(self) -> Vec<String> {
        match self {
            Path::Root(path) => path.to_vec(),
            Path::Key(parent, key) => {
                let mut path = parent.to_vec();
                path.push(key.to_owned());
                path
            }
            Path::Index(parent, index) => {
                let mut path = parent.to_vec();
                path.push(index.to_string());
                path
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    value: &'a Value,
    path: Path<'a>,
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            // No key takes a date; a model's own table may say it as a string.
            Value::Datetime(_) => Err(de::Error::invalid_type(
                Unexpected::Other("a date or time (as a string it needs quotes)"),
                &visitor,
            )),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                path: self.path,
            }),
            Value::Table(table) => visitor.visit_map(Entries::new(table, self.path)),
        };
        result.map_err(|fault| fault.at(self.path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // TOML has no null: what is there is there.
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor
            .visit_newtype_struct(self)
            .map_err(|fault: Fault| fault.at(self.path))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match self.value {
            Value::String(word) => {
                let word: StringDeserializer<Fault> = word.clone().into_deserializer();
                visitor.visit_enum(word)
            }
            Value::Table(table) => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries::new(table, self.path)))
            }
            _ => return self.deserialize_any(visitor),
        };
        result.map_err(|fault: Fault| fault.at(self.path))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    path: Path<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let path = Path::Index(&self.path, index);
        // A type that judges what it has read (`try_from`) does so only here.
        seed.deserialize(Reader { value, path })
            .map(Some)
            .map_err(|fault| fault.at(path))
    }
}

struct Entries<'a> {
    entries: toml::map::Iter<'a, String, Value>,
    value: Option<(&'a str, &'a Value)>,
    path: Path<'a>,
}

impl<'a> Entries<'a> {
    fn new(table: &'a toml::Table, path: Path<'a>) -> Self {
        Entries {
            entries: table.iter(),
            value: None,
            path,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        let name: StringDeserializer<Fault> = key.clone().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (key, value) = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a value was read before its key"))?;
        let path = Path::Key(&self.path, key);
        seed.deserialize(Reader { value, path })
            .map_err(|fault| fault.at(path))
    }
}
