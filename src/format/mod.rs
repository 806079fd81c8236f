//! Table formats: which files a table has at one version, and how a change to them is committed.
//!
//! A format answers "which files" and makes "these files" durable; reading them is `scan`, writing
//! them is `sink`.

pub mod iceberg;
pub mod files;
pub mod partition;

use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::file_format::FileFormat;
use object_store::ObjectMeta;

use crate::storage::Location;

/// One file of a table.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Path within the location's store, size in bytes, and what tells one version of it from another.
    pub object: ObjectMeta,
    /// Values of the partition columns, in their order; empty for an unpartitioned table.
    pub partition: Vec<ScalarValue>,
    /// Row count and column bounds over the table's schema (partition columns included), where known.
    pub statistics: Option<Arc<Statistics>>,
}

/// A table at one version: its schema and exactly the files that hold its rows.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Columns as SQL sees them: those in the files, then the `partition_columns` that only paths hold.
    pub schema: SchemaRef,
    /// Names of the columns that are read from paths (Hive partitions), the last ones of `schema`.
    pub partition_columns: Vec<String>,
    pub files: Arc<[DataFile]>,
    /// How the bytes are read: Parquet, CSV, JSON lines, Avro or Arrow, with its options.
    pub file_format: Arc<dyn FileFormat>,
    pub location: Location,
}

impl Snapshot {
    /// The columns that the files hold, and those that are read from paths.
    pub fn split_fields(&self) -> (&[FieldRef], &[FieldRef]) {
        let fields = self.schema.fields();
        fields.split_at(fields.len() - self.partition_columns.len())
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
