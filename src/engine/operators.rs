//! Operators: those of PostgreSQL whose types DataFusion does not know.
//!
//! `interval * number`, `date + interval` (a timestamp), `date - date` (an integer), comparisons of
//! intervals, quotients of numerics, averages; and the integers that are written in a statement, which count as `integer` beside one.

mod other;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{
    AggregateFunction, BinaryExpr, Cast, ScalarFunction, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawWindowExpr,
};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, Operator, WindowFunctionDefinition};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::semantics::INTERVAL;
use crate::error::Error;
use crate::function::cast::uuid_in;
use crate::function::{IntervalOperation, NumericOperation, sum};
use crate::value::types;

/// Plans operators; the types of both sides decide.
#[derive(Debug)]
pub struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if matches!(expr.op, BinaryOperator::And | BinaryOperator::Or) {
            return Ok(PlannerResult::Original(expr));
        }
        let (Ok(left), Ok(right)) = (field_of(&expr.left, schema), field_of(&expr.right, schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let expr = match other::plan(expr, &left, &right) {
            PlannerResult::Original(expr) => expr,
            planned => return Ok(planned),
        };
        let (left, right) = (expr.left.get_type(schema)?, expr.right.get_type(schema)?);
        if let Some(op) = comparison(&expr.op)
            && is_interval(&left)
            && is_interval(&right)
            && (left == INTERVAL || right == INTERVAL)
        {
            let compared = BinaryExpr::new(Box::new(ordered(expr.left)), op, Box::new(ordered(expr.right)));
            return Ok(PlannerResult::Planned(Expr::BinaryExpr(compared)));
        }
        if comparison(&expr.op).is_some() {
            let expr = with_boolean(expr, &left, &right);
            return Ok(PlannerResult::Original(with_uuid(expr, &left, &right)));
        }
        arithmetic(expr, &left, &right)
    }

    /// `avg(x)` as `sum(x) / count(x)`: the sum's type decides, and both are shared with others.
    fn plan_aggregate(&self, expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        let expr = RawAggregateExpr { args: told_apart(expr.args), ..expr };
        if expr.func.name() != "avg" || expr.args.len() != 1 {
            return Ok(PlannerResult::Original(expr));
        }
        let RawAggregateExpr { args, distinct, filter, null_treatment, .. } = expr;
        let over = |func: Arc<AggregateUDF>| {
            let (args, filter) = (args.clone(), filter.clone());
            Expr::AggregateFunction(AggregateFunction::new_udf(
                func,
                args,
                distinct,
                filter,
                vec![],
                null_treatment,
            ))
        };
        Ok(PlannerResult::Planned(mean(over(sum()), over(count_udaf()))))
    }

    fn plan_window(&self, expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        let expr = RawWindowExpr { args: told_apart(expr.args), ..expr };
        let of = |fun: WindowFunctionDefinition| {
            let one = expr.clone();
            Expr::from(WindowFunction {
                fun,
                params: WindowFunctionParams {
                    args: one.args,
                    partition_by: one.partition_by,
                    order_by: one.order_by,
                    window_frame: one.window_frame,
                    filter: one.filter,
                    null_treatment: one.null_treatment,
                    distinct: one.distinct,
                },
            })
        };
        // DataFusion counts without signs, which PostgreSQL has no type for.
        let planned = match (&expr.func_def, expr.func_def.name()) {
            (WindowFunctionDefinition::WindowUDF(_), "row_number" | "rank" | "dense_rank") => {
                cast_to(of(expr.func_def.clone()), DataType::Int64)
            }
            (WindowFunctionDefinition::WindowUDF(_), "ntile") => {
                cast_to(of(expr.func_def.clone()), DataType::Int32)
            }
            (WindowFunctionDefinition::AggregateUDF(_), "avg") if expr.args.len() == 1 => {
                let over = |func: Arc<AggregateUDF>| of(WindowFunctionDefinition::AggregateUDF(func));
                mean(over(sum()), over(count_udaf()))
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// The type of an expression, and what kind of it. An operator's result is of no kind, and gets no name: its
/// name is as long as its operands together, and would be made anew for each link of a chain.
fn field_of(expr: &Expr, schema: &DFSchema) -> Result<FieldRef> {
    match expr {
        Expr::BinaryExpr(_) => Ok(Arc::new(Field::new("", expr.get_type(schema)?, true))),
        _ => Ok(expr.to_field(schema)?.1),
    }
}

/// Arguments that are cast, under names that say so: by its own name, DataFusion takes `sum(n::bigint)` for
/// `sum(n)`.
fn told_apart(args: Vec<Expr>) -> Vec<Expr> {
    let named = |arg: Expr| match &arg {
        Expr::Cast(_) | Expr::TryCast(_) => {
            let name = arg.to_string();
            arg.alias(name)
        }
        _ => arg,
    };
    args.into_iter().map(named).collect()
}

fn mean(sum: Expr, count: Expr) -> Expr {
    let func = NumericOperation::Average.function();
    Expr::ScalarFunction(ScalarFunction { func, args: vec![sum, count] })
}

/// A quoted literal beside a truth value is read as one.
fn with_boolean(expr: RawBinaryExpr, left: &DataType, right: &DataType) -> RawBinaryExpr {
    let RawBinaryExpr { op, left: a, right: b } = expr;
    let is_quoted = |side: &Expr| matches!(side, Expr::Literal(ScalarValue::Utf8(Some(_)), _));
    match (left, right) {
        (DataType::Boolean, _) if is_quoted(&b) => {
            RawBinaryExpr { op, left: a, right: cast_to(b, DataType::Boolean) }
        }
        (_, DataType::Boolean) if is_quoted(&a) => {
            RawBinaryExpr { op, left: cast_to(a, DataType::Boolean), right: b }
        }
        _ => RawBinaryExpr { op, left: a, right: b },
    }
}

/// A text beside a uuid is read as one.
fn with_uuid(expr: RawBinaryExpr, left: &DataType, right: &DataType) -> RawBinaryExpr {
    let RawBinaryExpr { op, left: a, right: b } = expr;
    let read = |text: Expr| Expr::ScalarFunction(ScalarFunction { func: uuid_in(), args: vec![text] });
    let is_text = |ty: &DataType| matches!(ty, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    match (left, right) {
        (DataType::FixedSizeBinary(16), text) if is_text(text) => {
            RawBinaryExpr { op, left: a, right: read(b) }
        }
        (text, DataType::FixedSizeBinary(16)) if is_text(text) => {
            RawBinaryExpr { op, left: read(a), right: b }
        }
        _ => RawBinaryExpr { op, left: a, right: b },
    }
}

fn comparison(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

fn arithmetic(
    expr: RawBinaryExpr,
    left: &DataType,
    right: &DataType,
) -> Result<PlannerResult<RawBinaryExpr>> {
    use BinaryOperator::{
        BitwiseAnd, BitwiseOr, Divide, Minus, Modulo, Multiply, PGBitwiseShiftLeft, PGBitwiseShiftRight,
        PGBitwiseXor, Plus,
    };
    use DataType::{Date32, Timestamp};
    let RawBinaryExpr { op, left: a, right: b } = expr;
    let planned = match (&op, left, right) {
        (Multiply, interval, number) if is_interval(interval) && number.is_numeric() => {
            reckoned(IntervalOperation::Multiply, a, b)
        }
        (Multiply, number, interval) if is_interval(interval) && number.is_numeric() => {
            reckoned(IntervalOperation::Multiply, b, a)
        }
        (Divide, interval, number) if is_interval(interval) && number.is_numeric() => {
            reckoned(IntervalOperation::Divide, a, b)
        }
        (Minus, Date32, Date32) => cast_to(binary(a, Operator::Minus, b), DataType::Int32),
        (Plus, Date32, interval) if is_interval(interval) => binary(midnight(a), Operator::Plus, b),
        (Plus, interval, Date32) if is_interval(interval) => binary(midnight(b), Operator::Plus, a),
        (Minus, Date32, interval) if is_interval(interval) => binary(midnight(a), Operator::Minus, b),
        (Plus | Minus, DataType::Duration(_), DataType::Interval(_)) => {
            let op = if op == Plus { Operator::Plus } else { Operator::Minus };
            binary(cast_to(a, INTERVAL), op, b)
        }
        (Plus | Minus, DataType::Interval(_), DataType::Duration(_)) => {
            let op = if op == Plus { Operator::Plus } else { Operator::Minus };
            binary(a, op, cast_to(b, INTERVAL))
        }
        (Plus, Date32 | Timestamp(..), Date32 | Timestamp(..)) => return Err(unknown(&op, left, right)),
        (Plus | Minus, Timestamp(..), number) | (Plus, number, Timestamp(..)) if number.is_numeric() => {
            let shown = |expr: &Expr, ty: &DataType| {
                if written(expr).is_some() { DataType::Int32 } else { ty.clone() }
            };
            return Err(unknown(&op, &shown(&a, left), &shown(&b, right)));
        }
        (Multiply | Divide, left, right)
            if let Some(operation) = NumericOperation::between(op == Divide, left, right) =>
        {
            Expr::ScalarFunction(ScalarFunction { func: operation.function(), args: vec![a, b] })
        }
        (Plus | Minus | Multiply | Divide | Modulo, _, _)
        | (BitwiseAnd | BitwiseOr | PGBitwiseXor, _, _)
        | (PGBitwiseShiftLeft | PGBitwiseShiftRight, _, _) => {
            let (a, b) = integers(a, left, b, right);
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left: a, right: b }));
        }
        _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left: a, right: b })),
    };
    Ok(PlannerResult::Planned(planned))
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// A number that is written without a point is an `integer` if it fits.
fn integers(a: Expr, left: &DataType, b: Expr, right: &DataType) -> (Expr, Expr) {
    let narrow = |ty: &DataType| matches!(ty, DataType::Int16 | DataType::Int32);
    match (written(&a), written(&b)) {
        (Some(a), Some(b)) => (a, b),
        (Some(a), None) if narrow(right) => (a, b),
        (None, Some(b)) if narrow(left) => (a, b),
        _ => (a, b),
    }
}

fn written(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => {
            let value = i32::try_from(*value).ok()?;
            Some(Expr::Literal(ScalarValue::Int32(Some(value)), metadata.clone()))
        }
        _ => None,
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn cast_to(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), data_type))
}

/// The timestamp at which a date begins.
fn midnight(date: Expr) -> Expr {
    cast_to(date, DataType::Timestamp(TimeUnit::Microsecond, None))
}

fn reckoned(operation: IntervalOperation, interval: Expr, number: Expr) -> Expr {
    let args = vec![cast_to(interval, INTERVAL), cast_to(number, DataType::Float64)];
    Expr::ScalarFunction(ScalarFunction { func: operation.function(), args })
}

fn ordered(interval: Expr) -> Expr {
    let args = vec![cast_to(interval, INTERVAL)];
    Expr::ScalarFunction(ScalarFunction { func: IntervalOperation::Order.function(), args })
}

fn unknown(op: &BinaryOperator, left: &DataType, right: &DataType) -> datafusion::error::DataFusionError {
    let name = |ty: &DataType| types::type_name(types::pg_type_of(ty).oid);
    let message = format!("operator does not exist: {} {op} {}", name(left), name(right));
    Error::FunctionNotFound(message).into()
}

/// The planner, for a session state to know.
pub fn planner() -> Arc<dyn ExprPlanner> {
    Arc::new(Operators)
}
