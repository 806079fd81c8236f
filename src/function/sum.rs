//! `sum`: DataFusion's own, with PostgreSQL's types.
//!
//! The sum of smallints and integers is a bigint, that of bigints a numeric; DataFusion's wraps around.
//! A bigint that does not fit is refused: groups note a carry in a flag that is read once a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, FieldRef, Int64Type};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs, Volatility,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

use super::integer::out_of_range;
use crate::error::Error;
use crate::value::types;

/// The aggregate.
pub fn sum() -> Arc<AggregateUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::from(CheckedSum { inner: Sum::new(), signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    inner: Sum,
    signature: Signature,
}

fn of_integers(args: &AccumulatorArgs) -> bool {
    !args.is_distinct && *args.return_field.data_type() == DataType::Int64
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What is added, before it is widened: doing this twice gives the same as doing it once.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [data_type] = types else { return plan_err!("sum takes one argument, not {}", types.len()) };
        Ok(vec![added_as(data_type)?])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Int32 => Ok(DataType::Int64),
            DataType::Int64 => Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)),
            _ => self.inner.return_type(types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let to = widened_to(&args);
        let inner =
            if of_integers(&args) { Box::new(Total::default()) } else { self.inner.accumulator(args)? };
        Ok(widened(inner, to))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let to = widened_to(&args);
        if !of_integers(&args) {
            let inner = self.inner.create_groups_accumulator(args)?;
            return Ok(match to {
                Some(to) => Box::new(Widened { inner, to }),
                None => inner,
            });
        }
        let wrapped = Arc::new(AtomicBool::new(false));
        let carry = Arc::clone(&wrapped);
        let add = move |sum: &mut i64, value: i64| {
            let (next, wraps) = sum.overflowing_add(value);
            *sum = next;
            if wraps {
                carry.store(true, Ordering::Relaxed);
            }
        };
        let inner = PrimitiveGroupsAccumulator::<Int64Type, _>::new(&DataType::Int64, add);
        let groups: Box<dyn GroupsAccumulator> = Box::new(Groups { inner: Box::new(inner), wrapped });
        Ok(match to {
            Some(to) => Box::new(Widened { inner: groups, to }),
            None => groups,
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let to = widened_to(&args);
        let inner = match of_integers(&args) {
            true => Box::new(Total::default()),
            false => self.inner.create_sliding_accumulator(args)?,
        };
        Ok(widened(inner, to))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(
        &self,
        aggregate: &AggregateFunction,
        argument: &Expr,
        op: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        // Taken apart, an integer's sum could have another type, and that of a cast has the name of the
        // sum of what is cast.
        let is_cast = argument.exists(|part| Ok(matches!(part, Expr::Cast(_) | Expr::TryCast(_))))?;
        if is_cast || matches!(literal, Expr::Literal(value, _) if value.data_type().is_integer()) {
            return Ok(None);
        }
        self.inner.simplify_expr_op_literal(aggregate, argument, op, literal, argument_is_left)
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.value_from_stats(statistics)
    }
}

/// The type in which values of a type are taken.
fn added_as(data_type: &DataType) -> Result<DataType> {
    Ok(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            DataType::Int32
        }
        DataType::Int64 | DataType::UInt32 | DataType::Null => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Dictionary(_, value) => added_as(value)?,
        decimal if decimal.is_decimal() => decimal.clone(),
        DataType::Duration(_) | DataType::Interval(_) => data_type.clone(),
        other => {
            let name = types::type_name(types::pg_type_of(other).oid);
            return Err(Error::FunctionNotFound(format!("function sum({name}) does not exist")).into());
        }
    })
}

/// The type that integers are cast to before they are added.
fn widened_to(args: &AccumulatorArgs) -> Option<DataType> {
    let (from, to) = (args.expr_fields.first()?.data_type(), args.return_field.data_type());
    (from.is_integer() && from != to).then(|| to.clone())
}

fn widened(inner: Box<dyn Accumulator>, to: Option<DataType>) -> Box<dyn Accumulator> {
    match to {
        Some(to) => Box::new(Widened { inner, to }),
        None => inner,
    }
}

/// Sums that are given narrower values than they add.
#[derive(Debug)]
struct Widened<T> {
    inner: T,
    to: DataType,
}

impl<T> Widened<T> {
    fn cast(&self, values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        values.iter().map(|column| Ok(cast(column, &self.to)?)).collect()
    }
}

impl Accumulator for Widened<Box<dyn Accumulator>> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = self.cast(values)?;
        self.inner.update_batch(&values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = self.cast(values)?;
        self.inner.retract_batch(&values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
}

impl GroupsAccumulator for Widened<Box<dyn GroupsAccumulator>> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let values = self.cast(values)?;
        self.inner.update_batch(&values, groups, filter, total_groups)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.inner.merge_batch(values, groups, total_groups)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(&self.cast(values)?, filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// The sum of one group, wide enough for as many bigints as there are.
#[derive(Debug, Default)]
struct Total {
    sum: i128,
    count: usize,
}

impl Total {
    fn value(&self) -> Result<ScalarValue> {
        if self.count == 0 {
            return Ok(ScalarValue::Int64(None));
        }
        let sum = i64::try_from(self.sum).map_err(|_| out_of_range(&DataType::Int64))?;
        Ok(ScalarValue::Int64(Some(sum)))
    }
}

/// The exact sum of the values that are not null.
fn total(values: &Int64Array) -> i128 {
    if values.null_count() > 0 {
        return values.iter().flatten().map(i128::from).sum();
    }
    // Halves that no batch is long enough to overflow, so that several are added at a time.
    let (mut high, mut low) = (0_i64, 0_i64);
    for value in values.values() {
        high += value >> 32;
        low += value & 0xffff_ffff;
    }
    (i128::from(high) << 32) + i128::from(low)
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Int64Type>();
        self.sum += total(values);
        self.count += values.len() - values.null_count();
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Int64Type>();
        self.sum -= total(values);
        self.count -= values.len() - values.null_count();
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.value()
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// The sums of many groups.
struct Groups {
    inner: Box<dyn GroupsAccumulator>,
    /// Set once a sum did not fit.
    wrapped: Arc<AtomicBool>,
}

impl Groups {
    fn check(&self) -> Result<()> {
        if self.wrapped.load(Ordering::Relaxed) {
            return Err(out_of_range(&DataType::Int64).into());
        }
        Ok(())
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.inner.update_batch(values, groups, filter, total_groups)?;
        self.check()
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.inner.merge_batch(values, groups, total_groups)?;
        self.check()
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_exact() {
        let values = Int64Array::from(vec![i64::MAX, i64::MAX, i64::MIN, i64::MIN, -1, 7]);
        assert_eq!(total(&values), 4);
        let values = Int64Array::from(vec![Some(i64::MAX), None, Some(1)]);
        assert_eq!(total(&values), i128::from(i64::MAX) + 1);
    }

    #[test]
    fn a_window_can_shrink_again() {
        let mut sum = Total::default();
        let column = |values: Vec<i64>| -> [ArrayRef; 1] { [Arc::new(Int64Array::from(values))] };
        sum.update_batch(&column(vec![i64::MAX, 5])).unwrap();
        assert!(sum.evaluate().is_err());
        sum.retract_batch(&column(vec![i64::MAX])).unwrap();
        assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(Some(5)));
        sum.retract_batch(&column(vec![5])).unwrap();
        assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(None));
    }
}
