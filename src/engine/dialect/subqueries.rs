//! Subqueries in expressions: `(SELECT …)`, `ARRAY(SELECT …)`, `EXISTS (SELECT …)`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, FunctionArguments, GroupByExpr, Ident, LimitClause, OrderByExpr,
    OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, Value, Visit, Visitor,
};

use super::build::{
    array_agg, boolean, call, cast, change_outside_queries, inner, null, number, ordered_call, parts, take,
};
use super::emptiness::{aggregates, is_empty, never};
use super::exists::link_by_columns;
use super::outer::fold_conditions;
use super::scope::{Scope, is_correlated};
use crate::function::{ARRAY_OR_EMPTY, FIRST_TWO, ONLY_VALUE};

/// Rewrites a subquery before what is in it.
pub(super) fn rewrite(expr: &mut Expr, ctes: &[String], scopes: &[Scope]) {
    // Where no row is, nothing is asked.
    let unreached = scopes.last().is_some_and(|scope| scope.empty);
    match expr {
        // An array of PostgreSQL compares with its text; over no row, any answer is right.
        Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right }
            if unreached && (is_array_text(left) || is_array_text(right)) =>
        {
            *expr = cast(null(), DataType::Boolean);
        }
        Expr::Function(function)
            if unreached && parts(&function.name).last().is_some_and(|name| name == "unnest") =>
        {
            *expr = null();
        }
        // A branch that is never taken may hold what cannot be planned.
        Expr::Case { operand: None, conditions, else_result, .. } => {
            let Some(scope) = scopes.last() else { return };
            conditions.retain(|when| !never(&when.condition, scope));
            if conditions.is_empty() {
                *expr = else_result.take().map_or_else(null, |value| *value);
                rewrite(expr, ctes, scopes);
            }
        }
        Expr::Subquery(query) => {
            let correlated = is_correlated(query, ctes);
            if correlated {
                fold_conditions(query);
            }
            if unreached || is_empty(query, ctes, scopes) {
                *expr = null();
            } else if (correlated || filters_by_bare_names(query)) && (keep_first(query) || only_first(query))
            {
                // What is left is an aggregate, which has one row.
            } else if correlated && keep_two(query) {
                *expr = call(ONLY_VALUE, vec![take(expr)]);
            }
        }
        Expr::Exists { subquery, negated } if unreached || is_empty(subquery, ctes, scopes) => {
            *expr = boolean(*negated);
        }
        // Whether there is a row does not depend on how many are looked at.
        Expr::Exists { subquery, .. } if limit_of(subquery).is_some_and(|rows| rows > 0) => {
            subquery.limit_clause = None;
            subquery.order_by = None;
        }
        Expr::Function(function) if parts(&function.name).last().is_some_and(|name| name == "array") => {
            let FunctionArguments::Subquery(query) = &mut function.args else {
                return;
            };
            let array = if unreached || is_empty(query, ctes, scopes) {
                cast(null(), text_array())
            } else {
                collect(query);
                Expr::Subquery(std::mem::replace(query, empty_query()))
            };
            *expr = call(ARRAY_OR_EMPTY, vec![array]);
        }
        _ => {}
    }
}

/// Spells `EXISTS (SELECT …)` in the SELECT list as a count: the planner joins it only where it filters.
pub(super) fn count_existing(select: &mut Select, ctes: &[String]) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            change_outside_queries(expr, |expr| count_one(expr, ctes));
        }
    }
}

fn count_one(expr: &mut Expr, ctes: &[String]) {
    let Expr::Exists { subquery, negated } = expr else { return };
    if limit_of(subquery).is_some_and(|rows| rows > 0) {
        subquery.limit_clause = None;
    }
    let Some(select) = plain_select(subquery) else { return };
    select.projection = vec![SelectItem::UnnamedExpr(call("count", vec![number(1)]))];
    subquery.order_by = None;
    link_by_columns(subquery, ctes);
    let count = Expr::Subquery(std::mem::replace(subquery, empty_query()));
    // Over system tables without rows, the whole subquery becomes a null.
    let count = call("coalesce", vec![count, number(0)]);
    let op = if *negated { BinaryOperator::Eq } else { BinaryOperator::Gt };
    let compared = Expr::BinaryOp { left: Box::new(count), op, right: Box::new(number(0)) };
    *expr = Expr::Nested(Box::new(compared));
}

fn is_array_text(expr: &Expr) -> bool {
    let Expr::Value(value) = inner(expr) else {
        return false;
    };
    matches!(&value.value, Value::SingleQuotedString(text) if text.starts_with('{') && text.ends_with('}'))
}

fn text_array() -> DataType {
    use datafusion::sql::sqlparser::ast::ArrayElemTypeDef;
    DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None))
}

/// The one SELECT of a query that only selects: no LIMIT, DISTINCT, groups, aggregates.
fn plain_select(query: &mut Query) -> Option<&mut Select> {
    if query.limit_clause.is_some() || query.fetch.is_some() || query.with.is_some() {
        return None;
    }
    match query.body.as_mut() {
        SetExpr::Select(select) if select.distinct.is_none() && !aggregates(select) => Some(select),
        _ => None,
    }
}

/// Whether WHERE holds a name without a qualifier, which may be that of a query around it.
fn filters_by_bare_names(query: &Query) -> bool {
    struct Bare;
    impl Visitor for Bare {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if matches!(expr, Expr::Identifier(_)) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    match query.body.as_ref() {
        SetExpr::Select(select) => select.selection.visit(&mut Bare).is_break(),
        _ => false,
    }
}

/// The rows that a query takes at most, if it says so as a number and skips none.
fn limit_of(query: &Query) -> Option<u64> {
    let Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }) = &query.limit_clause
    else {
        return None;
    };
    let Expr::Value(value) = inner(limit) else { return None };
    match &value.value {
        Value::Number(digits, _) if limit_by.is_empty() => digits.parse().ok(),
        _ => None,
    }
}

/// Makes `SELECT e … ORDER BY o LIMIT 1` the aggregate `first_value(e ORDER BY o)`, which the planner can
/// join: a correlated query with a limit it cannot.
fn keep_first(query: &mut Query) -> bool {
    if limit_of(query) != Some(1) {
        return false;
    }
    let Some(order_by) = ordering(query) else { return false };
    let limit = query.limit_clause.take();
    let Some(select) = plain_select(query).filter(|select| !select.from.is_empty()) else {
        query.limit_clause = limit;
        return false;
    };
    let Some(expr) = only_item(select) else {
        query.limit_clause = limit;
        return false;
    };
    let order_by = order_by.into_iter().map(|one| resolved(one, expr)).collect();
    *expr = ordered_call("first_value", take(expr), order_by);
    query.order_by = None;
    true
}

/// Takes the limit off an aggregate without groups: it has one row whatever the limit.
fn only_first(query: &mut Query) -> bool {
    let whole = match query.body.as_ref() {
        SetExpr::Select(select) => aggregates(select) && is_ungrouped(select),
        _ => false,
    };
    if !whole || limit_of(query).is_none_or(|rows| rows == 0) {
        return false;
    }
    query.limit_clause = None;
    query.order_by = None;
    true
}

fn is_ungrouped(select: &Select) -> bool {
    matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty())
        && select.having.is_none()
}

/// The one expression that a SELECT returns.
fn only_item(select: &mut Select) -> Option<&mut Expr> {
    match select.projection.as_mut_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => Some(expr),
        _ => None,
    }
}

/// Makes a correlated query of one column keep two of its rows: one more than it may have.
fn keep_two(query: &mut Query) -> bool {
    let Some(select) = plain_select(query) else {
        return false;
    };
    // Without FROM there is exactly one row.
    if select.from.is_empty() {
        return false;
    }
    let Some(expr) = only_item(select) else {
        return false;
    };
    *expr = call(FIRST_TWO, vec![take(expr)]);
    // The order of rows that must be one says nothing.
    query.order_by = None;
    true
}

/// Makes a query of one column aggregate it into an array, in the order that it asks for.
fn collect(query: &mut Query) {
    let order_by = ordering(query);
    if let Some(select) = plain_select(query)
        && let Some(expr) = only_item(select)
        && let Some(order_by) = order_by
    {
        let order_by = order_by.into_iter().map(|one| resolved(one, expr)).collect();
        *expr = array_agg(take(expr), order_by);
        query.order_by = None;
        return;
    }
    let inner = Box::new(std::mem::replace(query, *empty_query()));
    let column = Ident::new("element");
    let alias = TableAlias {
        explicit: true,
        name: Ident::new("elements"),
        columns: vec![TableAliasColumnDef { name: column.clone(), data_type: None }],
        at: None,
    };
    let relation = TableFactor::Derived { lateral: false, subquery: inner, alias: Some(alias), sample: None };
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(array_agg(Expr::Identifier(column), vec![]))];
        select.from = vec![TableWithJoins { relation, joins: vec![] }];
    }
}

/// The ORDER BY of a query; none if it cannot be moved into an aggregate.
fn ordering(query: &Query) -> Option<Vec<OrderByExpr>> {
    match &query.order_by {
        None => Some(vec![]),
        Some(order_by) => match &order_by.kind {
            OrderByKind::Expressions(exprs) => Some(exprs.clone()),
            OrderByKind::All(_) => None,
        },
    }
}

/// `ORDER BY 1` by the one column itself.
fn resolved(mut order_by: OrderByExpr, column: &Expr) -> OrderByExpr {
    if let Expr::Value(value) = &order_by.expr
        && matches!(&value.value, Value::Number(number, _) if number == "1")
    {
        order_by.expr = column.clone();
    }
    order_by
}

/// `SELECT` of nothing, to be filled.
pub(super) fn empty_query() -> Box<Query> {
    use datafusion::sql::sqlparser::ast::SelectFlavor;
    use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![],
        exclude: None,
        into: None,
        from: vec![],
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    Box::new(Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    })
}
