//! Branches in transactions: which one is seen, how one is made, and how it is merged.
//!
//! A merge is a commit to the trunk that was made, as it were, by a transaction that began when the branch
//! did: it holds all the branch's operations and whatever these relied upon. So it is checked, rebased and
//! refused as any other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;

use super::super::branch::ensure_name;
use super::super::history::AsOf;
use super::super::lake::Lake;
use super::super::log::{BranchRecord, Dependency, Operation};
use super::super::state::LakeState;
use super::{LakeView, Place, Transaction, Written, lock};
use crate::error::{Error, Result};
use crate::format::iceberg::{self, Change, Exchange};

impl Transaction {
    /// Sees a branch of a catalog in its place. Without effect once something was asked for.
    pub fn look_at_branch(&self, catalog: &str, branch: Option<String>) {
        if lock(&self.views).is_empty() {
            *lock(&self.branch) = branch.map(|branch| (catalog.to_owned(), branch));
        }
    }

    /// The lake that a catalog's name stands for in this transaction.
    pub(super) async fn on_branch(&self, lake: &Arc<Lake>) -> Result<Arc<Lake>> {
        let branch = lock(&self.branch).clone();
        match branch {
            Some((catalog, branch)) if catalog == lake.name && !lake.is_temporary() => {
                let state = lake.refresh().await?;
                lake.branch(&state, &branch)
            }
            _ => Ok(Arc::clone(lake)),
        }
    }

    /// # Errors
    /// [`Error::BranchNotFound`] when this transaction is to see a branch that there is not.
    pub async fn ensure_branch(&self) -> Result<()> {
        let branch = lock(&self.branch).clone();
        let Some((catalog, _)) = branch else { return Ok(()) };
        self.on_branch(self.trunk(&catalog)?).await.map(drop)
    }

    /// Makes a branch that grows from what this transaction sees, or from an earlier moment.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], and as [`Lake::state_as_of`].
    pub async fn create_branch(&self, catalog: &str, name: &str, from: Option<AsOf>) -> Result<()> {
        ensure_name(name)?;
        let mut view = self.trunk_view(catalog).await?;
        if view.state.branches.contains_key(name) {
            return Err(Error::AlreadyExists { kind: "branch", name: name.to_owned() });
        }
        let base = match from {
            Some(from) => view.lake.state_as_of(from, &view.base).await?.version,
            None => view.base.version,
        };
        let branch = BranchRecord::new(name, base, &self.user);
        view.dependencies.push(Dependency::AbsentBranch { name: name.to_owned() });
        view.add(Operation::PutBranch { name: name.to_owned(), branch });
        self.keep(view)
    }

    /// Drops a branch, with whatever was committed to it alone.
    ///
    /// # Errors
    /// [`Error::BranchNotFound`].
    pub async fn drop_branch(&self, catalog: &str, name: &str) -> Result<()> {
        let mut view = self.trunk_view(catalog).await?;
        let Some(record) = view.state.branches.get(name).cloned() else {
            return Err(Error::BranchNotFound(name.to_owned()));
        };
        if view.base.branches.contains_key(name) {
            view.dependencies.push(depend_on(name, &record));
        }
        view.add(Operation::DropBranch { name: name.to_owned() });
        self.keep(view)
    }

    /// The branches of a catalog, by name.
    ///
    /// # Errors
    /// [`Error::CatalogNotFound`], and what the store answers.
    pub async fn branches(&self, catalog: &str) -> Result<Vec<(String, BranchRecord)>> {
        let Place::Lake(lake) = self.place(catalog, "")? else { return Ok(Vec::new()) };
        let lake = Arc::clone(lake);
        // Of the trunk, also for who is on a branch.
        let view = lock(&self.views).get(&lake.name).filter(|view| view.lake.grew_from().is_none()).cloned();
        let state = match view {
            Some(view) => view.state,
            None => lake.refresh().await?,
        };
        Ok(state.branches.iter().map(|(name, record)| (name.clone(), record.clone())).collect())
    }

    /// Makes what was committed to a branch one commit to its trunk, and ends the branch.
    ///
    /// The transaction must be a fresh one; it is committed here.
    ///
    /// # Errors
    /// [`Error::MergeConflict`] with the relations that both have changed, and as [`Transaction::commit`].
    pub async fn merge_branch(&self, catalog: &str, name: &str, query: &str) -> Result<()> {
        let view = self.trunk_view(catalog).await?;
        let trunk = Arc::clone(&view.lake);
        let Some(record) = view.base.branches.get(name).cloned() else {
            return Err(Error::BranchNotFound(name.to_owned()));
        };
        let branch = trunk.branch(&view.base, name)?;
        let sealed = branch.seal(&self.user, query).await?;
        let merged = async {
            let merge = merged(&trunk, &branch, name, &record, &sealed).await?;
            ensure_mergeable(&trunk, &merge, name).await?;
            self.keep(merge)?;
            self.commit(query).await
        };
        let Err(failed) = merged.await else { return Ok(()) };
        match self.reopen(&trunk, &branch, name, query).await {
            // It has been merged, or dropped, by another or after all.
            Ok(()) | Err(Error::BranchNotFound(_)) => {}
            Err(error) => tracing::warn!(branch = name, %error, "a branch that was not merged stays sealed"),
        }
        match failed {
            Error::CommitConflict { what, .. } => Err(Error::MergeConflict { branch: name.to_owned(), what }),
            other => Err(other),
        }
    }

    /// Lets a branch take commits again, and every merge of it that is under way fail.
    async fn reopen(&self, trunk: &Arc<Lake>, branch: &Arc<Lake>, name: &str, query: &str) -> Result<()> {
        let fresh = Self::begin(Arc::clone(&self.catalogs), self.user.clone(), Arc::clone(&self.temporary));
        let state = trunk.refresh().await?;
        let missing = || Error::BranchNotFound(name.to_owned());
        let record = state.branches.get(name).ok_or_else(missing)?;
        if branch.grew_from().is_none_or(|known| known.id != record.id) {
            return Err(missing());
        }
        let mut view = LakeView::unchanged(Arc::clone(trunk), Arc::clone(&state));
        view.dependencies.push(depend_on(name, record));
        let raised = BranchRecord { epoch: record.epoch + 1, ..record.clone() };
        view.add(Operation::PutBranch { name: name.to_owned(), branch: raised });
        fresh.keep(view)?;
        fresh.commit(query).await?;
        branch.unseal(&self.user, query).await.map(drop)
    }

    fn trunk(&self, catalog: &str) -> Result<&Arc<Lake>> {
        match self.place(catalog, "")? {
            Place::Lake(lake) => Ok(lake),
            _ => Err(Error::Unsupported(format!("catalog \"{catalog}\" has no branches"))),
        }
    }

    /// A view of the trunk, to be changed.
    async fn trunk_view(&self, catalog: &str) -> Result<LakeView> {
        let view = self.writable(catalog, "").await?;
        match view.lake.grew_from() {
            None => Ok(view),
            Some(_) => Err(Error::Unsupported("branches are made and ended on main only".to_owned())),
        }
    }
}

/// All that a branch did, as a transaction that began when the branch did would hold it.
async fn merged(
    trunk: &Arc<Lake>,
    branch: &Arc<Lake>,
    name: &str,
    record: &BranchRecord,
    sealed: &LakeState,
) -> Result<LakeView> {
    let base = Arc::new(branch.root_state().await?);
    let mut view = LakeView::unchanged(Arc::clone(trunk), Arc::clone(&base));
    let mut entries = branch.entries(record.base + 1..=sealed.version);
    let mut operations = Vec::new();
    while let Some(entry) = entries.try_next().await? {
        for dependency in entry.deps {
            view.depend(as_of_base(dependency, &base));
        }
        operations.extend(entry.operations);
    }
    operations.retain(|operation| !matches!(operation, Operation::Seal | Operation::Unseal));
    for operation in last_puts(operations) {
        view.add(operation);
    }
    for id in written_ids(&view.operations) {
        let (Some((_, _, before)), Some((_, _, after))) =
            (base.table_by_id(&id), view.state.table_by_id(&id))
        else {
            continue;
        };
        let location = &trunk.location;
        let from = iceberg::load(location, &format!("{}{}", location.url, before.metadata)).await?;
        let to = iceberg::load(location, &format!("{}{}", location.url, after.metadata)).await?;
        let exchange = Exchange::between(location, &from, &to).await?;
        let written = Written {
            base: Some(before.metadata.clone()),
            metadata: to,
            changes: vec![Change::Exchange(exchange)],
        };
        view.written.insert(id, written);
    }
    view.dependencies.push(depend_on(name, record));
    view.add(Operation::DropBranch { name: name.to_owned() });
    Ok(view)
}

/// What a commit to a branch relied upon, as something of the state that the branch grew from: a version
/// that the branch made is one of its own.
fn as_of_base(dependency: Dependency, base: &LakeState) -> Dependency {
    match dependency {
        Dependency::Table { schema, name, id, metadata } => {
            let known = base.table_by_id(&id).map(|(_, _, table)| table);
            let metadata = metadata.filter(|metadata| known.is_some_and(|known| known.is_at(metadata)));
            Dependency::Table { schema, name, id, metadata }
        }
        other => other,
    }
}

/// Leaves out each version of a table that a later one under the same name follows.
fn last_puts(operations: Vec<Operation>) -> Vec<Operation> {
    let mut followed: HashMap<(String, String), String> = HashMap::new();
    let mut kept = Vec::with_capacity(operations.len());
    for operation in operations.into_iter().rev() {
        match &operation {
            Operation::PutTable { schema, name, table } => {
                let key = (schema.clone(), name.clone());
                if followed.insert(key, table.id.clone()).as_ref() == Some(&table.id) {
                    continue;
                }
            }
            other => followed.retain(|(schema, name), _| !other.touches(schema, Some(name))),
        }
        kept.push(operation);
    }
    kept.reverse();
    kept
}

fn written_ids(operations: &[Operation]) -> HashSet<String> {
    let id = |operation: &Operation| match operation {
        Operation::PutTable { table, .. } => Some(table.id.clone()),
        _ => None,
    };
    operations.iter().filter_map(id).collect()
}

/// Names everything at once that stands in the way of a merge; the commit itself would name the first.
async fn ensure_mergeable(trunk: &Arc<Lake>, merge: &LakeView, name: &str) -> Result<()> {
    let state = trunk.refresh().await?;
    let mut conflicts: Vec<String> = Vec::new();
    for dependency in &merge.dependencies {
        if state.check(dependency).is_err()
            && let Error::CommitConflict { what, .. } = dependency.conflict()
        {
            conflicts.push(what);
        }
    }
    let location = &trunk.location;
    for (id, written) in &merge.written {
        let (Some(base), Some((schema, table, current))) = (&written.base, state.table_by_id(id)) else {
            continue;
        };
        if *base == current.metadata {
            continue;
        }
        let load = async |path: &str| iceberg::load(location, &format!("{}{path}", location.url)).await;
        let (from, newest) = (load(base).await?, load(&current.metadata).await?);
        let directory = location.child(&current.directory);
        match iceberg::ensure_rebasable(location, &directory, &from, &newest, &written.changes).await {
            Err(Error::CommitConflict { .. }) => conflicts.push(format!("table \"{schema}.{table}\"")),
            other => other?,
        }
    }
    conflicts.sort();
    conflicts.dedup();
    match conflicts.is_empty() {
        true => Ok(()),
        false => Err(Error::MergeConflict { branch: name.to_owned(), what: conflicts.join(", ") }),
    }
}

fn depend_on(name: &str, record: &BranchRecord) -> Dependency {
    Dependency::Branch { name: name.to_owned(), id: record.id.clone(), epoch: record.epoch }
}

#[cfg(test)]
mod tests {
    use super::super::super::log::TableRecord;
    use super::*;

    fn put(name: &str, id: &str, metadata: &str) -> Operation {
        let table = TableRecord {
            id: id.into(),
            directory: "d".into(),
            metadata: metadata.into(),
            comment: None,
            rows: None,
            materialized: None,
        };
        Operation::PutTable { schema: "s".into(), name: name.into(), table }
    }

    #[test]
    fn of_many_versions_of_a_table_the_last_is_left() {
        let rename = Operation::Rename {
            schema: "s".into(),
            name: "t".into(),
            to_schema: "s".into(),
            to_name: "u".into(),
        };
        let all = vec![
            put("t", "1", "a"),
            put("v", "2", "a"),
            put("t", "1", "b"),
            rename.clone(),
            put("t", "3", "a"),
            put("u", "1", "c"),
            put("u", "1", "d"),
        ];
        let (mut whole, mut short) = (LakeState::default(), LakeState::default());
        all.iter().for_each(|operation| whole.change(operation));
        let left = last_puts(all);
        left.iter().for_each(|operation| short.change(operation));
        assert_eq!(whole, short);
        let wanted = [put("v", "2", "a"), put("t", "1", "b"), rename, put("t", "3", "a"), put("u", "1", "d")];
        assert_eq!(left, wanted);
    }
}
