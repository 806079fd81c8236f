//! Statistics: what a manifest knows of a file, in DataFusion's words.
//!
//! `Exact` is a promise: MIN and MAX are answered from it without reading. So a bound that may have
//! been cut, and every bound of a floating-point column (NaN is left out of them), is `Inexact`.

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use super::bound;
use super::manifest::FileEntry;
use super::metadata::PartitionColumn;
use super::schema::{Field, Primitive, Schema};
use crate::format::partition::Transform;

/// Returns the statistics of `file` over the columns of `schema`.
pub(super) fn of_file(file: &FileEntry, schema: &Schema, partition: &[PartitionColumn]) -> Statistics {
    let row_count = usize::try_from(file.row_count).unwrap_or(0);
    let column_statistics: Vec<_> =
        schema.fields.iter().map(|field| of_column(file, field, partition, row_count)).collect();
    let sizes = column_statistics.iter().map(|column| column.byte_size.get_value().copied());
    let total_byte_size = sizes.sum::<Option<usize>>().map_or(Precision::Absent, Precision::Inexact);
    Statistics { num_rows: Precision::Exact(row_count), total_byte_size, column_statistics }
}

fn of_column(
    file: &FileEntry,
    field: &Field,
    partition: &[PartitionColumn],
    row_count: usize,
) -> ColumnStatistics {
    let mut column = ColumnStatistics::new_unknown();
    column.byte_size = byte_size(file, field, row_count);
    let Some(kind) = field.primitive() else { return column };
    if let Some(nulls) = find(&file.null_value_counts, field.id) {
        column.null_count = Precision::Exact(usize::try_from(*nulls).unwrap_or(0));
    }
    column.min_value = bound_of(kind, find(&file.lower_bounds, field.id));
    column.max_value = bound_of(kind, find(&file.upper_bounds, field.id));
    if let Some(value) = partition_value(file, field, partition) {
        set_constant(&mut column, kind, value, row_count);
    }
    column
}

/// Every row of a file has the value by which the file is partitioned.
fn set_constant(column: &mut ColumnStatistics, kind: Primitive, value: &ScalarValue, row_count: usize) {
    if value.is_null() {
        column.null_count = Precision::Exact(row_count);
    } else if !matches!(kind, Primitive::Float | Primitive::Double) {
        column.null_count = Precision::Exact(0);
        column.min_value = Precision::Exact(value.clone());
        column.max_value = Precision::Exact(value.clone());
    }
}

fn partition_value<'a>(
    file: &'a FileEntry,
    field: &Field,
    partition: &[PartitionColumn],
) -> Option<&'a ScalarValue> {
    let is_copy = |column: &PartitionColumn| {
        column.source_id == field.id
            && column.transform == Transform::Identity
            && Some(column.kind) == field.primitive()
    };
    file.partition.get(partition.iter().position(is_copy)?)
}

fn bound_of(kind: Primitive, bytes: Option<&Vec<u8>>) -> Precision<ScalarValue> {
    match bytes.and_then(|bytes| bound::decode(kind, bytes)) {
        Some(value) if bound::is_exact(&value) => Precision::Exact(value),
        Some(value) => Precision::Inexact(value),
        None => Precision::Absent,
    }
}

/// Bytes in memory: known for types of fixed width, else at least what the file takes.
fn byte_size(file: &FileEntry, field: &Field, row_count: usize) -> Precision<usize> {
    if let Some(width) = field.primitive().and_then(|kind| kind.data_type().primitive_width()) {
        return Precision::Exact(width * row_count);
    }
    match find(&file.column_sizes, field.id) {
        Some(bytes) => Precision::Inexact(usize::try_from(*bytes).unwrap_or(0)),
        None => Precision::Absent,
    }
}

/// The pairs of a file that was read are sorted.
fn find<T>(pairs: &[(i32, T)], id: i32) -> Option<&T> {
    pairs.binary_search_by_key(&id, |(key, _)| *key).ok().map(|at| &pairs[at].1)
}
