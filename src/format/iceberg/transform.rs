//! Transforms: Iceberg's spelling of them, and the type of what they compute.
//!
//! Source: <https://iceberg.apache.org/spec/#partition-transforms>

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serializer};

use super::schema::Primitive;
use crate::error::Error;
use crate::format::partition::Transform;

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity"),
            Self::Year => f.write_str("year"),
            Self::Month => f.write_str("month"),
            Self::Day => f.write_str("day"),
            Self::Hour => f.write_str("hour"),
            Self::Bucket(count) => write!(f, "bucket[{count}]"),
            Self::Truncate(width) => write!(f, "truncate[{width}]"),
            Self::Void => f.write_str("void"),
        }
    }
}

impl FromStr for Transform {
    type Err = Error;

    /// Reads Iceberg's spelling.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an unknown transform, or a width or count of zero.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "identity" => Self::Identity,
            "year" => Self::Year,
            "month" => Self::Month,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "void" => Self::Void,
            other => sized(other)
                .ok_or_else(|| Error::InvalidParameter(format!("unknown partition transform \"{other}\"")))?,
        })
    }
}

fn sized(text: &str) -> Option<Transform> {
    let (name, size) = text.strip_suffix(']')?.split_once('[')?;
    let size = size.parse().ok().filter(|size| *size > 0)?;
    match name {
        "bucket" => Some(Transform::Bucket(size)),
        "truncate" => Some(Transform::Truncate(size)),
        _ => None,
    }
}

impl Transform {
    /// Returns the type of this transform's value over a column of type `source`; `None` where
    /// Iceberg defines none.
    pub fn result(self, source: Primitive) -> Option<Primitive> {
        use Primitive::{
            Binary, Boolean, Date, Decimal, Double, Float, Int, Long, String, Timestamp, TimestampTz,
        };
        match self {
            Self::Identity | Self::Void => Some(source),
            Self::Bucket(_) => (!matches!(source, Boolean | Float | Double)).then_some(Int),
            Self::Truncate(_) => {
                matches!(source, Int | Long | Decimal { .. } | String | Binary).then_some(source)
            }
            Self::Year | Self::Month => matches!(source, Date | Timestamp | TimestampTz).then_some(Int),
            Self::Day => matches!(source, Date | Timestamp | TimestampTz).then_some(Date),
            Self::Hour => matches!(source, Timestamp | TimestampTz).then_some(Int),
        }
    }
}

/// For `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(transform: &Transform, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(transform)
}

/// For `#[serde(with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Transform, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_goes_both_ways() {
        for text in ["identity", "year", "month", "day", "hour", "void", "bucket[16]", "truncate[4]"] {
            assert_eq!(text.parse::<Transform>().unwrap().to_string(), text);
        }
        for text in ["bucket", "bucket[0]", "truncate[x]", "Day", "truncate[4"] {
            assert!(text.parse::<Transform>().is_err(), "{text}");
        }
    }
}
