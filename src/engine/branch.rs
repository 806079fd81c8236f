//! Branches: CREATE, DROP, MERGE and SHOW.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use super::ddl::tolerate;
use super::execute::{Outcome, Rows, Run};
use super::plan::Planner;
use super::session::{Session, done};
use super::statement::Branch;
use crate::error::{Error, Result};

impl Session {
    /// Runs a statement about branches, but for those that read rows.
    pub(super) async fn branch(&mut self, statement: &Branch, run: Run) -> Result<Outcome> {
        match statement {
            Branch::Show => self.show_branches(run).await,
            Branch::Merge { name } => {
                self.refuse_in_block("MERGE BRANCH")?;
                self.merge_branch(name, &run).await?;
                Ok(done("MERGE BRANCH"))
            }
            Branch::Create { .. } | Branch::Drop { .. } => {
                Err(Error::Internal("a change of branches reached the wrong place".to_owned()))
            }
        }
    }

    /// Merges in a task of its own, so that a client that goes away does not leave the branch half merged.
    async fn merge_branch(&self, name: &str, run: &Run) -> Result<()> {
        let transaction = self.trunk_transaction();
        let (catalog, name, query) = (self.database.clone(), name.to_owned(), run.guard.id.clone());
        let committing = self.committing();
        committing.store(true, std::sync::atomic::Ordering::Relaxed);
        let merging = tokio::spawn(async move { transaction.merge_branch(&catalog, &name, &query).await });
        let merged = merging.await;
        committing.store(false, std::sync::atomic::Ordering::Relaxed);
        merged.map_err(crate::runtime::cpu::from_join)?
    }

    async fn show_branches(&self, run: Run) -> Result<Outcome> {
        let (transaction, _) = self.transaction();
        let branches = transaction.branches(&self.database).await?;
        let names = StringArray::from_iter_values(branches.iter().map(|(name, _)| name));
        let bases = Int64Array::from_iter_values(branches.iter().map(|(_, record)| record.base as i64));
        let users = StringArray::from_iter_values(branches.iter().map(|(_, record)| &record.user));
        let times = branches.iter().map(|(_, record)| record.created_ms.saturating_mul(1000));
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(bases), Arc::new(users), Arc::new(times)];
        let batch = RecordBatch::try_new(schema(), columns)?;
        Ok(Outcome::Rows(Rows::of_batch("SHOW", batch, run)))
    }
}

/// The columns of SHOW BRANCHES.
pub fn schema() -> SchemaRef {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("Branch", DataType::Utf8, false),
        Field::new("Base", DataType::Int64, false),
        Field::new("Owner", DataType::Utf8, false),
        Field::new("Created", instant, false),
    ]))
}

/// CREATE and DROP BRANCH, which a transaction may hold beside other changes.
pub(super) async fn change(planner: &Planner, branch: &Branch) -> Result<()> {
    let (transaction, catalog) = (&planner.transaction, &planner.database);
    match branch {
        Branch::Create { name, if_not_exists, from } => {
            let from = from.as_deref().map(|from| planner.moment(from)).transpose()?;
            let made = transaction.create_branch(catalog, name, from).await;
            let is_there = |error: &Error| matches!(error, Error::AlreadyExists { .. });
            tolerate(made, *if_not_exists, is_there, &planner.facts)
        }
        Branch::Drop { name, if_exists } => {
            let dropped = transaction.drop_branch(catalog, name).await;
            let is_missing = |error: &Error| matches!(error, Error::BranchNotFound(_));
            tolerate(dropped, *if_exists, is_missing, &planner.facts)
        }
        Branch::Merge { .. } | Branch::Show => {
            Err(Error::Internal("no change of branches reached the wrong place".to_owned()))
        }
    }
}
