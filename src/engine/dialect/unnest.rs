//! Arrays in FROM: `unnest(c.conkey) WITH ORDINALITY`, where the array is a column of a system table or of
//! a query around. Others are joined once the statement is planned (`plan/lateral.rs`).
//!
//! DataFusion unnests only what needs no other item of FROM. The arrays are therefore looked up by
//! their text: `FROM t, unnest(t.a) u(x)` becomes a join of `t` with the elements of all different arrays
//! in `t`, on the array that they came from. In a subquery, `t` may be an item of a query around it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Distinct, ExcludeSelectItem, Expr, FunctionArg, FunctionArgExpr, Ident,
    JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, TableAlias,
    TableAliasColumnDef, TableFactor, TableWithJoins, Visit, Visitor,
};

use super::build::{call, cast, folded, number, parts};
use super::relations::is_system_table;
use super::scope::{Scope, factor_name, factors, system_table};
use super::subqueries::empty_query;
use crate::system;

const SOURCE: &str = "arrays";
const KEY: &str = "array text";

/// Rewrites the arrays that a SELECT unnests in FROM.
pub(super) fn rewrite(select: &mut Select, outer: &[Scope]) {
    if !factors(&select.from).into_iter().any(|factor| read(factor).is_some()) {
        return;
    }
    let mut conditions = vec![];
    for at in 0..select.from.len() {
        let before: Vec<TableFactor> = factors(&select.from[..=at]).into_iter().cloned().collect();
        let item = &mut select.from[at];
        conditions.extend(replace(&mut item.relation, &before, outer));
        for join in &mut item.joins {
            let condition = replace(&mut join.relation, &before, outer);
            match (&mut join.join_operator, condition) {
                (_, None) => {}
                (
                    JoinOperator::Left(JoinConstraint::On(on))
                    | JoinOperator::LeftOuter(JoinConstraint::On(on)),
                    Some(condition),
                ) => *on = and(std::mem::replace(on, number(1)), condition),
                (_, Some(condition)) => conditions.push(condition),
            }
        }
    }
    if !conditions.is_empty() {
        select.projection.iter_mut().for_each(hide_key);
    }
    for condition in conditions {
        select.selection = Some(match select.selection.take() {
            Some(selection) => and(selection, condition),
            None => condition,
        });
    }
}

/// `*` without the column that the join is made by.
fn hide_key(item: &mut SelectItem) {
    if let SelectItem::Wildcard(options) = item
        && options.opt_exclude.is_none()
    {
        let key = ObjectName::from(vec![quoted(KEY)]);
        options.opt_exclude = Some(ExcludeSelectItem::Single(key));
    }
}

fn and(left: Expr, right: Expr) -> Expr {
    let left = Box::new(Expr::Nested(Box::new(left)));
    Expr::BinaryOp { left, op: BinaryOperator::And, right: Box::new(right) }
}

/// What is unnested: the arrays, whether the elements are counted, and what they are called.
struct Unnest {
    arrays: Vec<Expr>,
    counted: bool,
    alias: Option<TableAlias>,
}

fn read(factor: &TableFactor) -> Option<Unnest> {
    match factor {
        TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
            Some(Unnest { arrays: array_exprs.clone(), counted: *with_ordinality, alias: alias.clone() })
        }
        TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. }
            if parts(name).last().is_some_and(|name| name == "unnest") =>
        {
            let arrays = args.args.iter().map(argument).collect::<Option<Vec<_>>>()?;
            Some(Unnest { arrays, counted: *with_ordinality, alias: alias.clone() })
        }
        TableFactor::Function { name, args, alias, .. }
            if parts(name).last().is_some_and(|name| name == "unnest") =>
        {
            let arrays = args.iter().map(argument).collect::<Option<Vec<_>>>()?;
            Some(Unnest { arrays, counted: false, alias: alias.clone() })
        }
        _ => None,
    }
}

fn argument(argument: &FunctionArg) -> Option<Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

/// Replaces an item of FROM that unnests columns; gives the condition that joins it.
fn replace(factor: &mut TableFactor, before: &[TableFactor], outer: &[Scope]) -> Option<Expr> {
    let unnest = read(factor).filter(|unnest| !unnest.arrays.iter().any(is_of_json))?;
    let source = unnest.arrays.iter().find_map(|array| source_of(array, before, outer));
    if source.is_none()
        && (!unnest.counted || unnest.arrays.iter().any(|array| !columns_in(array).is_empty()))
    {
        return None;
    }
    let name = unnest.alias.as_ref().map_or_else(|| "unnest".to_owned(), |alias| folded(&alias.name));
    let condition = source.is_some().then(|| {
        let key = Expr::CompoundIdentifier(vec![quoted(&name), quoted(KEY)]);
        Expr::BinaryOp {
            left: Box::new(key),
            op: BinaryOperator::Eq,
            right: Box::new(Expr::Nested(Box::new(text_of(&unnest.arrays)))),
        }
    });
    *factor = derived(elements(&unnest, source), Some(alias(&name, &unnest, condition.is_some())));
    condition
}

/// Whether an array is made of a json, which cannot be told apart by the arrays' text.
fn is_of_json(array: &Expr) -> bool {
    matches!(array, Expr::Function(function)
        if parts(&function.name).last().is_some_and(|name| name.starts_with("json")))
}

/// The item of FROM that an array is a column of, here or in a query around.
fn source_of(array: &Expr, before: &[TableFactor], outer: &[Scope]) -> Option<TableFactor> {
    let (qualifier, column) = columns_in(array).into_iter().next()?;
    let holds = |factor: &&TableFactor| match &qualifier {
        Some(qualifier) => factor_name(factor).as_ref() == Some(qualifier),
        None => has_column(factor, &column),
    };
    let mut inner = before.iter().filter(|factor| read(factor).is_none());
    match inner.find(holds) {
        Some(factor) => system_table(factor, &[]).map(|_| factor.clone()),
        None => outer.iter().rev().find_map(|scope| scope.factors.iter().find(holds).cloned()),
    }
}

fn has_column(factor: &TableFactor, column: &str) -> bool {
    let TableFactor::Table { name, args: None, .. } = factor else { return false };
    let path = parts(name);
    let known = match path.as_slice() {
        [table] if is_system_table(table) => system::columns("pg_catalog", table),
        [schema, table] => system::columns(schema, table),
        _ => None,
    };
    known.is_some_and(|mut columns| columns.any(|one| one == column))
}

/// The columns that an expression names, with their qualifiers.
fn columns_in(expr: &Expr) -> Vec<(Option<String>, String)> {
    struct Columns(Vec<(Option<String>, String)>);
    impl Visitor for Columns {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(ident) => self.0.push((None, folded(ident))),
                Expr::CompoundIdentifier(idents) if idents.len() >= 2 => {
                    let qualifier = folded(&idents[idents.len() - 2]);
                    self.0.push((Some(qualifier), folded(&idents[idents.len() - 1])));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut columns = Columns(vec![]);
    let _ = Visit::visit(expr, &mut columns);
    columns.0
}

/// `SELECT key, unnest(a), … FROM (SELECT DISTINCT key, a, … FROM source)`.
fn elements(unnest: &Unnest, source: Option<TableFactor>) -> Box<Query> {
    let (arrays, from) = match source {
        None => (unnest.arrays.clone(), vec![]),
        Some(source) => {
            let name = |at: usize| Ident::with_quote('"', format!("array {at}"));
            let named = unnest.arrays.iter().enumerate().map(|(at, array)| aliased(array.clone(), name(at)));
            let key = aliased(text_of(&unnest.arrays), quoted(KEY));
            let mut all = select(std::iter::once(key).chain(named).collect(), vec![source]);
            if let SetExpr::Select(select) = all.body.as_mut() {
                select.distinct = Some(Distinct::Distinct);
            }
            let alias = TableAlias { explicit: true, name: Ident::new(SOURCE), columns: vec![], at: None };
            let arrays = (0..unnest.arrays.len()).map(|at| Expr::Identifier(name(at))).collect();
            (arrays, vec![derived(all, Some(alias))])
        }
    };
    let mut items: Vec<SelectItem> = vec![];
    if !from.is_empty() {
        items.push(SelectItem::UnnamedExpr(Expr::Identifier(quoted(KEY))));
    }
    let element = |at: usize| Ident::with_quote('"', format!("element {at}"));
    items.extend(
        arrays
            .iter()
            .enumerate()
            .map(|(at, array)| aliased(call("unnest", vec![array.clone()]), element(at))),
    );
    if unnest.counted {
        let lengths =
            arrays.iter().map(|array| cast(call("cardinality", vec![array.clone()]), DataType::BigInt(None)));
        let longest = match arrays.len() {
            1 => lengths.into_iter().next().unwrap_or_else(|| number(0)),
            _ => call("greatest", lengths.collect()),
        };
        items.push(aliased(
            call("unnest", vec![call("generate_series", vec![number(1), longest])]),
            quoted("ordinality"),
        ));
    }
    select(items, from)
}

/// What tells arrays apart.
fn text_of(arrays: &[Expr]) -> Expr {
    let mut texts =
        arrays.iter().map(|array| call("coalesce", vec![cast(array.clone(), DataType::Text), text("")]));
    let first = texts.next().unwrap_or_else(|| text(""));
    texts.fold(first, |left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::StringConcat,
        right: Box::new(right),
    })
}

/// The names of the elements' columns: those given, then PostgreSQL's own.
fn alias(name: &str, unnest: &Unnest, keyed: bool) -> TableAlias {
    let given = unnest.alias.as_ref().map(|alias| alias.columns.as_slice()).unwrap_or_default();
    let element = match (&unnest.alias, unnest.arrays.len()) {
        (Some(alias), 1) => alias.name.clone(),
        _ => Ident::new("unnest"),
    };
    let own = |at: usize| match at {
        at if at < unnest.arrays.len() => element.clone(),
        _ => Ident::new("ordinality"),
    };
    let count = unnest.arrays.len() + usize::from(unnest.counted);
    let named = (0..count).map(|at| given.get(at).map_or_else(|| own(at), |column| column.name.clone()));
    let names = keyed.then(|| quoted(KEY)).into_iter().chain(named);
    let columns = names.map(|name| TableAliasColumnDef { name, data_type: None }).collect();
    let name = unnest.alias.as_ref().map_or_else(|| Ident::new(name), |alias| alias.name.clone());
    TableAlias { explicit: true, name, columns, at: None }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

fn text(value: &str) -> Expr {
    Expr::value(datafusion::sql::sqlparser::ast::Value::SingleQuotedString(value.to_owned()))
}

fn aliased(expr: Expr, alias: Ident) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias }
}

fn derived(subquery: Box<Query>, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery, alias, sample: None }
}

fn select(projection: Vec<SelectItem>, from: Vec<TableFactor>) -> Box<Query> {
    let mut query = empty_query();
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = projection;
        select.from = from.into_iter().map(|relation| TableWithJoins { relation, joins: vec![] }).collect();
    }
    query
}
