//! Functions that build json.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use serde_json::Value;

use super::row::{RowFunction, Values, text, utf8};

pub(super) fn functions() -> Vec<RowFunction> {
    vec![
        RowFunction::new("json_build_object", 0..=100, DataType::Utf8, build_object)
            .nulls()
            .alias("jsonb_build_object"),
    ]
}

/// The object in PostgreSQL's layout: `{"a" : 1, "b" : null}`.
fn build_object(values: &Values<'_>) -> Result<ScalarValue> {
    if !values.len().is_multiple_of(2) {
        return Err(values.refuse("the argument list must have an even number of elements"));
    }
    let pairs: Result<Vec<String>> = values
        .all()
        .chunks(2)
        .map(|pair| match text(&pair[0]) {
            Some(key) => Ok(format!("{} : {}", Value::from(key), json(&pair[1]))),
            None => Err(values.refuse("a key is null")),
        })
        .collect();
    Ok(utf8(format!("{{{}}}", pairs?.join(", "))))
}

fn json(value: &ScalarValue) -> Value {
    match value {
        value if value.is_null() => Value::Null,
        ScalarValue::Boolean(Some(value)) => Value::from(*value),
        ScalarValue::Float32(Some(value)) => Value::from(*value),
        ScalarValue::Float64(Some(value)) => Value::from(*value),
        ScalarValue::UInt64(Some(value)) => Value::from(*value),
        value if value.data_type().is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(value))) => Value::from(value),
            _ => Value::Null,
        },
        value => text(value).map_or(Value::Null, Value::from),
    }
}
