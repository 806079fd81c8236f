//! Types of the system catalogs: `oid`, its aliases that print as names, `name` and `"char"`.
//!
//! A value of one of them is a number or a text like any other; the field says which it is
//! ([`PG_TYPE`]). Here casts get such fields, references are shown by name where a query returns them,
//! and texts beside a reference are read as one.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr, TypePlanner,
};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator};

use crate::error;
use crate::function::types::PG_TYPE;
use crate::function::{SessionFacts, reference_input, reference_output};

/// Plans the types that casts name.
#[derive(Debug)]
pub struct CatalogTypes;

impl TypePlanner for CatalogTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let (data_type, pg_type) = match sql_type {
            // A name that is cast to text is one no longer.
            ast::DataType::Text => (DataType::Utf8, None),
            ast::DataType::Custom(name, modifiers) if modifiers.is_empty() => {
                let part = name.0.last().and_then(|part| part.as_ident());
                match part.map(|ident| ident.value.to_ascii_lowercase()).as_deref() {
                    Some(number @ ("oid" | "xid" | "cid")) => (DataType::Int64, Some(number.to_owned())),
                    Some(text @ ("name" | "char")) => (DataType::Utf8, Some(text.to_owned())),
                    _ => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let metadata = pg_type.map(|name| (PG_TYPE.to_owned(), name)).into_iter().collect();
        // A field with a name of its own: a bare type would take the metadata of what is cast.
        Ok(Some(Arc::new(Field::new("cast", data_type, true).with_metadata(metadata))))
    }
}

/// Shows the references that a query returns, which are numbers inside, by their names.
///
/// # Errors
/// None that a plan could cause.
pub fn shown(plan: LogicalPlan, facts: &Arc<SessionFacts>) -> error::Result<LogicalPlan> {
    let output = |field: &Field| match field.data_type() {
        DataType::Int64 => field.metadata().get(PG_TYPE).and_then(|name| reference_output(name, facts)),
        _ => None,
    };
    if !plan.schema().fields().iter().any(|field| output(field).is_some()) {
        return Ok(plan);
    }
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::Column((qualifier, field).into());
            match output(field) {
                Some(func) => Expr::ScalarFunction(ScalarFunction { func, args: vec![column] })
                    .alias_qualified(qualifier.cloned(), field.name()),
                None => column,
            }
        })
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// The text of a reference that is cast to text; none for any other cast.
pub fn printed(cast: &Cast, schema: &DFSchema, facts: &Arc<SessionFacts>) -> Option<Expr> {
    if !matches!(cast.field.data_type(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) {
        return None;
    }
    let (_, field) = cast.expr.to_field(schema).ok()?;
    if *field.data_type() != DataType::Int64 {
        return None;
    }
    let func = reference_output(field.metadata().get(PG_TYPE)?, facts)?;
    let text = Expr::ScalarFunction(ScalarFunction { func, args: vec![cast.expr.as_ref().clone()] });
    match cast.field.data_type() {
        DataType::Utf8 => Some(text),
        other => Some(Expr::Cast(Cast::new(Box::new(text), other.clone()))),
    }
}

/// Plans comparisons of a reference with a text, which is read as a reference of its kind.
#[derive(Debug)]
pub struct References {
    facts: Arc<SessionFacts>,
}

impl References {
    /// The planner, for a session state to know.
    pub fn planner(facts: &Arc<SessionFacts>) -> Arc<dyn ExprPlanner> {
        Arc::new(Self { facts: Arc::clone(facts) })
    }

    fn beside(&self, reference: &Expr, text: &Expr, schema: &DFSchema) -> Option<Expr> {
        let Expr::Literal(value, _) = text else { return None };
        value.try_as_str()??;
        let (_, field) = reference.to_field(schema).ok()?;
        let func = reference_input(field.metadata().get(PG_TYPE)?, &self.facts)?;
        Some(Expr::ScalarFunction(ScalarFunction { func, args: vec![text.clone()] }))
    }
}

/// A text that stands beside a truth value, read as one: `indisprimary = 't'`.
fn truth_beside(truth: &Expr, text: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::Literal(value, _) = text else { return None };
    value.try_as_str()??;
    let is_truth = truth.get_type(schema).ok()? == DataType::Boolean;
    is_truth.then(|| Expr::Cast(Cast::new(Box::new(text.clone()), DataType::Boolean)))
}

impl ExprPlanner for References {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if matches!(expr.op, BinaryOperator::Eq | BinaryOperator::NotEq) {
            if let Some(read) = self.beside(&expr.left, &expr.right, schema) {
                expr.right = read;
            } else if let Some(read) = self.beside(&expr.right, &expr.left, schema) {
                expr.left = read;
            } else if let Some(read) = truth_beside(&expr.left, &expr.right, schema) {
                expr.right = read;
            } else if let Some(read) = truth_beside(&expr.right, &expr.left, schema) {
                expr.left = read;
            }
        }
        Ok(PlannerResult::Original(expr))
    }

    /// `indkey[0]`: the vectors of the catalog count from 0.
    fn plan_field_access(
        &self,
        mut expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if let GetFieldAccess::ListIndex { key } = &expr.field_access
            && let Ok((_, field)) = expr.expr.to_field(schema)
            && field.metadata().get(PG_TYPE).is_some_and(|name| name == "int2vector" || name == "oidvector")
        {
            let key = Box::new(key.as_ref().clone() + lit(1_i64));
            expr.field_access = GetFieldAccess::ListIndex { key };
        }
        Ok(PlannerResult::Original(expr))
    }
}
