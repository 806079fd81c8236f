//! Input: texts and bytes as scalars, such as the values of a Bind message.
//!
//! A value arrives as the type that the client declared, or, when it declared none, as the type that
//! the statement gives the parameter. It is read as that type ([`text`], [`binary`]) and then fitted
//! to the statement's. Which type a parameter has is decided by the planner and by
//! [`arrow_type`](super::types::arrow_type).

mod array;
mod binary;
mod column;
mod datetime;
mod interval;
mod number;
#[cfg(test)]
mod tests;
mod text;

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::ScalarValue;
use uuid::Uuid;

pub(crate) use self::column::ColumnReader;
use self::number::Number;
use super::output::{DateOrder, TimeZone};
use super::types::{self, Format, oid};
use crate::error::{Error, Result};

/// Reads the texts of an array of one dimension: `{a,NULL,"b,c"}`.
///
/// # Errors
/// [`Error::InvalidText`].
pub fn texts(written: &str) -> Result<Vec<Option<String>>> {
    let malformed = || Error::InvalidText(format!("malformed array literal: \"{written}\""));
    let Value::Array(items) = array::parse(written, oid::TEXT, &TimeZone::utc())? else {
        return Err(malformed());
    };
    let text = |item: Option<Value>| match item {
        None => Ok(None),
        Some(Value::Scalar(ScalarValue::Utf8(text))) => Ok(text),
        Some(_) => Err(malformed()),
    };
    items.into_iter().map(text).collect()
}

/// Reads one parameter.
///
/// `data_type` is the statement's type for it, `Null` if the statement does not say; `oid` is the type
/// that the client declared, 0 or 705 for none. Timestamps without a zone are read in `time_zone`.
///
/// The result is of `data_type`, but for a numeric with more digits than that holds: it keeps its
/// digits, in a decimal of its own precision and scale, as PostgreSQL's parameters do.
///
/// # Errors
/// [`Error::InvalidText`], [`Error::InvalidDatetime`] for a text that is no such value;
/// [`Error::InvalidBinary`] for bytes that are none, [`Error::Protocol`] when there are too few;
/// [`Error::OutOfRange`], [`Error::DatetimeOverflow`] beyond the type;
/// [`Error::InvalidEncoding`] for a text that is not UTF-8;
/// [`Error::Unsupported`] for a declared type that cannot be read.
pub fn decode_parameter(
    data_type: &DataType,
    oid: u32,
    format: Format,
    bytes: Option<&[u8]>,
    time_zone: &TimeZone,
) -> Result<ScalarValue> {
    let oid = match (oid, data_type) {
        (0 | oid::UNKNOWN, DataType::Null) => oid::TEXT,
        // The type alone does not tell uuids from bytes; in binary they are alike, as text a uuid is likelier.
        (0 | oid::UNKNOWN, DataType::FixedSizeBinary(16)) => oid::UUID,
        (0 | oid::UNKNOWN, known) => types::pg_type_of(known).oid,
        (declared, _) => declared,
    };
    let target = match data_type {
        DataType::Null => types::arrow_type(oid, -1).unwrap_or(DataType::Utf8),
        known => known.clone(),
    };
    let Some(bytes) = bytes else { return Ok(ScalarValue::try_new_null(&target)?) };
    let value = match format {
        Format::Text => text::decode(utf8(bytes)?, oid, time_zone)?,
        Format::Binary => binary::decode(bytes, oid)?,
    };
    value.fit(&target, time_zone)
}

/// Reads a date as days since 1970. Fields whose order the text does not tell are in that of `order`.
///
/// # Errors
/// [`Error::InvalidDatetime`], [`Error::DatetimeOverflow`].
pub fn date(text: &str, order: DateOrder) -> Result<i32> {
    datetime::date(text, Some(order))
}

/// Reads a time of day as microseconds.
///
/// # Errors
/// As [`date`].
pub fn time(text: &str) -> Result<i64> {
    datetime::time(text)
}

/// Reads a timestamp as microseconds since 1970.
///
/// # Errors
/// As [`date`].
pub fn timestamp(text: &str, order: DateOrder) -> Result<i64> {
    datetime::timestamp(text, Some(order))
}

/// Reads a timestamp as microseconds since 1970 in UTC; without a zone of its own, it is in `time_zone`.
///
/// # Errors
/// As [`date`].
pub fn timestamptz(text: &str, time_zone: &TimeZone, order: DateOrder) -> Result<i64> {
    datetime::timestamptz(text, time_zone, Some(order))
}

/// What the clock in `time_zone` shows at an instant, both in microseconds since 1970.
pub fn to_local(micros: i64, time_zone: &TimeZone) -> i64 {
    datetime::to_local(micros, time_zone)
}

/// The instant at which the clock in `time_zone` shows a time, both in microseconds since 1970.
///
/// # Errors
/// [`Error::DatetimeOverflow`].
pub fn to_utc(local: i64, time_zone: &TimeZone) -> Result<i64> {
    datetime::to_utc(local, time_zone)
}

/// Reads an interval.
///
/// # Errors
/// As [`date`].
pub fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    text::months_days_nanos(interval::parse(text)?)
}

/// Reads bytes in the hex format or the escape format.
///
/// # Errors
/// [`Error::InvalidText`].
pub fn bytea(text: &str) -> Result<Vec<u8>> {
    text::bytea(text)
}

/// Reads a uuid with or without dashes and braces.
///
/// # Errors
/// [`Error::InvalidText`].
pub fn uuid(text: &str) -> Result<[u8; 16]> {
    text::uuid(text)
}

/// A value as the client declared it.
enum Value {
    Scalar(ScalarValue),
    Number(Number),
    /// An array; `None` is a null.
    Array(Vec<Option<Value>>),
}

impl Value {
    /// Turns it into a scalar of the type `target`.
    fn fit(self, target: &DataType, time_zone: &TimeZone) -> Result<ScalarValue> {
        match self {
            Self::Number(number) => number.fit(target),
            Self::Array(items) => array::fit(items, target, time_zone),
            Self::Scalar(scalar) => fit_scalar(scalar, target, time_zone),
        }
    }
}

fn fit_scalar(scalar: ScalarValue, target: &DataType, time_zone: &TimeZone) -> Result<ScalarValue> {
    if scalar.data_type() == *target {
        return Ok(scalar);
    }
    let scalar = match (scalar, target) {
        (ScalarValue::Utf8(Some(text)), _) => return fit_text(text, target, time_zone),
        (
            ScalarValue::FixedSizeBinary(16, Some(bytes)),
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8,
        ) => {
            let id = Uuid::from_slice(&bytes).map_err(|error| Error::InvalidBinary(error.to_string()))?;
            ScalarValue::Utf8(Some(id.to_string()))
        }
        (
            ScalarValue::TimestampMicrosecond(Some(micros), Some(_)),
            DataType::Timestamp(_, None) | DataType::Date32,
        ) => ScalarValue::TimestampMicrosecond(Some(datetime::to_local(micros, time_zone)), None),
        (ScalarValue::TimestampMicrosecond(Some(micros), None), DataType::Timestamp(_, Some(_))) => {
            ScalarValue::TimestampMicrosecond(Some(datetime::to_utc(micros, time_zone)?), Some("UTC".into()))
        }
        (date @ ScalarValue::Date32(Some(_)), DataType::Timestamp(_, Some(_))) => {
            let local = date.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None))?;
            return fit_scalar(local, target, time_zone);
        }
        (scalar, _) => scalar,
    };
    Ok(scalar.cast_to(target)?)
}

/// A string stays one where the statement wants one; else it is read as what the statement wants.
fn fit_text(text: String, target: &DataType, time_zone: &TimeZone) -> Result<ScalarValue> {
    let target = match target {
        DataType::Dictionary(_, values) => values,
        other => other,
    };
    match target {
        DataType::Utf8View => return Ok(ScalarValue::Utf8View(Some(text))),
        DataType::LargeUtf8 => return Ok(ScalarValue::LargeUtf8(Some(text))),
        DataType::Utf8 | DataType::Null => return Ok(ScalarValue::Utf8(Some(text))),
        DataType::FixedSizeBinary(16) => {
            return Ok(ScalarValue::FixedSizeBinary(16, Some(text::uuid(&text)?.to_vec())));
        }
        _ => {}
    }
    let wanted = types::pg_type_of(target).oid;
    if types::is_text(wanted) {
        return Err(Error::DatatypeMismatch(format!("a string cannot be a value of type {target}")));
    }
    text::decode(&text, wanted, time_zone)?.fit(target, time_zone)
}

/// The text of a value.
fn utf8(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|error| invalid_encoding(bytes, error.valid_up_to()))?;
    match text.bytes().position(|byte| byte == 0) {
        Some(at) => Err(invalid_encoding(bytes, at)),
        None => Ok(text),
    }
}

fn invalid_encoding(bytes: &[u8], at: usize) -> Error {
    let byte = bytes.get(at).copied().unwrap_or_default();
    Error::InvalidEncoding(format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"))
}

/// PostgreSQL's words for a text that is no value of the type.
fn invalid_syntax(oid: u32, text: &str) -> Error {
    Error::InvalidText(format!("invalid input syntax for type {}: \"{text}\"", types::type_name(oid)))
}

fn unsupported(oid: u32) -> Error {
    Error::Unsupported(format!("parameters of type {} cannot be read", types::type_name(oid)))
}
