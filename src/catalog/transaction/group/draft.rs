//! Drafts: the next entry of a log, made of those that wait.
//!
//! A member joins when what it relies upon holds in the state and in what the members before it do.
//! Appends of several members to one table are staged together, once; of two that touch one table
//! otherwise, the second waits for the next entry. A table that others have moved on since a member saw
//! it is staged again on its newest version, if the member's changes hold there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use chrono::Utc;
use futures::future::{BoxFuture, join_all};

use super::super::super::lake::{Lake, told};
use super::super::super::log::{Dependency, LogEntry, Member, Operation, TableRecord};
use super::super::super::state::LakeState;
use super::super::{LakeView, Written, change, reads};
use super::{Candidate, Waiting};
use crate::error::{Error, Result};
use crate::format::iceberg::{self, Change, TableMetadata};

/// An entry that can be put, and the transactions in it.
pub(super) struct Draft {
    pub entry: LogEntry,
    pub members: VecDeque<Waiting>,
}

/// What becomes of one that asks to join.
enum Verdict {
    Joins,
    Waits,
}

/// The members so far.
struct Gathering<'a> {
    lake: &'a Lake,
    state: &'a LakeState,
    /// `state` with what the members do.
    next: LakeState,
    tables: HashMap<String, Touched>,
    members: VecDeque<Waiting>,
}

/// A table of the state that members change.
struct Touched {
    current: TableRecord,
    changes: Vec<Change>,
    /// Its metadata file in the entry, relative to the root, once that is staged.
    staged: Option<String>,
}

impl Touched {
    /// Stages all changes on the table's newest version.
    async fn stage(&mut self, lake: &Lake) -> Result<()> {
        let location = &lake.location;
        let directory = location.child(&self.current.directory);
        let base = iceberg::load(location, &format!("{}{}", location.url, self.current.metadata)).await?;
        let staged = iceberg::stage(location, &directory, Some(&base), self.changes.clone()).await?;
        self.staged = Some(change::relative(location, &staged.metadata_url)?);
        Ok(())
    }
}

impl Draft {
    /// Drafts the entry that follows `state`; tells those that cannot be committed, and returns those
    /// that have to wait for the entry after it.
    pub async fn of(lake: &Lake, state: &LakeState, batch: VecDeque<Waiting>) -> (Self, VecDeque<Waiting>) {
        let mut waits = VecDeque::new();
        let mut batch = batch;
        loop {
            let mut gathering = Gathering::new(lake, state);
            for waiting in batch {
                match gathering.admit(&waiting.candidate).await {
                    Ok(Verdict::Joins) => gathering.members.push_back(waiting),
                    Ok(Verdict::Waits) => waits.push_back(waiting),
                    Err(error) => waiting.tell(Err(error)),
                }
            }
            match gathering.stage().await {
                Ok(()) => return (gathering.finish(), waits),
                Err((table, error)) => batch = without(gathering.members, &table, &error),
            }
        }
    }
}

/// Tells those who change a table that it could not be staged; the others may try again.
fn without(members: VecDeque<Waiting>, table: &str, error: &Error) -> VecDeque<Waiting> {
    let mut left = VecDeque::new();
    for member in members {
        match member.candidate.view.written.contains_key(table) {
            true => member.tell(Err(error.repeated())),
            false => left.push_back(member),
        }
    }
    left
}

impl<'a> Gathering<'a> {
    fn new(lake: &'a Lake, state: &'a LakeState) -> Self {
        Self { lake, state, next: state.clone(), tables: HashMap::new(), members: VecDeque::new() }
    }

    /// Lets a candidate join, if it can.
    async fn admit(&mut self, candidate: &Candidate) -> Result<Verdict> {
        let view = &candidate.view;
        for dependency in &view.dependencies {
            self.named(view, dependency, self.next.check(dependency)).await?;
        }
        for read in &candidate.reads {
            self.named(view, read, reads::check(&self.next, read)).await?;
        }
        let mut joining = Vec::new();
        for (id, written) in &view.written {
            let Some(base) = &written.base else { continue };
            let Some((schema, name, current)) = self.of_base(view, id) else {
                return Err(Error::table_conflict(id));
            };
            match self.tables.get(id) {
                Some(touched) if appends_only(&touched.changes) && appends_only(&written.changes) => {}
                Some(_) => return Ok(Verdict::Waits),
                None => {}
            }
            let mut changes = written.changes.clone();
            if *base != current.metadata {
                let relied = relied_on(schema, name, id);
                let checked = self.rebasable(base, &current, written).await;
                self.named(view, &relied, checked).await?;
                changes = iceberg::as_written(self.load(base).await?.as_ref(), changes);
            }
            joining.push((id, written, current, changes));
        }
        for (id, written, current, changes) in joining {
            self.join(id, written, current, changes)?;
        }
        for operation in &view.operations {
            self.next.change(operation);
        }
        Ok(Verdict::Joins)
    }

    /// The record in the state of a table that a transaction found in its own snapshot. Its name can
    /// have changed within the transaction, but not outside of it, which the dependencies saw.
    fn of_base<'v>(&self, view: &'v LakeView, wanted: &str) -> Option<(&'v str, &'v str, TableRecord)> {
        let named = view.dependencies.iter().find_map(|dependency| match dependency {
            Dependency::Table { schema, name, id, .. } if id == wanted => Some((schema, name)),
            _ => None,
        });
        let (schema, name) = named?;
        let record = self.state.table(schema, name).filter(|record| record.id == wanted)?;
        Some((schema, name, record.clone()))
    }

    /// Whether changes that were made on the version `base` hold on the newest one.
    async fn rebasable(&self, base: &str, current: &TableRecord, written: &Written) -> Result<()> {
        let location = &self.lake.location;
        let directory = location.child(&current.directory);
        let (base, newest) = (self.load(base).await?, self.load(&current.metadata).await?);
        iceberg::ensure_rebasable(location, &directory, &base, &newest, &written.changes).await
    }

    async fn load(&self, metadata: &str) -> Result<Arc<TableMetadata>> {
        let location = &self.lake.location;
        iceberg::load(location, &format!("{}{metadata}", location.url)).await
    }

    fn join(
        &mut self,
        id: &str,
        written: &Written,
        current: TableRecord,
        changes: Vec<Change>,
    ) -> Result<()> {
        if let Some(touched) = self.tables.get_mut(id) {
            touched.changes.extend(changes);
            touched.staged = None;
            return Ok(());
        }
        let is_newest = written.base.as_ref() == Some(&current.metadata);
        let own = change::relative(&self.lake.location, &written.metadata.url)?;
        self.tables.insert(id.to_owned(), Touched { current, changes, staged: is_newest.then_some(own) });
        Ok(())
    }

    /// Stages the tables that were moved on, or that several members change; all at once.
    ///
    /// # Errors
    /// The first table that failed, by its id, and why.
    async fn stage(&mut self) -> Result<(), (String, Error)> {
        let lake = self.lake;
        // Boxed one by one: a closure over references is not general enough to be sent.
        let mut staging: Vec<BoxFuture<'_, Result<(), (String, Error)>>> = Vec::new();
        for (id, touched) in self.tables.iter_mut().filter(|(_, touched)| touched.staged.is_none()) {
            staging.push(Box::pin(
                async move { touched.stage(lake).await.map_err(|error| (id.clone(), error)) },
            ));
        }
        join_all(staging).await.into_iter().collect()
    }

    /// A conflict with the transaction that caused it, under the name that the client knows.
    async fn named(&self, view: &LakeView, relied: &Dependency, checked: Result<()>) -> Result<()> {
        let Err(Error::CommitConflict { .. }) = &checked else { return checked };
        let (schema, name) = relied.subject();
        let by = match self.last_to_touch(schema, name) {
            Some(first) => Some(told(&first.user, &first.query, self.state.version + 1)),
            None => {
                let known = self.lake.who_touched((schema, name), view.base.version, self.state.version);
                // Who it was is a courtesy; that there was somebody stands.
                known.await.unwrap_or_default()
            }
        };
        match relied.conflict() {
            Error::CommitConflict { what, .. } => Err(Error::CommitConflict { what, by }),
            other => Err(other),
        }
    }

    /// The member so far that touched a relation last.
    fn last_to_touch(&self, schema: &str, name: Option<&str>) -> Option<&Candidate> {
        let touches = |candidate: &&Candidate| {
            candidate.view.operations.iter().any(|operation| operation.touches(schema, name))
        };
        self.members.iter().rev().map(|member| &member.candidate).find(touches)
    }

    /// The entry of all members, with tables at the versions that were staged for it.
    fn finish(self) -> Draft {
        let mut operations = Vec::new();
        let mut deps = Vec::new();
        let mut members = Vec::new();
        for member in &self.members {
            let candidate = &member.candidate;
            let own = candidate.view.operations.iter().map(|one| self.final_operation(candidate, one));
            let before = operations.len();
            operations.extend(own);
            deps.extend(candidate.view.dependencies.iter().chain(&candidate.reads).cloned());
            members.push(Member {
                transaction: candidate.transaction.clone(),
                user: candidate.user.clone(),
                query: candidate.query.clone(),
                operations: operations.len() - before,
            });
        }
        let first = members.first().cloned();
        let (transaction, user, query) =
            first.map(|first| (first.transaction, first.user, first.query)).unwrap_or_default();
        let entry = LogEntry {
            version: self.state.version + 1,
            transaction,
            time_ms: Utc::now().timestamp_millis().max(self.state.time_ms),
            writer: concat!("lacus ", env!("CARGO_PKG_VERSION")).to_owned(),
            user,
            query,
            operations,
            deps,
            members: if members.len() > 1 { members } else { Vec::new() },
        };
        Draft { entry, members: self.members }
    }

    fn final_operation(&self, candidate: &Candidate, operation: &Operation) -> Operation {
        let Operation::PutTable { schema, name, table } = operation else { return operation.clone() };
        let mut table = table.clone();
        if let Some(touched) = self.tables.get(&table.id) {
            let base = candidate.view.base.table_by_id(&table.id).map(|(_, _, record)| record);
            // A comment that is not the transaction's own may have been changed by another.
            if base.is_some_and(|base| base.comment == table.comment) {
                table.comment.clone_from(&touched.current.comment);
            }
            if base.is_some_and(|base| base.materialized == table.materialized) {
                table.materialized.clone_from(&touched.current.materialized);
            }
            let staged = touched.staged.clone().expect("every table of a draft is staged");
            table.rows.clone_from(&touched.current.rows);
            table.metadata.clone_from(&touched.current.metadata);
            table.advance(staged, touched.changes.iter().all(Change::is_upkeep));
        }
        Operation::PutTable { schema: schema.clone(), name: name.clone(), table }
    }
}

fn relied_on(schema: &str, name: &str, id: &str) -> Dependency {
    Dependency::Table { schema: schema.to_owned(), name: name.to_owned(), id: id.to_owned(), metadata: None }
}

fn appends_only(changes: &[Change]) -> bool {
    changes.iter().all(Change::is_append)
}
