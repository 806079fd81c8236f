//! Listing: the written files as a batch of rows, one a file.
//!
//! The batch is typed, so that values pass through unchanged: `partition` is a struct of the partition
//! values, `columns` a struct of each column's metrics, its bounds of the column's own type. A plan of
//! batches also works where the writer runs in another process than the committer.

use std::sync::Arc;

use arrow::array::types::{Int64Type, UInt64Type};
use arrow::array::{
    ArrayRef, AsArray, ListArray, RecordBatch, StringArray, StructArray, UInt64Array, new_empty_array,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use object_store::path::Path;

use crate::error::{Error, Result};
use crate::format::partition::PartitionField;
use crate::format::{ColumnMetrics, WrittenFile};

/// Returns the schema of listings of files with columns of `schema`, partitioned by `partition`.
///
/// # Errors
/// [`Error::ColumnNotFound`] and [`Error::InvalidParameter`] for a partition field that does not fit.
pub(super) fn listing_schema(schema: &Schema, partition: &[PartitionField]) -> Result<SchemaRef> {
    let mut fields = vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("size_bytes", DataType::UInt64, false),
        Field::new("row_count", DataType::UInt64, false),
        Field::new(
            "split_offsets",
            DataType::List(Field::new_list_field(DataType::Int64, true).into()),
            false,
        ),
    ];
    let values = partition.iter().map(|field| {
        let source = schema.field_with_name(&field.source).map_err(|_| Error::ColumnNotFound {
            name: field.source.clone(),
            candidates: schema.fields().iter().map(|field| field.name().clone()).collect(),
        })?;
        Ok(Field::new(&field.name, field.transform.result_type(source.data_type())?, true))
    });
    let values: Fields = values.collect::<Result<Vec<_>>>()?.into();
    if !values.is_empty() {
        fields.push(Field::new("partition", DataType::Struct(values), false));
    }
    let metrics = schema
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), DataType::Struct(metrics_fields(field.data_type())), false));
    let metrics: Fields = metrics.collect();
    // A struct without fields would not know how many rows it has.
    if !metrics.is_empty() {
        fields.push(Field::new("columns", DataType::Struct(metrics), false));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn metrics_fields(column: &DataType) -> Fields {
    let bound = if column.is_nested() { &DataType::Null } else { column };
    vec![
        Field::new("size_bytes", DataType::UInt64, false),
        Field::new("value_count", DataType::UInt64, false),
        Field::new("null_count", DataType::UInt64, false),
        Field::new("lower", bound.clone(), true),
        Field::new("upper", bound.clone(), true),
    ]
    .into()
}

/// Lists `files` in a batch of `schema`.
pub(super) fn batch_of(files: &[WrittenFile], schema: &SchemaRef) -> Result<RecordBatch> {
    let paths = files.iter().map(|file| Some(file.path.as_ref()));
    let offsets = files.iter().map(|file| Some(file.split_offsets.iter().map(|offset| Some(*offset))));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(paths.collect::<StringArray>()),
        numbers(files, |file| file.size_bytes),
        numbers(files, |file| file.row_count),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(offsets)),
    ];
    for field in &schema.fields()[columns.len()..] {
        let DataType::Struct(fields) = field.data_type() else { return Err(not_a_listing()) };
        let arrays = fields.iter().enumerate().map(|(index, inner)| match field.name().as_str() {
            "partition" => {
                scalars(files.iter().map(|file| Some(file.partition[index].clone())), inner.data_type())
            }
            _ => metrics_of(files, index, inner.data_type()),
        });
        columns.push(Arc::new(StructArray::try_new(fields.clone(), arrays.collect::<Result<_>>()?, None)?));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn numbers(files: &[WrittenFile], number: impl Fn(&WrittenFile) -> u64) -> ArrayRef {
    Arc::new(files.iter().map(number).collect::<UInt64Array>())
}

fn metrics_of(files: &[WrittenFile], column: usize, data_type: &DataType) -> Result<ArrayRef> {
    let DataType::Struct(fields) = data_type else { return Err(not_a_listing()) };
    let bound = |pick: fn(&ColumnMetrics) -> &Option<ScalarValue>, index: usize| {
        scalars(files.iter().map(|file| pick(&file.columns[column]).clone()), fields[index].data_type())
    };
    let arrays = vec![
        numbers(files, |file| file.columns[column].size_bytes),
        numbers(files, |file| file.columns[column].value_count),
        numbers(files, |file| file.columns[column].null_count),
        bound(|metrics| &metrics.lower, 3)?,
        bound(|metrics| &metrics.upper, 4)?,
    ];
    Ok(Arc::new(StructArray::try_new(fields.clone(), arrays, None)?))
}

fn scalars(values: impl Iterator<Item = Option<ScalarValue>>, data_type: &DataType) -> Result<ArrayRef> {
    let null = ScalarValue::try_from(data_type)?;
    let mut values = values.map(|value| value.unwrap_or_else(|| null.clone())).peekable();
    if values.peek().is_none() {
        return Ok(new_empty_array(data_type));
    }
    Ok(ScalarValue::iter_to_array(values)?)
}

/// Reads the files that a batch of [`WriteExec`](super::WriteExec) lists.
///
/// # Errors
/// [`Error::Internal`] when the batch is not such a listing.
pub fn files_of(batch: &RecordBatch) -> Result<Vec<WrittenFile>> {
    let column = |name| batch.column_by_name(name).ok_or_else(not_a_listing);
    let paths = column("path")?.as_string_opt::<i32>().ok_or_else(not_a_listing)?;
    let sizes = unsigned(column("size_bytes")?)?;
    let rows = unsigned(column("row_count")?)?;
    let offsets = column("split_offsets")?.as_list_opt::<i32>().ok_or_else(not_a_listing)?;
    let partition = batch.column_by_name("partition").map(|values| values.as_struct());
    let metrics = batch.column_by_name("columns").map(|metrics| metrics.as_struct());
    let files = (0..batch.num_rows()).map(|row| {
        let values = partition.iter().flat_map(|values| values.columns());
        let metrics = metrics.iter().flat_map(|metrics| metrics.columns());
        Ok(WrittenFile {
            path: Path::parse(paths.value(row)).map_err(|_| not_a_listing())?,
            size_bytes: sizes.value(row),
            row_count: rows.value(row),
            partition: values
                .map(|values| ScalarValue::try_from_array(values, row))
                .collect::<Result<_, _>>()?,
            columns: metrics.map(|column| metrics_at(column, row)).collect::<Result<_>>()?,
            split_offsets: offsets.value(row).as_primitive::<Int64Type>().values().to_vec(),
        })
    });
    files.collect()
}

fn metrics_at(column: &ArrayRef, row: usize) -> Result<ColumnMetrics> {
    let metrics = column.as_struct_opt().ok_or_else(not_a_listing)?;
    let number = |index: usize| Ok::<_, Error>(unsigned(metrics.column(index))?.value(row));
    let bound = |index: usize| {
        let value = ScalarValue::try_from_array(metrics.column(index), row)?;
        Ok::<_, Error>(Some(value).filter(|value| !value.is_null()))
    };
    Ok(ColumnMetrics {
        size_bytes: number(0)?,
        value_count: number(1)?,
        null_count: number(2)?,
        lower: bound(3)?,
        upper: bound(4)?,
    })
}

fn unsigned(array: &ArrayRef) -> Result<&UInt64Array> {
    array.as_primitive_opt::<UInt64Type>().ok_or_else(not_a_listing)
}

fn not_a_listing() -> Error {
    Error::Internal("a batch is no listing of written files".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::partition::Transform;

    #[test]
    fn files_come_back_as_they_went() {
        let schema = Schema::new(vec![
            Field::new("price", DataType::Decimal128(15, 2), true),
            Field::new("tags", DataType::List(Field::new_list_field(DataType::Utf8, true).into()), true),
        ]);
        let fields = [PartitionField::new("price", Transform::Bucket(4))];
        let schema = listing_schema(&schema, &fields).unwrap();
        let file = |bucket, lower: Option<i128>| WrittenFile {
            path: Path::parse("data/price_bucket=%2F/a.parquet").unwrap(),
            size_bytes: 1_000,
            row_count: 3,
            partition: vec![ScalarValue::Int32(bucket)],
            columns: vec![
                ColumnMetrics {
                    size_bytes: 1,
                    value_count: 3,
                    null_count: 2,
                    lower: lower.map(|value| ScalarValue::Decimal128(Some(value), 15, 2)),
                    upper: None,
                },
                ColumnMetrics::default(),
            ],
            split_offsets: vec![4, 500],
        };
        let files = [file(Some(3), Some(-5)), file(None, None)];
        let back = files_of(&batch_of(&files, &schema).unwrap()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{files:?}"));
        assert!(files_of(&batch_of(&[], &schema).unwrap()).unwrap().is_empty());
    }
}
