//! Branches: a lake's other present, which grows from one of its versions.
//!
//! A branch has a log of its own, under `_lacus/branches/`, whose first entry follows the version of the
//! trunk that it grew from; tables share their folders and files with the trunk. That there is a branch
//! is recorded in the trunk's log. A merge makes the branch's changes one entry of the trunk, by the rules
//! of any commit, and ends the branch.
//!
//! So that nobody commits to a branch that is being merged, its log is *sealed* first: an entry after
//! which no other is taken. A merge that fails opens the log again. Before it does, it raises the branch's
//! epoch in the trunk's log, which every merge relies upon: one that was slower then fails too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;

use super::history::AsOf;
use super::lake::{Lake, Slot};
use super::log::{BranchRecord, LogEntry, Operation};
use super::state::LakeState;
use crate::error::{Error, Result};

/// Lost races for a slot after which sealing gives up.
const ATTEMPTS_MAX: u32 = 200;

/// Where a branch grew from.
#[derive(Debug)]
pub(super) struct Trunk {
    pub lake: Arc<Lake>,
    pub record: BranchRecord,
}

/// The branches of a lake that this process has opened, by their ids.
#[derive(Debug, Default)]
pub(super) struct Opened(Mutex<HashMap<String, Arc<Lake>>>);

impl BranchRecord {
    /// A record with a new id and folder.
    pub fn new(name: &str, base: u64, user: &str) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let directory = format!("_lacus/branches/{safe}-{}", &id[..8]);
        let created_ms = Utc::now().timestamp_millis();
        Self { id, directory, base, epoch: 0, user: user.to_owned(), created_ms }
    }
}

/// Whether a name can be that of a branch: it must be no version and no time.
///
/// # Errors
/// [`Error::InvalidParameter`].
pub fn ensure_name(name: &str) -> Result<()> {
    let begins = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let goes_on = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '.'));
    match begins && goes_on && name.len() <= 63 && name != MAIN {
        true => Ok(()),
        false => Err(Error::InvalidParameter(format!("\"{name}\" is no name for a branch"))),
    }
}

/// What the trunk is called among branches.
pub const MAIN: &str = "main";

impl Lake {
    /// The branch of this name, as `state`, one of this lake, knows it.
    ///
    /// # Errors
    /// [`Error::BranchNotFound`].
    pub fn branch(self: &Arc<Self>, state: &LakeState, name: &str) -> Result<Arc<Self>> {
        let missing = || Error::BranchNotFound(name.to_owned());
        let record = state.branches.get(name).ok_or_else(missing)?;
        let mut opened = self.branches.0.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|id, _| state.branches.values().any(|known| known.id == *id));
        let branch = opened.entry(record.id.clone()).or_insert_with(|| Arc::new(self.grown(record.clone())));
        Ok(Arc::clone(branch))
    }

    /// Where this branch grew from; none for a lake itself.
    pub fn grew_from(&self) -> Option<&BranchRecord> {
        self.trunk.as_ref().map(|trunk| &trunk.record)
    }

    /// The state that this lake's log begins with.
    pub(super) async fn root_state(&self) -> Result<LakeState> {
        let Some(Trunk { lake, record }) = &self.trunk else { return Ok(LakeState::default()) };
        if record.base == 0 {
            return Ok(LakeState::default());
        }
        // Boxed, because the trunk's state is found by the same functions.
        let newest = Box::pin(lake.refresh()).await?;
        let root = Box::pin(lake.state_as_of(AsOf::Version(record.base), &newest)).await?;
        Ok(LakeState { branches: Default::default(), ..root.as_ref().clone() })
    }

    /// Puts an entry behind which no commit to this branch is taken, and returns its state.
    ///
    /// # Errors
    /// What the store answers.
    pub(super) async fn seal(&self, user: &str, query: &str) -> Result<Arc<LakeState>> {
        self.put_alone(Operation::Seal, |state| state.sealed, user, query).await
    }

    /// Takes commits again.
    ///
    /// # Errors
    /// What the store answers.
    pub(super) async fn unseal(&self, user: &str, query: &str) -> Result<Arc<LakeState>> {
        self.put_alone(Operation::Unseal, |state| !state.sealed, user, query).await
    }

    /// Puts an entry of one operation, unless the newest state has what it brings about.
    async fn put_alone(
        &self,
        operation: Operation,
        holds: fn(&LakeState) -> bool,
        user: &str,
        query: &str,
    ) -> Result<Arc<LakeState>> {
        for _ in 0..ATTEMPTS_MAX {
            let state = self.refresh().await?;
            if holds(&state) {
                return Ok(state);
            }
            let entry = LogEntry {
                version: state.version + 1,
                transaction: uuid::Uuid::new_v4().to_string(),
                time_ms: Utc::now().timestamp_millis().max(state.time_ms),
                writer: concat!("lacus ", env!("CARGO_PKG_VERSION")).to_owned(),
                user: user.to_owned(),
                query: query.to_owned(),
                operations: vec![operation.clone()],
                deps: Vec::new(),
                members: Vec::new(),
            };
            if self.put(&entry).await? == Slot::Ours {
                let mut next = state.as_ref().clone();
                next.apply(&entry);
                return Ok(self.advance(Arc::new(next)));
            }
        }
        Err(Error::CommitConflict { what: format!("catalog \"{}\"", self.name), by: None })
    }
}
