//! Writing a manifest.

use bytes::Bytes;
use datafusion::common::ScalarValue;

use super::avro_schema::{decimal_bytes, manifest_entry};
use super::{Entry, FileEntry, Status};
use crate::error::{Error, Result};
use crate::format::iceberg::avro::{self, Row};
use crate::format::iceberg::bound;
use crate::format::iceberg::manifest_list::{ManifestFile, Partitions};
use crate::format::iceberg::metadata::{PartitionColumn, TableMetadata};
use crate::format::iceberg::schema::Primitive;

/// A manifest that is encoded and not yet stored.
pub(in super::super) struct NewManifest {
    pub bytes: Bytes,
    /// What the manifest list says of it.
    pub listed: ManifestFile,
}

/// Encodes a manifest of `entries`, whose partitions are of the spec `spec_id`, to be stored at `url`
/// by the snapshot `snapshot_id`.
///
/// # Errors
/// [`Error::CorruptFile`] when the spec is missing from `metadata`.
pub(in super::super) fn build(
    metadata: &TableMetadata,
    spec_id: i32,
    snapshot_id: i64,
    sequence_number: i64,
    url: String,
    entries: &[Entry],
) -> Result<NewManifest> {
    let partition = metadata.partition_columns(spec_id)?;
    let rows = entries.iter().map(|entry| encode_entry(entry, &partition));
    let bytes = avro::write(&manifest_entry(&partition), &header(metadata, spec_id)?, rows);
    let mut listed = ManifestFile {
        url,
        length: bytes.len() as i64,
        spec_id,
        content: 0,
        sequence_number,
        min_sequence_number: sequence_number,
        added_snapshot_id: snapshot_id,
        ..ManifestFile::default()
    };
    let mut partitions = Partitions::new(&partition);
    for entry in entries {
        count(&mut listed, entry);
        partitions.include(&entry.file.partition);
    }
    listed.partitions = partitions.finish();
    Ok(NewManifest { bytes: bytes.into(), listed })
}

fn header(metadata: &TableMetadata, spec_id: i32) -> Result<Vec<(&'static str, String)>> {
    let internal = |error: serde_json::Error| Error::Internal(format!("table metadata as JSON: {error}"));
    let fields = metadata.spec(spec_id).map(|spec| spec.fields.as_slice()).unwrap_or_default();
    Ok(vec![
        ("schema", serde_json::to_string(metadata.current_schema()).map_err(internal)?),
        ("schema-id", metadata.current_schema_id.to_string()),
        ("partition-spec", serde_json::to_string(fields).map_err(internal)?),
        ("partition-spec-id", spec_id.to_string()),
        ("format-version", "2".to_owned()),
        ("content", "data".to_owned()),
    ])
}

fn count(listed: &mut ManifestFile, entry: &Entry) {
    let (files, rows) = match entry.status {
        Status::Added => (&mut listed.added_files, &mut listed.added_rows),
        Status::Existing => (&mut listed.existing_files, &mut listed.existing_rows),
        Status::Deleted => (&mut listed.deleted_files, &mut listed.deleted_rows),
    };
    *files += 1;
    *rows += entry.file.row_count;
    if let (true, Some(number)) = (entry.is_live(), entry.sequence_number) {
        listed.min_sequence_number = listed.min_sequence_number.min(number);
    }
}

fn encode_entry(entry: &Entry, partition: &[PartitionColumn]) -> Row {
    let mut row = Row::default();
    row.long(entry.status as i64);
    row.optional(entry.snapshot_id, Row::long);
    row.optional(entry.sequence_number, Row::long);
    row.optional(entry.file_sequence_number, Row::long);
    encode_file(&mut row, &entry.file, partition);
    row
}

fn encode_file(row: &mut Row, file: &FileEntry, partition: &[PartitionColumn]) {
    row.long(file.content);
    row.bytes(file.url.as_bytes());
    row.bytes(file.format.as_bytes());
    for (column, value) in partition.iter().zip(&file.partition) {
        row.optional((!value.is_null()).then_some(value), |row, value| scalar(row, column.kind, value));
    }
    row.long(file.row_count);
    row.long(file.size_bytes);
    for counts in [&file.column_sizes, &file.value_counts, &file.null_value_counts, &file.nan_value_counts] {
        pairs(row, counts, |row, count| row.long(*count));
    }
    for bounds in [&file.lower_bounds, &file.upper_bounds] {
        pairs(row, bounds, |row, bytes| row.bytes(bytes));
    }
    row.optional(file.key_metadata.as_ref(), |row, bytes| row.bytes(bytes));
    for longs in [&file.split_offsets, &file.equality_ids] {
        row.optional((!longs.is_empty()).then_some(longs), |row, longs| {
            row.array(longs, |row, value| row.long(*value));
        });
    }
    row.optional(file.sort_order_id, Row::long);
}

fn pairs<T>(row: &mut Row, pairs: &[(i32, T)], value: impl Fn(&mut Row, &T)) {
    row.optional((!pairs.is_empty()).then_some(pairs), |row, pairs| {
        row.array(pairs, |row, (key, item)| {
            row.long((*key).into());
            value(row, item);
        });
    });
}

/// Encodes a canonical partition value that is not null.
fn scalar(row: &mut Row, kind: Primitive, value: &ScalarValue) {
    match value {
        ScalarValue::Boolean(Some(value)) => row.boolean(*value),
        ScalarValue::Int32(Some(value)) | ScalarValue::Date32(Some(value)) => row.long((*value).into()),
        ScalarValue::Int64(Some(value))
        | ScalarValue::Time64Microsecond(Some(value))
        | ScalarValue::TimestampMicrosecond(Some(value), _) => row.long(*value),
        ScalarValue::Float32(Some(value)) => row.float(*value),
        ScalarValue::Float64(Some(value)) => row.double(*value),
        ScalarValue::Decimal128(Some(value), precision, _) => {
            row.fixed(&value.to_be_bytes()[16 - decimal_bytes(*precision)..]);
        }
        ScalarValue::FixedSizeBinary(_, Some(value)) => row.fixed(value),
        other => row.bytes(&bound::encode(kind, other).unwrap_or_default()),
    }
}
