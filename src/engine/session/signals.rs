//! What sessions of one daemon tell and ask of each other: notifications and locks.
//!
//! LISTEN and NOTIFY take effect when their transaction commits, and are forgotten when it does not.

use std::sync::Arc;

use tokio::sync::Notify;

use super::super::execute::Outcome;
use super::super::statement::{Name, Statement};
use super::block::Block;
use super::{Session, done};
use crate::error::{Error, Result};
use crate::runtime::channels::{Listening, Notification};
use crate::runtime::locks::Scope;

/// How many changes to what it listens to one transaction may make.
const CHANGES_MAX: usize = 10_000;

impl Session {
    /// What is told when notifications arrive.
    pub fn arrived(&self) -> Arc<Notify> {
        Arc::clone(&self.arrived)
    }

    /// Takes the notifications that have arrived. Within a transaction the client hears of none.
    pub fn take_notifications(&self) -> Vec<Notification> {
        match self.block {
            Block::None if self.listens => self.engine.runtime.channels.take(self.facts.process_id),
            _ => Vec::new(),
        }
    }

    pub(super) async fn signal(&mut self, statement: &Statement) -> Result<Option<Outcome>> {
        match statement {
            Statement::Listen(channel) => self.change_listening(Listening::Add(channel.clone()))?,
            Statement::Unlisten(Some(channel)) => {
                self.change_listening(Listening::Remove(channel.clone()))?;
            }
            Statement::Unlisten(None) => self.change_listening(Listening::RemoveAll)?,
            Statement::Notify { channel, payload } => self.facts.send(channel, payload)?,
            Statement::Lock(names) => self.lock_tables(names).await?,
            // What is committed is in the bucket already.
            Statement::Checkpoint => {}
            _ => return Ok(None),
        }
        Ok(Some(done(statement.word())))
    }

    /// Nothing waits for locks: of two transactions that change the same, the second fails at its commit.
    async fn lock_tables(&self, names: &[Name]) -> Result<()> {
        if matches!(self.block, Block::None) {
            let message = "LOCK TABLE can only be used in transaction blocks";
            return Err(Error::NoActiveTransaction(message.to_owned()));
        }
        let planner = self.planner().await?;
        for name in names {
            planner.find(name).await?;
        }
        Ok(())
    }

    fn change_listening(&mut self, change: Listening) -> Result<()> {
        if self.listening.len() >= CHANGES_MAX {
            return Err(Error::LimitExceeded(format!("a transaction can LISTEN {CHANGES_MAX} times")));
        }
        self.listening.push(change);
        Ok(())
    }

    /// How many changes and notifications wait for the commit.
    pub(super) fn signals_pending(&self) -> (usize, usize) {
        (self.listening.len(), self.facts.outbox().len())
    }

    pub(super) fn forget_signals_since(&mut self, (listening, sent): (usize, usize)) {
        self.listening.truncate(listening);
        self.facts.outbox().truncate(sent);
    }

    /// # Errors
    /// [`Error::LimitExceeded`] when who would hear of it has too much unread.
    pub(super) fn ensure_signals(&self) -> Result<()> {
        let outbox = self.facts.outbox();
        match outbox.is_empty() {
            true => Ok(()),
            false => self.engine.runtime.channels.ensure_room(&self.database, &outbox),
        }
    }

    /// Lets what waited for the commit happen, or forgets it; gives back the transaction's locks.
    pub(super) fn settle_signals(&mut self, committed: bool) -> Result<()> {
        let runtime = &self.engine.runtime;
        let process_id = self.facts.process_id;
        let sent = std::mem::take(&mut *self.facts.outbox());
        let changes = std::mem::take(&mut self.listening);
        let mut listened = Ok(());
        if committed && !changes.is_empty() {
            self.listens |= changes.iter().any(|change| matches!(change, Listening::Add(_)));
            listened = runtime.channels.listen(process_id, &self.database, &self.arrived, changes);
        }
        if committed && !sent.is_empty() {
            runtime.channels.publish(process_id, &self.database, sent);
        }
        if self.facts.took_lock(false) {
            runtime.locks.unlock_all(process_id, Scope::Transaction);
        }
        listened
    }

    /// Ends what the session holds of its own will, as DISCARD ALL does.
    pub(super) fn discard_signals(&mut self) -> Result<()> {
        self.change_listening(Listening::RemoveAll)?;
        self.settle_signals(true)?;
        self.engine.runtime.locks.unlock_all(self.facts.process_id, Scope::Session);
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let runtime = &self.engine.runtime;
        if self.listens {
            runtime.channels.close(self.facts.process_id);
        }
        for scope in [Scope::Transaction, Scope::Session] {
            runtime.locks.unlock_all(self.facts.process_id, scope);
        }
    }
}
