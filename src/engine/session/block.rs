//! Transaction blocks: what BEGIN opens, COMMIT and ROLLBACK end, and an error leaves failed.

use std::sync::Arc;

use super::super::execute::{Outcome, Run};
use super::super::statement::Statement;
use super::{Session, done};
use crate::catalog::transaction::Transaction;
use crate::error::{Error, Result};
use crate::telemetry::Metrics;

/// The transaction block that a session is in.
#[derive(Debug)]
pub(super) enum Block {
    None,
    Open(Arc<Transaction>),
    /// A statement failed; only its end is allowed.
    Failed,
}

impl Session {
    /// The transaction status that ReadyForQuery shows: `I`, `T` or `E`.
    pub fn status(&self) -> u8 {
        match self.block {
            Block::None => b'I',
            Block::Open(_) => b'T',
            Block::Failed => b'E',
        }
    }

    /// Notes that a statement failed: an open transaction can only be ended now.
    pub fn fail(&mut self) {
        Metrics::add(&self.engine.runtime.metrics.queries_failed_total, 1);
        if matches!(self.block, Block::Open(_)) {
            self.block = Block::Failed;
        }
    }

    pub(super) async fn transact(&mut self, statement: &Statement, run: Run) -> Result<Outcome> {
        match statement {
            Statement::Begin { read_only } => {
                // A second BEGIN changes nothing; PostgreSQL warns.
                if matches!(self.block, Block::None) {
                    let read_only = *read_only || self.settings.is_on("default_transaction_read_only");
                    self.settings.begin();
                    self.settings.set(
                        "transaction_read_only",
                        Some(if read_only { "on" } else { "off" }),
                        true,
                    )?;
                    self.block = Block::Open(self.new_transaction());
                }
                Ok(done("BEGIN"))
            }
            Statement::Commit => match std::mem::replace(&mut self.block, Block::None) {
                Block::Open(transaction) => {
                    let committed = self.commit(&transaction, &run).await;
                    self.settings.end(committed.is_ok());
                    self.refresh_state()?;
                    committed.map(|()| done("COMMIT"))
                }
                Block::Failed => {
                    self.settings.end(false);
                    self.refresh_state()?;
                    Ok(done("ROLLBACK"))
                }
                Block::None => Ok(done("COMMIT")),
            },
            _ => {
                if !matches!(std::mem::replace(&mut self.block, Block::None), Block::None) {
                    self.settings.end(false);
                    self.refresh_state()?;
                }
                Ok(done("ROLLBACK"))
            }
        }
    }

    /// Commits in a task of its own, so that a client that goes away does not cut it in two.
    pub(in crate::engine) async fn commit(&self, transaction: &Arc<Transaction>, run: &Run) -> Result<()> {
        let (transaction, query) = (Arc::clone(transaction), run.guard.id.clone());
        let metrics = &self.engine.runtime.metrics;
        let committed = tokio::spawn(async move { transaction.commit(&query).await }).await;
        let committed = committed.map_err(crate::runtime::cpu::from_join)?;
        match &committed {
            Ok(true) => Metrics::add(&metrics.commits_total, 1),
            Err(Error::CommitConflict { .. }) => Metrics::add(&metrics.commit_conflicts_total, 1),
            _ => {}
        }
        committed.map(drop)
    }

    /// The transaction that a statement runs in, and whether it ends with the statement.
    pub(in crate::engine) fn transaction(&self) -> (Arc<Transaction>, bool) {
        match &self.block {
            Block::Open(transaction) => (Arc::clone(transaction), false),
            _ => (self.new_transaction(), true),
        }
    }

    fn new_transaction(&self) -> Arc<Transaction> {
        Arc::new(Transaction::begin(Arc::clone(&self.engine.catalogs), self.user.clone()))
    }

    pub(super) fn refuse_in_failed_block(&self, statement: &Statement) -> Result<()> {
        match self.block {
            Block::Failed if !statement.ends_transaction() => Err(Error::TransactionAborted),
            _ => Ok(()),
        }
    }

    pub(super) fn refuse_read_only(&self, statement: &Statement) -> Result<()> {
        let outside = matches!(self.block, Block::None);
        let setting = if outside { "default_transaction_read_only" } else { "transaction_read_only" };
        match self.settings.is_on(setting) {
            true => Err(Error::ReadOnly(format!(
                "cannot execute {} in a read-only transaction",
                statement.word()
            ))),
            false => Ok(()),
        }
    }
}
