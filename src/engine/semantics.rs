//! Semantics: what PostgreSQL means by an operator or a cast, once types are known.
//!
//! DataFusion's type coercion decides the types of every expression; after it, [`Semantics`] replaces
//! what Arrow would compute otherwise than PostgreSQL: integers that overflow, casts that round or
//! print, instants that a session sees in its own zone. It changes how a value is computed, never
//! its type, and leaves alone what is the same in both.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::function_rewrite::ApplyFunctionRewrites;

use super::catalog_types;
use crate::function::{Arithmetic, Float, NUMERIC, SessionFacts, cast, timezone};

/// Functions of DataFusion that read a moment's fields, in the zone that its type names.
const FIELD_FUNCTIONS: [&str; 2] = ["date_part", "date_trunc"];
const DAY_NANOS: i64 = 86_400_000_000_000;

/// The rewrites of one session.
#[derive(Debug)]
pub struct Semantics {
    facts: Arc<SessionFacts>,
}

impl Semantics {
    pub fn new(facts: Arc<SessionFacts>) -> Arc<Self> {
        Arc::new(Self { facts })
    }

    /// The rule that rewrites every expression of a plan; it runs after type coercion.
    pub fn rule(self: &Arc<Self>) -> Arc<dyn AnalyzerRule + Send + Sync> {
        Arc::new(ApplyFunctionRewrites::new(vec![Arc::clone(self) as _]))
    }

    /// Rewrites an expression that stands in no plan.
    ///
    /// # Errors
    /// None that a coerced expression could cause.
    pub fn apply(&self, expr: Expr, schema: &DFSchema, options: &ConfigOptions) -> Result<Expr> {
        Ok(expr.transform_up(|expr| self.rewrite(expr, schema, options))?.data)
    }

    fn binary(&self, binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let arithmetic = match binary.op {
            Operator::Plus => Arithmetic::Add,
            Operator::Minus => Arithmetic::Subtract,
            Operator::Multiply => Arithmetic::Multiply,
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => return compared(binary, schema),
            Operator::Divide => return divided(binary, schema),
            _ => return Ok(Transformed::no(Expr::BinaryExpr(binary))),
        };
        let (left, right) = (type_of(&binary.left, schema)?, type_of(&binary.right, schema)?);
        if left == right && left.is_integer() {
            return Ok(called(arithmetic.function(), vec![*binary.left, *binary.right]));
        }
        Ok(Transformed::no(Expr::BinaryExpr(binary)))
    }

    fn cast(&self, cast: Cast, schema: &DFSchema, options: &ConfigOptions) -> Result<Transformed<Expr>> {
        if let Some(text) = catalog_types::printed(&cast, schema, &self.facts) {
            return Ok(Transformed::yes(text));
        }
        let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type().clone());
        if let Some(function) = cast::between(&from, &to, &self.facts) {
            return Ok(called(function, vec![*cast.expr]));
        }
        match (&from, &to) {
            // What an instant's clock shows. Arrow would show that of UTC.
            (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None)) => {
                let zone = Expr::Literal(ScalarValue::from(session_zone(options).as_ref()), None);
                let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
                let instant = Expr::Cast(Cast::new(cast.expr, micros));
                let local = called(timezone(), vec![zone, instant]).data;
                Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(local), ..cast })))
            }
            (DataType::Timestamp(..), DataType::Date32 | DataType::Time32(_) | DataType::Time64(_)) => {
                match in_session_zone(*cast.expr.clone(), &from, options) {
                    Some(local) => Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(local), ..cast }))),
                    None => Ok(Transformed::no(Expr::Cast(cast))),
                }
            }
            // The instant at which the clock shows it.
            (
                DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64,
                DataType::Timestamp(unit, Some(zone)),
            ) if !is_zone(zone, options) => {
                let local = DataType::Timestamp(*unit, Some(session_zone(options)));
                let instant = Expr::Cast(Cast::new(cast.expr, local));
                Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(instant), ..cast })))
            }
            _ => Ok(Transformed::no(Expr::Cast(cast))),
        }
    }

    fn function(
        &self,
        mut call: ScalarFunction,
        schema: &DFSchema,
        options: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        if call.func.name() == NUMERIC
            && let [value] = call.args.as_slice()
        {
            let to = call.func.return_type(&[value.get_type(schema)?])?;
            let cast = self.cast(Cast::new(Box::new(value.clone()), to), schema, options)?;
            return Ok(Transformed::yes(cast.data));
        }
        if call.func.name() == "round"
            && let [value] = call.args.as_slice()
            && value.get_type(schema)?.is_floating()
        {
            return Ok(called(Float::RoundToEven.function(), vec![value.clone()]));
        }
        if !FIELD_FUNCTIONS.contains(&call.func.name()) || call.args.len() != 2 {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        }
        let from = call.args[1].get_type(schema)?;
        let to_schema = from.clone();
        let Some(local) = in_session_zone(call.args[1].clone(), &from, options) else {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        };
        let truncates = call.func.name() == "date_trunc";
        call.args[1] = local;
        let call = Expr::ScalarFunction(call);
        // What is cut off stays in the zone that the plan's schema names.
        Ok(Transformed::yes(if truncates { Expr::Cast(Cast::new(Box::new(call), to_schema)) } else { call }))
    }
}

impl FunctionRewrite for Semantics {
    fn name(&self) -> &str {
        "postgres_semantics"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, options: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::BinaryExpr(binary) => self.binary(binary, schema),
            Expr::Negative(value) if value.get_type(schema)?.is_integer() => {
                Ok(called(Arithmetic::Negate.function(), vec![*value]))
            }
            Expr::Cast(cast) => self.cast(cast, schema, options),
            Expr::ScalarFunction(call) => self.function(call, schema, options),
            Expr::Between(between) => bounded(between, schema),
            other => Ok(Transformed::no(other)),
        }
    }
}

/// The type of an expression. DataFusion would name each call within a chain of sums to know its type.
fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    match expr {
        Expr::ScalarFunction(call) if Arithmetic::is(&call.func) => type_of(&call.args[0], schema),
        _ => expr.get_type(schema),
    }
}

/// A float by zero is an error, and not infinite.
fn divided(binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (left, right) = (binary.left.get_type(schema)?, binary.right.get_type(schema)?);
    // What is divided by a written number that is not zero is left to Arrow.
    let is_safe = matches!(binary.right.as_ref(), Expr::Literal(value, _) if !is_zero(value));
    match left == right && left.is_floating() && !is_safe {
        true => Ok(called(Float::Divide.function(), vec![*binary.left, *binary.right])),
        false => Ok(Transformed::no(Expr::BinaryExpr(binary))),
    }
}

fn is_zero(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::Float64(Some(0.0)) | ScalarValue::Float32(Some(0.0)))
}

fn called(function: Arc<ScalarUDF>, args: Vec<Expr>) -> Transformed<Expr> {
    Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: function, args }))
}

fn session_zone(options: &ConfigOptions) -> Arc<str> {
    options.execution.time_zone.as_deref().unwrap_or("UTC").into()
}

fn is_zone(zone: &str, options: &ConfigOptions) -> bool {
    *zone == *session_zone(options)
}

/// An instant whose type names another zone than the session's, with the session's; none for others.
fn in_session_zone(instant: Expr, from: &DataType, options: &ConfigOptions) -> Option<Expr> {
    match from {
        DataType::Timestamp(unit, Some(zone)) if !is_zone(zone, options) => {
            let local = DataType::Timestamp(*unit, Some(session_zone(options)));
            Some(Expr::Cast(Cast::new(Box::new(instant), local)))
        }
        _ => None,
    }
}

/// `day < timestamp`, where the timestamp is constant, as a comparison of days.
///
/// A date and a timestamp compare as timestamps, but files are pruned by the column as it is stored.
fn compared(binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let BinaryExpr { left, op, right } = binary;
    if let (Some(day), true) = (day_of(&left, schema), is_constant_timestamp(&right, schema)) {
        let bound = bound(*right, op);
        return Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(day), op, Box::new(bound)))));
    }
    if let (Some(day), true, Some(swapped)) =
        (day_of(&right, schema), is_constant_timestamp(&left, schema), op.swap())
    {
        let bound = bound(*left, swapped);
        let compared = BinaryExpr::new(Box::new(day), swapped, Box::new(bound));
        return Ok(Transformed::yes(Expr::BinaryExpr(compared)));
    }
    Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
}

/// `day BETWEEN timestamp AND timestamp` likewise.
fn bounded(between: Between, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let bounds = [&between.low, &between.high];
    let constant = bounds.iter().all(|bound| is_constant_timestamp(bound, schema));
    let Some(day) = day_of(&between.expr, schema).filter(|_| constant) else {
        return Ok(Transformed::no(Expr::Between(between)));
    };
    Ok(Transformed::yes(Expr::Between(Between {
        expr: Box::new(day),
        negated: between.negated,
        low: Box::new(bound(*between.low, Operator::GtEq)),
        high: Box::new(bound(*between.high, Operator::LtEq)),
    })))
}

/// The date that an expression makes a timestamp of.
fn day_of(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::Cast(Cast { expr, field }) = expr else { return None };
    let to_timestamp = matches!(field.data_type(), DataType::Timestamp(_, None));
    let is_column = matches!(expr.as_ref(), Expr::Column(_));
    let is_date = to_timestamp && is_column && expr.get_type(schema).ok()? == DataType::Date32;
    is_date.then(|| expr.as_ref().clone())
}

fn is_constant_timestamp(expr: &Expr, schema: &DFSchema) -> bool {
    let is_timestamp = matches!(expr.get_type(schema), Ok(DataType::Timestamp(_, None)));
    is_timestamp && expr.column_refs().is_empty() && !expr.is_volatile() && !expr.contains_outer() && {
        let has_subquery = expr.exists(|inner| {
            Ok(matches!(inner, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)))
        });
        !has_subquery.unwrap_or(true)
    }
}

/// The day that compares with days as the timestamp does: its own, or the next after its midnight.
fn bound(timestamp: Expr, op: Operator) -> Expr {
    let timestamp = match op {
        Operator::Lt | Operator::GtEq => {
            let almost_a_day = ScalarValue::new_interval_mdn(0, 0, DAY_NANOS - 1_000);
            let interval = Expr::Literal(almost_a_day, None);
            Expr::BinaryExpr(BinaryExpr::new(Box::new(timestamp), Operator::Plus, Box::new(interval)))
        }
        _ => timestamp,
    };
    Expr::Cast(Cast::new(Box::new(timestamp), DataType::Date32))
}

/// The type of every interval that has months, days and time.
pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
