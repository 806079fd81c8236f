//! A session: one client's settings, transaction and prepared statements.
//!
//! This file runs statements. What BEGIN, COMMIT and their relatives do is decided in [`block`], what
//! PREPARE keeps in [`prepared`], what DataFusion is told of the settings in [`state`].

mod block;
mod cursors;
mod past;
mod prepared;
mod signals;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::execution::context::SessionState;
use datafusion::sql::sqlparser::ast;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::block::Block;
pub use self::prepared::Prepared;
use self::prepared::is_immutable;
use super::cursor::Cursor;
use super::execute::{Outcome, Rows, Run, stopped_or};
use super::frugal::Frugal;
use super::plan::{bind, cast_oids, parameter_types};
use super::returning::Returning;
use super::settings::Settings;
use super::statement::{Branch, Discard, Explain, Explained, Parsed, Show, Statement};
use super::weight::is_constant;
use super::{Engine, explain, show};
use crate::catalog::temporary::Temporary;
use crate::error::{Error, Result};
pub use crate::function::Notice;
use crate::function::SessionFacts;
use crate::runtime::channels::Listening;
use crate::runtime::queries::Cancel;
use crate::runtime::sessions::SessionGuard;

/// Who a session belongs to, and what it is connected to.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    pub user: String,
    pub database: String,
    pub process_id: i32,
    /// Settings that the client gave at its start.
    pub settings: Vec<(String, String)>,
}

/// One client's session.
pub struct Session {
    pub engine: Arc<Engine>,
    pub user: String,
    pub database: String,
    pub settings: Arc<Settings>,
    pub(super) facts: Arc<SessionFacts>,
    /// Statements by name, the client's and those of PREPARE alike; the unnamed one is `""`.
    statements: HashMap<String, Arc<Prepared>>,
    block: Block,
    cursors: BTreeMap<String, Cursor>,
    /// How many cursors were declared so far.
    cursors_declared: u64,
    /// What changes for this session's mailbox when its transaction commits.
    listening: Vec<Listening>,
    /// Whether it has listened to anything yet.
    listens: bool,
    arrived: Arc<Notify>,
    committing: Arc<AtomicBool>,
    temporary: Arc<Temporary>,
    /// Stops the statements that run from now on, until the next is armed.
    cancel: Cancel,
    /// Shows this session to the others.
    presence: SessionGuard,
    /// Made when it is needed first.
    state: OnceLock<SessionState>,
    state_version: u64,
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// [`Error::CatalogNotFound`], and what is wrong with the settings given.
    pub fn open(engine: Arc<Engine>, options: SessionOptions) -> Result<Self> {
        let SessionOptions { user, database, process_id, mut settings } = options;
        let database = past::split(&engine.catalogs, &database, &mut settings)?;
        let given = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = Arc::new(Settings::start(&user, given)?);
        let view = Arc::clone(&settings) as _;
        let sessions = &engine.runtime.sessions;
        let presence = sessions.open(process_id, &user, &database);
        let facts = SessionFacts::new(&user, &database, process_id, engine.started, view);
        let facts = Arc::new(facts.among(sessions, &engine.runtime.channels, &engine.runtime.locks));
        let statements = HashMap::new();
        let cancel = Cancel::default();
        let temporary = Arc::new(Temporary::new(Arc::clone(&engine.runtime)));
        let mut session = Self {
            engine,
            user,
            database,
            settings,
            facts,
            statements,
            block: Block::None,
            cursors: BTreeMap::new(),
            cursors_declared: 0,
            listening: Vec::new(),
            listens: false,
            arrived: Arc::default(),
            committing: Arc::default(),
            temporary,
            cancel,
            presence,
            state: OnceLock::new(),
            state_version: u64::MAX,
        };
        session.refresh_state()?;
        Ok(session)
    }

    /// Makes `cancel` the one that stops this session's next statements from outside.
    pub fn arm(&mut self, cancel: Cancel) {
        self.presence.arm(cancel.clone());
        self.cancel = cancel;
    }

    /// Fires when another session ends this one.
    pub fn end(&self) -> CancellationToken {
        self.presence.end()
    }

    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Takes the notices since the last call that the client wants to hear of.
    pub fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.facts.take_notices();
        if !notices.is_empty() {
            match self.settings.text("client_min_messages").as_str() {
                "error" => notices.clear(),
                "warning" => notices.retain(|notice| notice.is_warning),
                _ => {}
            }
        }
        notices
    }

    /// Looks up what a statement needs and answers, without running it.
    ///
    /// # Errors
    /// What is wrong with the statement before it runs.
    pub async fn prepare(&mut self, parsed: Parsed, declared: &[Option<DataType>]) -> Result<Prepared> {
        self.refuse_in_failed_block(&parsed.statement)?;
        let run = self.begin(&parsed)?;
        let prepared = self.prepared(parsed, declared, &run).await;
        prepared.map_err(|error| stopped_or(run.cancel(), error))
    }

    async fn prepared(
        &mut self,
        parsed: Parsed,
        declared: &[Option<DataType>],
        run: &Run,
    ) -> Result<Prepared> {
        let (mut parameters, mut schema, mut constant) = (Vec::new(), None, None);
        let mut declared_oids = Vec::new();
        if let Some(query) = show::query_of(&parsed.statement, &self.database)? {
            let planner = self.planner().await?;
            show::ensure_schema(&planner, &parsed.statement).await?;
            let declared = declared.to_vec();
            declared_oids = cast_oids(&query);
            let planned = run.plan(async move {
                let plan = planner.query(*query, &declared).await?;
                let parameters = parameter_types(&plan, &declared)?;
                let fixed = parameters.is_empty() && is_immutable(&plan)?;
                let physical = if fixed { Some(planner.physical(&plan).await?) } else { None };
                let constant = physical.filter(|plan| is_constant(plan.as_ref()));
                Ok((parameters, Arc::clone(plan.schema().inner()), constant))
            });
            let (found, columns, plan) = planned.await?;
            (parameters, schema, constant) = (found, Some(columns), plan);
        } else if let Statement::Insert(insert) = &parsed.statement {
            parameters = self.insert_parameters(insert, declared, run).await?;
            if let Some(items) = &insert.returning {
                let returning = Returning::new(items, insert.alias.as_ref(), &insert.name.name);
                schema = Some(self.returned_schema(returning, &insert.name, &mut parameters, run).await?);
            }
        } else if let Statement::Modify(modify) = &parsed.statement {
            parameters = self.modify_parameters(modify, declared, run).await?;
            if let Some(items) = &modify.returning {
                let returning = Returning::new(items, modify.alias.as_ref(), &modify.target.name);
                schema = Some(self.returned_schema(returning, &modify.target, &mut parameters, run).await?);
            }
        } else if let Some(query) = inner_query(&parsed.statement) {
            parameters = self.query_parameters(query, declared, run).await?;
            schema = show::schema_of(&parsed.statement);
        } else {
            schema = match &parsed.statement {
                Statement::Execute { name, .. } => self.statement(name)?.schema.clone(),
                Statement::Fetch(fetch) if !fetch.moves => {
                    self.cursor(&fetch.cursor).map(|cursor| Arc::clone(&cursor.schema))
                }
                other => show::schema_of(other),
            };
        }
        Ok(Prepared { parsed, parameters, declared_oids, schema, constant })
    }

    /// Runs a statement with values for its parameters.
    ///
    /// # Errors
    /// What goes wrong before the first row; the rest comes with the rows.
    pub async fn run(&mut self, prepared: &Prepared, values: &[ScalarValue]) -> Result<Outcome> {
        let statement = &prepared.parsed.statement;
        self.refuse_in_failed_block(statement)?;
        if let Some(plan) = prepared.constant.as_ref().filter(|_| values.is_empty()) {
            self.note_query(statement);
            let run = self.begin(&prepared.parsed)?;
            return Ok(Outcome::Rows(Rows::of_plan("SELECT", Arc::clone(plan), self.task_context(), run)));
        }
        self.execute(&prepared.parsed, values).await
    }

    /// Parses nothing and prepares nothing: runs a statement of the simple protocol.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn execute(&mut self, parsed: &Parsed, values: &[ScalarValue]) -> Result<Outcome> {
        let statement = &parsed.statement;
        self.refuse_in_failed_block(statement)?;
        if statement.writes() && !self.fills_temporary(statement).await? {
            self.refuse_read_only(statement)?;
        }
        self.note_query(statement);
        let run = self.begin(parsed)?;
        let cancel = run.cancel().clone();
        let outcome = match show::query_of(statement, &self.database)? {
            Some(query) => self.query(statement, *query, values, run).await,
            None => self.command(parsed, values, run).await,
        };
        outcome.map_err(|error| stopped_or(&cancel, error))
    }

    pub(super) async fn query(
        &mut self,
        statement: &Statement,
        query: ast::Query,
        values: &[ScalarValue],
        run: Run,
    ) -> Result<Outcome> {
        let planner = self.planner().await?;
        show::ensure_schema(&planner, statement).await?;
        let context = self.task_context();
        let values = values.to_vec();
        let (plan, frugal) = run
            .plan(async move {
                let types: Vec<_> = values.iter().map(|value| Some(value.data_type())).collect();
                let query = bind(planner.query(query, &types).await?, &values)?;
                Ok((planner.physical(&query).await?, Frugal::new(planner, query)))
            })
            .await?;
        Ok(Outcome::Rows(Rows::of_plan("SELECT", plan, context, run).or_frugally(frugal)))
    }

    async fn command(&mut self, parsed: &Parsed, values: &[ScalarValue], run: Run) -> Result<Outcome> {
        let statement = &parsed.statement;
        match statement {
            Statement::Explain(request) => explain::explain(self, request, values, run).await,
            Statement::ShowSetting(name) => show::setting(self, name.as_deref(), run),
            Statement::Show(Show::Stats { query }) => show::stats(self, query, run).await,
            Statement::Show(request) => show::create_table(self, request, run).await,
            Statement::Execute { name, parameters } => {
                Box::pin(self.execute_prepared(name, parameters, run)).await
            }
            Statement::Prepare { name, types, statement } => {
                let types = types
                    .iter()
                    .map(|ty| show::arrow_type(self.state(), ty).map(Some))
                    .collect::<Result<Vec<_>>>()?;
                let prepared = self.prepared(statement.as_ref().clone(), &types, &run).await?;
                self.store(name.clone(), prepared, Some(&parsed.text))?;
                Ok(done("PREPARE"))
            }
            Statement::Begin(_)
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint(_)
            | Statement::Release(_)
            | Statement::RollbackTo(_)
            | Statement::SetTransaction(_)
            | Statement::SetCharacteristics(_) => self.transact(statement, run).await,
            Statement::Branch(branch @ (Branch::Show | Branch::Merge { .. })) => {
                self.branch(branch, run).await
            }
            Statement::CopyFrom(request) => Box::pin(self.copy_from(request, run)).await,
            Statement::CopyTo(request) => Box::pin(self.copy_to(statement, request, run)).await,
            Statement::Assert(assert) if assert.quarantine.is_none() => {
                Box::pin(self.assert(assert, run)).await
            }
            Statement::Discard(what) => self.discard(*what, run).await,
            Statement::Declare(declare) => {
                Box::pin(self.declare_cursor(declare, values, Arc::clone(&parsed.text), run)).await
            }
            Statement::Fetch(fetch) => self.fetch(fetch, run).await,
            Statement::CloseCursor(name) => self.close_cursors(name.as_deref()),
            Statement::Upkeep(upkeep) => Box::pin(self.tend(upkeep, run)).await,
            _ => {
                if let Some(outcome) = self.set(statement)? {
                    return Ok(outcome);
                }
                match self.signal(statement).await? {
                    Some(outcome) => Ok(outcome),
                    None => Box::pin(self.change(statement, values, run)).await,
                }
            }
        }
    }

    /// Statements about the session itself.
    fn set(&mut self, statement: &Statement) -> Result<Option<Outcome>> {
        let outcome = match statement {
            Statement::Set { name, value, .. } if self.set_mode(name, value.as_deref())? => done("SET"),
            Statement::Set { name, value, local } => {
                let value = &self.checked_moment(name, value.as_deref())?;
                if *local && matches!(self.block, Block::None) {
                    self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
                }
                let before = self.settings.mark();
                self.settings.set(name, value.as_deref(), *local)?;
                self.refresh_state().inspect_err(|_| self.settings.go_back(&before))?;
                done("SET")
            }
            Statement::Reset(name) => {
                if let Some(name) = name {
                    self.checked_moment(name, None)?;
                }
                self.settings.reset(name.as_deref())?;
                self.refresh_state()?;
                done("RESET")
            }
            Statement::Deallocate(None) => {
                self.close_statements();
                done("DEALLOCATE ALL")
            }
            Statement::Deallocate(Some(name)) => {
                self.statement(name)?;
                self.close_statement(name);
                done("DEALLOCATE")
            }
            Statement::KillQuery(id) => match self.engine.runtime.queries.kill(id, &self.user) {
                true => done("CALL"),
                false => {
                    return Err(Error::InvalidParameter(format!("there is no query \"{id}\" of this user")));
                }
            },
            _ => return Ok(None),
        };
        Ok(Some(outcome))
    }

    async fn discard(&mut self, what: Discard, run: Run) -> Result<Outcome> {
        match what {
            // Plans are not kept, and there are no sequences.
            Discard::Plans => Ok(done("DISCARD PLANS")),
            Discard::Sequences => Ok(done("DISCARD SEQUENCES")),
            Discard::Temp => {
                let (transaction, autocommit) = self.transaction();
                transaction.drop_temporary().await?;
                if autocommit {
                    self.commit(&transaction, run.guard.id.clone()).await?;
                }
                Ok(done("DISCARD TEMP"))
            }
            Discard::All => {
                self.refuse_in_block("DISCARD ALL")?;
                self.close_statements();
                self.close_cursors(None)?;
                self.discard_signals()?;
                self.settings.reset(None)?;
                self.refresh_state()?;
                self.temporary.discard().await;
                Ok(done("DISCARD ALL"))
            }
        }
    }

    /// Registers a statement as running; the canceller stops it from now on.
    fn begin(&self, parsed: &Parsed) -> Result<Run> {
        let runtime = &self.engine.runtime;
        let text = Arc::clone(&parsed.text);
        self.presence.begin(Arc::clone(&text), self.settings.text("application_name"));
        let guard = runtime.queries.begin(&self.user, &self.database, text, self.cancel.clone())?;
        Ok(Run::begin(runtime, guard, self.settings.duration("statement_timeout")))
    }
}

/// The query that a statement holds and may give parameters.
fn inner_query(statement: &Statement) -> Option<&ast::Query> {
    match statement {
        Statement::Declare(declare) => Some(&declare.query),
        Statement::Explain(Explain { what: Explained::Query(query), .. }) => Some(query),
        _ => None,
    }
}

pub(super) fn done(tag: &str) -> Outcome {
    Outcome::Done(tag.to_owned())
}
