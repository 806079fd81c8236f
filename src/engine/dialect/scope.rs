//! Scopes: what a SELECT's FROM says about the names and the rows below it.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Query, Select, Statement, TableFactor,
    TableWithJoins, Visit, Visitor,
};

use super::build::{conjuncts, folded, inner, parts};
use super::emptiness;
use super::relations::is_system_table;
use crate::system;

/// One SELECT, as far as rewriting what is inside needs to know.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// System tables in FROM, by the name under which columns are qualified.
    pub tables: HashMap<String, String>,
    /// Names in FROM whose columns are null in every row.
    pub void: HashSet<String>,
    /// What stands in FROM.
    pub factors: Vec<TableFactor>,
    /// No row ever comes out of FROM and WHERE.
    pub empty: bool,
}

impl Scope {
    pub(super) fn of(select: &Select, ctes: &[String], outer: &[Self]) -> Self {
        let factors = factors(&select.from).into_iter().cloned().collect();
        let mut scope = Self { tables: system_tables(&select.from, ctes), factors, ..Self::default() };
        scope.void =
            select.from.iter().flat_map(|item| &item.joins).filter_map(|join| scope.voided(join)).collect();
        scope.empty = outer.last().is_some_and(|outer| outer.empty)
            || (!emptiness::aggregates(select) && emptiness::without_rows(select, &scope, outer));
        scope
    }

    /// The name that a join never finds a row for: no table has a TOAST table, which psql looks up
    /// by `LEFT JOIN pg_class tc ON (c.reltoastrelid = tc.oid)`.
    fn voided(&self, join: &Join) -> Option<String> {
        let (JoinOperator::Left(JoinConstraint::On(on)) | JoinOperator::LeftOuter(JoinConstraint::On(on))) =
            &join.join_operator
        else {
            return None;
        };
        let name = factor_name(&join.relation)?;
        let finds_toast = |condition: &&Expr| {
            equated(condition, BinaryOperator::Eq).is_some_and(|sides| {
                either_way(sides).into_iter().any(|((left, left_column), (right, right_column))| {
                    right == name
                        && (left_column.as_str(), right_column.as_str()) == ("reltoastrelid", "oid")
                        && [left, right].iter().all(|side| self.is(side, "pg_class"))
                })
            })
        };
        conjuncts(on).iter().any(finds_toast).then_some(name)
    }

    /// Whether `name` stands for this table of `pg_catalog` here.
    pub(super) fn is(&self, name: &str, table: &str) -> bool {
        self.tables.get(name).is_some_and(|found| found == table)
    }
}

/// A column with its qualifier.
pub(super) type Column = (String, String);

/// The two qualified columns that `expr` compares by `op`.
pub(super) fn equated(expr: &Expr, op: BinaryOperator) -> Option<(Column, Column)> {
    match inner(expr) {
        Expr::BinaryOp { left, op: found, right } if *found == op => Some((column(left)?, column(right)?)),
        _ => None,
    }
}

pub(super) fn either_way((left, right): (Column, Column)) -> [(Column, Column); 2] {
    [(left.clone(), right.clone()), (right, left)]
}

pub(super) fn column(expr: &Expr) -> Option<Column> {
    match inner(expr) {
        Expr::CompoundIdentifier(idents) if idents.len() >= 2 => {
            Some((folded(&idents[idents.len() - 2]), folded(&idents[idents.len() - 1])))
        }
        _ => None,
    }
}

/// The names of all WITH queries in a statement.
pub(super) fn cte_names(statement: &Statement) -> Vec<String> {
    #[derive(Default)]
    struct Names(Vec<String>);
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.0.extend(tables.map(|cte| folded(&cte.alias.name)));
            ControlFlow::Continue(())
        }
    }
    let mut names = Names::default();
    let _ = Visit::visit(statement, &mut names);
    names.0
}

/// Every table of FROM, joined ones too, but none inside a subquery.
pub(super) fn factors(from: &[TableWithJoins]) -> Vec<&TableFactor> {
    let mut all = vec![];
    for item in from {
        let joined = item.joins.iter().map(|join| &join.relation);
        for factor in std::iter::once(&item.relation).chain(joined) {
            match factor {
                TableFactor::NestedJoin { table_with_joins, .. } => {
                    all.extend(factors(std::slice::from_ref(table_with_joins)));
                }
                other => all.push(other),
            }
        }
    }
    all
}

/// The name that qualifies the columns of an item of FROM.
pub(super) fn factor_name(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } => {
            alias.as_ref().map(|alias| folded(&alias.name)).or_else(|| parts(name).pop())
        }
        TableFactor::Derived { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::TableFunction { alias, .. } => alias.as_ref().map(|alias| folded(&alias.name)),
        _ => None,
    }
}

/// A name that two items of one FROM have.
///
/// Two tables of different schemas may both be meant by their bare name, as long as no alias says so.
pub(super) fn duplicate(from: &[TableWithJoins]) -> Option<String> {
    let mut seen: HashMap<String, Option<Vec<String>>> = HashMap::new();
    for factor in factors(from) {
        let Some(name) = factor_name(factor) else { continue };
        let path = match factor {
            TableFactor::Table { name, alias: None, args: None, .. } => Some(parts(name)),
            _ => None,
        };
        if let Some(before) = seen.insert(name.clone(), path.clone())
            && (path.is_none() || before.is_none() || path == before)
        {
            return Some(name);
        }
    }
    None
}

/// The table of `pg_catalog` that an item of FROM is.
pub(super) fn system_table(factor: &TableFactor, ctes: &[String]) -> Option<String> {
    let TableFactor::Table { name, args: None, .. } = factor else {
        return None;
    };
    let path = parts(name);
    match path.as_slice() {
        [table] if is_system_table(table) && !ctes.contains(table) => Some(table.clone()),
        [schema, table] if schema == "pg_catalog" => Some(table.clone()),
        _ => None,
    }
}

fn system_tables(from: &[TableWithJoins], ctes: &[String]) -> HashMap<String, String> {
    let named = |factor: &&TableFactor| Some((factor_name(factor)?, system_table(factor, ctes)?));
    factors(from).iter().filter_map(named).collect()
}

/// Whether a query certainly uses a column of a query around it.
///
/// A qualified name does if nothing in the query is called so; a bare one if the query reads system
/// tables alone, and none has such a column.
pub(super) fn is_correlated(query: &Query, ctes: &[String]) -> bool {
    let mut search = Search { ctes, names: HashSet::new(), columns: Some(HashSet::new()), outer: false };
    let _ = Visit::visit(query, &mut Inside(&mut search));
    let _ = Visit::visit(query, &mut search);
    search.outer
}

struct Search<'a> {
    ctes: &'a [String],
    names: HashSet<String>,
    /// All columns in reach; none if that cannot be known.
    columns: Option<HashSet<String>>,
    outer: bool,
}

/// Collects what the query and its subqueries read from.
struct Inside<'a, 'b>(&'a mut Search<'b>);

impl Visitor for Inside<'_, '_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.0.names.extend(factor_name(factor));
        let known = system_table(factor, self.0.ctes).and_then(|table| {
            system::columns("pg_catalog", &table).map(|columns| columns.map(str::to_owned))
        });
        match (known, &mut self.0.columns) {
            (Some(known), Some(columns)) => columns.extend(known),
            _ => self.0.columns = None,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        use datafusion::sql::sqlparser::ast::SelectItem;
        if let Some(columns) = &mut self.0.columns {
            columns.extend(select.projection.iter().filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
                _ => None,
            }));
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Search<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.outer |= match expr {
            Expr::CompoundIdentifier(_) => column(expr).is_some_and(|(name, _)| !self.names.contains(&name)),
            Expr::Identifier(ident) => {
                let name = folded(ident);
                self.columns
                    .as_ref()
                    .is_some_and(|columns| !columns.contains(&name) && !self.names.contains(&name))
            }
            _ => false,
        };
        if self.outer { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
