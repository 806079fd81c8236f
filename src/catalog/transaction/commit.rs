//! Commit: what a transaction did to a lake goes into the lake's log, and its hints to other engines.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};

use super::super::lake::Lake;
use super::super::log::Operation;
use super::super::state::{LakeState, RelationState};
use super::group::{self, Candidate};
use super::{LakeView, OnCommit, TEMPORARY_SCHEMA, Transaction, change, lock};
use crate::error::Result;
use crate::format::iceberg::{self, Change, Removal};

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
        let views: Vec<LakeView> = lock(&self.views).values().cloned().collect();
        let changed = views.into_iter().filter(|view| !view.operations.is_empty());
        let (temporary, lasting): (Vec<_>, Vec<_>) = changed.partition(|view| view.lake.is_temporary());
        let mut settled = None;
        for view in temporary {
            settled = Some(self.settle(view).await?);
        }
        for view in lasting {
            self.commit_to_lake(view, query).await?;
        }
        // Nothing can stop this after the lake has committed.
        if let Some(state) = settled {
            self.temporary.commit(state).await;
        }
        Ok(true)
    }

    async fn commit_to_lake(&self, view: LakeView, query: &str) -> Result<()> {
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
        Ok(())
    }

    /// What is left of temporary tables when their transaction ends.
    async fn settle(&self, view: LakeView) -> Result<LakeState> {
        let mut state = view.state.as_ref().clone();
        let relations = state.schemas.get(TEMPORARY_SCHEMA).map(|schema| schema.relations.clone());
        for (name, relation) in relations.unwrap_or_default() {
            let RelationState::Table(mut table) = relation else { continue };
            let schema = TEMPORARY_SCHEMA.to_owned();
            match self.temporary.on_commit(&table) {
                OnCommit::Drop => state.change(&Operation::Drop { schema, name }),
                OnCommit::DeleteRows if view.written.contains_key(&table.id) => {
                    let location = &view.lake.location;
                    let directory = location.child(&table.directory);
                    let base = self.metadata(&view, &table).await?;
                    let empty = vec![Change::Overwrite { add: Vec::new(), remove: Removal::All }];
                    let staged = iceberg::stage(location, &directory, Some(&base), empty).await?;
                    table.metadata = change::relative(location, &staged.metadata_url)?;
                    state.change(&Operation::PutTable { schema, name, table });
                }
                OnCommit::DeleteRows | OnCommit::PreserveRows => {}
            }
        }
        state.version += 1;
        Ok(state)
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
