//! Dates, times and timestamps as text and in binary.
//!
//! A date is days, a time microseconds of the day, a timestamp microseconds since 1970, all in the
//! proleptic Gregorian calendar. The largest and the smallest number stand for infinity, as in
//! PostgreSQL's own storage.

use super::cells::spill;
use super::integer::{packed_digits, put_padded, put_u64, write_padded};
use super::style::{DateLayout, DateOrder, DateStyle};
use crate::error::{Error, Result};

pub(crate) const DAY_MICROS: i64 = 86_400_000_000;
/// The dates that stand for infinity.
pub(super) const DAYS_MIN: i64 = i32::MIN as i64;
pub(super) const DAYS_MAX: i64 = i32::MAX as i64;
/// Days from 1970 to 2000, where PostgreSQL's calendar begins.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// From 1970-01-01, which was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// A day of the calendar. The year before 1 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
}

impl Civil {
    /// The day that lies `days` after 1970-01-01.
    ///
    /// The division by 1,461 is a multiplication by 2^32 / 1,461, and months come from a line that
    /// steps over their lengths.
    ///
    /// Source: C. Neri, L. Schneider, "Euclidean affine functions and their application to calendar
    /// algorithms", figure 12.
    #[inline]
    pub fn from_days(days: i64) -> Self {
        // Counts from 1 March of year 0, so that a leap day ends its year and eras of 400 years are alike.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let quarters = 4 * shifted.rem_euclid(146_097) as u32 + 3;
        let (century, day_of_century) = (quarters / 146_097, quarters % 146_097 / 4);
        let product = u64::from(4 * day_of_century + 3) * 2_939_745;
        let year_of_century = (product >> 32) as u32;
        let day_of_year = product as u32 / 2_939_745 / 4;
        let month_and_day = 2_141 * day_of_year + 197_913;
        let (march_month, day) = (month_and_day >> 16, (month_and_day & 0xffff) / 2_141 + 1);
        // January and February belong to the next year.
        let turn = u32::from(day_of_year >= 306);
        let year = era * 400 + i64::from(100 * century + year_of_century + turn);
        Self { year, month: march_month - 12 * turn, day }
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

/// The room for a date, a time or a timestamp in any style.
pub(super) const DATE_BYTES: usize = 32;
pub(super) const TIME_BYTES: usize = 24;
pub(super) const TIMESTAMP_BYTES: usize = 64;

/// Writes a date, given in days since 1970.
#[inline]
pub(super) fn write_date(room: &mut [u8; DATE_BYTES], days: i64, style: DateStyle) -> usize {
    let civil = Civil::from_days(days);
    let iso = matches!(style.layout, DateLayout::Iso | DateLayout::Xsd);
    if iso && (1..10_000).contains(&civil.year) {
        return write_iso_date(room, civil);
    }
    spill(room, |out| {
        put_any_date(out, civil, style);
        put_era(out, civil);
    })
}

/// Writes the ten bytes of a date with a year of four digits.
#[inline]
fn write_iso_date(room: &mut [u8], civil: Civil) -> usize {
    // YYYYMMDD, then the month and the day moved up behind their dashes.
    let digits = packed_digits(civil.year as u32 * 10_000 + civil.month * 100 + civil.day);
    let first = (digits & 0xffff_ffff) | 0x2d00_002d_0000_0000 | (((digits >> 32) & 0xffff) << 40);
    room[..8].copy_from_slice(&first.to_le_bytes());
    room[8..10].copy_from_slice(&((digits >> 48) as u16).to_le_bytes());
    10
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

/// Writes a time of day, given in microseconds.
#[inline]
pub(super) fn write_time(room: &mut [u8; TIME_BYTES], micros: i64) -> usize {
    let seconds = (micros / 1_000_000) as u32;
    let clock = packed_digits(seconds / 3600 * 10_000 + seconds / 60 % 60 * 100 + seconds % 60);
    // 00HHMMSS, taken apart for the colons.
    let first = ((clock >> 16) & 0xffff)
        | 0x0000_3a00_003a_0000
        | (((clock >> 32) & 0xffff) << 24)
        | ((clock >> 48) << 48);
    room[..8].copy_from_slice(&first.to_le_bytes());
    8 + write_micros(&mut room[8..], (micros % 1_000_000) as u32)
}

/// Writes the decimals of a second without zeros at their end to a room of 9 bytes or more.
#[inline]
fn write_micros(room: &mut [u8], micros: u32) -> usize {
    if micros == 0 {
        return 0;
    }
    room[0] = b'.';
    write_padded(&mut room[1..], micros, 6);
    let zeros = room[1..7].iter().rev().take_while(|digit| **digit == b'0').count();
    7 - zeros
}

fn put_time(out: &mut Vec<u8>, micros: i64) {
    let mut room = [0; TIME_BYTES];
    let length = write_time(&mut room, micros);
    out.extend_from_slice(&room[..length]);
}

/// Appends the decimals of a second without zeros at their end.
pub(super) fn put_micros(out: &mut Vec<u8>, micros: u32) {
    let mut room = [0; 16];
    let length = write_micros(&mut room, micros);
    out.extend_from_slice(&room[..length]);
}

/// Writes a timestamp, given in microseconds since 1970, as the clock shows it `offset` seconds east
/// of UTC; without an offset, it has no zone.
#[inline]
pub(super) fn write_timestamp(
    room: &mut [u8; TIMESTAMP_BYTES],
    micros: i64,
    zone: Option<Shown>,
    style: DateStyle,
) -> usize {
    let offset = zone.map_or(0, |zone| zone.offset);
    let local = micros.saturating_add(i64::from(offset) * 1_000_000);
    let days = local.div_euclid(DAY_MICROS);
    let time = local.rem_euclid(DAY_MICROS);
    let civil = Civil::from_days(days);
    if style.layout != DateLayout::Iso || !(1..10_000).contains(&civil.year) {
        return spill(room, |out| put_any_timestamp(out, (civil, days, time), zone, style));
    }
    let mut at = write_iso_date(room, civil);
    room[at] = b' ';
    at += 1;
    at += write_time(room[at..].first_chunk_mut().expect("the rest is longer than a time"), time);
    match zone {
        None => at,
        Some(Shown { offset: 0, .. }) => {
            room[at..at + 3].copy_from_slice(b"+00");
            at + 3
        }
        Some(zone) => at + spill(&mut room[at..], |out| put_zone(out, zone, style.layout)),
    }
}

/// Appends a timestamp in any style, taken apart into its day, the days since 1970, and its time.
fn put_any_timestamp(
    out: &mut Vec<u8>,
    (civil, days, time): (Civil, i64, i64),
    zone: Option<Shown>,
    style: DateStyle,
) {
    match style.layout {
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
        DateLayout::Iso | DateLayout::Xsd => {}
        _ if zone.is_utc => return out.extend_from_slice(b" UTC"),
        _ => out.push(b' '),
    }
    let seconds = zone.offset.unsigned_abs();
    out.push(if zone.offset < 0 { b'-' } else { b'+' });
    put_padded(out, seconds / 3600, 2);
    if !seconds.is_multiple_of(3600) || layout == DateLayout::Xsd {
        out.push(b':');
        put_padded(out, seconds / 60 % 60, 2);
    }
    if !seconds.is_multiple_of(60) {
        out.push(b':');
        put_padded(out, seconds % 60, 2);
    }
}

/// Writes the text of an infinite date or timestamp.
pub(super) fn write_infinity(room: &mut [u8], negative: bool) -> usize {
    spill(room, |out| out.extend_from_slice(if negative { b"-infinity" } else { b"infinity" }))
}

/// Days since 2000 of a date in days since 1970. Infinity stays what it is.
///
/// # Errors
/// [`Error::DatetimeOverflow`] when the binary form cannot hold it.
#[inline]
pub(super) fn binary_days(days: i64) -> Result<i32> {
    if days == DAYS_MIN || days == DAYS_MAX {
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
pub(crate) fn from_binary_days(days: i32) -> Result<i32> {
    if days == i32::MAX || days == i32::MIN {
        return Ok(days);
    }
    days.checked_add(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))
}

/// Undoes [`binary_micros`].
pub(crate) fn from_binary_micros(micros: i64) -> Result<i64> {
    if micros == i64::MAX || micros == i64::MIN {
        return Ok(micros);
    }
    micros.checked_add(EPOCH_MICROS).ok_or_else(|| out_of_range("timestamp"))
}

pub(crate) fn out_of_range(what: &str) -> Error {
    Error::DatetimeOverflow(format!("{what} out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(year: i64, month: u32, day: u32) -> i64 {
        Civil { year, month, day }.days()
    }

    fn date(year: i64, month: u32, day: u32, style: &str) -> String {
        let mut room = [0; DATE_BYTES];
        let length = write_date(&mut room, days(year, month, day), style.parse().unwrap());
        String::from_utf8(room[..length].to_vec()).unwrap()
    }

    fn timestamp(micros: i64, offset: Option<i32>, style: &str) -> String {
        let mut room = [0; TIMESTAMP_BYTES];
        let zone = offset.map(|offset| Shown { offset, is_utc: false });
        let length = write_timestamp(&mut room, micros, zone, style.parse().unwrap());
        String::from_utf8(room[..length].to_vec()).unwrap()
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
