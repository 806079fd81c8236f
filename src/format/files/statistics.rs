//! Statistics: row counts and bounds of Parquet files, over the columns of their table.
//!
//! A file may lack a column of its table, or hold it as another type; its bounds are taken over where
//! the conversion keeps their order, and are unknown elsewhere. Partition columns have one exact
//! value a file.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::parquet::apply_file_schema_type_coercions;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::SchemaFingerprint;
use datafusion::execution::cache::TableScopedPath;
use datafusion::execution::cache::cache_manager::{CachedFileMetadata, FileStatisticsCache};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaData;

use super::footers::{Footers, in_file};
use crate::error::Result;
use crate::format::{DataFile, Snapshot};

/// Adds statistics to those Parquet `files` of `snapshot` that have none yet.
///
/// Costs one footer a file that the runtime's caches do not hold.
///
/// # Errors
/// [`Error::CorruptFile`](crate::error::Error::CorruptFile) when a file has no readable footer.
pub async fn with_statistics(
    state: &dyn Session,
    snapshot: &Snapshot,
    mut files: Vec<DataFile>,
) -> Result<Vec<DataFile>> {
    let wanted: Vec<_> = (0..files.len()).filter(|index| files[*index].statistics.is_none()).collect();
    if wanted.is_empty() || snapshot.file_format.get_ext() != "parquet" {
        return Ok(files);
    }
    let reader = StatisticsReader::new(state, snapshot);
    let concurrency = state.config_options().execution.meta_fetch_concurrency.get();
    let reads = futures::stream::iter(wanted.iter().map(|index| reader.read(&files[*index])));
    // Boxed, because rustc cannot prove the stream `Send` otherwise (rust-lang/rust#64552).
    let found: Vec<_> = reads.boxed().buffered(concurrency).try_collect().await?;
    for (index, statistics) in wanted.into_iter().zip(found) {
        files[index].statistics = Some(statistics.into());
    }
    Ok(files)
}

struct StatisticsReader<'a> {
    snapshot: &'a Snapshot,
    footers: Footers<'a>,
    cache: Option<Arc<FileStatisticsCache>>,
    fingerprint: Arc<SchemaFingerprint>,
    /// What tells this table's statistics from those of other tables over the same files.
    scope: String,
}

impl<'a> StatisticsReader<'a> {
    fn new(state: &dyn Session, snapshot: &'a Snapshot) -> Self {
        let fingerprint = SchemaFingerprint::from_schema(&snapshot.schema);
        let mut hasher = DefaultHasher::new();
        (&fingerprint, &snapshot.partition_columns).hash(&mut hasher);
        Self {
            snapshot,
            footers: Footers::new(state, &snapshot.location),
            cache: state.runtime_env().cache_manager.get_file_statistic_cache(),
            fingerprint: Arc::new(fingerprint),
            scope: format!("{}/{:x}", snapshot.location.store_url.as_str(), hasher.finish()),
        }
    }

    async fn read(&self, file: &DataFile) -> Result<Arc<Statistics>> {
        let key = TableScopedPath {
            table: None,
            path: Path::from(format!("{}/{}", self.scope, file.object.location)),
        };
        if let Some(known) = self.known(&key, file) {
            return Ok(known);
        }
        let footer = self.footers.footer(&file.object).await?;
        let statistics = table_statistics(&footer, self.snapshot, file)
            .map_err(|error| in_file(&self.snapshot.location, &file.object, error))?;
        let statistics = Arc::new(statistics);
        if let Some(cache) = &self.cache {
            let entry = CachedFileMetadata::new(
                file.object.clone(),
                Arc::clone(&self.fingerprint),
                Arc::clone(&statistics),
                None,
            );
            cache.put(&key, entry);
        }
        Ok(statistics)
    }

    fn known(&self, key: &TableScopedPath, file: &DataFile) -> Option<Arc<Statistics>> {
        let known = self.cache.as_ref()?.get(key)?;
        let current =
            known.is_valid_for(&file.object, &self.fingerprint) && known.meta.e_tag == file.object.e_tag;
        current.then_some(known.statistics)
    }
}

fn table_statistics(
    footer: &ParquetMetaData,
    snapshot: &Snapshot,
    file: &DataFile,
) -> datafusion::error::Result<Statistics> {
    let (columns, partitions) = snapshot.split_fields();
    let stored = stored_schema(footer, &snapshot.schema)?;
    let found = DFParquetMetadata::statistics_from_parquet_metadata(footer, &stored)?;
    let rows = found.num_rows;
    let mut column_statistics: Vec<_> = columns
        .iter()
        .map(|field| match stored.index_of(field.name()) {
            Ok(index) => column_bounds(&found.column_statistics[index], rows, field),
            Err(_) => all_null(rows),
        })
        .collect();
    column_statistics.extend(partitions.iter().zip(&file.partition).map(|(_, value)| one_value(value, rows)));
    Ok(Statistics { num_rows: rows, total_byte_size: found.total_byte_size, column_statistics })
}

/// The file's columns that its table has too, as the table's kind of strings.
fn stored_schema(footer: &ParquetMetaData, table: &Schema) -> datafusion::error::Result<SchemaRef> {
    let file = footer.file_metadata();
    let all = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let all = apply_file_schema_type_coercions(table, &all).unwrap_or(all);
    let shared: Vec<FieldRef> =
        all.fields().iter().filter(|field| table.index_of(field.name()).is_ok()).cloned().collect();
    Ok(Arc::new(Schema::new(shared)))
}

fn column_bounds(found: &ColumnStatistics, rows: Precision<usize>, field: &FieldRef) -> ColumnStatistics {
    let wanted = field.data_type();
    ColumnStatistics {
        min_value: bound(&found.min_value, wanted),
        max_value: bound(&found.max_value, wanted),
        null_count: found.null_count,
        distinct_count: found.distinct_count,
        sum_value: Precision::Absent,
        byte_size: match wanted.primitive_width() {
            Some(width) => rows.multiply(&Precision::Exact(width)),
            None => found.byte_size,
        },
    }
}

/// A bound as the table's type. A null bound means "not known" here; NaN is never in the bounds of a
/// file that holds NaN, so bounds of floats only estimate.
fn bound(found: &Precision<ScalarValue>, wanted: &DataType) -> Precision<ScalarValue> {
    let Some(value) = found.get_value().filter(|value| !value.is_null()) else {
        return Precision::Absent;
    };
    if !keeps_order(&value.data_type(), wanted) {
        return Precision::Absent;
    }
    match value.cast_to(wanted) {
        Ok(value) if found.is_exact() == Some(true) && !wanted.is_floating() => Precision::Exact(value),
        Ok(value) => Precision::Inexact(value),
        Err(_) => Precision::Absent,
    }
}

/// Whether a smaller value stays smaller, or becomes equal, when `from` is read as `to`.
fn keeps_order(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Date64, Timestamp};
    let text = |kind: &DataType| kind.is_string();
    let moment = |kind: &DataType| matches!(kind, Date32 | Date64 | Timestamp(_, _));
    from == to
        || from.is_numeric() && to.is_numeric()
        || text(from) && text(to)
        || from.is_binary() && to.is_binary()
        || moment(from) && moment(to)
}

fn all_null(rows: Precision<usize>) -> ColumnStatistics {
    ColumnStatistics { null_count: rows, ..ColumnStatistics::new_unknown() }
}

fn one_value(value: &ScalarValue, rows: Precision<usize>) -> ColumnStatistics {
    if value.is_null() {
        return all_null(rows);
    }
    let width = value.data_type().primitive_width();
    ColumnStatistics {
        null_count: Precision::Exact(0),
        min_value: Precision::Exact(value.clone()),
        max_value: Precision::Exact(value.clone()),
        sum_value: Precision::Absent,
        distinct_count: Precision::Exact(1),
        byte_size: width.map_or(Precision::Absent, |width| rows.multiply(&Precision::Exact(width))),
    }
}
