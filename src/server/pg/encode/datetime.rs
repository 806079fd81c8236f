//! Dates, times and timestamps as text and in binary.
//!
//! A date is days, a time microseconds of the day, a timestamp microseconds since 1970, all in the
//! proleptic Gregorian calendar. The largest and the smallest number stand for infinity, as in
//! PostgreSQL's own storage.

use super::integer::{eight_digits, put_padded, put_u64};
use super::style::{DateLayout, DateOrder, DateStyle};
use crate::error::{Error, Result};

pub(in crate::server::pg) const DAY_MICROS: i64 = 86_400_000_000;
/// Days from 1970 to 2000, where PostgreSQL's calendar begins.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// From 1970-01-01, which was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// A day of the calendar. The year before 1 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server::pg) struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
}

impl Civil {
    /// The day that lies `days` after 1970-01-01.
    ///
    /// Source: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
    #[inline]
    pub fn from_days(days: i64) -> Self {
        // Counts from 1 March of year 0, so that a leap day ends its year and eras of 400 years are alike.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097) as u32;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + i64::from(year_of_era) + i64::from(month <= 2);
        Self { year, month, day }
    }

    /// Days after 1970-01-01.
    pub fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let march_month = i64::from(if self.month > 2 { self.month - 3 } else { self.month + 9 });
        let day_of_year = (153 * march_month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    /// The year as people count it, which has no year 0.
    fn shown_year(self) -> u64 {
        if self.year > 0 { self.year.unsigned_abs() } else { (1 - self.year).unsigned_abs() }
    }
}

/// Appends a date, given in days since 1970.
#[inline]
pub(super) fn put_date(out: &mut Vec<u8>, days: i64, style: DateStyle) {
    let civil = Civil::from_days(days);
    let iso = matches!(style.layout, DateLayout::Iso | DateLayout::Xsd);
    if iso && (1..10_000).contains(&civil.year) {
        out.extend_from_slice(&iso_date(civil));
    } else {
        put_any_date(out, civil, style);
        put_era(out, civil);
    }
}

/// Ten bytes for a year of four digits.
#[inline]
fn iso_date(civil: Civil) -> [u8; 10] {
    let [a, b, c, d, e, f, g, h] = eight_digits(civil.year as u32 * 10_000 + civil.month * 100 + civil.day);
    [a, b, c, d, b'-', e, f, b'-', g, h]
}

fn put_any_date(out: &mut Vec<u8>, civil: Civil, style: DateStyle) {
    let separator = match style.layout {
        DateLayout::Iso | DateLayout::Xsd | DateLayout::Postgres => b'-',
        DateLayout::Sql => b'/',
        DateLayout::German => b'.',
    };
    let (first, second) = match (style.layout, style.order) {
        (DateLayout::Iso | DateLayout::Xsd, _) => {
            put_year(out, civil);
            out.push(separator);
            put_padded(out, civil.month, 2);
            out.push(separator);
            return put_padded(out, civil.day, 2);
        }
        (DateLayout::German, _) | (_, DateOrder::Dmy) => (civil.day, civil.month),
        _ => (civil.month, civil.day),
    };
    put_padded(out, first, 2);
    out.push(separator);
    put_padded(out, second, 2);
    out.push(separator);
    put_year(out, civil);
}

fn put_year(out: &mut Vec<u8>, civil: Civil) {
    match civil.shown_year() {
        short @ 0..10_000 => put_padded(out, short as u32, 4),
        long => put_u64(out, long),
    }
}

fn put_era(out: &mut Vec<u8>, civil: Civil) {
    if civil.year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

/// Appends a time of day, given in microseconds.
#[inline]
pub(super) fn put_time(out: &mut Vec<u8>, micros: i64) {
    let seconds = (micros / 1_000_000) as u32;
    let clock = seconds / 3600 * 1_000_000 + seconds / 60 % 60 * 10_000 + seconds % 60 * 100;
    let [a, b, c, d, e, f, ..] = eight_digits(clock);
    out.extend_from_slice(&[a, b, b':', c, d, b':', e, f]);
    put_micros(out, (micros % 1_000_000) as u32);
}

/// Appends the decimals of a second without zeros at their end.
#[inline]
pub(super) fn put_micros(out: &mut Vec<u8>, micros: u32) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    put_padded(out, micros, 6);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// Appends a timestamp, given in microseconds since 1970, as the clock shows it `offset` seconds
/// east of UTC; without an offset, it has no zone.
#[inline]
pub(super) fn put_timestamp(out: &mut Vec<u8>, micros: i64, zone: Option<Shown>, style: DateStyle) {
    let offset = zone.map_or(0, |zone| zone.offset);
    let local = micros.saturating_add(i64::from(offset) * 1_000_000);
    let days = local.div_euclid(DAY_MICROS);
    let time = local.rem_euclid(DAY_MICROS);
    let civil = Civil::from_days(days);
    match style.layout {
        DateLayout::Iso if (1..10_000).contains(&civil.year) => {
            out.extend_from_slice(&iso_date(civil));
            out.push(b' ');
            put_time(out, time);
        }
        DateLayout::Postgres => put_long(out, civil, days, time, style),
        layout => {
            put_any_date(out, civil, style);
            out.push(if layout == DateLayout::Xsd { b'T' } else { b' ' });
            put_time(out, time);
        }
    }
    if let Some(zone) = zone {
        put_zone(out, zone, style.layout);
    }
    put_era(out, civil);
}

/// The zone of a shown timestamp.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    /// Seconds east of UTC.
    pub offset: i32,
    /// Whether the layouts with zone names may write UTC.
    pub is_utc: bool,
}

/// Appends `Tue Jan 01 05:00:00 2013`.
fn put_long(out: &mut Vec<u8>, civil: Civil, days: i64, time: i64, style: DateStyle) {
    out.extend_from_slice(WEEKDAYS[days.rem_euclid(7) as usize].as_bytes());
    out.push(b' ');
    let month = MONTHS[civil.month as usize - 1].as_bytes();
    if style.order == DateOrder::Dmy {
        put_padded(out, civil.day, 2);
        out.push(b' ');
        out.extend_from_slice(month);
    } else {
        out.extend_from_slice(month);
        out.push(b' ');
        put_padded(out, civil.day, 2);
    }
    out.push(b' ');
    put_time(out, time);
    out.push(b' ');
    put_year(out, civil);
}

fn put_zone(out: &mut Vec<u8>, zone: Shown, layout: DateLayout) {
    match layout {
        DateLayout::Iso if zone.offset == 0 => return out.extend_from_slice(b"+00"),
        DateLayout::Iso | DateLayout::Xsd => {}
        _ if zone.is_utc => return out.extend_from_slice(b" UTC"),
        _ => out.push(b' '),
    }
    let seconds = zone.offset.unsigned_abs();
    out.push(if zone.offset < 0 { b'-' } else { b'+' });
    put_padded(out, seconds / 3600, 2);
    if seconds % 3600 != 0 || layout == DateLayout::Xsd {
        out.push(b':');
        put_padded(out, seconds / 60 % 60, 2);
    }
    if !seconds.is_multiple_of(60) {
        out.push(b':');
        put_padded(out, seconds % 60, 2);
    }
}

/// The text of an infinite date or timestamp; `None` for a finite one.
#[inline]
pub(super) fn infinity(value: i64, least: i64, greatest: i64) -> Option<&'static [u8]> {
    match value {
        value if value == greatest => Some(b"infinity"),
        value if value == least => Some(b"-infinity"),
        _ => None,
    }
}

/// Days since 2000 of a date in days since 1970. Infinity stays what it is.
///
/// # Errors
/// [`Error::DatetimeOverflow`] when the binary form cannot hold it.
#[inline]
pub(super) fn binary_days(days: i64) -> Result<i32> {
    if days == i64::from(i32::MAX) || days == i64::from(i32::MIN) {
        return Ok(days as i32);
    }
    i32::try_from(days - i64::from(EPOCH_DAYS)).map_err(|_| out_of_range("date"))
}

/// Microseconds since 2000 of a timestamp since 1970. Infinity stays what it is.
///
/// # Errors
/// [`Error::DatetimeOverflow`] when the binary form cannot hold it.
#[inline]
pub(super) fn binary_micros(micros: i64) -> Result<i64> {
    if micros == i64::MAX || micros == i64::MIN {
        return Ok(micros);
    }
    micros.checked_sub(EPOCH_MICROS).ok_or_else(|| out_of_range("timestamp"))
}

/// Undoes [`binary_days`].
pub(in crate::server::pg) fn from_binary_days(days: i32) -> Result<i32> {
    if days == i32::MAX || days == i32::MIN {
        return Ok(days);
    }
    days.checked_add(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))
}

/// Undoes [`binary_micros`].
pub(in crate::server::pg) fn from_binary_micros(micros: i64) -> Result<i64> {
    if micros == i64::MAX || micros == i64::MIN {
        return Ok(micros);
    }
    micros.checked_add(EPOCH_MICROS).ok_or_else(|| out_of_range("timestamp"))
}

pub(in crate::server::pg) fn out_of_range(what: &str) -> Error {
    Error::DatetimeOverflow(format!("{what} out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(year: i64, month: u32, day: u32) -> i64 {
        Civil { year, month, day }.days()
    }

    fn date(year: i64, month: u32, day: u32, style: &str) -> String {
        let mut out = Vec::new();
        put_date(&mut out, days(year, month, day), style.parse().unwrap());
        String::from_utf8(out).unwrap()
    }

    fn timestamp(micros: i64, offset: Option<i32>, style: &str) -> String {
        let mut out = Vec::new();
        let zone = offset.map(|offset| Shown { offset, is_utc: false });
        put_timestamp(&mut out, micros, zone, style.parse().unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_calendar_goes_both_ways() {
        for day in (-3_000_000..3_000_000).step_by(331) {
            assert_eq!(Civil::from_days(day).days(), day);
        }
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 1, 1), i64::from(EPOCH_DAYS));
        let extreme = Civil::from_days(i64::from(i32::MAX));
        assert_eq!(extreme, Civil { year: 5_881_580, month: 7, day: 11 });
    }

    #[test]
    fn dates_follow_the_style() {
        assert_eq!(date(2013, 1, 2, "ISO, MDY"), "2013-01-02");
        assert_eq!(date(2013, 1, 2, "SQL, DMY"), "02/01/2013");
        assert_eq!(date(2013, 1, 2, "SQL, MDY"), "01/02/2013");
        assert_eq!(date(2013, 1, 2, "German"), "02.01.2013");
        assert_eq!(date(2013, 1, 2, "Postgres, MDY"), "01-02-2013");
        assert_eq!(date(0, 2, 29, "ISO"), "0001-02-29 BC");
        assert_eq!(date(-43, 3, 15, "ISO"), "0044-03-15 BC");
        assert_eq!(date(12_345, 3, 15, "ISO"), "12345-03-15");
    }

    #[test]
    fn timestamps_follow_the_style_and_the_zone() {
        let micros = days(2013, 1, 1) * DAY_MICROS + 5 * 3_600_000_000;
        assert_eq!(timestamp(micros, None, "ISO"), "2013-01-01 05:00:00");
        assert_eq!(timestamp(micros + 120_300, Some(0), "ISO"), "2013-01-01 05:00:00.1203+00");
        assert_eq!(timestamp(micros, Some(19_800), "ISO"), "2013-01-01 10:30:00+05:30");
        assert_eq!(timestamp(micros, Some(-12_641), "ISO"), "2013-01-01 01:29:19-03:30:41");
        assert_eq!(timestamp(micros, Some(-18_000), "SQL"), "01/01/2013 00:00:00 -05");
        assert_eq!(timestamp(micros, Some(-18_000), "Postgres"), "Tue Jan 01 00:00:00 2013 -05");
        let caesar = days(-43, 3, 15) * DAY_MICROS + 43_200_000_000;
        assert_eq!(timestamp(caesar, Some(3600), "ISO"), "0044-03-15 13:00:00+01 BC");
        assert_eq!(timestamp(-1, None, "ISO"), "1969-12-31 23:59:59.999999");
        assert_eq!(timestamp(i64::MAX - 1, None, "ISO"), "294247-01-10 04:00:54.775806");
    }
}
