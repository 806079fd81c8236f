//! Columns: values that come one after another, as text or in binary, into one Arrow array.
//!
//! The array's type is looked at once a value; the common types are read straight into their buffers,
//! the rest by way of scalars.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::*;
use datafusion::common::ScalarValue;

use super::number::Number;
use super::{Value, binary, text, utf8};
use crate::error::{Error, Result};
use crate::value::output::datetime::{Civil, from_binary_days, from_binary_micros};
use crate::value::output::{DateOrder, TimeZone};
use crate::value::types::{self, oid};

/// Digits that a decimal of 128 bits holds.
const DIGITS_MAX: usize = 38;

/// Reads the values of one column.
#[derive(Debug)]
pub(crate) struct ColumnReader {
    data_type: DataType,
    oid: u32,
    time_zone: TimeZone,
    order: DateOrder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBuilder),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Decimal(PrimitiveBuilder<Decimal128Type>),
    Date(PrimitiveBuilder<Date32Type>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    /// Values of a type whose lists have no metadata, as scalars have none.
    Other(DataType, Vec<ScalarValue>),
}

impl ColumnReader {
    /// Reads values for a column of `field`'s type; timestamps without a zone are in
    /// `time_zone`, and dates whose order is not plain in `order`.
    pub fn new(field: &Field, time_zone: TimeZone, order: DateOrder) -> Self {
        let data_type = field.data_type().clone();
        let oid = match data_type {
            DataType::FixedSizeBinary(16) => oid::UUID,
            _ => types::pg_type(field).oid,
        };
        let values = match (&data_type, oid) {
            (DataType::Boolean, _) => Values::Boolean(BooleanBuilder::new()),
            (DataType::Int16, oid::INT2) => Values::Int16(PrimitiveBuilder::new()),
            (DataType::Int32, oid::INT4) => Values::Int32(PrimitiveBuilder::new()),
            (DataType::Int64, oid::INT8) => Values::Int64(PrimitiveBuilder::new()),
            (DataType::Float32, _) => Values::Float32(PrimitiveBuilder::new()),
            (DataType::Float64, _) => Values::Float64(PrimitiveBuilder::new()),
            (DataType::Decimal128(..), _) => Values::Decimal(PrimitiveBuilder::new()),
            (DataType::Date32, _) => Values::Date(PrimitiveBuilder::new()),
            (DataType::Timestamp(TimeUnit::Microsecond, _), _) => Values::Timestamp(PrimitiveBuilder::new()),
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, oid) if types::is_text(oid) => {
                Values::Text(StringBuilder::new())
            }
            (DataType::Binary | DataType::LargeBinary | DataType::BinaryView, _) => {
                Values::Bytes(BinaryBuilder::new())
            }
            _ => Values::Other(bare(&data_type), Vec::new()),
        };
        Self { data_type, oid, time_zone, order, values }
    }

    pub fn push_null(&mut self) -> Result<()> {
        match &mut self.values {
            Values::Boolean(builder) => builder.append_null(),
            Values::Int16(builder) => builder.append_null(),
            Values::Int32(builder) => builder.append_null(),
            Values::Int64(builder) => builder.append_null(),
            Values::Float32(builder) => builder.append_null(),
            Values::Float64(builder) => builder.append_null(),
            Values::Decimal(builder) => builder.append_null(),
            Values::Date(builder) => builder.append_null(),
            Values::Timestamp(builder) => builder.append_null(),
            Values::Text(builder) => builder.append_null(),
            Values::Bytes(builder) => builder.append_null(),
            Values::Other(bare, values) => values.push(ScalarValue::try_new_null(bare)?),
        }
        Ok(())
    }

    /// Reads a value as the type's input function does.
    ///
    /// # Errors
    /// As [`decode_parameter`](super::decode_parameter).
    pub fn push_text(&mut self, value: &str) -> Result<()> {
        match &mut self.values {
            Values::Boolean(builder) => builder.append_value(text::boolean(value)?),
            Values::Int16(builder) => builder.append_value(text::integer(value, self.oid)?),
            Values::Int32(builder) => builder.append_value(text::integer(value, self.oid)?),
            Values::Int64(builder) => builder.append_value(text::integer(value, self.oid)?),
            Values::Float32(builder) => builder.append_value(text::float(value, self.oid, f64::from)?),
            Values::Float64(builder) => {
                builder.append_value(text::float(value, self.oid, |value: f64| value)?);
            }
            Values::Decimal(builder) => builder.append_value(decimal_of(value, &self.data_type)?),
            Values::Date(builder) => builder.append_value(match iso_date(value.as_bytes()) {
                Some(days) => days,
                None => super::date(value, self.order)?,
            }),
            Values::Timestamp(builder) => builder.append_value(match self.data_type {
                DataType::Timestamp(_, None) => super::timestamp(value, self.order)?,
                _ => super::timestamptz(value, &self.time_zone, self.order)?,
            }),
            Values::Text(builder) => {
                if matches!(self.oid, oid::JSON | oid::JSONB) {
                    text::json(value, self.oid)?;
                }
                builder.append_value(value);
            }
            Values::Bytes(builder) => builder.append_value(text::bytea(value)?),
            Values::Other(..) => {
                let value = text::decode(value, self.oid, &self.time_zone)?;
                self.push_other(value)?;
            }
        }
        Ok(())
    }

    /// Reads a value as the type's receive function does.
    ///
    /// # Errors
    /// As [`decode_parameter`](super::decode_parameter).
    pub fn push_binary(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.values {
            Values::Boolean(builder) => builder.append_value(fixed::<1>(bytes)? != [0]),
            Values::Int16(builder) => builder.append_value(i16::from_be_bytes(fixed(bytes)?)),
            Values::Int32(builder) => builder.append_value(i32::from_be_bytes(fixed(bytes)?)),
            Values::Int64(builder) => builder.append_value(i64::from_be_bytes(fixed(bytes)?)),
            Values::Float32(builder) => builder.append_value(f32::from_be_bytes(fixed(bytes)?)),
            Values::Float64(builder) => builder.append_value(f64::from_be_bytes(fixed(bytes)?)),
            Values::Date(builder) => {
                builder.append_value(from_binary_days(i32::from_be_bytes(fixed(bytes)?))?);
            }
            Values::Timestamp(builder) => {
                builder.append_value(from_binary_micros(i64::from_be_bytes(fixed(bytes)?))?);
            }
            Values::Decimal(builder) => match binary::decode(bytes, self.oid)? {
                Value::Number(number) => builder.append_value(rounded(number, &self.data_type)?),
                _ => return Err(Error::Internal("a numeric is a number".to_owned())),
            },
            Values::Text(builder) if !matches!(self.oid, oid::JSON | oid::JSONB) => {
                builder.append_value(utf8(bytes)?);
            }
            Values::Text(builder) => match binary::decode(bytes, self.oid)? {
                Value::Scalar(ScalarValue::Utf8(Some(json))) => builder.append_value(json),
                _ => return Err(Error::Internal("json is a text".to_owned())),
            },
            Values::Bytes(builder) => builder.append_value(bytes),
            Values::Other(..) => {
                let value = binary::decode(bytes, self.oid)?;
                self.push_other(value)?;
            }
        }
        Ok(())
    }

    fn push_other(&mut self, value: Value) -> Result<()> {
        if let Values::Other(bare, values) = &mut self.values {
            values.push(value.fit(bare, &self.time_zone)?);
        }
        Ok(())
    }

    /// Takes the values read so far as one array.
    ///
    /// # Errors
    /// What the cast to the column's type refuses.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let wanted = &self.data_type;
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(builder) => Arc::new(builder.finish()),
            Values::Int16(builder) => Arc::new(builder.finish()),
            Values::Int32(builder) => Arc::new(builder.finish()),
            Values::Int64(builder) => Arc::new(builder.finish()),
            Values::Float32(builder) => Arc::new(builder.finish()),
            Values::Float64(builder) => Arc::new(builder.finish()),
            Values::Decimal(builder) => Arc::new(builder.finish().with_data_type(wanted.clone())),
            Values::Date(builder) => Arc::new(builder.finish()),
            Values::Timestamp(builder) => Arc::new(builder.finish().with_data_type(wanted.clone())),
            Values::Text(builder) => Arc::new(builder.finish()),
            Values::Bytes(builder) => Arc::new(builder.finish()),
            Values::Other(_, values) if values.is_empty() => new_empty_array(wanted),
            Values::Other(_, values) => ScalarValue::iter_to_array(std::mem::take(values))?,
        };
        if array.data_type() == wanted { Ok(array) } else { Ok(cast(&array, wanted)?) }
    }
}

/// A type without the metadata of the fields within.
fn bare(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(element) => {
            DataType::List(Arc::new(Field::new_list_field(bare(element.data_type()), true)))
        }
        other => other.clone(),
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    let wrong = |_| Error::InvalidBinary("incorrect binary data format".to_owned());
    bytes.try_into().map_err(wrong)
}

/// Reads `2013-01-02` and nothing else; a day that no calendar has is left to the thorough way.
fn iso_date(text: &[u8]) -> Option<i32> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = text else { return None };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_u32, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u32::from(**digit - b'0'))
        })
    };
    let (year, month, day) = (number(&[y0, y1, y2, y3])?, number(&[m0, m1])?, number(&[d0, d1])?);
    let plain = year > 0 && (1..=12).contains(&month) && (1..=28).contains(&day);
    let civil = Civil { year: i64::from(year), month, day };
    if plain { i32::try_from(civil.days()).ok() } else { None }
}

/// Reads a numeric as a column's decimal, rounded to its scale.
fn decimal_of(value: &str, data_type: &DataType) -> Result<i128> {
    if let Some(unscaled) = short_decimal(value.as_bytes(), data_type) {
        return Ok(unscaled);
    }
    let number = Number::parse(value.trim()).ok_or_else(|| super::invalid_syntax(oid::NUMERIC, value))?;
    rounded(number, data_type)
}

/// Reads `-12.50` where the column holds every digit.
fn short_decimal(text: &[u8], data_type: &DataType) -> Option<i128> {
    let DataType::Decimal128(precision, scale) = *data_type else { return None };
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 || !digits[0].is_ascii_digit() {
        return None;
    }
    let (mut sum, mut fraction) = (0_i64, None);
    for byte in digits {
        match byte {
            b'0'..=b'9' => sum = sum * 10 + i64::from(byte - b'0'),
            b'.' if fraction.is_none() => {
                fraction = Some(0);
                continue;
            }
            _ => return None,
        }
        fraction = fraction.map(|count: u32| count + 1);
    }
    let zeros = u32::try_from(scale).ok()?.checked_sub(fraction.unwrap_or(0))?;
    let unscaled = i128::from(sum).checked_mul(10_i128.checked_pow(zeros)?)?;
    let fits = unscaled < 10_i128.checked_pow(u32::from(precision))?;
    fits.then_some(if negative { -unscaled } else { unscaled })
}

/// A number at a column's scale.
fn rounded(number: Number, data_type: &DataType) -> Result<i128> {
    let DataType::Decimal128(precision, scale) = *data_type else {
        return Err(Error::Internal(format!("{data_type} is no decimal")));
    };
    let overflow = || {
        let integral = i32::from(precision) - i32::from(scale);
        Error::OutOfRange(format!(
            "numeric field overflow: a field with precision {precision}, scale {scale} must round to an \
             absolute value less than 10^{integral}"
        ))
    };
    let scale = usize::try_from(scale).map_err(|_| overflow())?;
    let number = number.at_scale(scale);
    if !number.is_finite() || number.digits() > usize::from(precision).min(DIGITS_MAX) {
        return Err(overflow());
    }
    number.unscaled().and_then(i256::to_i128).ok_or_else(overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data_type: DataType, texts: &[Option<&str>]) -> Result<Vec<Option<String>>> {
        let mut reader =
            ColumnReader::new(&Field::new("c", data_type, true), TimeZone::utc(), DateOrder::Mdy);
        for text in texts {
            match text {
                Some(text) => reader.push_text(text)?,
                None => reader.push_null()?,
            }
        }
        let texts = cast(&reader.finish()?, &DataType::Utf8)?;
        Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
    }

    fn one(data_type: DataType, text: &str) -> String {
        match read(data_type, &[Some(text)]) {
            Ok(values) => values[0].clone().unwrap_or_default(),
            Err(error) => error.sqlstate().to_owned(),
        }
    }

    #[test]
    fn texts_become_columns() {
        let numbers = read(DataType::Int32, &[Some("1"), None, Some(" -7 ")]).unwrap();
        assert_eq!(numbers, [Some("1".to_owned()), None, Some("-7".to_owned())]);
        assert_eq!(one(DataType::Int16, "40000"), "22003");
        assert_eq!(one(DataType::Int64, "x"), "22P02");
        assert_eq!(one(DataType::Boolean, "on"), "true");
        assert_eq!(one(DataType::Date32, "2013-02-28"), "2013-02-28");
        assert_eq!(one(DataType::Date32, "2012-02-29"), "2012-02-29");
        assert_eq!(one(DataType::Date32, "2013-02-29"), "22008");
        assert_eq!(one(DataType::Date32, "today?"), "22007");
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
        assert_eq!(one(list, "{1,NULL,3}"), "[1, , 3]");
    }

    #[test]
    fn decimals_round_to_their_column() {
        let price = DataType::Decimal128(5, 2);
        for (text, wanted) in [
            ("12.5", "12.50"),
            ("-0.005", "-0.01"),
            ("1e2", "100.00"),
            ("999.99", "999.99"),
            ("999.994", "999.99"),
            ("0000000000000000001.1", "1.10"),
            (" 7 ", "7.00"),
            ("999.995", "22003"),
            ("1000", "22003"),
            ("NaN", "22003"),
            ("1.2.3", "22P02"),
            ("-", "22P02"),
        ] {
            assert_eq!(one(price.clone(), text), wanted, "{text}");
        }
    }

    #[test]
    fn binary_values_have_their_length() {
        let mut reader =
            ColumnReader::new(&Field::new("c", DataType::Int64, true), TimeZone::utc(), DateOrder::Mdy);
        reader.push_binary(&(-5_i64).to_be_bytes()).unwrap();
        assert_eq!(reader.push_binary(&5_i32.to_be_bytes()).unwrap_err().sqlstate(), "22P03");
        assert_eq!(reader.finish().unwrap().as_primitive::<Int64Type>().values(), &[-5]);
    }
}
