//! Reading: the files of a table at one version, through its manifest list and manifests.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::columns::to_arrow;
use super::manifest::{self, Entry};
use super::manifest_list::{self, ManifestFile};
use super::metadata::{PartitionColumn, TableMetadata, TableSnapshot};
use super::schema::{Field, Schema};
use super::{cache, statistics};
use crate::error::{Error, Result};
use crate::format::metrics::{FileColumns, FileStatistics};
use crate::format::{DataFile, Snapshot};
use crate::storage::Location;

/// Manifests that are read at once.
pub(super) const READS_MAX: usize = 16;

/// About what a data file takes in memory, but for its statistics.
const FILE_BYTES: usize = 384;

/// Reads the table metadata at `metadata_url`, from memory if it was read lately.
///
/// # Errors
/// [`Error::PermissionDenied`] when the URL lies outside of `location`, [`Error::FileNotFound`],
/// [`Error::CorruptFile`], [`Error::Unsupported`] for a format version other than 2.
pub async fn load(location: &Location, metadata_url: &str) -> Result<Arc<TableMetadata>> {
    let path = location.path_of(metadata_url)?;
    if let Some(metadata) = cache::get(metadata_url) {
        return Ok(metadata);
    }
    let bytes = location.store.get(&path).await?.bytes().await?;
    let metadata = Arc::new(TableMetadata::parse(metadata_url, &bytes)?);
    keep(&metadata, bytes.len());
    Ok(metadata)
}

/// Keeps what was read or just written for the next [`load`].
pub(super) fn keep(metadata: &Arc<TableMetadata>, json_bytes: usize) {
    // Parsed, the many small strings of a snapshot take about as much again.
    cache::put(&metadata.url, Arc::clone(metadata), json_bytes * 2);
}

/// Reads which files the table of `metadata` has, now or at the snapshot `snapshot_id`.
///
/// Costs one GET for the manifest list and one for each manifest, 16 at once, less what
/// was read lately. The data files themselves are not touched.
///
/// # Errors
/// [`Error::InvalidParameter`] when there is no such snapshot, [`Error::Unsupported`] when the table
/// has delete files or data files other than Parquet, and what [`load`] returns.
pub async fn snapshot(
    location: &Location,
    metadata: &TableMetadata,
    snapshot_id: Option<i64>,
) -> Result<Snapshot> {
    let version = version(metadata, snapshot_id)?;
    let schema = match (snapshot_id, version.and_then(|version| metadata.schema(version.schema_id?))) {
        (Some(_), Some(then)) => then,
        _ => metadata.current_schema(),
    };
    let files = match version {
        Some(version) => data_files(location, metadata, version, schema).await?,
        None => Vec::new(),
    };
    let analyzed = metadata.analyzed();
    let known = |field: &Field| Some((field.name.clone(), analyzed.get(&field.id)?.distinct));
    let distinct = Arc::new(schema.fields.iter().filter_map(known).collect());
    Ok(Snapshot { distinct, ..of_files(location, schema, files) })
}

/// A table of these columns that has exactly these files.
pub(super) fn of_files(location: &Location, schema: &Schema, files: Vec<DataFile>) -> Snapshot {
    Snapshot {
        schema: Arc::new(to_arrow(schema)),
        partition_columns: Vec::new(),
        numbered: false,
        by_field_id: true,
        files: files.into(),
        file_format: Arc::new(ParquetFormat::new()),
        location: location.clone(),
        distinct: Arc::default(),
    }
}

fn version(metadata: &TableMetadata, snapshot_id: Option<i64>) -> Result<Option<&TableSnapshot>> {
    let Some(id) = snapshot_id else {
        return Ok(metadata.current_snapshot());
    };
    let missing = || Error::InvalidParameter(format!("the table has no snapshot {id}"));
    metadata.snapshot(id).ok_or_else(missing).map(Some)
}

async fn data_files(
    location: &Location,
    metadata: &TableMetadata,
    version: &TableSnapshot,
    schema: &Schema,
) -> Result<Vec<DataFile>> {
    let manifests = manifests(location, version).await?;
    let schema = Arc::new(schema.clone());
    // Boxed one by one: a closure over references in a stream is not general enough to be sent.
    let mut reads: Vec<BoxFuture<'_, Result<Arc<Vec<DataFile>>>>> = Vec::new();
    for listed in manifests.iter() {
        if listed.live_files() > 0 {
            reads.push(Box::pin(manifest_files(location, metadata, listed, &schema)));
        }
    }
    let files: Vec<_> = stream::iter(reads).buffered(READS_MAX).try_collect().await?;
    Ok(files.iter().flat_map(|files: &Arc<Vec<DataFile>>| files.iter().cloned()).collect())
}

/// Reads the manifest list of `version`, from memory if it was read lately.
///
/// # Errors
/// [`Error::Unsupported`] when it lists delete manifests, [`Error::CorruptFile`].
pub(super) async fn manifests(
    location: &Location,
    version: &TableSnapshot,
) -> Result<Arc<Vec<ManifestFile>>> {
    let url = &version.manifest_list;
    if let Some(manifests) = cache::get(url) {
        return Ok(manifests);
    }
    let bytes = fetch(location, url).await?;
    let manifests = Arc::new(manifest_list::read(url, &bytes)?);
    if manifests.iter().any(|listed| listed.content != 0 && listed.live_files() > 0) {
        return Err(Error::Unsupported("Iceberg tables with delete files (merge-on-read)".to_owned()));
    }
    keep_list(url, &manifests);
    Ok(manifests)
}

/// Reads the paths of the live files that were written under another partition spec than the present one.
///
/// Costs the manifest list, and a GET for each manifest of another spec.
///
/// # Errors
/// As [`snapshot`].
pub async fn files_of_other_specs(location: &Location, metadata: &TableMetadata) -> Result<HashSet<Path>> {
    let mut paths = HashSet::new();
    let Some(version) = metadata.current_snapshot() else { return Ok(paths) };
    let manifests = manifests(location, version).await?;
    let is_other =
        |listed: &&ManifestFile| listed.spec_id != metadata.default_spec_id && listed.live_files() > 0;
    let mut reads: Vec<BoxFuture<'_, Result<Vec<Entry>>>> = Vec::new();
    for listed in manifests.iter().filter(is_other) {
        reads.push(Box::pin(entries(location, metadata, listed)));
    }
    let mut reads = stream::iter(reads).buffer_unordered(READS_MAX);
    while let Some(found) = reads.next().await {
        for entry in found?.iter().filter(|entry| entry.is_live()) {
            paths.insert(location.path_of(&entry.file.url)?);
        }
    }
    Ok(paths)
}

/// Reads the manifest list of `version` from the store, whatever it lists.
pub(super) async fn listed(location: &Location, version: &TableSnapshot) -> Result<Vec<ManifestFile>> {
    manifest_list::read(&version.manifest_list, &fetch(location, &version.manifest_list).await?)
}

/// Keeps a manifest list that was read or just written for the next [`manifests`].
pub(super) fn keep_list(url: &str, manifests: &Arc<Vec<ManifestFile>>) {
    cache::put(url, Arc::clone(manifests), manifests.len() * 2 * size_of::<ManifestFile>());
}

/// The live files of one manifest, from memory if it was read lately under the same schema.
async fn manifest_files(
    location: &Location,
    metadata: &TableMetadata,
    listed: &ManifestFile,
    schema: &Arc<Schema>,
) -> Result<Arc<Vec<DataFile>>> {
    // Paths within the location's store are part of what is kept, and bounds in the order of the columns.
    // The schema's number would not do: a transaction that is undone gave it to other columns.
    let key = format!("{} {} {}", listed.url, schema.shape(), location.url);
    if let Some(files) = cache::get(&key) {
        return Ok(files);
    }
    let partition = metadata.partition_columns(listed.spec_id)?;
    let bytes = fetch(location, &listed.url).await?;
    let (location, listed, schema) = (location.clone(), listed.clone(), schema.clone());
    let files = off_the_reactor(move || {
        let entries = manifest::read(&listed, &bytes, &partition)?;
        let live: Vec<&Entry> = entries.iter().filter(|entry| entry.is_live()).collect();
        let known = live.iter().map(|entry| statistics::of_file(&entry.file, &schema, &partition));
        let columns = FileColumns::new(&Arc::new(to_arrow(&schema)), &known.collect::<Vec<_>>())?;
        let file = |(place, entry): (usize, &&Entry)| known_file(&location, entry, columns.file(place));
        let files = live.iter().enumerate().map(file).collect::<Result<Vec<_>>>()?;
        Ok((files, columns.memory_bytes()))
    });
    let (files, bytes) = files.await?;
    let files = Arc::new(files);
    cache::put(&key, files.clone(), files.len() * FILE_BYTES + bytes);
    Ok(files)
}

/// A live file as scans read it.
pub(super) fn data_file(
    location: &Location,
    entry: &Entry,
    schema: &Schema,
    partition: &[PartitionColumn],
) -> Result<DataFile> {
    let known = statistics::of_file(&entry.file, schema, partition);
    known_file(location, entry, Arc::new(known).into())
}

fn known_file(location: &Location, entry: &Entry, statistics: FileStatistics) -> Result<DataFile> {
    let file = &entry.file;
    if file.content != 0 {
        return Err(Error::Unsupported("Iceberg tables with delete files (merge-on-read)".to_owned()));
    }
    if !file.format.eq_ignore_ascii_case("parquet") {
        return Err(Error::Unsupported(format!("Iceberg data files of format {}", file.format)));
    }
    let object = ObjectMeta {
        location: location.path_of(&file.url)?,
        // A data file is never overwritten, so no time is needed to tell its versions apart.
        last_modified: DateTime::UNIX_EPOCH,
        size: u64::try_from(file.size_bytes).unwrap_or(0),
        e_tag: None,
        version: None,
    };
    Ok(DataFile { object, partition: Vec::new(), statistics: Some(statistics) })
}

/// Reads all entries of a manifest, deleted ones included.
pub(super) async fn entries(
    location: &Location,
    metadata: &TableMetadata,
    listed: &ManifestFile,
) -> Result<Vec<Entry>> {
    let partition = metadata.partition_columns(listed.spec_id)?;
    let bytes = fetch(location, &listed.url).await?;
    let listed = listed.clone();
    off_the_reactor(move || manifest::read(&listed, &bytes, &partition)).await
}

async fn fetch(location: &Location, url: &str) -> Result<Bytes> {
    let path = location.path_of(url)?;
    Ok(location.store.get(&path).await?.bytes().await?)
}

/// Runs `work`, which takes a while for a large manifest, where it holds up no other task.
async fn off_the_reactor<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Internal(format!("reading a manifest: {error}")))?
}
