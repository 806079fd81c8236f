//! Writing a query's result as the Parquet files of a table.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::basic::Compression;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::file::Encoder;
use super::inlet::Inlet;
use super::listing::{batch_of, files_of, listing_schema};
use super::parquet::{ParquetEncoder, default_compression};
use super::rows::{Conform, Keys};
use super::shelf::RowGroupLimits;
use super::upload::Parts;
use super::writing::{Layout, Naming, Writing};
use crate::error::{Error, Result};
use crate::format::WrittenFile;
use crate::format::partition::PartitionField;
use crate::storage::Location;

/// Most columns of a row group that one stream encodes at a time.
const PARALLELISM_MAX: usize = 16;

/// What to write, and where.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    pub location: Location,
    /// Where the files go, a path in the location's store.
    pub directory: Path,
    /// Columns of the files; the input's columns are cast to them by position. `PARQUET:field_id`
    /// metadata becomes Parquet's field ids.
    pub schema: SchemaRef,
    /// How rows are spread over files; empty for one heap.
    pub partition: Vec<PartitionField>,
    /// Size at which a file is ended and the next begun.
    pub file_bytes_target: u64,
    /// Rows at which a row group is ended; or memory of its rows, `row_group_bytes`, if that comes first.
    pub row_group_rows: usize,
    pub row_group_bytes: usize,
    pub compression: Compression,
    /// How file names begin, such as the query id. They go on with what makes them unique.
    pub file_prefix: String,
    /// Memory for rows and encoded pages that wait; taken from the runtime's pool as it is used.
    pub memory_bytes: usize,
}

impl WriteOptions {
    /// Writes `schema`, unpartitioned, in files of 64 MiB, with 160 MiB of memory.
    ///
    /// An UPDATE writes every file anew that it touches, so a file should be no larger than it must: this is a
    /// few row groups, of which a scan's threads take one at a time anyway, and 16,000 files a terabyte, which
    /// a plan still goes through in some milliseconds. Iceberg's own default, 512 MiB, is for clusters.
    pub fn new(location: Location, directory: Path, schema: SchemaRef) -> Self {
        Self {
            location,
            directory,
            schema,
            partition: Vec::new(),
            file_bytes_target: 64 << 20,
            row_group_rows: 1 << 20,
            row_group_bytes: 64 << 20,
            compression: default_compression(),
            file_prefix: "data".to_owned(),
            memory_bytes: 160 << 20,
        }
    }
}

/// Writes what its input returns into files, and returns a listing of them ([`files_of`]).
///
/// Has one partition for each of the input's. All of them must run, at the same time or one after the
/// other: they share open files, and the one that ends last lists all. A stream that is dropped before
/// its end makes the others fail, and the files that were finished are deleted in the background.
pub struct WriteExec {
    input: Arc<dyn ExecutionPlan>,
    kind: Arc<WriteKind>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// The write under way, and how many partitions have joined it.
    joined: Mutex<Option<(Arc<Writing>, usize)>>,
}

/// What kind of write this is: of a table, or an export.
pub(super) struct WriteKind {
    /// Columns to which the input is cast.
    pub schema: SchemaRef,
    pub fields: Vec<PartitionField>,
    /// Columns that go into the files, when not all do.
    pub kept: Option<Vec<usize>>,
    pub listing: SchemaRef,
    pub describe: String,
    pub layout: Box<dyn Fn() -> Result<Layout> + Send + Sync>,
}

/// Puts a write of `options` on top of a physical plan.
///
/// # Errors
/// [`Error::DatatypeMismatch`] when the input's columns cannot become those of the table,
/// [`Error::Unsupported`] for a type that Parquet does not have, [`Error::ColumnNotFound`] and
/// [`Error::InvalidParameter`] for partition fields that do not fit.
pub fn write_plan(input: Arc<dyn ExecutionPlan>, options: WriteOptions) -> Result<Arc<dyn ExecutionPlan>> {
    let names: Vec<&str> = options.partition.iter().map(|field| field.name.as_str()).collect();
    let kind = WriteKind {
        schema: Arc::clone(&options.schema),
        fields: options.partition.clone(),
        kept: None,
        listing: listing_schema(&options.schema, &options.partition)?,
        describe: format!(
            "directory={}, partition=[{}], compression={}",
            options.directory,
            names.join(", "),
            options.compression
        ),
        layout: Box::new(move || table_layout(&options)),
    };
    WriteExec::plan(input, kind)
}

fn table_layout(options: &WriteOptions) -> Result<Layout> {
    Ok(Layout {
        store: Arc::clone(&options.location.store),
        parts: parts_of(&options.location),
        naming: Naming::Generated {
            directory: options.directory.clone(),
            fields: options.partition.clone(),
            hive: false,
            prefix: unique(&options.file_prefix),
            extension: "parquet".to_owned(),
        },
        schema: Arc::clone(&options.schema),
        encoder: Encoder::Parquet(Arc::new(ParquetEncoder::new(&options.schema, options.compression)?)),
        limits: RowGroupLimits {
            rows: options.row_group_rows,
            bytes: row_group_bytes(options.row_group_bytes, options.memory_bytes),
        },
        file_bytes_target: options.file_bytes_target,
        memory_bytes: options.memory_bytes,
        all_at_once: false,
    })
}

/// A row group that fills, and one that is encoded, must fit into the budget for two streams.
pub(super) fn row_group_bytes(wanted: usize, memory_bytes: usize) -> usize {
    wanted.min(memory_bytes / 4).max(1)
}

/// Two statements of one query, or a statement that is run twice, must not write one file.
pub(super) fn unique(prefix: &str) -> String {
    let id = Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", &id[..8])
}

pub(super) fn parts_of(location: &Location) -> Parts {
    match location.url.split_once(':') {
        Some(("file" | "memory", _)) => Parts::AtLeast(256 << 10),
        _ => Parts::Equal(8 << 20),
    }
}

/// Runs all partitions of `plan`, a [`WriteExec`] or a plan that passes on its batches.
///
/// Dropped, or after an error, no file stays: uploads are aborted and finished files deleted, in the
/// background and as far as the store lets it.
///
/// # Errors
/// The first one of any partition.
pub async fn run_write(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Vec<WrittenFile>> {
    let mut partitions = JoinSet::new();
    for partition in 0..plan.output_partitioning().partition_count() {
        let listings = plan.execute(partition, Arc::clone(&context))?;
        partitions.spawn(async move { listings.try_collect::<Vec<_>>().await });
    }
    let mut files = Vec::new();
    while let Some(ended) = partitions.join_next().await {
        for batch in joined(ended)?? {
            files.extend(files_of(&batch)?);
        }
    }
    Ok(files)
}

fn joined<T>(ended: Result<T, tokio::task::JoinError>) -> Result<T> {
    match ended {
        Ok(value) => Ok(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Cancelled),
    }
}

impl WriteExec {
    pub(super) fn plan(input: Arc<dyn ExecutionPlan>, kind: WriteKind) -> Result<Arc<dyn ExecutionPlan>> {
        // What execution will need is checked now, where an error costs nothing.
        Conform::new(&input.schema(), Arc::clone(&kind.schema))?;
        Keys::new(&kind.fields, &kind.schema)?;
        (kind.layout)()?;
        Ok(Arc::new(Self::new(input, Arc::new(kind))))
    }

    fn new(input: Arc<dyn ExecutionPlan>, kind: Arc<WriteKind>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&kind.listing)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            input,
            kind,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            joined: Mutex::new(None),
        }
    }

    /// Joins the write under way, or begins one if all partitions have joined the last.
    fn join(&self, context: &TaskContext) -> Result<Arc<Writing>> {
        let streams = self.input.output_partitioning().partition_count();
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        let (writing, count) = match joined.take() {
            Some((writing, count)) => (writing, count + 1),
            None => (Arc::new(self.begin(streams, context)?), 1),
        };
        if count < streams {
            *joined = Some((Arc::clone(&writing), count));
        }
        Ok(writing)
    }

    fn begin(&self, streams: usize, context: &TaskContext) -> Result<Writing> {
        let writing = Writing::new((self.kind.layout)()?, streams, context.memory_pool(), &self.metrics);
        if self.kind.fields.is_empty() {
            writing.register(&[], Vec::new())?;
        }
        Ok(writing)
    }

    fn inlet(&self, context: &TaskContext) -> Result<Inlet> {
        let kind = &self.kind;
        let conform = Conform::new(&self.input.schema(), Arc::clone(&kind.schema))?;
        let keys = match kind.fields.is_empty() {
            true => None,
            false => Some(Keys::new(&kind.fields, &kind.schema)?),
        };
        let streams = self.input.output_partitioning().partition_count().max(1);
        let parallelism = (context.session_config().target_partitions() / streams).clamp(1, PARALLELISM_MAX);
        Ok(Inlet::new(self.join(context)?, conform, keys, kind.kept.clone(), parallelism))
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &'static str {
        "WriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let [input] =
            <[_; 1]>::try_from(children).map_err(|_| Error::Internal("a write has one input".to_owned()))?;
        Ok(Arc::new(Self::new(input, Arc::clone(&self.kind))))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let inlet = self.inlet(&context)?;
        let listing = Arc::clone(&self.kind.listing);
        let listed = Arc::clone(&listing);
        let batches = futures::stream::once(async move {
            let files = inlet.write(input).await?;
            Ok(batch_of(&files.unwrap_or_default(), &listing)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(listed, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _format: DisplayFormatType, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "WriteExec: {}", self.kind.describe)
    }
}

impl fmt::Debug for WriteExec {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("WriteExec").field("kind", &self.kind.describe).finish_non_exhaustive()
    }
}
