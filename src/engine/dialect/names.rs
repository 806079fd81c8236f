//! Column names: what a SELECT calls the columns that nobody named.
//!
//! PostgreSQL names an expression after its function, its cast or `?column?`, and lets several
//! columns have one name. DataFusion names it by its text and refuses to have a name twice. So every
//! unnamed expression gets PostgreSQL's name as an alias, and a name that would occur twice, or hide
//! an input column that the query still means, gets a mark that [`display_name`] takes off again.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, CastKind, DataType, Distinct, Expr, Ident, ObjectName, OrderByKind, Query, Select,
    SelectItem, SetExpr, Statement, TrimWhereField, TypedString, Visit, VisitMut, Visitor, VisitorMut,
};

use super::build::{folded, inner, number, parts};
use crate::function::types;

/// Stands between a name and the number that makes it unique: no name that is typed holds it.
const MARK: char = '\u{1f}';
const UNNAMED: &str = "?column?";

/// The name that a client is to see for a column of a planned query.
pub fn display_name(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// Names every unnamed column of every SELECT in the statement.
pub(super) fn complete(statement: &mut Statement) {
    if let Statement::Query(query) = statement {
        hide_after_wildcard(&mut query.body);
    }
    let _ = VisitMut::visit(statement, &mut Namer);
}

struct Namer;

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        order_by_position(query);
        let mut meant = HashSet::new();
        if let Some(order_by) = &query.order_by
            && let OrderByKind::Expressions(exprs) = &order_by.kind
        {
            // A bare name in ORDER BY is the output column; inside an expression it is the input's.
            exprs.iter().filter(|one| !is_name(&one.expr)).for_each(|one| mentioned(&one.expr, &mut meant));
        }
        name_body(&mut query.body, &meant);
        ControlFlow::Continue(())
    }
}

/// `SELECT f(a) … ORDER BY f(a)` as `ORDER BY 1`: an expression that is a column stands for that column.
fn order_by_position(query: &mut Query) {
    let (SetExpr::Select(select), Some(order_by)) = (query.body.as_ref(), &mut query.order_by) else {
        return;
    };
    let OrderByKind::Expressions(exprs) = &mut order_by.kind else {
        return;
    };
    let columns: Option<Vec<&Expr>> = select.projection.iter().map(item_expr).collect();
    let Some(columns) = columns else {
        return;
    };
    // A number is a position already.
    for one in exprs.iter_mut().filter(|one| !is_name(&one.expr) && !matches!(one.expr, Expr::Value(_))) {
        if let Some(index) = columns.iter().position(|column| **column == one.expr) {
            one.expr = number(index as u64 + 1);
        }
    }
}

/// The expression of a column; none for a wildcard.
fn item_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

fn name_body(body: &mut SetExpr, meant: &HashSet<String>) {
    match body {
        SetExpr::Select(select) => name_select(select, meant.clone()),
        SetExpr::SetOperation { left, right, .. } => {
            name_body(left, meant);
            name_body(right, meant);
        }
        // A query in parentheses is visited on its own.
        _ => {}
    }
}

fn name_select(select: &mut Select, mut meant: HashSet<String>) {
    select.having.iter().chain(&select.qualify).for_each(|expr| mentioned(expr, &mut meant));
    if let Some(Distinct::On(exprs)) = &select.distinct {
        exprs.iter().filter(|expr| !is_name(expr)).for_each(|expr| mentioned(expr, &mut meant));
    }
    let mut taken = HashSet::new();
    for item in &mut select.projection {
        let (name, expr) = match item {
            SelectItem::UnnamedExpr(expr) => (figure(expr).unwrap_or_else(|| UNNAMED.to_owned()), expr),
            SelectItem::ExprWithAlias { alias, .. } => {
                let name = folded(alias);
                if !taken.insert(name.clone()) {
                    *alias = hidden(&name, &mut taken);
                }
                continue;
            }
            _ => continue,
        };
        let fresh = taken.insert(name.clone());
        // What is in every table unseen is no column of the plan.
        let unseen =
            matches!(expr, Expr::CompoundIdentifier(_)) && matches!(name.as_str(), "xmin" | "tableoid");
        if fresh && is_name(expr) && !unseen {
            continue;
        }
        let alias = if fresh && !meant.contains(&name) { quoted(&name) } else { hidden(&name, &mut taken) };
        let expr = super::build::take(expr);
        *item = SelectItem::ExprWithAlias { expr, alias };
    }
}

/// `SELECT *, a`: what comes beside a wildcard may be in it already.
fn hide_after_wildcard(body: &mut SetExpr) {
    let SetExpr::Select(select) = body else {
        return;
    };
    let is_wildcard =
        |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if !select.projection.iter().any(is_wildcard) {
        return;
    }
    let mut taken = HashSet::new();
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && is_name(expr)
            && let Some(name) = figure(expr)
        {
            let alias = hidden(&name, &mut taken);
            *item = SelectItem::ExprWithAlias { expr: super::build::take(expr), alias };
        }
    }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// A name that shows as `name` and is no other column's.
fn hidden(name: &str, taken: &mut HashSet<String>) -> Ident {
    let mut number = 2;
    loop {
        let unique = format!("{name}{MARK}{number}");
        if taken.insert(unique.clone()) {
            return quoted(&unique);
        }
        number += 1;
    }
}

fn is_name(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

/// Adds the bare names in an expression.
fn mentioned(expr: &Expr, names: &mut HashSet<String>) {
    struct Names<'a>(&'a mut HashSet<String>);
    impl Visitor for Names<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Identifier(ident) = expr {
                self.0.insert(folded(ident));
            }
            ControlFlow::Continue(())
        }
    }
    let _ = Visit::visit(expr, &mut Names(names));
}

/// The name that PostgreSQL gives to a column of this expression; none for `?column?`.
///
/// Source: `FigureColnameInternal` in PostgreSQL's `parse_target.c`.
fn figure(expr: &Expr) -> Option<String> {
    strong(expr).or_else(|| weak(expr))
}

/// Names that come from the expression itself.
fn strong(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(folded(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(folded),
        Expr::Nested(expr) | Expr::Collate { expr, .. } => strong(expr),
        Expr::CompoundFieldAccess { root, access_chain } => accessed(root, access_chain),
        Expr::Function(function) => parts(&function.name).pop(),
        Expr::Cast { expr, .. } => strong(expr),
        Expr::Subquery(query) => subquery_name(query),
        other => named_syntax(other).map(str::to_owned),
    }
}

/// Names that a better one from within replaces.
fn weak(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(expr) | Expr::Collate { expr, .. } => weak(expr),
        Expr::Cast { data_type, kind: CastKind::Cast | CastKind::DoubleColon, .. } => type_name(data_type),
        Expr::TypedString(TypedString { data_type, .. }) => type_name(data_type),
        Expr::Case { else_result, .. } => {
            Some(else_result.as_deref().and_then(strong).unwrap_or_else(|| "case".to_owned()))
        }
        Expr::Interval(_) => Some("interval".to_owned()),
        _ => None,
    }
}

/// Functions that have a syntax of their own.
fn named_syntax(expr: &Expr) -> Option<&'static str> {
    Some(match expr {
        Expr::Array(_) => "array",
        Expr::Exists { .. } => "exists",
        Expr::Extract { .. } => "extract",
        Expr::Ceil { .. } => "ceil",
        Expr::Floor { .. } => "floor",
        Expr::Position { .. } => "position",
        Expr::Substring { .. } => "substring",
        Expr::Overlay { .. } => "overlay",
        Expr::AtTimeZone { .. } => "timezone",
        Expr::Tuple(_) => "row",
        Expr::Trim { trim_where, .. } => match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        },
        _ => return None,
    })
}

/// `(x).y` is called y, `x[1]` is called x.
fn accessed(root: &Expr, chain: &[AccessExpr]) -> Option<String> {
    let field = chain.iter().rev().find_map(|access| match access {
        AccessExpr::Dot(Expr::Identifier(ident)) => Some(folded(ident)),
        _ => None,
    });
    field.or_else(|| strong(inner(root)))
}

fn subquery_name(query: &Query) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    match select.projection.first()? {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(expr) => figure(expr),
        _ => None,
    }
}

/// The type's name as the catalog has it: a cast to `integer` is called int4.
fn type_name(data_type: &DataType) -> Option<String> {
    if let DataType::Custom(name, _) = data_type {
        return ObjectName::clone(name).0.last().and_then(|part| part.as_ident()).map(folded);
    }
    let text = data_type.to_string().to_ascii_lowercase();
    let element = text.trim_end_matches("[]");
    let oid = types::oid_of(element);
    Some(oid.and_then(types::by_oid).map_or_else(|| element.to_owned(), |found| found.name.to_owned()))
}
