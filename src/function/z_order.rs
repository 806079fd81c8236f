//! Z-order: one number out of several columns, so that rows that are near in all are near in it.
//!
//! Each value becomes 32 bits, by where it lies between the least and the greatest of its column; the
//! bits of all columns are interleaved, the highest first. Texts and bytes lie where their first eight
//! bytes do, behind those that all have in common. Nulls come last.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;

/// Bytes of a text that count.
const TEXT_BYTES: usize = 8;

/// Where the values of a column lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Bytes that all texts begin with.
    prefix: usize,
    least: f64,
    greatest: f64,
}

impl Eq for Span {}

impl std::hash::Hash for Span {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.prefix, self.least.to_bits(), self.greatest.to_bits()).hash(state);
    }
}

impl Span {
    /// The span from one value to another, of a column of this type; all values are alike without them.
    ///
    /// # Errors
    /// [`Error::DatatypeMismatch`] for a type without order.
    pub fn of(data_type: &DataType, ends: Option<(&ScalarValue, &ScalarValue)>) -> Result<Self, Error> {
        if data_type.is_nested() {
            return Err(Error::DatatypeMismatch(format!("a column of type {data_type} has no Z-order")));
        }
        let Some((least, greatest)) = ends else { return Ok(Self { prefix: 0, least: 0.0, greatest: 0.0 }) };
        let (least, greatest) = (least.to_array()?, greatest.to_array()?);
        let prefix = match (bytes_of(&least)?, bytes_of(&greatest)?) {
            (Some(least), Some(greatest)) => {
                let (least, greatest) =
                    (least.as_binary::<i32>().value(0), greatest.as_binary::<i32>().value(0));
                least.iter().zip(greatest).take_while(|(a, b)| a == b).count()
            }
            _ => 0,
        };
        let number = |end: &ArrayRef| Ok::<_, Error>(numbers(end, prefix)?.value(0));
        Ok(Self { prefix, least: number(&least)?, greatest: number(&greatest)? })
    }

    /// Where a value lies, from 0 to the greatest number.
    fn place(&self, value: f64) -> u32 {
        let share = (value - self.least) / (self.greatest - self.least);
        // Also for a span without length, and for NaN, which stands behind all numbers.
        if share.is_nan() { if value.is_nan() { u32::MAX - 1 } else { 0 } } else { scaled(share) }
    }
}

fn scaled(share: f64) -> u32 {
    // The cast cuts at both ends; nulls have the last place for themselves.
    (share * f64::from(u32::MAX - 1)) as u32
}

/// The function of the columns that lie in these spans.
pub fn z_order(spans: Vec<Span>) -> ScalarUDF {
    ScalarUDF::from(ZOrder { signature: Signature::variadic_any(Volatility::Immutable), spans })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ZOrder {
    signature: Signature,
    spans: Vec<Span>,
}

impl ZOrder {
    fn width(&self) -> i32 {
        i32::try_from(self.spans.len() * size_of::<u32>()).unwrap_or(i32::MAX)
    }
}

impl ScalarUDFImpl for ZOrder {
    fn name(&self) -> &'static str {
        "z_order"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(self.width()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut places = Vec::with_capacity(self.spans.len());
        for (argument, span) in args.args.iter().zip(&self.spans) {
            let column = argument.to_array(rows)?;
            let numbers = numbers(&column, span.prefix)?;
            let place = |row| if numbers.is_null(row) { u32::MAX } else { span.place(numbers.value(row)) };
            places.push((0..rows).map(place).collect::<Vec<u32>>());
        }
        let mut keys = FixedSizeBinaryBuilder::with_capacity(rows, self.width());
        let mut key = vec![0; places.len() * size_of::<u32>()];
        for row in 0..rows {
            interleave(places.iter().map(|column| column[row]), &mut key);
            keys.append_value(&key)?;
        }
        Ok(ColumnarValue::Array(Arc::new(keys.finish())))
    }
}

/// Deals the bits of `numbers` out in turn, the highest of each first.
fn interleave(numbers: impl ExactSizeIterator<Item = u32> + Clone, key: &mut [u8]) {
    key.fill(0);
    let count = numbers.len();
    for (at, number) in numbers.enumerate() {
        for bit in 0..32 {
            if number >> (31 - bit) & 1 == 1 {
                let place = bit * count + at;
                key[place / 8] |= 0x80 >> (place % 8);
            }
        }
    }
}

/// The values as numbers in the same order, as far as they tell one from another.
fn numbers(column: &ArrayRef, prefix: usize) -> Result<Float64Array, Error> {
    if let Some(bytes) = bytes_of(column)? {
        let number = |text: &[u8]| {
            let tail = text.get(prefix..).unwrap_or_default();
            let first = tail.iter().copied().chain(std::iter::repeat(0)).take(TEXT_BYTES);
            first.fold(0.0, |number, byte| number * 256.0 + f64::from(byte))
        };
        return Ok(bytes.as_binary::<i32>().iter().map(|text| text.map(number)).collect());
    }
    let plain = match column.data_type() {
        DataType::Date32 | DataType::Time32(_) => cast(column, &DataType::Int32)?,
        DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Duration(_) => {
            cast(column, &DataType::Int64)?
        }
        DataType::Boolean => cast(column, &DataType::UInt8)?,
        _ => Arc::clone(column),
    };
    Ok(cast(&plain, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// Texts and bytes as bytes; none for a column of anything else.
fn bytes_of(column: &ArrayRef) -> Result<Option<ArrayRef>, Error> {
    let texts = match column.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => cast(column, &DataType::Utf8)?,
        DataType::Utf8 | DataType::Binary => Arc::clone(column),
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            cast(column, &DataType::Binary)?
        }
        _ => return Ok(None),
    };
    Ok(Some(cast(&texts, &DataType::Binary)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn bits_are_dealt_out_in_turn() {
        let mut key = [0; 8];
        interleave([0b11 << 30, 0b01 << 30].into_iter(), &mut key);
        assert_eq!(key, [0b1011_0000, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn values_keep_their_order_and_nulls_come_last() {
        let ends = (ScalarValue::from(-5_i64), ScalarValue::from(1_i64 << 40));
        let span = Span::of(&DataType::Int64, Some((&ends.0, &ends.1))).unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from(vec![-5, 0, 1 << 20, 1 << 39, 1 << 40]));
        let places: Vec<u32> =
            numbers(&column, 0).unwrap().iter().flatten().map(|one| span.place(one)).collect();
        assert!(places.is_sorted() && places[0] == 0 && places[4] == u32::MAX - 1, "{places:?}");
        assert!(places[3] > places[2]);
    }

    #[test]
    fn what_texts_have_in_common_does_not_count() {
        let ends = (ScalarValue::from("https://a.example/1"), ScalarValue::from("https://z.example/9"));
        let span = Span::of(&DataType::Utf8, Some((&ends.0, &ends.1))).unwrap();
        assert_eq!(span.prefix, 8);
        let column: ArrayRef = Arc::new(StringArray::from(vec!["https://b", "https://m", "https://y"]));
        let places: Vec<u32> =
            numbers(&column, 8).unwrap().iter().flatten().map(|one| span.place(one)).collect();
        assert!(places[0] < places[1] && places[1] < places[2], "{places:?}");
        assert!(Span::of(&DataType::new_list(DataType::Int32, true), None).is_err());
    }
}
