//! Bounds: one value as bytes, as manifests keep the smallest and largest of each column in a file.
//!
//! Text and bytes are cut to 16 code points or bytes: below for a lower bound, counted up by one for
//! an upper bound. A bound that is shorter than that was therefore never cut, and is exact.
//!
//! Source: <https://iceberg.apache.org/spec/#binary-single-value-serialization>

use datafusion::common::ScalarValue;

use super::schema::Primitive;
use crate::error::{Error, Result};

/// Code points of a string, or bytes of a binary, that a bound keeps.
const LENGTH_MAX: usize = 16;

/// Returns `value` as the Arrow value of a column of type `kind`.
///
/// # Errors
/// [`Error::DatatypeMismatch`] when a value of that type cannot hold it.
pub fn canonical(kind: Primitive, value: &ScalarValue) -> Result<ScalarValue> {
    let data_type = kind.data_type();
    if value.data_type() == data_type {
        return Ok(value.clone());
    }
    value
        .cast_to(&data_type)
        .map_err(|_| Error::DatatypeMismatch(format!("a {} is no value of type {kind}", value.data_type())))
}

/// Returns the bytes of a canonical value of type `kind`, uncut; `None` for null.
pub fn encode(kind: Primitive, value: &ScalarValue) -> Option<Vec<u8>> {
    Some(match value {
        ScalarValue::Boolean(value) => vec![u8::from((*value)?)],
        ScalarValue::Int32(value) | ScalarValue::Date32(value) => (*value)?.to_le_bytes().to_vec(),
        ScalarValue::Int64(value)
        | ScalarValue::Time64Microsecond(value)
        | ScalarValue::TimestampMicrosecond(value, _) => (*value)?.to_le_bytes().to_vec(),
        ScalarValue::Float32(value) => (*value)?.to_le_bytes().to_vec(),
        ScalarValue::Float64(value) => (*value)?.to_le_bytes().to_vec(),
        ScalarValue::Decimal128(value, ..) => shortest((*value)?),
        ScalarValue::Utf8View(value) => value.as_ref()?.as_bytes().to_vec(),
        ScalarValue::BinaryView(value) | ScalarValue::FixedSizeBinary(_, value) => value.clone()?,
        _ => {
            debug_assert!(value.is_null(), "{value:?} is not canonical for {kind}");
            return None;
        }
    })
}

/// Returns the value of type `kind` that `bytes` hold; `None` when they hold none.
///
/// A bound that was written before its column became wider, int to long or float to double, is read
/// as the narrower type that its length tells.
pub fn decode(kind: Primitive, bytes: &[u8]) -> Option<ScalarValue> {
    Some(match kind {
        Primitive::Boolean => ScalarValue::Boolean(Some(*bytes.first()? != 0)),
        Primitive::Int => ScalarValue::Int32(Some(i32::from_le_bytes(bytes.try_into().ok()?))),
        Primitive::Date => ScalarValue::Date32(Some(i32::from_le_bytes(bytes.try_into().ok()?))),
        Primitive::Long => ScalarValue::Int64(Some(long(bytes)?)),
        Primitive::Time => ScalarValue::Time64Microsecond(Some(long(bytes)?)),
        Primitive::Timestamp => ScalarValue::TimestampMicrosecond(Some(long(bytes)?), None),
        Primitive::TimestampTz => ScalarValue::TimestampMicrosecond(Some(long(bytes)?), Some("UTC".into())),
        Primitive::Float => ScalarValue::Float32(Some(f32::from_le_bytes(bytes.try_into().ok()?))),
        Primitive::Double => ScalarValue::Float64(Some(double(bytes)?)),
        Primitive::Decimal { precision, scale } => {
            ScalarValue::Decimal128(Some(big_endian(bytes)?), precision, scale as i8)
        }
        Primitive::String => ScalarValue::Utf8View(Some(str::from_utf8(bytes).ok()?.to_owned())),
        Primitive::Uuid => {
            ScalarValue::FixedSizeBinary(16, Some(bytes).filter(|it| it.len() == 16)?.to_vec().into())
        }
        Primitive::Fixed(length) => ScalarValue::FixedSizeBinary(length as i32, Some(bytes.to_vec())),
        Primitive::Binary => ScalarValue::BinaryView(Some(bytes.to_vec())),
    })
}

/// Returns the lower bound that a manifest keeps for a canonical value.
pub fn lower(kind: Primitive, value: &ScalarValue) -> Option<Vec<u8>> {
    let mut bytes = encode(kind, value)?;
    bytes.truncate(kept_bytes(kind, &bytes));
    Some(bytes)
}

/// Returns the upper bound that a manifest keeps for a canonical value, where there is one.
///
/// A cut value whose 16th code point or byte cannot be counted up has none: counting up an earlier
/// one would make the bound short, and a short bound is read as exact.
pub fn upper(kind: Primitive, value: &ScalarValue) -> Option<Vec<u8>> {
    let mut bytes = encode(kind, value)?;
    let kept = kept_bytes(kind, &bytes);
    if kept == bytes.len() {
        return Some(bytes);
    }
    bytes.truncate(kept);
    if kind != Primitive::String {
        let last = bytes.last_mut()?;
        *last = last.checked_add(1)?;
        return Some(bytes);
    }
    let mut text = String::from_utf8(bytes).ok()?;
    let next = following(text.pop()?)?;
    text.push(next);
    Some(text.into_bytes())
}

/// Whether the bound `bytes` is the column's true smallest or largest value.
pub fn is_exact(kind: Primitive, bytes: &[u8]) -> bool {
    match kind {
        Primitive::String => String::from_utf8_lossy(bytes).chars().count() < LENGTH_MAX,
        Primitive::Binary | Primitive::Fixed(_) => bytes.len() < LENGTH_MAX,
        // NaN is left out of bounds, and which zero is smaller depends on who compares.
        Primitive::Float | Primitive::Double => false,
        _ => true,
    }
}

fn kept_bytes(kind: Primitive, bytes: &[u8]) -> usize {
    match kind {
        Primitive::String => {
            let text = str::from_utf8(bytes).expect("a string's bytes are UTF-8");
            text.char_indices().nth(LENGTH_MAX).map_or(bytes.len(), |(at, _)| at)
        }
        Primitive::Binary | Primitive::Fixed(_) => bytes.len().min(LENGTH_MAX),
        _ => bytes.len(),
    }
}

/// The next code point, over the gap of the surrogates.
fn following(last: char) -> Option<char> {
    match u32::from(last) + 1 {
        0xD800 => Some('\u{E000}'),
        next => char::from_u32(next),
    }
}

fn long(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        4 => Some(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        _ => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
    }
}

fn double(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => Some(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        _ => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
    }
}

/// Two's complement, big-endian, in as few bytes as hold the sign.
pub fn shortest(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign_bits = if value < 0 { value.leading_ones() } else { value.leading_zeros() };
    let spare = (sign_bits.saturating_sub(1) / 8) as usize;
    bytes[spare.min(15)..].to_vec()
}

/// Reads what [`shortest`], or an Avro decimal, holds.
pub fn big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let spare = 16usize.checked_sub(bytes.len())?;
    let mut full = [if first & 0x80 == 0 { 0 } else { 0xff }; 16];
    full[spare..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> ScalarValue {
        ScalarValue::Utf8View(Some(value.to_owned()))
    }

    #[test]
    fn values_serialise_as_the_specification_says() {
        let decimal = Primitive::Decimal { precision: 9, scale: 2 };
        let cases = [
            (Primitive::Boolean, ScalarValue::Boolean(Some(true)), vec![1]),
            (Primitive::Int, ScalarValue::Int32(Some(1234)), vec![0xd2, 0x04, 0, 0]),
            (Primitive::Long, ScalarValue::Int64(Some(-2)), vec![0xfe, 255, 255, 255, 255, 255, 255, 255]),
            (Primitive::Float, ScalarValue::Float32(Some(-1.5)), vec![0, 0, 0xc0, 0xbf]),
            (Primitive::Double, ScalarValue::Float64(Some(1.0)), vec![0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
            (Primitive::Date, ScalarValue::Date32(Some(1)), vec![1, 0, 0, 0]),
            (Primitive::Time, ScalarValue::Time64Microsecond(Some(256)), vec![0, 1, 0, 0, 0, 0, 0, 0]),
            (decimal, ScalarValue::Decimal128(Some(1420), 9, 2), vec![0x05, 0x8c]),
            (decimal, ScalarValue::Decimal128(Some(128), 9, 2), vec![0x00, 0x80]),
            (decimal, ScalarValue::Decimal128(Some(-128), 9, 2), vec![0x80]),
            (decimal, ScalarValue::Decimal128(Some(0), 9, 2), vec![0x00]),
            (decimal, ScalarValue::Decimal128(Some(-1), 9, 2), vec![0xff]),
            (Primitive::String, text("né"), vec![b'n', 0xc3, 0xa9]),
            (Primitive::Binary, ScalarValue::BinaryView(Some(vec![7, 8])), vec![7, 8]),
        ];
        for (kind, value, bytes) in cases {
            assert_eq!(encode(kind, &value).unwrap(), bytes, "{kind}");
            assert_eq!(decode(kind, &bytes).unwrap(), value, "{kind}");
        }
        assert_eq!(decode(Primitive::Long, &[0xff; 4]), Some(ScalarValue::Int64(Some(-1))), "promoted int");
        assert_eq!(decode(Primitive::Int, &[1]), None);
    }

    #[test]
    fn long_text_is_cut_below_and_counted_up_above() {
        let value = text("ααααααααααααααααω");
        assert_eq!(lower(Primitive::String, &value).unwrap(), "αααααααααααααααα".as_bytes());
        assert_eq!(upper(Primitive::String, &value).unwrap(), "αααααααααααααααβ".as_bytes());
        let highest = text(&"\u{10ffff}".repeat(17));
        assert_eq!(upper(Primitive::String, &highest), None);
        let before_surrogates = text(&"\u{d7ff}".repeat(17));
        assert!(upper(Primitive::String, &before_surrogates).unwrap().ends_with("\u{e000}".as_bytes()));
        let bytes = ScalarValue::BinaryView(Some(vec![1; 20]));
        assert_eq!(upper(Primitive::Binary, &bytes).unwrap()[14..], [1, 2]);
        let is_exact = |text: &str| is_exact(Primitive::String, text.as_bytes());
        assert!(is_exact("fifteen letters") && !is_exact("sixteen letters!"));
    }

    #[test]
    fn values_of_other_types_become_the_columns_type() {
        let canonical = |kind, value| canonical(kind, &value);
        assert_eq!(
            canonical(Primitive::Int, ScalarValue::Int16(Some(3))).unwrap(),
            ScalarValue::Int32(Some(3))
        );
        assert_eq!(canonical(Primitive::String, ScalarValue::from("x")).unwrap(), text("x"));
        assert_eq!(
            canonical(Primitive::Date, ScalarValue::Int32(Some(9))).unwrap(),
            ScalarValue::Date32(Some(9))
        );
        assert!(canonical(Primitive::Date, ScalarValue::Boolean(Some(true))).is_err());
    }
}
