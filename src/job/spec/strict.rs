//! Reading exactly what the schema allows, where derived readers take more.
//!
//! Not responsible for what the values mean. Hard rule: what one of these reads, the generated schema accepts.

use serde::Deserialize;
use serde::de::{self, Deserializer, IntoDeserializer};
use serde_json::{Map, Value};

/// Reads a struct from an object only: derived readers take an array of its values too, which the schema refuses.
pub(crate) fn object<'de, D: Deserializer<'de>, T: de::DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    T::deserialize(Map::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// As `object`, or null.
pub(super) fn optional_object<'de, D: Deserializer<'de>, T: de::DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object = Option::<Map<String, Value>>::deserialize(deserializer)?;
    object.map(T::deserialize).transpose().map_err(de::Error::custom)
}

/// Reads one of some words from a string only: derived readers take `{"word": null}` too.
pub(crate) fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

/// As `word`, or null.
pub(super) fn optional_word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?;
    word.map(|word| T::deserialize(word.into_deserializer())).transpose()
}

/// Each lock leaves files in the root and is tried at each look at the queue; each program is compared with each process.
pub(super) const MOST_NAMES: usize = 64;

pub(super) const EXPECTED_NAMES: &str = "a list of at most 64 names, or null";

pub(super) fn few_names<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let names = Option::<Vec<T>>::deserialize(deserializer)?;
    match &names {
        Some(names) if names.len() > MOST_NAMES => {
            Err(de::Error::custom(format!("expected {EXPECTED_NAMES}")))
        }
        _ => Ok(names),
    }
}

/// As `optional_word`, for a list of them.
pub(super) fn optional_words<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let words = Option::<Vec<String>>::deserialize(deserializer)?;
    let read =
        |words: Vec<String>| words.into_iter().map(|w| T::deserialize(w.into_deserializer())).collect();
    words.map(read).transpose()
}
