//! Columns that a SELECT knows by a name of its own: those that RIGHT and FULL JOIN merge, and the one
//! column of a function in FROM, which its alias stands for.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableFactor, TableWithJoins, WildcardAdditionalOptions,
    visit_expressions_mut,
};

use super::build::{call, change_outside_queries, folded, parts, take};
use super::functions::arrays_of;
use super::scope::{self, factor_name};

/// Rewrites a SELECT before what is in it.
pub(super) fn rewrite(select: &mut Select) {
    let elements = select.from.iter().flat_map(factors).filter_map(element).collect::<HashMap<_, _>>();
    if !elements.is_empty() {
        keep_names(select, |name| elements.contains_key(name));
        let _ = visit_expressions_mut(select, |expr| {
            replace(expr, &elements);
            ControlFlow::<()>::Continue(())
        });
    }
    let merged: Vec<Merged> = select.from.iter().flat_map(merged_columns).collect();
    if !merged.is_empty() {
        let columns: HashMap<String, Expr> =
            merged.iter().map(|one| (one.name.clone(), one.value())).collect();
        expand_wildcards(select, &merged);
        keep_names(select, |name| columns.contains_key(name));
        replace_merged(select, &columns);
    }
}

/// A column that several items of FROM have and a join made one of.
struct Merged {
    name: String,
    /// The items that have it.
    sides: Vec<Ident>,
}

impl Merged {
    /// Its value: that of the first item that has a row.
    fn value(&self) -> Expr {
        let side = |side: &Ident| Expr::CompoundIdentifier(vec![side.clone(), quoted(&self.name)]);
        call("coalesce", self.sides.iter().map(side).collect())
    }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

fn factors(item: &TableWithJoins) -> impl Iterator<Item = &TableFactor> {
    std::iter::once(&item.relation).chain(item.joins.iter().map(|join| &join.relation))
}

/// The alias of a function with a column of another name, and that column.
fn element(factor: &TableFactor) -> Option<(String, Expr)> {
    let (name, alias) = match factor {
        TableFactor::Table { name, alias: Some(alias), args: Some(_), .. }
        | TableFactor::Function { name, alias: Some(alias), .. } => (name, alias),
        _ => return None,
    };
    let name = parts(name).pop()?;
    let (_, columns) = arrays_of(&name, vec![])?;
    let [column] = columns else { return None };
    if *column == name || !alias.columns.is_empty() {
        return None;
    }
    Some((folded(&alias.name), Expr::CompoundIdentifier(vec![alias.name.clone(), Ident::new(*column)])))
}

/// The columns that JOIN … USING makes of two, if RIGHT or FULL is among the joins: the planner takes the
/// left one, which suits the others alone.
fn merged_columns(item: &TableWithJoins) -> Vec<Merged> {
    let mut merged: Vec<Merged> = Vec::new();
    let mut is_outer = false;
    let mut last = factor_name(&item.relation);
    for Join { relation, join_operator, .. } in &item.joins {
        let own = factor_name(relation);
        let constraint = match join_operator {
            JoinOperator::Right(on) | JoinOperator::RightOuter(on) | JoinOperator::FullOuter(on) => {
                is_outer |= matches!(on, JoinConstraint::Using(_));
                on
            }
            JoinOperator::Join(on)
            | JoinOperator::Inner(on)
            | JoinOperator::Left(on)
            | JoinOperator::LeftOuter(on) => on,
            _ => continue,
        };
        if let (JoinConstraint::Using(names), Some(left), Some(right)) = (constraint, &last, &own) {
            for name in names.iter().filter_map(|name| name.0.last()?.as_ident()).map(folded) {
                match merged.iter_mut().find(|known| known.name == name) {
                    Some(known) => known.sides.push(quoted(right)),
                    None => merged.push(Merged { name, sides: vec![quoted(left), quoted(right)] }),
                }
            }
        }
        last = own.or(last);
    }
    if is_outer { merged } else { Vec::new() }
}

/// `*` as the merged columns, then the others of each item.
fn expand_wildcards(select: &mut Select, merged: &[Merged]) {
    let names: Option<Vec<String>> = scope::factors(&select.from).into_iter().map(factor_name).collect();
    let Some(names) = names else { return };
    let mut projection = Vec::new();
    for item in select.projection.drain(..) {
        if !matches!(&item, SelectItem::Wildcard(options) if *options == WildcardAdditionalOptions::default())
        {
            projection.push(item);
            continue;
        }
        let own = |one: &Merged| SelectItem::ExprWithAlias { expr: one.value(), alias: quoted(&one.name) };
        projection.extend(merged.iter().map(own));
        for name in &names {
            let gone = merged.iter().filter(|one| one.sides.iter().any(|side| side.value == *name));
            let gone: Vec<ObjectName> = gone.map(|one| ObjectName::from(vec![quoted(&one.name)])).collect();
            let opt_exclude = (!gone.is_empty()).then_some(ExcludeSelectItem::Multiple(gone));
            projection.push(SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![quoted(name)])),
                WildcardAdditionalOptions { opt_exclude, ..WildcardAdditionalOptions::default() },
            ));
        }
    }
    select.projection = projection;
}

/// A bare column that becomes an expression keeps its name.
fn keep_names(select: &mut Select, changes: impl Fn(&str) -> bool) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && let Expr::Identifier(name) = &*expr
            && changes(&folded(name))
        {
            let alias = name.clone();
            *item = SelectItem::ExprWithAlias { expr: take(expr), alias };
        }
    }
}

fn replace_merged(select: &mut Select, columns: &HashMap<String, Expr>) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            change_outside_queries(expr, |expr| replace(expr, columns));
        }
    }
    change_outside_queries(&mut select.selection, |expr| replace(expr, columns));
    change_outside_queries(&mut select.group_by, |expr| replace(expr, columns));
    change_outside_queries(&mut select.having, |expr| replace(expr, columns));
    change_outside_queries(&mut select.qualify, |expr| replace(expr, columns));
}

/// The expression in place of a bare column.
fn replace(expr: &mut Expr, with: &HashMap<String, Expr>) {
    if let Expr::Identifier(name) = &*expr
        && let Some(with) = with.get(&folded(name))
    {
        *expr = with.clone();
    }
}
