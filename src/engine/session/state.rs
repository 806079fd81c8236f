//! What a session plans and runs with: DataFusion's state, kept up to its settings.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::context::SessionState;
use datafusion::execution::{FunctionRegistry, TaskContext};

use super::super::plan::{Planner, TemporarySight};
use super::Session;
use crate::catalog::transaction::Transaction;
use crate::error::Result;

impl Session {
    /// What the next statement plans with.
    pub(in crate::engine) async fn planner(&self) -> Result<Planner> {
        let (transaction, _) = self.transaction();
        self.planner_in(transaction).await
    }

    pub(in crate::engine) async fn planner_in(&self, transaction: Arc<Transaction>) -> Result<Planner> {
        let mut state = self.state.clone();
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
            self.state.session_id().to_owned(),
            self.state.config().clone(),
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

    pub(in crate::engine) fn state(&self) -> &SessionState {
        &self.state
    }
}
