//! References: every file that versions of a table refer to, so that the rest can go.
//!
//! Files are remembered by a hash of their path, keyed at random: two that share one make a file stay
//! that could go, until the next time. A table of a million files takes 16 MB.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use object_store::path::Path;
use serde_json::Value;

use super::expire::{Expiry, expired};
use super::manifest::Entry;
use super::manifest_list::ManifestFile;
use super::metadata::{TableMetadata, TableSnapshot};
use super::{hint, read};
use crate::error::{Error, Result};
use crate::storage::Location;

/// What versions of one table refer to.
#[derive(Debug)]
pub struct References<'a> {
    location: &'a Location,
    hasher: RandomState,
    files: HashSet<u64>,
}

impl<'a> References<'a> {
    pub fn new(location: &'a Location) -> Self {
        Self { location, hasher: RandomState::new(), files: HashSet::new() }
    }

    /// Whether a version refers to the file at `path`.
    pub fn hold(&self, path: &Path) -> bool {
        self.files.contains(&self.hasher.hash_one(path.as_ref()))
    }

    /// Adds what all of the metadata files at `urls` refer to, but for snapshots that `expiry` no longer
    /// keeps. What those among `current` refer to must be there; of the others, an earlier upkeep that kept less
    /// may have taken files away.
    ///
    /// Costs a GET for each manifest list and manifest, and one for about a hundred of the `urls`: a
    /// metadata file names those before it, and has their snapshots.
    ///
    /// # Errors
    /// What the store answers, and what [`load`](super::load) finds wrong.
    pub async fn add(&mut self, urls: Vec<String>, current: &HashSet<String>, expiry: Expiry) -> Result<()> {
        let mut left: HashSet<String> = urls.iter().cloned().collect();
        // The version is in the name, so that the last in order is the newest.
        let mut newest_first = urls;
        newest_first.sort_unstable_by(|a, b| b.cmp(a));
        for url in newest_first {
            self.note_url(&url)?;
            self.note_url(&hint::copy_of(&url))?;
            if !left.remove(&url) {
                continue;
            }
            let is_current = current.contains(&url);
            let loaded = read::load(self.location, &url).await.map(Some);
            let Some(metadata) = there(loaded, is_current)? else { continue };
            let gone = expired(&metadata, expiry);
            for covered in covered(&metadata, &gone) {
                left.remove(covered);
            }
            let kept = metadata.snapshots.iter().filter(|snapshot| !gone.contains(&snapshot.snapshot_id));
            self.add_snapshots(&metadata, kept.collect(), is_current).await?;
            self.note_statistics(&metadata, &gone)?;
        }
        Ok(())
    }

    /// Notes that a file below the table's folder stays.
    pub fn note(&mut self, path: &Path) {
        self.files.insert(self.hasher.hash_one(path.as_ref()));
    }

    fn note_url(&mut self, url: &str) -> Result<bool> {
        // What lies outside of the root is never in danger.
        let Ok(path) = self.location.path_of(url) else { return Ok(false) };
        Ok(self.files.insert(self.hasher.hash_one(path.as_ref())))
    }

    async fn add_snapshots(
        &mut self,
        metadata: &TableMetadata,
        snapshots: Vec<&TableSnapshot>,
        all_are_there: bool,
    ) -> Result<()> {
        let location = self.location;
        let mut lists: Vec<BoxFuture<'_, Result<Vec<ManifestFile>>>> = Vec::new();
        for snapshot in snapshots {
            if self.note_url(&snapshot.manifest_list)? {
                lists.push(Box::pin(read::listed(location, snapshot)));
            }
        }
        let mut lists = stream::iter(lists).buffer_unordered(read::READS_MAX);
        let mut manifests = Vec::new();
        while let Some(listed) = lists.next().await {
            for manifest in there(listed, all_are_there)? {
                if self.note_url(&manifest.url)? {
                    manifests.push(manifest);
                }
            }
        }
        let mut entries: Vec<BoxFuture<'_, Result<Vec<Entry>>>> = Vec::new();
        for manifest in &manifests {
            entries.push(Box::pin(read::entries(location, metadata, manifest)));
        }
        let mut entries = stream::iter(entries).buffer_unordered(read::READS_MAX);
        while let Some(entries) = entries.next().await {
            for entry in there(entries, all_are_there)?.iter().filter(|entry| entry.is_live()) {
                self.note_url(&entry.file.url)?;
            }
        }
        Ok(())
    }

    fn note_statistics(&mut self, metadata: &TableMetadata, gone: &HashSet<i64>) -> Result<()> {
        for key in ["statistics", "partition-statistics"] {
            let Some(Value::Array(files)) = metadata.rest.get(key) else { continue };
            let kept =
                files.iter().filter(|file| file["snapshot-id"].as_i64().is_none_or(|id| !gone.contains(&id)));
            for url in kept.filter_map(|file| file["statistics-path"].as_str()) {
                self.note_url(url)?;
            }
        }
        Ok(())
    }
}

/// Nothing in place of a file that is gone, where it may be.
fn there<T: Default>(read: Result<T>, must_be: bool) -> Result<T> {
    match read {
        Err(Error::FileNotFound(_)) if !must_be => Ok(T::default()),
        other => other,
    }
}

/// The earlier metadata files whose current snapshot is among those that `metadata` keeps.
fn covered<'m>(metadata: &'m TableMetadata, gone: &HashSet<i64>) -> Vec<&'m str> {
    let log = &metadata.snapshot_log;
    let is_kept = |id: i64| !gone.contains(&id) && metadata.snapshot(id).is_some();
    let earlier = metadata.metadata_log.iter().filter(|file| {
        let until = log.partition_point(|entry| entry.timestamp_ms <= file.timestamp_ms);
        let Some(last) = log[..until].last() else { return false };
        // Several may share one millisecond: any of them may have been the current one.
        let mut then = log[..until].iter().rev().take_while(|entry| entry.timestamp_ms == last.timestamp_ms);
        then.all(|entry| is_kept(entry.snapshot_id))
    });
    earlier.map(|file| file.metadata_file.as_str()).collect()
}
