//! Table formats: which files a table has at one version, and how a change to them is committed.
//!
//! A format answers "which files" and makes "these files" durable; reading them is `scan`, writing
//! them is `sink`.

pub mod iceberg;
pub mod files;
pub mod metrics;
pub mod partition;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::file_format::FileFormat;
use object_store::ObjectMeta;

use self::metrics::FileStatistics;
use crate::storage::Location;

/// One file of a table.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Path within the location's store, size in bytes, and what tells one version of it from another.
    pub object: ObjectMeta,
    /// Values of the partition columns, in their order; empty for an unpartitioned table.
    pub partition: Vec<ScalarValue>,
    /// Row count and column bounds over the table's schema (partition columns included), where known.
    pub statistics: Option<FileStatistics>,
}

impl DataFile {
    /// The number of its rows, where it is known exactly.
    pub fn row_count(&self) -> Option<u64> {
        match self.statistics.as_ref()?.rows() {
            Precision::Exact(rows) => u64::try_from(rows).ok(),
            Precision::Inexact(_) | Precision::Absent => None,
        }
    }
}

/// A table at one version: its schema and exactly the files that hold its rows.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Columns as SQL sees them: those in the files, then the `partition_columns` that only paths hold,
    /// then the row number if the snapshot is `numbered`.
    pub schema: SchemaRef,
    /// Names of the columns that have one value a file, as Hive's paths give them.
    pub partition_columns: Vec<String>,
    /// Whether the last column is each row's number within its file, from 0, which the Parquet reader
    /// counts.
    pub numbered: bool,
    pub files: Arc<[DataFile]>,
    /// Whether a file's columns are known by their Parquet field ids, which the schema's fields name, and
    /// not by their names.
    pub by_field_id: bool,
    /// How the bytes are read: Parquet, CSV, JSON lines, Avro or Arrow, with its options.
    pub file_format: Arc<dyn FileFormat>,
    pub location: Location,
    /// By column, about how many distinct values it had when that was counted last.
    pub distinct: Arc<BTreeMap<String, u64>>,
}

impl Snapshot {
    /// The columns that the files hold, and those that have one value a file.
    pub fn split_fields(&self) -> (&[FieldRef], &[FieldRef]) {
        let fields = self.schema.fields();
        let stored = &fields[..fields.len() - usize::from(self.numbered)];
        stored.split_at(stored.len() - self.partition_columns.len())
    }

    /// Adds what is known of the whole snapshot to the statistics of some of its rows.
    pub fn add_distinct(&self, statistics: &mut Statistics) {
        let rows = statistics.num_rows.get_value().copied().unwrap_or(usize::MAX);
        for (field, column) in self.schema.fields().iter().zip(&mut statistics.column_statistics) {
            if let Some(distinct) = self.distinct.get(field.name()) {
                let distinct = usize::try_from(*distinct).unwrap_or(usize::MAX);
                column.distinct_count = Precision::Inexact(distinct.min(rows));
            }
        }
    }

    /// The column of row numbers, if there is one.
    pub fn row_number_field(&self) -> Option<&FieldRef> {
        self.schema.fields().last().filter(|_| self.numbered)
    }
}

/// One Parquet file that a write has finished, not yet part of any table.
#[derive(Debug, Clone)]
pub struct WrittenFile {
    /// Path within the location's store.
    pub path: object_store::path::Path,
    pub size_bytes: u64,
    pub row_count: u64,
    /// Partition values after their transforms, in the order of the table's partition fields.
    pub partition: Vec<ScalarValue>,
    /// One entry a top-level column, in the order of the table's schema.
    pub columns: Vec<ColumnMetrics>,
    /// Byte offsets at which row groups begin.
    pub split_offsets: Vec<i64>,
}

/// What one file knows of one column.
#[derive(Debug, Clone, Default)]
pub struct ColumnMetrics {
    /// Compressed bytes in the file.
    pub size_bytes: u64,
    /// Values, nulls included.
    pub value_count: u64,
    pub null_count: u64,
    /// Smallest and largest value, of the column's type; absent where they are not known or are NaN.
    pub lower: Option<ScalarValue>,
    pub upper: Option<ScalarValue>,
}
