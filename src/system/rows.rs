//! Rows of system tables, given by column name.
//!
//! A row names the columns that it knows. Of the others, one that may be null is null, and one that
//! may not is PostgreSQL's way to say "none": 0, false, the empty text.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::{Result, ScalarValue};

use crate::function::support;

/// A value on its way into a column of whichever type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f32),
    Text(String),
    Texts(Vec<String>),
    Ints(Vec<i64>),
    Instant(SystemTime),
}

impl From<SystemTime> for Cell {
    fn from(value: SystemTime) -> Self {
        Self::Instant(value)
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for Cell {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Cell {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<char> for Cell {
    fn from(value: char) -> Self {
        Self::Text(value.to_string())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Rows under construction, in the columns of `schema`; values for other columns are let go.
#[derive(Debug)]
pub(super) struct Rows {
    schema: SchemaRef,
    columns: Vec<Vec<ScalarValue>>,
    count: usize,
}

impl Rows {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|_| vec![]).collect();
        Self { schema, columns, count: 0 }
    }

    /// Whether a column is among those asked for, so that its value is worth a read.
    pub(super) fn wants(&self, column: &str) -> bool {
        self.schema.index_of(column).is_ok()
    }

    pub(super) fn push<const N: usize>(&mut self, cells: [(&'static str, Cell); N]) {
        self.push_all(&cells);
    }

    pub(super) fn push_all(&mut self, cells: &[(&'static str, Cell)]) {
        for (field, column) in self.schema.fields().iter().zip(&mut self.columns) {
            let cell = cells.iter().find(|(name, _)| name == field.name()).map(|(_, cell)| cell);
            column.push(value(field, cell.unwrap_or(&Cell::Null)));
        }
        self.count += 1;
    }

    pub(super) fn finish(self) -> Result<RecordBatch> {
        let fields = self.schema.fields().iter();
        let arrays: Result<Vec<ArrayRef>> = fields
            .zip(self.columns)
            .map(|(field, column)| match column.is_empty() {
                true => Ok(new_empty_array(field.data_type())),
                false => ScalarValue::iter_to_array(column),
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        Ok(RecordBatch::try_new_with_options(self.schema, arrays?, &options)?)
    }
}

fn value(field: &Field, cell: &Cell) -> ScalarValue {
    let plain = match cell {
        Cell::Null if field.is_nullable() => ScalarValue::try_new_null(field.data_type()),
        Cell::Null => return none(field.data_type()),
        Cell::Bool(value) => Ok(ScalarValue::from(*value)),
        Cell::Int(value) => Ok(ScalarValue::from(*value)),
        Cell::Float(value) => Ok(ScalarValue::from(*value)),
        Cell::Text(name) if *field.data_type() == DataType::Int64 => Ok(procedure(name).into()),
        Cell::Text(value) => Ok(ScalarValue::from(value.as_str())),
        Cell::Texts(values) => Ok(list(values.iter().map(|value| value.as_str().into()), DataType::Utf8)),
        Cell::Instant(value) => {
            let micros = value.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
            let micros = i64::try_from(micros).unwrap_or(i64::MAX);
            Ok(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
        }
        Cell::Ints(values) => Ok(list(values.iter().map(|value| (*value).into()), DataType::Int64)),
    };
    plain
        .and_then(|value| value.cast_to(field.data_type()))
        .expect("a cell has a type that its column can take")
}

/// The oid of a support function by its name, as a `regproc` holds it; 0 for one that does not exist.
fn procedure(name: &str) -> i64 {
    support::by_name(name).map_or(0, |found| found.oid)
}

fn list(values: impl Iterator<Item = ScalarValue>, item: DataType) -> ScalarValue {
    let values: Vec<ScalarValue> = values.collect();
    ScalarValue::List(ScalarValue::new_list(&values, &item, true))
}

/// What stands for "none" in a column that is never null.
fn none(data_type: &DataType) -> ScalarValue {
    match data_type {
        DataType::Utf8 => ScalarValue::from(""),
        DataType::List(item) => list(std::iter::empty(), item.data_type().clone()),
        other => ScalarValue::new_default(other).expect("numbers and booleans have a zero"),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    use super::*;
    use crate::system::definition;

    #[test]
    fn a_column_that_a_row_leaves_out_is_null_or_none() {
        let pg_class = definition::find("pg_catalog", "pg_class").unwrap();
        let mut rows = Rows::new(pg_class.schema.clone());
        rows.push([("oid", 20_000_i64.into()), ("relname", "flights".into())]);
        let batch = rows.finish().unwrap();
        assert_eq!(batch["relname"].as_string::<i32>().value(0), "flights");
        assert_eq!(batch["relpages"].as_primitive::<Int32Type>().value(0), 0);
        assert!(batch["reloptions"].is_null(0));
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let mut rows = Rows::new(SchemaRef::new(arrow::datatypes::Schema::empty()));
        rows.push([("oid", 1_i64.into())]);
        assert_eq!(rows.finish().unwrap().num_rows(), 1);
    }
}
