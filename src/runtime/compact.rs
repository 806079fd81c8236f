//! Compact: batches that hold what they show, and no more.
//!
//! Arrow's string views point into buffers that several batches share. Each batch counts them whole, so
//! that a few hundred kilobytes of rows can ask for several megabytes, for each text column (DataFusion
//! 55: whatever a repartition or a merge makes). Where memory is little, a [`CompactExec`] below and
//! above each sort copies the texts out.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryViewArray, StringViewArray};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

/// Puts copies below and above each sort of texts.
///
/// # Errors
/// What DataFusion finds wrong with the plan.
pub fn sorts(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        if !node.is::<SortExec>() || !has_views(&node.schema()) {
            return Ok(Transformed::no(node));
        }
        let inputs = node.children().into_iter().map(|input| CompactExec::over(Arc::clone(input))).collect();
        Ok(Transformed::yes(CompactExec::over(replace_children_if_necessary(node, inputs)?)))
    })
    .data()
}

fn has_views(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| matches!(field.data_type(), DataType::Utf8View | DataType::BinaryView))
}

/// Copies the texts of each batch into buffers of its own.
#[derive(Debug)]
struct CompactExec {
    input: Arc<dyn ExecutionPlan>,
}

impl CompactExec {
    fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input })
    }
}

fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let copied = |array: &ArrayRef| -> ArrayRef {
        let column = array.as_any();
        if let Some(texts) = column.downcast_ref::<StringViewArray>() {
            return Arc::new(texts.gc());
        }
        match column.downcast_ref::<BinaryViewArray>() {
            Some(bytes) => Arc::new(bytes.gc()),
            None => Arc::clone(array),
        }
    };
    RecordBatch::try_new(batch.schema(), batch.columns().iter().map(copied).collect())
}

impl ExecutionPlan for CompactExec {
    fn name(&self) -> &'static str {
        "CompactExec"
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
        let input = self.input.execute(partition, context)?;
        let batches = input.map(|batch| compact(&batch?).map_err(DataFusionError::from));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

impl DisplayAs for CompactExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompactExec")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use datafusion::physical_plan::spill::get_record_batch_memory_size;

    use super::*;

    #[test]
    fn a_slice_holds_its_own_rows_only() {
        let texts = (0..10_000).map(|n| format!("a text that is not inlined, number {n}"));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts));
        let whole = RecordBatch::try_from_iter([("t", texts)]).unwrap();
        let slice = whole.slice(5_000, 10);
        let copied = compact(&slice).unwrap();
        assert_eq!(copied, slice);
        assert_eq!(copied.column(0).as_string_view().value(0), "a text that is not inlined, number 5000");
        assert!(get_record_batch_memory_size(&slice) > 300_000);
        assert!(get_record_batch_memory_size(&copied) < 2_000);
    }
}
