//! Staging: a change to a table, written so that a commit has only to name its metadata file.
//!
//! Every file gets a name that was never used, so what is staged is invisible until a commit names it,
//! and staging again on a newer base, after another writer came first, is safe. All changes of one
//! call make at most one Iceberg snapshot. How a commit names the file is decided in the catalog.

mod definition;
mod evolve;
mod exchange;
mod pending;
mod rebase;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use chrono::Utc;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use uuid::Uuid;

pub(super) use self::definition::blank;
pub use self::evolve::{Evolution, Place};
pub(super) use self::evolve::{becomes, ensure_readable};
pub use self::exchange::{Exchange, added};
use self::pending::Pending;
pub use self::rebase::{as_written, ensure_rebasable};
use super::analysis::set_statistics;
use super::expire::{Expiry, expire};
use super::metadata::TableSnapshot;
use super::metadata::{COMMENT_PROPERTY, MAIN, MetadataLog, Reference, SnapshotLog, TableMetadata};
use super::read;
use super::rules::Rules;
use super::updates::{Update, apply_updates};
use crate::error::{Error, Result};
use crate::format::WrittenFile;
use crate::format::partition::PartitionField;
use crate::storage::Location;

/// Files that are stored at once.
const WRITES_MAX: usize = 8;
/// Earlier metadata files that a metadata file remembers.
const METADATA_LOG_MAX: usize = 100;

/// One change to a table.
#[derive(Debug, Clone)]
pub enum Change {
    /// Begins a table; only where there is none.
    Create(Definition),
    /// Makes another table of it: new columns and partitions, no rows. Its past stays readable.
    Replace(Definition),
    Append(Vec<WrittenFile>),
    /// Adds files that were written for an earlier version of the table, which it still knows.
    AppendAs {
        files: Vec<WrittenFile>,
        schema_id: i32,
        spec_id: i32,
    },
    Overwrite {
        add: Vec<WrittenFile>,
        remove: Removal,
    },
    /// Puts files of another version of the table in the place of its own.
    Exchange(Exchange),
    /// Puts files that hold the same rows in the place of others, at these paths within the store.
    Compact {
        add: Vec<WrittenFile>,
        remove: Vec<Path>,
    },
    /// Lets go of snapshots that are no longer kept.
    Expire(Expiry),
    /// Names a file of statistics, as an entry of `statistics` does.
    SetStatistics(serde_json::Value),
    /// Sets properties; `None` takes one away.
    SetProperties(BTreeMap<String, Option<String>>),
    SetComment(Option<String>),
    SetColumnComment {
        column: String,
        comment: Option<String>,
    },
    /// What another engine made of the table; makes one where there is none. Goes with no other change.
    Updates(Vec<Update>),
    /// Changes the columns; no file is touched.
    Evolve(Evolution),
    /// Partitions the files that are written from now on in another way; those that are there stay.
    Repartition(Vec<PartitionField>),
    /// Gives the table other defaults and constraints, which its rows were found to hold.
    SetRules(Rules),
}

impl Change {
    /// Whether the table has the same rows and columns after it.
    pub fn is_upkeep(&self) -> bool {
        matches!(self, Self::Compact { .. } | Self::Expire(_) | Self::SetStatistics(_))
    }

    /// Whether it only adds rows.
    pub fn is_append(&self) -> bool {
        matches!(self, Self::Append(_) | Self::AppendAs { .. })
    }
}

/// What `CREATE TABLE` says.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Columns of any type that [`storable_schema`](super::storable_schema) takes. Files must be
    /// written with the field ids that it, or [`replacement_schema`](super::replacement_schema), gives.
    pub schema: SchemaRef,
    pub partition: Vec<PartitionField>,
    pub properties: BTreeMap<String, String>,
    pub comment: Option<String>,
}

/// Which files an overwrite takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    All,
    /// Those of every partition that a new file is in; all of a table without partitions.
    Partitions,
    /// Exactly these paths within the location's store.
    Files(Vec<Path>),
}

/// A version of a table that a commit can name.
#[derive(Debug, Clone)]
pub struct Staged {
    pub metadata_url: String,
    pub metadata: Arc<TableMetadata>,
}

/// Writes the version of the table in `table_dir` that follows `base` by `changes`, in their order.
///
/// Costs a GET for the manifest list and for every manifest that an overwrite looks into or that is
/// merged; then all new files are stored at once, in about the time of one PUT.
///
/// # Errors
/// [`Error::CommitConflict`] when a file to remove is not in `base`, [`Error::Unsupported`] and
/// [`Error::ColumnNotFound`] for definitions that Iceberg cannot hold, and what the store returns.
pub async fn stage(
    location: &Location,
    table_dir: &Path,
    base: Option<&TableMetadata>,
    changes: Vec<Change>,
) -> Result<Staged> {
    let table = Table { location, dir: table_dir };
    let (mut draft, pending) = draft(&table, base, changes)?;
    draft.last_updated_ms = Utc::now().timestamp_millis().max(draft.last_updated_ms);
    let mut puts = Vec::new();
    if let Some(staged) = snapshot::build(&table, &draft, pending).await? {
        puts = staged.puts;
        make_current(&mut draft, staged.snapshot);
    }
    if let Some(base) = base {
        remember(&mut draft, base);
    }
    let version = base.map_or(0, |base| base.version() + 1);
    let (path, url) = table.metadata_file(&format!("{version:05}-{}.metadata.json", Uuid::new_v4()));
    url.clone_into(&mut draft.url);
    let json = to_json(&draft)?;
    let metadata = Arc::new(draft);
    let json_bytes = json.len();
    puts.push((path, json));
    store_all(location, puts).await?;
    read::keep(&metadata, json_bytes);
    Ok(Staged { metadata_url: url, metadata })
}

/// Applies `changes` to a copy of `base`; files are only gathered.
fn draft(
    table: &Table<'_>,
    base: Option<&TableMetadata>,
    changes: Vec<Change>,
) -> Result<(TableMetadata, Pending)> {
    let mut draft = base.cloned();
    let mut pending = Pending::default();
    for change in changes {
        match (change, &mut draft) {
            (Change::Create(definition), None) => {
                draft = Some(definition::create(&table.url(), &definition)?);
            }
            (Change::Create(_), Some(_)) => {
                return Err(Error::AlreadyExists { kind: "table", name: table.name() });
            }
            (Change::Updates(updates), _) => {
                draft = Some(apply_updates(draft.as_ref(), &table.url(), &updates)?);
            }
            (_, None) => return Err(Error::TableNotFound(table.name())),
            (change, Some(draft)) => apply(draft, &mut pending, change)?,
        }
    }
    let draft = draft.ok_or_else(|| Error::TableNotFound(table.name()))?;
    Ok((draft, pending))
}

fn apply(draft: &mut TableMetadata, pending: &mut Pending, change: Change) -> Result<()> {
    match change {
        Change::Create(_) | Change::Updates(_) => unreachable!("these make a draft, they change none"),
        Change::Replace(definition) => {
            definition::replace(draft, &definition)?;
            pending.remove_all();
        }
        Change::Append(files) => {
            pending.append(draft, files, (draft.current_schema_id, draft.default_spec_id))?;
        }
        Change::AppendAs { files, schema_id, spec_id } => {
            pending.append(draft, files, (schema_id, spec_id))?
        }
        Change::Overwrite { add, remove } => pending.overwrite(draft, add, remove)?,
        Change::Exchange(exchange) => pending.exchange(draft, exchange)?,
        Change::Compact { add, remove } => pending.compact(draft, add, remove)?,
        Change::Expire(expiry) => expire(draft, expiry),
        Change::SetStatistics(file) => set_statistics(draft, file),
        Change::SetProperties(properties) => {
            for (name, value) in properties {
                set_property(draft, name, value);
            }
        }
        Change::SetComment(comment) => set_property(draft, COMMENT_PROPERTY.to_owned(), comment),
        Change::SetColumnComment { column, comment } => {
            definition::set_column_comment(draft, &column, comment)?;
        }
        Change::Evolve(evolution) => evolve::evolve(draft, &evolution)?,
        Change::Repartition(partition) => definition::repartition(draft, &partition)?,
        Change::SetRules(rules) => definition::set_rules(draft, &rules)?,
    }
    Ok(())
}

fn set_property(draft: &mut TableMetadata, name: String, value: Option<String>) {
    match value {
        Some(value) => draft.properties.insert(name, value),
        None => draft.properties.remove(&name),
    };
}

fn make_current(draft: &mut TableMetadata, snapshot: TableSnapshot) {
    let (snapshot_id, timestamp_ms) = (snapshot.snapshot_id, snapshot.timestamp_ms);
    draft.last_sequence_number = snapshot.sequence_number;
    draft.current_snapshot_id = Some(snapshot_id);
    draft.snapshots.push(snapshot);
    draft.snapshot_log.push(SnapshotLog { timestamp_ms, snapshot_id });
    let branch = || Reference { snapshot_id, kind: "branch".to_owned(), rest: serde_json::Map::new() };
    draft.refs.entry(MAIN.to_owned()).or_insert_with(branch).snapshot_id = snapshot_id;
}

fn remember(draft: &mut TableMetadata, base: &TableMetadata) {
    let log = &mut draft.metadata_log;
    log.push(MetadataLog { timestamp_ms: base.last_updated_ms, metadata_file: base.url.clone() });
    log.drain(..log.len().saturating_sub(METADATA_LOG_MAX));
}

pub(super) fn to_json(metadata: &TableMetadata) -> Result<Bytes> {
    let json = serde_json::to_vec(metadata);
    json.map(Bytes::from).map_err(|error| Error::Internal(format!("table metadata as JSON: {error}")))
}

/// Stores files under names that nobody else uses: a plain PUT, which may be sent twice.
async fn store_all(location: &Location, puts: Vec<(Path, Bytes)>) -> Result<()> {
    let store = |(path, bytes): (Path, Bytes)| async move {
        location.store.put(&path, bytes.into()).await?;
        Ok(())
    };
    stream::iter(puts).map(store).buffer_unordered(WRITES_MAX).try_collect().await
}

/// Where a table lies.
struct Table<'a> {
    location: &'a Location,
    dir: &'a Path,
}

impl Table<'_> {
    fn url(&self) -> String {
        self.location.url_of(self.dir).trim_end_matches('/').to_owned()
    }

    fn name(&self) -> String {
        self.dir.filename().unwrap_or_default().to_owned()
    }

    /// The path and URL of a file in the table's metadata folder.
    fn metadata_file(&self, name: &str) -> (Path, String) {
        let path = metadata_path(self.dir, name);
        let url = self.location.url_of(&path);
        (path, url)
    }
}

pub(super) fn metadata_path(table_dir: &Path, name: &str) -> Path {
    table_dir.clone().join("metadata").join(name)
}
