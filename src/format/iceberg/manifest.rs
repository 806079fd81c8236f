//! Manifests: Avro files that list data files, with what is known of each.
//!
//! Source: <https://iceberg.apache.org/spec/#manifests>

mod avro_schema;
mod decode;
mod encode;

use std::sync::Arc;

use datafusion::common::ScalarValue;

pub(super) use decode::read;
pub(super) use encode::build;

/// What a snapshot did to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Existing = 0,
    Added = 1,
    Deleted = 2,
}

/// One file in a manifest. Numbers that stand in the manifest list are filled in by reading.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub status: Status,
    pub snapshot_id: Option<i64>,
    pub sequence_number: Option<i64>,
    pub file_sequence_number: Option<i64>,
    pub file: Arc<FileEntry>,
}

impl Entry {
    pub fn is_live(&self) -> bool {
        self.status != Status::Deleted
    }
}

/// A data file and its metrics, by column id.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FileEntry {
    /// 0 for data, 1 and 2 for deletes.
    pub content: i64,
    /// Absolute URL.
    pub url: String,
    pub format: String,
    /// Canonical values, in the order of the manifest's partition spec.
    pub partition: Vec<ScalarValue>,
    pub row_count: i64,
    pub size_bytes: i64,
    pub column_sizes: Vec<(i32, i64)>,
    pub value_counts: Vec<(i32, i64)>,
    pub null_value_counts: Vec<(i32, i64)>,
    pub nan_value_counts: Vec<(i32, i64)>,
    pub lower_bounds: Vec<(i32, Vec<u8>)>,
    pub upper_bounds: Vec<(i32, Vec<u8>)>,
    pub key_metadata: Option<Vec<u8>>,
    pub split_offsets: Vec<i64>,
    pub equality_ids: Vec<i64>,
    pub sort_order_id: Option<i64>,
}

/// The field ids of a manifest's rows.
mod id {
    pub const STATUS: i32 = 0;
    pub const SNAPSHOT_ID: i32 = 1;
    pub const DATA_FILE: i32 = 2;
    pub const SEQUENCE_NUMBER: i32 = 3;
    pub const FILE_SEQUENCE_NUMBER: i32 = 4;
    pub const FILE_PATH: i32 = 100;
    pub const FILE_FORMAT: i32 = 101;
    pub const PARTITION: i32 = 102;
    pub const RECORD_COUNT: i32 = 103;
    pub const FILE_SIZE: i32 = 104;
    pub const COLUMN_SIZES: i32 = 108;
    pub const VALUE_COUNTS: i32 = 109;
    pub const NULL_VALUE_COUNTS: i32 = 110;
    pub const LOWER_BOUNDS: i32 = 125;
    pub const UPPER_BOUNDS: i32 = 128;
    pub const KEY_METADATA: i32 = 131;
    pub const SPLIT_OFFSETS: i32 = 132;
    pub const CONTENT: i32 = 134;
    pub const EQUALITY_IDS: i32 = 135;
    pub const NAN_VALUE_COUNTS: i32 = 137;
    pub const SORT_ORDER_ID: i32 = 140;
}
