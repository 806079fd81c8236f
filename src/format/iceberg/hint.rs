//! The hint: how other engines find a table's newest version when they are given its folder alone.
//!
//! `metadata/version-hint.text` holds a number N, and `metadata/vN.metadata.json` is a copy of the
//! metadata that was committed under it. PyIceberg, DuckDB and Iceberg's own Hadoop tables (Spark,
//! Flink) all follow these two. Nothing of ours does: the truth is what a commit named.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::metadata::{TableMetadata, version_in};
use super::stage::{metadata_path, to_json};
use crate::error::Result;
use crate::storage::Location;

const HINT: &str = "version-hint.text";

fn copy_name(version: u64) -> String {
    format!("v{version}.metadata.json")
}

/// The URL under which the metadata file at `url` is copied for those who follow the hint.
pub(super) fn copy_of(url: &str) -> String {
    let folder = url.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{}", copy_name(version_in(url)))
}

/// The hint of the table in `table_dir`, and the copy that it names now.
pub async fn hinted_copy(location: &Location, table_dir: &Path) -> (Path, Option<Path>) {
    let hint = metadata_path(table_dir, HINT);
    let copy = hinted(location, &hint).await.map(|version| metadata_path(table_dir, &copy_name(version)));
    (hint, copy)
}

/// Publishes a version that was committed to those who look at the table's folder.
///
/// Best effort: a caller that fails here has still committed. Of two writers that publish at once the
/// newer version stays, but for a moment between the question which one is newer and the answer.
/// Costs two PUTs and a GET, in two round trips.
///
/// # Errors
/// What the store returns.
pub async fn publish_hint(location: &Location, table_dir: &Path, metadata: &TableMetadata) -> Result<()> {
    let version = metadata.version();
    let copy = metadata_path(table_dir, &copy_name(version));
    let hint = metadata_path(table_dir, HINT);
    let json = to_json(metadata)?;
    let (copied, hinted) = futures::join!(location.store.put(&copy, json.into()), hinted(location, &hint));
    copied?;
    if hinted.is_some_and(|newer| newer > version) {
        return Ok(());
    }
    // No line end: PyIceberg takes the whole content for the number.
    location.store.put(&hint, PutPayload::from(version.to_string().into_bytes())).await?;
    Ok(())
}

/// The version that the hint names now; whatever cannot be read is overwritten.
async fn hinted(location: &Location, hint: &Path) -> Option<u64> {
    let bytes = location.store.get(hint).await.ok()?.bytes().await.ok()?;
    str::from_utf8(&bytes).ok()?.trim().parse().ok()
}
