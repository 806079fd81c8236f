//! Intervals as text: `1 year 2 mons -3 days 04:05:06.5`, `@ 1 hour ago`, `1-2 3 4:05:06`,
//! `P1Y2M3DT4H5M6.5S`.

use crate::error::{Error, Result};
use crate::value::output::interval::Interval;

const SECOND: f64 = 1_000_000.0;
const DAY: f64 = 86_400.0 * SECOND;

/// Reads an interval in any of PostgreSQL's styles.
pub(super) fn parse(text: &str) -> Result<Interval> {
    let trimmed = text.trim();
    let sum = match trimmed.strip_prefix(['P', 'p']) {
        Some(designated) => parse_iso(designated),
        None => parse_words(trimmed),
    };
    let sum = sum.ok_or_else(|| {
        Error::InvalidDatetime(format!("invalid input syntax for type interval: \"{text}\""))
    })?;
    sum.interval()
        .ok_or_else(|| Error::DatetimeOverflow(format!("interval field value out of range: \"{text}\"")))
}

/// The parts added up so far. What is less than a month counts as days of 30 to the month, what is
/// less than a day as time.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i128,
}

impl Sum {
    fn add_months(&mut self, amount: Amount, months: i64) {
        self.months = self.months.saturating_add(amount.whole.saturating_mul(months));
        let rest = amount.fraction * months as f64;
        self.months = self.months.saturating_add(rest.trunc() as i64);
        self.add_fraction_of_days(rest.fract() * 30.0);
    }

    fn add_days(&mut self, amount: Amount, days: i64) {
        self.days = self.days.saturating_add(amount.whole.saturating_mul(days));
        self.add_fraction_of_days(amount.fraction * days as f64);
    }

    fn add_fraction_of_days(&mut self, days: f64) {
        // Thirds of a month are whole days but for the rounding of floats.
        let days = (days * 1e9).round() / 1e9;
        self.days = self.days.saturating_add(days.trunc() as i64);
        self.micros += (days.fract() * DAY).round() as i128;
    }

    fn add_time(&mut self, amount: Amount, micros: f64) {
        self.micros += i128::from(amount.whole) * micros as i128 + (amount.fraction * micros).round() as i128;
    }

    fn negated(self) -> Self {
        Self { months: -self.months, days: -self.days, micros: -self.micros }
    }

    fn interval(&self) -> Option<Interval> {
        Some(Interval {
            months: i32::try_from(self.months).ok()?,
            days: i32::try_from(self.days).ok()?,
            micros: i64::try_from(self.micros).ok()?,
        })
    }
}

/// A signed decimal number, whole and fraction of one sign.
#[derive(Clone, Copy)]
struct Amount {
    whole: i64,
    fraction: f64,
    negative: bool,
}

impl Amount {
    /// Reads a number at the start of `text`, and returns what stands behind it.
    fn split(text: &str) -> Option<(Self, &str)> {
        let (negative, body) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = body.find(|byte: char| !byte.is_ascii_digit() && byte != '.').unwrap_or(body.len());
        let (digits, rest) = body.split_at(end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction: f64 = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
        let (whole, fraction) = if negative { (-whole, -fraction) } else { (whole, fraction) };
        Some((Self { whole, fraction, negative }, rest))
    }
}

/// Reads numbers with units, clocks, and SQL's year-month.
fn parse_words(text: &str) -> Option<Sum> {
    let mut rest = text.trim_start_matches('@').trim_start();
    let mut sum = Sum::default();
    let mut empty = true;
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        if rest.is_empty() {
            return (!empty).then_some(sum);
        }
        if rest.eq_ignore_ascii_case("ago") {
            return (!empty).then(|| sum.negated());
        }
        rest = parse_part(&mut sum, rest)?;
        empty = false;
    }
}

/// Reads one part of an interval in words, and returns what stands behind it.
fn parse_part<'a>(sum: &mut Sum, text: &'a str) -> Option<&'a str> {
    let (amount, rest) = Amount::split(text)?;
    match rest.as_bytes().first() {
        Some(b':') => parse_clock(sum, amount, rest),
        Some(b'-') if amount.fraction == 0.0 => {
            let (months, rest) = Amount::split(&rest[1..])?;
            let sign = if amount.negative { -1 } else { 1 };
            sum.add_months(amount, 12);
            sum.months = sum.months.saturating_add(sign * months.whole);
            Some(rest)
        }
        _ => {
            let rest = rest.trim_start();
            let end = rest.find(|byte: char| !byte.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (unit, behind) = rest.split_at(end);
            match unit.to_ascii_lowercase().as_str() {
                // A number alone is days before a clock, as in SQL, else seconds.
                "" if behind.contains(':') => sum.add_days(amount, 1),
                "" => sum.add_time(amount, SECOND),
                unit => add_unit(sum, amount, unit)?,
            }
            Some(behind)
        }
    }
}

fn add_unit(sum: &mut Sum, amount: Amount, unit: &str) -> Option<()> {
    match unit {
        "millennium" | "millennia" | "mil" | "mils" => sum.add_months(amount, 12_000),
        "century" | "centuries" | "c" | "cent" => sum.add_months(amount, 1_200),
        "decade" | "decades" | "dec" | "decs" => sum.add_months(amount, 120),
        "year" | "years" | "yr" | "yrs" | "y" => sum.add_months(amount, 12),
        "month" | "months" | "mon" | "mons" => sum.add_months(amount, 1),
        "week" | "weeks" | "w" => sum.add_days(amount, 7),
        "day" | "days" | "d" => sum.add_days(amount, 1),
        "hour" | "hours" | "hr" | "hrs" | "h" => sum.add_time(amount, 3_600.0 * SECOND),
        "minute" | "minutes" | "min" | "mins" | "m" => sum.add_time(amount, 60.0 * SECOND),
        "second" | "seconds" | "sec" | "secs" | "s" => sum.add_time(amount, SECOND),
        "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => sum.add_time(amount, 1_000.0),
        "microsecond" | "microseconds" | "usec" | "usecs" | "us" => sum.add_time(amount, 1.0),
        _ => return None,
    }
    Some(())
}

/// Reads `:05` or `:05:06.5` behind the hours, whose sign holds for all of it.
fn parse_clock<'a>(sum: &mut Sum, hours: Amount, text: &'a str) -> Option<&'a str> {
    let (minutes, rest) = Amount::split(text.strip_prefix(':')?)?;
    let (seconds, rest) = match rest.strip_prefix(':') {
        Some(rest) => Amount::split(rest)?,
        None => (Amount { whole: 0, fraction: 0.0, negative: false }, rest),
    };
    let in_range = |part: Amount| !part.negative && part.whole < 60;
    if hours.fraction != 0.0 || !in_range(minutes) || !in_range(seconds) {
        return None;
    }
    let mut time = Sum::default();
    time.add_time(Amount { whole: hours.whole.abs(), ..hours }, 3_600.0 * SECOND);
    time.add_time(minutes, 60.0 * SECOND);
    time.add_time(seconds, SECOND);
    sum.micros += if hours.negative { -time.micros } else { time.micros };
    Some(rest)
}

/// Reads `1Y2M3DT4H5M6.5S` behind the `P`.
fn parse_iso(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut rest = text;
    let mut in_time = false;
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix(['T', 't']) {
            (rest, in_time) = (time, true);
            continue;
        }
        let (amount, behind) = Amount::split(rest)?;
        let unit = behind.chars().next()?;
        match (unit.to_ascii_uppercase(), in_time) {
            ('Y', false) => sum.add_months(amount, 12),
            ('M', false) => sum.add_months(amount, 1),
            ('W', false) => sum.add_days(amount, 7),
            ('D', false) => sum.add_days(amount, 1),
            ('H', true) => sum.add_time(amount, 3_600.0 * SECOND),
            ('M', true) => sum.add_time(amount, 60.0 * SECOND),
            ('S', true) => sum.add_time(amount, SECOND),
            _ => return None,
        }
        rest = &behind[unit.len_utf8()..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// Every reading is PostgreSQL 15's.
    #[test]
    fn intervals_are_read_in_every_style() {
        let time = 4 * HOUR + 5 * 60_000_000 + 6_500_000;
        let cases = [
            ("1 year 2 mons 3 days 04:05:06.5", (14, 3, time)),
            ("@ 1 year 2 mons 3 days 4 hours 5 mins 6.5 secs", (14, 3, time)),
            ("P1Y2M3DT4H5M6.5S", (14, 3, time)),
            ("1-2 3 4:05:06.5", (14, 3, time)),
            ("+1-2 +3 +4:05:06.5", (14, 3, time)),
            ("1 day ago", (0, -1, 0)),
            ("-1 day 2 hours", (0, -1, 2 * HOUR)),
            ("1 day, 2:00:00", (0, 1, 2 * HOUR)),
            ("-2:30", (0, 0, -2 * HOUR - HOUR / 2)),
            ("-0:30", (0, 0, -HOUR / 2)),
            ("-1-2", (-14, 0, 0)),
            ("90", (0, 0, 90_000_000)),
            ("1.5 days", (0, 1, 12 * HOUR)),
            ("0.5 months", (0, 15, 0)),
            ("1.5 years", (18, 0, 0)),
            ("2 weeks", (0, 14, 0)),
            ("3d 5ms 6us", (0, 3, 5_006)),
            ("PT-0.000001S", (0, 0, -1)),
        ];
        for (text, (months, days, micros)) in cases {
            assert_eq!(parse(text).unwrap(), Interval { months, days, micros }, "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for text in ["", "soon", "1 parsec", "P", "P1H", "1:60", "ago", "1..5 days", "P1é"] {
            assert_eq!(parse(text).unwrap_err().sqlstate(), "22007", "{text}");
        }
        assert_eq!(parse("3000000000 days").unwrap_err().sqlstate(), "22008");
    }
}
