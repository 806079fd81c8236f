//! Rebasing: whether changes that were made on one version of a table hold on a later one.
//!
//! An append does as long as the table asks nothing more of its rows: files keep the columns and partitions
//! that they were written with. An overwrite does when nobody touched what it replaces: no file came into or
//! went out of the partitions that it rewrites, and every file that it takes away is still there. For
//! all but appends the table's columns and partitions must be the same.

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
    if changes.iter().all(Change::is_append) {
        return if takes_appends(base, current)? { Ok(()) } else { Err(conflict()) };
    }
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
    let (_, pending) = draft(&table, Some(base), changes.to_vec())?;
    if !pending.removes() {
        return Ok(());
    }
    for (spec_id, entry) in changed_files(location, base, current).await? {
        let path = location.path_of(&entry.file.url)?;
        let is_taken = pending.takes(spec_id, &entry, &path) || pending.crosses(spec_id);
        if is_taken || pending.empties(spec_id, &entry) {
            return Err(conflict());
        }
    }
    Ok(())
}

/// Returns `changes`, which were made on `base`, so that they mean the same on a later version.
pub fn as_written(base: &TableMetadata, changes: Vec<Change>) -> Vec<Change> {
    if !changes.iter().all(Change::is_append) {
        return changes;
    }
    let (schema_id, spec_id) = (base.current_schema_id, base.default_spec_id);
    let pinned = |change| match change {
        Change::Append(files) => Change::AppendAs { files, schema_id, spec_id },
        other => other,
    };
    changes.into_iter().map(pinned).collect()
}

/// Whether rows that were written for `base` are right in `current` as they are: they lack what was added
/// since, which then must be allowed to be null.
fn takes_appends(base: &TableMetadata, current: &TableMetadata) -> Result<bool> {
    let (before, now) = (base.current_schema(), current.current_schema());
    let rules = current.rules()?;
    let is_known = current.schema(base.current_schema_id) == Some(before)
        && current.spec(base.default_spec_id) == Some(base.default_spec());
    let takes = |field: &Field| match before.fields.iter().find(|known| known.id == field.id) {
        Some(known) => known.required || !field.required,
        None => !field.required && !rules.defaults.contains_key(&field.id),
    };
    // One that was replaced has none of its columns.
    let is_same = now.fields.iter().any(|field| before.fields.iter().any(|known| known.id == field.id));
    Ok(is_known && is_same && now.fields.iter().all(takes) && base.rules()?.asks_the_same(&rules))
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
