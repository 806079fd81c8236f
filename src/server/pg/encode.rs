//! Encoding: record batches to DataRow messages.
//!
//! A [`RowEncoder`] is made once for a result and turns its batches into complete messages. It works
//! column by column: a loop that knows the column's type writes the values of a run of rows into
//! cells, and the rows are then copied together from the cells of all columns. Strings that are sent
//! as they lie are copied from the batch itself. Which PostgreSQL type a column has is decided in
//! [`types`](crate::value::types), how much is encoded at a time and when it is sent by the caller.

pub mod copy;
mod row;
#[cfg(test)]
mod tests;

use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use bytes::{BufMut, BytesMut};

use self::row::{Layout, Source};
use crate::engine::dialect::display_name;
use crate::error::{Error, Result};
use crate::value::output::{self, Cells, EncodeOptions, Target, too_long};
use crate::value::types::{self, Format, PgType};

/// Rows whose cells are held at once: few enough that they stay in the processor's cache.
const RUN_ROWS: usize = 256;

/// Turns the batches of one result into DataRow messages.
///
/// Costs no allocation a row; the cells of a run of rows are kept from batch to batch.
#[derive(Debug)]
pub struct RowEncoder {
    columns: Vec<Column>,
    options: EncodeOptions,
    layout: Layout,
}

#[derive(Debug)]
struct Column {
    data_type: DataType,
    oid: u32,
    format: Format,
    cells: Cells,
}

impl RowEncoder {
    /// Prepares for batches of `schema`, with one format a column.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] for more columns than a DataRow can count, [`Error::Internal`] when
    /// `formats` does not name one for each.
    pub fn new(schema: &Schema, formats: &[Format], options: &EncodeOptions) -> Result<Self> {
        check_width(schema, formats)?;
        let columns = schema.fields().iter().zip(formats).map(|(field, format)| Column {
            data_type: field.data_type().clone(),
            oid: types::pg_type(field).oid,
            format: *format,
            cells: Cells::default(),
        });
        Ok(Self { columns: columns.collect(), options: options.clone(), layout: Layout::DataRow })
    }

    /// The same for messages of another layout.
    fn laid_out(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// Appends one DataRow for each of `rows` of `batch` to `out`.
    ///
    /// After an error, `out` ends with a whole message.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] and [`Error::DatetimeOverflow`] for values beyond the announced type,
    /// [`Error::LimitExceeded`] for a row of 2 GiB, [`Error::Unsupported`] for a value without the
    /// form asked for, such as a ragged array in binary.
    pub fn encode(&mut self, batch: &RecordBatch, rows: Range<usize>, out: &mut BytesMut) -> Result<()> {
        if batch.num_columns() != self.columns.len() {
            return Err(Error::Internal(format!(
                "a batch of {} columns in a result of {}",
                batch.num_columns(),
                self.columns.len()
            )));
        }
        let cut = |(column, array): (&Column, &ArrayRef)| column.plain(&array.slice(rows.start, rows.len()));
        let arrays = self.columns.iter().zip(batch.columns()).map(cut).collect::<Result<Vec<_>>>()?;
        for start in (0..rows.len()).step_by(RUN_ROWS) {
            self.encode_run(&arrays, start..rows.len().min(start + RUN_ROWS), out)?;
        }
        Ok(())
    }

    fn encode_run(&mut self, arrays: &[ArrayRef], rows: Range<usize>, out: &mut BytesMut) -> Result<()> {
        for (column, array) in self.columns.iter_mut().zip(arrays) {
            if column.is_written(array) {
                column.write(array, rows.clone(), &self.options)?;
            }
        }
        let pairs = self.columns.iter().zip(arrays);
        let sources: Vec<Source> = pairs.map(|(column, array)| column.source(array)).collect();
        row::assemble(sources, rows, &self.layout, out)
    }
}

impl Column {
    /// The array as it is written: of the type that was announced, and no dictionary.
    fn plain(&self, array: &ArrayRef) -> Result<ArrayRef> {
        if *array.data_type() == self.data_type {
            return output::plain(array);
        }
        output::plain(&cast(array, &self.data_type)?)
    }

    /// Whether the values go through cells, and are not copied from the array itself.
    fn is_written(&self, array: &ArrayRef) -> bool {
        Source::of_bytes(array, self.oid, self.format).is_none()
    }

    /// Where the values come from, once they are written.
    fn source<'a>(&'a self, array: &'a ArrayRef) -> Source<'a> {
        let cells = || Source::of_cells(&self.cells);
        Source::of_bytes(array, self.oid, self.format).unwrap_or_else(cells)
    }

    fn write(&mut self, array: &ArrayRef, rows: Range<usize>, options: &EncodeOptions) -> Result<()> {
        self.cells.clear();
        output::write(&mut self.cells, array, rows, Target { oid: self.oid, format: self.format, options })
    }
}

/// Writes the RowDescription message of a result: type byte, length and one field a column.
///
/// # Errors
/// As [`RowEncoder::new`].
pub fn row_description(schema: &Schema, formats: &[Format]) -> Result<BytesMut> {
    check_width(schema, formats)?;
    let mut out = BytesMut::with_capacity(8 + schema.fields().len() * 32);
    out.put_u8(b'T');
    out.put_i32(0);
    out.put_i16(schema.fields().len() as i16);
    for (field, format) in schema.fields().iter().zip(formats) {
        let PgType { oid, len, typmod } = types::pg_type(field);
        // A name ends at its first zero byte on the wire.
        let name = display_name(field.name()).split('\0').next().unwrap_or_default();
        out.put_slice(name.as_bytes());
        out.put_u8(0);
        // Neither table nor column number: results are not bound to one.
        out.put_u32(0);
        out.put_i16(0);
        out.put_u32(oid);
        out.put_i16(len);
        out.put_i32(typmod);
        out.put_i16(format.code());
    }
    let length = i32::try_from(out.len() - 1).map_err(|_| too_long())?;
    out[1..5].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

fn check_width(schema: &Schema, formats: &[Format]) -> Result<()> {
    let columns = schema.fields().len();
    if columns != formats.len() {
        return Err(Error::Internal(format!("{} formats for {columns} columns", formats.len())));
    }
    if i16::try_from(columns).is_err() {
        return Err(Error::LimitExceeded(format!("a result of {columns} columns has more than 32767")));
    }
    Ok(())
}
