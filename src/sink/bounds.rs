//! Bounds: what a finished Parquet file's footer knows of its columns.

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use super::parquet::encoding_failed;
use crate::error::Result;
use crate::format::ColumnMetrics;

/// Reads one entry a top-level column of `schema`, given the nulls of each.
///
/// Strings longer than 64 bytes are bounded by a shorter string that is not larger, or not smaller, than
/// any of them. A column has no bounds if it is nested, holds a NaN, or holds nothing but nulls.
pub(super) fn column_metrics(
    metadata: &ParquetMetaData,
    schema: &Schema,
    null_counts: &[u64],
) -> Result<Vec<ColumnMetrics>> {
    let row_count: i64 = metadata.file_metadata().num_rows();
    let sizes = sizes_bytes(metadata, schema.fields().len());
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let (lower, upper) = bounds(metadata, schema, field)?;
        Ok(ColumnMetrics {
            size_bytes: sizes[index],
            value_count: row_count.cast_unsigned(),
            null_count: null_counts[index],
            lower,
            upper,
        })
    });
    columns.collect()
}

/// Returns the byte offsets at which the row groups begin.
pub(super) fn split_offsets(metadata: &ParquetMetaData) -> Vec<i64> {
    let first_columns = metadata.row_groups().iter().filter_map(|group| group.columns().first());
    first_columns.map(|column| column.byte_range().0.cast_signed()).collect()
}

/// Compressed bytes of each top-level column, its leaves added up.
fn sizes_bytes(metadata: &ParquetMetaData, columns: usize) -> Vec<u64> {
    let leaves = metadata.file_metadata().schema_descr();
    let mut sizes = vec![0; columns];
    for group in metadata.row_groups() {
        for (leaf, chunk) in group.columns().iter().enumerate() {
            sizes[leaves.get_column_root_idx(leaf)] += chunk.compressed_size().cast_unsigned();
        }
    }
    sizes
}

fn bounds(
    metadata: &ParquetMetaData,
    schema: &Schema,
    field: &Field,
) -> Result<(Option<ScalarValue>, Option<ScalarValue>)> {
    if field.data_type().is_nested() || matches!(field.data_type(), DataType::Null) {
        return Ok((None, None));
    }
    let leaves = metadata.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(field.name(), schema, leaves).map_err(encoding_failed)?;
    let groups = || metadata.row_groups().iter();
    let nulls = converter.row_group_null_counts(groups()).map_err(encoding_failed)?;
    let empty: Vec<bool> = groups()
        .zip(nulls.iter())
        .map(|(group, nulls)| nulls == Some(group.num_rows().cast_unsigned()))
        .collect();
    let minima = converter.row_group_mins(groups()).map_err(encoding_failed)?;
    let maxima = converter.row_group_maxes(groups()).map_err(encoding_failed)?;
    Ok((outermost(&minima, &empty, ScalarValue::lt)?, outermost(&maxima, &empty, ScalarValue::gt)?))
}

/// Returns the outermost bound of the row groups that hold values, unless one of them has none.
fn outermost(
    bounds: &dyn Array,
    empty: &[bool],
    beats: fn(&ScalarValue, &ScalarValue) -> bool,
) -> Result<Option<ScalarValue>> {
    let mut outermost: Option<ScalarValue> = None;
    for index in (0..bounds.len()).filter(|index| !empty[*index]) {
        if bounds.is_null(index) {
            return Ok(None);
        }
        let bound = ScalarValue::try_from_array(bounds, index)?;
        if outermost.as_ref().is_none_or(|known| beats(&bound, known)) {
            outermost = Some(bound);
        }
    }
    Ok(outermost)
}
