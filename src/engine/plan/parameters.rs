//! Parameters: the types that a query's own casts give them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, Value, Visit, Visitor};

use crate::engine::dialect::planned;
use crate::engine::show::arrow_type;
use crate::error::Result;
use crate::value::types;

/// The declared types, and for parameters that the client left open the type of `$1::bigint`.
pub fn with_casts(
    state: &SessionState,
    statement: &ast::Statement,
    declared: &[Option<DataType>],
) -> Vec<Option<DataType>> {
    let mut casts = Casts { state, types: declared.to_vec() };
    let _ = statement.visit(&mut casts);
    casts.types
}

struct Casts<'a> {
    state: &'a SessionState,
    types: Vec<Option<DataType>>,
}

impl Casts<'_> {
    /// The type of a cast's value; names of relations and their like come as texts.
    fn arrow_type(&self, data_type: &ast::DataType) -> Result<DataType> {
        match types::by_name(&data_type.to_string().to_ascii_lowercase()) {
            Some(oid) if types::is_reg(oid) => Ok(DataType::Utf8),
            _ => arrow_type(self.state, &planned(data_type)),
        }
    }
}

impl Visitor for Casts<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::Cast { expr: inner, data_type, .. } = expr
            && let Some(number) = placeholder(inner)
            && let Ok(ty) = self.arrow_type(data_type)
        {
            self.types.resize(self.types.len().max(number), None);
            self.types[number - 1].get_or_insert(ty);
        }
        ControlFlow::Continue(())
    }
}

/// The oids of the types that a query's casts give its parameters, by number; 0 where none does, or one
/// whose name the type alone tells.
///
/// `$1::oid[]` is an array of integers to the planner, and to a driver that looks the type up is none.
pub fn cast_oids(query: &ast::Query) -> Vec<u32> {
    struct Oids(Vec<u32>);
    impl Visitor for Oids {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Cast { expr: inner, data_type, .. } = expr
                && let Some(number) = placeholder(inner)
                && let Some(oid) = types::by_name(&data_type.to_string().to_ascii_lowercase())
                && !types::is_reg(oid)
            {
                self.0.resize(self.0.len().max(number), 0);
                self.0[number - 1] = oid;
            }
            ControlFlow::Continue(())
        }
    }
    let mut oids = Oids(Vec::new());
    let _ = query.visit(&mut oids);
    oids.0
}

/// Makes `$1` of `x = ANY ($1)` an array of what `x` is.
///
/// # Errors
/// None that a plan could cause.
pub fn of_arrays(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut types: HashMap<String, FieldRef> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        let inputs = || {
            let mut schema = DFSchema::empty();
            node.inputs().iter().for_each(|input| schema.merge(input.schema()));
            schema
        };
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.name() == "array_has"
                    && let [Expr::Placeholder(Placeholder { id, field: None }), element] =
                        call.args.as_slice()
                    && let Ok(element) = element.get_type(&inputs())
                {
                    // Beside a parameter that nothing tells the type of, both are text.
                    let element = if element.is_null() { DataType::Utf8 } else { element };
                    types.entry(id.clone()).or_insert_with(|| list_of(element));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if types.is_empty() {
        return Ok(plan);
    }
    let typed = |expr: Expr| match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let field = types.get(&id).cloned();
            let known = field.is_some();
            let expr = Expr::Placeholder(Placeholder { id, field });
            Ok(if known { Transformed::yes(expr) } else { Transformed::no(expr) })
        }
        other => Ok(Transformed::no(other)),
    };
    Ok(plan.transform_down_with_subqueries(|node| node.map_expressions(|expr| expr.transform(typed)))?.data)
}

fn list_of(element: DataType) -> FieldRef {
    Arc::new(Field::new("parameter", DataType::List(Arc::new(Field::new_list_field(element, true))), true))
}

/// The number of a parameter, counted from 1.
pub fn placeholder(expr: &ast::Expr) -> Option<usize> {
    let ast::Expr::Value(value) = expr else { return None };
    let Value::Placeholder(id) = &value.value else { return None };
    id.strip_prefix('$')?.parse().ok().filter(|number| (1..=65535).contains(number))
}
