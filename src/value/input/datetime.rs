//! Dates, times and timestamps as text, in the forms of ISO 8601 that drivers and people write.
//!
//! `2013-01-02`, `20130102`, `0044-03-15 BC`, `2013-01-02T03:04:05.678+01`, `03:04 PM`,
//! `2013-01-02 03:04:05 Europe/Berlin`, `infinity`, `epoch`. Dates whose order depends on `DateStyle`
//! are refused rather than guessed where no order is known: `01/02/2013` is read in one only.

use crate::error::{Error, Result};
use crate::value::output::datetime::{Civil, DAY_MICROS, out_of_range};
use crate::value::output::zone::parse_offset;
use crate::value::output::{DateOrder, TimeZone};

/// The first and the last year that PostgreSQL's timestamps reach.
const YEARS: std::ops::RangeInclusive<i64> = -4712..=294_276;
/// The last year of its dates.
const DATE_YEAR_MAX: i64 = 5_874_897;

/// Reads a date as days since 1970; a time behind it is read and dropped.
pub(super) fn date(text: &str, order: Option<DateOrder>) -> Result<i32> {
    if let Some(special) = special(text) {
        return Ok(match special {
            Special::Epoch => 0,
            Special::Infinity => i32::MAX,
            Special::MinusInfinity => i32::MIN,
        });
    }
    let moment = Moment::parse(text, "date", order)?;
    if moment.civil.year < *YEARS.start() || moment.civil.year > DATE_YEAR_MAX {
        return Err(Error::DatetimeOverflow(format!("date out of range: \"{text}\"")));
    }
    i32::try_from(moment.civil.days()).map_err(|_| out_of_range("date"))
}

/// Reads a time of day as microseconds; a zone behind it is read and dropped.
pub(super) fn time(text: &str) -> Result<i64> {
    let clock = match text.trim().split_once(['T', ' ']) {
        Some((date, clock)) if date.contains('-') => clock,
        _ => text.trim(),
    };
    let (micros, rest) = clock_of(clock, text, "time")?;
    zone_of(rest, text, "time")?;
    Ok(micros)
}

/// Reads a timestamp as microseconds since 1970; a zone behind it is read and dropped.
pub(super) fn timestamp(text: &str, order: Option<DateOrder>) -> Result<i64> {
    if let Some(special) = special(text) {
        return Ok(special.micros());
    }
    Moment::parse(text, "timestamp", order)?.local_micros(text)
}

/// Reads a timestamp as microseconds since 1970 in UTC; without a zone, it is in `time_zone`.
pub(super) fn timestamptz(text: &str, time_zone: &TimeZone, order: Option<DateOrder>) -> Result<i64> {
    if let Some(special) = special(text) {
        return Ok(special.micros());
    }
    let moment = Moment::parse(text, "timestamp with time zone", order)?;
    to_utc(moment.local_micros(text)?, &moment.zone.unwrap_or(*time_zone))
}

/// What the clock in `time_zone` shows at an instant.
pub(super) fn to_local(micros: i64, time_zone: &TimeZone) -> i64 {
    if is_infinite(micros) {
        return micros;
    }
    let offset = time_zone.offset_at(micros.div_euclid(1_000_000));
    micros.saturating_add(i64::from(offset) * 1_000_000)
}

/// The instant at which the clock in `time_zone` shows a time.
pub(super) fn to_utc(local: i64, time_zone: &TimeZone) -> Result<i64> {
    if is_infinite(local) {
        return Ok(local);
    }
    let offset = time_zone.offset_at_local(local.div_euclid(1_000_000));
    local.checked_sub(i64::from(offset) * 1_000_000).ok_or_else(|| out_of_range("timestamp"))
}

fn is_infinite(micros: i64) -> bool {
    micros == i64::MAX || micros == i64::MIN
}

enum Special {
    Epoch,
    Infinity,
    MinusInfinity,
}

impl Special {
    fn micros(&self) -> i64 {
        match self {
            Self::Epoch => 0,
            Self::Infinity => i64::MAX,
            Self::MinusInfinity => i64::MIN,
        }
    }
}

fn special(text: &str) -> Option<Special> {
    match text.trim().to_ascii_lowercase().as_str() {
        "epoch" => Some(Special::Epoch),
        "infinity" | "+infinity" => Some(Special::Infinity),
        "-infinity" => Some(Special::MinusInfinity),
        _ => None,
    }
}

/// A day, a time of it, and a zone if the text names one.
struct Moment {
    civil: Civil,
    micros: i64,
    zone: Option<TimeZone>,
}

impl Moment {
    fn parse(text: &str, type_name: &str, order: Option<DateOrder>) -> Result<Self> {
        let trimmed = text.trim();
        let (body, before_christ) = match strip_era(trimmed) {
            Some(body) => (body, true),
            None => (trimmed, false),
        };
        let end = body.find(['T', 't', ' ']).unwrap_or(body.len());
        let civil = day_of(&body[..end], before_christ, order).ok_or_else(|| invalid(type_name, text))?;
        check_day(civil, text)?;
        let rest = body[end..].trim_start_matches(['T', 't', ' ']);
        let has_clock =
            rest.find(':').is_some_and(|colon| rest[..colon].bytes().all(|byte| byte.is_ascii_digit()));
        let (micros, rest) = if has_clock { clock_of(rest, text, type_name)? } else { (0, rest) };
        Ok(Self { civil, micros, zone: zone_of(rest, text, type_name)? })
    }

    fn local_micros(&self, text: &str) -> Result<i64> {
        let micros = self.civil.days().checked_mul(DAY_MICROS).and_then(|day| day.checked_add(self.micros));
        micros
            .filter(|_| YEARS.contains(&self.civil.year))
            .ok_or_else(|| Error::DatetimeOverflow(format!("timestamp out of range: \"{text}\"")))
    }
}

fn strip_era(text: &str) -> Option<&str> {
    let at = text.len().checked_sub(2)?;
    let (body, era) = text.split_at_checked(at)?;
    era.eq_ignore_ascii_case("BC").then(|| body.trim_end())
}

/// Reads `2013-01-02`, `2013/01/02`, `20130102`, or, where an order is known, `01/02/2013`.
fn day_of(text: &str, before_christ: bool, order: Option<DateOrder>) -> Option<Civil> {
    let parts: Vec<&str> = text.split(['-', '/', '.']).collect();
    let (year, month, day) = match (&parts[..], order) {
        (&[year, month, day], _) if year.len() >= 3 => (year, month, day),
        (&[month, day, year], Some(DateOrder::Mdy)) => (year, month, day),
        (&[day, month, year], Some(DateOrder::Dmy)) => (year, month, day),
        (&[year, month, day], Some(DateOrder::Ymd)) => (year, month, day),
        (&[compact], _) if compact.len() == 8 => (compact.get(..4)?, compact.get(4..6)?, compact.get(6..)?),
        _ => return None,
    };
    let digits = year.len();
    let year: i64 = number(year, 7)?.into();
    let year = match digits {
        // Two digits are of the years from 1970 to 2069.
        1 | 2 if !before_christ => year + if year < 70 { 2000 } else { 1900 },
        _ if year == 0 => return None,
        _ => year,
    };
    let year = if before_christ { 1 - year } else { year };
    Some(Civil { year, month: number(month, 2)?, day: number(day, 2)? })
}

fn number(text: &str, digits_max: usize) -> Option<u32> {
    let fits = (1..=digits_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// A day that the calendar does not have does not survive the way there and back.
fn check_day(civil: Civil, text: &str) -> Result<()> {
    let exists = (1..=12).contains(&civil.month)
        && (1..=31).contains(&civil.day)
        && Civil::from_days(civil.days()) == civil;
    if exists { Ok(()) } else { Err(field_out_of_range(text)) }
}

/// Reads `03:04`, `03:04:05.678` or `03:04 PM` at the start of `clock`; returns what stands behind it.
fn clock_of<'a>(clock: &'a str, text: &str, type_name: &str) -> Result<(i64, &'a str)> {
    let is_clock = |byte: char| byte.is_ascii_digit() || byte == ':' || byte == '.';
    let (digits, rest) = clock.split_at(clock.find(|byte| !is_clock(byte)).unwrap_or(clock.len()));
    let mut parts = digits.split(':');
    let mut part = || parts.next().and_then(|part| number(part, 2));
    let (Some(hour), Some(minute)) = (part(), part()) else { return Err(invalid(type_name, text)) };
    let seconds = match parts.next() {
        Some(seconds) => seconds_of(seconds).ok_or_else(|| invalid(type_name, text))?,
        None => 0,
    };
    if parts.next().is_some() {
        return Err(invalid(type_name, text));
    }
    let (hour, rest) = half_of_day(hour, rest);
    let hour = hour.ok_or_else(|| field_out_of_range(text))?;
    let micros = i64::from(hour) * 3_600_000_000 + i64::from(minute) * 60_000_000 + seconds;
    if minute > 59 || seconds > 60_000_000 || micros > DAY_MICROS {
        return Err(field_out_of_range(text));
    }
    Ok((micros, rest))
}

/// Applies a following `AM` or `PM`; `None` for an hour that such a clock does not have.
fn half_of_day(hour: u32, rest: &str) -> (Option<u32>, &str) {
    let trimmed = rest.trim_start();
    let (Some(half), Some(tail)) = (trimmed.get(..2), trimmed.get(2..)) else { return (Some(hour), rest) };
    if tail.starts_with(|next: char| next.is_alphanumeric()) {
        // The name of a zone, such as that of New York.
        return (Some(hour), rest);
    }
    let later = match half.to_ascii_uppercase().as_str() {
        "AM" => 0,
        "PM" => 12,
        _ => return (Some(hour), rest),
    };
    ((1..=12).contains(&hour).then_some(hour % 12 + later), tail)
}

/// Reads seconds as microseconds, rounded.
fn seconds_of(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |byte: u8| byte.is_ascii_digit();
    if !fraction.bytes().all(digits) {
        return None;
    }
    let seven = format!("{fraction:0<7.7}").parse::<i64>().ok()?;
    Some(i64::from(number(whole, 2)?) * 1_000_000 + (seven + 5) / 10)
}

/// Reads `Z`, `+01:30` or a zone's name, with or without a space before it.
fn zone_of(rest: &str, text: &str, type_name: &str) -> Result<Option<TimeZone>> {
    let name = rest.trim();
    if name.is_empty() {
        return Ok(None);
    }
    if name.starts_with(['+', '-']) {
        let seconds = parse_offset(name).ok_or_else(|| invalid(type_name, text))?;
        return Ok(Some(TimeZone::fixed(seconds)));
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(invalid(type_name, text));
    }
    let zone =
        name.parse().map_err(|_| Error::InvalidParameter(format!("time zone \"{name}\" not recognized")))?;
    Ok(Some(zone))
}

fn invalid(type_name: &str, text: &str) -> Error {
    Error::InvalidDatetime(format!("invalid input syntax for type {type_name}: \"{text}\""))
}

fn field_out_of_range(text: &str) -> Error {
    Error::DatetimeOverflow(format!("date/time field value out of range: \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    /// 2013-01-01 05:00:00 in UTC.
    const FIVE: i64 = 1_357_016_400 * SECOND;

    #[test]
    fn dates_are_read_in_iso_forms() {
        for text in
            ["2013-01-01", "20130101", "2013/1/1", " 2013-01-01 ", "2013-01-01 +01", "2013-01-01T23:00Z"]
        {
            assert_eq!(date(text, None).unwrap(), 15_706, "{text}");
        }
        assert_eq!(date("0001-12-31 BC", None).unwrap(), -719_163);
        assert_eq!(date("infinity", None).unwrap(), i32::MAX);
        assert_eq!(date("12345-01-01", None).unwrap(), 3_789_391);
        for (text, state) in [
            ("01/02/2013", "22007"),
            ("yesterday", "22007"),
            ("", "22007"),
            ("2013-02-29", "22008"),
            ("2013-13-01", "22008"),
            ("0000-01-01", "22007"),
            ("5874898-01-01", "22008"),
        ] {
            assert_eq!(date(text, None).unwrap_err().sqlstate(), state, "{text}");
        }
    }

    #[test]
    fn an_order_says_which_field_is_which() {
        let days = |text: &str, order| date(text, Some(order)).map_err(|error| error.sqlstate());
        for (text, order) in [
            ("02/01/2013", DateOrder::Dmy),
            ("2.1.13", DateOrder::Dmy),
            ("01-02-2013", DateOrder::Mdy),
            ("13/1/2", DateOrder::Ymd),
            ("2013-01-02", DateOrder::Dmy),
        ] {
            assert_eq!(days(text, order), Ok(15_707), "{text}");
        }
        assert_eq!(days("01/02/70", DateOrder::Mdy), Ok(1));
        assert_eq!(days("13/02/2013", DateOrder::Mdy), Err("22008"));
        assert_eq!(days("13/02", DateOrder::Mdy), Err("22007"));
    }

    #[test]
    fn times_are_read() {
        assert_eq!(time("05:06:07.123").unwrap(), 18_367_123_000);
        assert_eq!(time("05:06").unwrap(), 18_360 * SECOND);
        assert_eq!(time("5:06 PM").unwrap(), 61_560 * SECOND);
        assert_eq!(time("12:00 am").unwrap(), 0);
        assert_eq!(time("24:00:00").unwrap(), DAY_MICROS);
        assert_eq!(time("05:00:00.9999999+02").unwrap(), 18_001 * SECOND);
        for (text, state) in [
            ("25:00", "22008"),
            ("13:00 PM", "22008"),
            ("05:60", "22008"),
            ("five", "22007"),
            ("1:2:3:4", "22007"),
        ] {
            assert_eq!(time(text).unwrap_err().sqlstate(), state, "{text}");
        }
    }

    #[test]
    fn timestamps_are_read_in_their_zone() {
        let utc = TimeZone::utc();
        for text in [
            "2013-01-01 05:00:00Z",
            "2013-01-01T05:00:00.000+00:00",
            "2013-01-01 10:30:00 +0530",
            "2013-01-01 00:00 America/New_York",
            "2013-01-01 05:00",
        ] {
            assert_eq!(timestamptz(text, &utc, None).unwrap(), FIVE, "{text}");
        }
        let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
        assert_eq!(timestamptz("2013-01-01 06:00", &berlin, None).unwrap(), FIVE);
        assert_eq!(timestamp("2013-01-01 05:00:00+09", None).unwrap(), FIVE, "a timestamp has no zone");
        assert_eq!(timestamp("1969-12-31 23:59:59.999999", None).unwrap(), -1);
        assert_eq!(timestamp("-infinity", None).unwrap(), i64::MIN);
        assert_eq!(timestamptz("2013-01-01 05:00 Mars/Base", &utc, None).unwrap_err().sqlstate(), "22023");
        assert_eq!(timestamp("300000-01-01", None).unwrap_err().sqlstate(), "22008");
        assert_eq!(to_local(FIVE, &berlin), FIVE + 3600 * SECOND);
    }
}
