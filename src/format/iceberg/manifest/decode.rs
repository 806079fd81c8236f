//! Reading a manifest.

use std::sync::Arc;

use datafusion::common::ScalarValue;

use super::{Entry, FileEntry, Status, id};
use crate::error::{Error, Result};
use crate::format::iceberg::avro::{self, Columns, Value};
use crate::format::iceberg::bound;
use crate::format::iceberg::manifest_list::ManifestFile;
use crate::format::iceberg::metadata::PartitionColumn;
use crate::format::iceberg::schema::Primitive;

/// Decodes the entries of the manifest that `listed` names, its partitions being of `partition`.
///
/// An entry without a snapshot id takes that of the manifest; one without sequence numbers, if it
/// was added, takes the manifest's.
///
/// # Errors
/// [`Error::CorruptFile`] when the bytes are no manifest.
pub(in super::super) fn read(
    listed: &ManifestFile,
    bytes: &[u8],
    partition: &[PartitionColumn],
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    avro::read(bytes, |columns, row| {
        let mut entry = entry(columns, row, partition)?;
        inherit(&mut entry, listed);
        entries.push(entry);
        Ok(())
    })
    .map_err(|reason| Error::CorruptFile { path: listed.url.clone(), reason })?;
    Ok(entries)
}

fn inherit(entry: &mut Entry, listed: &ManifestFile) {
    entry.snapshot_id.get_or_insert(listed.added_snapshot_id);
    if entry.status == Status::Added || listed.sequence_number == 0 {
        entry.sequence_number.get_or_insert(listed.sequence_number);
        entry.file_sequence_number.get_or_insert(listed.sequence_number);
    }
}

fn entry(columns: &Columns, mut row: Vec<Value>, partition: &[PartitionColumn]) -> Result<Entry, String> {
    let status = match columns.take(&mut row, id::STATUS) {
        Value::Long(0) => Status::Existing,
        Value::Long(1) => Status::Added,
        Value::Long(2) => Status::Deleted,
        other => return Err(format!("an entry has status {other:?}")),
    };
    let (Value::Record(file), Some(file_columns)) =
        (columns.take(&mut row, id::DATA_FILE), columns.of(id::DATA_FILE))
    else {
        return Err("an entry has no data file".to_owned());
    };
    Ok(Entry {
        status,
        snapshot_id: long(columns.take(&mut row, id::SNAPSHOT_ID)),
        sequence_number: long(columns.take(&mut row, id::SEQUENCE_NUMBER)),
        file_sequence_number: long(columns.take(&mut row, id::FILE_SEQUENCE_NUMBER)),
        file: Arc::new(file_entry(file_columns, file, partition)?),
    })
}

fn file_entry(
    columns: &Columns,
    mut row: Vec<Value>,
    partition: &[PartitionColumn],
) -> Result<FileEntry, String> {
    let mut field = |id| columns.take(&mut row, id);
    Ok(FileEntry {
        content: long(field(id::CONTENT)).unwrap_or(0),
        url: text(field(id::FILE_PATH)).ok_or("a data file has no path")?,
        format: text(field(id::FILE_FORMAT)).ok_or("a data file has no format")?,
        partition: tuple(columns.of(id::PARTITION), field(id::PARTITION), partition)?,
        row_count: long(field(id::RECORD_COUNT)).ok_or("a data file has no row count")?,
        size_bytes: long(field(id::FILE_SIZE)).ok_or("a data file has no size")?,
        column_sizes: pairs(field(id::COLUMN_SIZES), long),
        value_counts: pairs(field(id::VALUE_COUNTS), long),
        null_value_counts: pairs(field(id::NULL_VALUE_COUNTS), long),
        nan_value_counts: pairs(field(id::NAN_VALUE_COUNTS), long),
        lower_bounds: pairs(field(id::LOWER_BOUNDS), bytes),
        upper_bounds: pairs(field(id::UPPER_BOUNDS), bytes),
        key_metadata: bytes(field(id::KEY_METADATA)),
        split_offsets: longs(field(id::SPLIT_OFFSETS)),
        equality_ids: longs(field(id::EQUALITY_IDS)),
        sort_order_id: long(field(id::SORT_ORDER_ID)),
    })
}

fn tuple(
    columns: Option<&Columns>,
    value: Value,
    partition: &[PartitionColumn],
) -> Result<Vec<ScalarValue>, String> {
    let mut record = match value {
        Value::Record(record) => record,
        _ => Vec::new(),
    };
    let mut scalar_of = |column: &PartitionColumn| {
        let value = columns
            .map_or(Value::Null, |columns| columns.take_or_named(&mut record, column.field_id, &column.name));
        scalar(column.kind, value).ok_or_else(|| format!("partition value \"{}\" is damaged", column.name))
    };
    partition.iter().map(&mut scalar_of).collect()
}

/// The canonical value of type `kind` that a partition tuple holds.
pub(super) fn scalar(kind: Primitive, value: Value) -> Option<ScalarValue> {
    let value = match (kind, value) {
        (_, Value::Null) => return ScalarValue::try_from(kind.data_type()).ok(),
        (Primitive::Boolean, Value::Boolean(value)) => ScalarValue::Boolean(Some(value)),
        (Primitive::Int, Value::Long(value)) => ScalarValue::Int32(Some(value.try_into().ok()?)),
        (Primitive::Date, Value::Long(value)) => ScalarValue::Date32(Some(value.try_into().ok()?)),
        (Primitive::Float, Value::Float(value)) => ScalarValue::Float32(Some(value)),
        (Primitive::Double, Value::Double(value)) => ScalarValue::Float64(Some(value)),
        (Primitive::Double, Value::Float(value)) => ScalarValue::Float64(Some(value.into())),
        (_, Value::Long(value)) => bound::decode(kind, &value.to_le_bytes())?,
        (_, Value::Bytes(bytes)) => bound::decode(kind, &bytes)?,
        _ => return None,
    };
    Some(value)
}

fn long(value: Value) -> Option<i64> {
    match value {
        Value::Long(value) => Some(value),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

fn longs(value: Value) -> Vec<i64> {
    match value {
        Value::Array(items) => items.into_iter().filter_map(long).collect(),
        _ => Vec::new(),
    }
}

/// A map of ints, sorted by them. Both fields of a pair always stand in this order.
fn pairs<T>(value: Value, read: impl Fn(Value) -> Option<T>) -> Vec<(i32, T)> {
    let Value::Array(items) = value else {
        return Vec::new();
    };
    let pair = |item| {
        let Value::Record(pair) = item else { return None };
        let [key, value] = <[Value; 2]>::try_from(pair).ok()?;
        Some((i32::try_from(long(key)?).ok()?, read(value)?))
    };
    let mut pairs: Vec<_> = items.into_iter().filter_map(pair).collect();
    pairs.sort_unstable_by_key(|(key, _)| *key);
    pairs
}
