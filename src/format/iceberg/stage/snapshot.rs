//! New snapshots: the manifests of the base, less what goes, plus what comes.
//!
//! Manifests in which nothing changes are listed again as they are. One in which files go is written
//! anew, with what stays as `EXISTING` and what goes as `DELETED`. New files make new manifests. When
//! many small manifests have gathered they are merged, so that reading a table costs few requests
//! however many small appends it saw.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use uuid::Uuid;

use super::Table;
use super::exchange::Adopted;
use super::pending::{Added, Pending};
use crate::error::{Error, Result};
use crate::format::WrittenFile;
use crate::format::iceberg::manifest::{self, Entry, FileEntry, Status};
use crate::format::iceberg::manifest_list::{self, ManifestFile};
use crate::format::iceberg::metadata::{TableMetadata, TableSnapshot};
use crate::format::iceberg::schema::Schema;
use crate::format::iceberg::{bound, read};

/// Small manifests of one partition spec that may gather before they are merged.
const SMALL_MANIFESTS_MAX: usize = 100;
/// A manifest of fewer bytes is small.
const SMALL_MANIFEST_BYTES: i64 = 8 << 20;
/// Files that one manifest names, so that a large table's manifests are read in parallel.
const FILES_PER_MANIFEST_MAX: usize = 10_000;

/// A snapshot, and the files to be stored before anybody may read it.
pub(super) struct StagedSnapshot {
    pub snapshot: TableSnapshot,
    pub puts: Vec<(Path, Bytes)>,
}

/// Makes the snapshot that follows `draft`'s current one by `pending`; `None` if nothing changes.
///
/// # Errors
/// [`Error::CommitConflict`] when a file that is to go is not there.
pub(super) async fn build(
    table: &Table<'_>,
    draft: &TableMetadata,
    pending: Pending,
) -> Result<Option<StagedSnapshot>> {
    let mut next = Next::new(table, draft);
    next.tally.replaces_partitions = pending.replaces_partitions();
    next.only_moves_rows = pending.only_moves_rows();
    let mut kept = match draft.current_snapshot() {
        Some(current) => read::manifests(table.location, current).await?.as_ref().clone(),
        None => Vec::new(),
    };
    kept.retain(|listed| listed.live_files() > 0);
    if pending.removes() {
        kept = next.without(kept, &pending).await?;
    }
    if pending.add.is_empty() && pending.adopt.is_empty() && next.manifests.is_empty() {
        return Ok(None);
    }
    next.add(pending.add)?;
    next.adopt(pending.adopt)?;
    let merged = next.merge(kept).await?;
    next.manifests.extend(merged);
    Ok(Some(next.finish()))
}

/// A snapshot in the making.
struct Next<'a> {
    table: &'a Table<'a>,
    draft: &'a TableMetadata,
    snapshot_id: i64,
    sequence_number: i64,
    /// In the names of its files.
    commit_id: Uuid,
    manifests: Vec<ManifestFile>,
    puts: Vec<(Path, Bytes)>,
    tally: Tally,
    only_moves_rows: bool,
}

#[derive(Default)]
struct Tally {
    added: Count,
    removed: Count,
    partitions: HashSet<(i32, Vec<ScalarValue>)>,
    replaces_partitions: bool,
}

#[derive(Default)]
struct Count {
    files: i64,
    rows: i64,
    bytes: i64,
}

impl Count {
    fn include(&mut self, file: &FileEntry) {
        self.files += 1;
        self.rows += file.row_count;
        self.bytes += file.size_bytes;
    }
}

impl<'a> Next<'a> {
    fn new(table: &'a Table<'a>, draft: &'a TableMetadata) -> Self {
        Self {
            table,
            draft,
            // Positive, and as random as an id that nobody hands out has to be.
            snapshot_id: rand::random_range(1..i64::MAX),
            sequence_number: draft.last_sequence_number + 1,
            commit_id: Uuid::new_v4(),
            manifests: Vec::new(),
            puts: Vec::new(),
            tally: Tally::default(),
            only_moves_rows: false,
        }
    }

    /// Takes the files that go out of `manifests`; returns those in which nothing changed.
    async fn without(
        &mut self,
        manifests: Vec<ManifestFile>,
        pending: &Pending,
    ) -> Result<Vec<ManifestFile>> {
        let (location, draft) = (self.table.location, self.draft);
        let mut read = stream::iter(manifests)
            .map(|listed| async move {
                let entries = read::entries(location, draft, &listed).await?;
                Ok::<_, Error>((listed, entries))
            })
            .buffered(read::READS_MAX);
        let mut untouched = Vec::new();
        let mut missing = pending.files.clone();
        while let Some((listed, entries)) = read.try_next().await? {
            match self.rewrite(&listed, entries, pending, &mut missing)? {
                true => {}
                false => untouched.push(listed),
            }
        }
        match missing.is_empty() {
            true => Ok(untouched),
            false => Err(Error::table_conflict(&self.table.name())),
        }
    }

    /// Writes a manifest anew if files of it go, and says whether it did.
    fn rewrite(
        &mut self,
        listed: &ManifestFile,
        entries: Vec<Entry>,
        pending: &Pending,
        missing: &mut HashSet<Path>,
    ) -> Result<bool> {
        let mut rewritten = Vec::with_capacity(entries.len());
        let mut changed = false;
        for mut entry in entries.into_iter().filter(Entry::is_live) {
            let path = self.table.location.path_of(&entry.file.url)?;
            entry.status = Status::Existing;
            if pending.takes(listed.spec_id, &entry, &path) {
                entry.status = Status::Deleted;
                entry.snapshot_id = Some(self.snapshot_id);
                self.tally.removed.include(&entry.file);
                self.tally.partitions.insert((listed.spec_id, entry.file.partition.clone()));
                missing.remove(&path);
                changed = true;
            }
            rewritten.push(entry);
        }
        if changed {
            self.write(listed.spec_id, &rewritten)?;
        }
        Ok(changed)
    }

    /// Makes manifests of new files.
    fn add(&mut self, files: Vec<Added>) -> Result<()> {
        let mut entries: BTreeMap<i32, Vec<Entry>> = BTreeMap::new();
        for Added { file, schema_id, spec_id } in files {
            let lost = || Error::Internal(format!("file \"{}\" has a schema that is gone", file.path));
            let schema = self.draft.schema(schema_id).ok_or_else(lost)?;
            let file = file_entry(self.table, schema, file)?;
            self.tally.added.include(&file);
            self.tally.partitions.insert((spec_id, file.partition.clone()));
            entries.entry(spec_id).or_default().push(Entry {
                status: Status::Added,
                snapshot_id: Some(self.snapshot_id),
                // Readers take it from the manifest list.
                sequence_number: None,
                file_sequence_number: None,
                file: Arc::new(file),
            });
        }
        entries.iter().try_for_each(|(spec_id, entries)| {
            entries.chunks(FILES_PER_MANIFEST_MAX).try_for_each(|entries| self.write(*spec_id, entries))
        })
    }

    /// Makes manifests of files that another version has.
    fn adopt(&mut self, files: Vec<Adopted>) -> Result<()> {
        let mut entries: BTreeMap<i32, Vec<Entry>> = BTreeMap::new();
        for Adopted { spec_id, file, .. } in files {
            self.tally.added.include(&file);
            self.tally.partitions.insert((spec_id, file.partition.clone()));
            entries.entry(spec_id).or_default().push(Entry {
                status: Status::Added,
                snapshot_id: Some(self.snapshot_id),
                sequence_number: None,
                file_sequence_number: None,
                file,
            });
        }
        entries.iter().try_for_each(|(spec_id, entries)| {
            entries.chunks(FILES_PER_MANIFEST_MAX).try_for_each(|entries| self.write(*spec_id, entries))
        })
    }

    /// Merges the small ones of `manifests`, if they are many, and returns the others.
    async fn merge(&mut self, manifests: Vec<ManifestFile>) -> Result<Vec<ManifestFile>> {
        let is_small = |listed: &ManifestFile| listed.length < SMALL_MANIFEST_BYTES;
        let mut small: BTreeMap<i32, Vec<ManifestFile>> = BTreeMap::new();
        let (candidates, mut others): (Vec<_>, Vec<_>) = manifests.into_iter().partition(is_small);
        for listed in candidates {
            small.entry(listed.spec_id).or_default().push(listed);
        }
        for (spec_id, manifests) in small {
            if manifests.len() <= SMALL_MANIFESTS_MAX {
                others.extend(manifests);
                continue;
            }
            let entries = self.live_entries(manifests).await?;
            entries.chunks(FILES_PER_MANIFEST_MAX).try_for_each(|entries| self.write(spec_id, entries))?;
        }
        Ok(others)
    }

    async fn live_entries(&self, manifests: Vec<ManifestFile>) -> Result<Vec<Entry>> {
        let (location, draft) = (self.table.location, self.draft);
        let read = |listed: ManifestFile| async move { read::entries(location, draft, &listed).await };
        let entries: Vec<Vec<Entry>> =
            stream::iter(manifests).map(read).buffered(read::READS_MAX).try_collect().await?;
        let live = entries.into_iter().flatten().filter(Entry::is_live);
        Ok(live.map(|entry| Entry { status: Status::Existing, ..entry }).collect())
    }

    fn write(&mut self, spec_id: i32, entries: &[Entry]) -> Result<()> {
        let name = format!("{}-m{}.avro", self.commit_id, self.manifests.len());
        let (path, url) = self.table.metadata_file(&name);
        let new = manifest::build(self.draft, spec_id, self.snapshot_id, self.sequence_number, url, entries)?;
        self.puts.push((path, new.bytes));
        self.manifests.push(new.listed);
        Ok(())
    }

    fn finish(mut self) -> StagedSnapshot {
        let parent = self.draft.current_snapshot();
        let parent_snapshot_id = parent.map(|parent| parent.snapshot_id);
        let list =
            manifest_list::write(&self.manifests, self.snapshot_id, parent_snapshot_id, self.sequence_number);
        let name = format!("snap-{}-1-{}.avro", self.snapshot_id, self.commit_id);
        let (path, manifest_list) = self.table.metadata_file(&name);
        self.puts.push((path, list.into()));
        // The next change to the table begins with what this one leaves.
        read::keep_list(&manifest_list, &Arc::new(self.manifests.clone()));
        let snapshot = TableSnapshot {
            snapshot_id: self.snapshot_id,
            parent_snapshot_id,
            sequence_number: self.sequence_number,
            timestamp_ms: self.draft.last_updated_ms,
            manifest_list,
            summary: self.summary(parent),
            schema_id: Some(self.draft.current_schema_id),
            rest: serde_json::Map::new(),
        };
        StagedSnapshot { snapshot, puts: self.puts }
    }

    /// What other engines show of a snapshot. Counts of zero are left out, totals are not.
    fn summary(&self, parent: Option<&TableSnapshot>) -> BTreeMap<String, String> {
        let Tally { added, removed, partitions, replaces_partitions } = &self.tally;
        let operation = match (added.files, removed.files) {
            _ if self.only_moves_rows => "replace",
            (_, 0) => "append",
            (0, _) => "delete",
            _ => "overwrite",
        };
        let counts = [
            ("added-data-files", added.files),
            ("added-records", added.rows),
            ("added-files-size", added.bytes),
            ("deleted-data-files", removed.files),
            ("deleted-records", removed.rows),
            ("removed-files-size", removed.bytes),
        ];
        let mut summary = vec![
            ("total-data-files", self.manifests.iter().map(ManifestFile::live_files).sum()),
            ("total-records", self.manifests.iter().map(ManifestFile::live_rows).sum()),
            ("total-delete-files", 0),
            ("total-position-deletes", 0),
            ("total-equality-deletes", 0),
            ("changed-partition-count", partitions.len() as i64),
        ];
        summary.extend(counts.into_iter().filter(|(_, count)| *count > 0));
        let before = parent.map_or(Some(0), |parent| parent.summary.get("total-files-size")?.parse().ok());
        summary.extend(before.map(|before: i64| ("total-files-size", before + added.bytes - removed.bytes)));
        let words = [("operation", operation), ("engine-name", "lacus"), ("engine-version", VERSION)];
        let replaces = replaces_partitions.then_some((REPLACES_PARTITIONS, "true"));
        let words = words.into_iter().chain(replaces).map(|(name, word)| (name.to_owned(), word.to_owned()));
        let counts = summary.into_iter().map(|(name, count)| (name.to_owned(), count.to_string()));
        words.chain(counts).collect()
    }
}

/// In the summary of a snapshot that replaced whole partitions; Iceberg's own word for it.
pub(super) const REPLACES_PARTITIONS: &str = "replace-partitions";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a manifest says of a file that was just written.
fn file_entry(table: &Table<'_>, schema: &Schema, file: WrittenFile) -> Result<FileEntry> {
    let mut entry = FileEntry {
        url: table.location.url_of(&file.path),
        format: "PARQUET".to_owned(),
        partition: file.partition,
        row_count: file.row_count as i64,
        size_bytes: file.size_bytes as i64,
        split_offsets: file.split_offsets,
        ..FileEntry::default()
    };
    let offsets: BTreeSet<i64> = entry.split_offsets.drain(..).collect();
    entry.split_offsets.extend(offsets);
    for (field, metrics) in schema.fields.iter().zip(file.columns) {
        // Iceberg keeps metrics of leaves, and a nested column's are not gathered.
        let Some(kind) = field.primitive() else { continue };
        entry.column_sizes.push((field.id, metrics.size_bytes as i64));
        entry.value_counts.push((field.id, metrics.value_count as i64));
        entry.null_value_counts.push((field.id, metrics.null_count as i64));
        let bound =
            |value: Option<ScalarValue>| value.map(|value| bound::canonical(kind, &value)).transpose();
        let (lower, upper) = (bound(metrics.lower)?, bound(metrics.upper)?);
        let lower = lower.and_then(|value| bound::lower(kind, &value));
        let upper = upper.and_then(|value| bound::upper(kind, &value));
        entry.lower_bounds.extend(lower.map(|bytes| (field.id, bytes)));
        entry.upper_bounds.extend(upper.map(|bytes| (field.id, bytes)));
    }
    Ok(entry)
}
