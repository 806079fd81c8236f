//! Casts: values to text and from it, and numbers to integers, as PostgreSQL makes them.
//!
//! Arrow's casts print a float as `1.0`, cut 3.7 to 3 and take `'\x00ff'` for six characters. These
//! functions stand in their place wherever PostgreSQL says otherwise; what a session's settings say
//! about the looks of values is read when a batch is cast.

mod input;
mod rounding;
mod text;

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::ScalarUDF;

use super::SessionFacts;
use crate::error::Result;
use crate::value::output::EncodeOptions;

pub use input::uuid_in;
pub use text::{differs as prints, of_scalar};

/// Name of the function that reads a uuid, which no type of DataFusion's SQL stands for.
pub const UUID_IN: &str = "uuid_in";

/// The function that casts `from` to `to` as PostgreSQL does; none where Arrow's own cast is right.
pub fn between(from: &DataType, to: &DataType, facts: &Arc<SessionFacts>) -> Option<Arc<ScalarUDF>> {
    match (from, to) {
        (from, to) if is_text(to) && text::differs(from) => Some(text::function(to, facts)),
        (from, to) if is_text(from) && input::differs(to) => Some(input::function(to, facts)),
        (from, to) if is_fractional(from) && to.is_integer() => Some(rounding::function(to)),
        _ => None,
    }
}

/// How values look under a session's settings.
///
/// # Errors
/// None for settings that were checked when they were set.
pub fn encode_options(facts: &SessionFacts) -> Result<EncodeOptions> {
    EncodeOptions::of(|name| facts.settings.value(name).unwrap_or_default())
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_fractional(data_type: &DataType) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    data_type.is_floating()
        || matches!(data_type, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..))
}

/// Microseconds as a number of another unit.
fn of_micros(micros: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        // Infinity has one number in every unit.
        _ if micros == i64::MAX || micros == i64::MIN => Some(micros),
        TimeUnit::Second => Some(micros.div_euclid(1_000_000)),
        TimeUnit::Millisecond => Some(micros.div_euclid(1_000)),
        TimeUnit::Microsecond => Some(micros),
        TimeUnit::Nanosecond => micros.checked_mul(1_000),
    }
}
