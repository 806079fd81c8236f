//! Time zones: the session's `TimeZone`, and how far it lies from UTC at an instant.

use std::str::FromStr;

use arrow::array::timezone::Tz;
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone as _};

use crate::error::{Error, Result};

/// Instants whose offset is looked up once: no zone changes twice within six hours.
const BLOCK_SECONDS: i64 = 6 * 3600;

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

    /// The seconds east of UTC at an instant, given in seconds since 1970.
    pub fn offset_at(&self, utc_seconds: i64) -> i32 {
        match &self.0 {
            Kind::Fixed(seconds) => *seconds,
            Kind::Named(zone) => match naive(utc_seconds) {
                Some(instant) => zone.offset_from_utc_datetime(&instant).fix().local_minus_utc(),
                None => 0,
            },
        }
    }

    /// The seconds east of UTC when the clock on the wall shows `local_seconds` since 1970.
    ///
    /// A time that the clock shows twice is taken as the later one, in standard time; a time that it
    /// skips is read with the offset from before the gap. Both as PostgreSQL does.
    pub fn offset_at_local(&self, local_seconds: i64) -> i32 {
        let day_before = self.offset_at(local_seconds - 86_400);
        let (Kind::Named(zone), Some(local)) = (&self.0, naive(local_seconds)) else { return day_before };
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

fn naive(seconds: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp(seconds, 0).map(|instant| instant.naive_utc())
}

impl FromStr for TimeZone {
    type Err = Error;

    /// Reads `Europe/Berlin`, `UTC`, `+02`, `-03:30` or a count of hours; names in any case.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that the IANA database does not have.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if ["utc", "gmt", "z", "zulu", "etc/utc", "etc/gmt"].contains(&text.to_ascii_lowercase().as_str()) {
            return Ok(Self::utc());
        }
        if let Some(seconds) = parse_offset(text) {
            return Ok(Self(Kind::Fixed(seconds)));
        }
        let found = Tz::from_str(text).or_else(|_| Tz::from_str(&capitalized(text)));
        found.map(|zone| Self(Kind::Named(zone))).map_err(|_| {
            Error::InvalidParameter(format!("invalid value for parameter \"TimeZone\": \"{text}\""))
        })
    }
}

/// Reads `+HH`, `-HH:MM`, `+HHMM`, `+HH:MM:SS` or `5.5` as seconds east of UTC.
pub(in crate::server::pg) fn parse_offset(text: &str) -> Option<i32> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => (-1, &text[1..]),
        [b'+', ..] => (1, &text[1..]),
        _ => (1, text),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let seconds = match digits.split(':').collect::<Vec<_>>()[..] {
        [compact] if compact.len() == 4 && compact.is_ascii() && !compact.contains('.') => {
            clock_seconds(&compact[..2], &compact[2..], "0")?
        }
        [hours] if hours.contains('.') => (hours.parse::<f64>().ok()? * 3600.0).round() as i32,
        [hours] => clock_seconds(hours, "0", "0")?,
        [hours, minutes] => clock_seconds(hours, minutes, "0")?,
        [hours, minutes, seconds] => clock_seconds(hours, minutes, seconds)?,
        _ => return None,
    };
    // PostgreSQL's MAX_TZDISP_HOUR is 15.
    (seconds < 16 * 3600).then_some(sign * seconds)
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
        assert_eq!(zone("-03:30").offset_at(0), -12_600);
        assert_eq!(zone("5.5").offset_at(0), 19_800);
        assert_eq!(zone("utc").offset_at(0), 0);
        assert_eq!("Mars/Olympus".parse::<TimeZone>().unwrap_err().sqlstate(), "22023");
        assert_eq!("+17".parse::<TimeZone>().unwrap_err().sqlstate(), "22023");
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
