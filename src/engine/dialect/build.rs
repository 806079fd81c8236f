//! Pieces of syntax trees.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, OrderByExpr, Query, Value, VisitMut, VisitorMut,
};

/// Changes the expressions in `node`, the inner ones first, but none in the queries within.
pub fn change_outside_queries(node: &mut impl VisitMut, change: impl FnMut(&mut Expr)) {
    struct Outside<F> {
        change: F,
        /// Queries around the current place.
        depth: usize,
    }

    impl<F: FnMut(&mut Expr)> VisitorMut for Outside<F> {
        type Break = ();

        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if self.depth == 0 {
                (self.change)(expr);
            }
            ControlFlow::Continue(())
        }
    }

    // It never breaks off.
    let _ = node.visit(&mut Outside { change, depth: 0 });
}

/// `name(argument, …)`.
pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|one| FunctionArg::Unnamed(FunctionArgExpr::Expr(one))).collect();
    let args = FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// `array_agg(value ORDER BY …)`.
pub(super) fn array_agg(value: Expr, order_by: Vec<OrderByExpr>) -> Expr {
    ordered_call("array_agg", value, order_by)
}

/// `name(value ORDER BY …)`.
pub(super) fn ordered_call(name: &str, value: Expr, order_by: Vec<OrderByExpr>) -> Expr {
    let mut expr = call(name, vec![value]);
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut expr
        && !order_by.is_empty()
    {
        list.clauses.push(datafusion::sql::sqlparser::ast::FunctionArgumentClause::OrderBy(order_by));
    }
    expr
}

pub(super) fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

pub(super) fn null() -> Expr {
    Expr::value(Value::Null)
}

pub(super) fn boolean(value: bool) -> Expr {
    Expr::value(Value::Boolean(value))
}

pub(super) fn number(value: u64) -> Expr {
    Expr::value(Value::Number(value.to_string(), false))
}

/// What stands in an expression's place while it is being moved.
pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

/// The name as the planner will know it: folded to lower case unless quoted.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The parts of a dotted name.
pub(super) fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect()
}

/// The expression inside any number of parentheses.
pub(super) fn inner(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(nested) => inner(nested),
        other => other,
    }
}

/// The conditions that an AND joins.
pub(super) fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    use datafusion::sql::sqlparser::ast::BinaryOperator;
    match inner(expr) {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            let mut all = conjuncts(left);
            all.extend(conjuncts(right));
            all
        }
        other => vec![other],
    }
}
