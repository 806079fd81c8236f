//! Changes of rows: which files came and went from one snapshot of a table to a later one.
//!
//! A snapshot's own manifests say what it added and what it deleted. A rewrite adds files that hold
//! mostly the rows of those that it deletes; which rows truly changed is for the reader to find out.

use super::manifest::{Entry, Status};
use super::metadata::{TableMetadata, TableSnapshot};
use super::read;
use super::schema::Schema;
use crate::error::{Error, Result};
use crate::format::{DataFile, Snapshot};
use crate::storage::Location;

/// Snapshots that one call looks through.
const STEPS_MAX: usize = 1000;

/// What one snapshot did to the files of its table.
#[derive(Debug, Clone)]
pub struct RowChange {
    pub snapshot_id: i64,
    pub timestamp_ms: i64,
    pub added: Snapshot,
    pub removed: Snapshot,
}

/// What the snapshots after `from` up to `to` did, oldest first, in the columns that the last one has.
/// Without `from`, from the beginning.
///
/// Costs for each snapshot a GET for its manifest list and one for each manifest that it wrote.
///
/// # Errors
/// [`Error::SnapshotTooOld`] when a snapshot between the two has expired, [`Error::InvalidParameter`] when
/// the one does not come before the other, [`Error::LimitExceeded`] for too many of them.
pub async fn changes(
    location: &Location,
    metadata: &TableMetadata,
    from: Option<i64>,
    to: Option<i64>,
) -> Result<Vec<RowChange>> {
    let steps = steps(metadata, from, to)?;
    let last = steps.last().and_then(|last| metadata.schema(last.schema_id?));
    let is_newest = to == metadata.current_snapshot_id;
    let schema = if is_newest { None } else { last }.unwrap_or_else(|| metadata.current_schema());
    let mut changes = Vec::with_capacity(steps.len());
    for step in steps {
        changes.push(of_step(location, metadata, step, schema).await?);
    }
    Ok(changes)
}

/// The snapshots after `from` up to `to`, oldest first.
fn steps(metadata: &TableMetadata, from: Option<i64>, to: Option<i64>) -> Result<Vec<&TableSnapshot>> {
    let mut steps = Vec::new();
    let mut next = to;
    while next != from {
        let Some(id) = next else {
            let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
            let message = format!("snapshot {from} of the table does not come before {to}");
            return Err(Error::InvalidParameter(message));
        };
        let expired = || Error::SnapshotTooOld(format!("snapshot {id} of the table has expired"));
        let step = metadata.snapshot(id).ok_or_else(expired)?;
        steps.push(step);
        if steps.len() > STEPS_MAX {
            let message = format!("more than {STEPS_MAX} snapshots lie between the two versions");
            return Err(Error::LimitExceeded(message));
        }
        next = step.parent_snapshot_id;
    }
    steps.reverse();
    Ok(steps)
}

async fn of_step(
    location: &Location,
    metadata: &TableMetadata,
    step: &TableSnapshot,
    schema: &Schema,
) -> Result<RowChange> {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for manifest in read::manifests(location, step).await?.iter() {
        if manifest.added_snapshot_id != step.snapshot_id {
            continue;
        }
        let partition = metadata.partition_columns(manifest.spec_id)?;
        let file =
            |entry: &Entry| -> Result<DataFile> { read::data_file(location, entry, schema, &partition) };
        for entry in read::entries(location, metadata, manifest).await? {
            match entry.status {
                _ if entry.snapshot_id != Some(step.snapshot_id) => {}
                Status::Added => added.push(file(&entry)?),
                Status::Deleted => removed.push(file(&entry)?),
                Status::Existing => {}
            }
        }
    }
    // A rewrite that moves rows says that it changes none.
    if step.summary.get("operation").is_some_and(|operation| operation == "replace") {
        (added, removed) = (Vec::new(), Vec::new());
    }
    Ok(RowChange {
        snapshot_id: step.snapshot_id,
        timestamp_ms: step.timestamp_ms,
        added: read::of_files(location, schema, added),
        removed: read::of_files(location, schema, removed),
    })
}
