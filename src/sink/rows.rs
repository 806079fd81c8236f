//! Rows: a query's batches, made to fit the file schema and sorted out by partition.
//!
//! [`Conform`] casts and checks. [`Keys`] finds the partition of each row. [`Stage`] gathers some
//! batches before it copies each partition's rows together, because a batch of 8,192 rows over a
//! hundred partitions would make slices too small to be worth their overhead.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::types::{
    BinaryType, BinaryViewType, ByteArrayType, ByteViewType, StringViewType, Utf8Type,
};
use arrow::array::{Array, ArrayRef, AsArray, GenericByteBuilder, GenericByteViewArray, RecordBatch};
use arrow::compute::{CastOptions, can_cast_types, cast, cast_with_options, interleave};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::ScalarValue;

use super::budget::Charge;
use crate::error::{Error, Result};
use crate::format::partition::{PartitionField, Transform};

/// What an array costs besides its values: the structs, the reference counts and rounded-up buffers.
const ARRAY_OVERHEAD_BYTES: usize = 256;

/// Columns of equal length, all rows of one partition.
pub(super) struct Slice {
    pub columns: Vec<ArrayRef>,
    pub rows: usize,
    pub charge: Charge,
}

impl Slice {
    /// Takes `columns` without views, and corrects `charge` to what they then hold.
    pub(super) fn new(columns: Vec<ArrayRef>, rows: usize, mut charge: Charge) -> Result<Self> {
        let columns = without_views(columns)?;
        charge.resize(size_bytes(&columns));
        Ok(Self { columns, rows, charge })
    }
}

/// Casts batches to the file schema, column by column in their order.
#[derive(Debug, Clone)]
pub(super) struct Conform {
    schema: SchemaRef,
}

impl Conform {
    /// Checks that columns of `input` can become those of `schema`.
    ///
    /// # Errors
    /// [`Error::DatatypeMismatch`] when their number differs, or when no cast exists for one of them.
    pub(super) fn new(input: &SchemaRef, schema: SchemaRef) -> Result<Self> {
        if input.fields().len() != schema.fields().len() {
            return Err(Error::DatatypeMismatch(format!(
                "the table has {} columns but the query returns {}",
                schema.fields().len(),
                input.fields().len()
            )));
        }
        for (from, to) in input.fields().iter().zip(schema.fields()) {
            if !from.data_type().equals_datatype(to.data_type())
                && !can_cast_types(from.data_type(), to.data_type())
            {
                return Err(Error::DatatypeMismatch(format!(
                    "column \"{}\" is of type {} but the expression is of type {}",
                    to.name(),
                    to.data_type(),
                    from.data_type()
                )));
            }
        }
        Ok(Self { schema })
    }

    /// Casts one batch.
    ///
    /// # Errors
    /// [`Error::NotNullViolation`] with the column's name; what a cast refuses, such as
    /// [`Error::OutOfRange`].
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        columns
            .map(|(column, field)| {
                let column = cast_strictly(column, field.data_type())?;
                if !field.is_nullable() && column.logical_null_count() > 0 {
                    // Statements name the table before; see the guard.
                    let message =
                        format!("null value in column \"{}\" violates not-null constraint", field.name());
                    return Err(Error::NotNullViolation { message, row: None });
                }
                Ok(column)
            })
            .collect()
    }
}

/// Casts with an error, and not with null, for a value that does not fit.
fn cast_strictly(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, to, &strict).map_err(|error| match error {
        // So arrow reports a decimal that is too large.
        ArrowError::InvalidArgumentError(message) => ArrowError::CastError(message).into(),
        other => other.into(),
    })
}

/// Finds the partition of each row. One input stream has one; partitions are numbered by the caller.
pub(super) struct Keys {
    transforms: Vec<(usize, Transform)>,
    converter: RowConverter,
    known: HashMap<Box<[u8]>, usize>,
}

impl Keys {
    /// Resolves the columns of `fields` in `schema`.
    ///
    /// # Errors
    /// [`Error::ColumnNotFound`], or [`Error::InvalidParameter`] for a transform that the column's
    /// type does not have.
    pub(super) fn new(fields: &[PartitionField], schema: &SchemaRef) -> Result<Self> {
        let mut transforms = Vec::with_capacity(fields.len());
        let mut sort_fields = Vec::with_capacity(fields.len());
        for field in fields {
            let column = schema.index_of(&field.source).map_err(|_| Error::ColumnNotFound {
                name: field.source.clone(),
                candidates: schema.fields().iter().map(|field| field.name().clone()).collect(),
            })?;
            let result_type = field.transform.result_type(schema.field(column).data_type())?;
            transforms.push((column, field.transform));
            sort_fields.push(SortField::new(result_type));
        }
        Ok(Self { transforms, converter: RowConverter::new(sort_fields)?, known: HashMap::new() })
    }

    /// Returns the number of each row's partition.
    ///
    /// `register` numbers a partition that was not seen before, by its bytes (equal in all streams) and
    /// its values.
    pub(super) fn locate(
        &mut self,
        columns: &[ArrayRef],
        mut register: impl FnMut(&[u8], Vec<ScalarValue>) -> Result<usize>,
    ) -> Result<Vec<usize>> {
        let values = self.values(columns)?;
        let rows: Rows = self.converter.convert_columns(&values)?;
        let mut found = Vec::with_capacity(rows.num_rows());
        for (index, row) in rows.iter().enumerate() {
            // Neighbours are often of one partition, and comparing is cheaper than hashing.
            if index > 0 && rows.row(index - 1) == row {
                found.push(found[index - 1]);
                continue;
            }
            let partition = match self.known.get(row.as_ref()) {
                Some(partition) => *partition,
                None => {
                    let scalars = values.iter().map(|value| ScalarValue::try_from_array(value, index));
                    let partition = register(row.as_ref(), scalars.collect::<Result<_, _>>()?)?;
                    self.known.insert(row.as_ref().into(), partition);
                    partition
                }
            };
            found.push(partition);
        }
        Ok(found)
    }

    fn values(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        self.transforms.iter().map(|(column, transform)| transform.apply(&columns[*column])).collect()
    }
}

/// Batches of one input stream that wait to be sorted out by partition.
#[derive(Default)]
pub(super) struct Stage {
    batches: Vec<StagedBatch>,
    rows: usize,
    charge: Option<Charge>,
}

struct StagedBatch {
    columns: Vec<ArrayRef>,
    partitions: Vec<usize>,
}

impl Stage {
    pub(super) fn bytes(&self) -> usize {
        self.charge.as_ref().map_or(0, Charge::bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a batch whose row `i` belongs to `partitions[i]`.
    pub(super) fn push(&mut self, columns: Vec<ArrayRef>, partitions: Vec<usize>, charge: Charge) {
        self.rows += partitions.len();
        self.batches.push(StagedBatch { columns, partitions });
        match &mut self.charge {
            Some(held) => held.merge(charge),
            None => self.charge = Some(charge),
        }
    }

    /// Empties the stage into one slice a partition, each in the order in which its rows came.
    ///
    /// The slices own their memory: a string of a slice never keeps a batch alive.
    pub(super) fn split(&mut self) -> Result<Vec<(usize, Slice)>> {
        let mut stage = std::mem::take(self);
        let Some(mut charge) = stage.charge.take() else { return Ok(Vec::new()) };
        let mut lists = by_partition(&stage.batches, stage.rows);
        if lists.len() == 1 {
            let (partition, _) = lists.swap_remove(0);
            return stage.pass_on(partition, charge);
        }
        let mut slices = Vec::with_capacity(lists.len());
        for (partition, rows) in lists {
            let columns = stage.gather(&rows)?;
            let held = charge.split(size_bytes(&columns));
            slices.push((partition, Slice::new(columns, rows.len(), held)?));
        }
        Ok(slices)
    }

    /// Hands the batches on as they are: sorted input fills one partition after another.
    fn pass_on(self, partition: usize, mut charge: Charge) -> Result<Vec<(usize, Slice)>> {
        let slices = self.batches.into_iter().map(|batch| {
            let rows = batch.partitions.len();
            Ok((partition, Slice::new(batch.columns, rows, charge.split(usize::MAX))?))
        });
        slices.collect()
    }

    fn gather(&self, rows: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
        let width = self.batches.first().map_or(0, |batch| batch.columns.len());
        (0..width)
            .map(|column| {
                let arrays: Vec<&dyn Array> =
                    self.batches.iter().map(|batch| batch.columns[column].as_ref()).collect();
                gather(&arrays, rows)
            })
            .collect()
    }
}

/// Lists the rows (batch, row) of each partition, by a counting sort.
fn by_partition(batches: &[StagedBatch], rows: usize) -> Vec<(usize, Vec<(usize, usize)>)> {
    let numbers = || batches.iter().flat_map(|batch| batch.partitions.iter().copied());
    let mut counts = vec![0usize; numbers().max().map_or(0, |highest| highest + 1)];
    numbers().for_each(|partition| counts[partition] += 1);
    debug_assert_eq!(counts.iter().sum::<usize>(), rows);
    let mut lists: Vec<Vec<(usize, usize)>> = counts.into_iter().map(Vec::with_capacity).collect();
    for (batch, staged) in batches.iter().enumerate() {
        for (row, partition) in staged.partitions.iter().enumerate() {
            lists[*partition].push((batch, row));
        }
    }
    lists.into_iter().enumerate().filter(|(_, list)| !list.is_empty()).collect()
}

/// Copies rows together. Views become plain strings: they are shorter, and they share no buffers.
fn gather(arrays: &[&dyn Array], rows: &[(usize, usize)]) -> Result<ArrayRef> {
    match arrays[0].data_type() {
        DataType::Utf8View => gather_views::<StringViewType, Utf8Type>(arrays, rows),
        DataType::BinaryView => gather_views::<BinaryViewType, BinaryType>(arrays, rows),
        _ => Ok(interleave(arrays, rows)?),
    }
}

fn gather_views<V, B>(arrays: &[&dyn Array], rows: &[(usize, usize)]) -> Result<ArrayRef>
where
    V: ByteViewType,
    B: ByteArrayType<Native = V::Native>,
{
    let arrays: Vec<&GenericByteViewArray<V>> =
        arrays.iter().map(|array| array.as_byte_view::<V>()).collect();
    // The low 32 bits of a view are its value's length.
    let length = |array: usize, row: usize| match arrays[array].is_null(row) {
        true => 0,
        false => arrays[array].views()[row] as u32 as usize,
    };
    let bytes: usize = rows.iter().map(|(array, row)| length(*array, *row)).sum();
    if i32::try_from(bytes).is_err() {
        return Err(Error::LimitExceeded("a column of one batch holds more than 2 GiB".to_owned()));
    }
    let mut gathered = GenericByteBuilder::<B>::with_capacity(rows.len(), bytes);
    for (array, row) in rows {
        let array = arrays[*array];
        if array.is_null(*row) {
            gathered.append_null();
        } else {
            gathered.append_value(array.value(*row));
        }
    }
    Ok(Arc::new(gathered.finish()))
}

/// Copies strings out of views, which may each keep a whole page or build side alive.
fn without_views(columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    let plain = |column: ArrayRef| match column.data_type() {
        DataType::Utf8View => cast(&column, &DataType::Utf8),
        DataType::BinaryView => cast(&column, &DataType::Binary),
        _ => Ok(column),
    };
    Ok(columns.into_iter().map(plain).collect::<Result<_, _>>()?)
}

/// Estimates the memory that `columns` hold, without counting what slices and views leave out.
pub(super) fn size_bytes(columns: &[ArrayRef]) -> usize {
    let size = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => view_bytes(column.as_string_view()),
        DataType::BinaryView => view_bytes(column.as_binary_view()),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    };
    columns.iter().map(|column| size(column) + ARRAY_OVERHEAD_BYTES).sum()
}

fn view_bytes<V: ByteViewType>(views: &GenericByteViewArray<V>) -> usize {
    views.len() * size_of::<u128>() + views.total_buffer_bytes_used()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringViewArray};
    use arrow::datatypes::{Field, Int32Type, Schema};
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};

    use super::super::budget::Budget;
    use super::*;

    fn schema(data_type: DataType, nullable: bool) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", data_type, nullable)]))
    }

    fn batch(values: Vec<Option<i64>>) -> RecordBatch {
        let values: ArrayRef = Arc::new(Int64Array::from(values));
        RecordBatch::try_new(schema(DataType::Int64, true), vec![values]).unwrap()
    }

    #[test]
    fn casts_are_strict_and_nulls_are_named() {
        let conform = |to| Conform::new(&schema(DataType::Int64, true), to);
        let narrow = conform(schema(DataType::Int32, false)).unwrap();
        let columns = narrow.apply(&batch(vec![Some(7)])).unwrap();
        assert_eq!(columns[0].as_primitive::<Int32Type>().value(0), 7);
        let error = narrow.apply(&batch(vec![Some(1 << 40)])).unwrap_err();
        assert_eq!(error.sqlstate(), "22003", "{error}");
        let error = narrow.apply(&batch(vec![None])).unwrap_err();
        assert_eq!(error.to_string(), "null value in column \"n\" violates not-null constraint");
        let error = conform(schema(DataType::Date64, true)).and_then(|_| conform(Arc::new(Schema::empty())));
        assert_eq!(error.unwrap_err().sqlstate(), "42804");
    }

    #[test]
    fn rows_keep_their_order_and_nulls_have_a_partition() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("key", DataType::Utf8View, true),
            Field::new("n", DataType::Int32, true),
        ]));
        let mut keys = Keys::new(&[PartitionField::new("key", Transform::Identity)], &schema).unwrap();
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let budget = Budget::new(&pool, "write", usize::MAX);
        let mut stage = Stage::default();
        let mut seen = Vec::new();
        for (texts, numbers) in [
            (vec![Some("a"), None, Some("a value longer than a view")], vec![1, 2, 3]),
            (vec![Some("a value longer than a view"), Some("a"), Some("a")], vec![4, 5, 6]),
        ] {
            let columns: Vec<ArrayRef> =
                vec![Arc::new(StringViewArray::from(texts)), Arc::new(Int32Array::from(numbers))];
            let partitions = keys
                .locate(&columns, |_, values| {
                    seen.push(values[0].to_string());
                    Ok(seen.len() - 1)
                })
                .unwrap();
            let charge = budget.charge(size_bytes(&columns));
            stage.push(columns, partitions, charge);
        }
        assert_eq!(seen, ["a", "NULL", "a value longer than a view"]);
        let slices = stage.split().unwrap();
        let numbers: Vec<_> = slices
            .iter()
            .map(|(_, slice)| slice.columns[1].as_primitive::<Int32Type>().values().to_vec())
            .collect();
        assert_eq!(numbers, [vec![1, 5, 6], vec![2], vec![3, 4]]);
        assert_eq!(slices[2].1.columns[0].data_type(), &DataType::Utf8);
        assert_eq!(slices[2].1.columns[0].as_string::<i32>().value(1), "a value longer than a view");
        let charged: usize = slices.iter().map(|(_, slice)| slice.charge.bytes()).sum();
        assert_eq!(budget.held_bytes(), charged);
        assert!(stage.is_empty() && stage.bytes() == 0);
    }
}
