//! Values as text, read as PostgreSQL's input functions do.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::ScalarValue;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::number::Number;
use super::{Value, array, datetime, interval, invalid_syntax, unsupported};
use crate::error::{Error, Result};
use crate::value::output::TimeZone;
use crate::value::types::{self, oid};

/// Reads a value of the type `oid`.
pub(super) fn decode(text: &str, oid: u32, time_zone: &TimeZone) -> Result<Value> {
    let scalar = match oid {
        oid::BOOL => ScalarValue::Boolean(Some(boolean(text)?)),
        oid::INT2 => ScalarValue::Int16(Some(integer(text, oid)?)),
        oid::INT4 => ScalarValue::Int32(Some(integer(text, oid)?)),
        oid::INT8 => ScalarValue::Int64(Some(integer(text, oid)?)),
        oid::FLOAT4 => ScalarValue::Float32(Some(float(text, oid, |value: f32| value.into())?)),
        oid::FLOAT8 => ScalarValue::Float64(Some(float(text, oid, |value: f64| value)?)),
        oid::NUMERIC => {
            return Number::parse(text.trim()).map(Value::Number).ok_or_else(|| invalid_syntax(oid, text));
        }
        oid::BYTEA => ScalarValue::Binary(Some(bytea(text)?)),
        oid::DATE => ScalarValue::Date32(Some(datetime::date(text, None)?)),
        oid::TIME => ScalarValue::Time64Microsecond(Some(datetime::time(text)?)),
        oid::TIMESTAMP => ScalarValue::TimestampMicrosecond(Some(datetime::timestamp(text, None)?), None),
        oid::TIMESTAMPTZ => {
            let micros = datetime::timestamptz(text, time_zone, None)?;
            ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))
        }
        oid::INTERVAL => ScalarValue::IntervalMonthDayNano(Some(months_days_nanos(interval::parse(text)?)?)),
        oid::UUID => ScalarValue::FixedSizeBinary(16, Some(uuid(text)?.to_vec())),
        oid::JSON | oid::JSONB => json(text, oid)?,
        oid if types::is_text(oid) => ScalarValue::Utf8(Some(text.to_owned())),
        oid if types::is_unsigned(oid) => ScalarValue::UInt32(Some(integer(text, oid)?)),
        other => {
            let element = types::element_oid(other).ok_or_else(|| unsupported(other))?;
            return array::parse(text, element, time_zone);
        }
    };
    Ok(Value::Scalar(scalar))
}

/// Any beginning of the words that leaves no doubt, and 1 and 0.
pub(super) fn boolean(text: &str) -> Result<bool> {
    let word = text.trim().to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(word.as_str());
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || word == "1" {
        return Ok(true);
    }
    if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        return Ok(false);
    }
    Err(invalid_syntax(oid::BOOL, text))
}

pub(super) fn integer<T>(text: &str, oid: u32) -> Result<T>
where
    T: std::str::FromStr<Err = std::num::ParseIntError>,
{
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.trim().parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow | NegOverflow => out_of_range(oid, text),
        _ => invalid_syntax(oid, text),
    })
}

fn out_of_range(oid: u32, text: &str) -> Error {
    Error::OutOfRange(format!("value \"{text}\" is out of range for type {}", types::type_name(oid)))
}

/// A number that only becomes infinite, or zero, by rounding is out of range.
pub(super) fn float<T: std::str::FromStr + Copy>(text: &str, oid: u32, wide: impl Fn(T) -> f64) -> Result<T> {
    let trimmed = text.trim();
    let value: T = trimmed.parse().map_err(|_| invalid_syntax(oid, text))?;
    let mantissa = trimmed.split(['e', 'E']).next().unwrap_or_default();
    let has_digit =
        |digits: std::ops::RangeInclusive<char>| mantissa.chars().any(|char| digits.contains(&char));
    let overflow = wide(value).is_infinite() && has_digit('0'..='9');
    let underflow = wide(value) == 0.0 && has_digit('1'..='9');
    if overflow || underflow { Err(out_of_range(oid, text)) } else { Ok(value) }
}

/// `\x00ff`, or characters with `\\` and `\ooo`.
pub(super) fn bytea(text: &str) -> Result<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(digits) => hex_bytes(digits),
        None => unescape(text.as_bytes())
            .ok_or_else(|| Error::InvalidText("invalid input syntax for type bytea".to_owned())),
    }
}

/// Two digits a byte; blanks may stand between bytes.
fn hex_bytes(digits: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut rest = digits.chars();
    let digit = |character: char| {
        let digit = character.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        digit.ok_or_else(|| Error::InvalidParameter(format!("invalid hexadecimal digit: \"{character}\"")))
    };
    while let Some(high) = rest.next() {
        if high.is_ascii_whitespace() {
            continue;
        }
        let high = digit(high)?;
        let odd = || Error::InvalidParameter("invalid hexadecimal data: odd number of digits".to_owned());
        bytes.push(high * 16 + digit(rest.next().ok_or_else(odd)?)?);
    }
    Ok(bytes)
}

fn unescape(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let (byte, next) = match (first, tail) {
            (b'\\', [b'\\', next @ ..]) => (b'\\', next),
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', next @ ..]) => {
                (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), next)
            }
            (b'\\', _) => return None,
            (byte, next) => (*byte, next),
        };
        bytes.push(byte);
        rest = next;
    }
    Some(bytes)
}

/// Reads a uuid with or without dashes and braces.
pub(super) fn uuid(text: &str) -> Result<[u8; 16]> {
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(trimmed);
    // A dash may stand behind every fourth digit.
    let mut count = 0;
    let plain = digits.chars().all(|character| match character {
        '-' => count > 0 && count % 4 == 0,
        _ => {
            count += 1;
            character.is_ascii_hexdigit()
        }
    });
    let id = Uuid::parse_str(&digits.replace('-', "")).ok().filter(|_| plain && !digits.ends_with('-'));
    id.map(Uuid::into_bytes).ok_or_else(|| invalid_syntax(oid::UUID, text))
}

/// Json stays text, once it is sure to be json.
pub(super) fn json(text: &str, oid: u32) -> Result<ScalarValue> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| {
        Error::InvalidText(format!("invalid input syntax for type {}", types::type_name(oid)))
    })?;
    Ok(ScalarValue::Utf8(Some(text.to_owned())))
}

/// An interval as Arrow has it.
///
/// # Errors
/// [`Error::DatetimeOverflow`] when its time is longer than 292 years.
pub(super) fn months_days_nanos(
    value: crate::value::output::interval::Interval,
) -> Result<IntervalMonthDayNano> {
    let nanos = value
        .micros
        .checked_mul(1_000)
        .ok_or_else(|| Error::DatetimeOverflow("interval out of range".to_owned()))?;
    Ok(IntervalMonthDayNano::new(value.months, value.days, nanos))
}
