//! `table_changes('schema.table', from [, to])`: the rows that came and went between two versions.
//!
//! Each snapshot in between is one change, numbered from 0. Files that a rewrite put in the place of
//! others hold mostly the same rows, which cancel each other out: what is left are the rows that truly
//! changed. An update is a row that goes and one that comes.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use chrono::DateTime;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor,
    VisitorMut,
};

use super::Planner;
use super::context::Tables;
use crate::engine::parse::{self, fold, name_in};
use crate::engine::statement::{Name, Statement};
use crate::error::{Error, Result};
use crate::format::iceberg::RowChange;
use crate::scan::FilesTable;

const FUNCTION: &str = "table_changes";
/// The columns behind those of the table.
const OWN_COLUMNS: &str = "_change_type, _change_version_id, _change_timestamp, _change_ordinal";

/// The arguments of one call.
#[derive(Debug, Clone, Default)]
struct Call {
    schema: Option<Expr>,
    table: Option<Expr>,
    from: Option<Expr>,
    to: Option<Expr>,
}

impl Planner {
    /// Replaces every call of `table_changes` by a table of its own name.
    pub(super) async fn changes(
        &self,
        statement: &mut ast::Statement,
        tables: &mut Tables<'_>,
        depth: usize,
    ) -> Result<()> {
        let mut calls = Calls::default();
        if let ControlFlow::Break(error) = ast::VisitMut::visit(statement, &mut calls) {
            return Err(error);
        }
        for (own, call) in calls.found {
            let plan = self.changed_rows(&call, depth).await?;
            tables.add(TableReference::bare(own), provider_as_source(Arc::new(ViewTable::new(plan, None))));
        }
        Ok(())
    }

    async fn changed_rows(&self, call: &Call, depth: usize) -> Result<LogicalPlan> {
        let name = self.subject(call)?;
        let from = call.from.as_ref().ok_or_else(|| wrong("needs the version after which changes count"))?;
        let from = self.version_or_time(from)?;
        let to = call.to.as_ref().map(|to| self.version_or_time(to)).transpose()?;
        let full = self.find(&name).await?;
        self.transaction.note_read(&full.catalog, &full.schema, &full.name).await?;
        let changes = self.transaction.changes(&full.catalog, (&full.schema, &full.name), from, to).await?;
        let mut tables: Vec<(String, Arc<dyn TableSource>)> = Vec::new();
        let mut selects = Vec::new();
        for (ordinal, step) in changes.steps.into_iter().enumerate() {
            selects.extend(select(&changes.schema, &step, ordinal));
            for (side, snapshot) in [("added", step.added), ("removed", step.removed)] {
                let table = provider_as_source(Arc::new(FilesTable::new(Arc::new(snapshot))));
                tables.push((format!("lacus {side} {ordinal}"), table));
            }
        }
        if selects.is_empty() {
            selects.push(nothing(&changes.schema));
            let empty = datafusion::datasource::empty::EmptyTable::new(Arc::clone(&changes.schema));
            tables.push(("lacus unchanged".to_owned(), provider_as_source(Arc::new(empty))));
        }
        let sql = selects.join(" UNION ALL ");
        match parse::parse(&sql)?.pop().map(|parsed| parsed.statement) {
            Some(Statement::Query(query)) => self.query_at(*query, &[], depth + 1, tables).await,
            _ => Err(Error::Internal(format!("changes of rows are no query: {sql}"))),
        }
    }

    /// The table that a call is about.
    fn subject(&self, call: &Call) -> Result<Name> {
        let text = |expr: &Expr| match self.constant(expr, &DataType::Utf8)? {
            ScalarValue::Utf8(Some(text)) => Ok(text),
            _ => Err(wrong("needs the name of a table, such as 'schema.table'")),
        };
        let table = call.table.as_ref().ok_or_else(|| wrong("needs the name of a table"))?;
        match &call.schema {
            // Names that stand apart are not folded, as in Trino.
            Some(schema) => Ok(Name { catalog: None, schema: Some(text(schema)?), name: text(table)? }),
            None => name_in(&text(table)?),
        }
    }
}

/// The query for the rows that one snapshot changed; none when it touched no files.
fn select(schema: &SchemaRef, step: &RowChange, ordinal: usize) -> Option<String> {
    let columns = columns(schema);
    let (added, removed) = (format!("\"lacus added {ordinal}\""), format!("\"lacus removed {ordinal}\""));
    let time = DateTime::from_timestamp_millis(step.timestamp_ms).unwrap_or_default();
    let time = time.format("%Y-%m-%d %H:%M:%S%.f+00");
    let id = step.snapshot_id;
    let tail = format!(
        "{id}::bigint AS _change_version_id, '{time}'::timestamptz AS _change_timestamp, \
         {ordinal}::integer AS _change_ordinal"
    );
    let plain = |kind: &str, table: &str| {
        Some(format!("SELECT {columns}, '{kind}' AS _change_type, {tail} FROM {table}"))
    };
    match (step.added.files.is_empty(), step.removed.files.is_empty()) {
        (true, true) => None,
        (false, true) => plain("insert", &added),
        (true, false) => plain("delete", &removed),
        (false, false) => Some(format!(
            "SELECT {columns}, {OWN_COLUMNS} FROM (SELECT {columns}, \
             CASE WHEN \"lacus net\" > 0 THEN 'insert' ELSE 'delete' END AS _change_type, {tail}, \
             unnest(array_repeat(1, abs(\"lacus net\"))) AS \"lacus copy\" \
             FROM (SELECT {columns}, sum(\"lacus side\")::bigint AS \"lacus net\" FROM \
             (SELECT {columns}, 1 AS \"lacus side\" FROM {added} \
             UNION ALL SELECT {columns}, -1 AS \"lacus side\" FROM {removed}) AS sides \
             GROUP BY {columns}) AS net WHERE \"lacus net\" <> 0) AS changed"
        )),
    }
}

/// The query for no changes at all.
fn nothing(schema: &SchemaRef) -> String {
    format!(
        "SELECT {}, '' AS _change_type, 0::bigint AS _change_version_id, now() AS _change_timestamp, \
         0::integer AS _change_ordinal FROM \"lacus unchanged\"",
        columns(schema)
    )
}

fn columns(schema: &SchemaRef) -> String {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    schema.fields().iter().map(|field| quoted(field.name())).collect::<Vec<_>>().join(", ")
}

fn wrong(what: &str) -> Error {
    Error::InvalidParameter(format!("{FUNCTION} {what}"))
}

/// Collects the calls of a query, and gives each a name.
#[derive(Default)]
struct Calls {
    found: Vec<(String, Call)>,
}

impl VisitorMut for Calls {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, args, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let ([ObjectNamePart::Identifier(ident)], Some(given)) = (name.0.as_slice(), &args) else {
            return ControlFlow::Continue(());
        };
        if fold(ident) != FUNCTION {
            return ControlFlow::Continue(());
        }
        let call = match Call::of(&given.args) {
            Ok(call) => call,
            Err(error) => return ControlFlow::Break(error),
        };
        let own = format!("lacus changes {}", self.found.len() + 1);
        if alias.is_none() {
            let name = Ident::new(FUNCTION);
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
        *name = ObjectName::from(vec![Ident::with_quote('"', &own)]);
        *args = None;
        self.found.push((own, call));
        ControlFlow::Continue(())
    }
}

impl Call {
    /// Reads arguments by their order, or by Trino's names.
    fn of(arguments: &[FunctionArg]) -> Result<Self> {
        let mut call = Self::default();
        for (at, argument) in arguments.iter().enumerate() {
            let (name, value) = match argument {
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                    (Some(fold(name)), value)
                }
                FunctionArg::ExprNamed {
                    name: Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(value),
                    ..
                } => (Some(fold(name)), value),
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (None, value),
                _ => return Err(wrong("takes the name of a table and two versions")),
            };
            let slot = match (name.as_deref(), at) {
                (Some("schema_name"), _) => &mut call.schema,
                (Some("table_name"), _) | (None, 0) => &mut call.table,
                (Some("start_snapshot_id"), _) | (None, 1) => &mut call.from,
                (Some("end_snapshot_id"), _) | (None, 2) => &mut call.to,
                (Some(name), _) => return Err(wrong(&format!("has no argument \"{name}\""))),
                (None, _) => return Err(wrong("takes the name of a table and two versions")),
            };
            *slot = Some(value.clone());
        }
        Ok(call)
    }
}
