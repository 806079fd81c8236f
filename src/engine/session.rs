//! A session: one client's settings, transaction and prepared statements.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::ExecutionPlan;

use super::execute::{Outcome, Rows, Run, is_constant, stopped_or};
use super::plan::{Planner, bind, parameter_types};
use super::settings::Settings;
use super::statement::{Parsed, Statement};
use super::{Engine, explain, show};
use crate::catalog::transaction::Transaction;
use crate::error::{Error, Result};
use crate::function::{self, SessionFacts};
use crate::runtime::queries::Cancel;
use crate::telemetry::Metrics;

/// Who a session belongs to, and what it is connected to.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    pub user: String,
    pub database: String,
    pub process_id: i32,
    /// Settings that the client gave at its start.
    pub settings: Vec<(String, String)>,
}

/// The transaction block that a session is in.
#[derive(Debug)]
enum Block {
    None,
    Open(Arc<Transaction>),
    /// A statement failed; only its end is allowed.
    Failed,
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
    /// Stops the statements that run from now on, until the next is armed.
    cancel: Cancel,
    state: SessionState,
    state_version: u64,
}

/// A statement whose names were looked up once, to learn its parameters and its columns.
#[derive(Debug)]
pub struct Prepared {
    pub parsed: Parsed,
    pub parameters: Vec<DataType>,
    /// The types that the client declared, as it numbers them; 0 where it left the choice.
    pub declared_oids: Vec<u32>,
    /// The columns it answers; none for a command.
    pub schema: Option<SchemaRef>,
    /// A plan that reads nothing and always gives the same row.
    constant: Option<Arc<dyn ExecutionPlan>>,
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// [`Error::CatalogNotFound`], and what is wrong with the settings given.
    pub fn open(engine: Arc<Engine>, options: SessionOptions) -> Result<Self> {
        let SessionOptions { user, database, process_id, settings } = options;
        engine.catalogs.ensure(&database)?;
        let given = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = Arc::new(Settings::start(&user, given)?);
        let view = Arc::clone(&settings) as _;
        let facts = Arc::new(SessionFacts::new(&user, &database, process_id, engine.started, view));
        let context = SessionContext::new_with_state(engine.base.clone());
        function::register(&context, &facts);
        let state = context.state();
        let statements = HashMap::new();
        let cancel = Cancel::default();
        let block = Block::None;
        let mut session = Self {
            engine,
            user,
            database,
            settings,
            facts,
            statements,
            block,
            cancel,
            state,
            state_version: u64::MAX,
        };
        session.refresh_state()?;
        Ok(session)
    }

    /// Makes `cancel` the one that stops this session's next statements from outside.
    pub fn arm(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

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
        if let Some(query) = show::query_of(&parsed.statement, &self.database)? {
            let planner = self.planner().await?;
            let declared = declared.to_vec();
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
        } else {
            schema = show::schema_of(&parsed.statement);
            if let Statement::Execute { name, .. } = &parsed.statement {
                schema = self.statement(name)?.schema.clone();
            }
        }
        Ok(Prepared { parsed, parameters, declared_oids: Vec::new(), schema, constant })
    }

    /// Runs a statement with values for its parameters.
    ///
    /// # Errors
    /// What goes wrong before the first row; the rest comes with the rows.
    pub async fn run(&mut self, prepared: &Prepared, values: &[ScalarValue]) -> Result<Outcome> {
        let statement = &prepared.parsed.statement;
        self.refuse_in_failed_block(statement)?;
        if let Some(plan) = prepared.constant.as_ref().filter(|_| values.is_empty()) {
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
        if statement.writes() {
            self.refuse_read_only(statement)?;
        }
        let run = self.begin(parsed)?;
        let cancel = run.cancel().clone();
        let outcome = match show::query_of(statement, &self.database)? {
            Some(query) => self.query(*query, values, run).await,
            None => self.command(statement, values, run).await,
        };
        outcome.map_err(|error| stopped_or(&cancel, error))
    }

    async fn query(
        &mut self,
        query: datafusion::sql::sqlparser::ast::Query,
        values: &[ScalarValue],
        run: Run,
    ) -> Result<Outcome> {
        let planner = self.planner().await?;
        let context = self.task_context();
        let values = values.to_vec();
        let plan = run
            .plan(async move {
                let types: Vec<_> = values.iter().map(|value| Some(value.data_type())).collect();
                let plan = bind(planner.query(query, &types).await?, &values)?;
                planner.physical(&plan).await
            })
            .await?;
        Ok(Outcome::Rows(Rows::of_plan("SELECT", plan, context, run)))
    }

    async fn command(&mut self, statement: &Statement, values: &[ScalarValue], run: Run) -> Result<Outcome> {
        match statement {
            Statement::Explain(request) => explain::explain(self, request, run).await,
            Statement::ShowSetting(name) => show::setting(self, name.as_deref(), run),
            Statement::Show(request) => show::create_table(self, request, run).await,
            Statement::Execute { name, parameters } => {
                Box::pin(self.execute_prepared(name, parameters, run)).await
            }
            Statement::Prepare { name, types, statement } => {
                let types = types
                    .iter()
                    .map(|ty| show::arrow_type(&self.state, ty).map(Some))
                    .collect::<Result<Vec<_>>>()?;
                let prepared = self.prepared(statement.as_ref().clone(), &types, &run).await?;
                self.store(name.clone(), prepared)?;
                Ok(done("PREPARE"))
            }
            Statement::Begin { .. } | Statement::Commit | Statement::Rollback => {
                self.transact(statement, run).await
            }
            _ => match self.set(statement)? {
                Some(outcome) => Ok(outcome),
                None => self.change(statement, values, run).await,
            },
        }
    }

    /// Statements about the session itself.
    fn set(&mut self, statement: &Statement) -> Result<Option<Outcome>> {
        let outcome = match statement {
            Statement::Set { name, value, local } => {
                self.settings.set(name, value.as_deref(), *local)?;
                self.refresh_state().inspect_err(|_| {
                    self.settings.reset(Some(name)).ok();
                })?;
                done("SET")
            }
            Statement::Reset(name) => {
                self.settings.reset(name.as_deref())?;
                self.refresh_state()?;
                done("RESET")
            }
            Statement::Deallocate(None) => {
                self.statements.retain(|name, _| name.is_empty());
                done("DEALLOCATE ALL")
            }
            Statement::Deallocate(Some(name)) => {
                let removed = self.statements.remove(name);
                removed.ok_or_else(|| Error::StatementNotFound(name.clone()))?;
                done("DEALLOCATE")
            }
            Statement::KillQuery(id) => match self.engine.runtime.queries.kill(id, &self.user) {
                true => done("CALL"),
                false => {
                    return Err(Error::InvalidParameter(format!("there is no query \"{id}\" of this user")));
                }
            },
            Statement::DiscardAll => {
                if !matches!(self.block, Block::None) {
                    return Err(Error::ActiveTransaction(
                        "DISCARD ALL cannot run inside a transaction block".to_owned(),
                    ));
                }
                self.statements.clear();
                self.settings.reset(None)?;
                self.refresh_state()?;
                done("DISCARD ALL")
            }
            _ => return Ok(None),
        };
        Ok(Some(outcome))
    }

    async fn transact(&mut self, statement: &Statement, run: Run) -> Result<Outcome> {
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

    async fn execute_prepared(
        &mut self,
        name: &str,
        parameters: &[datafusion::sql::sqlparser::ast::Expr],
        run: Run,
    ) -> Result<Outcome> {
        let prepared = self.statement(name)?;
        if parameters.len() != prepared.parameters.len() {
            let message = format!(
                "wrong number of parameters for prepared statement \"{name}\": expected {}, got {}",
                prepared.parameters.len(),
                parameters.len()
            );
            return Err(Error::Syntax { message, position: None });
        }
        let pairs = parameters.iter().zip(&prepared.parameters);
        let values =
            pairs.map(|(expr, ty)| show::constant(&self.state, expr, ty)).collect::<Result<Vec<_>>>()?;
        drop(run);
        self.run(&prepared, &values).await
    }

    /// Commits in a task of its own, so that a client that goes away does not cut it in two.
    pub(super) async fn commit(&self, transaction: &Arc<Transaction>, run: &Run) -> Result<()> {
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
    pub(super) fn transaction(&self) -> (Arc<Transaction>, bool) {
        match &self.block {
            Block::Open(transaction) => (Arc::clone(transaction), false),
            _ => (self.new_transaction(), true),
        }
    }

    fn new_transaction(&self) -> Arc<Transaction> {
        Arc::new(Transaction::begin(Arc::clone(&self.engine.catalogs), self.user.clone()))
    }

    /// What the next statement plans with.
    pub(super) async fn planner(&self) -> Result<Planner> {
        let (transaction, _) = self.transaction();
        self.planner_in(transaction).await
    }

    pub(super) async fn planner_in(&self, transaction: Arc<Transaction>) -> Result<Planner> {
        let mut state = self.state.clone();
        state.mark_start_execution();
        let facts = Arc::clone(&self.facts);
        let search_path = self.settings.search_path(&self.user);
        let runtime = Arc::clone(&self.engine.runtime);
        Ok(Planner { state, transaction, facts, runtime, database: self.database.clone(), search_path })
    }

    pub(super) fn task_context(&self) -> Arc<TaskContext> {
        let env = self.engine.runtime.query_env();
        Arc::new(TaskContext::from(&self.state).with_runtime(env))
    }

    /// Registers a statement as running; the canceller stops it from now on.
    fn begin(&self, parsed: &Parsed) -> Result<Run> {
        let runtime = &self.engine.runtime;
        let text = Arc::clone(&parsed.text);
        let guard = runtime.queries.begin(&self.user, &self.database, text, self.cancel.clone())?;
        Ok(Run::begin(runtime, guard, self.settings.duration("statement_timeout")))
    }

    /// Keeps a prepared statement under its name.
    ///
    /// # Errors
    /// [`Error::DuplicateStatement`] for a name in use, [`Error::LimitExceeded`].
    pub fn store(&mut self, name: String, prepared: Prepared) -> Result<()> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Error::DuplicateStatement(name));
        }
        let limit = self.engine.config.statements_max;
        if self.statements.len() >= limit && !self.statements.contains_key(&name) {
            return Err(Error::LimitExceeded(format!("a session can hold {limit} prepared statements")));
        }
        self.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    /// # Errors
    /// [`Error::StatementNotFound`].
    pub fn statement(&self, name: &str) -> Result<Arc<Prepared>> {
        self.statements.get(name).cloned().ok_or_else(|| Error::StatementNotFound(name.to_owned()))
    }

    /// Forgets a prepared statement; one that is not there is no error, as the protocol has it.
    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    fn refuse_in_failed_block(&self, statement: &Statement) -> Result<()> {
        match self.block {
            Block::Failed if !statement.ends_transaction() => Err(Error::TransactionAborted),
            _ => Ok(()),
        }
    }

    fn refuse_read_only(&self, statement: &Statement) -> Result<()> {
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

    /// Brings DataFusion's options up to the settings.
    fn refresh_state(&mut self) -> Result<()> {
        self.facts.set_search_path(self.settings.search_path(&self.user));
        let version = self.settings.version();
        if version == self.state_version {
            return Ok(());
        }
        let options = self.state.config_mut().options_mut();
        let zone = self.settings.text("TimeZone");
        // Without one, DataFusion takes timestamptz for timestamp.
        options.execution.time_zone = Some(zone);
        for (name, value) in self.settings.engine_options() {
            options.set(&name, &value)?;
        }
        self.state_version = version;
        self.refresh_functions()
    }

    /// Makes the functions anew that keep an option, as `now()` keeps the zone.
    fn refresh_functions(&mut self) -> Result<()> {
        let options = self.state.config_options();
        let functions = self.state.scalar_functions().values();
        let fresh: Vec<_> =
            functions.filter_map(|function| function.inner().with_updated_config(options)).collect();
        for function in fresh {
            self.state.register_udf(Arc::new(function))?;
        }
        Ok(())
    }

    pub(super) fn state(&self) -> &SessionState {
        &self.state
    }
}

pub(super) fn done(tag: &str) -> Outcome {
    Outcome::Done(tag.to_owned())
}

/// Whether every run of a plan gives the same rows: no clock, no settings, no chance in it.
fn is_immutable(plan: &LogicalPlan) -> Result<bool> {
    let mut immutable = true;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr {
                    immutable &= call.func.signature().volatility == Volatility::Immutable;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(immutable)
}
