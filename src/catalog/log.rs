//! The log of a lake: numbered commits, each one object, put once.
//!
//! An entry holds what one transaction changed in the whole lake, or several that committed at one
//! moment. This module decides how entries are named, written and read; what they mean to the state is
//! decided in [`state`](super::state), and who may commit in [`lake`](super::lake).

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
    /// Of all members, one member after the other.
    pub operations: Vec<Operation>,
    pub deps: Vec<Dependency>,
    /// The transactions that share the entry, the one named above first; empty when it is alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// One of several transactions in an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub transaction: String,
    pub user: String,
    pub query: String,
    /// How many of the entry's operations are its own; they follow those of the members before it.
    pub operations: usize,
}

impl LogEntry {
    /// Whether a transaction is in this entry.
    pub fn holds(&self, transaction: &str) -> bool {
        self.transaction == transaction || self.members.iter().any(|member| member.transaction == transaction)
    }

    /// User and query of the last transaction in it that touched a relation; of a schema without `name`.
    pub fn who_touched(&self, schema: &str, name: Option<&str>) -> Option<(&str, &str)> {
        let mut last = self.operations.iter().rposition(|operation| operation.touches(schema, name))?;
        for member in &self.members {
            if last < member.operations {
                return Some((&member.user, &member.query));
            }
            last -= member.operations;
        }
        Some((&self.user, &self.query))
    }
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
    /// Makes a branch, or changes its record.
    PutBranch {
        name: String,
        branch: BranchRecord,
    },
    /// Ends a branch.
    DropBranch {
        name: String,
    },
    /// In a branch's own log: takes no more commits.
    Seal,
    /// In a branch's own log: takes commits again.
    Unseal,
}

impl Operation {
    /// Whether it changes a relation, or anything in a schema when `wanted` is none.
    pub fn touches(&self, wanted_schema: &str, wanted: Option<&str>) -> bool {
        let is =
            |schema: &str, name: &str| schema == wanted_schema && wanted.is_none_or(|wanted| wanted == name);
        match self {
            Self::CreateSchema { schema, .. } => schema == wanted_schema && wanted.is_none(),
            Self::DropSchema { schema } => schema == wanted_schema,
            Self::PutTable { schema, name, .. }
            | Self::PutView { schema, name, .. }
            | Self::Drop { schema, name } => is(schema, name),
            Self::Rename { schema, name, to_schema, to_name } => is(schema, name) || is(to_schema, to_name),
            Self::Comment { schema, name, .. } => is(schema, name.as_deref().unwrap_or_default()),
            Self::PutBranch { .. } | Self::DropBranch { .. } | Self::Seal | Self::Unseal => false,
        }
    }
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
    /// The metadata file of the version that has these rows, where upkeep alone has come after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
    /// Of a materialized view, what it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub materialized: Option<Box<MaterializedRecord>>,
}

/// What the log holds of a materialized view, beside the table of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaterializedRecord {
    /// The query; its comment is the table's.
    pub view: ViewRecord,
    /// Whether its rows are those of the query at some time.
    pub populated: bool,
}

impl TableRecord {
    /// Names the rows and columns of this version: upkeep leaves it as it is, other changes do not.
    pub fn rows_version(&self) -> &str {
        self.rows.as_ref().unwrap_or(&self.metadata)
    }

    /// Whether this is the version of that metadata file, or one with the same rows.
    pub fn is_at(&self, metadata: &str) -> bool {
        self.metadata == metadata || self.rows_version() == metadata
    }

    /// Moves the record to a new version of the table.
    pub fn advance(&mut self, metadata: String, is_upkeep: bool) {
        self.rows = is_upkeep.then(|| self.rows_version().to_owned());
        self.metadata = metadata;
    }
}

/// What the log holds of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchRecord {
    pub id: String,
    /// Where its own log lies, relative to the root.
    pub directory: String,
    /// The version of the trunk that it grew from.
    pub base: u64,
    /// Raised when a merge fails.
    pub epoch: u64,
    pub user: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
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
    /// What the query called the column when the view was made; unknown of views from before it was
    /// kept, whose columns are found by their places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What a transaction relied upon; a commit fails when it no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum Dependency {
    Schema {
        schema: String,
    },
    /// No CREATE SCHEMA made one of this name.
    AbsentSchema {
        schema: String,
    },
    /// The schema holds nothing but these, or less.
    SchemaHolds {
        schema: String,
        names: Vec<String>,
    },
    /// Nothing by this name exists.
    Absent {
        schema: String,
        name: String,
    },
    /// The relation still exists; with `metadata`, with exactly the rows of this version.
    Table {
        schema: String,
        name: String,
        id: String,
        metadata: Option<String>,
    },
    /// The branch still exists, and no merge of it has failed since.
    Branch {
        name: String,
        id: String,
        epoch: u64,
    },
    AbsentBranch {
        name: String,
    },
    /// No table of this id is in the lake, under whatever name.
    Gone {
        schema: String,
        name: String,
        id: String,
    },
    /// The view still exists; with `sql`, with exactly this query.
    View {
        schema: String,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sql: Option<String>,
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
    /// Its folder, relative to the root.
    folder: String,
}

impl Log {
    /// The log in `folder`: `_lacus`, or that of a branch.
    pub fn new(location: Location, folder: &str) -> Self {
        Self { location, folder: folder.to_owned() }
    }

    /// The path of an object of the log.
    pub fn child(&self, relative: &str) -> Path {
        self.location.child(&format!("{}/{relative}", self.folder))
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
        self.child(&format!("log/{version:020}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_from_before_there_were_groups_is_read() {
        let text = r#"{"version": 7, "transaction": "a", "time_ms": 1, "writer": "lacus 0.1.0",
            "user": "ada", "query": "q1", "operations": [{"op": "drop", "schema": "s", "name": "t"}],
            "deps": [{"on": "view", "schema": "s", "name": "t"}]}"#;
        let entry: LogEntry = serde_json::from_str(text).unwrap();
        assert!(entry.holds("a") && !entry.holds("b"));
        assert_eq!(entry.who_touched("s", Some("t")), Some(("ada", "q1")));
        let again = serde_json::to_string(&entry).unwrap();
        assert!(!again.contains("members"), "alone, an entry looks as it always did: {again}");
    }

    #[test]
    fn each_member_answers_for_its_own_operations() {
        let drop = |name: &str| Operation::Drop { schema: "s".into(), name: name.into() };
        let member = |transaction: &str, user: &str, operations| Member {
            transaction: transaction.into(),
            user: user.into(),
            query: format!("query of {user}"),
            operations,
        };
        let entry = LogEntry {
            version: 1,
            transaction: "a".into(),
            time_ms: 0,
            writer: String::new(),
            user: "ada".into(),
            query: "query of ada".into(),
            operations: vec![drop("one"), drop("two"), drop("three")],
            deps: Vec::new(),
            members: vec![member("a", "ada", 1), member("b", "bob", 2)],
        };
        assert!(entry.holds("b"));
        let user = |name| entry.who_touched("s", Some(name)).map(|(user, _)| user);
        assert_eq!((user("one"), user("two"), user("three")), (Some("ada"), Some("bob"), Some("bob")));
        assert_eq!((user("four"), entry.who_touched("s", None).map(|who| who.0)), (None, Some("bob")));
    }
}
