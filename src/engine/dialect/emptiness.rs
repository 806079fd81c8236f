//! Emptiness: SELECTs that can have no row, because Lacus has no such thing as they list.
//!
//! psql asks of each column for its default, its own collation, its policies. Those questions are
//! correlated in ways that DataFusion cannot plan, over tables that are empty in every lake. That a
//! product with an empty table is empty is all that is used here.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, JoinOperator, Query, Select, SetExpr, TableFactor, TableWithJoins,
    Value, ValueWithSpan, Visit, Visitor,
};

use super::build::{conjuncts, inner, parts};
use super::scope::{Scope, column, either_way, equated, system_table};
use crate::function::FIRST_TWO;
use crate::system;

/// Whether a subquery yields no row, whatever the lake holds.
pub(super) fn is_empty(query: &Query, ctes: &[String], outer: &[Scope]) -> bool {
    match query.body.as_ref() {
        SetExpr::Select(select) if !aggregates(select) => {
            without_rows(select, &Scope::of(select, ctes, outer), outer)
        }
        _ => false,
    }
}

/// Whether a SELECT gives a row even of nothing, because it aggregates without groups.
pub(super) fn aggregates(select: &Select) -> bool {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
    if grouped || select.having.is_some() {
        return true;
    }
    select.projection.iter().any(|item| item.visit(&mut Aggregates::default()).is_break())
}

/// Stops at an aggregate of the SELECT itself, not of a subquery in it.
#[derive(Default)]
struct Aggregates {
    depth: usize,
}

impl Visitor for Aggregates {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        static NAMES: LazyLock<HashSet<String>> = LazyLock::new(|| {
            let all = all_default_aggregate_functions();
            let named = all
                .iter()
                .flat_map(|one| std::iter::once(one.name().to_owned()).chain(one.aliases().iter().cloned()));
            named.chain([FIRST_TWO.to_owned()]).collect()
        });
        match expr {
            Expr::Function(function) if self.depth == 0 => {
                let name = parts(&function.name).pop();
                if name.is_some_and(|name| NAMES.contains(&name)) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Whether FROM and WHERE of a SELECT leave no row.
pub(super) fn without_rows(select: &Select, scope: &Scope, outer: &[Scope]) -> bool {
    let scopes = || outer.iter().chain([scope]);
    select.from.iter().any(|item| is_empty_product(item, &|factor| is_empty_factor(factor, &scopes)))
        || select
            .selection
            .as_ref()
            .is_some_and(|selection| conjuncts(selection).iter().any(|one| never(one, scope)))
}

fn is_empty_product(item: &TableWithJoins, is_empty: &dyn Fn(&TableFactor) -> bool) -> bool {
    let mut empty = is_empty(&item.relation);
    for join in &item.joins {
        let right = is_empty(&join.relation);
        empty = match &join.join_operator {
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => empty || right,
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => empty,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => right,
            _ => empty && right,
        };
    }
    empty
}

fn is_empty_factor<'a, I>(factor: &TableFactor, scopes: &impl Fn() -> I) -> bool
where
    I: Iterator<Item = &'a Scope>,
{
    match factor {
        TableFactor::UNNEST { array_exprs, .. } => array_exprs.iter().all(|array| is_void(array, scopes)),
        TableFactor::Table { name, args: Some(args), .. }
            if parts(name).last().is_some_and(|one| one == "unnest") =>
        {
            use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr};
            args.args.iter().all(|argument| {
                matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(array)) if is_void(array, scopes))
            })
        }
        // A WITH query of that name is no system table, but then it is qualified as none either.
        TableFactor::Table { .. } => system_table(factor, &[]).is_some_and(|table| {
            system::is_always_empty(&table)
                && scopes().any(|scope| scope.tables.values().any(|one| *one == table))
        }),
        TableFactor::NestedJoin { table_with_joins, .. } => {
            is_empty_product(table_with_joins, &|factor| is_empty_factor(factor, scopes))
        }
        _ => false,
    }
}

/// Whether an array is a column that is null in every row.
fn is_void<'a, I: Iterator<Item = &'a Scope>>(array: &Expr, scopes: &impl Fn() -> I) -> bool {
    column(array).is_some_and(|(name, _)| scopes().any(|scope| scope.void.contains(&name)))
}

/// Whether a condition holds for no row.
pub(super) fn never(condition: &Expr, scope: &Scope) -> bool {
    is_of_other_kind(condition, scope)
        || has_column_privileges(condition, scope)
        || has_own_collation(condition, scope)
        || is_of_domain(condition, scope)
}

/// There are base types and pseudo-types, but neither domains nor composite types; and no foreign keys.
fn is_of_other_kind(condition: &Expr, scope: &Scope) -> bool {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = inner(condition) else { return false };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(kind), .. }) = inner(right) else {
        return false;
    };
    column(left).is_some_and(|(table, name)| match name.as_str() {
        "typtype" => !matches!(kind.as_str(), "b" | "p") && scope.is(&table, "pg_type"),
        "contype" => kind == "f" && scope.is(&table, "pg_constraint"),
        _ => false,
    })
}

/// There are no privileges on columns.
fn has_column_privileges(condition: &Expr, scope: &Scope) -> bool {
    let Expr::IsNotNull(value) = condition else {
        return false;
    };
    let attributes = scope.tables.values().any(|table| table == "pg_attribute");
    let named = |name: &str| name == "attacl";
    attributes
        && match inner(value) {
            Expr::Identifier(ident) => named(&ident.value),
            other => column(other).is_some_and(|(_, name)| named(&name)),
        }
}

/// A column always has the collation of its type.
fn has_own_collation(condition: &Expr, scope: &Scope) -> bool {
    equated(condition, BinaryOperator::NotEq).is_some_and(|sides| {
        either_way(sides).into_iter().any(|((_, of_column), (table, of_type))| {
            of_column == "attcollation" && of_type == "typcollation" && scope.is(&table, "pg_type")
        })
    })
}

/// There are no domains: `typbasetype` is 0, which is no type's oid.
fn is_of_domain(condition: &Expr, scope: &Scope) -> bool {
    equated(condition, BinaryOperator::Eq).is_some_and(|sides| {
        either_way(sides).into_iter().any(|((_, based), (table, oid))| {
            based == "typbasetype" && oid == "oid" && scope.is(&table, "pg_type")
        })
    })
}
