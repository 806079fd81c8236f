//! Table metadata: the JSON file that says all about an Iceberg table at one version.
//!
//! What other writers put there and we do not know is kept and written back.
//!
//! Source: <https://iceberg.apache.org/spec/#table-metadata-fields>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schema::{Primitive, Schema};
use super::transform;
use crate::error::{Error, Result};
use crate::format::partition::{PartitionField, Transform};

/// The branch that readers see.
pub(super) const MAIN: &str = "main";
/// The table property that holds the table's comment.
pub(super) const COMMENT_PROPERTY: &str = "comment";
/// Partition field ids begin behind this one.
pub(super) const PARTITION_ID_BEFORE_FIRST: i32 = 999;

/// A table at one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableMetadata {
    pub format_version: u8,
    pub table_uuid: String,
    /// The absolute URL of the table's folder.
    pub location: String,
    pub last_sequence_number: i64,
    pub last_updated_ms: i64,
    pub last_column_id: i32,
    pub schemas: Vec<Schema>,
    pub current_schema_id: i32,
    pub partition_specs: Vec<PartitionSpec>,
    pub default_spec_id: i32,
    pub last_partition_id: i32,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_snapshot_id: Option<i64>,
    #[serde(default)]
    pub snapshots: Vec<TableSnapshot>,
    #[serde(default)]
    pub snapshot_log: Vec<SnapshotLog>,
    #[serde(default)]
    pub metadata_log: Vec<MetadataLog>,
    pub sort_orders: Vec<SortOrder>,
    pub default_sort_order_id: i32,
    #[serde(default)]
    pub refs: BTreeMap<String, Reference>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
    /// The URL of the file that holds this version.
    #[serde(skip)]
    pub url: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionSpec {
    pub spec_id: i32,
    pub fields: Vec<SpecField>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SpecField {
    pub source_id: i32,
    pub field_id: i32,
    pub name: String,
    #[serde(with = "transform")]
    pub transform: Transform,
}

/// The files of a table at one time, by its manifest list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableSnapshot {
    pub snapshot_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_snapshot_id: Option<i64>,
    #[serde(default)]
    pub sequence_number: i64,
    pub timestamp_ms: i64,
    /// The absolute URL of the manifest list.
    pub manifest_list: String,
    /// `operation`, and counts as text.
    pub summary: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotLog {
    pub timestamp_ms: i64,
    pub snapshot_id: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetadataLog {
    pub timestamp_ms: i64,
    pub metadata_file: String,
}

/// Fields are kept as they are: we neither sort nor rely on an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SortOrder {
    pub order_id: i32,
    pub fields: Vec<Value>,
}

/// A branch or a tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reference {
    pub snapshot_id: i64,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// One value of a partition tuple.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PartitionColumn {
    pub field_id: i32,
    pub name: String,
    pub source_id: i32,
    pub transform: Transform,
    pub kind: Primitive,
}

impl TableMetadata {
    /// Reads the metadata file at `url`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a format version other than 2, [`Error::CorruptFile`] for what is
    /// no table metadata.
    pub(super) fn parse(url: &str, bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason: String| Error::CorruptFile { path: url.to_owned(), reason };
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Version {
            format_version: u8,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
        if version.format_version != 2 {
            let version = version.format_version;
            return Err(Error::Unsupported(format!("Iceberg tables of format version {version}, only 2")));
        }
        let mut metadata: Self = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
        url.clone_into(&mut metadata.url);
        metadata.check().map_err(corrupt)?;
        Ok(metadata)
    }

    /// Whether the ids that it names exist, on which the accessors rely.
    pub(super) fn check(&self) -> Result<(), String> {
        self.schema(self.current_schema_id).ok_or("its current schema is missing")?;
        self.spec(self.default_spec_id).ok_or("its default partition spec is missing")?;
        match self.current_snapshot_id.filter(|id| *id != -1) {
            Some(id) if self.snapshot(id).is_none() => Err("its current snapshot is missing".to_owned()),
            _ => Ok(()),
        }
    }

    pub fn current_schema(&self) -> &Schema {
        self.schema(self.current_schema_id).expect("metadata is checked to hold its current schema")
    }

    pub fn schema(&self, id: i32) -> Option<&Schema> {
        self.schemas.iter().find(|schema| schema.schema_id == id)
    }

    pub fn default_spec(&self) -> &PartitionSpec {
        self.spec(self.default_spec_id).expect("metadata is checked to hold its default partition spec")
    }

    pub fn spec(&self, id: i32) -> Option<&PartitionSpec> {
        self.partition_specs.iter().find(|spec| spec.spec_id == id)
    }

    pub fn snapshot(&self, id: i64) -> Option<&TableSnapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.snapshot_id == id)
    }

    /// Returns the snapshot that readers see; `None` for a table that nothing was written to.
    pub fn current_snapshot(&self) -> Option<&TableSnapshot> {
        self.snapshot(self.current_snapshot_id?)
    }

    /// Returns by what new files are partitioned, in order.
    pub fn partition_fields(&self) -> Vec<PartitionField> {
        let schema = self.current_schema();
        let field = |field: &SpecField| {
            let source = schema.fields.iter().find(|column| column.id == field.source_id)?;
            let (source, name) = (source.name.clone(), field.name.clone());
            Some(PartitionField { source, name, transform: field.transform })
        };
        self.default_spec().fields.iter().filter_map(field).collect()
    }

    /// Returns the table's comment.
    pub fn comment(&self) -> Option<&str> {
        self.properties.get(COMMENT_PROPERTY).map(String::as_str)
    }

    /// Returns the number of rows, where the last writer kept it.
    pub fn row_count(&self) -> Option<u64> {
        match self.current_snapshot() {
            Some(snapshot) => snapshot.summary.get("total-records")?.parse().ok(),
            None => Some(0),
        }
    }

    /// Returns the bytes of the data files, where the last writer kept them.
    pub fn size_bytes(&self) -> Option<u64> {
        match self.current_snapshot() {
            Some(snapshot) => snapshot.summary.get("total-files-size")?.parse().ok(),
            None => Some(0),
        }
    }

    /// Returns the number that begins the metadata file's name, as in `00007-<uuid>` or `v7`.
    pub(super) fn version(&self) -> u64 {
        version_in(&self.url)
    }

    /// Returns the partition tuple's columns under the spec with this id.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] when the spec, or a column that it is computed from, is missing.
    pub(super) fn partition_columns(&self, spec_id: i32) -> Result<Vec<PartitionColumn>> {
        let corrupt = |reason: String| Error::CorruptFile { path: self.url.clone(), reason };
        let spec =
            self.spec(spec_id).ok_or_else(|| corrupt(format!("it has no partition spec {spec_id}")))?;
        let column = |field: &SpecField| {
            let kind = self.result_type(field).ok_or_else(|| {
                corrupt(format!(
                    "partition field \"{}\" has no type that fits {}",
                    field.name, field.transform
                ))
            })?;
            let SpecField { source_id, field_id, name, transform } = field.clone();
            Ok(PartitionColumn { field_id, name, source_id, transform, kind })
        };
        spec.fields.iter().map(column).collect()
    }

    /// The type of a partition value; its source may be gone from the current schema.
    fn result_type(&self, field: &SpecField) -> Option<Primitive> {
        let newest_first = std::iter::once(self.current_schema()).chain(self.schemas.iter().rev());
        let source = newest_first.into_iter().find_map(|schema| schema.primitive(field.source_id))?;
        field.transform.result(source)
    }
}

/// The number that begins the name of the metadata file at `url`.
pub(super) fn version_in(url: &str) -> u64 {
    let name = url.rsplit('/').next().unwrap_or_default().trim_start_matches('v');
    let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    name[..digits].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_survives_reading_and_writing() {
        let json = serde_json::json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "s3://bucket/table", "last-sequence-number": 34, "last-updated-ms": 1602638573590i64,
            "last-column-id": 3, "current-schema-id": 1,
            "schemas": [{"type": "struct", "schema-id": 1, "identifier-field-ids": [1], "fields": [
                {"id": 1, "name": "x", "required": true, "type": "long"},
                {"id": 2, "name": "y", "required": true, "type": "long", "doc": "comment"}]}],
            "default-spec-id": 0, "last-partition-id": 1000,
            "partition-specs": [{"spec-id": 0, "fields": [
                {"name": "x_bucket", "transform": "bucket[4]", "source-id": 1, "field-id": 1000}]}],
            "default-sort-order-id": 3,
            "sort-orders": [{"order-id": 3, "fields": [
                {"transform": "identity", "source-id": 2, "direction": "asc", "null-order": "nulls-first"}]}],
            "properties": {"read.split.target.size": "134217728"},
            "current-snapshot-id": 3055729675574597004i64,
            "snapshots": [{"snapshot-id": 3055729675574597004i64, "timestamp-ms": 1555100955770i64,
                "sequence-number": 1, "summary": {"operation": "append"}, "manifest-list": "s3://a/b/2.avro",
                "schema-id": 1, "first-row-id": 7}],
            "snapshot-log": [{"snapshot-id": 3055729675574597004i64, "timestamp-ms": 1555100955770i64}],
            "metadata-log": [{"metadata-file": "s3://bucket/.../v1.json", "timestamp-ms": 1515100}],
            "refs": {"main": {"snapshot-id": 3055729675574597004i64, "type": "branch", "max-ref-age-ms": 9}},
            "statistics": [{"snapshot-id": 1}],
        });
        let url = "s3://bucket/table/metadata/00007-aa.metadata.json";
        let metadata = TableMetadata::parse(url, json.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&metadata).unwrap(), json);
        assert_eq!(metadata.version(), 7);
        assert_eq!(metadata.partition_fields()[0].transform, Transform::Bucket(4));
        assert_eq!(metadata.partition_columns(0).unwrap()[0].kind, Primitive::Int);

        let old = json.to_string().replace("\"format-version\":2", "\"format-version\":1");
        assert!(matches!(TableMetadata::parse(url, old.as_bytes()), Err(Error::Unsupported(_))));
        let broken = json.to_string().replace("\"current-schema-id\":1", "\"current-schema-id\":2");
        assert!(matches!(TableMetadata::parse(url, broken.as_bytes()), Err(Error::CorruptFile { .. })));
    }
}
