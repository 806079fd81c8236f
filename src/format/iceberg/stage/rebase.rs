//! Rebasing: whether changes that were made on one version of a table hold on a later one.
//!
//! An append always does. An overwrite does when nobody touched what it replaces: no file came into or
//! went out of the partitions that it rewrites, and every file that it takes away is still there. The
//! table's columns and partitions must be the same, whatever is done.

use object_store::path::Path;

use super::{Change, Table, draft, exchange};
use crate::error::{Error, Result};
use crate::format::iceberg::manifest::Entry;
use crate::format::iceberg::metadata::TableMetadata;
use crate::format::iceberg::rules::Rules;
use crate::format::iceberg::schema::Field;
use crate::storage::Location;

/// Checks that `changes`, which were made on `base`, can be made on `current` as well.
///
/// Costs nothing for appends; else the manifest lists of both versions and the manifests that only one
/// of them has.
///
/// # Errors
/// [`Error::CommitConflict`] when they cannot.
pub async fn ensure_rebasable(
    location: &Location,
    table_dir: &Path,
    base: &TableMetadata,
    current: &TableMetadata,
    changes: &[Change],
) -> Result<()> {
    let table = Table { location, dir: table_dir };
    let conflict = || Error::table_conflict(&table.name());
    // What another engine relied upon is for its own requirements to say, against the newest version.
    let redefines = changes
        .iter()
        .any(|change| matches!(change, Change::Create(_) | Change::Replace(_) | Change::Updates(_)));
    if redefines || !same_shape(base, current) {
        return Err(conflict());
    }
    let is_whole = |change: &Change| matches!(change, Change::Exchange(exchange) if exchange.is_whole);
    if changes.iter().any(is_whole) && base.url != current.url {
        return Err(conflict());
    }
    // Rows that came since were not looked at.
    let has_new_rows = base.current_snapshot_id != current.current_snapshot_id;
    let rules = base.rules()?;
    if has_new_rows && changes.iter().any(|change| relies_on_rows(change, &rules)) {
        return Err(conflict());
    }
    let sets_rules = changes.iter().any(|change| matches!(change, Change::SetRules(_)));
    if sets_rules && rules != current.rules()? {
        return Err(conflict());
    }
    if changes.iter().all(|change| matches!(change, Change::Append(_))) {
        return Ok(());
    }
    let (_, pending) = draft(&table, Some(base), changes.to_vec())?;
    if !pending.removes() {
        return Ok(());
    }
    for (spec_id, entry) in changed_files(location, base, current).await? {
        let path = location.path_of(&entry.file.url)?;
        if pending.takes(spec_id, &entry, &path) || pending.empties(spec_id, &entry) {
            return Err(conflict());
        }
    }
    Ok(())
}

/// Whether a change was found to be right for the rows of its base, whose rules these are.
fn relies_on_rows(change: &Change, before: &Rules) -> bool {
    match change {
        Change::Evolve(evolution) => evolution.relies_on_rows(),
        Change::SetRules(rules) => !rules.asks_the_same(before) || rules.keys != before.keys,
        _ => false,
    }
}

/// Whether files written for one version fit into the other: the same columns, ids and partitions.
fn same_shape(base: &TableMetadata, current: &TableMetadata) -> bool {
    let (one, other) = (base.current_schema(), current.current_schema());
    let shape = |field: &Field| (field.id, field.kind.clone(), field.required);
    let columns = one.fields.iter().map(shape).eq(other.fields.iter().map(shape));
    let asks = |metadata: &TableMetadata| metadata.rules().unwrap_or_default();
    columns && base.default_spec() == current.default_spec() && asks(base).asks_the_same(&asks(current))
}

/// The live files that only one of two versions has.
async fn changed_files(
    location: &Location,
    base: &TableMetadata,
    current: &TableMetadata,
) -> Result<Vec<(i32, Entry)>> {
    let (before, after) = (base.current_snapshot(), current.current_snapshot());
    let (mut gone, came) = exchange::apart(location, (base, before), (current, after)).await?;
    gone.extend(came);
    Ok(gone)
}
