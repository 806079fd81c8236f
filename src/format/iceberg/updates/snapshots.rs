//! Snapshots, branches and tags: how updates move them.

use serde_json::Value;

use super::{Draft, MAIN, Update, invalid};
use crate::error::{Error, Result};
use crate::format::iceberg::metadata::{Reference, SnapshotLog, TableMetadata, TableSnapshot};

/// What only tables of format version 3 have.
const OF_VERSION_3: [&str; 3] = ["first-row-id", "added-rows", "key-id"];

/// How far a client's clock may be ahead of ours.
const CLOCKS_DIFFER_MS: i64 = 60 * 60 * 1000;

/// The snapshot that a branch or tag is at.
pub(super) fn of_reference(metadata: &TableMetadata, name: &str) -> Option<i64> {
    match metadata.refs.get(name) {
        Some(reference) => Some(reference.snapshot_id),
        None if name == MAIN => metadata.current_snapshot_id.filter(|id| *id != -1),
        None => None,
    }
}

impl Draft {
    pub(super) fn apply_to_snapshots(&mut self, update: &Update) -> Result<()> {
        match update {
            Update::AddSnapshot { snapshot } => self.add_snapshot(snapshot),
            Update::SetSnapshotRef { ref_name, reference } => self.set_reference(ref_name, reference),
            Update::RemoveSnapshotRef { ref_name } => {
                self.metadata.refs.remove(ref_name);
                if ref_name == MAIN {
                    self.metadata.current_snapshot_id = None;
                }
                Ok(())
            }
            Update::RemoveSnapshots { snapshot_ids } => self.remove_snapshots(snapshot_ids),
            Update::SetStatistics { statistics } => self.set_statistics("statistics", statistics),
            Update::SetPartitionStatistics { partition_statistics } => {
                self.set_statistics("partition-statistics", partition_statistics)
            }
            Update::RemoveStatistics { snapshot_id } => {
                self.remove_statistics("statistics", *snapshot_id);
                Ok(())
            }
            Update::RemovePartitionStatistics { snapshot_id } => {
                self.remove_statistics("partition-statistics", *snapshot_id);
                Ok(())
            }
            other => Err(Error::Internal(format!("{other:?} is about no snapshot"))),
        }
    }

    fn add_snapshot(&mut self, snapshot: &TableSnapshot) -> Result<()> {
        let metadata = &mut self.metadata;
        let id = snapshot.snapshot_id;
        if metadata.snapshot(id).is_some() {
            return Err(invalid(format!("there is a snapshot {id} already")));
        }
        if let Some(parent) =
            snapshot.parent_snapshot_id.filter(|parent| metadata.snapshot(*parent).is_none())
        {
            return Err(invalid(format!("there is no snapshot {parent}, which snapshot {id} follows")));
        }
        if let Some(field) = OF_VERSION_3.iter().find(|field| snapshot.rest.contains_key(**field)) {
            let message = format!("a snapshot with \"{field}\": Iceberg tables of format version 3");
            return Err(Error::Unsupported(message));
        }
        if snapshot.schema_id.is_some_and(|schema| metadata.schema(schema).is_none()) {
            return Err(invalid(format!("snapshot {id} names a schema that the table does not have")));
        }
        match snapshot.sequence_number.saturating_sub(metadata.last_sequence_number) {
            1 => {}
            // Somebody else was first.
            ..=0 => {
                return Err(Error::table_conflict(metadata.location.rsplit('/').next().unwrap_or_default()));
            }
            _ => return Err(invalid(format!("the sequence number of snapshot {id} is not the next one"))),
        }
        if snapshot.timestamp_ms > chrono::Utc::now().timestamp_millis() + CLOCKS_DIFFER_MS {
            return Err(invalid(format!("snapshot {id} was made in the future")));
        }
        metadata.last_sequence_number = snapshot.sequence_number;
        metadata.last_updated_ms = metadata.last_updated_ms.max(snapshot.timestamp_ms);
        metadata.snapshots.push(snapshot.clone());
        self.added_snapshots.insert(id);
        Ok(())
    }

    fn set_reference(&mut self, name: &str, reference: &Reference) -> Result<()> {
        let metadata = &mut self.metadata;
        let id = reference.snapshot_id;
        if !matches!(reference.kind.as_str(), "branch" | "tag") || name == MAIN && reference.kind == "tag" {
            return Err(invalid(format!("\"{name}\" cannot be a {}", reference.kind)));
        }
        let Some(snapshot) = metadata.snapshot(id) else {
            return Err(invalid(format!("\"{name}\" cannot be at snapshot {id}, which does not exist")));
        };
        let timestamp_ms = match self.added_snapshots.contains(&id) {
            true => snapshot.timestamp_ms,
            false => chrono::Utc::now().timestamp_millis(),
        };
        if name == MAIN && metadata.current_snapshot_id != Some(id) {
            metadata.current_snapshot_id = Some(id);
            metadata.snapshot_log.push(SnapshotLog { timestamp_ms, snapshot_id: id });
        }
        metadata.refs.insert(name.to_owned(), reference.clone());
        Ok(())
    }

    fn remove_snapshots(&mut self, ids: &[i64]) -> Result<()> {
        let metadata = &mut self.metadata;
        if metadata.current_snapshot_id.is_some_and(|current| ids.contains(&current)) {
            return Err(invalid("the current snapshot cannot be removed"));
        }
        metadata.snapshots.retain(|snapshot| !ids.contains(&snapshot.snapshot_id));
        metadata.snapshot_log.retain(|entry| !ids.contains(&entry.snapshot_id));
        metadata.refs.retain(|_, reference| !ids.contains(&reference.snapshot_id));
        for snapshot in &mut metadata.snapshots {
            snapshot.parent_snapshot_id = snapshot.parent_snapshot_id.filter(|parent| !ids.contains(parent));
        }
        for id in ids {
            self.remove_statistics("statistics", *id);
            self.remove_statistics("partition-statistics", *id);
        }
        Ok(())
    }

    /// Keeps a statistics file, which other engines read; it must lie in the table's folder.
    fn set_statistics(&mut self, list: &str, statistics: &Value) -> Result<()> {
        let id = statistics["snapshot-id"].as_i64().ok_or_else(|| invalid("statistics of no snapshot"))?;
        let path = statistics["statistics-path"].as_str().unwrap_or_default();
        let folder = format!("{}/", self.metadata.location);
        if !path.starts_with(&folder) || path.split('/').any(|part| part == "..") {
            return Err(Error::PermissionDenied(format!("\"{path}\" lies outside of the table's folder")));
        }
        self.remove_statistics(list, id);
        let known = self.metadata.rest.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(known) = known {
            known.push(statistics.clone());
        }
        Ok(())
    }

    fn remove_statistics(&mut self, list: &str, snapshot_id: i64) {
        if let Some(Value::Array(known)) = self.metadata.rest.get_mut(list) {
            known.retain(|statistics| statistics["snapshot-id"].as_i64() != Some(snapshot_id));
        }
    }
}
