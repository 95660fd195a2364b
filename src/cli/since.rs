//! A time on the command line: an RFC 3339 time, or how long ago.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// `2026-11-21T10:00:00Z`, or `90s`, `30m`, `2h`, `7d` before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// At a time.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl Since {
    /// Reads the argument.
    ///
    /// # Errors
    /// The expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(ago) = duration(text) {
            return Ok(Self::Ago(ago));
        }
        let expected = "expected a time such as 2026-11-21T10:00:00Z, or how long ago: 90s, 30m, 2h, 7d";
        Timestamp::parse(text).map(Self::At).map_err(|_| expected.to_owned())
    }

    /// The time that is meant.
    pub fn resolve(self, clock: &dyn Clock) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => clock.now().before(ago),
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_are_distinguished_and_anything_else_is_refused() {
        assert_eq!(Since::parse("2h"), Ok(Since::Ago(Duration::from_secs(7200))));
        assert_eq!(Since::parse("0s"), Ok(Since::Ago(Duration::ZERO)));
        assert!(matches!(Since::parse("2026-11-21T10:00:00+01:00"), Ok(Since::At(_))));
        for text in [
            "",
            "2",
            "h",
            "-2h",
            "2 h",
            "2w",
            "1.5h",
            "yesterday",
            "2ä",
            "99999999999999999999d",
            "2026-11-21",
        ] {
            assert!(Since::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_long_before_the_calendar_is_its_beginning() {
        let clock = crate::clock::SystemClock::start();
        let far = Since::parse("99999999999999d").map(|since| since.resolve(&clock));
        assert!(far.is_ok_and(|time| time < clock.now()));
    }
}
