//! Reads: what a serializable transaction has seen, and so relies upon.
//!
//! Two transactions that each read what the other writes could both commit under a snapshot alone and
//! leave what no order of the two would. So a commit also checks that every table that was read is at
//! the version that was read, that every view has the query that it had, and that a name under which
//! nothing was found is still free. Lists of names, as system tables show them, are not checked, nor
//! what other catalogs hold.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::lake::Lake;
use super::super::log::Dependency;
use super::super::state::{LakeState, RelationState};
use super::{LakeView, Place, Transaction, lock};
use crate::error::{Error, Result};
use crate::format::iceberg::Inspection;

impl Transaction {
    /// Whether a commit checks what this transaction reads from now on.
    pub fn check_reads(&self, yes: bool) {
        self.checks_reads.store(yes, Ordering::Relaxed);
    }

    /// Notes that a query reads the relation of this name, or found none.
    ///
    /// # Errors
    /// What the store answers when the lake is asked for the first time.
    pub async fn note_read(&self, catalog: &str, schema: &str, name: &str) -> Result<()> {
        if !self.checks_reads.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Ok(Place::Lake(lake)) = self.place(catalog, schema) else { return Ok(()) };
        if lake.is_temporary() {
            return Ok(());
        }
        let view = self.view(lake).await?;
        if let Some(dependency) = relied(&view, schema, name) {
            let mut reads = lock(&self.reads);
            if !reads.iter().any(|(lake, known)| *lake == view.lake.name && *known == dependency) {
                reads.push((view.lake.name.clone(), dependency));
            }
        }
        Ok(())
    }

    /// What was read of one lake.
    pub(super) fn reads_of(&self, lake: &Arc<Lake>) -> Vec<Dependency> {
        let reads = lock(&self.reads);
        reads.iter().filter(|(name, _)| *name == lake.name).map(|(_, read)| read.clone()).collect()
    }
}

/// What a read relies upon; nothing, where it sees the transaction's own work.
fn relied(view: &LakeView, schema: &str, name: &str) -> Option<Dependency> {
    let named = |schema: &str, name: &str| (schema.to_owned(), name.to_owned());
    // What is read of a table's books is read of the table.
    let name = match (view.state.relation(schema, name), Inspection::of(name)) {
        (None, Some((table, _))) => table,
        _ => name,
    };
    match view.state.relation(schema, name) {
        Some(RelationState::Table(table)) => {
            let (schema, name, table) = view.base.table_by_id(&table.id)?;
            let (schema, name) = named(schema, name);
            let metadata = Some(table.rows_version().to_owned());
            Some(Dependency::Table { schema, name, id: table.id.clone(), metadata })
        }
        Some(RelationState::View(_)) => match view.base.relation(schema, name)? {
            RelationState::View(record) => {
                let (schema, name) = named(schema, name);
                Some(Dependency::View { schema, name, sql: Some(record.sql.clone()) })
            }
            RelationState::Table(_) => None,
        },
        None if view.base.relation(schema, name).is_none() => {
            let (schema, name) = named(schema, name);
            Some(Dependency::Absent { schema, name })
        }
        None => None,
    }
}

/// Checks a read against a later state: whatever changed is a conflict.
///
/// # Errors
/// [`Error::CommitConflict`].
pub(super) fn check(state: &LakeState, read: &Dependency) -> Result<()> {
    state.check(read).map_err(|error| match error {
        Error::AlreadyExists { .. } => read.conflict(),
        other => other,
    })
}
