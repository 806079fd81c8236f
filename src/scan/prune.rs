//! Pruning: which files cannot hold a row that passes the filters.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use crate::error::Result;
use crate::format::metrics::Bounds;
use crate::format::{DataFile, Snapshot};

/// Whether `filter` has one value for a whole file: it uses partition columns alone, and nothing
/// that changes from row to row or is known only when the query runs.
pub fn is_on_partitions(snapshot: &Snapshot, filter: &Expr) -> bool {
    let mut columns = 0;
    let mut answer = true;
    let visited = filter.apply(|node| {
        let fits = match node {
            Expr::Column(column) => {
                columns += 1;
                snapshot.partition_columns.contains(&column.name)
            }
            Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
            Expr::Placeholder(_)
            | Expr::ScalarVariable(_, _)
            | Expr::OuterReferenceColumn(_, _)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::HigherOrderFunction(_)
            | Expr::Unnest(_) => false,
            _ => true,
        };
        answer &= fits;
        Ok(if fits { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    visited.is_ok() && answer && columns > 0
}

/// Keeps the files whose partition values pass all `filters`; null does not pass.
pub fn by_partition(state: &dyn Session, snapshot: &Snapshot, filters: &[Expr]) -> Result<Vec<DataFile>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(snapshot.files.to_vec()) };
    if snapshot.files.is_empty() {
        return Ok(Vec::new());
    }
    let values = partition_values(snapshot)?;
    let schema = DFSchema::try_from(values.schema())?;
    let passes = state.create_physical_expr(filter, &schema)?.evaluate(&values)?;
    let passes = passes.into_array(values.num_rows())?;
    let passes = passes.as_boolean();
    let kept = snapshot.files.iter().enumerate();
    let kept = kept.filter(|(row, _)| passes.is_valid(*row) && passes.value(*row));
    Ok(kept.map(|(_, file)| file.clone()).collect())
}

/// One row a file, one column a partition column.
fn partition_values(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (_, fields) = snapshot.split_fields();
    let columns = (0..fields.len()).map(|index| {
        ScalarValue::iter_to_array(snapshot.files.iter().map(|file| file.partition[index].clone()))
    });
    let columns = columns.collect::<datafusion::error::Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(snapshot.files.len()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields.to_vec())), columns, &options)?)
}

/// Keeps the files whose bounds do not rule out every row, and that have rows.
pub fn by_bounds(
    state: &dyn Session,
    snapshot: &Snapshot,
    mut files: Vec<DataFile>,
    filters: &[Expr],
) -> Result<Vec<DataFile>> {
    files.retain(|file| file.row_count() != Some(0));
    if files.iter().all(|file| file.statistics.is_none()) {
        return Ok(files);
    }
    for filter in filters {
        let keep = may_pass(state, snapshot, &files, filter);
        let mut keep = keep.into_iter();
        files.retain(|_| keep.next().unwrap_or(true));
    }
    Ok(files)
}

/// For each file, whether a row of it may pass; a filter that bounds cannot judge keeps them all.
fn may_pass(state: &dyn Session, snapshot: &Snapshot, files: &[DataFile], filter: &Expr) -> Vec<bool> {
    let all = || vec![true; files.len()];
    let Ok(schema) = DFSchema::try_from(Arc::clone(&snapshot.schema)) else { return all() };
    let Ok(predicate) = state.create_physical_expr(filter.clone(), &schema) else { return all() };
    let options = &state.config_options().execution.parquet;
    let pruning = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(&snapshot.schema))
        .with_max_in_list_size(options.max_in_list_size)
        .build(predicate);
    let Some(pruning) = pruning else { return all() };
    pruning.prune(&Bounds::of(files, &snapshot.schema)).unwrap_or_else(|_| all())
}
