//! The log of a lake: numbered commits, each one object, put once.
//!
//! An entry holds what one transaction changed in the whole lake. This module decides how entries are
//! named, written and read; what they mean to the state is decided in [`state`](super::state), and
//! who may commit in [`lake`](super::lake).

use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::storage::{Location, PutOutcome};

/// The version of everything under `_lacus/` that this program reads and writes.
const FORMAT_VERSION: u32 = 1;

/// One commit of the whole lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    pub version: u64,
    /// Unique; tells a commit's writer that a slot holds its own entry after an ambiguous answer.
    pub transaction: String,
    /// Milliseconds since 1970, never earlier than the entry before.
    pub time_ms: i64,
    /// The program and its version.
    pub writer: String,
    pub user: String,
    pub query: String,
    pub operations: Vec<Operation>,
    pub deps: Vec<Dependency>,
}

/// One change to the names of a lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    CreateSchema {
        schema: String,
        comment: Option<String>,
    },
    DropSchema {
        schema: String,
    },
    /// Creates a table, or moves one to a new version.
    PutTable {
        schema: String,
        name: String,
        table: TableRecord,
    },
    PutView {
        schema: String,
        name: String,
        view: ViewRecord,
    },
    Rename {
        schema: String,
        name: String,
        to_schema: String,
        to_name: String,
    },
    /// Drops a table or a view.
    Drop {
        schema: String,
        name: String,
    },
    Comment {
        schema: String,
        name: Option<String>,
        comment: Option<String>,
    },
}

/// What the log holds of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Stays the same through renames and new versions.
    pub id: String,
    /// The table's folder, relative to the root; its name is that of the table when it was created.
    pub directory: String,
    /// The Iceberg metadata file of this version, relative to the root.
    pub metadata: String,
    pub comment: Option<String>,
}

/// What the log holds of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRecord {
    /// The query as it was written.
    pub sql: String,
    /// The columns as they were when the view was made.
    pub columns: Vec<ViewColumn>,
    /// Where the query's unqualified names are looked up.
    pub search_path: Vec<String>,
    pub comment: Option<String>,
}

/// One column of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewColumn {
    pub name: String,
    /// Arrow's name of the type.
    pub data_type: String,
}

/// What a transaction relied upon; a commit fails when it no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum Dependency {
    Schema {
        schema: String,
    },
    /// Nothing by this name exists.
    Absent {
        schema: String,
        name: String,
    },
    /// The relation still exists; with `metadata`, at exactly this version.
    Table {
        schema: String,
        name: String,
        id: String,
        metadata: Option<String>,
    },
    View {
        schema: String,
        name: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct FormatFile {
    format_version: u32,
}

/// The objects of one lake's log.
#[derive(Debug, Clone)]
pub struct Log {
    location: Location,
}

impl Log {
    pub fn new(location: Location) -> Self {
        Self { location }
    }

    /// Reads one slot; `None` where nothing was committed yet. Costs one GET.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] when the slot holds no entry of its own number.
    pub async fn read(&self, version: u64) -> Result<Option<LogEntry>> {
        let path = self.slot(version);
        let Some(bytes) = self.location.read(&path).await? else { return Ok(None) };
        let corrupt = |reason: String| Error::CorruptFile { path: path.to_string(), reason };
        let entry: LogEntry = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if entry.version != version {
            return Err(corrupt(format!("holds version {}", entry.version)));
        }
        Ok(Some(entry))
    }

    /// Puts an entry into its slot, if that is free. Costs one conditional PUT.
    ///
    /// # Errors
    /// What the store answers to the encoding; an unclear answer is a [`PutOutcome`], no error.
    pub async fn put(&self, entry: &LogEntry) -> Result<PutOutcome> {
        let bytes = serde_json::to_vec_pretty(entry).map_err(|error| Error::Internal(error.to_string()))?;
        self.location.put_if_absent(&self.slot(entry.version), Bytes::from(bytes)).await
    }

    /// Checks that this program may write the lake, and marks a new lake with the format's version.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a lake of a newer format.
    pub async fn ensure_format(&self) -> Result<()> {
        let path = self.location.child("_lacus/format.json");
        if let Some(bytes) = self.location.read(&path).await? {
            let corrupt = |error: serde_json::Error| Error::CorruptFile {
                path: path.to_string(),
                reason: error.to_string(),
            };
            let found: FormatFile = serde_json::from_slice(&bytes).map_err(corrupt)?;
            return match found.format_version {
                FORMAT_VERSION => Ok(()),
                newer => Err(Error::Unsupported(format!(
                    "the lake has format version {newer}; this program knows {FORMAT_VERSION}"
                ))),
            };
        }
        let bytes = format!("{{\"format_version\": {FORMAT_VERSION}}}\n");
        match self.location.put_if_absent(&path, Bytes::from(bytes)).await? {
            PutOutcome::Created | PutOutcome::Exists => Ok(()),
            PutOutcome::Ambiguous(error) => Err(error),
        }
    }

    fn slot(&self, version: u64) -> Path {
        self.location.child(&format!("_lacus/log/{version:020}.json"))
    }
}
