//! Reading: a moment from a text by a template, as `to_date` and `to_timestamp` do.

use super::moment::{DAYS, JULIAN_EPOCH, MONTHS, ROMAN_MONTHS, iso_year_start};
use super::pattern::{Field, Node, Template, is_separator};
use crate::error::{Error, Result};
use crate::value::output::datetime::{Civil, DAY_MICROS};

/// What a text said of a moment.
#[derive(Debug, Default)]
struct Found {
    year: Option<i64>,
    century: Option<i64>,
    before_christ: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    week_of_year: Option<i64>,
    week_of_month: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    iso_weekday: Option<i64>,
    iso_day_of_year: Option<i64>,
    julian: Option<i64>,
    hour: i64,
    on_twelve_hours: bool,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    second_of_day: Option<i64>,
    micros: i64,
    zone_is_west: bool,
    zone_hours: Option<i64>,
    zone_minutes: i64,
}

/// A moment that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// What its clock shows, in microseconds since 1970.
    pub local: i64,
    /// Seconds east of UTC, if the text says so.
    pub offset: Option<i32>,
}

impl Template {
    /// Reads a moment.
    ///
    /// # Errors
    /// [`Error::InvalidDatetime`] for a text that does not follow the template,
    /// [`Error::DatetimeOverflow`] for a moment that there is not.
    pub fn read(&self, text: &str) -> Result<Read> {
        let mut reader = Reader { rest: text, found: Found::default(), skipped: 0 };
        for (at, node) in self.nodes.iter().enumerate() {
            if reader.rest.is_empty() {
                break;
            }
            if !self.exact && (at == 0 || !matches!(node, Node::Text(_))) {
                reader.skip_blanks();
            }
            match node {
                Node::Separator(_) if self.exact => reader.skip_one(),
                Node::Separator(_) => reader.separator(),
                Node::Text(_) if !self.exact && reader.skipped > 0 => reader.skipped -= 1,
                Node::Text(_) => reader.skip_one(),
                Node::Field { field, text, fill, ordinal, .. } => {
                    let greedy = *fill || self.is_followed_by_no_digit(at, ordinal.is_some());
                    reader.field(*field, text, greedy)?;
                    if ordinal.is_some() {
                        reader.ordinal();
                    }
                    if !self.exact {
                        reader.skipped = 0;
                        reader.skip_blanks();
                    }
                }
            }
        }
        reader.found.moment(text)
    }

    /// Whether a number at this node ends only where its digits do.
    fn is_followed_by_no_digit(&self, at: usize, has_ordinal: bool) -> bool {
        match self.nodes.get(at + 1) {
            _ if has_ordinal => true,
            None => true,
            Some(Node::Field { field, .. }) => !field.is_digits(),
            Some(Node::Separator(next) | Node::Text(next)) => !next.is_ascii_digit(),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    found: Found,
    /// Blanks that were passed over without a node of the template for them.
    skipped: i32,
}

impl Reader<'_> {
    fn skip_blanks(&mut self) {
        let trimmed = self.rest.trim_start();
        self.skipped += (self.rest.len() - trimmed.len()) as i32;
        self.rest = trimmed;
    }

    fn skip_one(&mut self) {
        let mut characters = self.rest.chars();
        characters.next();
        self.rest = characters.as_str();
    }

    /// A separator of the template meets one of the text, or none.
    fn separator(&mut self) {
        self.skipped -= 1;
        if self.rest.starts_with(is_separator) {
            self.skip_one();
            self.skipped += 1;
        }
    }

    fn ordinal(&mut self) {
        self.rest = self.rest.get(2..).unwrap_or_default();
    }

    fn field(&mut self, field: Field, name: &str, greedy: bool) -> Result<()> {
        match field {
            Field::MonthName => self.found.month = Some(self.name(&MONTHS, name)? + 1),
            Field::MonthShort => self.found.month = Some(self.short_name(&MONTHS, name)? + 1),
            Field::MonthRoman => self.found.month = Some(self.roman_month(name)? + 1),
            Field::DayName => drop(self.name(&DAYS, name)?),
            Field::DayShort => drop(self.short_name(&DAYS, name)?),
            Field::HalfOfDay => self.found.afternoon = Some(self.name(&["AM", "PM"], name)? == 1),
            Field::HalfOfDayDotted => self.found.afternoon = Some(self.name(&["A.M.", "P.M."], name)? == 1),
            Field::Era => self.found.before_christ = self.name(&["AD", "BC"], name)? == 1,
            Field::EraDotted => self.found.before_christ = self.name(&["A.D.", "B.C."], name)? == 1,
            Field::Zone | Field::Offset => {
                return Err(Error::Unsupported(format!(
                    "formatting field \"{name}\" is only supported in to_char"
                )));
            }
            Field::YearWithComma => {
                let thousands = self.digits(9, name, true)?;
                self.rest = self.rest.strip_prefix(',').ok_or_else(|| invalid(self.rest, name))?;
                self.found.year = Some(thousands * 1000 + self.digits(3, name, true)?);
            }
            Field::ZoneHours => {
                self.found.zone_is_west = self.rest.starts_with('-');
                self.rest = self.rest.trim_start_matches(['-', '+', ' ']);
                self.found.zone_hours = Some(self.digits(2, name, greedy)?);
            }
            Field::Fraction(digits) => {
                let before = self.rest.len();
                let value = self.digits(digits, name, greedy)?;
                // Decimals count from the point: `.1` is a hundred milliseconds.
                let read = u32::try_from(before - self.rest.len()).unwrap_or(6).min(6);
                self.found.micros += value * 10_i64.pow(6 - read);
            }
            _ => {
                let value = self.digits(width(field), name, greedy)?;
                self.found.number(field, value);
            }
        }
        Ok(())
    }

    /// Reads a number of at most `width` digits, or of as many as there are.
    fn digits(&mut self, width: usize, name: &str, greedy: bool) -> Result<i64> {
        let signed = usize::from(self.rest.starts_with(['-', '+']));
        let available = self.rest[signed..].bytes().take_while(u8::is_ascii_digit).count();
        if !greedy && self.rest.chars().count() < width {
            return Err(Error::InvalidDatetime(format!(
                "source string too short for \"{name}\" formatting field"
            )));
        }
        let taken = if greedy { available } else { available.min(width - signed.min(width)) };
        if taken == 0 || !greedy && taken + signed < width {
            return Err(invalid(&head(self.rest, width), name));
        }
        let (number, rest) = self.rest.split_at(signed + taken);
        self.rest = rest;
        let value = number.parse::<i32>().map_err(|_| {
            Error::DatetimeOverflow(format!("value for \"{name}\" in source string is out of range"))
        })?;
        Ok(value.into())
    }

    /// Which of the names the text goes on with, in any case.
    fn name(&mut self, names: &[&str], pattern: &str) -> Result<i64> {
        let begins =
            |name: &str| self.rest.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
        let index = names.iter().position(|name| begins(name)).ok_or_else(|| {
            let word = self.rest.split(|c: char| c.is_whitespace()).next().unwrap_or_default();
            invalid(word, pattern)
        })?;
        self.rest = &self.rest[names[index].len()..];
        Ok(index as i64)
    }

    fn short_name(&mut self, names: &[&str], pattern: &str) -> Result<i64> {
        let short: Vec<&str> = names.iter().map(|name| &name[..3]).collect();
        self.name(&short, pattern)
    }

    fn roman_month(&mut self, pattern: &str) -> Result<i64> {
        let letters = self.rest.bytes().take_while(|byte| b"IVXivx".contains(byte)).count();
        let (numeral, rest) = self.rest.split_at(letters);
        let index = ROMAN_MONTHS.iter().position(|name| name.eq_ignore_ascii_case(numeral));
        let index = index.ok_or_else(|| invalid(&head(self.rest, 4), pattern))?;
        self.rest = rest;
        Ok(index as i64)
    }
}

fn head(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn invalid(value: &str, pattern: &str) -> Error {
    Error::InvalidDatetime(format!("invalid value \"{value}\" for \"{pattern}\""))
}

/// The digits that a pattern takes at most.
fn width(field: Field) -> usize {
    match field {
        Field::Year(digits) | Field::IsoYear(digits) => digits,
        Field::DayOfYear | Field::IsoDayOfYear => 3,
        Field::Weekday | Field::IsoWeekday | Field::Quarter | Field::WeekOfMonth => 1,
        Field::SecondOfDay => 5,
        Field::Julian => 7,
        _ => 2,
    }
}

impl Found {
    fn number(&mut self, field: Field, value: i64) {
        match field {
            Field::Year(digits) => self.year = Some(near_2020(value, digits)),
            Field::IsoYear(digits) => self.iso_year = Some(near_2020(value, digits)),
            Field::Century => self.century = Some(value),
            Field::Month => self.month = Some(value),
            Field::WeekOfYear => self.week_of_year = Some(value),
            Field::WeekOfMonth => self.week_of_month = Some(value),
            Field::IsoWeek => self.iso_week = Some(value),
            Field::DayOfYear => self.day_of_year = Some(value),
            Field::IsoDayOfYear => self.iso_day_of_year = Some(value),
            Field::Day => self.day = Some(value),
            Field::IsoWeekday => self.iso_weekday = Some(value),
            Field::Julian => self.julian = Some(value),
            Field::Hour12 => (self.hour, self.on_twelve_hours) = (value, true),
            Field::Hour24 => self.hour = value,
            Field::Minute => self.minute = value,
            Field::Second => self.second = value,
            Field::SecondOfDay => self.second_of_day = Some(value),
            Field::ZoneMinutes => self.zone_minutes = value,
            // The quarter and the day of the week say nothing that a date could be made of.
            _ => {}
        }
    }

    fn moment(&self, text: &str) -> Result<Read> {
        let out_of_range =
            || Error::DatetimeOverflow(format!("date/time field value out of range: \"{text}\""));
        let days = self.days().ok_or_else(out_of_range)?;
        let time = self.time()?.ok_or_else(out_of_range)?;
        let local =
            days.checked_mul(DAY_MICROS).and_then(|day| day.checked_add(time)).ok_or_else(out_of_range)?;
        let offset = self.zone_hours.map(|hours| {
            let seconds = (hours * 3600 + self.zone_minutes * 60) as i32;
            if self.zone_is_west { -seconds } else { seconds }
        });
        Ok(Read { local, offset })
    }

    /// Microseconds of the day; none if there is no such time.
    fn time(&self) -> Result<Option<i64>> {
        let (mut hour, mut minute, mut second) = (self.hour, self.minute, self.second);
        if let Some(seconds) = self.second_of_day {
            (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        }
        if self.on_twelve_hours || self.afternoon.is_some() {
            if !(1..=12).contains(&hour) {
                let message = format!("hour \"{hour}\" is invalid for the 12-hour clock");
                return Err(Error::InvalidDatetime(message));
            }
            hour = hour % 12 + if self.afternoon == Some(true) { 12 } else { 0 };
        }
        let exists = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
        Ok(exists.then_some((hour * 3600 + minute * 60 + second) * 1_000_000 + self.micros))
    }

    /// Days since 1970; none if there is no such day.
    fn days(&self) -> Option<i64> {
        if let Some(julian) = self.julian {
            return Some(julian - JULIAN_EPOCH);
        }
        if let Some(year) = self.iso_year {
            let start = iso_year_start(year);
            let week = self.iso_week.unwrap_or(1);
            let day = (week - 1) * 7 + self.iso_weekday.unwrap_or(1) - 1;
            return Some(start + self.iso_day_of_year.map_or(day, |day| day - 1));
        }
        let year = match (self.year, self.century) {
            (Some(year), _) if self.before_christ => 1 - year,
            (Some(year), _) => year,
            (None, Some(century)) => (century - 1) * 100 + 1,
            // The year before the first, as PostgreSQL's empty moment has it.
            (None, None) => 0,
        };
        let (month, mut day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        if let Some(of_year) = self.day_of_year.or(self.week_of_year.map(|week| (week - 1) * 7 + 1)) {
            let first = Civil { year, month: 1, day: 1 }.days();
            let length = Civil { year: year + 1, month: 1, day: 1 }.days() - first;
            return (1..=length).contains(&of_year).then_some(first + of_year - 1);
        }
        if let (Some(week), None) = (self.week_of_month, self.day) {
            day = (week - 1) * 7 + 1;
        }
        let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        let civil = Civil { year, month, day };
        let exists = (1..=12).contains(&month) && (1..=31).contains(&day);
        (exists && Civil::from_days(civil.days()) == civil).then(|| civil.days())
    }
}

/// A year of fewer than four digits is the one nearest to 2020.
fn near_2020(year: i64, digits: usize) -> i64 {
    match (digits, year) {
        (4, _) => year,
        (_, 0..70) => year + 2000,
        (_, 70..100) => year + 1900,
        (_, 100..520) => year + 2000,
        (_, 520..1000) => year + 1000,
        _ => year,
    }
}
