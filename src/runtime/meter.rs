//! Meter: memory that DataFusion holds without asking for it.
//!
//! A window function whose frame reaches the end of its partition keeps its whole input and then
//! joins it to one batch (`WindowAggExec`, DataFusion 55), and reserves nothing for it. A [`MeterExec`]
//! below it reserves what passes, so that such a query ends in 53200 rather than the daemon.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::spill::get_record_batch_memory_size;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

/// Copies of its input that a window function holds: the batches, and the one that they become.
const COPIES: usize = 2;

/// Puts a meter below each window function that keeps its whole input.
///
/// # Errors
/// What DataFusion finds wrong with the plan.
pub fn windows(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        if !node.is::<WindowAggExec>() {
            return Ok(Transformed::no(node));
        }
        let inputs = node.children().into_iter().map(|input| MeterExec::over(Arc::clone(input))).collect();
        replace_children_if_necessary(node, inputs).map(Transformed::yes)
    })
    .data()
}

/// Reserves memory for every batch that passes, until the stream is dropped.
#[derive(Debug)]
struct MeterExec {
    input: Arc<dyn ExecutionPlan>,
}

impl MeterExec {
    fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input })
    }
}

impl ExecutionPlan for MeterExec {
    fn name(&self) -> &'static str {
        "MeterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(children.pop().map_or(self as _, Self::over))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let name = format!("WindowAggExec[{partition}]");
        let reservation = MemoryConsumer::new(name).register(context.memory_pool());
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(Metered { input, reservation }))
    }
}

impl DisplayAs for MeterExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeterExec")
    }
}

struct Metered {
    input: SendableRecordBatchStream,
    reservation: MemoryReservation,
}

impl Stream for Metered {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.input.poll_next_unpin(context).map(|next| {
            next.map(|batch| {
                let batch = batch?;
                self.reservation.try_grow(COPIES * get_record_batch_memory_size(&batch))?;
                Ok(batch)
            })
        })
    }
}

impl RecordBatchStream for Metered {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
