//! Manifest lists: the Avro file that names all manifests of a snapshot, with counts and bounds.
//!
//! Source: <https://iceberg.apache.org/spec/#manifest-lists>

use datafusion::common::ScalarValue;
use serde_json::{Value as Json, json};

use super::avro::{self, Columns, Row, Value};
use super::bound;
use super::metadata::PartitionColumn;
use crate::error::{Error, Result};

/// A manifest, as its list describes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ManifestFile {
    /// Absolute URL.
    pub url: String,
    pub length: i64,
    pub spec_id: i32,
    /// 0 for data files, 1 for delete files.
    pub content: i64,
    pub sequence_number: i64,
    pub min_sequence_number: i64,
    pub added_snapshot_id: i64,
    pub added_files: i64,
    pub existing_files: i64,
    pub deleted_files: i64,
    pub added_rows: i64,
    pub existing_rows: i64,
    pub deleted_rows: i64,
    pub partitions: Vec<FieldSummary>,
    pub key_metadata: Option<Vec<u8>>,
}

impl ManifestFile {
    pub fn live_files(&self) -> i64 {
        self.added_files + self.existing_files
    }

    /// Whether another list speaks of the same manifest, and says the same of what is in it.
    pub fn is(&self, other: &Self) -> bool {
        let counts = |one: &Self| {
            [one.added_files, one.existing_files, one.deleted_files, one.added_rows, one.existing_rows]
        };
        (&self.url, self.length, self.spec_id, self.content, self.sequence_number)
            == (&other.url, other.length, other.spec_id, other.content, other.sequence_number)
            && counts(self) == counts(other)
    }

    pub fn live_rows(&self) -> i64 {
        self.added_rows + self.existing_rows
    }
}

/// What the files of a manifest have in common in one partition field.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FieldSummary {
    pub contains_null: bool,
    pub contains_nan: Option<bool>,
    pub lower: Option<Vec<u8>>,
    pub upper: Option<Vec<u8>>,
}

/// Gathers the summaries of a manifest's partition fields.
pub(super) struct Partitions<'a> {
    columns: &'a [PartitionColumn],
    summaries: Vec<(bool, bool, Option<ScalarValue>, Option<ScalarValue>)>,
}

impl<'a> Partitions<'a> {
    pub fn new(columns: &'a [PartitionColumn]) -> Self {
        Self { columns, summaries: vec![(false, false, None, None); columns.len()] }
    }

    pub fn include(&mut self, tuple: &[ScalarValue]) {
        for ((has_null, has_nan, lower, upper), value) in self.summaries.iter_mut().zip(tuple) {
            if value.is_null() {
                *has_null = true;
            } else if is_nan(value) {
                *has_nan = true;
            } else {
                if lower.as_ref().is_none_or(|lower| value < lower) {
                    *lower = Some(value.clone());
                }
                if upper.as_ref().is_none_or(|upper| value > upper) {
                    *upper = Some(value.clone());
                }
            }
        }
    }

    pub fn finish(self) -> Vec<FieldSummary> {
        let columns = self.columns.iter();
        columns
            .zip(self.summaries)
            .map(|(column, (contains_null, has_nan, lower, upper))| FieldSummary {
                contains_null,
                contains_nan: Some(has_nan),
                lower: lower.and_then(|value| bound::encode(column.kind, &value)),
                upper: upper.and_then(|value| bound::encode(column.kind, &value)),
            })
            .collect()
    }
}

fn is_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float32(Some(value)) => value.is_nan(),
        ScalarValue::Float64(Some(value)) => value.is_nan(),
        _ => false,
    }
}

/// Encodes the list of a snapshot.
pub(super) fn write(
    manifests: &[ManifestFile],
    snapshot_id: i64,
    parent_id: Option<i64>,
    sequence_number: i64,
) -> Vec<u8> {
    let metadata = [
        ("snapshot-id", snapshot_id.to_string()),
        ("parent-snapshot-id", parent_id.map_or_else(|| "null".to_owned(), |id| id.to_string())),
        ("sequence-number", sequence_number.to_string()),
        ("format-version", "2".to_owned()),
    ];
    avro::write(&schema(), &metadata, manifests.iter().map(encode))
}

/// Decodes the list at `url`.
///
/// # Errors
/// [`Error::CorruptFile`] when the bytes are no manifest list.
pub(super) fn read(url: &str, bytes: &[u8]) -> Result<Vec<ManifestFile>> {
    let mut manifests = Vec::new();
    avro::read(bytes, |columns, row| {
        manifests.push(decode(columns, row)?);
        Ok(())
    })
    .map_err(|reason| Error::CorruptFile { path: url.to_owned(), reason })?;
    Ok(manifests)
}

fn schema() -> Json {
    let required = |name: &str, id: i32, kind: &str| json!({"name": name, "type": kind, "field-id": id});
    let optional = |name: &str, id: i32, kind: Json| json!({"name": name, "type": ["null", kind], "default": null, "field-id": id});
    let summary = json!({"type": "record", "name": "r508", "fields": [
        required("contains_null", 509, "boolean"),
        optional("contains_nan", 518, json!("boolean")),
        optional("lower_bound", 510, json!("bytes")),
        optional("upper_bound", 511, json!("bytes")),
    ]});
    json!({"type": "record", "name": "manifest_file", "fields": [
        required("manifest_path", 500, "string"),
        required("manifest_length", 501, "long"),
        required("partition_spec_id", 502, "int"),
        required("content", 517, "int"),
        required("sequence_number", 515, "long"),
        required("min_sequence_number", 516, "long"),
        required("added_snapshot_id", 503, "long"),
        required("added_files_count", 504, "int"),
        required("existing_files_count", 505, "int"),
        required("deleted_files_count", 506, "int"),
        required("added_rows_count", 512, "long"),
        required("existing_rows_count", 513, "long"),
        required("deleted_rows_count", 514, "long"),
        optional("partitions", 507, json!({"type": "array", "items": summary, "element-id": 508})),
        optional("key_metadata", 519, json!("bytes")),
    ]})
}

fn encode(manifest: &ManifestFile) -> Row {
    let mut row = Row::default();
    row.bytes(manifest.url.as_bytes());
    for number in [
        manifest.length,
        manifest.spec_id.into(),
        manifest.content,
        manifest.sequence_number,
        manifest.min_sequence_number,
        manifest.added_snapshot_id,
        manifest.added_files,
        manifest.existing_files,
        manifest.deleted_files,
        manifest.added_rows,
        manifest.existing_rows,
        manifest.deleted_rows,
    ] {
        row.long(number);
    }
    row.optional(Some(&manifest.partitions), |row, summaries| row.array(summaries, encode_summary));
    row.optional(manifest.key_metadata.as_ref(), |row, bytes| row.bytes(bytes));
    row
}

fn encode_summary(row: &mut Row, summary: &FieldSummary) {
    row.boolean(summary.contains_null);
    row.optional(summary.contains_nan, Row::boolean);
    row.optional(summary.lower.as_ref(), |row, bytes| row.bytes(bytes));
    row.optional(summary.upper.as_ref(), |row, bytes| row.bytes(bytes));
}

fn decode(columns: &Columns, mut row: Vec<Value>) -> Result<ManifestFile, String> {
    let Value::Bytes(url) = columns.take(&mut row, 500) else {
        return Err("a manifest has no path".to_owned());
    };
    let partitions = match (columns.of(507), columns.take(&mut row, 507)) {
        (Some(columns), Value::Array(summaries)) => {
            summaries.into_iter().filter_map(|summary| decode_summary(columns, summary)).collect()
        }
        _ => Vec::new(),
    };
    // Tables that began as version 1 may leave counts out; to take them for zero would lose files.
    let mut number = |id| match columns.take(&mut row, id) {
        Value::Long(number) => Ok(number),
        _ => Err(format!("a manifest lacks field {id}, which version 2 demands")),
    };
    Ok(ManifestFile {
        url: String::from_utf8(url).map_err(|_| "a manifest's path is no text")?,
        length: number(501)?,
        spec_id: i32::try_from(number(502)?).map_err(|_| "a partition spec's id is too large")?,
        content: number(517)?,
        sequence_number: number(515)?,
        min_sequence_number: number(516)?,
        added_snapshot_id: number(503)?,
        added_files: number(504)?,
        existing_files: number(505)?,
        deleted_files: number(506)?,
        added_rows: number(512)?,
        existing_rows: number(513)?,
        deleted_rows: number(514)?,
        partitions,
        key_metadata: bytes(columns.take(&mut row, 519)),
    })
}

fn decode_summary(columns: &Columns, summary: Value) -> Option<FieldSummary> {
    let Value::Record(mut summary) = summary else { return None };
    let mut flag = |id| match columns.take(&mut summary, id) {
        Value::Boolean(flag) => Some(flag),
        _ => None,
    };
    Some(FieldSummary {
        contains_null: flag(509)?,
        contains_nan: flag(518),
        lower: bytes(columns.take(&mut summary, 510)),
        upper: bytes(columns.take(&mut summary, 511)),
    })
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
