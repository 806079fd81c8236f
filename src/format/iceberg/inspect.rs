//! Inspection: a table's own books as rows, under the names that Trino gives them.
//!
//! `"t$snapshots"`, `"t$history"`, `"t$refs"` and `"t$properties"` stand in the table's metadata;
//! `"t$manifests"`, `"t$files"` and `"t$partitions"` are read from the manifests of one snapshot. A path
//! is the absolute URL, but for a lake on this machine's disk: there it is relative to the root, as
//! clients are not told where that lies.
//!
//! Source: <https://trino.io/docs/current/connector/iceberg.html#metadata-tables>

mod columns;
mod files;

use arrow::array::RecordBatch;

use self::columns::Columns;
use super::metadata::{TableMetadata, TableSnapshot};
use crate::error::Result;
use crate::storage::Location;

/// One of the tables about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspection {
    Snapshots,
    History,
    Refs,
    Properties,
    Manifests,
    Files,
    Partitions,
}

const NAMES: [(&str, Inspection); 7] = [
    ("snapshots", Inspection::Snapshots),
    ("history", Inspection::History),
    ("refs", Inspection::Refs),
    ("properties", Inspection::Properties),
    ("manifests", Inspection::Manifests),
    ("files", Inspection::Files),
    ("partitions", Inspection::Partitions),
];

impl Inspection {
    /// Splits `t$files` into the table's name and what is asked of it.
    pub fn of(name: &str) -> Option<(&str, Self)> {
        let (table, asked) = name.rsplit_once('$')?;
        NAMES.iter().find(|(name, _)| *name == asked).map(|(_, inspection)| (table, *inspection))
    }

    /// The rows, at the current snapshot of `metadata`.
    ///
    /// Costs nothing for what stands in the metadata; one GET for `$manifests`, and one more for each
    /// manifest for the other two.
    ///
    /// # Errors
    /// As [`snapshot`](super::snapshot).
    pub async fn rows(self, location: &Location, metadata: &TableMetadata) -> Result<RecordBatch> {
        match self {
            Self::Snapshots => snapshots(location, metadata),
            Self::History => history(metadata),
            Self::Refs => references(metadata),
            Self::Properties => properties(metadata),
            Self::Manifests => files::manifests(location, metadata).await,
            Self::Files => files::files(location, metadata).await,
            Self::Partitions => files::partitions(location, metadata).await,
        }
    }
}

fn snapshots(location: &Location, metadata: &TableMetadata) -> Result<RecordBatch> {
    let all = &metadata.snapshots;
    let text = |of: fn(&TableSnapshot) -> String| all.iter().map(of).collect::<Vec<_>>();
    let mut columns = Columns::default();
    columns.instants("committed_at", all.iter().map(|one| one.timestamp_ms));
    columns.longs("snapshot_id", all.iter().map(|one| Some(one.snapshot_id)));
    columns.longs("parent_id", all.iter().map(|one| one.parent_snapshot_id));
    columns.texts("operation", text(|one| one.summary.get("operation").cloned().unwrap_or_default()));
    columns.texts("manifest_list", all.iter().map(|one| shown(location, &one.manifest_list)));
    columns.text_maps("summary", all.iter().map(|one| &one.summary));
    columns.finish()
}

fn history(metadata: &TableMetadata) -> Result<RecordBatch> {
    let log = &metadata.snapshot_log;
    let snapshot = |id: i64| metadata.snapshot(id);
    let mut ancestors = Vec::new();
    let mut next = metadata.current_snapshot();
    while let Some(one) = next.filter(|one| !ancestors.contains(&one.snapshot_id)) {
        ancestors.push(one.snapshot_id);
        next = one.parent_snapshot_id.and_then(snapshot);
    }
    let mut columns = Columns::default();
    columns.instants("made_current_at", log.iter().map(|one| one.timestamp_ms));
    columns.longs("snapshot_id", log.iter().map(|one| Some(one.snapshot_id)));
    columns.longs("parent_id", log.iter().map(|one| snapshot(one.snapshot_id)?.parent_snapshot_id));
    columns.flags("is_current_ancestor", log.iter().map(|one| ancestors.contains(&one.snapshot_id)));
    columns.finish()
}

fn references(metadata: &TableMetadata) -> Result<RecordBatch> {
    let refs = &metadata.refs;
    let number = |key: &'static str| refs.values().map(move |one| one.rest.get(key)?.as_i64());
    let mut columns = Columns::default();
    columns.texts("name", refs.keys().cloned());
    columns.texts("type", refs.values().map(|one| one.kind.to_uppercase()));
    columns.longs("snapshot_id", refs.values().map(|one| Some(one.snapshot_id)));
    columns.longs("max_reference_age_in_ms", number("max-ref-age-ms"));
    columns.longs("min_snapshots_to_keep", number("min-snapshots-to-keep"));
    columns.longs("max_snapshot_age_in_ms", number("max-snapshot-age-ms"));
    columns.finish()
}

fn properties(metadata: &TableMetadata) -> Result<RecordBatch> {
    let mut columns = Columns::default();
    columns.texts("key", metadata.properties.keys().cloned());
    columns.texts("value", metadata.properties.values().cloned());
    columns.finish()
}

/// A path as clients are shown it.
fn shown(location: &Location, url: &str) -> String {
    let root = location.url.as_str();
    let below = if root.starts_with("file://") { url.strip_prefix(root) } else { None };
    below.unwrap_or(url).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_its_last_dollar() {
        assert_eq!(Inspection::of("t$files"), Some(("t", Inspection::Files)));
        assert_eq!(Inspection::of("a$b$refs"), Some(("a$b", Inspection::Refs)));
        assert_eq!(Inspection::of("t$file"), None);
        assert_eq!(Inspection::of("files"), None);
    }
}
