//! Generations and workers in records, as people write and say them.
//!
//! On the wire and in the protocol's own records they are numbers; a worker's
//! holds the coordinator's incarnation in its upper half. Whoever reads
//! `events.jsonl` wants what the progress lines say: generation `"1.3"`, worker
//! `"3"`, or `"2.3"` if the second coordinator admitted it. Use this module with
//! `#[serde(with = "labels")]`.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::world::{Generation, WorkerId};

/// What has a form as a label, alone or in a collection.
pub trait Labelled: Sized {
    /// That form.
    type Text: Serialize + DeserializeOwned;
    /// As a label.
    fn to_text(&self) -> Self::Text;
    /// From a label; `None` if it isn't one.
    fn from_text(text: Self::Text) -> Option<Self>;
}

impl Labelled for Generation {
    type Text = String;

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: String) -> Option<Generation> {
        let (incarnation, counter) = text.split_once('.')?;
        Some(Generation {
            incarnation: incarnation.parse().ok()?,
            counter: counter.parse().ok()?,
        })
    }
}

impl Labelled for WorkerId {
    type Text = String;

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: String) -> Option<WorkerId> {
        // The first incarnation isn't said.
        let (incarnation, number) = text.split_once('.').unwrap_or(("1", &text));
        Some(WorkerId::new(
            incarnation.parse().ok()?,
            number.parse().ok()?,
        ))
    }
}

impl<T: Labelled> Labelled for Option<T> {
    type Text = Option<T::Text>;

    fn to_text(&self) -> Self::Text {
        self.as_ref().map(T::to_text)
    }

    fn from_text(text: Self::Text) -> Option<Self> {
        match text {
            Some(text) => T::from_text(text).map(Some),
            None => Some(None),
        }
    }
}

impl<T: Labelled> Labelled for Vec<T> {
    type Text = Vec<T::Text>;

    fn to_text(&self) -> Self::Text {
        self.iter().map(T::to_text).collect()
    }

    fn from_text(text: Self::Text) -> Option<Self> {
        text.into_iter().map(T::from_text).collect()
    }
}

impl<T: Labelled> Labelled for BTreeMap<String, T> {
    type Text = BTreeMap<String, T::Text>;

    fn to_text(&self) -> Self::Text {
        self.iter()
            .map(|(key, value)| (key.clone(), value.to_text()))
            .collect()
    }

    fn from_text(text: Self::Text) -> Option<Self> {
        text.into_iter()
            .map(|(key, value)| Some((key, T::from_text(value)?)))
            .collect()
    }
}

/// For `#[serde(with)]`.
///
/// # Errors
/// The serializer's.
pub fn serialize<T: Labelled, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.to_text().serialize(serializer)
}

/// For `#[serde(with)]`.
///
/// # Errors
/// The deserializer's, or a text that is no label.
pub fn deserialize<'de, T: Labelled, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = T::Text::deserialize(deserializer)?;
    T::from_text(text).ok_or_else(|| D::Error::custom("expected a number such as `3` or `1.3`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back() {
        for (incarnation, number, text) in
            [(1, 3, "3"), (2, 3, "2.3"), (u32::MAX, 0, "4294967295.0")]
        {
            let worker = WorkerId::new(incarnation, number);
            assert_eq!(worker.to_text(), text);
            assert_eq!(WorkerId::from_text(text.to_owned()), Some(worker));
            let generation = Generation {
                incarnation,
                counter: number,
            };
            assert_eq!(
                Generation::from_text(generation.to_text()),
                Some(generation)
            );
        }
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for text in ["", ".", "1.", ".1", "1.2.3", "a.b", "-1.2", "4294967296.1"] {
            assert_eq!(Generation::from_text(text.to_owned()), None, "{text}");
            assert_eq!(WorkerId::from_text(text.to_owned()), None, "{text}");
        }
        assert_eq!(
            Vec::<WorkerId>::from_text(vec!["1".into(), "x".into()]),
            None
        );
    }
}
