//! Scans: a snapshot, a projection and filters become one native scan.
//!
//! Files are skipped by their partition values before any footer is read, then by their bounds; what
//! is left is spread over partitions and read by DataFusion's own source, which skips row groups and
//! pages. Row counts and bounds are handed on, so that `count(*)` needs no data and joins are ordered.

pub mod address;
mod prune;
mod renamed;
mod selective;
mod splits;
mod table;

pub use self::selective::SelectiveScans;
pub use self::table::FilesTable;

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{Statistics, project_schema};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::MetricBuilder;

use crate::error::Result;
use crate::format::files::footers::footer_cache;
use crate::format::files::statistics::with_statistics;
use crate::format::metrics::merged;
use crate::format::{DataFile, Snapshot};

/// Files whose statistics are read at once when a limit may end the reading early.
const LIMIT_BATCH: usize = 32;

/// Plans the reading of `snapshot`.
///
/// Filters over partition columns alone are applied in full; the others only skip files, and must be
/// applied again to the rows. Costs one footer for each Parquet file that passes the former and has
/// no statistics yet, unless it is cached.
///
/// # Errors
/// [`Error::CorruptFile`](crate::error::Error::CorruptFile) when a file has no readable footer.
pub async fn scan(
    state: &dyn Session,
    snapshot: &Snapshot,
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (on_partitions, on_columns): (Vec<_>, Vec<_>) =
        filters.iter().cloned().partition(|filter| prune::is_on_partitions(snapshot, filter));
    let files = prune::by_partition(state, snapshot, &on_partitions)?;
    let files = match limit {
        Some(rows) if on_columns.is_empty() => enough_files(state, snapshot, files, rows).await?,
        _ => known_files(state, snapshot, files).await?,
    };
    let files = prune::by_bounds(state, snapshot, files, &on_columns)?;
    if files.is_empty() {
        return Ok(Arc::new(EmptyExec::new(project_schema(&snapshot.schema, projection)?)));
    }
    let skipped = snapshot.files.len() - files.len();
    Ok(plan(state, snapshot, &files, skipped, projection, limit).await?)
}

/// Row count, bytes and column bounds of the whole snapshot, as far as they are known.
///
/// Costs one footer for each Parquet file that has no statistics yet, unless it is cached.
pub async fn table_statistics(state: &dyn Session, snapshot: &Snapshot) -> Result<Statistics> {
    let files = with_statistics(state, snapshot, snapshot.files.to_vec()).await?;
    Ok(summed(snapshot, &files)?)
}

async fn known_files(
    state: &dyn Session,
    snapshot: &Snapshot,
    files: Vec<DataFile>,
) -> Result<Vec<DataFile>> {
    if !state.config().collect_statistics() {
        return Ok(files);
    }
    with_statistics(state, snapshot, files).await
}

/// The first files that hold `rows` rows together.
async fn enough_files(
    state: &dyn Session,
    snapshot: &Snapshot,
    files: Vec<DataFile>,
    rows: usize,
) -> Result<Vec<DataFile>> {
    let (mut enough, mut found) = (Vec::new(), 0);
    for batch in files.chunks(LIMIT_BATCH) {
        for file in known_files(state, snapshot, batch.to_vec()).await? {
            found += file.row_count().unwrap_or(0);
            enough.push(file);
            if found >= rows as u64 {
                return Ok(enough);
            }
        }
    }
    Ok(enough)
}

async fn plan(
    state: &dyn Session,
    snapshot: &Snapshot,
    files: &[DataFile],
    skipped: usize,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let source = file_source(snapshot);
    MetricBuilder::new(source.metrics()).global_counter("files_pruned_at_planning").add(skipped);
    let config = FileScanConfigBuilder::new(snapshot.location.store_url.clone(), source)
        .with_file_groups(splits::spread(files, state.config().target_partitions()))
        .with_statistics(summed(snapshot, files)?)
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .build();
    match snapshot.file_format.downcast_ref::<ParquetFormat>() {
        Some(format) => parquet_plan(state, snapshot, format, config),
        None => snapshot.file_format.create_physical_plan(state, config).await,
    }
}

fn file_source(snapshot: &Snapshot) -> Arc<dyn FileSource> {
    let (columns, partitions) = snapshot.split_fields();
    let file_schema = arrow::datatypes::Schema::new(columns.to_vec());
    let schema = TableSchema::builder(Arc::new(file_schema))
        .with_table_partition_cols(partitions.to_vec())
        .with_virtual_columns(snapshot.row_number_field().cloned().into_iter().collect::<Vec<_>>());
    snapshot.file_format.file_source(schema.build())
}

/// What `ParquetFormat` does, but with footers that are cached by store and path, not by path alone.
fn parquet_plan(
    state: &dyn Session,
    snapshot: &Snapshot,
    format: &ParquetFormat,
    config: FileScanConfig,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let Some(source) = config.file_source().downcast_ref::<ParquetSource>().cloned() else {
        return datafusion::common::internal_err!("the Parquet format reads by another source");
    };
    let cache = footer_cache(state, &snapshot.location);
    let readers = CachedParquetFileReaderFactory::new(Arc::clone(&snapshot.location.store), cache);
    let mut readers: Arc<dyn ParquetFileReaderFactory> = Arc::new(readers);
    if snapshot.by_field_id {
        let names = Arc::new(renamed::Names::of(&snapshot.schema));
        readers = Arc::new(renamed::RenamedReaders { inner: readers, names });
    }
    let mut source =
        source.with_table_parquet_options(format.options().clone()).with_parquet_file_reader_factory(readers);
    if let Some(bytes) = format.metadata_size_hint() {
        source = source.with_metadata_size_hint(bytes);
    }
    let config = FileScanConfigBuilder::from(config).with_source(Arc::new(source)).build();
    Ok(DataSourceExec::from_data_source(config))
}

/// The statistics of all `files` together. Unknown files make counts and bounds unknown; the bytes
/// are then estimated from the sizes of the files.
fn summed(snapshot: &Snapshot, files: &[DataFile]) -> DataFusionResult<Statistics> {
    let mut sum = match files {
        [] => Statistics::new_unknown(&snapshot.schema).with_num_rows(Precision::Exact(0)),
        _ => merged(files, &snapshot.schema)?,
    };
    if sum.num_rows == Precision::Absent && sum.total_byte_size == Precision::Absent {
        let bytes: u64 = files.iter().map(|file| file.object.size).sum();
        sum.total_byte_size = Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    snapshot.add_distinct(&mut sum);
    Ok(sum)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod formats_tests;
