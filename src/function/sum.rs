//! `sum`: DataFusion's own, but that a sum of integers beyond `bigint` is an error.
//!
//! PostgreSQL gives the sum of bigints as numeric, which never ends; DataFusion's wraps around. Here
//! it stays a bigint, which is half as wide and sent as the clients of counts expect it, and one that
//! does not fit is refused. Groups note a carry in a flag that is read once a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

use super::integer::out_of_range;

/// The aggregate.
pub(super) fn sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(CheckedSum(Sum::new())))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum(Sum);

fn of_integers(args: &AccumulatorArgs) -> bool {
    !args.is_distinct && *args.return_field.data_type() == DataType::Int64
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if of_integers(&args) { Ok(Box::new(Total::default())) } else { self.0.accumulator(args) }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if !of_integers(&args) {
            return self.0.create_groups_accumulator(args);
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
        Ok(Box::new(Groups { inner: Box::new(inner), wrapped }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if of_integers(&args) {
            Ok(Box::new(Total::default()))
        } else {
            self.0.create_sliding_accumulator(args)
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.0.set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(
        &self,
        aggregate: &AggregateFunction,
        argument: &Expr,
        op: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.0.simplify_expr_op_literal(aggregate, argument, op, literal, argument_is_left)
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs) -> Option<ScalarValue> {
        self.0.value_from_stats(statistics)
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
