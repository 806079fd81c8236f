//! INSERT … ON CONFLICT, as the MERGE that it is.
//!
//! The rows to insert become the source `excluded`, with every column of the table; a row of the table
//! that has the same key is what they conflict with. Of several new rows of one key, the first is
//! inserted under DO NOTHING, and DO UPDATE refuses them.

use arrow::datatypes::Schema;
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, Query, SetExpr, TableFactor, TableWithJoins};

use super::alter::parsed;
use super::dialect::change_outside_queries;
use super::rules::{defaults_of, names_of};
use super::show::{quoted, sql_name};
use super::statement::{Insert, Modify, RowAction, When, WhenClause};
use super::write::{column_indices, rows_of};
use crate::catalog::transaction::TableTarget;
use crate::error::{Error, Result};
use crate::format::iceberg::Key;

/// What the rows to insert are called.
const EXCLUDED: &str = "excluded";

/// Makes a MERGE of an INSERT with ON CONFLICT.
///
/// # Errors
/// [`Error::Planning`] when no declared key is named, [`Error::UndefinedObject`] for a constraint that
/// there is not, [`Error::Syntax`] when values do not fit the columns.
pub(super) fn merge_of(insert: &Insert, target: &TableTarget) -> Result<Modify> {
    let conflict = insert.conflict.as_ref().ok_or_else(|| Error::Internal("no conflict".to_owned()))?;
    let key = key_of(conflict, target)?;
    let key = names_of(&target.columns, &key.columns);
    let target_name = insert.alias.clone().unwrap_or_else(|| Ident::with_quote('"', &insert.name.name));
    let updates = matches!(conflict.action, ast::OnConflictAction::DoUpdate(_));
    let subquery = source(insert, target, &key, updates)?;
    let relation = TableFactor::Derived { lateral: false, subquery, alias: Some(excluded()), sample: None };
    let names: Vec<String> = target.columns.fields().iter().map(|field| field.name().clone()).collect();
    let values = names.iter().map(|name| expr(&format!("{EXCLUDED}.{}", quoted(name))));
    let inserts = RowAction::Insert { values: values.collect::<Result<_>>()?, columns: names };
    let clause = |when, condition, action| WhenClause { when, condition, action };
    let mut clauses = Vec::new();
    if let ast::OnConflictAction::DoUpdate(update) = &conflict.action {
        for when in [When::Matched, When::NotMatched] {
            let twice = expr(&format!("{EXCLUDED}.\"$count\" > 1"))?;
            clauses.push(clause(when, Some(twice), RowAction::Refuse));
        }
        let own = |expr: &Expr| of_target(expr, &target.columns, &target_name);
        let assigned = super::parse::assignments_of(update.assignments.clone())?;
        let assigned = assigned.iter().map(|(column, value)| (column.clone(), own(value))).collect();
        let condition = update.selection.as_ref().map(own);
        clauses.push(clause(When::Matched, condition, RowAction::Update(assigned)));
    }
    clauses.push(clause(When::NotMatched, None, inserts));
    let equal = key.iter().map(|name| format!("{target_name}.{0} = {EXCLUDED}.{0}", quoted(name)));
    Ok(Modify {
        word: "MERGE",
        with: None,
        target: insert.name.clone(),
        alias: insert.alias.clone(),
        using: vec![TableWithJoins { relation, joins: Vec::new() }],
        condition: Some(expr(&equal.collect::<Vec<_>>().join(" AND "))?),
        clauses,
        returning: insert.returning.clone(),
    })
}

/// The declared key that a conflict is about.
fn key_of<'a>(conflict: &ast::OnConflict, target: &'a TableTarget) -> Result<&'a Key> {
    let keys = &target.rules.keys;
    match &conflict.conflict_target {
        Some(ast::ConflictTarget::Columns(columns)) => {
            let mut wanted: Vec<String> = columns.iter().map(super::parse::fold).collect();
            wanted.sort();
            let is_named = |key: &&Key| {
                let mut names = names_of(&target.columns, &key.columns);
                names.sort_unstable();
                names == wanted
            };
            let missing = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
            keys.iter().find(is_named).ok_or_else(|| Error::Planning(missing.to_owned()))
        }
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let name = super::parse::name_of(name)?.name;
            let missing = || format!("constraint \"{name}\" of relation \"{}\" does not exist", target.name);
            keys.iter().find(|key| key.name == name).ok_or_else(|| Error::UndefinedObject(missing()))
        }
        None if matches!(conflict.action, ast::OnConflictAction::DoUpdate(_)) => Err(Error::Syntax {
            message: "ON CONFLICT DO UPDATE requires inference specification or constraint name".to_owned(),
            position: None,
        }),
        None => match keys.as_slice() {
            [key] => Ok(key),
            [] => Err(Error::Planning(format!("table \"{}\" declares no key to conflict with", target.name))),
            _ => Err(Error::Unsupported("ON CONFLICT without columns on a table of several keys".to_owned())),
        },
    }
}

/// The rows to insert, with the columns and types of the table.
fn source(insert: &Insert, target: &TableTarget, key: &[&str], updates: bool) -> Result<Box<Query>> {
    let columns = &target.columns;
    let mut indices = column_indices(columns, &insert.columns)?;
    let rows = match rows_of(insert, target)? {
        Some(rows) => rows,
        None => parsed("SELECT 1")?,
    };
    if insert.query.is_none() {
        indices.clear();
    }
    if let (SetExpr::Values(values), true) = (rows.body.as_ref(), insert.columns.is_empty()) {
        indices.truncate(values.rows.first().map_or(0, |row| row.content.len()));
    }
    let given = |index: usize| format!("\"$given {index}\"");
    let mut list = Vec::new();
    for ((index, field), default) in columns.fields().iter().enumerate().zip(defaults_of(target)?) {
        let value = match (indices.contains(&index), default) {
            (true, _) => given(index),
            (false, Some(default)) => format!("({default})"),
            (false, None) => "NULL".to_owned(),
        };
        list.push(format!("CAST({value} AS {}) AS {}", sql_name(field), quoted(field.name())));
    }
    let names: Vec<String> = indices.iter().map(|index| given(*index)).collect();
    let names = if names.is_empty() { "\"$nothing\"".to_owned() } else { names.join(", ") };
    let key: Vec<String> = key.iter().map(|name| quoted(name)).collect();
    let unknown: Vec<String> = key.iter().map(|name| format!("{name} IS NULL")).collect();
    let (parts, unknown) = (key.join(", "), unknown.join(" OR "));
    let rows = format!("(SELECT {} FROM ({rows}) AS \"$q\" ({names})) AS r", list.join(", "));
    parsed(&match updates {
        // Null is equal to nothing.
        true => format!(
            "SELECT *, CASE WHEN {unknown} THEN 1 ELSE count(*) OVER (PARTITION BY {parts}) END AS \"$count\" \
             FROM {rows}"
        ),
        false => format!(
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY {parts}) AS \"$number\" FROM {rows}) AS n \
             WHERE \"$number\" = 1 OR {unknown}"
        ),
    })
}

fn excluded() -> ast::TableAlias {
    ast::TableAlias { explicit: true, name: Ident::new(EXCLUDED), columns: Vec::new(), at: None }
}

fn expr(sql: &str) -> Result<Expr> {
    super::rules::expression(sql)
}

/// Columns without a qualifier are the table's own, those of queries within left alone.
fn of_target(expr: &Expr, columns: &Schema, table: &Ident) -> Expr {
    let mut expr = expr.clone();
    change_outside_queries(&mut expr, |expr| {
        if let Expr::Identifier(name) = expr
            && columns.column_with_name(&super::parse::fold(name)).is_some()
        {
            *expr = Expr::CompoundIdentifier(vec![table.clone(), name.clone()]);
        }
    });
    expr
}
