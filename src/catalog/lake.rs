//! A lake: one root, its log, and the newest state that this process has seen.
//!
//! This module decides when the log is read again, how an entry gets into the next slot, and whether
//! the store can be written safely at all. What an entry holds is decided by the
//! [`transaction`](super::transaction).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Mutex, OnceCell};
use tracing::{info, warn};

use super::branch::{Opened, Trunk};
use super::history::History;
use super::log::{BranchRecord, Log, LogEntry};
use super::state::LakeState;
use super::transaction::Queue;
use crate::error::{Error, Result};
use crate::storage::{Location, PutOutcome};

/// Commits between two checkpoints.
const CHECKPOINT_EVERY: u64 = 64;
/// How long an unclear answer of the store is asked about again.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Entries that are read at once when there are more than one.
const READS_AHEAD: usize = 16;
/// Tables that wait for upkeep to look at them.
const TOUCHED_MAX: usize = 10_000;

/// Has a blank, so that no catalog of a file can have it too.
const TEMPORARY_LAKE: &str = "temporary tables";
/// Entries that a conflict looks back through for the one that caused it.
const LOOK_BACK_MAX: usize = 64;

/// One lake, shared by all sessions of this process.
#[derive(Debug)]
pub struct Lake {
    pub name: String,
    pub location: Location,
    pub comment: Option<String>,
    read_only: bool,
    /// None for temporary tables, whose state lives in this process alone.
    log: Option<Log>,
    state: RwLock<Arc<LakeState>>,
    /// Held over reads of the log, so that statements that start together share one.
    refreshing: Mutex<Refreshed>,
    arrivals: AtomicU64,
    writable: OnceCell<Option<String>>,
    /// Transactions of this process that wait to be committed.
    pub(super) queue: Queue,
    pub(super) past: History,
    /// What a branch grew from; none for the lake itself.
    pub(super) trunk: Option<Trunk>,
    pub(super) branches: Opened,
    group_max: usize,
    /// Ids of tables that this process has written to, until upkeep looks at them.
    touched: std::sync::Mutex<HashSet<String>>,
}

/// How far the last reads of the log reach.
#[derive(Debug, Default)]
struct Refreshed {
    /// Statements with a smaller ticket arrived before the last read began.
    covers: u64,
    loaded: bool,
}

/// What became of an entry that was put.
#[derive(Debug, PartialEq, Eq)]
pub enum Slot {
    /// The entry is the lake's newest commit.
    Ours,
    /// Another transaction has the slot.
    Taken,
}

impl Lake {
    /// A lake of which at most `group_max` transactions share one entry of the log.
    pub fn new(
        name: String,
        location: Location,
        comment: Option<String>,
        read_only: bool,
        group_max: usize,
    ) -> Self {
        Self {
            name,
            log: Some(Log::new(location.clone(), "_lacus")),
            location,
            comment,
            read_only,
            state: RwLock::default(),
            refreshing: Mutex::default(),
            arrivals: AtomicU64::new(0),
            writable: OnceCell::new(),
            queue: Queue::new(group_max),
            past: History::default(),
            trunk: None,
            branches: Opened::default(),
            group_max,
            touched: std::sync::Mutex::default(),
        }
    }

    /// A branch of this lake, under the lake's own name.
    pub(super) fn grown(self: &Arc<Self>, record: BranchRecord) -> Self {
        let (name, location) = (self.name.clone(), self.location.clone());
        let log = Some(Log::new(location.clone(), &record.directory));
        let trunk = Some(Trunk { lake: Arc::clone(self), record });
        // What the store can do was found out for the trunk.
        let writable = OnceCell::new_with(Some(None));
        let lake = Self::new(name, location, self.comment.clone(), self.read_only, self.group_max);
        Self { log, trunk, writable, ..lake }
    }

    /// A lake of temporary tables, at a location of its own.
    pub fn temporary(location: Location) -> Self {
        let lake = Self::new(TEMPORARY_LAKE.to_owned(), location, None, false, 1);
        Self { log: None, writable: OnceCell::new_with(Some(None)), ..lake }
    }

    pub fn is_temporary(&self) -> bool {
        self.log.is_none()
    }

    fn log(&self) -> Result<&Log> {
        self.log.as_ref().ok_or_else(|| Error::Internal("temporary tables have no log".to_owned()))
    }

    /// Returns the state with every commit that was acknowledged before this call.
    ///
    /// Costs one GET of the next slot, and where that is taken, sixteen at once until one is free;
    /// statements that arrive while one is under way share the next.
    ///
    /// # Errors
    /// What the store answers, and [`Error::CorruptFile`] for a slot that is no entry.
    pub async fn refresh(&self) -> Result<Arc<LakeState>> {
        let Some(log) = &self.log else { return Ok(self.current()) };
        let ticket = self.arrivals.fetch_add(1, Ordering::SeqCst);
        let mut refreshed = self.refreshing.lock().await;
        if refreshed.covers > ticket {
            return Ok(self.current());
        }
        let covers = self.arrivals.load(Ordering::SeqCst);
        let mut state = self.current();
        if !refreshed.loaded {
            state = Arc::new(self.known_state(u64::MAX).await?);
        }
        if let Some(newest) = follow(log, &state).await? {
            state = Arc::new(newest);
        }
        *refreshed = Refreshed { covers, loaded: true };
        Ok(self.advance(state))
    }

    /// The newest state that this process has seen; others may have committed since.
    pub fn current(&self) -> Arc<LakeState> {
        Arc::clone(&self.state.read().expect("no holder of this lock panics"))
    }

    /// Makes `state` the newest one, unless a newer one is known already; returns the newest.
    pub fn advance(&self, state: Arc<LakeState>) -> Arc<LakeState> {
        let mut newest = self.state.write().expect("no holder of this lock panics");
        if state.version >= newest.version {
            *newest = state;
        }
        Arc::clone(&newest)
    }

    /// Notes that a table was written to; nothing when too many wait already.
    pub fn touch(&self, id: String) {
        let mut touched = self.touched.lock().expect("no holder of this lock panics");
        if touched.len() < TOUCHED_MAX {
            touched.insert(id);
        }
    }

    /// The tables that were written to since the last call, by their ids.
    pub fn take_touched(&self) -> HashSet<String> {
        std::mem::take(&mut self.touched.lock().expect("no holder of this lock panics"))
    }

    /// Who touched a relation in the versions after `since` up to `until`, the last of them; a schema
    /// when `name` is none. Costs a GET for each version looked at, at most `LOOK_BACK_MAX` (64).
    ///
    /// # Errors
    /// What the store answers.
    pub async fn who_touched(
        &self,
        (schema, name): (&str, Option<&str>),
        since: u64,
        until: u64,
    ) -> Result<Option<String>> {
        for version in (since + 1..=until).rev().take(LOOK_BACK_MAX) {
            let Some(entry) = self.log()?.read(version).await? else { continue };
            if let Some((user, query)) = entry.who_touched(schema, name) {
                return Ok(Some(told(user, query, version)));
            }
        }
        Ok(None)
    }

    /// Puts `entry` into its slot and finds out who has it then.
    ///
    /// An unclear answer is asked about until it is clear; the same bytes are put again while the slot
    /// is free.
    ///
    /// # Errors
    /// [`Error::CommitUnknown`] when the store stays unclear for `RESOLVE_TIMEOUT` (60 s).
    pub async fn put(&self, entry: &LogEntry) -> Result<Slot> {
        let log = self.log()?;
        let deadline = tokio::time::Instant::now() + RESOLVE_TIMEOUT;
        let mut pause = Duration::from_millis(20);
        let mut unclear: Option<Error> = None;
        loop {
            match log.put(entry).await {
                Ok(PutOutcome::Created) => break,
                Ok(PutOutcome::Exists) => {}
                Ok(PutOutcome::Ambiguous(error)) => unclear = Some(error),
                Err(error) if unclear.is_none() => return Err(error),
                Err(error) => unclear = Some(error),
            }
            match log.read(entry.version).await {
                Ok(Some(found)) if found.holds(&entry.transaction) => break,
                Ok(Some(_)) => return Ok(Slot::Taken),
                Ok(None) => {}
                Err(error) => unclear = Some(error),
            }
            if tokio::time::Instant::now() + pause > deadline {
                let reason = unclear.map_or_else(|| "the slot stays free".to_owned(), |e| e.to_string());
                return Err(Error::CommitUnknown(reason));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        info!(lake = %self.name, version = entry.version, operations = entry.operations.len(), "committed");
        Ok(Slot::Ours)
    }

    /// Writes the state at `version` as a checkpoint, when it is that version's turn. Failing is harmless.
    pub async fn checkpoint(&self, state: &LakeState) {
        if !state.version.is_multiple_of(CHECKPOINT_EVERY) {
            return;
        }
        let Some(log) = &self.log else { return };
        let path = log.child(&format!("ckpt/{:020}.json", state.version));
        let written = match serde_json::to_vec(state) {
            Ok(bytes) => self.location.put_if_absent(&path, Bytes::from(bytes)).await.map(drop),
            Err(error) => Err(Error::Internal(error.to_string())),
        };
        if let Err(error) = written {
            warn!(lake = %self.name, version = state.version, %error, "checkpoint not written");
        }
    }

    /// An entry of the log that is known to be there.
    ///
    /// # Errors
    /// [`Error::SnapshotTooOld`] when it is gone.
    pub(super) async fn entry(&self, version: u64) -> Result<LogEntry> {
        if let Some(trunk) = self.trunk.as_ref().filter(|trunk| version <= trunk.record.base) {
            return Box::pin(trunk.lake.entry(version)).await;
        }
        let gone = || Error::SnapshotTooOld(format!("version {version} of \"{}\" is gone", self.name));
        self.log()?.read(version).await?.ok_or_else(gone)
    }

    /// The entries of these versions, which are known to be there, in the order given; sixteen are read at
    /// once. Fails as [`Lake::entry`] does.
    pub(super) fn entries<'l>(
        &'l self,
        versions: impl Iterator<Item = u64> + Send + 'l,
    ) -> BoxStream<'l, Result<LogEntry>> {
        stream::iter(versions).map(|version| self.entry(version)).buffered(READS_AHEAD).boxed()
    }

    /// Reads the newest checkpoint up to a version that can be read; what the log began with, without one.
    pub(super) async fn known_state(&self, until: u64) -> Result<LakeState> {
        let (_, mut files) = self.location.list_children(&self.log()?.child("ckpt")).await?;
        files.sort_by(|a, b| b.location.cmp(&a.location));
        let last = format!("{until:020}.json");
        for file in files.into_iter().filter(|file| file.location.filename() <= Some(&last)) {
            let Some(bytes) = self.location.read(&file.location).await? else { continue };
            match serde_json::from_slice(&bytes) {
                Ok(state) => return Ok(state),
                Err(error) => warn!(lake = %self.name, file = %file.location, %error, "checkpoint not read"),
            }
        }
        self.root_state().await
    }

    /// Makes sure that this lake may be written: by its definition, and by what its store can do.
    ///
    /// Several writers race for one fresh object, once in the life of the process, before the first
    /// write; a store on which several of them win loses commits.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] with the reason.
    pub async fn ensure_writable(&self) -> Result<()> {
        self.refuse_read_only()?;
        let reason = self.writable.get_or_try_init(|| self.probe()).await?;
        match reason {
            None => Ok(()),
            Some(reason) => Err(Error::ReadOnly(reason.clone())),
        }
    }

    /// # Errors
    /// [`Error::ReadOnly`] when the lake's definition says so.
    pub fn refuse_read_only(&self) -> Result<()> {
        match self.read_only {
            true => Err(Error::ReadOnly(format!("catalog \"{}\" is declared read-only", self.name))),
            false => Ok(()),
        }
    }

    async fn probe(&self) -> Result<Option<String>> {
        self.log()?.ensure_format().await?;
        if self.location.probe_create_race(&self.location.child("_lacus/probe")).await? {
            return Ok(None);
        }
        let reason = format!(
            "catalog \"{}\" is read-only: its store lets several writers create one object, so commits could be lost",
            self.name
        );
        warn!(lake = %self.name, %reason, "lake is read-only");
        Ok(Some(reason))
    }
}

/// The state after all entries behind `state`; none when there are none.
async fn follow(log: &Log, state: &LakeState) -> Result<Option<LakeState>> {
    let Some(first) = log.read(state.version + 1).await? else { return Ok(None) };
    let mut newest = state.clone();
    newest.apply(&first);
    // Where there is one there may be many: behind a checkpoint, or after a long pause.
    let mut ahead = stream::iter(newest.version + 1..).map(|version| log.read(version)).buffered(READS_AHEAD);
    while let Some(entry) = ahead.try_next().await? {
        let Some(entry) = entry else { break };
        newest.apply(&entry);
    }
    Ok(Some(newest))
}

/// What a conflict says of the transaction that was first.
pub(super) fn told(user: &str, query: &str, version: u64) -> String {
    format!("User \"{user}\" committed query {query} as version {version} of the lake.")
}
