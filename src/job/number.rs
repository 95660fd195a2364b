//! Numbers of the job file: seconds and counts.
//!
//! JSON knows one kind of number, and the historical schema allows `600.0` and any size; both types read
//! whatever such a file may hold and saturate, never fail on size.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A positive length of time in seconds; fractions are allowed.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Seconds(f64);

/// A number that counts something: an integer from 0, also written `3.0`; a larger one than fits saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(u64);

/// An amount of money in US dollars, from 0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
pub struct Usd(f64);

/// Longest time the engine counts with, a hundred years: beyond it nothing ends anyway.
const LONGEST: f64 = 100.0 * 365.25 * 86_400.0;

impl Seconds {
    /// An hour.
    pub const HOUR: Self = Self(3600.0);
    /// Ten minutes.
    pub const TEN_MINUTES: Self = Self(600.0);
    /// Five minutes.
    pub const FIVE_MINUTES: Self = Self(300.0);

    /// Checks that a number is above zero.
    #[must_use]
    pub fn new(seconds: f64) -> Option<Self> {
        (seconds > 0.0).then_some(Self(seconds))
    }

    /// The time as a duration of at least a millisecond and at most a hundred years.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0.clamp(0.001, LONGEST))
    }
}

impl Count {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number, cut to what fits 32 bits.
    #[must_use]
    pub fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

struct Number;

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number")
    }
    #[expect(clippy::cast_precision_loss, reason = "a time or count that large is cut off anyway")]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }
    #[expect(clippy::cast_precision_loss, reason = "negative numbers are refused whatever their size")]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_any(Number)?;
        Self::new(number).ok_or_else(|| de::Error::custom("expected a number of seconds above 0"))
    }
}

impl<'de> Deserialize<'de> for Count {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked, and `as` saturates"
    )]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_any(Number)?;
        if number >= 0.0 && number.fract() == 0.0 {
            Ok(Self(number as u64))
        } else {
            Err(de::Error::custom("expected an integer from 0"))
        }
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Seconds".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0, "x-expected": "a number of seconds above 0" })
    }
}

impl Usd {
    /// Checks that an amount is not negative.
    #[must_use]
    pub fn new(amount: f64) -> Option<Self> {
        (amount >= 0.0).then_some(Self(amount))
    }

    /// The amount.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_any(Number)?;
        Self::new(number).ok_or_else(|| de::Error::custom("expected an amount in US dollars from 0"))
    }
}

impl JsonSchema for Usd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "x-expected": "an amount in US dollars from 0" })
    }
}

impl JsonSchema for Count {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "x-expected": "an integer from 0" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<Duration> {
        serde_json::from_str::<Seconds>(text).ok().map(Seconds::duration)
    }

    #[test]
    fn seconds_of_any_size_are_read_and_cut() {
        assert_eq!(seconds("600"), Some(Duration::from_secs(600)));
        assert_eq!(seconds("600.0"), Some(Duration::from_secs(600)));
        assert_eq!(seconds("0.25"), Some(Duration::from_millis(250)));
        assert_eq!(seconds("1e300"), Some(Duration::from_secs_f64(LONGEST)));
        for text in ["0", "-1", "\"1\"", "null", "true"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn counts_are_integers_however_they_are_written() {
        let count = |text| serde_json::from_str::<Count>(text).ok().map(Count::get);
        assert_eq!(count("3"), Some(3));
        assert_eq!(count("3.0"), Some(3));
        assert_eq!(count("1e300"), Some(u64::MAX));
        for text in ["-1", "0.5", "\"1\"", "null"] {
            assert_eq!(count(text), None, "{text}");
        }
    }
}
