//! Rewriting: the rows of a table that a statement replaces, and those that stay.
//!
//! [`changes_plan`] reads what a statement wants: rows with their address, what is to become of each,
//! and the new values. It marks the rows that go in a [`Rewrite`] and passes on those that come.
//! [`survivors_plan`] reads the files of marked rows again and passes on the rows that stay. Which files
//! must be read at all is known once the former has ended.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;

use crate::error::{Error, Result};

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Insert,
    Update,
    Delete,
    /// The row stays as it is, or does not come.
    Nothing,
    /// The statement fails.
    Refuse,
}

/// What happens when a statement wants to change one row twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// The first change is made, as `UPDATE … FROM` does it.
    Ignored,
    /// The statement fails, as `MERGE` does it.
    Refused,
}

/// The rows of a snapshot that go, and how many come.
#[derive(Debug)]
pub struct Rewrite {
    repeated: Repeated,
    files: Vec<Mutex<Marked>>,
    keeps_deleted: bool,
    inserted: AtomicU64,
    updated: AtomicU64,
    deleted: AtomicU64,
    memory: MemoryReservation,
}

/// The rows of one file that go, a bit each.
#[derive(Debug, Default)]
struct Marked {
    words: Vec<u64>,
    count: u64,
    /// Those of them that come back with no new values, where a statement returns them.
    deleted: Vec<u64>,
}

impl Rewrite {
    /// Begins with no row marked, of a snapshot of `files` files. A marked file takes a bit a row from `pool`.
    pub fn new(files: usize, repeated: Repeated, pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            repeated,
            files: (0..files).map(|_| Mutex::default()).collect(),
            keeps_deleted: false,
            inserted: AtomicU64::new(0),
            updated: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            memory: MemoryConsumer::new("rewrite").register(pool),
        }
    }

    /// Tells deleted rows from updated ones, at the cost of another bit a row.
    pub fn keeping_deleted(self) -> Self {
        Self { keeps_deleted: true, ..self }
    }

    /// Rows that were inserted, updated and deleted.
    pub fn counts(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (read(&self.inserted), read(&self.updated), read(&self.deleted))
    }

    /// The files of marked rows, each with the number of its marked rows.
    pub fn touched(&self) -> Vec<(usize, u64)> {
        let counts = self.files.iter().map(|file| lock(file).count).enumerate();
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Marks a row; false if it was marked before.
    fn mark(&self, file: i32, row: i64) -> Result<bool> {
        let mut marked = self.file(file)?;
        let is_new = self.set(&mut marked.words, row)?;
        marked.count += u64::from(is_new);
        Ok(is_new)
    }

    /// Notes that a marked row is deleted.
    fn mark_deleted(&self, file: i32, row: i64) -> Result<()> {
        match self.keeps_deleted {
            true => self.set(&mut self.file(file)?.deleted, row).map(drop),
            false => Ok(()),
        }
    }

    /// Sets the bit of a row; false if it was set before.
    fn set(&self, words: &mut Vec<u64>, row: i64) -> Result<bool> {
        let (word, bit) = place(row)?;
        if words.len() <= word {
            self.memory.try_grow((word + 1 - words.len()) * size_of::<u64>())?;
            words.resize(word + 1, 0);
        }
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        Ok(is_new)
    }

    /// Of the rows at these addresses, those that are not marked.
    fn unmarked(&self, files: &[i32], rows: &[i64]) -> Result<BooleanArray> {
        self.unset(files, rows, |marked| &marked.words)
    }

    /// Of the rows at these addresses, those whose bit is not set.
    fn unset(&self, files: &[i32], rows: &[i64], words: fn(&Marked) -> &Vec<u64>) -> Result<BooleanArray> {
        let mut stay = Vec::with_capacity(rows.len());
        for (file_rows, rows) in files.chunk_by(|a, b| a == b).scan(rows, |left, run| {
            let (these, rest) = left.split_at(run.len());
            *left = rest;
            Some((run[0], these))
        }) {
            let marked = self.file(file_rows)?;
            for row in rows {
                let (word, bit) = place(*row)?;
                stay.push(words(&marked).get(word).is_none_or(|word| word & bit == 0));
            }
        }
        Ok(BooleanArray::from(stay))
    }

    fn file(&self, number: i32) -> Result<MutexGuard<'_, Marked>> {
        let file = usize::try_from(number).ok().and_then(|number| self.files.get(number));
        file.map(lock).ok_or_else(|| Error::Internal(format!("there is no file {number} to rewrite")))
    }

    fn count(&self, action: Action) {
        let count = match action {
            Action::Insert => &self.inserted,
            Action::Update => &self.updated,
            Action::Delete => &self.deleted,
            Action::Nothing | Action::Refuse => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn lock(file: &Mutex<Marked>) -> MutexGuard<'_, Marked> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The word and the bit of a row.
fn place(row: i64) -> Result<(usize, u64)> {
    let row = usize::try_from(row).map_err(|_| Error::Internal(format!("there is no row {row}")))?;
    Ok((row / 64, 1 << (row % 64)))
}

/// Columns that stand before the new values in what [`changes_plan`] reads: the number of an action
/// (`Int64`; null for a row that stays as it is), file and row (null for a row that is new).
pub const CHANGE_COLUMNS: usize = 3;

/// How a batch becomes the rows that come out of it.
#[derive(Clone)]
enum Step {
    Changes(Arc<[Action]>),
    Survivors,
    Victims,
    Deleted,
}

/// Puts on `input`, whose action column holds places in `actions`, what marks and counts the rows that
/// go, and passes on the new values of those that come.
pub fn changes_plan(
    input: Arc<dyn ExecutionPlan>,
    actions: Arc<[Action]>,
    rewrite: Arc<Rewrite>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let columns: Vec<usize> = (CHANGE_COLUMNS..input.schema().fields().len()).collect();
    RewriteExec::plan(input, columns, Step::Changes(actions), rewrite)
}

/// Puts on `input`, a scan of an addressed snapshot, what passes on the rows that are not marked.
pub fn survivors_plan(
    input: Arc<dyn ExecutionPlan>,
    rewrite: Arc<Rewrite>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let columns: Vec<usize> = (0..input.schema().fields().len().saturating_sub(2)).collect();
    RewriteExec::plan(input, columns, Step::Survivors, rewrite)
}

/// Puts on `input`, a scan of an addressed snapshot, what passes on the rows that are marked; of a rewrite that
/// tells them apart, only those that are deleted.
pub fn victims_plan(input: Arc<dyn ExecutionPlan>, rewrite: Arc<Rewrite>) -> Result<Arc<dyn ExecutionPlan>> {
    let columns: Vec<usize> = (0..input.schema().fields().len().saturating_sub(2)).collect();
    let step = if rewrite.keeps_deleted { Step::Deleted } else { Step::Victims };
    RewriteExec::plan(input, columns, step, rewrite)
}

/// Any of the steps, as DataFusion runs it.
struct RewriteExec {
    input: Arc<dyn ExecutionPlan>,
    /// The input's columns that are passed on.
    columns: Vec<usize>,
    step: Step,
    rewrite: Arc<Rewrite>,
    properties: Arc<PlanProperties>,
}

impl RewriteExec {
    fn plan(
        input: Arc<dyn ExecutionPlan>,
        columns: Vec<usize>,
        step: Step,
        rewrite: Arc<Rewrite>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::new(input.schema().project(&columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Arc::new(Self { input, columns, step, rewrite, properties: Arc::new(properties) }))
    }
}

impl Step {
    fn apply(&self, rewrite: &Rewrite, batch: &RecordBatch, columns: &[usize]) -> Result<RecordBatch> {
        let stay = match self {
            Self::Changes(actions) => changes(rewrite, actions, batch)?,
            Self::Survivors | Self::Victims | Self::Deleted => {
                let address = batch.num_columns() - 2;
                let files = batch.column(address).as_primitive::<Int32Type>();
                let rows = batch.column(address + 1).as_primitive::<Int64Type>();
                let (files, rows) = (files.values(), rows.values());
                match self {
                    Self::Deleted => not(&rewrite.unset(files, rows, |marked| &marked.deleted)?)?,
                    Self::Victims => not(&rewrite.unmarked(files, rows)?)?,
                    _ => rewrite.unmarked(files, rows)?,
                }
            }
        };
        Ok(filter_record_batch(&batch.project(columns)?, &stay)?)
    }
}

/// Marks what goes; returns which rows of `batch` come.
fn changes(rewrite: &Rewrite, actions: &[Action], batch: &RecordBatch) -> Result<BooleanArray> {
    let number = batch.column(0).as_primitive::<Int64Type>();
    let files = batch.column(1).as_primitive::<Int32Type>();
    let rows = batch.column(2).as_primitive::<Int64Type>();
    let mut come = vec![false; batch.num_rows()];
    for (at, comes) in come.iter_mut().enumerate() {
        if number.is_null(at) {
            continue;
        }
        let action = usize::try_from(number.value(at)).ok().and_then(|number| actions.get(number));
        let action = *action.ok_or_else(|| Error::Internal("a row has an unknown action".to_owned()))?;
        match action {
            Action::Nothing => continue,
            Action::Refuse => {
                let message = "ON CONFLICT DO UPDATE command cannot affect row a second time".to_owned();
                return Err(Error::Cardinality(message));
            }
            Action::Insert | Action::Update | Action::Delete => {}
        }
        if action != Action::Insert && !rewrite.mark(files.value(at), rows.value(at))? {
            match rewrite.repeated {
                Repeated::Ignored => continue,
                Repeated::Refused => {
                    let message = "MERGE command cannot affect row a second time".to_owned();
                    return Err(Error::Cardinality(message));
                }
            }
        }
        if action == Action::Delete {
            rewrite.mark_deleted(files.value(at), rows.value(at))?;
        }
        rewrite.count(action);
        *comes = action != Action::Delete;
    }
    Ok(BooleanArray::from(come))
}

impl ExecutionPlan for RewriteExec {
    fn name(&self) -> &'static str {
        match self.step {
            Step::Changes(_) => "ChangesExec",
            Step::Survivors => "SurvivorsExec",
            Step::Victims | Step::Deleted => "VictimsExec",
        }
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
        let [input] = <[_; 1]>::try_from(children)
            .map_err(|_| Error::Internal("a rewrite has one input".to_owned()))?;
        Ok(Self::plan(input, self.columns.clone(), self.step.clone(), Arc::clone(&self.rewrite))?)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (step, rewrite, columns) = (self.step.clone(), Arc::clone(&self.rewrite), self.columns.clone());
        let batches = input.map(move |batch| Ok(step.apply(&rewrite, &batch?, &columns)?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

impl DisplayAs for RewriteExec {
    fn fmt_as(&self, _format: DisplayFormatType, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}", self.name())
    }
}

impl fmt::Debug for RewriteExec {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct(self.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};

    use super::*;

    fn rewrite(repeated: Repeated) -> Rewrite {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        Rewrite::new(2, repeated, &pool)
    }

    fn batch(rows: &[(Option<i64>, Option<i32>, Option<i64>)]) -> RecordBatch {
        let number: Int64Array = rows.iter().map(|row| row.0).collect();
        let file: Int32Array = rows.iter().map(|row| row.1).collect();
        let row: Int64Array = rows.iter().map(|row| row.2).collect();
        let columns = [("n", Arc::new(number) as _), ("f", Arc::new(file) as _), ("r", Arc::new(row) as _)];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    const ACTIONS: [Action; 3] = [Action::Insert, Action::Update, Action::Delete];

    #[test]
    fn rows_that_go_are_marked_and_rows_that_come_are_passed_on() {
        let rewrite = rewrite(Repeated::Ignored);
        let batch = batch(&[
            (Some(0), None, None),
            (Some(1), Some(0), Some(64)),
            (Some(2), Some(1), Some(3)),
            (None, Some(1), Some(4)),
            (Some(1), Some(0), Some(64)),
        ]);
        let come = changes(&rewrite, &ACTIONS, &batch).unwrap();
        assert_eq!(come, BooleanArray::from(vec![true, true, false, false, false]));
        assert_eq!(rewrite.counts(), (1, 1, 1));
        assert_eq!(rewrite.touched(), [(0, 1), (1, 1)]);
        let stay = rewrite.unmarked(&[0, 0, 1, 1], &[63, 64, 3, 400]).unwrap();
        assert_eq!(stay, BooleanArray::from(vec![true, false, false, true]));
    }

    #[test]
    fn merge_refuses_to_change_a_row_twice() {
        let twice = batch(&[(Some(1), Some(0), Some(7)), (Some(2), Some(0), Some(7))]);
        let error = changes(&rewrite(Repeated::Refused), &ACTIONS, &twice).unwrap_err();
        assert_eq!(error.sqlstate(), "21000");
    }

    #[test]
    fn marks_take_their_memory_from_the_query() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1024));
        let rewrite = Rewrite::new(1, Repeated::Ignored, &pool);
        assert!(rewrite.mark(0, 1000).unwrap());
        assert_eq!(rewrite.mark(0, 1 << 20).unwrap_err().sqlstate(), "53200");
        drop(rewrite);
        assert_eq!(pool.reserved(), 0);
    }
}
