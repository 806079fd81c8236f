//! `timezone(zone, moment)`, which `moment AT TIME ZONE zone` stands for.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::interval::by_rows;
use crate::error::Error;
use crate::value::input;
use crate::value::output::TimeZone;

/// Name of the function.
pub const TIMEZONE: &str = "timezone";

/// An instant becomes what the clock in the zone shows, and what a clock shows becomes the instant.
pub fn timezone() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(AtTimeZone {
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtTimeZone {
    signature: Signature,
}

fn timestamp(zoned: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| Arc::from("UTC")))
}

fn is_zoned(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        TIMEZONE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(timestamp(!is_zoned(&types[1])))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            // Text is taken for an instant, as PostgreSQL prefers its type.
            [_, DataType::Utf8 | DataType::Utf8View | DataType::Null] => {
                Ok(vec![DataType::Utf8, timestamp(true)])
            }
            // A date is its midnight.
            [_, moment @ (DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)] => {
                Ok(vec![DataType::Utf8, timestamp(is_zoned(moment))])
            }
            _ => Err(Error::FunctionNotFound(
                "function timezone takes the name of a zone and a timestamp".to_owned(),
            )
            .into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        by_rows(&args, |columns| {
            let names = columns[0].as_string::<i32>();
            let zoned = is_zoned(columns[1].data_type());
            let micros = columns[1].as_primitive::<TimestampMicrosecondType>();
            let mut last: Option<(&str, TimeZone)> = None;
            let shifted = names.iter().zip(micros).map(|row| match row {
                (Some(name), Some(micros)) => {
                    let zone = match last {
                        Some((known, zone)) if known == name => zone,
                        _ => zone_of(name)?,
                    };
                    last = Some((name, zone));
                    if zoned {
                        Ok(Some(input::to_local(micros, &zone)))
                    } else {
                        input::to_utc(micros, &zone).map(Some)
                    }
                }
                _ => Ok(None),
            });
            let shifted = shifted.collect::<Result<TimestampMicrosecondArray, Error>>()?;
            let shifted: ArrayRef = Arc::new(shifted.with_timezone_opt((!zoned).then_some("UTC")));
            Ok(shifted)
        })
    }
}

pub(super) fn zone_of(name: &str) -> Result<TimeZone, Error> {
    name.parse().map_err(|_| Error::InvalidParameter(format!("time zone \"{name}\" not recognized")))
}
