//! Exchanges: files of one version of a table that take the place of those of another.
//!
//! An *exchange* is what two versions differ by: the files that only the one has, and those that only
//! the other has. It says nothing of how the difference came about, so it can be made on a third
//! version, as long as that still has the files that go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::ScalarValue;
use object_store::path::Path;

use super::snapshot::REPLACES_PARTITIONS;
use crate::error::{Error, Result};
use crate::format::Snapshot;
use crate::format::iceberg::manifest::{Entry, FileEntry};
use crate::format::iceberg::manifest_list::ManifestFile;
use crate::format::iceberg::metadata::{TableMetadata, TableSnapshot};
use crate::format::iceberg::read;
use crate::storage::Location;

/// A partition of one spec.
pub(super) type Partition = (i32, Vec<ScalarValue>);

/// Files that come, and files that go.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub(super) add: Vec<Adopted>,
    pub(super) remove: Vec<Path>,
    /// Partitions that are replaced whatever is in them: what came into them since was not seen.
    pub(super) emptied: HashSet<Partition>,
    /// Of the schema to be the current one.
    pub(super) schema_id: Option<i32>,
    /// Whether it stands for the whole table, so that it fits on no version but its base.
    pub(super) is_whole: bool,
}

/// A file that is in another version of the table.
#[derive(Debug, Clone)]
pub(super) struct Adopted {
    pub path: Path,
    pub spec_id: i32,
    pub file: Arc<FileEntry>,
}

impl Exchange {
    /// What makes the rows and columns of `from` those that `to` has, at one of its snapshots or now.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a snapshot that there is not, and what the store returns.
    pub async fn whole(
        location: &Location,
        from: &TableMetadata,
        to: &TableMetadata,
        snapshot_id: Option<i64>,
    ) -> Result<Self> {
        let target = match snapshot_id {
            Some(id) => Some(
                to.snapshot(id)
                    .ok_or_else(|| Error::InvalidParameter(format!("the table has no snapshot {id}")))?,
            ),
            None => to.current_snapshot(),
        };
        let schema_id = match snapshot_id {
            Some(_) => target.and_then(|target| target.schema_id),
            None => Some(to.current_schema_id),
        };
        let schema_id = schema_id.filter(|id| from.schema(*id).is_some());
        let (gone, came) = apart(location, (from, from.current_snapshot()), (to, target)).await?;
        let (add, remove) = (adopted(location, came)?, paths(location, &gone)?);
        Ok(Self { add, remove, emptied: HashSet::new(), schema_id, is_whole: true })
    }

    /// What `to` has made of the rows of `from`, to be made of a third version too.
    ///
    /// # Errors
    /// What the store returns.
    pub async fn between(location: &Location, from: &TableMetadata, to: &TableMetadata) -> Result<Self> {
        let (before, after) = (from.current_snapshot(), to.current_snapshot());
        let (gone, came) = apart(location, (from, before), (to, after)).await?;
        let mut emptied = HashSet::new();
        if replaces_partitions(from, to) {
            let place = |(spec_id, entry): &(i32, Entry)| (*spec_id, entry.file.partition.clone());
            emptied = gone.iter().chain(&came).map(place).collect();
        }
        let (add, remove) = (adopted(location, came)?, paths(location, &gone)?);
        // Other columns, partitions or properties are not made on a third version.
        let is_whole = !same_definition(from, to);
        Ok(Self { add, remove, emptied, schema_id: None, is_whole })
    }
}

/// Whether whole partitions were replaced on the way from one version to a later one, as far as is known.
fn replaces_partitions(from: &TableMetadata, to: &TableMetadata) -> bool {
    let until = from.current_snapshot().map(|snapshot| snapshot.snapshot_id);
    let mut next = to.current_snapshot().map(|snapshot| snapshot.snapshot_id);
    while next != until {
        let Some(snapshot) = next.and_then(|id| to.snapshot(id)) else { return true };
        if snapshot.summary.contains_key(REPLACES_PARTITIONS) {
            return true;
        }
        next = snapshot.parent_snapshot_id;
    }
    false
}

fn same_definition(one: &TableMetadata, other: &TableMetadata) -> bool {
    one.current_schema() == other.current_schema()
        && one.default_spec() == other.default_spec()
        && one.properties == other.properties
}

fn adopted(location: &Location, files: Vec<(i32, Entry)>) -> Result<Vec<Adopted>> {
    let adopt = |(spec_id, entry): (i32, Entry)| {
        Ok(Adopted { path: location.path_of(&entry.file.url)?, spec_id, file: entry.file })
    };
    files.into_iter().map(adopt).collect()
}

fn paths(location: &Location, files: &[(i32, Entry)]) -> Result<Vec<Path>> {
    files.iter().map(|(_, entry)| location.path_of(&entry.file.url)).collect()
}

/// A table at a snapshot; without one it has no files.
pub(super) type Version<'a> = (&'a TableMetadata, Option<&'a TableSnapshot>);

/// Files with the partition specs that they were written under.
type Files = Vec<(i32, Entry)>;

/// The live files that only the first of two versions has, and those that only the second has.
///
/// Costs the manifest lists of both and the manifests that only one of them has.
pub(super) async fn apart(
    location: &Location,
    one: Version<'_>,
    other: Version<'_>,
) -> Result<(Files, Files)> {
    let (before, after) = (listed(location, one.1).await?, listed(location, other.1).await?);
    let urls = |listed: &[ManifestFile]| listed.iter().map(|one| one.url.clone()).collect::<HashSet<_>>();
    let (known, kept) = (urls(&before), urls(&after));
    let mut gone = live_files(location, one.0, before.iter().filter(|one| !kept.contains(&one.url))).await?;
    let mut came =
        live_files(location, other.0, after.iter().filter(|one| !known.contains(&one.url))).await?;
    // A file of both was only listed anew.
    let both: Vec<String> = gone.keys().filter(|url| came.contains_key(*url)).cloned().collect();
    for url in both {
        gone.remove(&url);
        came.remove(&url);
    }
    Ok((gone.into_values().collect(), came.into_values().collect()))
}

/// The files that `after` has now and `before` has not, in the columns of `after`.
///
/// # Errors
/// What the store returns.
pub async fn added(location: &Location, before: &TableMetadata, after: &TableMetadata) -> Result<Snapshot> {
    let (then, now) = (before.current_snapshot(), after.current_snapshot());
    let (_, came) = apart(location, (before, then), (after, now)).await?;
    let schema = after.current_schema();
    let file = |(spec_id, entry): (i32, Entry)| {
        read::data_file(location, &entry, schema, &after.partition_columns(spec_id)?)
    };
    let files = came.into_iter().map(file).collect::<Result<Vec<_>>>()?;
    Ok(read::of_files(location, schema, files))
}

async fn live_files(
    location: &Location,
    metadata: &TableMetadata,
    manifests: impl Iterator<Item = &ManifestFile>,
) -> Result<HashMap<String, (i32, Entry)>> {
    let mut files = HashMap::new();
    for manifest in manifests {
        for entry in read::entries(location, metadata, manifest).await?.into_iter().filter(Entry::is_live) {
            files.insert(entry.file.url.clone(), (manifest.spec_id, entry));
        }
    }
    Ok(files)
}

async fn listed(location: &Location, snapshot: Option<&TableSnapshot>) -> Result<Arc<Vec<ManifestFile>>> {
    match snapshot {
        Some(snapshot) => read::manifests(location, snapshot).await,
        None => Ok(Arc::default()),
    }
}
