//! Parameters: the types that a query's own casts give them.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::execution::context::SessionState;
use datafusion::sql::sqlparser::ast::{self, Expr, Value, Visit, Visitor};

use crate::engine::show::arrow_type;

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

impl Visitor for Casts<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr: inner, data_type, .. } = expr
            && let Some(number) = placeholder(inner)
            && let Ok(ty) = arrow_type(self.state, data_type)
        {
            self.types.resize(self.types.len().max(number), None);
            self.types[number - 1].get_or_insert(ty);
        }
        ControlFlow::Continue(())
    }
}

/// The number of a parameter, counted from 1.
pub fn placeholder(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else { return None };
    let Value::Placeholder(id) = &value.value else { return None };
    id.strip_prefix('$')?.parse().ok().filter(|number| (1..=65535).contains(number))
}
