//! Values in PostgreSQL's binary form, read as its receive functions do.

use bytes::Buf;
use datafusion::common::ScalarValue;

use super::number::Number;
use super::{Value, array, text, unsupported, utf8};
use crate::error::{Error, Result};
use crate::value::output::datetime::{DAY_MICROS, from_binary_days, from_binary_micros};
use crate::value::output::interval::Interval;
use crate::value::types::{self, oid};

/// Reads a value of the type `oid`, which is all of `bytes`.
pub(super) fn decode(bytes: &[u8], oid: u32) -> Result<Value> {
    let mut reader = Reader(bytes);
    let value = reader.value(oid)?;
    if reader.0.has_remaining() {
        return Err(Error::InvalidBinary("incorrect binary data format in bind parameter".to_owned()));
    }
    Ok(value)
}

/// Bytes that have not been read yet.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn value(&mut self, oid: u32) -> Result<Value> {
        let scalar = match oid {
            oid::BOOL => ScalarValue::Boolean(Some(self.array::<1>()? != [0])),
            oid::INT2 => ScalarValue::Int16(Some(self.i16()?)),
            oid::INT4 => ScalarValue::Int32(Some(self.i32()?)),
            oid::INT8 => ScalarValue::Int64(Some(self.i64()?)),
            oid::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(self.array()?))),
            oid::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(self.array()?))),
            oid::NUMERIC => return Ok(Value::Number(Number::receive(self)?)),
            oid::BYTEA => ScalarValue::Binary(Some(self.rest().to_vec())),
            oid::DATE => ScalarValue::Date32(Some(from_binary_days(self.i32()?)?)),
            oid::TIME => ScalarValue::Time64Microsecond(Some(self.time()?)),
            oid::TIMESTAMP => ScalarValue::TimestampMicrosecond(Some(self.timestamp()?), None),
            oid::TIMESTAMPTZ => {
                ScalarValue::TimestampMicrosecond(Some(self.timestamp()?), Some("UTC".into()))
            }
            oid::INTERVAL => {
                let (micros, days, months) = (self.i64()?, self.i32()?, self.i32()?);
                ScalarValue::IntervalMonthDayNano(Some(text::months_days_nanos(Interval {
                    months,
                    days,
                    micros,
                })?))
            }
            oid::UUID => ScalarValue::FixedSizeBinary(16, Some(self.array::<16>()?.to_vec())),
            oid::JSON => text::json(utf8(self.rest())?, oid)?,
            oid::JSONB => self.jsonb()?,
            oid if types::is_text(oid) => ScalarValue::Utf8(Some(utf8(self.rest())?.to_owned())),
            oid if types::is_unsigned(oid) => ScalarValue::UInt32(Some(u32::from_be_bytes(self.array()?))),
            other if types::element_oid(other).is_some() => return array::receive(self),
            other => return Err(unsupported(other)),
        };
        Ok(Value::Scalar(scalar))
    }

    fn time(&mut self) -> Result<i64> {
        let micros = self.i64()?;
        if !(0..=DAY_MICROS).contains(&micros) {
            return Err(Error::DatetimeOverflow("time out of range".to_owned()));
        }
        Ok(micros)
    }

    fn timestamp(&mut self) -> Result<i64> {
        from_binary_micros(self.i64()?)
    }

    fn jsonb(&mut self) -> Result<ScalarValue> {
        match self.array::<1>()? {
            [types::JSONB_VERSION] => text::json(utf8(self.rest())?, oid::JSONB),
            [other] => Err(Error::InvalidBinary(format!("unsupported jsonb version number {other}"))),
        }
    }

    /// One item of an array: a length, then a value of just that length; -1 for null.
    pub fn item(&mut self, oid: u32) -> Result<Option<Value>> {
        let length = self.i32()?;
        let Ok(length) = usize::try_from(length) else {
            return if length == -1 {
                Ok(None)
            } else {
                Err(Error::InvalidBinary("invalid length".to_owned()))
            };
        };
        if length > self.0.len() {
            return Err(too_short());
        }
        let (item, rest) = self.0.split_at(length);
        self.0 = rest;
        decode(item, oid).map(Some)
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }
}

fn too_short() -> Error {
    Error::Protocol("insufficient data left in message".to_owned())
}
