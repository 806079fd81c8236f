//! The scan: a table's splits, one for each partition of the query.
//!
//! Rows are made on the task that polls a partition, one batch at a poll; nothing is spawned and
//! nothing is kept, so memory stays flat and dropping the stream stops the work.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream,
    SendableRecordBatchStream, StatisticsArgs,
};
use futures::Stream;

use super::generate::{Batches, Split, Table};
use super::statistics;

/// A partition is worth its task from here on.
const PARTITION_ROWS_MIN: usize = 16_384;

/// Generates a table, or some of its columns, in parallel.
#[derive(Debug, Clone)]
pub(super) struct GenerateExec {
    table: Table,
    scale_factor: f64,
    /// Which columns of the table, in the order of the output.
    columns: Arc<[usize]>,
    /// The most rows that a partition yields.
    limit: Option<usize>,
    /// Of all rows and the output's columns; the planner asks often, and counting lines takes time.
    statistics: Arc<Statistics>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GenerateExec {
    pub(super) fn try_new(
        table: Table,
        scale_factor: f64,
        partitions: usize,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let columns: Arc<[usize]> = match projection {
            Some(columns) => columns.as_slice().into(),
            None => (0..table.schema().fields().len()).collect(),
        };
        let schema = Arc::new(table.schema().project(&columns)?);
        let partitions = worthwhile_partitions(table, scale_factor, partitions, limit);
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), ordering(table, &schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let statistics = Arc::new(statistics::of_table(table, scale_factor).project(Some(&columns.to_vec())));
        let properties = Arc::new(properties);
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { table, scale_factor, columns, limit, statistics, properties, metrics })
    }

    fn partition_count(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    fn split(&self, partition: usize) -> Split {
        let number = i32::try_from(partition + 1).expect("partitions were counted as i32");
        let count = i32::try_from(self.partition_count()).expect("partitions were counted as i32");
        Split { table: self.table, scale_factor: self.scale_factor, number, count }
    }

    fn whole_statistics(&self) -> Result<Arc<Statistics>> {
        let Some(limit) = self.limit else {
            return Ok(Arc::clone(&self.statistics));
        };
        let limited = self.statistics.as_ref().clone().with_fetch(Some(limit), 0, 1)?;
        // Several partitions stop at the limit each by itself, so that the sum is only bounded.
        Ok(Arc::new(if self.partition_count() == 1 { limited } else { limited.to_inexact() }))
    }
}

/// As many partitions as asked for, but none with a handful of rows.
fn worthwhile_partitions(table: Table, scale_factor: f64, wanted: usize, limit: Option<usize>) -> usize {
    let whole = Split { table, scale_factor, number: 1, count: 1 };
    let rows = statistics::split_rows(whole).get_value().copied().unwrap_or(usize::MAX);
    let rows = rows.min(limit.unwrap_or(usize::MAX));
    wanted.min(rows / PARTITION_ROWS_MIN).clamp(1, i32::MAX as usize)
}

/// The leading columns of the table's order that the output still has.
fn ordering(table: Table, schema: &SchemaRef) -> Option<LexOrdering> {
    let column = |name: &&str| {
        let index = schema.index_of(name).ok()?;
        Some(PhysicalSortExpr::new_default(Arc::new(Column::new(name, index))))
    };
    LexOrdering::new(table.order().iter().map_while(column))
}

impl DisplayAs for GenerateExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { table, scale_factor, limit, .. } = self;
        match format {
            DisplayFormatType::TreeRender => write!(f, "table={}", table.name())?,
            _ => write!(f, "GenerateExec: table=tpch.{}, scale_factor={scale_factor}", table.name())?,
        }
        let schema = self.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", projection=[{}], partitions={}", names.join(", "), self.partition_count())?;
        match limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for GenerateExec {
    fn name(&self) -> &str {
        "GenerateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a generated table has no children") }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(cooperative(GenerateStream {
            split: self.split(partition),
            batch_rows: context.session_config().batch_size(),
            batches: None,
            columns: Arc::clone(&self.columns),
            schema: self.schema(),
            rows_left: self.limit.unwrap_or(usize::MAX),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        })))
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let Some(partition) = args.partition() else {
            return self.whole_statistics();
        };
        let split = statistics::of_split(self.split(partition)).project(Some(&self.columns.to_vec()));
        Ok(Arc::new(split.with_fetch(self.limit, 0, 1)?))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let metrics = ExecutionPlanMetricsSet::new();
        Some(Arc::new(Self { limit, metrics, ..self.clone() }))
    }
}

/// One partition: opened at the first poll, one batch at each.
struct GenerateStream {
    split: Split,
    batch_rows: usize,
    batches: Option<Batches>,
    columns: Arc<[usize]>,
    schema: SchemaRef,
    rows_left: usize,
    metrics: BaselineMetrics,
}

impl GenerateStream {
    fn next_batch(&mut self) -> Option<Result<RecordBatch>> {
        if self.rows_left == 0 {
            return None;
        }
        let batches = self.batches.get_or_insert_with(|| {
            let with_text = self.schema.fields().iter().any(|field| field.name().ends_with("_comment"));
            self.split.open(self.batch_rows.min(self.rows_left), with_text)
        });
        let batch = match batches.next()?.and_then(|batch| batch.project(&self.columns)) {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error.into())),
        };
        let rows = batch.num_rows().min(self.rows_left);
        self.rows_left -= rows;
        Some(Ok(batch.slice(0, rows)))
    }
}

impl Stream for GenerateStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let elapsed = self.metrics.elapsed_compute().clone();
        let timer = elapsed.timer();
        let next = self.next_batch();
        timer.done();
        self.metrics.record_poll(Poll::Ready(next))
    }
}

impl RecordBatchStream for GenerateStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
