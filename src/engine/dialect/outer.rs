//! Conditions about the outer row alone, within a correlated subquery.
//!
//! `WHERE d.adrelid = a.attrelid AND a.atthasdef`, as psql asks for a default: the planner joins a
//! correlated subquery by equalities that have a side of its own, and has no place for a condition that
//! has none. So the condition goes into the other side of an equality, which is null where it fails.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{BinaryOperator, CaseWhen, Expr, Query, SetExpr};

use super::build::{conjuncts, folded, inner};
use super::scope::{factor_name, factors};

/// Moves columns of the outer row that stand as conditions into an equality with the outer row.
pub(super) fn fold_conditions(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let Some(selection) = &select.selection else { return };
    let own: HashSet<String> = factors(&select.from).into_iter().filter_map(factor_name).collect();
    let (outer, mut rest): (Vec<Expr>, Vec<Expr>) =
        conjuncts(selection).into_iter().cloned().partition(|one| side_of(one, &own) == Some(Side::Outer));
    if outer.is_empty() {
        return;
    }
    let equality = rest.iter_mut().find_map(|one| outer_side(one, &own));
    let (Some(side), Some(condition)) = (equality, joined(outer)) else { return };
    *side = where_true(condition, side.clone());
    select.selection = joined(rest);
}

#[derive(PartialEq, Eq)]
enum Side {
    Own,
    Outer,
}

/// Whose column an expression is, if it is one with a qualifier.
fn side_of(expr: &Expr, own: &HashSet<String>) -> Option<Side> {
    let Expr::CompoundIdentifier(parts) = inner(expr) else { return None };
    let table = folded(parts.iter().nth_back(1)?);
    Some(if own.contains(&table) { Side::Own } else { Side::Outer })
}

/// The side of an equality that is the outer row's, where the other is the query's own.
fn outer_side<'a>(expr: &'a mut Expr, own: &HashSet<String>) -> Option<&'a mut Expr> {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = expr else { return None };
    match (side_of(left, own)?, side_of(right, own)?) {
        (Side::Own, Side::Outer) => Some(right),
        (Side::Outer, Side::Own) => Some(left),
        _ => None,
    }
}

fn joined(conditions: Vec<Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    })
}

/// `CASE WHEN condition THEN value END`.
fn where_true(condition: Expr, result: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: None,
    }
}
