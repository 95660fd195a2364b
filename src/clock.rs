//! The time: wall clock, monotonic clock and sleep.
//!
//! Responsible for the one `Timestamp` type of every file and for the `Clock` seam. Not responsible for
//! waiting on processes (that is `process`). Hard rule: nothing else in the crate asks the system for the time.
#![expect(clippy::disallowed_methods, reason = "this is the module that the fence protects")]

use std::fmt;
use std::time::{Duration, Instant};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A UTC instant with millisecond precision, written as RFC 3339 (`2026-11-21T10:00:00.000Z`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(jiff::Timestamp);

/// A text is not an RFC 3339 time.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an RFC 3339 time such as `2026-11-21T10:00:00.000Z`")]
pub struct NotATime {
    text: String,
}

impl Timestamp {
    /// Reads an RFC 3339 time with any offset; the result is UTC, cut to milliseconds.
    ///
    /// # Errors
    /// `NotATime` where the text has no such form or names no instant.
    pub fn parse(text: &str) -> Result<Self, NotATime> {
        let parsed: jiff::Timestamp = text
            .parse()
            .or_else(|_| end_of_time(text).ok_or(()))
            .map_err(|()| NotATime { text: text.chars().take(64).collect() })?;
        Ok(Self::from_millis(parsed.as_millisecond()))
    }

    /// Makes a time from milliseconds since 1970; a value out of range becomes the beginning or the end of time.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        // `from_millisecond` refuses the last second that there is.
        let nanoseconds = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
        let (least, most) = (jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
        let made = match millis.div_euclid(1000) {
            second if second < least => jiff::Timestamp::new(least, 0),
            second if second > most => jiff::Timestamp::new(most, 999_000_000),
            second => jiff::Timestamp::new(second, nanoseconds),
        };
        Self(made.unwrap_or_default())
    }

    /// When a file was last modified, if its file system records it.
    #[must_use]
    pub fn modified(metadata: &std::fs::Metadata) -> Option<Self> {
        let since = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        let nanoseconds = i128::try_from(since.as_nanos()).ok()?;
        jiff::Timestamp::from_nanosecond(nanoseconds).ok().map(Self)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// The UTC day, `YYYY-MM-DD`: the name of a directory below `jobs/done/`.
    #[must_use]
    pub fn day(self) -> String {
        self.to_string().chars().take(10).collect()
    }

    /// This time plus a duration; saturates at the end of time.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.as_millis().saturating_add(millis))
    }

    /// This time less a duration; saturates at the beginning of time.
    #[must_use]
    pub fn before(self, ago: Duration) -> Self {
        let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.as_millis().saturating_sub(millis))
    }

    /// How long it is from `earlier` to this time; zero if it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.as_millis().saturating_sub(earlier.as_millis());
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// The last instant that there is, for a time of the last two days of 9999: its writer means "never".
fn end_of_time(text: &str) -> Option<jiff::Timestamp> {
    let year_before = format!("9998{}", text.strip_prefix("9999")?);
    year_before.parse::<jiff::Timestamp>().ok().map(|_| jiff::Timestamp::MAX)
}

/// A time zone: of a text that names a time of day.
#[derive(Debug, Clone)]
pub struct Zone(jiff::tz::TimeZone);

impl Zone {
    /// The zone of an IANA name, in any case; `UTC` is always known.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("gmt") {
            return Some(Self(jiff::tz::TimeZone::UTC));
        }
        jiff::tz::TimeZone::get(name).ok().map(Self)
    }

    /// The zone of this machine, UTC if it has none.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self(jiff::tz::TimeZone::system())
    }
}

impl Timestamp {
    /// The next time after this one that a clock in `zone` shows `hour:minute`.
    #[must_use]
    pub fn next_at(self, hour: i8, minute: i8, zone: &Zone) -> Option<Self> {
        let time = jiff::civil::Time::new(hour, minute, 0, 0).ok()?;
        let mut day = self.0.to_zoned(zone.0.clone()).date();
        for _ in 0..3 {
            let found = day.to_datetime(time).to_zoned(zone.0.clone()).ok()?.timestamp();
            if found > self.0 {
                return Some(Self::from_millis(found.as_millisecond()));
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// A date and a time of day in `zone`; without a year it is the next such date after this time.
    #[must_use]
    pub fn at_date(
        self,
        year: Option<i16>,
        month: i8,
        day: i8,
        (hour, minute): (i8, i8),
        zone: &Zone,
    ) -> Option<Self> {
        let this_year = self.0.to_zoned(zone.0.clone()).year();
        let at = |year: i16| {
            let date = jiff::civil::Date::new(year, month, day).ok()?;
            let time = jiff::civil::Time::new(hour, minute, 0, 0).ok()?;
            let found = date.to_datetime(time).to_zoned(zone.0.clone()).ok()?.timestamp();
            Some(Self::from_millis(found.as_millisecond()))
        };
        match year {
            Some(year) => at(year),
            None => at(this_year).filter(|found| *found > self).or_else(|| at(this_year.checked_add(1)?)),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "format": "date-time",
            "x-expected": "an RFC 3339 time such as 2026-11-21T10:00:00.000Z",
        })
    }
}

/// The seam for time: the real clock, or one that a test turns by hand.
pub trait Clock {
    /// The wall clock, for files.
    fn now(&self) -> Timestamp;
    /// A clock that never goes back, from an arbitrary origin, for deadlines and durations.
    fn monotonic(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Starts a clock; its monotonic origin is now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
    }
    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A duration as `poll` takes it.
#[must_use]
pub fn timespec(duration: Duration) -> rustix::event::Timespec {
    rustix::event::Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Sleeps; only for waits that no event could end earlier.
pub fn sleep(wait: Duration) {
    std::thread::sleep(wait);
}

#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;
    use std::time::Duration;

    use super::{Clock, Timestamp};

    /// A clock that a test turns by hand: it does not move between two calls.
    #[derive(Debug)]
    pub(crate) struct ManualClock {
        now: Cell<Timestamp>,
        monotonic: Cell<Duration>,
    }

    impl ManualClock {
        /// Starts at this time of the wall clock, and at zero of the monotonic one.
        pub(crate) fn starting_at(now: Timestamp) -> Self {
            Self { now: Cell::new(now), monotonic: Cell::new(Duration::ZERO) }
        }

        /// Lets time pass on both clocks.
        pub(crate) fn sleep(&self, wait: Duration) {
            self.now.set(self.now.get().after(wait));
            self.monotonic.set(self.monotonic.get() + wait);
        }

        /// Sets the wall clock alone, as an administrator does.
        pub(crate) fn set(&self, now: Timestamp) {
            self.now.set(now);
        }

        /// Sets the monotonic clock alone, for a deadline that does not follow the wall clock.
        pub(crate) fn set_monotonic(&self, monotonic: Duration) {
            self.monotonic.set(monotonic);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            self.now.get()
        }
        fn monotonic(&self) -> Duration {
            self.monotonic.get()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::ManualClock;
    use super::*;

    #[test]
    fn a_clock_turned_by_hand_moves_only_when_it_is_turned() {
        let begun = Timestamp::from_millis(5000);
        let clock = ManualClock::starting_at(begun);
        assert_eq!((clock.now(), clock.monotonic()), (begun, Duration::ZERO));
        clock.sleep(Duration::from_secs(3));
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp::from_millis(8000), Duration::from_secs(3)));
        clock.set(begun);
        assert_eq!((clock.now(), clock.monotonic()), (begun, Duration::from_secs(3)));
        clock.set_monotonic(Duration::from_secs(9));
        assert_eq!((clock.now(), clock.monotonic()), (begun, Duration::from_secs(9)));
    }

    #[test]
    fn the_ends_of_time_are_reached_and_not_passed() {
        let last = Timestamp::parse("9999-12-31T23:59:59.999Z").unwrap();
        assert_eq!(Timestamp::parse(&last.to_string()).unwrap(), last);
        assert_eq!(Timestamp::parse("9999-12-31T00:00:00-12:00").unwrap(), last);
        assert!(Timestamp::parse("9999-12-30T00:00:00Z").unwrap() < last);
        for text in ["9999-13-31T00:00:00Z", "9999", "9999-12-32T00:00:00Z", "99990-12-31T00:00:00Z"] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
        let first = last.before(Duration::MAX);
        assert_eq!(last.after(Duration::MAX).day(), "9999-12-30");
        assert_eq!(first.before(Duration::MAX), first);
        assert_eq!(first.since(last), Duration::ZERO);
        assert!(last.since(first) > Duration::from_secs(300_000_000_000));
        for time in [first, last] {
            for zone in
                ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"].iter().filter_map(|name| Zone::named(name))
            {
                let _ = (time.next_at(23, 59, &zone), time.at_date(None, 12, 31, (23, 59), &zone));
            }
        }
    }

    #[test]
    fn times_are_written_in_utc_with_three_digits_and_read_back() {
        let time = Timestamp::parse("2026-11-21T12:00:00+02:00").unwrap();
        assert_eq!(time.to_string(), "2026-11-21T10:00:00.000Z");
        assert_eq!(time.day(), "2026-11-21");
        assert_eq!(Timestamp::parse(&time.to_string()).unwrap(), time);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "tomorrow", "2026-13-01T00:00:00Z", "2026-11-21", "2026-11-21T10:00:00"] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_far_away_saturates() {
        let time = Timestamp::from_millis(0).after(Duration::from_secs(u64::MAX));
        assert!(time > Timestamp::from_millis(0));
    }
}
