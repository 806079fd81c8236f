//! What stands in FROM: system tables by their bare names, and functions that give rows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, FunctionArg, FunctionArgExpr, Ident, LimitClause, ObjectName, Query, TableAlias,
    TableAliasColumnDef, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::build::{call, cast, number, parts};
use super::functions::{arrays_of, mark_of};
use super::scope::{Scope, column};
use crate::system;

/// Rewrites one item of FROM.
pub(super) fn rewrite(factor: &mut TableFactor, ctes: &[String]) {
    match factor {
        TableFactor::Table { name, alias, args: None, .. } => qualify(name, alias, ctes),
        TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
            let arguments = args.args.iter().filter_map(argument).cloned().collect();
            let function = Call { name: unqualify(name), arguments, ordinality: *with_ordinality };
            if let Some(rewritten) = function.rows(alias) {
                *factor = rewritten;
            }
        }
        TableFactor::Function { name, args, alias, with_ordinality, .. } => {
            let arguments = args.iter().filter_map(argument).cloned().collect();
            let function = Call { name: unqualify(name), arguments, ordinality: *with_ordinality };
            if let Some(rewritten) = function.rows(alias) {
                *factor = rewritten;
            }
        }
        TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
            let arguments = std::mem::take(array_exprs);
            let function = Call { name: Some("unnest".to_owned()), arguments, ordinality: *with_ordinality };
            if let Some(rewritten) = function.rows(alias) {
                *factor = rewritten;
            }
        }
        _ => {}
    }
}

/// `FETCH FIRST n ROWS ONLY` as `LIMIT n`.
pub(super) fn fetch(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|fetch| !fetch.with_ties && !fetch.percent) else { return };
    let rows = Some(fetch.quantity.unwrap_or_else(|| number(1)));
    query.limit_clause = Some(match query.limit_clause.take() {
        Some(LimitClause::LimitOffset { offset, limit_by, .. }) => {
            LimitClause::LimitOffset { limit: rows, offset, limit_by }
        }
        _ => LimitClause::LimitOffset { limit: rows, offset: None, limit_by: vec![] },
    });
}

/// A function in FROM.
struct Call {
    name: Option<String>,
    arguments: Vec<Expr>,
    /// Whether its rows are numbered.
    ordinality: bool,
}

impl Call {
    /// The elements of arrays that are the function's rows; none for a function that the planner knows.
    fn rows(self, alias: &mut Option<TableAlias>) -> Option<TableFactor> {
        let name = self.name.as_deref()?;
        let (mut arrays, names): (Vec<Expr>, Vec<&str>) = match name {
            "unnest" => (self.arguments, vec!["unnest"]),
            "generate_series" if self.ordinality || self.arguments.iter().any(has_column) => {
                (vec![call(name, self.arguments)], vec!["generate_series"])
            }
            "generate_series" => {
                name_columns(&["generate_series"], true, alias);
                return None;
            }
            _ => {
                let (arrays, names) = arrays_of(name, self.arguments)?;
                (arrays, names.to_vec())
            }
        };
        // A function with names of its own for its columns keeps them under an alias.
        let by_alias = names.len() == 1 && names[0] == name;
        let mut alias = alias.take();
        name_columns(&names, by_alias, &mut alias);
        if self.ordinality {
            let length = cast(call("cardinality", vec![arrays[0].clone()]), DataType::BigInt(None));
            arrays.push(call("generate_series", vec![number(1), length]));
            let columns = alias.iter_mut().map(|alias| &mut alias.columns);
            for columns in columns.filter(|columns| columns.len() < arrays.len()) {
                columns.push(TableAliasColumnDef { name: Ident::new("ordinality"), data_type: None });
            }
        }
        let rows = unnest(alias, arrays);
        Some(match mark_of(name) {
            Some(mark) => marked(mark, &rows).unwrap_or(rows),
            None => rows,
        })
    }
}

/// Rows whose last column is marked as json; the rows themselves if they cannot be.
fn marked(mark: &str, rows: &TableFactor) -> Option<TableFactor> {
    let TableFactor::UNNEST { alias: Some(alias), array_exprs, with_offset: false, .. } = rows else {
        return None;
    };
    let columns: Vec<String> = alias.columns.iter().map(|column| column.name.to_string()).collect();
    let numbered =
        columns.len() > 1 && alias.columns.last().is_some_and(|last| last.name.value == "ordinality");
    let json = columns.len().checked_sub(1 + usize::from(numbered))?;
    let list = columns.iter().enumerate().map(|(at, column)| match at == json {
        true => format!("{mark}({column}) AS {column}"),
        false => column.clone(),
    });
    let list = list.collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT {list} FROM {rows}");
    let query = Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql).ok()?.parse_query().ok()?;
    Some(TableFactor::Derived {
        lateral: array_exprs.iter().any(has_column),
        subquery: query,
        alias: Some(alias.clone()),
        sample: None,
    })
}

/// Whether an expression names a column.
pub(super) fn has_column(expr: &Expr) -> bool {
    struct Columns;
    impl Visitor for Columns {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Columns).is_break()
}

/// `pg_class` as `pg_catalog.pg_class`: PostgreSQL looks there first, whatever the search path.
fn qualify(name: &mut ObjectName, alias: &mut Option<TableAlias>, ctes: &[String]) {
    let path = parts(name);
    let [table] = path.as_slice() else {
        return;
    };
    if ctes.contains(table) || !is_system_table(table) {
        return;
    }
    *name = ObjectName::from(vec![Ident::new("pg_catalog"), Ident::new(table.clone())]);
    if alias.is_none() {
        *alias = Some(named(table));
    }
}

pub(super) fn is_system_table(name: &str) -> bool {
    name.starts_with("pg_") && system::names("pg_catalog").contains(&name)
}

/// `c.tableoid` and `c.xmin` of a system table as their numbers: such columns are in every table of
/// PostgreSQL, unseen. Rows of the catalog are as if frozen.
pub(super) fn system_column(expr: &mut Expr, scopes: &[Scope]) {
    let Some((table, name)) = column(expr) else {
        return;
    };
    let known = || scopes.iter().rev().find_map(|scope| scope.tables.get(&table));
    match name.as_str() {
        "tableoid" => {
            if let Some(oid) = known().and_then(|table| system::oid("pg_catalog", table)) {
                *expr = cast(number(oid.unsigned_abs()), DataType::Custom(word("oid"), vec![]));
            }
        }
        "xmin" if known().is_some() => *expr = cast(number(FROZEN), DataType::Custom(word("xid"), vec![])),
        _ => {}
    }
}

/// PostgreSQL's FrozenTransactionId.
const FROZEN: u64 = 2;

fn word(word: &str) -> ObjectName {
    ObjectName::from(vec![Ident::new(word)])
}

/// Takes `pg_catalog.` off a function's name and gives the bare name.
fn unqualify(name: &mut ObjectName) -> Option<String> {
    let mut path = parts(name);
    if path.len() == 2 && path[0] == "pg_catalog" {
        *name = ObjectName::from(vec![Ident::new(path[1].clone())]);
    }
    path.pop()
}

pub(super) fn argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

pub(super) fn named(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::new(name), columns: vec![], at: None }
}

fn unnest(alias: Option<TableAlias>, array_exprs: Vec<Expr>) -> TableFactor {
    TableFactor::UNNEST {
        alias,
        array_exprs,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    }
}

/// Names the columns of a function as PostgreSQL does: the one column after the alias, or after the function.
fn name_columns(names: &[&str], by_alias: bool, alias: &mut Option<TableAlias>) {
    let alias = alias.get_or_insert_with(|| named(names[0]));
    if alias.columns.is_empty() {
        let name = |name: &&str| if by_alias { alias.name.clone() } else { Ident::new(*name) };
        let columns = names.iter().map(|one| TableAliasColumnDef { name: name(one), data_type: None });
        alias.columns = columns.collect();
    }
}
