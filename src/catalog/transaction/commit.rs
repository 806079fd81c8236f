//! Commit: what a transaction did to a lake goes into the lake's log, and its hints to other engines.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};

use super::super::lake::Lake;
use super::group::{self, Candidate};
use super::{Transaction, lock};
use crate::error::Result;
use crate::format::iceberg;

impl Transaction {
    /// Commits; returns whether there was anything to commit.
    ///
    /// Costs one conditional PUT, which other transactions of this moment share; a lost race reads what
    /// was committed meanwhile and repeats it.
    ///
    /// # Errors
    /// [`Error::CommitConflict`](crate::error::Error::CommitConflict) and
    /// [`Error::AlreadyExists`](crate::error::Error::AlreadyExists) when another transaction was first,
    /// [`Error::CommitUnknown`](crate::error::Error::CommitUnknown) when the store never answered clearly.
    pub async fn commit(&self, query: &str) -> Result<bool> {
        let changed = lock(&self.views).values().find(|view| !view.operations.is_empty()).cloned();
        let Some(view) = changed else { return Ok(false) };
        let lake = Arc::clone(&view.lake);
        let candidate = Candidate {
            reads: self.reads_of(&lake),
            view,
            transaction: uuid::Uuid::new_v4().to_string(),
            user: self.user.clone(),
            query: query.to_owned(),
        };
        group::commit(&lake, candidate).await?;
        publish_hints(&lake).await;
        Ok(true)
    }
}

/// Tells other engines of the versions that were committed; failing is harmless.
///
/// Whoever comes first does it for all that wait, so that an older version never follows a newer one.
async fn publish_hints(lake: &Lake) {
    let _turn = lake.queue.publishing.lock().await;
    let due = std::mem::take(&mut *lock(&lake.queue.hints));
    let mut publishing: Vec<BoxFuture<'_, ()>> = Vec::new();
    for (directory, metadata) in due {
        publishing.push(Box::pin(publish_hint(lake, directory, metadata)));
    }
    join_all(publishing).await;
}

async fn publish_hint(lake: &Lake, directory: String, metadata: String) {
    let location = &lake.location;
    let published = async {
        let metadata = iceberg::load(location, &format!("{}{metadata}", location.url)).await?;
        iceberg::publish_hint(location, &location.child(&directory), &metadata).await
    };
    if let Err(error) = published.await {
        tracing::warn!(table = %directory, %error, "hint for other engines not written");
    }
}
