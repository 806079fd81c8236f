//! SQL type names, as declarations write them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

/// The largest number of digits that a `numeric` can have.
const DIGITS_MAX: u8 = 76;
/// Digits before and behind the point of a `numeric` that does not say them.
const NUMERIC: (u8, i8) = (38, 10);

/// The type of that name; `None` for a name that is none.
///
/// Times count microseconds, as Postgres does; `timestamptz` is in UTC.
pub fn sql_type(name: &str) -> Option<DataType> {
    let name = name.trim().to_lowercase();
    if let Some(element) = name.strip_suffix("[]") {
        return Some(DataType::List(Arc::new(Field::new("item", sql_type(element)?, true))));
    }
    let (word, arguments, rest) = taken_apart(&name)?;
    let whole = if rest.is_empty() { word.to_owned() } else { format!("{word} {rest}") };
    let data_type = match whole.as_str() {
        "numeric" | "decimal" | "dec" => return numeric(&arguments),
        "text" | "string" | "varchar" | "char" | "character" | "bpchar" | "character varying" => {
            DataType::Utf8View
        }
        "time" | "time without time zone" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" | "timestamp without time zone" | "datetime" => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        "timestamptz" | "timestamp with time zone" => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        simple if arguments.is_empty() => return without_arguments(simple),
        _ => return None,
    };
    (arguments.len() <= 1).then_some(data_type)
}

fn without_arguments(name: &str) -> Option<DataType> {
    Some(match name {
        "bigint" | "int8" => DataType::Int64,
        "integer" | "int" | "int4" => DataType::Int32,
        "smallint" | "int2" => DataType::Int16,
        "tinyint" => DataType::Int8,
        "double precision" | "double" | "float8" | "float" => DataType::Float64,
        "real" | "float4" => DataType::Float32,
        "boolean" | "bool" => DataType::Boolean,
        "date" => DataType::Date32,
        "bytea" => DataType::BinaryView,
        "uuid" | "json" | "jsonb" => DataType::Utf8View,
        "interval" => DataType::Interval(IntervalUnit::MonthDayNano),
        _ => return None,
    })
}

/// `numeric(10, 2) x` is `numeric`, `[10, 2]` and `x`.
fn taken_apart(name: &str) -> Option<(&str, Vec<u8>, &str)> {
    let Some((word, rest)) = name.split_once('(') else { return Some((name, Vec::new(), "")) };
    let (arguments, rest) = rest.split_once(')')?;
    let arguments = arguments.split(',').map(|argument| argument.trim().parse().ok());
    Some((word.trim(), arguments.collect::<Option<_>>()?, rest.trim()))
}

fn numeric(arguments: &[u8]) -> Option<DataType> {
    let (precision, scale) = match arguments {
        [] => NUMERIC,
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, i8::try_from(*scale).ok()?),
        _ => return None,
    };
    let fits = precision > 0 && i16::from(scale) <= i16::from(precision);
    match precision {
        _ if !fits => None,
        1..=38 => Some(DataType::Decimal128(precision, scale)),
        39..=DIGITS_MAX => Some(DataType::Decimal256(precision, scale)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_those_of_postgres() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(sql_type("BIGINT"), Some(DataType::Int64));
        assert_eq!(sql_type("numeric(12, 2)"), Some(DataType::Decimal128(12, 2)));
        assert_eq!(sql_type("numeric(50,4)"), Some(DataType::Decimal256(50, 4)));
        assert_eq!(sql_type("varchar(20)"), Some(DataType::Utf8View));
        assert_eq!(sql_type("timestamp(6) with time zone"), Some(utc.clone()));
        assert_eq!(sql_type("timestamptz"), Some(utc));
        assert_eq!(sql_type("double precision"), Some(DataType::Float64));
        assert!(matches!(sql_type("integer[]"), Some(DataType::List(_))));
        for unknown in
            ["numeric(2,3)", "numeric(77)", "bigint(3)", "int64x", "numeric(a)", "varchar(1,2)", ""]
        {
            assert_eq!(sql_type(unknown), None, "{unknown}");
        }
    }
}
