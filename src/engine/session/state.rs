//! What a session plans and runs with: DataFusion's state, kept up to its settings.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::{FunctionRegistry, TaskContext};

use super::super::catalog_types::References;
use super::super::plan::{Planner, TemporarySight};
use super::super::semantics::Semantics;
use super::Session;
use crate::catalog::transaction::Transaction;
use crate::error::Result;
use crate::function;
use crate::value::output::TimeZone;

impl Session {
    /// What the next statement plans with.
    pub(in crate::engine) async fn planner(&self) -> Result<Planner> {
        let (transaction, _) = self.transaction();
        self.planner_in(transaction).await
    }

    pub(in crate::engine) async fn planner_in(&self, transaction: Arc<Transaction>) -> Result<Planner> {
        let mut state = self.state().clone();
        state.mark_start_execution();
        let facts = Arc::clone(&self.facts);
        let search_path = self.settings.search_path(&self.user);
        let runtime = Arc::clone(&self.engine.runtime);
        let temporary = TemporarySight { sees: true, ..TemporarySight::default() };
        let database = self.database.clone();
        facts.note_temporary(transaction.may_see_temporary());
        Ok(Planner { state, transaction, facts, runtime, database, search_path, temporary })
    }

    /// What a plan runs with: options, and a memory pool of its own.
    ///
    /// Without the registries of functions: a plan holds the functions that it calls, and copying some
    /// five hundred names took longer than the rest of a prepared `SELECT 1`.
    pub(in crate::engine) fn task_context(&self) -> Arc<TaskContext> {
        Arc::new(TaskContext::new(
            None,
            self.state().session_id().to_owned(),
            self.state().config().clone(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            self.engine.runtime.query_env(),
        ))
    }

    /// Brings DataFusion's options up to the settings.
    pub(super) fn refresh_state(&mut self) -> Result<()> {
        self.facts.set_search_path(self.settings.search_path(&self.user));
        let version = self.settings.version();
        if version == self.state_version {
            return Ok(());
        }
        // One that is made later has the settings from its start; but options may be none that there are.
        if self.state.get().is_some() || !self.settings.engine_options().is_empty() {
            let mut state = self.state.take().unwrap_or_else(|| self.new_state());
            self.configure(&mut state)?;
            self.state = OnceLock::from(state);
        }
        self.state_version = version;
        Ok(())
    }

    /// Lets the state go while the client is idle: it is most of what a session costs, and is made again
    /// in less than a millisecond.
    pub fn park(&mut self) {
        self.state.take();
    }

    /// A state of this session's own, with every function that it can call.
    fn new_state(&self) -> SessionState {
        let context = SessionContext::new_with_state(self.engine.base.clone());
        function::register(&context, &self.facts);
        let mut state = context.state();
        let references = References::planner(&self.facts);
        state.register_expr_planner(references).expect("a session state takes every planner");
        let semantics = Semantics::new(Arc::clone(&self.facts));
        state.add_analyzer_rule(semantics.rule());
        state.config_mut().set_extension(semantics);
        state
    }

    fn configure(&self, state: &mut SessionState) -> Result<()> {
        let options = state.config_mut().options_mut();
        let mut zone = self.settings.text("TimeZone");
        if zone.starts_with(['<', '+', '-']) {
            // PostgreSQL's form counts to the west, DataFusion's to the east.
            let seconds = zone.parse::<TimeZone>()?.offset_at(0);
            let sign = if seconds < 0 { '-' } else { '+' };
            zone = format!("{sign}{:02}:{:02}", seconds.abs() / 3600, seconds.abs() / 60 % 60);
        }
        // Without one, DataFusion takes timestamptz for timestamp.
        options.execution.time_zone = Some(zone);
        for (name, value) in self.settings.engine_options() {
            options.set(&name, &value)?;
        }
        refresh_functions(state)
    }

    pub(in crate::engine) fn state(&self) -> &SessionState {
        self.state.get_or_init(|| {
            let mut state = self.new_state();
            if let Err(error) = self.configure(&mut state) {
                // They were taken when they were set.
                tracing::error!(%error, "a session's options are refused");
            }
            state
        })
    }
}

/// Makes the functions anew that keep an option, as `now()` keeps the zone.
fn refresh_functions(state: &mut SessionState) -> Result<()> {
    let options = state.config_options();
    let functions = state.scalar_functions().values();
    let fresh: Vec<_> =
        functions.filter_map(|function| function.inner().with_updated_config(options)).collect();
    for function in fresh {
        state.register_udf(Arc::new(function))?;
    }
    Ok(())
}
