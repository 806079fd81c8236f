//! Sessions: who is connected, and what each of them does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::queries::{Cancel, Stop};
use crate::error::{Error, Result};

/// What a session does, as `pg_stat_activity.state` calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    Active,
    Idle,
    IdleInTransaction,
    IdleInFailedTransaction,
}

impl Activity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle in transaction",
            Self::IdleInFailedTransaction => "idle in transaction (aborted)",
        }
    }
}

/// What a listing shows of a session.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    pub process_id: i32,
    pub user: String,
    pub catalog: String,
    pub application: String,
    pub started: SystemTime,
    /// When its transaction began, while there is one.
    pub transaction: Option<SystemTime>,
    pub activity: Activity,
    pub activity_since: SystemTime,
    /// The statement that runs, or the last that did.
    pub query: Option<(Arc<str>, SystemTime)>,
}

/// What one session may do to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stops what it runs.
    Cancel,
    /// Ends it.
    Terminate,
}

/// A session, and what stops it.
#[derive(Debug)]
struct Entry {
    info: SessionInfo,
    cancel: Cancel,
    end: CancellationToken,
}

/// The sessions of this process.
#[derive(Debug, Default)]
pub struct Sessions {
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
    counter: AtomicU64,
}

impl Sessions {
    /// Lists a session until the guard is dropped.
    pub fn open(&self, process_id: i32, user: &str, catalog: &str) -> SessionGuard {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now();
        let info = SessionInfo {
            process_id,
            user: user.to_owned(),
            catalog: catalog.to_owned(),
            application: String::new(),
            started: now,
            transaction: None,
            activity: Activity::Idle,
            activity_since: now,
            query: None,
        };
        let end = CancellationToken::new();
        let entry = Entry { info, cancel: Cancel::default(), end: end.clone() };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(number, entry);
        SessionGuard { number, end, entries: Arc::clone(&self.entries) }
    }

    /// The sessions that are open, in the order in which they came.
    pub fn list(&self) -> Vec<SessionInfo> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().map(|entry| entry.info.clone()).collect()
    }

    /// Stops what another session of the same user runs, or ends it; returns whether it was there.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] for a session of another user.
    pub fn signal(&self, process_id: i32, user: &str, signal: Signal) -> Result<bool> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.values().find(|entry| entry.info.process_id == process_id) else {
            return Ok(false);
        };
        if entry.info.user != user {
            let message = format!("session {process_id} belongs to another user");
            return Err(Error::PermissionDenied(message));
        }
        match signal {
            Signal::Cancel => entry.cancel.stop(Stop::User),
            Signal::Terminate => entry.end.cancel(),
        }
        Ok(true)
    }
}

/// Keeps a session listed.
#[derive(Debug)]
pub struct SessionGuard {
    number: u64,
    end: CancellationToken,
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
}

impl SessionGuard {
    /// Fires when another session ends this one.
    pub fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Notes what stops the statements from now on.
    pub fn arm(&self, cancel: Cancel) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&self.number) {
            entry.cancel = cancel;
        }
    }

    /// Notes that a statement begins, for the application that the client calls itself.
    pub fn begin(&self, query: Arc<str>, application: String) {
        self.update(|info, now| {
            info.application = application;
            info.query = Some((query, now));
            info.transaction.get_or_insert(now);
            info.activity = Activity::Active;
        });
    }

    /// Notes that the session waits for its client.
    pub fn wait(&self, activity: Activity) {
        self.update(|info, _| {
            info.activity = activity;
            if activity == Activity::Idle {
                info.transaction = None;
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut SessionInfo, SystemTime)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Entry { info, .. }) = entries.get_mut(&self.number) {
            info.activity_since = SystemTime::now();
            let now = info.activity_since;
            change(info, now);
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}
