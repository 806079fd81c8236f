//! Sessions: who is connected, and what each of them does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

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
    pub activity: Activity,
    pub activity_since: SystemTime,
    /// The statement that runs, or the last that did.
    pub query: Option<(Arc<str>, SystemTime)>,
}

/// The sessions of this process.
#[derive(Debug, Default)]
pub struct Sessions {
    entries: Arc<Mutex<BTreeMap<u64, SessionInfo>>>,
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
            activity: Activity::Idle,
            activity_since: now,
            query: None,
        };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(number, info);
        SessionGuard { number, entries: Arc::clone(&self.entries) }
    }

    /// The sessions that are open, in the order in which they came.
    pub fn list(&self) -> Vec<SessionInfo> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Keeps a session listed.
#[derive(Debug)]
pub struct SessionGuard {
    number: u64,
    entries: Arc<Mutex<BTreeMap<u64, SessionInfo>>>,
}

impl SessionGuard {
    /// Notes that a statement begins, for the application that the client calls itself.
    pub fn begin(&self, query: Arc<str>, application: String) {
        self.update(|info, now| {
            info.application = application;
            info.query = Some((query, now));
            info.activity = Activity::Active;
        });
    }

    /// Notes that the session waits for its client.
    pub fn wait(&self, activity: Activity) {
        self.update(|info, _| info.activity = activity);
    }

    fn update(&self, change: impl FnOnce(&mut SessionInfo, SystemTime)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(info) = entries.get_mut(&self.number) {
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
