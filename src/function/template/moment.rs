//! Moments: what a date, a timestamp or an interval shows on a calendar and a clock.

use crate::value::output::datetime::{Civil, DAY_MICROS};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const ROMAN_MONTHS: [&str; 12] =
    ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
/// The day of the Julian calendar's count on 1970-01-01.
pub(super) const JULIAN_EPOCH: i64 = 2_440_588;

/// A moment, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moment {
    /// The year before 1 is 0. Of an interval, its years; likewise the months and days.
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    pub micros: i64,
    /// Days since 1970; none for an interval, which is bound to no calendar.
    pub days: Option<i64>,
    /// Seconds east of UTC and the zone's abbreviation, for a timestamp with time zone.
    pub zone: Option<(i32, String)>,
}

impl Moment {
    /// A timestamp as its clock shows it, in microseconds since 1970.
    pub fn of_local(micros: i64, zone: Option<(i32, String)>) -> Self {
        let days = micros.div_euclid(DAY_MICROS);
        let civil = Civil::from_days(days);
        let (month, day) = (civil.month.into(), civil.day.into());
        Self {
            days: Some(days),
            zone,
            ..Self::of_parts(civil.year, month, day, micros.rem_euclid(DAY_MICROS))
        }
    }

    pub fn of_interval(months: i32, days: i32, micros: i64) -> Self {
        let (months, days) = (i64::from(months), i64::from(days));
        Self::of_parts(months / 12, months % 12, days, micros)
    }

    fn of_parts(year: i64, month: i64, day: i64, time: i64) -> Self {
        Self {
            year,
            month,
            day,
            hour: time / 3_600_000_000,
            minute: time / 60_000_000 % 60,
            second: time / 1_000_000 % 60,
            micros: time % 1_000_000,
            days: None,
            zone: None,
        }
    }

    /// The year as people count it, without an era.
    pub fn shown_year(&self) -> i64 {
        if self.days.is_some() && self.year <= 0 { 1 - self.year } else { self.year }
    }

    /// From 0 for Sunday; 1970 began on a Thursday.
    pub fn weekday(&self) -> i64 {
        self.days.map_or(0, |days| (days + 4).rem_euclid(7))
    }

    pub fn day_of_year(&self) -> i64 {
        match self.days {
            Some(days) => days - Civil { year: self.year, month: 1, day: 1 }.days() + 1,
            None => (self.year * 12 + self.month) * 30 + self.day,
        }
    }

    /// The year and the week of ISO 8601, from 1.
    pub fn iso_week(&self) -> (i64, i64) {
        let days = self.days.unwrap_or_default();
        let year = if days < iso_year_start(self.year) {
            self.year - 1
        } else if days >= iso_year_start(self.year + 1) {
            self.year + 1
        } else {
            self.year
        };
        (year, (days - iso_year_start(year)) / 7 + 1)
    }

    pub fn iso_day_of_year(&self) -> i64 {
        self.days.unwrap_or_default() - iso_year_start(self.iso_week().0) + 1
    }
}

/// The Monday of the week that holds 4 January, in days since 1970.
pub(super) fn iso_year_start(year: i64) -> i64 {
    let fourth = Civil { year, month: 1, day: 4 }.days();
    fourth - (fourth + 3).rem_euclid(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_are_those_of_iso_8601() {
        let of = |year, month, day| Moment::of_local(Civil { year, month, day }.days() * DAY_MICROS, None);
        assert_eq!(of(2013, 1, 1).iso_week(), (2013, 1));
        assert_eq!(of(2012, 1, 1).iso_week(), (2011, 52));
        assert_eq!(of(2012, 12, 31).iso_week(), (2013, 1));
        assert_eq!(of(2020, 12, 31).iso_week(), (2020, 53));
        assert_eq!(of(2012, 12, 31).iso_day_of_year(), 1);
        assert_eq!(of(2013, 1, 1).weekday(), 2);
        assert_eq!(of(2012, 12, 31).day_of_year(), 366);
    }
}
