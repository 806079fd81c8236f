//! `system.runtime.queries`: what runs and what waits, as Presto lists it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use crate::engine::statement::Name;
use crate::error::Result;
use crate::runtime::Runtime;
use crate::runtime::queries::QueryInfo;

const CATALOG: &str = "system";
pub const SCHEMA: &str = "runtime";

/// The table that a name means, if it is one of these; its rows are those of now.
///
/// # Errors
/// None that rows of text could cause.
pub fn table(runtime: &Runtime, name: &Name) -> Result<Option<Arc<dyn TableProvider>>> {
    let is_ours = name.catalog.as_deref() == Some(CATALOG) && name.schema.as_deref() == Some(SCHEMA);
    if !is_ours || name.name != "queries" {
        return Ok(None);
    }
    let batch = rows(&runtime.queries.list())?;
    Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
}

fn rows(queries: &[QueryInfo]) -> Result<RecordBatch> {
    let text = |of: fn(&QueryInfo) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(queries.iter().map(of)))
    };
    let started = queries.iter().map(|query| {
        let since = query.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    });
    let started = TimestampMicrosecondArray::from_iter_values(started).with_timezone("UTC");
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let field = |name: &str| Field::new(name, DataType::Utf8, false);
    let fields = vec![
        field("query_id"),
        field("state"),
        field("user"),
        field("catalog"),
        field("query"),
        Field::new("started", time, false),
    ];
    let columns: Vec<ArrayRef> = vec![
        text(|query| &query.id),
        text(|query| if query.running { "RUNNING" } else { "QUEUED" }),
        text(|query| &query.user),
        text(|query| &query.catalog),
        text(|query| &query.text),
        Arc::new(started),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
