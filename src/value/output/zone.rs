//! Time zones: the session's `TimeZone`, and how far it lies from UTC at an instant.

use std::str::FromStr;

use arrow::array::timezone::Tz;
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone as _};
use chrono_tz::OffsetName;

use super::datetime::Civil;
use crate::error::{Error, Result};

/// Instants whose offset is looked up once: no zone changes twice within six hours.
const BLOCK_SECONDS: i64 = 6 * 3600;
/// The last 28 years of the tables, and the instant at which they end: the start of 2099.
const TABLES_YEARS: std::ops::Range<i64> = 2071..2099;
const TABLES_END_SECONDS: i64 = 4_070_908_800;
/// PostgreSQL's zones lie less than a week from UTC.
const HOURS_MAX: f64 = 167.0;

/// A zone of the IANA database, or a fixed distance from UTC.
#[derive(Clone, Copy, Debug)]
pub struct TimeZone(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Seconds east of UTC.
    Fixed(i32),
    Named(Tz),
}

impl TimeZone {
    pub fn utc() -> Self {
        Self(Kind::Fixed(0))
    }

    /// A zone that always lies so many seconds east of UTC.
    pub fn fixed(seconds: i32) -> Self {
        Self(Kind::Fixed(seconds))
    }

    /// The seconds east of UTC at an instant, given in seconds since 1970.
    pub fn offset_at(&self, utc_seconds: i64) -> i32 {
        match &self.0 {
            Kind::Fixed(seconds) => *seconds,
            Kind::Named(zone) => match naive(within_tables(utc_seconds)) {
                Some(instant) => zone.offset_from_utc_datetime(&instant).fix().local_minus_utc(),
                None => 0,
            },
        }
    }

    /// What the zone is called at an instant: `EST`, `+03` where it has no letters.
    pub fn abbreviation_at(&self, utc_seconds: i64) -> String {
        let named = match &self.0 {
            Kind::Fixed(0) => Some("UTC".to_owned()),
            Kind::Fixed(_) => None,
            Kind::Named(zone) => naive(within_tables(utc_seconds)).and_then(|instant| {
                let zone = chrono_tz::Tz::from_str(&zone.to_string()).ok()?;
                zone.offset_from_utc_datetime(&instant).abbreviation().map(str::to_owned)
            }),
        };
        named.unwrap_or_else(|| {
            let seconds = self.offset_at(utc_seconds);
            let sign = if seconds < 0 { '-' } else { '+' };
            let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
            if minutes == 0 { format!("{sign}{hours:02}") } else { format!("{sign}{hours:02}:{minutes:02}") }
        })
    }

    /// The seconds east of UTC when the clock on the wall shows `local_seconds` since 1970.
    ///
    /// A time that the clock shows twice is taken as the later one, in standard time; a time that it
    /// skips is read with the offset from before the gap. Both as PostgreSQL does.
    pub fn offset_at_local(&self, local_seconds: i64) -> i32 {
        let day_before = self.offset_at(local_seconds - 86_400);
        let (Kind::Named(zone), Some(local)) = (&self.0, naive(within_tables(local_seconds))) else {
            return day_before;
        };
        match zone.offset_from_local_datetime(&local).latest() {
            Some(offset) => offset.fix().local_minus_utc(),
            None => day_before,
        }
    }

    /// A reader of offsets that remembers the last block of time.
    pub(super) fn clock(&self) -> Clock<'_> {
        Clock { zone: self, block: i64::MIN, offset: None }
    }

    /// Whether this is UTC by any of its names.
    pub(super) fn is_utc(&self) -> bool {
        matches!(self.0, Kind::Fixed(0))
    }
}

/// An instant that the tables cover: itself, or its like in a year with the same calendar, since the
/// tables end long before the rules do.
fn within_tables(seconds: i64) -> i64 {
    if seconds < TABLES_END_SECONDS {
        return seconds;
    }
    let first_day = |year: i64| Civil { year, month: 1, day: 1 }.days();
    let calendar = |year: i64| (first_day(year).rem_euclid(7), first_day(year + 1) - first_day(year));
    let year = Civil::from_days(seconds.div_euclid(86_400)).year;
    let alike = TABLES_YEARS.into_iter().find(|alike| calendar(*alike) == calendar(year));
    let alike = alike.expect("all fourteen calendars come up within 28 years");
    seconds - (first_day(year) - first_day(alike)) * 86_400
}

fn naive(seconds: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp(seconds, 0).map(|instant| instant.naive_utc())
}

impl FromStr for TimeZone {
    type Err = Error;

    /// Reads `Europe/Berlin` in any case, `UTC`, hours east of UTC such as `2` or `-3.5`, or a POSIX
    /// zone such as `GMT+2` or `+02:00`, which counts west of UTC, as in PostgreSQL.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for anything else.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if ["utc", "gmt", "z", "zulu", "etc/utc", "etc/gmt"].contains(&text.to_ascii_lowercase().as_str()) {
            return Ok(Self::utc());
        }
        if let Some(seconds) = parse_hours(text).or_else(|| parse_posix(text)) {
            return Ok(Self::fixed(seconds));
        }
        let invalid =
            || Error::InvalidParameter(format!("invalid value for parameter \"TimeZone\": \"{text}\""));
        if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(invalid());
        }
        let found = Tz::from_str(text).or_else(|_| Tz::from_str(&capitalized(text)));
        found.map(|zone| Self(Kind::Named(zone))).map_err(|_| invalid())
    }
}

/// Reads a number of hours as seconds.
fn parse_hours(text: &str) -> Option<i32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.'));
    let hours = text.parse::<f64>().ok().filter(|hours| plain && hours.abs() <= HOURS_MAX)?;
    Some((hours * 3600.0).round() as i32)
}

/// Reads `GMT+2`, `<+03>-3` or `+02:00`, whose sign is that of the way to UTC.
fn parse_posix(text: &str) -> Option<i32> {
    let offset = match text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((_, offset)) => offset,
        None => text.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()),
    };
    let name = text.len() - offset.len();
    let signed = if offset.starts_with(['+', '-']) { offset.to_owned() } else { format!("+{offset}") };
    if name == 0 && signed != offset || (1..3).contains(&name) {
        return None;
    }
    parse_offset(&signed).map(|seconds| -seconds)
}

/// Reads `+HH`, `-HH:MM`, `+HHMM` or `+HH:MM:SS`, as it stands behind a timestamp, as seconds east of UTC.
pub(crate) fn parse_offset(text: &str) -> Option<i32> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
        return None;
    }
    let seconds = match digits.split(':').collect::<Vec<_>>()[..] {
        [compact] if compact.len() == 4 => clock_seconds(&compact[..2], &compact[2..], "0")?,
        [hours] => clock_seconds(hours, "0", "0")?,
        [hours, minutes] => clock_seconds(hours, minutes, "0")?,
        [hours, minutes, seconds] => clock_seconds(hours, minutes, seconds)?,
        _ => return None,
    };
    Some(sign * seconds)
}

fn clock_seconds(hours: &str, minutes: &str, seconds: &str) -> Option<i32> {
    let part = |text: &str, below: i32| text.parse::<i32>().ok().filter(|part| (0..below).contains(part));
    Some(part(hours, 16)? * 3600 + part(minutes, 60)? * 60 + part(seconds, 60)?)
}

/// `europe/berlin` as `Europe/Berlin`.
fn capitalized(text: &str) -> String {
    let mut at_start = true;
    let fold = |letter: char| {
        let folded = if at_start { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
        at_start = !letter.is_alphanumeric();
        folded
    };
    text.chars().map(fold).collect()
}

/// Reads the offsets of one zone, quickly for instants near each other.
pub(super) struct Clock<'a> {
    zone: &'a TimeZone,
    block: i64,
    /// The offset all through the block; none where it changes within.
    offset: Option<i32>,
}

impl Clock<'_> {
    /// The seconds east of UTC at an instant, given in seconds since 1970.
    #[inline]
    pub fn offset_at(&mut self, utc_seconds: i64) -> i32 {
        if let Kind::Fixed(seconds) = self.zone.0 {
            return seconds;
        }
        let block = utc_seconds.div_euclid(BLOCK_SECONDS);
        if block != self.block {
            let first = self.zone.offset_at(block * BLOCK_SECONDS);
            let last = self.zone.offset_at(block * BLOCK_SECONDS + BLOCK_SECONDS - 1);
            self.block = block;
            self.offset = (first == last).then_some(first);
        }
        self.offset.unwrap_or_else(|| self.zone.offset_at(utc_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JULY_2013: i64 = 1_372_680_000;

    fn zone(text: &str) -> TimeZone {
        text.parse().unwrap()
    }

    #[test]
    fn zones_have_names_and_offsets() {
        assert_eq!(zone("America/New_York").offset_at(JULY_2013), -4 * 3600);
        assert_eq!(zone("europe/berlin").offset_at(JULY_2013), 2 * 3600);
        assert_eq!(zone("5.5").offset_at(0), 19_800);
        assert_eq!(zone("+17").offset_at(0), 17 * 3600);
        assert_eq!(zone("utc").offset_at(0), 0);
        // As in PostgreSQL, POSIX counts to the west.
        for (posix, hours) in [("+02:00", -2), ("GMT-02:00", 2), ("UTC+3", -3), ("<+03>-3", 3)] {
            assert_eq!(zone(posix).offset_at(0), hours * 3600, "{posix}");
        }
        assert_eq!("Mars/Olympus".parse::<TimeZone>().unwrap_err().sqlstate(), "22023");
        assert_eq!("+02:99".parse::<TimeZone>().unwrap_err().sqlstate(), "22023");
    }

    /// The compiled tables of zones end with the century.
    #[test]
    fn rules_hold_for_ever() {
        let new_york = zone("America/New_York");
        let july = Civil { year: 9999, month: 7, day: 1 }.days() * 86_400;
        assert_eq!(new_york.offset_at(july), -4 * 3600);
        assert_eq!(new_york.offset_at(july + 182 * 86_400), -5 * 3600);
        assert_eq!(new_york.offset_at_local(july), -4 * 3600);
        assert_eq!(Civil { year: TABLES_YEARS.end, month: 1, day: 1 }.days() * 86_400, TABLES_END_SECONDS);
    }

    /// Berlin's clock went from 02:00 to 03:00 on 31 March 2013, and back on 27 October.
    #[test]
    fn the_clock_on_the_wall_skips_and_repeats() {
        let berlin = zone("Europe/Berlin");
        assert_eq!(berlin.offset_at_local(1_364_697_000), 3600, "2013-03-31 02:30 does not exist");
        assert_eq!(berlin.offset_at_local(1_382_841_000), 3600, "2013-10-27 02:30 comes twice");
        let mut clock = berlin.clock();
        let change = 1_364_691_600;
        for (instant, hours) in [(change - 1, 1), (change, 2), (change + 86_400, 2), (change - 86_400, 1)] {
            assert_eq!(clock.offset_at(instant), hours * 3600);
        }
    }
}
