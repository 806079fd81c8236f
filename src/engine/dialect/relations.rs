//! What stands in FROM: system tables by their bare names, and functions that give rows.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableAliasColumnDef, TableFactor,
};

use super::build::{number, parts};
use super::scope::{Scope, column};
use crate::system;

/// Rewrites one item of FROM.
pub(super) fn rewrite(factor: &mut TableFactor, ctes: &[String]) {
    match factor {
        TableFactor::Table { name, alias, args: None, .. } => qualify(name, alias, ctes),
        TableFactor::Table { name, alias, args: Some(args), .. } => {
            let function = unqualify(name);
            match function.as_deref() {
                Some("unnest") => {
                    let array_exprs = args.args.iter().filter_map(argument).cloned().collect();
                    let mut alias = alias.take();
                    name_column("unnest", &mut alias);
                    *factor = unnest(alias, array_exprs);
                }
                Some("generate_series") => name_column("generate_series", alias),
                _ => {}
            }
        }
        TableFactor::Function { name, alias, .. } => {
            if unqualify(name).as_deref() == Some("generate_series") {
                name_column("generate_series", alias);
            }
        }
        TableFactor::UNNEST { alias, with_offset: false, .. } => name_column("unnest", alias),
        _ => {}
    }
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

/// `c.tableoid` of a system table as its number: such a column is in every table of PostgreSQL, unseen.
pub(super) fn table_oid(expr: &mut Expr, scopes: &[Scope]) {
    let Some((table, name)) = column(expr) else {
        return;
    };
    if name != "tableoid" {
        return;
    }
    let known = scopes.iter().rev().find_map(|scope| scope.tables.get(&table));
    if let Some(oid) = known.and_then(|table| system::oid("pg_catalog", table)) {
        *expr = number(oid.unsigned_abs());
    }
}

/// Takes `pg_catalog.` off a function's name and gives the bare name.
fn unqualify(name: &mut ObjectName) -> Option<String> {
    let mut path = parts(name);
    if path.len() == 2 && path[0] == "pg_catalog" {
        *name = ObjectName::from(vec![Ident::new(path[1].clone())]);
    }
    path.pop()
}

fn argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn named(name: &str) -> TableAlias {
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

/// Names the one column of a function as PostgreSQL does: after the alias, or after the function.
fn name_column(function: &str, alias: &mut Option<TableAlias>) {
    let alias = alias.get_or_insert_with(|| named(function));
    if alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
}
