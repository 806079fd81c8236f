//! Upkeep: what was done lately to keep tables in shape, for `system.runtime.upkeep`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::telemetry::Metrics;

/// Actions that are remembered.
const ACTIONS_MAX: usize = 500;

/// One thing that was done.
#[derive(Debug, Clone)]
pub struct Action {
    /// `catalog.schema.table`, or the catalog alone.
    pub table: String,
    pub action: &'static str,
    pub started: SystemTime,
    pub elapsed: Duration,
    /// Files that were replaced or removed, and their bytes.
    pub files: u64,
    pub bytes: u64,
    pub error: Option<String>,
}

impl Action {
    /// What took this long and has just ended: with so many files and bytes, or an error.
    pub fn ended(
        table: String,
        action: &'static str,
        elapsed: Duration,
        done: Result<(u64, u64), String>,
    ) -> Self {
        let now = SystemTime::now();
        let started = now.checked_sub(elapsed).unwrap_or(now);
        let ((files, bytes), error) = match done {
            Ok(figures) => (figures, None),
            Err(error) => ((0, 0), Some(error)),
        };
        Self { table, action, started, elapsed, files, bytes, error }
    }

    pub fn state(&self) -> &'static str {
        if self.error.is_none() { "FINISHED" } else { "FAILED" }
    }
}

/// The last actions of this process.
#[derive(Debug, Default)]
pub struct UpkeepLog {
    actions: Mutex<VecDeque<Action>>,
}

impl UpkeepLog {
    pub fn note(&self, action: Action, metrics: &Metrics) {
        Metrics::add(&metrics.upkeep_actions_total, 1);
        Metrics::add(&metrics.upkeep_failed_total, u64::from(action.error.is_some()));
        Metrics::add(&metrics.upkeep_files_removed_total, action.files);
        Metrics::add(&metrics.upkeep_bytes_removed_total, action.bytes);
        let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        if actions.len() >= ACTIONS_MAX {
            actions.pop_front();
        }
        actions.push_back(action);
    }

    /// The oldest first.
    pub fn list(&self) -> Vec<Action> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
