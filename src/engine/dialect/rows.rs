//! Rows: `(a, b) = (c, d)`, `(a, b) IN (SELECT …)`, `(a, b) OVERLAPS (c, d)`, column by column.
//!
//! DataFusion makes a struct of a row and compares two as wholes, where a null is equal to a null and
//! below everything. PostgreSQL asks one column after the other, and a null makes the answer unknown.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SelectItem,
    SetExpr, visit_expressions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::build::{call, inner, parts};
use crate::error::{Error, Result};

/// What a subquery is called that a row is looked up in, and its columns.
const SUBQUERY: &str = "$in";

/// Rewrites an expression before what is in it.
pub(super) fn rewrite(expr: &mut Expr) {
    let rewritten = match expr {
        Expr::BinaryOp { left, op, right } => match (elements(left), elements(right)) {
            (Some(left), Some(right)) if left.len() == right.len() => compared(&left, op, &right),
            _ => None,
        },
        Expr::IsDistinctFrom(left, right) => match (elements(left), elements(right)) {
            (Some(left), Some(right)) if left.len() == right.len() => {
                any(pairs(&left, &right, |a, b| Expr::IsDistinctFrom(Box::new(a), Box::new(b))))
            }
            _ => None,
        },
        Expr::IsNotDistinctFrom(left, right) => match (elements(left), elements(right)) {
            (Some(left), Some(right)) if left.len() == right.len() => {
                all(pairs(&left, &right, |a, b| Expr::IsNotDistinctFrom(Box::new(a), Box::new(b))))
            }
            _ => None,
        },
        Expr::IsNull(row) => elements(row)
            .and_then(|row| all(row.into_iter().map(|one| Expr::IsNull(Box::new(one))).collect())),
        Expr::IsNotNull(row) => elements(row)
            .and_then(|row| all(row.into_iter().map(|one| Expr::IsNotNull(Box::new(one))).collect())),
        Expr::InList { expr: row, list, negated } => listed(row, list, *negated),
        Expr::InSubquery { expr: row, subquery, negated } => match elements(row) {
            Some(row) => within(&row, subquery, *negated),
            None => None,
        },
        _ => None,
    };
    if let Some(rewritten) = rewritten {
        *expr = Expr::Nested(Box::new(rewritten));
    }
}

/// Refuses a row that is looked up among rows of another width, and what would be written out too often.
///
/// # Errors
/// [`Error::Syntax`], as in PostgreSQL; [`Error::LimitExceeded`].
pub(super) fn check(expr: &Expr) -> Result<()> {
    if let Expr::InSubquery { expr: row, subquery, .. } = expr
        && let (Some(row), Some(columns)) = (elements(row), columns_of(subquery))
        && row.len() != columns
    {
        let many = if columns > row.len() { "many" } else { "few" };
        return Err(Error::Syntax { message: format!("subquery has too {many} columns"), position: None });
    }
    let nested = |operand: &Expr| {
        visit_expressions(operand, |part| match repeated(part).is_empty() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
        .is_break()
    };
    if repeated(expr).into_iter().any(nested) {
        let message = "comparisons of rows and LIKE ANY cannot be nested in each other".to_owned();
        return Err(Error::LimitExceeded(message));
    }
    Ok(())
}

/// What is written out several times when an expression is rewritten: nested, it would grow without bound.
fn repeated(expr: &Expr) -> Vec<&Expr> {
    use BinaryOperator::{Gt, GtEq, Lt, LtEq, Overlaps};
    let is_row = |one: &Expr| elements(one).is_some();
    match expr {
        Expr::BinaryOp { left, op: Lt | LtEq | Gt | GtEq | Overlaps, right }
            if is_row(left) && is_row(right) =>
        {
            vec![left.as_ref(), right.as_ref()]
        }
        Expr::InList { expr: row, .. } if is_row(row) => vec![row.as_ref()],
        Expr::Like { any: true, expr, .. } | Expr::ILike { any: true, expr, .. } => vec![expr.as_ref()],
        _ => vec![],
    }
}

/// How many columns a query returns; none if it says `*`.
fn columns_of(query: &Query) -> Option<usize> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let plain =
        |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    select.projection.iter().all(plain).then_some(select.projection.len())
}

/// The elements of a row that is written as one, of two or more.
fn elements(expr: &Expr) -> Option<Vec<Expr>> {
    match inner(expr) {
        Expr::Tuple(elements) if elements.len() > 1 => Some(elements.clone()),
        Expr::Function(function) if parts(&function.name) == ["row"] => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let element = |argument: &FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            };
            let elements: Vec<Expr> = list.args.iter().map(element).collect::<Option<_>>()?;
            (!elements.is_empty()).then_some(elements)
        }
        _ => None,
    }
}

fn compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq, Overlaps};
    let with = |op: &BinaryOperator| {
        let op = op.clone();
        move |a: Expr, b: Expr| binary(a, op.clone(), b)
    };
    match op {
        Eq => all(pairs(left, right, with(&Eq))),
        NotEq => any(pairs(left, right, with(&NotEq))),
        Lt | LtEq | Gt | GtEq => {
            let strict = if matches!(op, Lt | LtEq) { Lt } else { Gt };
            let last = left.len() - 1;
            let mut compared = binary(left[last].clone(), op.clone(), right[last].clone());
            for (a, b) in left.iter().zip(right).take(last).rev() {
                let equal = binary(a.clone(), Eq, b.clone());
                let rest = binary(equal, BinaryOperator::And, compared);
                let before = binary(a.clone(), strict.clone(), b.clone());
                compared = Expr::Nested(Box::new(binary(before, BinaryOperator::Or, nested(rest))));
            }
            Some(compared)
        }
        Overlaps if left.len() == 2 => Some(overlapping(left, right)),
        _ => None,
    }
}

/// Whether two periods have a moment in common; each holds its start, and its end only if it is the start.
fn overlapping(left: &[Expr], right: &[Expr]) -> Expr {
    let bounds = |period: &[Expr]| {
        let (from, to) = (period[0].clone(), period[1].clone());
        let to = if is_interval(&to) { nested(binary(from.clone(), BinaryOperator::Plus, to)) } else { to };
        (call("least", vec![from.clone(), to.clone()]), call("greatest", vec![from, to]))
    };
    let ((from, to), (other_from, other_to)) = (bounds(left), bounds(right));
    let before = |a: &Expr, b: &Expr| binary(a.clone(), BinaryOperator::Lt, b.clone());
    let crossing = binary(before(&from, &other_to), BinaryOperator::And, before(&other_from, &to));
    let together = binary(from, BinaryOperator::Eq, other_from);
    binary(nested(crossing), BinaryOperator::Or, together)
}

fn is_interval(expr: &Expr) -> bool {
    match inner(expr) {
        Expr::Interval(_) => true,
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Interval { .. }),
        Expr::TypedString(typed) => matches!(typed.data_type, DataType::Interval { .. }),
        _ => false,
    }
}

/// `(a, b) IN ((1, 2), (3, 4))`.
fn listed(row: &Expr, list: &[Expr], negated: bool) -> Option<Expr> {
    let row = elements(row)?;
    let equal = |one: &Expr| {
        let one = elements(one).filter(|one| one.len() == row.len())?;
        all(pairs(&row, &one, |a, b| binary(a, BinaryOperator::Eq, b))).map(nested)
    };
    let found = any(list.iter().map(equal).collect::<Option<_>>()?)?;
    Some(if negated { not(found) } else { found })
}

/// `(a, b) IN (SELECT …)`: whether the subquery has a row that is equal; negated, whether it has none that
/// is or could be.
fn within(row: &[Expr], subquery: &Query, negated: bool) -> Option<Expr> {
    let names: Vec<String> = (1..=row.len()).map(|at| format!("\"{SUBQUERY}{at}\"")).collect();
    let equal: Vec<String> =
        row.iter().zip(&names).map(|(value, name)| format!("\"{SUBQUERY}\".{name} = ({value})")).collect();
    let equal = equal.join(" AND ");
    let (word, equal) = match negated {
        true => ("NOT ", format!("({equal}) IS NOT FALSE")),
        false => ("", equal),
    };
    let names = names.join(", ");
    let sql = format!("{word}EXISTS (SELECT 1 FROM ({subquery}) AS \"{SUBQUERY}\" ({names}) WHERE {equal})");
    Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql).ok()?.parse_expr().ok()
}

fn pairs(left: &[Expr], right: &[Expr], join: impl Fn(Expr, Expr) -> Expr) -> Vec<Expr> {
    left.iter().zip(right).map(|(a, b)| join(a.clone(), b.clone())).collect()
}

fn all(exprs: Vec<Expr>) -> Option<Expr> {
    exprs.into_iter().reduce(|a, b| binary(a, BinaryOperator::And, b))
}

fn any(exprs: Vec<Expr>) -> Option<Expr> {
    exprs.into_iter().reduce(|a, b| binary(a, BinaryOperator::Or, b))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

fn not(expr: Expr) -> Expr {
    use datafusion::sql::sqlparser::ast::UnaryOperator;
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(nested(expr)) }
}
