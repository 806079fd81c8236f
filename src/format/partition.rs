//! Partitions: how a table's rows are spread over files by the value of a column.
//!
//! A partition field is one column and a [`Transform`] of it. This module decides what a transform
//! computes, how SQL spells it, and how its values stand in paths. Which rows go to which file is
//! decided in `sink`.

mod apply;
mod murmur3;

use arrow::array::Array;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use datafusion::common::ScalarValue;

use crate::error::{Error, Result};

/// What is computed from a column's value to find its partition, as Iceberg defines it.
///
/// Source: <https://iceberg.apache.org/spec/#partition-transforms>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transform {
    Identity,
    Year,
    Month,
    Day,
    Hour,
    /// Hash modulo the number of buckets.
    Bucket(u32),
    /// Width to which integers and decimals are cut down, or length in characters of strings.
    Truncate(u32),
    /// Always null: a partition column that was dropped.
    Void,
}

/// One column by which a table is partitioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionField {
    /// Name of the column that is transformed.
    pub source: String,
    /// Name of the partition value, as it stands in paths and in Iceberg's partition spec.
    pub name: String,
    pub transform: Transform,
}

/// Longest `name=value` in a path, in bytes: local file systems allow 255.
const SEGMENT_BYTES_MAX: usize = 200;

impl Transform {
    /// Returns the type of the values that [`Transform::apply`] makes from a column of type `source`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the transform is not defined for `source`.
    pub fn result_type(&self, source: &DataType) -> Result<DataType> {
        let defined = match self {
            Self::Identity => is_primitive(source),
            Self::Void => true,
            Self::Year | Self::Month | Self::Day => is_date(source) || is_timestamp(source),
            Self::Hour => is_timestamp(source),
            Self::Bucket(buckets) => *buckets > 0 && apply::can_hash(source),
            Self::Truncate(width) => *width > 0 && apply::can_truncate(source),
        };
        if !defined {
            return Err(Error::InvalidParameter(format!(
                "partition transform {} is not defined for type {source}",
                self.sql_name()
            )));
        }
        Ok(match self {
            Self::Identity | Self::Truncate(_) | Self::Void => source.clone(),
            Self::Year | Self::Month | Self::Hour | Self::Bucket(_) => DataType::Int32,
            Self::Day => DataType::Date32,
        })
    }

    /// Reads one item of `PARTITIONED BY`: a bare column (`args` empty), or a function with its arguments.
    ///
    /// `month` is the column `month` as it is; `month(ts)`, `months(ts)`, `bucket(16, id)`,
    /// `bucket(id, 16)` and `truncate(10, s)` are transforms of a column.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an unknown function or for arguments that do not fit it.
    pub fn parse_sql(name: &str, args: &[&str]) -> Result<PartitionField> {
        if args.is_empty() {
            return Ok(PartitionField::new(name, Self::Identity));
        }
        let lower = name.to_ascii_lowercase();
        let transform = match (lower.as_str(), args) {
            ("identity", [_]) => Self::Identity,
            ("year" | "years", [_]) => Self::Year,
            ("month" | "months", [_]) => Self::Month,
            ("day" | "days" | "date", [_]) => Self::Day,
            ("hour" | "hours" | "date_hour", [_]) => Self::Hour,
            ("bucket", [first, second]) => return with_width(&lower, first, second, Self::Bucket),
            ("truncate", [first, second]) => return with_width(&lower, first, second, Self::Truncate),
            _ => {
                return Err(Error::InvalidParameter(format!(
                    "unknown partition transform \"{name}\" with {} arguments",
                    args.len()
                )));
            }
        };
        Ok(PartitionField::new(args[0], transform))
    }

    /// The function by which SQL calls this transform.
    pub fn sql_name(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Bucket(_) => "bucket",
            Self::Truncate(_) => "truncate",
            Self::Void => "void",
        }
    }

    /// Writes a partition value for people: `2017-11` for a month, base64 for bytes, `null` for null.
    ///
    /// # Errors
    /// [`Error::Internal`] when `value` is not of this transform's result type.
    pub fn display(&self, value: &ScalarValue) -> Result<String> {
        if value.is_null() {
            return Ok("null".to_owned());
        }
        match (self, value) {
            (Self::Year, ScalarValue::Int32(Some(years))) => Ok(format!("{:04}", 1970 + years)),
            (Self::Month, ScalarValue::Int32(Some(months))) => Ok(display_month(*months)),
            (Self::Hour, ScalarValue::Int32(Some(hours))) => {
                let day = display_plain(&ScalarValue::Date32(Some(hours.div_euclid(24))))?;
                Ok(format!("{day}-{:02}", hours.rem_euclid(24)))
            }
            _ => display_plain(value),
        }
    }
}

impl PartitionField {
    /// Names the field as Iceberg does: `ts_month`, `id_bucket`, `s_trunc`, or as its column.
    pub fn new(source: &str, transform: Transform) -> Self {
        let name = match transform {
            Transform::Identity => source.to_owned(),
            Transform::Truncate(_) => format!("{source}_trunc"),
            Transform::Void => format!("{source}_null"),
            other => format!("{source}_{}", other.sql_name()),
        };
        Self { source: source.to_owned(), name, transform }
    }

    /// Returns the `name=value` under which the files of this partition lie, percent-encoded.
    ///
    /// Long values are cut, since readers take the value from the metadata and not from the path.
    ///
    /// # Errors
    /// [`Error::Internal`] when `value` is not of the transform's result type.
    pub fn path_segment(&self, value: &ScalarValue) -> Result<String> {
        let mut segment = self.segment_of(&self.transform.display(value)?);
        if segment.len() > SEGMENT_BYTES_MAX {
            let cut = segment[..SEGMENT_BYTES_MAX].rfind('%').filter(|at| at + 3 > SEGMENT_BYTES_MAX);
            segment.truncate(cut.unwrap_or(SEGMENT_BYTES_MAX));
        }
        Ok(segment)
    }

    /// Returns the `name=value` of a value that is written as `text`, percent-encoded and not cut.
    pub fn segment_of(&self, text: &str) -> String {
        format!("{}={}", percent_encode(&self.name), percent_encode(text))
    }
}

/// Encodes all but letters, digits, `-`, `_`, `.` and `~`, so that any text is one ASCII path segment.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Spark writes `bucket(16, id)`, Trino `bucket(id, 16)`; only one of the two is a number.
fn with_width(
    function: &str,
    first: &str,
    second: &str,
    transform: fn(u32) -> Transform,
) -> Result<PartitionField> {
    let (width, column) = match (first.parse::<u32>(), second.parse::<u32>()) {
        (Ok(width), Err(_)) => (width, second),
        (Err(_), Ok(width)) => (width, first),
        _ => {
            return Err(Error::InvalidParameter(format!("{function} takes one column and one whole number")));
        }
    };
    if width == 0 || i32::try_from(width).is_err() {
        return Err(Error::InvalidParameter(format!("{function} needs a number from 1 to {}", i32::MAX)));
    }
    Ok(PartitionField::new(column, transform(width)))
}

fn display_month(months: i32) -> String {
    format!("{:04}-{:02}", 1970 + months.div_euclid(12), months.rem_euclid(12) + 1)
}

fn display_plain(value: &ScalarValue) -> Result<String> {
    let bytes = match value {
        ScalarValue::Binary(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes))
        | ScalarValue::FixedSizeBinary(_, Some(bytes)) => bytes,
        other => {
            let array = other.to_array()?;
            let options = FormatOptions::new();
            return Ok(ArrayFormatter::try_new(array.as_ref() as &dyn Array, &options)?.value(0).to_string());
        }
    };
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn is_primitive(source: &DataType) -> bool {
    !source.is_nested() && !matches!(source, DataType::Null | DataType::Interval(_) | DataType::Duration(_))
}

fn is_date(source: &DataType) -> bool {
    matches!(source, DataType::Date32 | DataType::Date64)
}

fn is_timestamp(source: &DataType) -> bool {
    matches!(source, DataType::Timestamp(_, _))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_spellings() {
        let parsed = |name, args: &[&str]| Transform::parse_sql(name, args).unwrap();
        assert_eq!(parsed("month", &[]), PartitionField::new("month", Transform::Identity));
        assert_eq!(parsed("months", &["ts"]).transform, Transform::Month);
        assert_eq!(parsed("YEAR", &["ts"]).name, "ts_year");
        assert_eq!(parsed("bucket", &["16", "id"]), parsed("bucket", &["id", "16"]));
        assert_eq!(parsed("bucket", &["16", "id"]).name, "id_bucket");
        assert_eq!(parsed("truncate", &["10", "s"]).transform, Transform::Truncate(10));
        for (name, args) in [
            ("bucket", vec!["id"]),
            ("bucket", vec!["0", "id"]),
            ("bucket", vec!["a", "b"]),
            ("week", vec!["ts"]),
        ] {
            assert_eq!(Transform::parse_sql(name, &args).unwrap_err().sqlstate(), "22023", "{name} {args:?}");
        }
    }

    #[test]
    fn undefined_combinations_are_refused() {
        for (transform, source) in [
            (Transform::Hour, DataType::Date32),
            (Transform::Year, DataType::Int32),
            (Transform::Bucket(4), DataType::Float64),
            (Transform::Truncate(4), DataType::Date32),
        ] {
            let message = transform.result_type(&source).unwrap_err().to_string();
            assert!(
                message.contains(transform.sql_name()) && message.contains(&source.to_string()),
                "{message}"
            );
        }
    }

    #[test]
    fn paths_hold_any_value() {
        let segment = |transform, value| PartitionField::new("c", transform).path_segment(&value).unwrap();
        let text = |value: &str| ScalarValue::Utf8(Some(value.to_owned()));
        assert_eq!(segment(Transform::Identity, text("a/b=ü %")), "c=a%2Fb%3D%C3%BC%20%25");
        assert_eq!(segment(Transform::Identity, ScalarValue::Utf8(None)), "c=null");
        assert_eq!(segment(Transform::Identity, ScalarValue::Decimal128(Some(-1420), 9, 2)), "c=-14.20");
        assert_eq!(segment(Transform::Identity, ScalarValue::Date32(Some(-1))), "c=1969-12-31");
        assert_eq!(segment(Transform::Identity, ScalarValue::Binary(Some(vec![0, 255]))), "c=AP8%3D");
        assert_eq!(segment(Transform::Year, ScalarValue::Int32(Some(47))), "c_year=2017");
        assert_eq!(segment(Transform::Month, ScalarValue::Int32(Some(-1))), "c_month=1969-12");
        assert_eq!(segment(Transform::Day, ScalarValue::Date32(Some(17486))), "c_day=2017-11-16");
        assert_eq!(segment(Transform::Hour, ScalarValue::Int32(Some(-1))), "c_hour=1969-12-31-23");
        let long = segment(Transform::Identity, text(&"ü".repeat(300)));
        assert!(
            long.len() <= SEGMENT_BYTES_MAX && long.ends_with("%C3%BC") || long.ends_with("%C3"),
            "{long}"
        );
    }
}
