//! The schema `system` of a lake: what the transaction uses, and the runs of scripts.
//!
//! Runs are recorded by `lacus run` in managed tables of the schema [`RECORDS`]; `system` shows them, in
//! a lake where nothing was run yet as well.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::datasource::empty::EmptyTable;

use super::FullName;
use crate::catalog::log::{ViewColumn, ViewRecord};
use crate::catalog::transaction::{Found, TableUse, Transaction};
use crate::error::Result;

pub const SCHEMA: &str = "system";
/// The schema of a lake in which runs are recorded.
pub const RECORDS: &str = "_lacus";

/// `name type` of each column of the table of runs: one row when a run begins, another when it ends.
pub const RUNS: &[(&str, &str)] = &[
    ("run_id", "text"),
    ("state", "text"),
    ("recorded", "timestamptz"),
    ("started", "timestamptz"),
    ("finished", "timestamptz"),
    ("user_name", "text"),
    ("scripts", "text"),
    ("text_hash", "text"),
    ("options", "text"),
    ("steps", "bigint"),
    ("steps_done", "bigint"),
    ("steps_skipped", "bigint"),
    ("steps_failed", "bigint"),
    ("rows", "bigint"),
    ("bytes", "bigint"),
    ("resumes", "text"),
    ("error", "text"),
];

/// `name type` of each column of the table of steps: one row when a step has ended.
pub const STEPS: &[(&str, &str)] = &[
    ("run_id", "text"),
    ("step", "bigint"),
    ("script", "text"),
    ("line", "bigint"),
    ("statement", "text"),
    ("state", "text"),
    ("started", "timestamptz"),
    ("finished", "timestamptz"),
    ("attempts", "bigint"),
    ("rows", "bigint"),
    ("bytes", "bigint"),
    ("sqlstate", "text"),
    ("error", "text"),
    ("error_line", "bigint"),
    ("error_column", "bigint"),
    ("text_hash", "text"),
    ("occurrence", "bigint"),
    ("reads", "text"),
    ("writes", "text"),
];

/// The relation of that name, if there is one.
///
/// # Errors
/// What the store answers.
pub async fn relation(transaction: &Arc<Transaction>, full: &FullName) -> Result<Option<Found>> {
    match full.name.as_str() {
        "transaction_tables" => Ok(Some(Found::Table(uses(&transaction.uses().await?)?))),
        "runs" => recorded(transaction, full, RUNS, &latest_of_each()).await.map(Some),
        "run_steps" => {
            recorded(transaction, full, STEPS, &format!("SELECT * FROM {RECORDS}.run_steps")).await.map(Some)
        }
        _ => Ok(None),
    }
}

/// A run as it was recorded last.
fn latest_of_each() -> String {
    let columns: Vec<&str> = RUNS.iter().map(|(name, _)| *name).collect();
    format!(
        "SELECT {} FROM (SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY recorded DESC) AS \
         \"lacus latest\" FROM {RECORDS}.runs) AS runs WHERE \"lacus latest\" = 1",
        columns.join(", ")
    )
}

/// A view of a table of records, or no rows where nothing was recorded yet.
async fn recorded(
    transaction: &Transaction,
    full: &FullName,
    columns: &[(&str, &str)],
    sql: &str,
) -> Result<Found> {
    let is_there = transaction.has_relation(&full.catalog, RECORDS, &full.name).await?;
    if !is_there {
        let fields = columns.iter().map(|(name, ty)| Field::new(*name, arrow_type(ty), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        return Ok(Found::Table(Arc::new(EmptyTable::new(schema))));
    }
    let column = |(name, ty): &(&str, &str)| ViewColumn {
        name: (*name).to_owned(),
        data_type: arrow_type(ty).to_string(),
        source: Some((*name).to_owned()),
    };
    Ok(Found::View(ViewRecord {
        sql: sql.to_owned(),
        columns: columns.iter().map(column).collect(),
        search_path: Vec::new(),
        comment: None,
    }))
}

fn arrow_type(ty: &str) -> DataType {
    match ty {
        "bigint" => DataType::Int64,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => DataType::Utf8,
    }
}

/// What the transaction has read and written so far.
fn uses(uses: &[TableUse]) -> Result<Arc<dyn TableProvider>> {
    let text = |name: &str, of: fn(&TableUse) -> Option<&str>| {
        let values: StringArray = uses.iter().map(of).collect();
        (Field::new(name, DataType::Utf8, true), Arc::new(values) as ArrayRef)
    };
    let truth = |name: &str, of: fn(&TableUse) -> bool| {
        let values: BooleanArray = uses.iter().map(|one| Some(of(one))).collect();
        (Field::new(name, DataType::Boolean, false), Arc::new(values) as ArrayRef)
    };
    let number = |name: &str, of: fn(&TableUse) -> u64| {
        let values = uses.iter().map(|one| i64::try_from(of(one)).unwrap_or(i64::MAX));
        (Field::new(name, DataType::Int64, false), Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)
    };
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = [
        text("table_catalog", |one| Some(&one.catalog)),
        text("table_schema", |one| Some(one.schema.as_str()).filter(|name| !name.is_empty())),
        text("table_name", |one| Some(one.name.as_str()).filter(|name| !name.is_empty())),
        truth("is_read", |one| one.read),
        truth("is_written", |one| one.written),
        text("version_before", |one| one.before.as_deref()),
        text("version", |one| one.version.as_deref()),
        number("rows_added", |one| one.rows_added),
        number("bytes_added", |one| one.bytes_added),
    ]
    .into_iter()
    .unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
