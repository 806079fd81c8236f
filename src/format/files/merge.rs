//! Merging: one schema for files that do not quite agree.
//!
//! Columns are matched by name, in the order in which they are first seen. Where types differ, the
//! table has the narrowest type that holds both; where there is none, text.

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};

/// Merges `schemas` by column name; a column that some files lack is nullable.
pub fn merged(schemas: impl IntoIterator<Item = Schema>) -> Schema {
    let mut fields: Vec<FieldRef> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for schema in schemas {
        for field in schema.fields() {
            match places.get(field.name()) {
                Some(place) => fields[*place] = widened(&fields[*place], field),
                None => {
                    places.insert(field.name().clone(), fields.len());
                    fields.push(plain(field));
                }
            }
        }
    }
    Schema::new(fields)
}

/// Any column of an open file can be null: a file that comes tomorrow may lack it.
fn plain(field: &FieldRef) -> FieldRef {
    Field::new(field.name(), field.data_type().clone(), true).into()
}

fn widened(known: &FieldRef, other: &FieldRef) -> FieldRef {
    if known.data_type() == other.data_type() {
        return FieldRef::clone(known);
    }
    Field::new(known.name(), wider(known.data_type(), other.data_type()), true).into()
}

fn wider(a: &DataType, b: &DataType) -> DataType {
    use DataType::{Boolean, Date32, Float64, Int64, Null, Struct, Timestamp, UInt64, Utf8View};
    match (a, b) {
        _ if a == b => a.clone(),
        (Null, known) | (known, Null) => known.clone(),
        (Struct(a), Struct(b)) => Struct(wider_fields(a, b)),
        (DataType::List(a), DataType::List(b)) => DataType::List(widened(a, b)),
        (Timestamp(a, zone), Timestamp(b, other)) if zone == other => Timestamp(finer(*a, *b), zone.clone()),
        (Timestamp(unit, zone), Date32) | (Date32, Timestamp(unit, zone)) => Timestamp(*unit, zone.clone()),
        (Boolean, _) | (_, Boolean) => Utf8View,
        _ if a.is_integer() && b.is_integer() => wider_integer(a, b),
        _ if is_decimal(a) && is_decimal(b) => wider_decimal(a, b),
        _ if is_decimal(a) && b.is_integer() || a.is_integer() && is_decimal(b) => {
            wider_decimal(&as_decimal(a), &as_decimal(b))
        }
        _ if a.is_numeric() && b.is_numeric() && !matches!((a, b), (Int64, UInt64) | (UInt64, Int64)) => {
            Float64
        }
        _ if a.is_binary() && b.is_binary() => DataType::BinaryView,
        _ => Utf8View,
    }
}

fn wider_fields(a: &Fields, b: &Fields) -> Fields {
    merged([Schema::new(a.clone()), Schema::new(b.clone())]).fields
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let rank = |unit: TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

fn wider_integer(a: &DataType, b: &DataType) -> DataType {
    let width = |kind: &DataType| kind.primitive_width().unwrap_or(8);
    let wide = width(a).max(width(b));
    match (a.is_signed_integer(), b.is_signed_integer()) {
        (true, true) | (false, false) => {
            if width(a) >= width(b) {
                a.clone()
            } else {
                b.clone()
            }
        }
        _ if wide < 4 => DataType::Int32,
        _ if wide < 8 => DataType::Int64,
        _ => DataType::Decimal128(20, 0),
    }
}

fn is_decimal(kind: &DataType) -> bool {
    as_precision(kind).is_some()
}

fn as_precision(kind: &DataType) -> Option<(u8, i8)> {
    match kind {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}

fn as_decimal(kind: &DataType) -> DataType {
    if is_decimal(kind) { kind.clone() } else { DataType::Decimal128(20, 0) }
}

fn wider_decimal(a: &DataType, b: &DataType) -> DataType {
    let ((a, a_scale), (b, b_scale)) =
        (as_precision(a).unwrap_or((20, 0)), as_precision(b).unwrap_or((20, 0)));
    let scale = a_scale.max(b_scale);
    let whole = (i16::from(a) - i16::from(a_scale)).max(i16::from(b) - i16::from(b_scale));
    match u8::try_from(whole + i16::from(scale)) {
        Ok(precision @ ..=38) => DataType::Decimal128(precision, scale),
        Ok(precision @ ..=76) => DataType::Decimal256(precision, scale),
        _ => DataType::Float64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_meet_by_name_and_widen() {
        use DataType::{Decimal128, Float64, Int32, Int64, Null, UInt32, Utf8View};
        let one = Schema::new(vec![
            Field::new("a", Int32, false),
            Field::new("b", Null, true),
            Field::new("c", Int64, true),
        ]);
        let two = Schema::new(vec![
            Field::new("c", Float64, true),
            Field::new("a", Int64, false),
            Field::new("b", Utf8View, true),
            Field::new("d", Utf8View, true),
        ]);
        let both = merged([one, two]);
        let types: Vec<_> =
            both.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
        assert_eq!(types, vec![("a", Int64), ("b", Utf8View), ("c", Float64), ("d", Utf8View)]);
        assert!(both.fields().iter().all(|field| field.is_nullable()));
        assert_eq!(wider(&Int32, &UInt32), Int64);
        assert_eq!(wider(&Decimal128(10, 2), &Decimal128(12, 4)), Decimal128(12, 4));
        assert_eq!(wider(&Decimal128(10, 2), &Int32), Decimal128(22, 2));
        assert_eq!(wider(&DataType::Boolean, &Int32), Utf8View);
    }
}
