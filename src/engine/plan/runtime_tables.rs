//! `system.runtime`: what runs and what waits, as Presto lists it, and what upkeep was done.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use crate::engine::statement::Name;
use crate::error::Result;
use crate::runtime::Runtime;
use crate::runtime::queries::QueryInfo;
use crate::runtime::upkeep::Action;

const CATALOG: &str = "system";
pub const SCHEMA: &str = "runtime";

/// The table that a name means, if it is one of these; its rows are those of now.
///
/// # Errors
/// None that rows of text could cause.
pub fn table(runtime: &Runtime, name: &Name) -> Result<Option<Arc<dyn TableProvider>>> {
    let is_ours = name.catalog.as_deref() == Some(CATALOG) && name.schema.as_deref() == Some(SCHEMA);
    let batch = match name.name.as_str() {
        "queries" if is_ours => queries(&runtime.queries.list())?,
        "upkeep" if is_ours => upkeep(&runtime.upkeep.list())?,
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
}

fn queries(queries: &[QueryInfo]) -> Result<RecordBatch> {
    let text = |name: &str, of: fn(&QueryInfo) -> &str| texts(name, queries.iter().map(of));
    batch(vec![
        text("query_id", |query| &query.id),
        text("state", |query| if query.running { "RUNNING" } else { "QUEUED" }),
        text("user", |query| &query.user),
        text("catalog", |query| &query.catalog),
        text("query", |query| &query.text),
        times("started", queries.iter().map(|query| query.started)),
    ])
}

fn upkeep(actions: &[Action]) -> Result<RecordBatch> {
    let text = |name: &str, of: fn(&Action) -> &str| texts(name, actions.iter().map(of));
    let number = |name: &str, of: fn(&Action) -> u64| {
        let numbers = actions.iter().map(|action| i64::try_from(of(action)).unwrap_or(i64::MAX));
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
        (Field::new(name, DataType::Int64, false), column)
    };
    let errors: StringArray = actions.iter().map(|action| action.error.as_deref()).collect();
    batch(vec![
        text("table", |action| &action.table),
        text("action", |action| action.action),
        text("state", Action::state),
        times("started", actions.iter().map(|action| action.started)),
        number("elapsed_ms", |action| action.elapsed.as_millis() as u64),
        number("files", |action| action.files),
        number("bytes", |action| action.bytes),
        (Field::new("error", DataType::Utf8, true), Arc::new(errors)),
    ])
}

fn texts<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> (Field, ArrayRef) {
    (Field::new(name, DataType::Utf8, false), Arc::new(StringArray::from_iter_values(values)))
}

fn times(name: &str, values: impl Iterator<Item = SystemTime>) -> (Field, ArrayRef) {
    let micros = values.map(|value| {
        let since = value.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    });
    let column = TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC");
    let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    (Field::new(name, data_type, false), Arc::new(column))
}

fn batch(columns: Vec<(Field, ArrayRef)>) -> Result<RecordBatch> {
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
