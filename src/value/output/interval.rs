//! Intervals: months, days and microseconds, which PostgreSQL keeps apart.

use super::datetime::put_micros;
use super::integer::{put_i64, put_padded, put_u64};
use super::style::IntervalStyle;

/// An interval as PostgreSQL stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

/// The fields that people read; all but the first of a group carry over at their limit.
#[derive(Clone, Copy)]
struct Fields {
    years: i64,
    months: i64,
    days: i64,
    hours: i64,
    minutes: i64,
    seconds: i64,
    micros: i64,
}

impl Interval {
    /// Appends the binary form.
    #[inline]
    pub fn put_binary(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.micros.to_be_bytes());
        out.extend_from_slice(&self.days.to_be_bytes());
        out.extend_from_slice(&self.months.to_be_bytes());
    }

    /// Appends the text in the session's style.
    pub fn put_text(self, out: &mut Vec<u8>, style: IntervalStyle) {
        let fields = self.fields();
        match style {
            IntervalStyle::Postgres => fields.put_postgres(out),
            IntervalStyle::PostgresVerbose => fields.put_verbose(out),
            IntervalStyle::SqlStandard => fields.put_standard(out),
            IntervalStyle::Iso8601 => fields.put_iso(out),
        }
    }

    fn fields(self) -> Fields {
        let (months, seconds) = (i64::from(self.months), self.micros / 1_000_000);
        Fields {
            years: months / 12,
            months: months % 12,
            days: self.days.into(),
            hours: seconds / 3600,
            minutes: seconds / 60 % 60,
            seconds: seconds % 60,
            micros: self.micros % 1_000_000,
        }
    }
}

impl Fields {
    fn all(self) -> [i64; 7] {
        [self.years, self.months, self.days, self.hours, self.minutes, self.seconds, self.micros]
    }

    /// Whether the time of day, as far as it is not zero, is negative.
    fn time_is_negative(self) -> bool {
        self.all()[3..].iter().any(|part| *part < 0)
    }

    fn has_time(self) -> bool {
        self.all()[3..].iter().any(|part| *part != 0)
    }

    /// `1 year 2 mons -3 days +04:05:06.5`: a positive part behind a negative one has its sign.
    fn put_postgres(self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut behind_negative = false;
        for (value, unit) in [(self.years, "year"), (self.months, "mon"), (self.days, "day")] {
            if value == 0 {
                continue;
            }
            if out.len() > start {
                out.push(b' ');
            }
            if behind_negative && value > 0 {
                out.push(b'+');
            }
            put_counted(out, value, unit);
            behind_negative = value < 0;
        }
        let empty = out.len() == start;
        if !empty && !self.has_time() {
            return;
        }
        if !empty {
            out.push(b' ');
        }
        match (self.time_is_negative(), behind_negative) {
            (true, _) => out.push(b'-'),
            (false, true) => out.push(b'+'),
            (false, false) => {}
        }
        put_two(out, self.hours);
        self.put_minutes(out);
    }

    /// `@ 1 year 2 mons 3 days 4 hours 5 mins 6.5 secs ago`: the first part decides the sign.
    fn put_verbose(self, out: &mut Vec<u8>) {
        out.push(b'@');
        let mut ago = None;
        let parts = [
            (self.years, "year"),
            (self.months, "mon"),
            (self.days, "day"),
            (self.hours, "hour"),
            (self.minutes, "min"),
        ];
        for (value, unit) in parts.into_iter().filter(|(value, _)| *value != 0) {
            let negative = *ago.get_or_insert(value < 0);
            out.push(b' ');
            put_counted(out, if negative { -value } else { value }, unit);
        }
        if self.seconds != 0 || self.micros != 0 {
            let below = self.seconds < 0 || self.micros < 0;
            let negative = *ago.get_or_insert(below);
            out.extend_from_slice(if below != negative { b" -" } else { b" " });
            self.put_seconds(out);
            let plural = self.seconds.abs() != 1 || self.micros != 0;
            out.extend_from_slice(if plural { b" secs" } else { b" sec" });
        }
        match ago {
            None => out.extend_from_slice(b" 0"),
            Some(true) => out.extend_from_slice(b" ago"),
            Some(false) => {}
        }
    }

    /// `1-2`, `3 4:05:06`, or with a sign on each group where SQL has no spelling of its own.
    fn put_standard(self, out: &mut Vec<u8>) {
        let negative = self.all().iter().any(|part| *part < 0);
        let positive = self.all().iter().any(|part| *part > 0);
        let year_month = self.years != 0 || self.months != 0;
        let day_time = self.days != 0 || self.has_time();
        if !negative && !positive {
            return out.push(b'0');
        }
        if (negative && positive) || (year_month && day_time) {
            return self.put_standard_mixed(out);
        }
        if negative {
            out.push(b'-');
        }
        if year_month {
            put_u64(out, self.years.unsigned_abs());
            out.push(b'-');
            return put_u64(out, self.months.unsigned_abs());
        }
        if self.days != 0 {
            put_u64(out, self.days.unsigned_abs());
            out.push(b' ');
        }
        put_u64(out, self.hours.unsigned_abs());
        self.put_minutes(out);
    }

    fn put_standard_mixed(self, out: &mut Vec<u8>) {
        let sign = |negative: bool| if negative { b'-' } else { b'+' };
        out.push(sign(self.years < 0 || self.months < 0));
        put_u64(out, self.years.unsigned_abs());
        out.push(b'-');
        put_u64(out, self.months.unsigned_abs());
        out.extend_from_slice(&[b' ', sign(self.days < 0)]);
        put_u64(out, self.days.unsigned_abs());
        out.extend_from_slice(&[b' ', sign(self.time_is_negative())]);
        put_u64(out, self.hours.unsigned_abs());
        self.put_minutes(out);
    }

    /// `P1Y2M3DT4H5M6.5S`.
    fn put_iso(self, out: &mut Vec<u8>) {
        if self.all().iter().all(|part| *part == 0) {
            return out.extend_from_slice(b"PT0S");
        }
        out.push(b'P');
        put_designated(out, self.years, b'Y');
        put_designated(out, self.months, b'M');
        put_designated(out, self.days, b'D');
        if !self.has_time() {
            return;
        }
        out.push(b'T');
        put_designated(out, self.hours, b'H');
        put_designated(out, self.minutes, b'M');
        if self.seconds != 0 || self.micros != 0 {
            if self.seconds < 0 || self.micros < 0 {
                out.push(b'-');
            }
            self.put_seconds(out);
            out.push(b'S');
        }
    }

    /// `:05:06.5` behind the hours.
    fn put_minutes(self, out: &mut Vec<u8>) {
        out.push(b':');
        put_two(out, self.minutes);
        out.push(b':');
        put_two(out, self.seconds);
        put_micros(out, self.micros.unsigned_abs() as u32);
    }

    fn put_seconds(self, out: &mut Vec<u8>) {
        put_u64(out, self.seconds.unsigned_abs());
        put_micros(out, self.micros.unsigned_abs() as u32);
    }
}

fn put_designated(out: &mut Vec<u8>, value: i64, unit: u8) {
    if value != 0 {
        put_i64(out, value);
        out.push(unit);
    }
}

fn put_counted(out: &mut Vec<u8>, value: i64, unit: &str) {
    put_i64(out, value);
    out.push(b' ');
    out.extend_from_slice(unit.as_bytes());
    if value != 1 {
        out.push(b's');
    }
}

/// Appends at least two digits of the absolute value.
fn put_two(out: &mut Vec<u8>, value: i64) {
    match value.unsigned_abs() {
        short @ 0..100 => put_padded(out, short as u32, 2),
        long => put_u64(out, long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text is what PostgreSQL 15 prints, styles in the order of the setting's documentation.
    #[test]
    fn intervals_print_as_in_postgres() {
        let time = 4 * 3_600_000_000 + 5 * 60_000_000 + 6_500_000;
        let cases = [
            (
                (14, 3, time),
                [
                    "1 year 2 mons 3 days 04:05:06.5",
                    "@ 1 year 2 mons 3 days 4 hours 5 mins 6.5 secs",
                    "+1-2 +3 +4:05:06.5",
                    "P1Y2M3DT4H5M6.5S",
                ],
            ),
            ((0, 0, 0), ["00:00:00", "@ 0", "0", "PT0S"]),
            ((0, 0, -1), ["-00:00:00.000001", "@ 0.000001 secs ago", "-0:00:00.000001", "PT-0.000001S"]),
            (
                (-13, 3, 0),
                ["-1 years -1 mons +3 days", "@ 1 year 1 mon -3 days ago", "-1-1 +3 +0:00:00", "P-1Y-1M3D"],
            ),
            ((0, -1, 1_000_000), ["-1 days +00:00:01", "@ 1 day -1 sec ago", "+0-0 -1 +0:00:01", "P-1DT1S"]),
            (
                (0, 3, time),
                ["3 days 04:05:06.5", "@ 3 days 4 hours 5 mins 6.5 secs", "3 4:05:06.5", "P3DT4H5M6.5S"],
            ),
            ((-14, 0, 0), ["-1 years -2 mons", "@ 1 year 2 mons ago", "-1-2", "P-1Y-2M"]),
            ((0, 0, 360_000_000_000), ["100:00:00", "@ 100 hours", "100:00:00", "PT100H"]),
        ];
        let styles = ["postgres", "postgres_verbose", "sql_standard", "iso_8601"];
        for ((months, days, micros), texts) in cases {
            for (style, text) in styles.into_iter().zip(texts) {
                let mut out = Vec::new();
                Interval { months, days, micros }.put_text(&mut out, style.parse().unwrap());
                assert_eq!(String::from_utf8(out).unwrap(), text, "{style}");
            }
        }
    }
}
