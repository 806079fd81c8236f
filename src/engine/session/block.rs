//! Transaction blocks: what BEGIN opens, COMMIT and ROLLBACK end, and an error leaves failed.
//!
//! A *block* holds one transaction over several statements. It is explicit between BEGIN and its end;
//! implicit over the statements of one message, or those up to a Sync, when there are several: then
//! nobody sees it but by what happens to all of them together. A savepoint is a copy of what the
//! transaction has changed so far, and of the settings. What a transaction sees and how it commits is
//! decided in [`transaction`](crate::catalog::transaction).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::execute::{Outcome, Run};
use super::super::settings::{SettingsMark, find};
use super::super::statement::{Statement, TransactionModes};
use super::{Session, done};
use crate::catalog::temporary::TEMPORARY_SCHEMA;
use crate::catalog::transaction::{Overlay, Transaction};
use crate::error::{Error, Result};
use crate::runtime::sessions::Activity;
use crate::telemetry::Metrics;

/// The transaction block that a session is in.
#[derive(Debug, Default)]
pub(super) enum Block {
    /// Each statement begins a transaction and ends it.
    #[default]
    None,
    Implicit(Work),
    Explicit(Work),
    /// A statement failed; only the block's end, or a savepoint, leads out.
    Failed(Work),
}

/// A transaction over several statements.
#[derive(Debug)]
pub(super) struct Work {
    transaction: Arc<Transaction>,
    began: Instant,
    /// Whether a statement has run, after which the modes are settled.
    queried: bool,
    /// The last statement that changed something.
    query: String,
    savepoints: Vec<Savepoint>,
}

#[derive(Debug)]
struct Savepoint {
    name: String,
    overlay: Overlay,
    settings: SettingsMark,
    /// How many cursors were declared before it.
    cursors: u64,
    signals: (usize, usize),
}

impl Work {
    /// The newest savepoint of this name: it hides older ones.
    fn find(&self, name: &str) -> Result<usize> {
        let found = self.savepoints.iter().rposition(|savepoint| savepoint.name == name);
        found.ok_or_else(|| Error::SavepointNotFound(name.to_owned()))
    }
}

impl Session {
    /// The transaction status that ReadyForQuery shows: `I`, `T` or `E`.
    pub fn status(&self) -> u8 {
        match self.block {
            Block::None | Block::Implicit(_) => b'I',
            Block::Explicit(_) => b'T',
            Block::Failed(_) => b'E',
        }
    }

    /// Notes that the session waits for its client.
    pub fn wait(&self) {
        self.presence.wait(match self.block {
            Block::None | Block::Implicit(_) => Activity::Idle,
            Block::Explicit(_) => Activity::IdleInTransaction,
            Block::Failed(_) => Activity::IdleInFailedTransaction,
        });
    }

    /// Notes that a statement failed: an explicit block can only be ended now, or go back to a
    /// savepoint; an implicit one is over.
    pub fn fail(&mut self) {
        Metrics::add(&self.engine.runtime.metrics.queries_failed_total, 1);
        self.block = match std::mem::take(&mut self.block) {
            Block::Explicit(work) => Block::Failed(work),
            Block::Implicit(_) => {
                // An option that DataFusion took before, it takes again.
                self.settled(false).ok();
                Block::None
            }
            Block::None => {
                self.settle_signals(false).ok();
                Block::None
            }
            other => other,
        };
    }

    /// How much longer the transaction may last that is under way, or that the next message begins.
    pub fn transaction_left(&self) -> Duration {
        let most = self.engine.config.transaction_timeout;
        let own = self.settings.duration("transaction_timeout").unwrap_or(most).min(most);
        let spent = self.work().map_or(Duration::ZERO, |work| work.began.elapsed());
        own.saturating_sub(spent)
    }

    /// How long the client may leave the session alone now, and what it is told after that.
    pub fn idle_limit(&self) -> Option<(Duration, Error)> {
        let limit = |name: &str| self.settings.duration(name);
        let idle = match self.block {
            Block::None => limit("idle_session_timeout").map(|limit| (limit, Error::IdleSession)),
            Block::Implicit(_) => None,
            Block::Explicit(_) | Block::Failed(_) => {
                limit("idle_in_transaction_session_timeout").map(|limit| (limit, Error::IdleInTransaction))
            }
        };
        let whole = self.work().map(|_| (self.transaction_left(), Error::TransactionTimeout));
        idle.into_iter().chain(whole).min_by_key(|(limit, _)| *limit)
    }

    /// Whether a commit is under way, which no timeout must cut short.
    pub fn committing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.committing)
    }

    /// Lets the statements from here on share a transaction, until [`Session::end_implicit`], unless
    /// they do so already.
    pub fn begin_implicit(&mut self) {
        if matches!(self.block, Block::None) {
            self.settings.begin();
            self.block = Block::Implicit(self.new_work());
        }
    }

    /// Commits what the statements since [`Session::begin_implicit`] changed; a block that BEGIN opened
    /// among them stays.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub async fn end_implicit(&mut self) -> Result<()> {
        match std::mem::take(&mut self.block) {
            Block::Implicit(work) => {
                let query = work.query.clone();
                self.finish(work, query).await
            }
            Block::None => {
                self.ensure_signals()?;
                self.settle_signals(true)
            }
            other => {
                self.block = other;
                Ok(())
            }
        }
    }

    pub(super) async fn transact(&mut self, statement: &Statement, run: Run) -> Result<Outcome> {
        match statement {
            Statement::Begin(modes) => self.begin_block(modes)?,
            Statement::Commit { chain } => return self.commit_block(*chain, &run).await,
            Statement::Rollback { chain } => self.roll_back(*chain)?,
            Statement::Savepoint(name) => self.savepoint(name)?,
            Statement::Release(name) => self.release(name)?,
            Statement::RollbackTo(name) => {
                self.roll_back_to(name)?;
                return Ok(done("ROLLBACK"));
            }
            Statement::SetTransaction(_) if matches!(self.block, Block::None) => {
                self.warn("25P01", "SET TRANSACTION can only be used in transaction blocks");
            }
            Statement::SetTransaction(modes) => self.set_modes(modes)?,
            Statement::SetCharacteristics(modes) => self.set_defaults(modes)?,
            _ => return Err(Error::Internal("no statement about transactions".to_owned())),
        }
        Ok(done(match statement {
            Statement::Release(_) => "RELEASE",
            Statement::SetTransaction(_) | Statement::SetCharacteristics(_) => "SET",
            other => other.word(),
        }))
    }

    fn begin_block(&mut self, modes: &TransactionModes) -> Result<()> {
        match std::mem::take(&mut self.block) {
            Block::None => {
                self.settings.begin();
                self.block = Block::Explicit(self.new_work());
            }
            // What ran before in the same message becomes part of the block.
            Block::Implicit(work) => self.block = Block::Explicit(work),
            open => {
                self.block = open;
                self.warn("25001", "there is already a transaction in progress");
            }
        }
        self.set_modes(modes)
    }

    async fn commit_block(&mut self, chain: bool, run: &Run) -> Result<Outcome> {
        self.refuse_chain_outside(chain, "COMMIT AND CHAIN")?;
        let modes = self.modes();
        let tag = match std::mem::take(&mut self.block) {
            Block::Explicit(work) | Block::Implicit(work) => {
                self.finish(work, run.guard.id.clone()).await?;
                "COMMIT"
            }
            Block::Failed(_) => {
                self.settled(false)?;
                "ROLLBACK"
            }
            Block::None => "COMMIT",
        };
        if chain {
            self.begin_block(&modes)?;
        }
        Ok(done(tag))
    }

    fn roll_back(&mut self, chain: bool) -> Result<()> {
        self.refuse_chain_outside(chain, "ROLLBACK AND CHAIN")?;
        let modes = self.modes();
        if !matches!(std::mem::take(&mut self.block), Block::None) {
            self.settled(false)?;
        }
        if chain { self.begin_block(&modes) } else { Ok(()) }
    }

    /// Outside of a block an end only warns, and a chain is an error.
    fn refuse_chain_outside(&mut self, chain: bool, what: &str) -> Result<()> {
        match self.block {
            Block::Explicit(_) | Block::Failed(_) => Ok(()),
            _ if chain => Err(only_in_blocks(what)),
            _ => {
                self.warn("25P01", "there is no transaction in progress");
                Ok(())
            }
        }
    }

    /// Commits a block's transaction; the settings go with it.
    async fn finish(&mut self, work: Work, query: String) -> Result<()> {
        let committed = match self.ensure_signals().and(self.persist_cursors().await) {
            Ok(()) => self.commit(&work.transaction, query).await,
            Err(failed) => Err(failed),
        };
        let settled = self.settled(committed.is_ok());
        committed.and(settled)
    }

    fn settled(&mut self, committed: bool) -> Result<()> {
        self.settings.end(committed);
        self.settle_cursors(committed);
        let signals = self.settle_signals(committed);
        self.refresh_state()?;
        signals
    }

    fn savepoint(&mut self, name: &str) -> Result<()> {
        let limit = self.engine.config.statements_max;
        let (settings, cursors) = (self.settings.mark(), self.cursors_declared);
        let signals = self.signals_pending();
        let Block::Explicit(work) = &mut self.block else { return Err(only_in_blocks("SAVEPOINT")) };
        if work.savepoints.len() >= limit {
            return Err(Error::LimitExceeded(format!("a transaction can hold {limit} savepoints")));
        }
        let overlay = work.transaction.overlay();
        work.savepoints.push(Savepoint { name: name.to_owned(), overlay, settings, cursors, signals });
        Ok(())
    }

    /// Forgets a savepoint and those after it; what was done since stays.
    fn release(&mut self, name: &str) -> Result<()> {
        let Block::Explicit(work) = &mut self.block else {
            return Err(only_in_blocks("RELEASE SAVEPOINT"));
        };
        let at = work.find(name)?;
        work.savepoints.truncate(at);
        Ok(())
    }

    /// Undoes what was done since a savepoint, which stays; a failed block can go on from there.
    fn roll_back_to(&mut self, name: &str) -> Result<()> {
        let work = match &mut self.block {
            Block::Explicit(work) | Block::Failed(work) => work,
            _ => return Err(only_in_blocks("ROLLBACK TO SAVEPOINT")),
        };
        let at = work.find(name)?;
        work.savepoints.truncate(at + 1);
        let savepoint = &work.savepoints[at];
        work.transaction.go_back(&savepoint.overlay);
        self.settings.go_back(&savepoint.settings);
        let (declared, signals) = (savepoint.cursors, savepoint.signals);
        self.block = match std::mem::take(&mut self.block) {
            Block::Failed(work) => Block::Explicit(work),
            other => other,
        };
        self.close_cursors_since(declared);
        self.forget_signals_since(signals);
        self.refresh_state()
    }

    /// The modes of the transaction under way.
    fn modes(&self) -> TransactionModes {
        let isolation = self.settings.text("transaction_isolation");
        TransactionModes {
            isolation: LEVELS.into_iter().find(|level| *level == isolation),
            read_only: Some(self.settings.is_on("transaction_read_only")),
            deferrable: Some(self.settings.is_on("transaction_deferrable")),
        }
    }

    /// Changes the modes of the transaction under way, which no statement must have used yet.
    pub(super) fn set_modes(&mut self, modes: &TransactionModes) -> Result<()> {
        self.refuse_late_modes(modes)?;
        let on = |on: bool| if on { "on" } else { "off" };
        let given = [
            ("transaction_isolation", modes.isolation),
            ("transaction_read_only", modes.read_only.map(on)),
            ("transaction_deferrable", modes.deferrable.map(on)),
        ];
        for (name, value) in given.into_iter().filter(|(_, value)| value.is_some()) {
            self.settings.set(name, value, true)?;
        }
        if let (Some(isolation), Some(work)) = (modes.isolation, self.work()) {
            work.transaction.check_reads(isolation == SERIALIZABLE);
        }
        Ok(())
    }

    /// `SET transaction_isolation = …` and its like mean SET TRANSACTION; returns whether it is one.
    pub(super) fn set_mode(&mut self, name: &str, value: Option<&str>) -> Result<bool> {
        let modes = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
        let Some(setting) = find(name).filter(|one| modes.contains(&one.name)) else {
            return Ok(false);
        };
        let value = match value {
            Some(value) => setting.checked(value, "")?,
            None => self.settings.text(&format!("default_{}", setting.name)),
        };
        let on = Some(value == "on");
        let modes = match setting.name {
            "transaction_isolation" => TransactionModes {
                isolation: LEVELS.into_iter().find(|level| *level == value),
                ..TransactionModes::default()
            },
            "transaction_read_only" => TransactionModes { read_only: on, ..TransactionModes::default() },
            _ => TransactionModes { deferrable: on, ..TransactionModes::default() },
        };
        self.set_modes(&modes)?;
        Ok(true)
    }

    fn refuse_late_modes(&self, modes: &TransactionModes) -> Result<()> {
        let Some(work) = self.work() else { return Ok(()) };
        let now = self.modes();
        let late = |what: &str| Err(Error::ActiveTransaction(what.to_owned()));
        if modes.isolation.is_some_and(|level| now.isolation != Some(level)) {
            if work.queried {
                return late("SET TRANSACTION ISOLATION LEVEL must be called before any query");
            }
            if !work.savepoints.is_empty() {
                return late("SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction");
            }
        }
        if modes.read_only == Some(false) && now.read_only == Some(true) {
            if !work.savepoints.is_empty() {
                return late("cannot set transaction read-write mode inside a read-only transaction");
            }
            if work.queried {
                return late("transaction read-write mode must be set before any query");
            }
        }
        Ok(())
    }

    /// Changes the modes that transactions begin in.
    fn set_defaults(&mut self, modes: &TransactionModes) -> Result<()> {
        let on = |on: bool| if on { "on" } else { "off" };
        let given = [
            ("default_transaction_isolation", modes.isolation),
            ("default_transaction_read_only", modes.read_only.map(on)),
            ("default_transaction_deferrable", modes.deferrable.map(on)),
        ];
        for (name, value) in given.into_iter().filter(|(_, value)| value.is_some()) {
            self.settings.set(name, value, false)?;
        }
        Ok(())
    }

    /// Commits in a task of its own, so that a client that goes away does not cut it in two.
    pub(in crate::engine) async fn commit(
        &self,
        transaction: &Arc<Transaction>,
        query: String,
    ) -> Result<()> {
        if !transaction.has_changes() {
            return Ok(());
        }
        let transaction = Arc::clone(transaction);
        let metrics = &self.engine.runtime.metrics;
        self.committing.store(true, Ordering::Relaxed);
        let committed = tokio::spawn(async move { transaction.commit(&query).await }).await;
        self.committing.store(false, Ordering::Relaxed);
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
        match self.work() {
            Some(work) => {
                self.look_back(&work.transaction);
                (Arc::clone(&work.transaction), false)
            }
            None => (self.new_transaction(), true),
        }
    }

    /// Notes that a statement runs: from now on the modes of its block are settled.
    pub(super) fn note_query(&mut self, statement: &Statement) {
        if let Block::Implicit(work) | Block::Explicit(work) = &mut self.block {
            work.queried |= !statement.reads_nothing();
        }
    }

    /// Notes which statement changed something last.
    pub(in crate::engine) fn note_change(&mut self, query: &str) {
        if let Block::Implicit(work) | Block::Explicit(work) = &mut self.block {
            query.clone_into(&mut work.query);
        }
    }

    /// Whether a statement of the block under way has read or changed something.
    pub(super) fn has_queried(&self) -> bool {
        self.work().is_some_and(|work| work.queried)
    }

    fn work(&self) -> Option<&Work> {
        match &self.block {
            Block::None => None,
            Block::Implicit(work) | Block::Explicit(work) | Block::Failed(work) => Some(work),
        }
    }

    fn new_work(&self) -> Work {
        Work {
            transaction: self.new_transaction(),
            began: Instant::now(),
            queried: false,
            query: String::new(),
            savepoints: Vec::new(),
        }
    }

    /// A transaction that sees the lake itself, whatever branch the session is on.
    pub(in crate::engine) fn trunk_transaction(&self) -> Arc<Transaction> {
        let transaction = self.new_transaction();
        transaction.look_at_branch(&self.database, None);
        transaction
    }

    pub(in crate::engine) fn new_transaction(&self) -> Arc<Transaction> {
        let catalogs = Arc::clone(&self.engine.catalogs);
        let transaction = Transaction::begin(catalogs, self.user.clone(), Arc::clone(&self.temporary));
        transaction.check_reads(self.settings.text("transaction_isolation") == SERIALIZABLE);
        self.look_back(&transaction);
        Arc::new(transaction)
    }

    /// # Errors
    /// [`Error::ActiveTransaction`] inside of a block, also of an implicit one.
    pub(in crate::engine) fn refuse_in_block(&self, what: &str) -> Result<()> {
        match self.block {
            Block::None => Ok(()),
            // The first of a pipeline has nobody before it.
            Block::Implicit(ref work) if !work.queried && work.query.is_empty() => Ok(()),
            _ => Err(Error::ActiveTransaction(format!("{what} cannot run inside a transaction block"))),
        }
    }

    /// # Errors
    /// [`Error::TransactionAborted`] for a statement that does not lead out of a failed block.
    pub(super) fn refuse_in_failed_block(&self, statement: &Statement) -> Result<()> {
        match self.block {
            Block::Failed(_) if !statement.ends_failure() => Err(Error::TransactionAborted),
            _ => Ok(()),
        }
    }

    /// Whether a statement puts rows into a temporary table, as a read-only transaction may.
    pub(super) async fn fills_temporary(&self, statement: &Statement) -> Result<bool> {
        let name = match statement {
            Statement::Insert(insert) => &insert.name,
            Statement::CopyFrom(copy) => &copy.name,
            _ => return Ok(false),
        };
        if self.temporary.lake().is_none() {
            return Ok(false);
        }
        let found = self.planner().await?.find(name).await;
        Ok(found.is_ok_and(|full| full.schema == TEMPORARY_SCHEMA))
    }

    pub(super) fn refuse_read_only(&self, statement: &Statement) -> Result<()> {
        match self.settings.is_on("transaction_read_only") {
            true => Err(Error::ReadOnly(format!(
                "cannot execute {} in a read-only transaction",
                statement.word()
            ))),
            false => Ok(()),
        }
    }

    pub(in crate::engine) fn warn(&self, sqlstate: &'static str, message: &str) {
        self.facts.warn(sqlstate, message);
    }
}

const SERIALIZABLE: &str = "serializable";
const LEVELS: [&str; 4] = [SERIALIZABLE, "repeatable read", "read committed", "read uncommitted"];

fn only_in_blocks(what: &str) -> Error {
    Error::NoActiveTransaction(format!("{what} can only be used in transaction blocks"))
}
