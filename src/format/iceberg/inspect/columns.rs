//! Columns in the making, each from one value a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::builder::{
    Int32Builder, Int64Builder, ListBuilder, MapBuilder, MapFieldNames, StringBuilder,
};
use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    StructArray, TimestampMicrosecondArray, new_empty_array,
};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::ScalarValue;

use crate::error::Result;

/// The columns of a batch so far.
#[derive(Default)]
pub(super) struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    pub fn push(&mut self, name: &str, array: ArrayRef) {
        self.fields.push(Field::new(name, array.data_type().clone(), true));
        self.arrays.push(array);
    }

    pub fn longs(&mut self, name: &str, values: impl Iterator<Item = Option<i64>>) {
        self.push(name, Arc::new(Int64Array::from_iter(values)));
    }

    pub fn integers(&mut self, name: &str, values: impl Iterator<Item = Option<i64>>) {
        let narrow = values.map(|value| value.and_then(|value| i32::try_from(value).ok()));
        self.push(name, Arc::new(Int32Array::from_iter(narrow)));
    }

    pub fn flags(&mut self, name: &str, values: impl Iterator<Item = bool>) {
        self.push(name, Arc::new(BooleanArray::from_iter(values.map(Some))));
    }

    pub fn texts(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        self.push(name, Arc::new(StringArray::from_iter_values(values)));
    }

    /// Moments in milliseconds.
    pub fn instants(&mut self, name: &str, values: impl Iterator<Item = i64>) {
        let micros = TimestampMicrosecondArray::from_iter_values(values.map(|ms| ms.saturating_mul(1000)));
        self.push(name, Arc::new(micros.with_timezone("UTC")));
    }

    pub fn text_maps<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a BTreeMap<String, String>>) {
        let mut builder = MapBuilder::new(Some(entries()), StringBuilder::new(), StringBuilder::new());
        for map in values {
            for (key, value) in map {
                builder.keys().append_value(key);
                builder.values().append_value(value);
            }
            builder.append(true).expect("each key has its value");
        }
        self.push(name, Arc::new(builder.finish()));
    }

    /// Numbers by the id of a column.
    pub fn number_maps<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a Vec<(i32, i64)>>) {
        let mut builder = MapBuilder::new(Some(entries()), Int32Builder::new(), Int64Builder::new());
        for pairs in values {
            for (key, value) in pairs {
                builder.keys().append_value(*key);
                builder.values().append_value(*value);
            }
            builder.append(true).expect("each key has its value");
        }
        self.push(name, Arc::new(builder.finish()));
    }

    /// Texts by the id of a column.
    pub fn bound_maps(&mut self, name: &str, values: impl Iterator<Item = Vec<(i32, String)>>) {
        let mut builder = MapBuilder::new(Some(entries()), Int32Builder::new(), StringBuilder::new());
        for pairs in values {
            for (key, value) in pairs {
                builder.keys().append_value(key);
                builder.values().append_value(value);
            }
            builder.append(true).expect("each key has its value");
        }
        self.push(name, Arc::new(builder.finish()));
    }

    pub fn long_lists<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a Vec<i64>>) {
        let mut builder = ListBuilder::new(Int64Builder::new());
        for list in values {
            builder.values().append_slice(list);
            builder.append(true);
        }
        self.push(name, Arc::new(builder.finish()));
    }

    /// Adds all columns so far of `parts` as one, of rows; nothing if there are none.
    pub fn nested(&mut self, name: &str, parts: Self) {
        if parts.fields.is_empty() {
            return;
        }
        self.push(name, Arc::new(StructArray::new(Fields::from(parts.fields), parts.arrays, None)));
    }

    /// # Errors
    /// None that columns of one length could cause.
    pub fn finish(self) -> Result<RecordBatch> {
        let rows = self.arrays.first().map_or(0, |array| array.len());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(self.fields)), self.arrays, &options)?)
    }
}

/// An array of values of one type.
///
/// # Errors
/// When a value has another type.
pub(super) fn array_of(data_type: &DataType, values: Vec<ScalarValue>) -> Result<ArrayRef> {
    match values.is_empty() {
        true => Ok(new_empty_array(data_type)),
        false => Ok(ScalarValue::iter_to_array(values)?),
    }
}

fn entries() -> MapFieldNames {
    MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() }
}
