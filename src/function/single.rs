//! Single values: a subquery that stands where one value is expected.
//!
//! DataFusion joins a correlated scalar subquery only when it aggregates. The dialect therefore
//! spells `(SELECT e FROM t WHERE …)` as `only_value((SELECT first_two(e) FROM t WHERE …))`:
//! [`first_two`] keeps at most two values of a group, and [`only_value`] raises PostgreSQL's error
//! when the outer row that is being computed got two. A group that no outer row meets never raises.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use crate::error::Error;

/// Name of the aggregate that keeps at most two values.
pub const FIRST_TWO: &str = "first_two";
/// Name of the function that opens what [`FIRST_TWO`] kept.
pub const ONLY_VALUE: &str = "only_value";

/// The aggregate: a list of the first two values of a group, nulls included.
pub(super) fn first_two() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(FirstTwo { signature: Signature::any(1, Volatility::Immutable) }))
}

/// The function: the element of a list of one, null of none.
///
/// # Errors
/// [`Error::Cardinality`] for a list of two.
pub(super) fn only_value() -> Arc<ScalarUDF> {
    // Volatile, so that no optimizer moves it below the join, where groups without an outer row still are.
    Arc::new(ScalarUDF::from(OnlyValue { signature: Signature::any(1, Volatility::Volatile) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FirstTwo {
    signature: Signature,
}

fn list_of(item: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item.clone(), true)))
}

impl AggregateUDFImpl for FirstTwo {
    fn name(&self) -> &str {
        FIRST_TWO
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_of(&types[0]))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let DataType::List(item) = args.return_field.data_type() else {
            return exec_err!("{FIRST_TWO} returns a list");
        };
        Ok(Box::new(Kept { item: item.data_type().clone(), values: vec![] }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(args.name, args.return_type().clone(), true))])
    }
}

#[derive(Debug)]
struct Kept {
    item: DataType,
    values: Vec<ScalarValue>,
}

impl Kept {
    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        for row in 0..values.len().min(2 - self.values.len()) {
            self.values.push(ScalarValue::try_from_array(values, row)?);
        }
        Ok(())
    }

    fn list(&self) -> ScalarValue {
        ScalarValue::List(ScalarValue::new_list(&self.values, &self.item, true))
    }
}

impl Accumulator for Kept {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.list())
    }

    fn size(&self) -> usize {
        size_of_val(self) + ScalarValue::size_of_vec(&self.values)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.list()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = datafusion::common::cast::as_list_array(&states[0])?;
        for list in lists.iter().flatten() {
            self.add(&list)?;
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyValue {
    signature: Signature,
}

impl ScalarUDFImpl for OnlyValue {
    fn name(&self) -> &str {
        ONLY_VALUE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::List(item) => Ok(item.data_type().clone()),
            other => plan_err!("{ONLY_VALUE} takes what {FIRST_TWO} gives, not {other}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        let lists = datafusion::common::cast::as_list_array(&lists)?;
        let values: Result<Vec<_>> = lists.iter().map(|list| opened(list, args.return_type())).collect();
        let values = values?;
        if values.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(args.return_type())));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?))
    }
}

fn opened(list: Option<ArrayRef>, item: &DataType) -> Result<ScalarValue> {
    match list {
        Some(list) if list.len() > 1 => Err(Error::Cardinality(
            "more than one row returned by a subquery used as an expression".to_owned(),
        )
        .into()),
        Some(list) if list.len() == 1 => ScalarValue::try_from_array(&list, 0),
        _ => ScalarValue::try_from(item),
    }
}
