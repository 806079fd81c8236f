//! Functions on arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::cast::as_list_array;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::row::{RowFunction, Values, utf8};

/// Name of the function that stands around the aggregate of `ARRAY(SELECT …)`.
pub const ARRAY_OR_EMPTY: &str = "array_or_empty";

pub(super) fn functions() -> Vec<RowFunction> {
    vec![
        RowFunction::new("array_upper", 2..=2, DataType::Int64, |values| bound(values, |length| length)),
        RowFunction::new("array_lower", 2..=2, DataType::Int64, |values| bound(values, |_| 1)),
        RowFunction::new("array_dims", 1..=1, DataType::Utf8, |values| {
            let (mut dims, mut value) = (String::new(), values.all()[0].clone());
            while let ScalarValue::List(list) = &value {
                let items = list.value(0);
                if items.is_empty() {
                    break;
                }
                dims.push_str(&format!("[1:{}]", items.len()));
                value = ScalarValue::try_from_array(&items, 0)?;
            }
            Ok(if dims.is_empty() { ScalarValue::Utf8(None) } else { utf8(dims) })
        }),
    ]
}

/// The bound of an array's one dimension; null for an empty array or another dimension.
///
/// A bigint, because that is what `generate_series` takes.
fn bound(values: &Values<'_>, of_length: fn(i64) -> i64) -> Result<ScalarValue> {
    let ScalarValue::List(list) = &values.all()[0] else {
        return Err(values.refuse("the first argument is not an array"));
    };
    let length = list.value(0).len();
    match values.integer(1) {
        Some(1) if length > 0 => Ok(ScalarValue::Int64(i64::try_from(length).ok().map(of_length))),
        _ => Ok(ScalarValue::Null),
    }
}

/// The array itself, or the empty array of its type where it is null.
///
/// An aggregate over no row is null, where PostgreSQL's `ARRAY(SELECT …)` is empty.
pub(super) fn array_or_empty() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(ArrayOrEmpty { signature: Signature::any(1, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayOrEmpty {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayOrEmpty {
    fn name(&self) -> &str {
        ARRAY_OR_EMPTY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            list @ DataType::List(_) => Ok(list.clone()),
            other => plan_err!("{ARRAY_OR_EMPTY} takes an array, not {other}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        if lists.null_count() == 0 {
            return Ok(ColumnarValue::Array(lists));
        }
        let lists = as_list_array(&lists)?;
        let DataType::List(item) = lists.data_type() else {
            return plan_err!("{ARRAY_OR_EMPTY} takes an array");
        };
        let kept: Vec<ArrayRef> = lists.iter().flatten().collect();
        let kept: Vec<&dyn Array> = kept.iter().map(AsRef::as_ref).collect();
        let values = match kept.is_empty() {
            true => arrow::array::new_empty_array(item.data_type()),
            false => arrow::compute::concat(&kept)?,
        };
        let lengths = lists.iter().map(|list| list.map_or(0, |list| list.len()));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, None)?)))
    }
}

/// `information_schema._pg_expandarray(array)`, which drivers ask of `pg_index.indkey`.
pub(super) fn expand_array() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(ExpandArray { signature: Signature::any(1, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExpandArray {
    signature: Signature,
}

impl ScalarUDFImpl for ExpandArray {
    fn name(&self) -> &str {
        "_pg_expandarray"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let DataType::List(item) = &types[0] else {
            return plan_err!("_pg_expandarray takes an array, not {}", types[0]);
        };
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Struct(numbered(item)), true))))
    }

    /// A list of pairs, which the dialect unnests: a function has one value for a row.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        let lists = as_list_array(&lists)?;
        let DataType::List(pair) = args.return_type() else {
            return plan_err!("_pg_expandarray gives a list");
        };
        let DataType::List(item) = lists.data_type() else {
            return plan_err!("_pg_expandarray takes an array");
        };
        let kept: Vec<ArrayRef> = lists.iter().flatten().collect();
        let kept: Vec<&dyn Array> = kept.iter().map(AsRef::as_ref).collect();
        let values = match kept.is_empty() {
            true => arrow::array::new_empty_array(item.data_type()),
            false => arrow::compute::concat(&kept)?,
        };
        let lengths: Vec<usize> = lists.iter().map(|list| list.map_or(0, |list| list.len())).collect();
        let numbers: Int32Array = lengths.iter().flat_map(|length| (1..).take(*length)).collect();
        let pairs = StructArray::try_new(numbered(item), vec![values, Arc::new(numbers)], None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = lists.nulls().cloned();
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(
            Arc::clone(pair),
            offsets,
            Arc::new(pairs),
            nulls,
        )?)))
    }
}

/// An element and its place.
fn numbered(item: &FieldRef) -> Fields {
    let element = Field::new("x", item.data_type().clone(), true).with_metadata(item.metadata().clone());
    Fields::from(vec![element, Field::new("n", DataType::Int32, true)])
}
