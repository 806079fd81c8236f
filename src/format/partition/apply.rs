//! What each transform computes, a column at a time.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    Utf8Type,
};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Date32Array, GenericByteArray, Int32Array, Int64Array,
    PrimitiveArray, new_null_array,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};

use super::murmur3::{hash_bytes, hash_long};
use super::{Transform, is_timestamp};
use crate::error::{Error, Result};

const SECONDS_A_DAY: i64 = 86_400;

impl Transform {
    /// Computes the partition value of each value of a column; null becomes null.
    ///
    /// Timestamps with a zone are taken in UTC, those finer than microseconds are hashed as microseconds.
    /// Costs one pass; identity costs nothing.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the transform is not
    /// defined for the column's type.
    pub fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let result_type = self.result_type(values.data_type())?;
        match self {
            Self::Identity => Ok(Arc::clone(values)),
            Self::Void => Ok(new_null_array(&result_type, values.len())),
            Self::Year => {
                Ok(Arc::new(days(values)?.unary::<_, Int32Type>(|day| months_of_day(day).div_euclid(12))))
            }
            Self::Month => Ok(Arc::new(days(values)?.unary::<_, Int32Type>(months_of_day))),
            Self::Day => Ok(Arc::new(days(values)?)),
            Self::Hour => hours(values),
            Self::Bucket(buckets) => bucket(values, *buckets),
            Self::Truncate(width) => truncate(values, *width),
        }
    }
}

pub(super) fn can_hash(source: &DataType) -> bool {
    use DataType::{
        Date32, Decimal128, FixedSizeBinary, Int8, Int16, Int32, Int64, Time64, UInt8, UInt16, UInt32,
    };
    matches!(
        source,
        Int8 | Int16
            | Int32
            | Int64
            | UInt8
            | UInt16
            | UInt32
            | Date32
            | Decimal128(_, _)
            | FixedSizeBinary(_)
    ) || matches!(source, Time64(TimeUnit::Microsecond))
        || is_timestamp(source)
        || is_bytes(source)
}

pub(super) fn can_truncate(source: &DataType) -> bool {
    use DataType::{Decimal128, Int8, Int16, Int32, Int64};
    matches!(source, Int8 | Int16 | Int32 | Int64 | Decimal128(_, _)) || is_bytes(source)
}

fn is_bytes(source: &DataType) -> bool {
    is_text(source) || matches!(source, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn is_text(source: &DataType) -> bool {
    matches!(source, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Days since 1970-01-01, rounded down also before it.
fn days(values: &ArrayRef) -> Result<Date32Array> {
    if is_timestamp(values.data_type()) {
        return Ok(seconds(values)?.unary(|second| second.div_euclid(SECONDS_A_DAY) as i32));
    }
    Ok(cast(values, &DataType::Date32)?.as_primitive().clone())
}

/// Hours since 1970-01-01T00:00, rounded down also before it.
fn hours(values: &ArrayRef) -> Result<ArrayRef> {
    let hours: Int32Array = seconds(values)?.unary(|second| second.div_euclid(3_600) as i32);
    Ok(Arc::new(hours))
}

/// Seconds since 1970-01-01T00:00, rounded down also before it, which a cast would not do.
fn seconds(timestamps: &ArrayRef) -> Result<Int64Array> {
    let ticks = match timestamps.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000_000,
        _ => 1,
    };
    let raw = cast(timestamps, &DataType::Int64)?;
    Ok(raw.as_primitive::<Int64Type>().unary(|tick| tick.div_euclid(ticks)))
}

/// Months since 1970-01 of a day since 1970-01-01, in the proleptic Gregorian calendar.
///
/// Source: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn months_of_day(day: i32) -> i32 {
    let shifted = i64::from(day) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    // The algorithm's year begins in March: two months after January.
    let months = (era * 400 + year_of_era) * 12 + months_since_march + 2;
    (months - 1_970 * 12) as i32
}

fn bucket(values: &ArrayRef, buckets: u32) -> Result<ArrayRef> {
    let buckets = buckets as i32;
    let hashes = hash(values)?;
    Ok(Arc::new(hashes.unary::<_, Int32Type>(|hash| (hash & i32::MAX) % buckets)))
}

fn hash(values: &ArrayRef) -> Result<Int32Array> {
    match values.data_type() {
        DataType::Decimal128(_, _) => Ok(values
            .as_primitive::<Decimal128Type>()
            .unary(|value| hash_bytes(minimal_bytes(&value.to_be_bytes())))),
        DataType::Timestamp(_, _) => {
            let micros = microseconds(values)?;
            Ok(micros.as_primitive::<TimestampMicrosecondType>().unary(hash_long))
        }
        DataType::FixedSizeBinary(_) => {
            Ok(values.as_fixed_size_binary().iter().map(|value| value.map(hash_bytes)).collect())
        }
        other if is_bytes(other) => {
            let bytes =
                cast(values, &if is_text(other) { DataType::Utf8View } else { DataType::BinaryView })?;
            let bytes = if is_text(other) { cast(&bytes, &DataType::BinaryView)? } else { bytes };
            Ok(bytes.as_binary_view().iter().map(|value| value.map(hash_bytes)).collect())
        }
        _ => {
            let whole = whole_number(values)?;
            Ok(whole.as_primitive::<Int64Type>().unary(hash_long))
        }
    }
}

/// Integers as they are, days of a date, microseconds of a time.
fn whole_number(values: &ArrayRef) -> Result<ArrayRef> {
    let direct = match values.data_type() {
        DataType::Date32 => cast(values, &DataType::Int32)?,
        _ => Arc::clone(values),
    };
    Ok(cast_with_options(&direct, &DataType::Int64, &CastOptions { safe: false, ..Default::default() })?)
}

/// Nanoseconds are rounded down; a cast would round towards 1970.
fn microseconds(timestamps: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, _) = timestamps.data_type() else {
        return Ok(Arc::clone(timestamps));
    };
    if *unit != TimeUnit::Nanosecond {
        return Ok(cast(timestamps, &DataType::Timestamp(TimeUnit::Microsecond, None))?);
    }
    let raw = cast(timestamps, &DataType::Int64)?;
    let micros =
        raw.as_primitive::<Int64Type>().unary::<_, TimestampMicrosecondType>(|nano| nano.div_euclid(1_000));
    Ok(Arc::new(micros))
}

/// The fewest big-endian bytes that hold a two's complement number.
fn minimal_bytes(bytes: &[u8; 16]) -> &[u8] {
    let fill = if bytes[0] & 0x80 == 0 { 0x00 } else { 0xff };
    let mut start = 0;
    while start < 15 && bytes[start] == fill && (bytes[start + 1] ^ fill) & 0x80 == 0 {
        start += 1;
    }
    &bytes[start..]
}

fn truncate(values: &ArrayRef, width: u32) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Int8 => truncate_whole::<Int8Type>(values, width),
        DataType::Int16 => truncate_whole::<Int16Type>(values, width),
        DataType::Int32 => truncate_whole::<Int32Type>(values, width),
        DataType::Int64 => truncate_whole::<Int64Type>(values, width),
        DataType::Decimal128(_, _) => {
            let cut = |value: i128| value.wrapping_sub(value.rem_euclid(i128::from(width)));
            let truncated: PrimitiveArray<Decimal128Type> =
                values.as_primitive::<Decimal128Type>().unary(cut);
            Ok(Arc::new(truncated.with_data_type(values.data_type().clone())))
        }
        text if is_text(text) => truncate_text(values, width as usize),
        _ => truncate_binary(values, width as usize),
    }
}

/// Rounds down to a multiple of `width`; a multiple below the type's range is an error.
fn truncate_whole<T>(values: &ArrayRef, width: u32) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64> + TryFrom<i64>,
{
    let cut = values.as_primitive::<T>().try_unary::<_, T, Error>(|value| {
        let value: i64 = value.into();
        let cut = value.checked_sub(value.rem_euclid(i64::from(width)));
        cut.and_then(|cut| T::Native::try_from(cut).ok())
            .ok_or_else(|| Error::OutOfRange(format!("truncate({width}, {value}) is out of range")))
    })?;
    Ok(Arc::new(cut))
}

/// Cuts to `width` code points, never within one.
fn truncate_text(values: &ArrayRef, width: usize) -> Result<ArrayRef> {
    let views = cast(values, &DataType::Utf8View)?;
    let cut = |text: &str| text.char_indices().nth(width).map_or(text.len(), |(at, _)| at);
    let texts = views.as_string_view().iter().map(|value| value.map(|text| text[..cut(text)].to_owned()));
    let truncated: GenericByteArray<Utf8Type> = texts.collect();
    restore(Arc::new(truncated), values.data_type())
}

fn truncate_binary(values: &ArrayRef, width: usize) -> Result<ArrayRef> {
    let views = cast(values, &DataType::BinaryView)?;
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(width)].to_vec();
    let truncated: BinaryArray = views.as_binary_view().iter().map(|value| value.map(cut)).collect();
    restore(Arc::new(truncated), values.data_type())
}

fn restore(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type { Ok(array) } else { Ok(cast(&array, data_type)?) }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Decimal128Array, FixedSizeBinaryArray, Int8Array, StringArray, StringViewArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use chrono::{Datelike, NaiveDate};

    use super::*;

    fn apply(transform: Transform, values: impl Array + 'static) -> ArrayRef {
        transform.apply(&(Arc::new(values) as ArrayRef)).unwrap()
    }

    fn ints(array: &ArrayRef) -> Vec<i32> {
        array.as_primitive::<Int32Type>().values().to_vec()
    }

    #[test]
    fn calendar_before_and_after_1970() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for date in [(1600, 2, 29), (1899, 12, 31), (1969, 12, 31), (1970, 1, 1), (2000, 2, 29), (2100, 3, 1)]
        {
            let date = NaiveDate::from_ymd_opt(date.0, date.1, date.2).unwrap();
            let day = (date - epoch).num_days() as i32;
            let months = (date.year() - 1970) * 12 + date.month0() as i32;
            assert_eq!(ints(&apply(Transform::Month, Date32Array::from(vec![day]))), [months], "{date}");
            assert_eq!(
                ints(&apply(Transform::Year, Date32Array::from(vec![day]))),
                [date.year() - 1970],
                "{date}"
            );
        }
    }

    #[test]
    fn timestamps_round_down_before_1970() {
        let before =
            || TimestampMicrosecondArray::from(vec![Some(-1), Some(0), None]).with_timezone("+05:00");
        assert_eq!(ints(&apply(Transform::Hour, before()))[..2], [-1, 0]);
        assert_eq!(ints(&apply(Transform::Year, before()))[..2], [-1, 0]);
        assert_eq!(ints(&apply(Transform::Month, before()))[..2], [-1, 0]);
        let days = apply(Transform::Day, before());
        assert_eq!(days.as_ref(), &Date32Array::from(vec![Some(-1), Some(0), None]) as &dyn Array);
    }

    #[test]
    fn buckets_of_every_type_agree_with_the_specification() {
        let hash_of = |values: ArrayRef| hash(&values).unwrap().value(0);
        assert_eq!(hash_of(Arc::new(Int8Array::from(vec![34]))), 2_017_239_379);
        assert_eq!(hash_of(Arc::new(Int64Array::from(vec![34]))), 2_017_239_379);
        assert_eq!(hash_of(Arc::new(Date32Array::from(vec![17_486]))), -653_330_422);
        let nanos = TimestampNanosecondArray::from(vec![1_510_871_468_000_001_001]);
        assert_eq!(hash_of(Arc::new(nanos)), -1_207_196_810);
        let decimal = Decimal128Array::from(vec![1_420]).with_precision_and_scale(9, 2).unwrap();
        assert_eq!(hash_of(Arc::new(decimal)), -500_754_589);
        assert_eq!(hash_of(Arc::new(StringViewArray::from(vec!["iceberg"]))), 1_210_000_089);
        assert_eq!(hash_of(Arc::new(StringArray::from(vec!["iceberg"]))), 1_210_000_089);
        let uuid = 0xf79c_3e09_677c_4bbd_a479_3f34_9cb7_85e7_u128.to_be_bytes();
        let uuids = FixedSizeBinaryArray::try_from_iter([uuid].into_iter()).unwrap();
        assert_eq!(hash_of(Arc::new(uuids)), 1_488_055_340);
        assert_eq!(ints(&apply(Transform::Bucket(100), Int32Array::from(vec![34]))), [79]);
        assert_eq!(ints(&apply(Transform::Bucket(100), Date32Array::from(vec![17_486]))), [26]);
    }

    #[test]
    fn minimal_bytes_of_decimals() {
        let bytes = |value: i128| minimal_bytes(&value.to_be_bytes()).to_vec();
        assert_eq!(bytes(0), [0]);
        assert_eq!(bytes(127), [0x7f]);
        assert_eq!(bytes(128), [0x00, 0x80]);
        assert_eq!(bytes(-128), [0x80]);
        assert_eq!(bytes(-129), [0xff, 0x7f]);
    }

    #[test]
    fn truncation() {
        let cut = apply(Transform::Truncate(10), Int32Array::from(vec![Some(1), Some(-1), Some(-10), None]));
        assert_eq!(cut.as_ref(), &Int32Array::from(vec![Some(0), Some(-10), Some(-10), None]) as &dyn Array);
        let decimal = Decimal128Array::from(vec![1_065, -1_065]).with_precision_and_scale(9, 2).unwrap();
        let cut = apply(Transform::Truncate(50), decimal);
        assert_eq!(cut.as_primitive::<Decimal128Type>().values(), &[1_050, -1_100]);
        assert_eq!(cut.data_type(), &DataType::Decimal128(9, 2));
        let cut = apply(Transform::Truncate(2), StringViewArray::from(vec![Some("üöä"), Some("a"), None]));
        assert_eq!(cut.as_ref(), &StringViewArray::from(vec![Some("üö"), Some("a"), None]) as &dyn Array);
        let overflow = Transform::Truncate(100).apply(&(Arc::new(Int8Array::from(vec![-128])) as ArrayRef));
        assert_eq!(overflow.unwrap_err().sqlstate(), "22003");
    }
}
