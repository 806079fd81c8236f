//! Expiry: snapshots that were replaced long ago leave a table's metadata, and what names them with it.
//!
//! A snapshot's age counts from the moment at which another took its place, so that whoever asks for
//! the table as it was within the time kept finds it. The current snapshot stays, and so do those that
//! a branch or tag names.
//!
//! Source: <https://iceberg.apache.org/spec/#snapshot-retention-policy>

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::metadata::TableMetadata;

/// Table property: milliseconds for which a snapshot stays readable after another took its place.
const AGE_PROPERTY: &str = "history.expire.max-snapshot-age-ms";
/// Table property: snapshots that stay, however old they are.
const KEEP_PROPERTY: &str = "history.expire.min-snapshots-to-keep";

/// What is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Milliseconds since 1970 from which on everything is kept, unless the table says otherwise.
    pub before_ms: i64,
    pub now_ms: i64,
    /// Snapshots that are kept at the most, the newest ones.
    pub most: usize,
}

impl Expiry {
    /// Keeps what was current within `retention`.
    pub fn after(retention: Duration, now_ms: i64) -> Self {
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        Self { before_ms: now_ms.saturating_sub(retention_ms), now_ms, most: usize::MAX }
    }

    /// Keeps no more than so many snapshots, however young they are.
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// From when on this table keeps everything.
    pub(super) fn of(self, metadata: &TableMetadata) -> i64 {
        let own = metadata.properties.get(AGE_PROPERTY).and_then(|text| text.parse::<i64>().ok());
        own.map_or(self.before_ms, |age_ms| self.now_ms.saturating_sub(age_ms.max(0)))
    }

    /// The number of snapshots that `metadata` would lose.
    pub fn count(self, metadata: &TableMetadata) -> usize {
        expired(metadata, self).len()
    }
}

/// Takes the snapshots out of `draft` that are no longer kept.
pub(super) fn expire(draft: &mut TableMetadata, expiry: Expiry) {
    let before_ms = expiry.of(draft);
    let gone = expired(draft, expiry);
    if gone.is_empty() {
        return;
    }
    draft.snapshots.retain(|snapshot| !gone.contains(&snapshot.snapshot_id));
    // What came before a gap is no history any more.
    let last_gap = draft.snapshot_log.iter().rposition(|entry| gone.contains(&entry.snapshot_id));
    if let Some(gap) = last_gap {
        draft.snapshot_log.drain(..=gap);
    }
    draft.metadata_log.retain(|entry| entry.timestamp_ms >= before_ms);
    for key in ["statistics", "partition-statistics"] {
        if let Some(Value::Array(files)) = draft.rest.get_mut(key) {
            files.retain(|file| file["snapshot-id"].as_i64().is_none_or(|id| !gone.contains(&id)));
        }
    }
}

/// The snapshots that nobody names and that are no longer kept.
pub(super) fn expired(metadata: &TableMetadata, expiry: Expiry) -> HashSet<i64> {
    let before_ms = expiry.of(metadata);
    let mut kept: HashSet<i64> = metadata.refs.values().map(|reference| reference.snapshot_id).collect();
    kept.extend(metadata.current_snapshot_id);
    let least = metadata.properties.get(KEEP_PROPERTY).and_then(|text| text.parse().ok()).unwrap_or(1_usize);
    let mut newest: Vec<_> =
        metadata.snapshots.iter().map(|one| (one.timestamp_ms, one.snapshot_id)).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    kept.extend(newest.iter().take(least.max(1)).map(|(_, id)| *id));
    let surplus: HashSet<i64> = newest.iter().skip(expiry.most.max(1)).map(|(_, id)| *id).collect();
    let replaced = replaced(metadata);
    let snapshots = metadata.snapshots.iter().filter(|one| !kept.contains(&one.snapshot_id));
    let old = snapshots.filter(|one| {
        let id = one.snapshot_id;
        surplus.contains(&id) || replaced.get(&id).copied().unwrap_or(one.timestamp_ms) < before_ms
    });
    old.map(|one| one.snapshot_id).collect()
}

/// When each snapshot was replaced by another for the last time.
fn replaced(metadata: &TableMetadata) -> HashMap<i64, i64> {
    let log = metadata.snapshot_log.windows(2);
    log.map(|pair| (pair[0].snapshot_id, pair[1].timestamp_ms)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::metadata::{MetadataLog, Reference, SnapshotLog, TableSnapshot};
    use super::*;

    fn table(times: &[i64]) -> TableMetadata {
        let json = serde_json::json!({
            "format-version": 2, "table-uuid": "u", "location": "s3://b/t", "last-sequence-number": 1,
            "last-updated-ms": 1, "last-column-id": 0, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
            "default-spec-id": 0, "last-partition-id": 999, "partition-specs": [{"spec-id": 0, "fields": []}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
            "statistics": [{"snapshot-id": 0}, {"snapshot-id": 2}],
        });
        let mut table = TableMetadata::parse("s3://b/t/1.json", json.to_string().as_bytes()).unwrap();
        for (snapshot_id, timestamp_ms) in (0..).zip(times.iter().copied()) {
            table.snapshots.push(TableSnapshot {
                snapshot_id,
                parent_snapshot_id: None,
                sequence_number: snapshot_id,
                timestamp_ms,
                manifest_list: String::new(),
                summary: BTreeMap::new(),
                schema_id: None,
                rest: serde_json::Map::new(),
            });
            table.snapshot_log.push(SnapshotLog { timestamp_ms, snapshot_id });
            table.metadata_log.push(MetadataLog { timestamp_ms, metadata_file: String::new() });
            table.current_snapshot_id = Some(snapshot_id);
        }
        table
    }

    fn all(now_ms: i64) -> Expiry {
        Expiry::after(Duration::ZERO, now_ms)
    }

    fn ids(table: &TableMetadata) -> Vec<i64> {
        table.snapshots.iter().map(|one| one.snapshot_id).collect()
    }

    #[test]
    fn what_was_current_within_the_retention_stays() {
        // The second was written long ago, but replaced only at 90.
        let mut draft = table(&[10, 20, 90, 95]);
        let expiry = Expiry { before_ms: 50, ..all(100) };
        assert_eq!(expiry.count(&draft), 1);
        expire(&mut draft, expiry);
        assert_eq!(ids(&draft), [1, 2, 3]);
        assert_eq!(draft.snapshot_log.len(), 3);
        assert_eq!(draft.metadata_log.len(), 2);
        assert_eq!(draft.rest["statistics"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn the_current_one_tags_and_the_least_number_stay() {
        let mut draft = table(&[10, 20, 30, 40, 50]);
        let tag = Reference { snapshot_id: 1, kind: "tag".to_owned(), rest: serde_json::Map::new() };
        draft.refs.insert("v1".to_owned(), tag);
        expire(&mut draft, all(1000));
        assert_eq!(ids(&draft), [1, 4]);
        // History before a gap is none: what tag v1 names was current before snapshots that are gone.
        assert_eq!(draft.snapshot_log.len(), 1);

        let mut draft = table(&[10, 20, 30]);
        draft.properties.insert(KEEP_PROPERTY.to_owned(), "2".to_owned());
        expire(&mut draft, all(1000));
        assert_eq!(ids(&draft), [1, 2]);
    }

    #[test]
    fn young_snapshots_go_when_there_are_too_many() {
        let mut draft = table(&[10, 20, 30, 40]);
        expire(&mut draft, Expiry::after(Duration::from_secs(60), 50).at_most(2));
        assert_eq!(ids(&draft), [2, 3]);
    }

    #[test]
    fn a_tables_own_age_wins() {
        let mut draft = table(&[10, 20, 30]);
        draft.properties.insert(AGE_PROPERTY.to_owned(), "90".to_owned());
        assert_eq!(all(1000).count(&draft), 2);
        assert_eq!(Expiry { now_ms: 100, ..all(1000) }.count(&draft), 0);
    }
}
