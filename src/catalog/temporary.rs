//! Temporary tables: a lake of one session's own, without a log, in the daemon's scratch space.
//!
//! The lake is made with the first temporary table and goes with its session, whatever ends it. Its
//! tables stand in the schema `pg_temp`, and are written and read as those of any lake; a transaction
//! holds its changes to them in the same overlay. Nobody else can see the lake, so a commit is the
//! exchange of its state.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::{StreamExt, TryStreamExt};

use super::lake::Lake;
use super::log::TableRecord;
use super::state::{LakeState, RelationState};
use crate::error::Result;
use crate::runtime::Runtime;
use crate::storage::Scratch;

/// The schema of temporary tables, in every session.
pub const TEMPORARY_SCHEMA: &str = "pg_temp";

/// What the end of a transaction does to a temporary table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnCommit {
    #[default]
    PreserveRows,
    DeleteRows,
    Drop,
}

/// The temporary tables of one session.
#[derive(Debug)]
pub struct Temporary {
    runtime: Arc<Runtime>,
    made: OnceLock<Made>,
    /// By the table's id; one that is not here preserves its rows.
    on_commit: Mutex<HashMap<String, OnCommit>>,
}

#[derive(Debug)]
struct Made {
    lake: Arc<Lake>,
    /// Keeps the lake's folder.
    _scratch: Scratch,
}

impl Temporary {
    /// No tables, and no folder before there is one.
    pub fn new(runtime: Arc<Runtime>) -> Self {
        Self { runtime, made: OnceLock::new(), on_commit: Mutex::default() }
    }

    /// The lake, if there ever was a temporary table.
    pub fn lake(&self) -> Option<&Arc<Lake>> {
        self.made.get().map(|made| &made.lake)
    }

    /// The lake, made if need be.
    ///
    /// # Errors
    /// [`Error::DiskFull`](crate::error::Error::DiskFull), and whatever else the system says of a folder.
    pub fn lake_or_make(&self) -> Result<&Arc<Lake>> {
        if let Some(lake) = self.lake() {
            return Ok(lake);
        }
        let scratch = self.runtime.scratch()?;
        let lake = Arc::new(Lake::temporary(scratch.location.clone()));
        Ok(&self.made.get_or_init(|| Made { lake, _scratch: scratch }).lake)
    }

    /// Notes what is to become of a new table at the end of each transaction.
    pub(super) fn note(&self, table: &TableRecord, on_commit: OnCommit) {
        if on_commit != OnCommit::PreserveRows {
            self.lock().insert(table.id.clone(), on_commit);
        }
    }

    pub(super) fn on_commit(&self, table: &TableRecord) -> OnCommit {
        self.lock().get(&table.id).copied().unwrap_or_default()
    }

    /// Makes `state` that of the lake, and removes the folders of tables that it does not have.
    pub(super) async fn commit(&self, state: LakeState) {
        let Some(lake) = self.lake() else { return };
        let state = lake.advance(Arc::new(state));
        let tables = tables_of(&state);
        self.lock().retain(|id, _| tables.iter().any(|table| table.id == *id));
        let kept: HashSet<&str> = tables.iter().map(|table| table.directory.as_str()).collect();
        if let Err(error) = sweep(lake, &kept).await {
            tracing::warn!(%error, "files of dropped temporary tables stay until the session ends");
        }
    }

    /// Drops all temporary tables.
    pub async fn discard(&self) {
        if let Some(lake) = self.lake() {
            let version = lake.current().version + 1;
            self.commit(LakeState { version, ..LakeState::default() }).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, OnCommit>> {
        // A panic under this lock leaves whole entries behind.
        self.on_commit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tables_of(state: &LakeState) -> Vec<&TableRecord> {
    let relations = state.schemas.values().flat_map(|schema| schema.relations.values());
    relations.filter_map(RelationState::table).collect()
}

/// Deletes the files of tables whose folders are not `kept`.
async fn sweep(lake: &Lake, kept: &HashSet<&str>) -> Result<()> {
    const TABLES: &str = "_lacus/tables";
    let location = &lake.location;
    let (folders, _) = location.list_children(&location.child(TABLES)).await?;
    for name in folders {
        let directory = format!("{TABLES}/{name}");
        if kept.contains(directory.as_str()) {
            continue;
        }
        let objects = location.list(&location.child(&directory)).await?;
        let paths = futures::stream::iter(objects.into_iter().map(|object| Ok(object.location)));
        location.store.delete_stream(paths.boxed()).try_collect::<Vec<_>>().await?;
    }
    Ok(())
}
