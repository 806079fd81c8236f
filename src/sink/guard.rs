//! The guard: what stands before a write and refuses rows that the table does not take.
//!
//! Its input has the table's columns, then a truth value for each `CHECK` of the table; it passes on the
//! former. A constraint that is null holds, as in SQL. The error shows the values of the row.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;

use crate::error::{Error, Result};
use crate::function::types;
use crate::value::output::{Cells, EncodeOptions, Target, write};
use crate::value::types::Format;

/// Characters of one value that an error shows.
const SHOWN_MAX: usize = 64;

/// What a table refuses.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The table's name, for errors.
    pub table: String,
    /// Its columns: one that is not nullable takes no null.
    pub columns: SchemaRef,
    /// Names of the checks, in the order of the truth values.
    pub checks: Vec<String>,
    /// The input's column that numbers a COPY's lines, for errors. It stands behind the table's columns.
    pub line: Option<String>,
}

impl Guard {
    /// Whether every row is taken.
    pub fn is_idle(&self) -> bool {
        self.checks.is_empty() && self.columns.fields().iter().all(|field| field.is_nullable())
    }

    fn pass(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.refuse(batch)?;
        Ok(batch.project(&(0..self.columns.fields().len()).collect::<Vec<_>>())?)
    }

    /// # Errors
    /// [`Error::NotNullViolation`] and [`Error::CheckViolation`] for the first row that is not taken.
    fn refuse(&self, batch: &RecordBatch) -> Result<()> {
        let width = self.columns.fields().len();
        for (column, field) in batch.columns().iter().zip(self.columns.fields()) {
            if !field.is_nullable()
                && let Some(row) = first_null(column)
            {
                let shown = Some(shown_row(&self.columns, batch, row)?);
                let error = Error::not_null(&self.table, field.name(), shown);
                return Err(self.placed(error, batch, row));
            }
        }
        let before = width + usize::from(self.line.is_some());
        for (truth, name) in batch.columns().iter().skip(before).zip(&self.checks) {
            let truth = truth.as_boolean();
            if truth.false_count() == 0 {
                continue;
            }
            let fails = |row: &usize| truth.is_valid(*row) && !truth.value(*row);
            if let Some(row) = (0..truth.len()).find(fails) {
                let message =
                    format!("new row for relation \"{}\" violates check constraint \"{name}\"", self.table);
                let shown = Some(shown_row(&self.columns, batch, row)?);
                return Err(self.placed(Error::CheckViolation { message, row: shown }, batch, row));
            }
        }
        Ok(())
    }

    /// The error with the line that the row was copied from.
    fn placed(&self, error: Error, batch: &RecordBatch, row: usize) -> Error {
        if self.line.is_none() {
            return error;
        }
        let lines = batch.column(self.columns.fields().len()).as_primitive::<Int64Type>();
        let place = format!("COPY {}, line {}", self.table, lines.value(row));
        Error::InCopy { error: Box::new(error), place }
    }
}

/// The values of a row as PostgreSQL shows them: `(1, null, abc)`. Columns beyond those named are left out.
///
/// # Errors
/// What a value has that no text can show.
pub fn shown_row(columns: &SchemaRef, batch: &RecordBatch, row: usize) -> Result<String> {
    let options = EncodeOptions::default();
    let mut values = Vec::new();
    for (column, field) in batch.columns().iter().zip(columns.fields()) {
        let oid = u32::try_from(types::of_field(field).0).unwrap_or_default();
        let mut cells = Cells::default();
        write(&mut cells, column, row..row + 1, Target { oid, format: Format::Text, options: &options })?;
        let value = cells.value(0).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        values.push(value.map_or_else(|| "null".to_owned(), shortened));
    }
    Ok(format!("({})", values.join(", ")))
}

fn first_null(column: &ArrayRef) -> Option<usize> {
    let nulls = column.logical_nulls().filter(|nulls| nulls.null_count() > 0)?;
    (0..nulls.len()).find(|row| nulls.is_null(*row))
}

fn shortened(value: String) -> String {
    match value.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value,
    }
}

/// Puts a guard on a plan that makes rows of a table.
pub fn guard_plan(input: Arc<dyn ExecutionPlan>, guard: Arc<Guard>) -> Result<Arc<dyn ExecutionPlan>> {
    if guard.is_idle() {
        return Ok(input);
    }
    GuardExec::plan(input, guard)
}

struct GuardExec {
    input: Arc<dyn ExecutionPlan>,
    guard: Arc<Guard>,
    properties: Arc<PlanProperties>,
}

impl GuardExec {
    fn plan(input: Arc<dyn ExecutionPlan>, guard: Arc<Guard>) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = (0..guard.columns.fields().len()).collect();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(input.schema().project(&columns)?)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Arc::new(Self { input, guard, properties: Arc::new(properties) }))
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &'static str {
        "GuardExec"
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
            <[_; 1]>::try_from(children).map_err(|_| Error::Internal("a guard has one input".to_owned()))?;
        Ok(Self::plan(input, Arc::clone(&self.guard))?)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let guard = Arc::clone(&self.guard);
        let batches = input.map(move |batch| Ok(guard.pass(&batch?)?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

impl DisplayAs for GuardExec {
    fn fmt_as(&self, _format: DisplayFormatType, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "GuardExec: checks=[{}]", self.guard.checks.join(", "))
    }
}

impl fmt::Debug for GuardExec {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("GuardExec").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn pass(numbers: Vec<Option<i32>>, truths: Vec<Option<bool>>) -> Result<RecordBatch> {
        let columns = vec![Field::new("n", DataType::Int32, false), Field::new("t", DataType::Utf8, true)];
        let texts = StringArray::from(vec![Some("a"); numbers.len()]);
        let arrays: [(_, ArrayRef); 3] = [
            ("n", Arc::new(Int32Array::from(numbers))),
            ("t", Arc::new(texts)),
            ("c", Arc::new(BooleanArray::from(truths))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(arrays.map(|(name, it)| (name, it, true)));
        let columns = Arc::new(Schema::new(columns));
        Guard { table: "s".into(), columns, checks: vec!["s_check".into()], line: None }.pass(&batch.unwrap())
    }

    #[test]
    fn a_row_that_fails_is_shown_and_null_holds() {
        let passed = pass(vec![Some(1), Some(2)], vec![Some(true), None]).unwrap();
        assert_eq!(passed.num_columns(), 2, "the truth values are not passed on");
        let error = pass(vec![Some(1), Some(2)], vec![None, Some(false)]).unwrap_err();
        assert_eq!(
            (error.sqlstate(), error.detail().as_deref()),
            ("23514", Some("Failing row contains (2, a)."))
        );
        let error = pass(vec![Some(1), None], vec![None, None]).unwrap_err();
        assert_eq!(error.detail().as_deref(), Some("Failing row contains (null, a)."));
    }
}
