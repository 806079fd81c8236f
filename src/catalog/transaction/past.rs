//! The past: a transaction that sees all lakes as they were at one moment, and changes none.
//!
//! The moment is a version of the session's own lake, or a time. A version of one lake is, to the
//! others, the time at which it was committed. Open files have no past: what they hold now would stand
//! beside what tables held then, so they are left out.

use std::sync::Arc;

use datafusion::catalog::TableProvider;

use super::super::history::AsOf;
use super::super::lake::Lake;
use super::super::state::{LakeState, RelationState};
use super::{LakeView, Place, Transaction, lock};
use crate::error::{Error, Result};
use crate::format::iceberg;
use crate::scan::FilesTable;

/// A moment, and whose version it is if it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    catalog: String,
    as_of: AsOf,
}

impl Transaction {
    /// Sees the lakes as they were; as they are with none. Without effect once something was asked for.
    pub fn look_back(&self, catalog: &str, as_of: Option<AsOf>) {
        if lock(&self.views).is_empty() {
            *lock(&self.moment) = as_of.map(|as_of| Moment { catalog: catalog.to_owned(), as_of });
        }
    }

    /// Whether it sees the past.
    pub(super) fn is_past(&self) -> bool {
        lock(&self.moment).is_some()
    }

    /// # Errors
    /// [`Error::ReadOnly`] for a transaction that sees the past.
    pub(super) fn refuse_past(&self, catalog: &str) -> Result<()> {
        match self.is_past() {
            true => Err(Error::ReadOnly(format!(
                "cannot change catalog \"{catalog}\" in a transaction that reads the past (lacus.as_of)"
            ))),
            false => Ok(()),
        }
    }

    /// The state of a lake that this transaction is to see, of those up to `newest`.
    pub(super) async fn base_of(&self, lake: &Arc<Lake>, newest: Arc<LakeState>) -> Result<Arc<LakeState>> {
        let moment = lock(&self.moment).clone();
        let as_of = match moment {
            _ if lake.is_temporary() => return Ok(newest),
            None => return Ok(newest),
            Some(Moment { catalog, as_of: AsOf::Version(version) }) if catalog != lake.name => {
                let Ok(Place::Lake(own)) = self.place(&catalog, "") else { return Ok(newest) };
                let own = self.on_branch(own).await?;
                let own_newest = own.refresh().await?;
                AsOf::Time(own.state_as_of(AsOf::Version(version), &own_newest).await?.time_ms)
            }
            Some(Moment { as_of, .. }) => as_of,
        };
        lake.state_as_of(as_of, &newest).await
    }

    /// A transaction that sees the lakes as they were at a moment that this one can see.
    ///
    /// # Errors
    /// As [`Lake::state_as_of`], and [`Error::Unsupported`] for a catalog without versions.
    pub async fn back_to(&self, catalog: &str, as_of: AsOf) -> Result<Arc<Self>> {
        let Place::Lake(lake) = self.place(catalog, "")? else {
            return Err(Error::Unsupported(format!("catalog \"{catalog}\" has no versions")));
        };
        let now = self.view(lake).await?;
        let base = now.lake.state_as_of(as_of, &now.base).await?;
        let past = Self::begin(Arc::clone(&self.catalogs), self.user.clone(), Arc::clone(&self.temporary));
        past.look_back(catalog, Some(as_of));
        lock(&past.branch).clone_from(&lock(&self.branch));
        lock(&past.views).insert(lake.name.clone(), LakeView::unchanged(now.lake, base));
        Ok(Arc::new(past))
    }

    /// A table at one of its own snapshots; none when the name means no table, or it has no such snapshot.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn table_at_snapshot(
        &self,
        catalog: &str,
        schema: &str,
        name: &str,
        snapshot_id: i64,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let Place::Lake(lake) = self.place(catalog, schema)? else { return Ok(None) };
        let view = self.view(lake).await?;
        let Some(RelationState::Table(record)) = view.state.relation(schema, name) else { return Ok(None) };
        let metadata = self.metadata(&view, record).await?;
        if metadata.snapshot(snapshot_id).is_none() {
            return Ok(None);
        }
        let snapshot = iceberg::snapshot(&view.lake.location, &metadata, Some(snapshot_id)).await?;
        Ok(Some(Arc::new(FilesTable::new(Arc::new(snapshot)))))
    }
}
