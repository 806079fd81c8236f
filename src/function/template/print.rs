//! Printing: a moment by a template.

use std::fmt::Write;

use super::moment::{DAYS, JULIAN_EPOCH, MONTHS, Moment, ROMAN_MONTHS};
use super::pattern::{Case, Field, Node, Template};
use crate::error::{Error, Result};

impl Template {
    /// Writes a moment.
    ///
    /// # Errors
    /// [`Error::InvalidDatetime`] for a pattern that an interval has no value for.
    pub fn print(&self, moment: &Moment) -> Result<String> {
        let mut out = String::new();
        for node in &self.nodes {
            match node {
                Node::Separator(character) | Node::Text(character) => out.push(*character),
                Node::Field { field, case, fill, ordinal, .. } => {
                    let start = out.len();
                    print_field(&mut out, moment, *field, *case, *fill)?;
                    if let Some(case) = ordinal {
                        let suffix = ordinal_suffix(&out[start..]);
                        out.push_str(&cased(suffix, *case));
                    }
                }
            }
        }
        Ok(out)
    }
}

fn print_field(out: &mut String, moment: &Moment, field: Field, case: Case, fill: bool) -> Result<()> {
    if moment.days.is_none() && needs_calendar(field) {
        return Err(Error::InvalidDatetime("invalid format specification for an interval value".to_owned()));
    }
    if let Some((value, width)) = number(moment, field) {
        // The sign comes on top of the digits.
        let width = if fill { 0 } else { width + usize::from(value < 0) };
        return write!(out, "{value:0width$}")
            .map_err(|_| Error::Internal("a text was not written".to_owned()));
    }
    let month = usize::try_from(moment.month - 1).ok();
    let name = |names: &[&'static str]| month.and_then(|month| names.get(month)).copied().unwrap_or_default();
    let padded = |text: String, width: usize| if fill { text } else { format!("{text:width$}") };
    let text = match field {
        Field::MonthName => padded(cased(name(&MONTHS), case), 9),
        Field::MonthShort => cased(name(&MONTHS).get(..3).unwrap_or_default(), case),
        Field::MonthRoman => padded(cased(name(&ROMAN_MONTHS), case), 4),
        Field::DayName => padded(cased(DAYS[moment.weekday() as usize], case), 9),
        Field::DayShort => cased(&DAYS[moment.weekday() as usize][..3], case),
        Field::HalfOfDay => cased(if moment.hour % 24 < 12 { "AM" } else { "PM" }, case),
        Field::HalfOfDayDotted => cased(if moment.hour % 24 < 12 { "A.M." } else { "P.M." }, case),
        Field::Era => cased(if moment.year > 0 { "AD" } else { "BC" }, case),
        Field::EraDotted => cased(if moment.year > 0 { "A.D." } else { "B.C." }, case),
        Field::YearWithComma => {
            let year = moment.shown_year();
            format!("{},{:03}", year / 1000, year % 1000)
        }
        Field::Zone => cased(moment.zone.as_ref().map_or("", |(_, name)| name), case),
        Field::ZoneHours | Field::ZoneMinutes | Field::Offset => offset(moment, field),
        _ => String::new(),
    };
    out.push_str(&text);
    Ok(())
}

/// Patterns that say nothing of an interval.
fn needs_calendar(field: Field) -> bool {
    use Field::*;
    matches!(
        field,
        Era | EraDotted
            | DayName
            | DayShort
            | Weekday
            | IsoWeekday
            | IsoDayOfYear
            | IsoWeek
            | IsoYear(_)
            | Zone
            | ZoneHours
            | ZoneMinutes
            | Offset
    )
}

/// The number that a pattern stands for, and its width in digits.
fn number(moment: &Moment, field: Field) -> Option<(i64, usize)> {
    let year = moment.shown_year();
    let (iso_year, iso_week) = moment.iso_week();
    let iso_year = if iso_year > 0 { iso_year } else { 1 - iso_year };
    Some(match field {
        Field::Year(4) => (year, 4),
        Field::Year(digits) => (year % 10_i64.pow(digits as u32), digits),
        Field::IsoYear(4) => (iso_year, 4),
        Field::IsoYear(digits) => (iso_year % 10_i64.pow(digits as u32), digits),
        Field::Century if moment.days.is_none() => (moment.year / 100, 2),
        Field::Century if moment.year > 0 => ((moment.year - 1) / 100 + 1, 2),
        Field::Century => (moment.year / 100 - 1, 2),
        Field::Quarter => ((moment.month - 1) / 3 + 1, 1),
        Field::Month => (moment.month, 2),
        Field::WeekOfYear => ((moment.day_of_year() - 1) / 7 + 1, 2),
        Field::WeekOfMonth => ((moment.day - 1) / 7 + 1, 1),
        Field::IsoWeek => (iso_week, 2),
        Field::DayOfYear => (moment.day_of_year(), 3),
        Field::IsoDayOfYear => (moment.iso_day_of_year(), 3),
        Field::Day => (moment.day, 2),
        Field::Weekday => (moment.weekday() + 1, 1),
        Field::IsoWeekday => ((moment.weekday() + 6) % 7 + 1, 1),
        Field::Julian => (moment.days.unwrap_or(moment.day_of_year()) + JULIAN_EPOCH, 1),
        Field::Hour12 if moment.hour % 12 == 0 => (12, 2),
        Field::Hour12 => (moment.hour % 12, 2),
        Field::Hour24 => (moment.hour, 2),
        Field::Minute => (moment.minute, 2),
        Field::Second => (moment.second, 2),
        Field::Fraction(digits) => return fraction(moment.micros, digits),
        Field::SecondOfDay => (moment.hour * 3600 + moment.minute * 60 + moment.second, 1),
        _ => return None,
    })
}

fn fraction(micros: i64, digits: usize) -> Option<(i64, usize)> {
    Some((micros / 10_i64.pow(6 - digits as u32), digits))
}

fn offset(moment: &Moment, field: Field) -> String {
    let seconds = moment.zone.as_ref().map_or(0, |(seconds, _)| *seconds);
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    match field {
        Field::ZoneHours => format!("{sign}{hours:02}"),
        Field::ZoneMinutes => format!("{minutes:02}"),
        _ if minutes == 0 => format!("{sign}{hours:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}"),
    }
}

fn cased(text: &str, case: Case) -> String {
    match case {
        Case::Upper => text.to_uppercase(),
        Case::Lower => text.to_lowercase(),
        Case::Capital => text.to_owned(),
    }
}

/// `ST`, `ND`, `RD` or `TH` for a number.
pub(super) fn ordinal_suffix(digits: &str) -> &'static str {
    let digits = digits.trim_end().as_bytes();
    let is_teen = digits.len() > 1 && digits[digits.len() - 2] == b'1';
    match digits.last() {
        Some(b'1') if !is_teen => "ST",
        Some(b'2') if !is_teen => "ND",
        Some(b'3') if !is_teen => "RD",
        _ => "TH",
    }
}
