//! Vacuum: files of a lake that no state refers to, and nobody can come to refer to, go.
//!
//! A file below `_lacus/tables/` is *garbage* when it is not among the files that the retained states
//! refer to, and is older than the grace period. Retained are the states that were the lake's current
//! one at some moment within the retention and the grace period together, up to the newest.
//!
//! Why this is safe beside other daemons and running transactions, all of which end within the limit of
//! transactions, which is shorter than the grace period:
//!
//! - The clock is read first (the store's own: the time it gives to an object that is written now), then
//!   the newest state of the lake and then of its branches, then the folders. A file that is older than
//!   the grace period at the clock's time was written by a transaction that had ended by then. Either it
//!   committed, and the state that is read afterwards, or one before it, refers to the file; or it never
//!   will. What is written later is too young to be looked at. So it does not matter what is committed
//!   while the folders are listed.
//! - A transaction under way reads a state that was current when it began. That is less than the grace
//!   period ago, so the state is retained. The same holds for one that began by looking back as far as
//!   the retention allows, and for one that restores what it finds there.
//! - Two that run at one time find the same garbage, and a file that is gone already is no error. One
//!   that is killed leaves less garbage behind, which the next finds as this one did.
//!
//! Clocks of daemons, which date the entries of the log, may differ by less than the grace period is
//! longer than the limit of transactions. A version of a table refers to files of its own folder; what
//! lies elsewhere is never touched. Memory is bounded by the files of the folders looked at at one
//! time ([`FOLDERS_MAX`]); requests are those of a listing, and a GET for each entry of the log, manifest
//! list and manifest within the retention.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use uuid::Uuid;

use super::lake::Lake;
use super::log::{BranchRecord, LogEntry, Operation, TableRecord};
use super::state::LakeState;
use crate::error::Result;
use crate::format::iceberg::{Expiry, References, hinted_copy};

/// Folders that are looked at at one time.
const FOLDERS_MAX: usize = 4;
/// Files of which a dry run tells.
const LISTED_MAX: usize = 100_000;
/// Checkpoints that stay besides one in [`CHECKPOINT_STRIDE`] versions of the retained ones.
const CHECKPOINTS_MIN: usize = 4;
const CHECKPOINT_STRIDE: u64 = 1024;

/// How much of the past is kept, and what is done with the rest.
#[derive(Debug, Clone)]
pub struct Vacuum {
    /// How far back states and snapshots stay readable.
    pub retention: Duration,
    /// How old a file must be to go.
    pub grace: Duration,
    /// Only tells what would go.
    pub dry_run: bool,
    /// Folders of tables to look at, relative to the root; none for all there are.
    pub only: Option<BTreeSet<String>>,
}

/// One file that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// Relative to the root.
    pub path: String,
    pub bytes: u64,
    pub reason: &'static str,
}

/// What went.
#[derive(Debug, Default)]
pub struct Vacuumed {
    pub files: u64,
    pub bytes: u64,
    /// The first [`LISTED_MAX`] of them, of a dry run.
    pub listed: Vec<Garbage>,
}

/// The states that are kept, by what they say of tables.
#[derive(Default)]
struct Retained {
    /// The oldest version of the lake itself that is kept.
    oldest: u64,
    /// By folder, the metadata files of all versions; relative to the root, as the log has them.
    tables: HashMap<String, BTreeSet<String>>,
    /// Those of them that are of the newest state of the lake or of a branch.
    current: HashSet<String>,
    /// By their ids.
    branches: BTreeMap<String, BranchRecord>,
}

impl Vacuum {
    /// Removes a lake's garbage, or tells what it is.
    ///
    /// # Errors
    /// What the store answers. A table whose versions cannot be read loses nothing, and the others are
    /// gone through before its error is told.
    pub async fn run(&self, lake: &Arc<Lake>) -> Result<Vacuumed> {
        // A dry run writes nothing, and is not harmed by a clock that is a little off.
        let now = if self.dry_run { Utc::now() } else { store_time(lake).await? };
        let newest = lake.refresh().await?;
        let retained = self.retained(lake, &newest, now).await?;
        let old = now - age(self.grace);
        let mut gone = Vacuumed::default();
        let mut failed = None;
        let folders = self.folders(lake, &retained).await?;
        let mut looked_at = stream::iter(folders)
            .map(|folder| self.folder(lake, &retained, folder, now, old))
            .buffer_unordered(FOLDERS_MAX);
        while let Some(found) = looked_at.next().await {
            match found {
                Ok(found) => gone.add(found),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        drop(looked_at);
        if self.only.is_none() {
            let stale = stale_checkpoints(lake, &retained, old).await?;
            gone.add(self.dispose(lake, stale).await?);
        }
        failed.map_or(Ok(gone), Err)
    }

    /// Every state that is kept.
    async fn retained(&self, lake: &Arc<Lake>, newest: &LakeState, now: DateTime<Utc>) -> Result<Retained> {
        let cutoff_ms = (now - age(self.retention) - age(self.grace)).timestamp_millis();
        let mut retained = Retained::default();
        retained.oldest = retained.add_since(lake, 1, newest, cutoff_ms).await?;
        retained.add_current(newest);
        let live: HashSet<&String> = newest.branches.values().map(|record| &record.id).collect();
        for (id, record) in retained.branches.clone() {
            let branch = lake.grown(record.clone());
            let newest = branch.refresh().await?;
            retained.add_state(&branch.root_state().await?);
            retained.add_since(&branch, record.base + 1, &newest, cutoff_ms).await?;
            if live.contains(&id) {
                retained.add_current(&newest);
            }
        }
        Ok(retained)
    }

    /// The folders to look at, relative to the root.
    async fn folders(&self, lake: &Lake, retained: &Retained) -> Result<Vec<String>> {
        let tables = lake.location.child("_lacus/tables");
        let (found, _) = lake.location.list_children(&tables).await?;
        let mut folders: BTreeSet<String> =
            found.iter().map(|name| format!("_lacus/tables/{name}")).collect();
        // A table whose folder lists as empty is known from the log; what lies outside is never touched.
        folders.extend(retained.tables.keys().filter(|folder| folder.starts_with("_lacus/")).cloned());
        if let Some(only) = &self.only {
            folders.retain(|folder| only.contains(folder));
        }
        Ok(folders.into_iter().collect())
    }

    /// Goes through the files of one folder.
    async fn folder(
        &self,
        lake: &Lake,
        retained: &Retained,
        folder: String,
        now: DateTime<Utc>,
        old: DateTime<Utc>,
    ) -> Result<Vacuumed> {
        let directory = lake.location.child(&folder);
        let references = self.references(lake, retained, &folder, now).await?;
        let reason = |path: &Path| match &references {
            None => "dropped table",
            Some(_) if path.as_ref().ends_with(".metadata.json") => "old version",
            Some(_) => "unreferenced",
        };
        let is_garbage = |file: &ObjectMeta| {
            let kept = references.as_ref().is_some_and(|references| references.hold(&file.location));
            !kept && file.last_modified < old
        };
        let mut files = lake.location.store.list(Some(&directory)).try_chunks(1000);
        let mut gone = Vacuumed::default();
        while let Some(found) = files.next().await {
            let found = found.map_err(|error| error.1)?;
            let garbage = found.into_iter().filter(is_garbage).map(|file| {
                let reason = reason(&file.location);
                (file, reason)
            });
            gone.add(self.dispose(lake, garbage.collect()).await?);
        }
        Ok(gone)
    }

    /// What the retained states refer to in a folder; none when they know of no table in it.
    async fn references<'l>(
        &self,
        lake: &'l Lake,
        retained: &Retained,
        folder: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<References<'l>>> {
        let Some(versions) = retained.tables.get(folder) else { return Ok(None) };
        let location = &lake.location;
        let url = |metadata: &String| format!("{}{metadata}", location.url);
        let current = versions.iter().filter(|metadata| retained.current.contains(*metadata)).map(url);
        let kept = self.retention + self.grace;
        let expiry = Expiry::after(kept, now.timestamp_millis());
        let mut references = References::new(location);
        references.add(versions.iter().map(url).collect(), &current.collect(), expiry).await?;
        let (hint, copy) = hinted_copy(location, &location.child(folder)).await;
        [Some(hint), copy].iter().flatten().for_each(|path| references.note(path));
        Ok(Some(references))
    }

    /// Deletes files, or notes that they would be.
    async fn dispose(&self, lake: &Lake, garbage: Vec<(ObjectMeta, &'static str)>) -> Result<Vacuumed> {
        let mut gone = Vacuumed { files: garbage.len() as u64, ..Vacuumed::default() };
        gone.bytes = garbage.iter().map(|(file, _)| file.size).sum();
        if self.dry_run {
            let relative = |path: &Path| lake.location.url_of(path).replacen(&lake.location.url, "", 1);
            gone.listed = garbage
                .iter()
                .map(|(file, reason)| Garbage { path: relative(&file.location), bytes: file.size, reason })
                .collect();
            return Ok(gone);
        }
        let paths: Vec<_> = garbage.into_iter().map(|(file, _)| Ok(file.location)).collect();
        let mut deleted = lake.location.store.delete_stream(stream::iter(paths).boxed());
        while let Some(deleted) = deleted.next().await {
            match deleted {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(gone)
    }
}

impl Vacuumed {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.listed.extend(other.listed);
        self.listed.truncate(LISTED_MAX);
    }
}

impl Retained {
    /// Adds the states that were current at `cutoff_ms` or later, from a log that begins with `first`.
    ///
    /// Returns the oldest version of them.
    async fn add_since(
        &mut self,
        lake: &Lake,
        first: u64,
        newest: &LakeState,
        cutoff_ms: i64,
    ) -> Result<u64> {
        let mut version = newest.version;
        let mut entries = lake.entries((first..=newest.version).rev());
        while let Some(entry) = entries.try_next().await? {
            version = entry.version;
            // The state that it made was current when the time that is kept began.
            if entry.time_ms < cutoff_ms {
                break;
            }
            self.add_entry(&entry);
        }
        drop(entries);
        self.add_state(&lake.replayed(version, None).await?);
        self.add_state(newest);
        Ok(version)
    }

    fn add_entry(&mut self, entry: &LogEntry) {
        for operation in &entry.operations {
            match operation {
                Operation::PutTable { table, .. } => self.add_table(table),
                Operation::PutBranch { branch, .. } => self.add_branch(branch),
                _ => {}
            }
        }
    }

    fn add_state(&mut self, state: &LakeState) {
        state.tables().for_each(|(_, _, table)| self.add_table(table));
        state.branches.values().for_each(|branch| self.add_branch(branch));
    }

    fn add_current(&mut self, state: &LakeState) {
        self.current.extend(state.tables().map(|(_, _, table)| table.metadata.clone()));
    }

    fn add_branch(&mut self, branch: &BranchRecord) {
        self.branches.insert(branch.id.clone(), branch.clone());
    }

    fn add_table(&mut self, table: &TableRecord) {
        self.tables.entry(table.directory.clone()).or_default().insert(table.metadata.clone());
    }
}

/// The time that the store has now.
async fn store_time(lake: &Lake) -> Result<DateTime<Utc>> {
    let location = &lake.location;
    let path = location.child("_lacus/probe").join(format!("clock-{}", Uuid::new_v4().simple()));
    location.put(&path, Bytes::from_static(b"clock")).await?;
    let read = location.store.head(&path).await;
    if let Err(error) = location.store.delete(&path).await {
        tracing::warn!(%path, %error, "the probe of the store's clock stays behind");
    }
    Ok(read?.last_modified)
}

/// Checkpoints that no state needs to be found soon: the log alone is the truth. Old probes too.
async fn stale_checkpoints(
    lake: &Lake,
    retained: &Retained,
    old: DateTime<Utc>,
) -> Result<Vec<(ObjectMeta, &'static str)>> {
    let location = &lake.location;
    let (_, files) = location.list_children(&location.child("_lacus/ckpt")).await?;
    let numbered: BTreeMap<u64, ObjectMeta> = files
        .into_iter()
        .filter_map(|file| Some((file.location.filename()?.strip_suffix(".json")?.parse().ok()?, file)))
        .collect();
    let first = numbered.range(..=retained.oldest).next_back().map_or(0, |(version, _)| *version);
    let newest: BTreeSet<u64> = numbered.keys().rev().take(CHECKPOINTS_MIN).copied().collect();
    let is_kept = |version: u64| {
        let useful = version > first && version.is_multiple_of(CHECKPOINT_STRIDE);
        version == first || useful || newest.contains(&version)
    };
    let stale = numbered.into_iter().filter(|(version, _)| !is_kept(*version));
    let (_, probes) = location.list_children(&location.child("_lacus/probe")).await?;
    let checkpoints = stale.map(|(_, file)| (file, "old checkpoint"));
    let probes = probes.into_iter().map(|file| (file, "old probe"));
    Ok(checkpoints.chain(probes).filter(|(file, _)| file.last_modified < old).collect())
}

fn age(duration: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::days(365 * 1000))
}
