//! Commit: the operations of a transaction become the next entry of the lake's log.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use super::super::lake::{Lake, Slot};
use super::super::log::{LogEntry, Operation};
use super::super::state::LakeState;
use super::{LakeView, Transaction, Written, lock};
use crate::error::{Error, Result};
use crate::format::iceberg::{self, Change};

/// Lost races for a slot after which a commit gives up.
const ATTEMPTS_MAX: u32 = 200;

impl Transaction {
    /// Commits; returns whether there was anything to commit.
    ///
    /// Costs the reads of what was committed meanwhile and one conditional PUT; a lost race repeats it.
    ///
    /// # Errors
    /// [`Error::CommitConflict`] and [`Error::AlreadyExists`] when another transaction was first,
    /// [`Error::CommitUnknown`] when the store never answered clearly.
    pub async fn commit(&self, query: &str) -> Result<bool> {
        let changed = lock(&self.views).values().find(|view| !view.operations.is_empty()).cloned();
        let Some(view) = changed else { return Ok(false) };
        let id = uuid::Uuid::new_v4().to_string();
        for attempt in 0..ATTEMPTS_MAX {
            let state = view.lake.refresh().await?;
            for dependency in &view.dependencies {
                state.check(dependency)?;
            }
            let operations = rebased(&view, &state).await?;
            let entry = LogEntry {
                version: state.version + 1,
                transaction: id.clone(),
                time_ms: Utc::now().timestamp_millis().max(state.time_ms),
                writer: concat!("lacus ", env!("CARGO_PKG_VERSION")).to_owned(),
                user: self.user.clone(),
                query: query.to_owned(),
                operations,
                deps: view.dependencies.clone(),
            };
            if view.lake.put(&entry).await? == Slot::Ours {
                finish(&view, &entry).await;
                return Ok(true);
            }
            let pause = rand::random_range(1..=5 * u64::from(attempt.min(20) + 1));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Err(Error::CommitConflict { table: view.lake.name.clone() })
    }
}

/// The operations of a view, with appends moved onto tables that others have moved on.
async fn rebased(view: &LakeView, state: &LakeState) -> Result<Vec<Operation>> {
    let mut operations = Vec::with_capacity(view.operations.len());
    for operation in &view.operations {
        operations.push(match operation {
            Operation::PutTable { schema, name, table } => {
                let mut table = table.clone();
                if let Some(written) = view.written.get(&table.id) {
                    let current = state.table(schema, name).filter(|current| current.id == table.id);
                    let moved = current.filter(|current| {
                        written.base.as_ref().is_some_and(|base| *base != current.metadata)
                    });
                    if let Some(current) = moved {
                        table.metadata = restage(&view.lake, &table.directory, &current.metadata, written)
                            .await
                            .map_err(|error| named(error, schema, name))?;
                        table.comment.clone_from(&current.comment);
                    }
                }
                Operation::PutTable { schema: schema.clone(), name: name.clone(), table }
            }
            other => other.clone(),
        });
    }
    Ok(operations)
}

/// Makes the changes to a table again, on the version that another transaction committed.
async fn restage(lake: &Lake, directory: &str, current: &str, written: &Written) -> Result<String> {
    let appends = written.changes.iter().all(|change| matches!(change, Change::Append(_)));
    if !appends {
        return Err(Error::CommitConflict { table: directory.to_owned() });
    }
    let location = &lake.location;
    let base = iceberg::load(location, &format!("{}{current}", location.url)).await?;
    let staged =
        iceberg::stage(location, &location.child(directory), Some(&base), written.changes.clone()).await?;
    super::change::relative(location, &staged.metadata_url)
}

/// A conflict under the name that the client knows, where the format only knew a folder.
fn named(error: Error, schema: &str, name: &str) -> Error {
    match error {
        Error::CommitConflict { .. } => Error::CommitConflict { table: format!("{schema}.{name}") },
        other => other,
    }
}

/// What follows a commit and may fail without harm: the checkpoint, and the hint for other engines.
async fn finish(view: &LakeView, entry: &LogEntry) {
    let lake = Arc::clone(&view.lake);
    if let Ok(state) = lake.refresh().await
        && state.version == entry.version
    {
        lake.checkpoint(&state).await;
    }
    for operation in &entry.operations {
        let Operation::PutTable { table, .. } = operation else { continue };
        let location = &lake.location;
        let url = format!("{}{}", location.url, table.metadata);
        let published = async {
            let metadata = iceberg::load(location, &url).await?;
            iceberg::publish_hint(location, &location.child(&table.directory), &metadata).await
        };
        if let Err(error) = published.await {
            tracing::warn!(table = %table.directory, %error, "hint for other engines not written");
        }
    }
}
