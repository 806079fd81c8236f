//! The engine: statements become plans, plans become rows or commits.
//!
//! A [`Session`](session::Session) belongs to one connection. The [`Engine`] is what all sessions
//! share: the runtime, the catalogs, and a session state with every function registered, of which
//! each session has its own copy.

pub mod copy;
pub mod cursor;
pub mod dialect;
pub mod execute;
pub mod foreign;
pub mod operators;
pub mod parse;
pub mod plan;
pub mod semantics;
pub mod session;
pub mod settings;
pub mod statement;
pub mod upkeep;

mod alter;
mod assert;
mod branch;
mod catalog_types;
mod ddl;
mod distinct;
mod explain;
mod export;
mod frugal;
mod keys;
mod layout;
mod materialized;
mod modify;
mod overwrite;
mod returning;
mod rules;
mod show;
mod upsert;
mod weight;
mod write;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{FunctionRegistry, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use crate::catalog::Catalogs;
use crate::config::Config;
use crate::error::Result;
use crate::runtime::Runtime;
use crate::runtime::memory::Grain;
use crate::scan::SelectiveScans;

/// What all sessions share.
#[derive(Debug)]
pub struct Engine {
    pub runtime: Arc<Runtime>,
    pub catalogs: Arc<Catalogs>,
    pub config: Arc<Config>,
    pub started: DateTime<Utc>,
    base: SessionState,
}

impl Engine {
    pub fn new(config: Arc<Config>, runtime: Arc<Runtime>, catalogs: Arc<Catalogs>) -> Self {
        let base = base_state(runtime.grain, Arc::clone(&runtime.env));
        Self { runtime, catalogs, config, started: Utc::now(), base }
    }
}

/// A session state with this daemon's options: PostgreSQL's SQL, Parquet read as fast as it can be.
pub fn base_state(grain: Grain, env: Arc<RuntimeEnv>) -> SessionState {
    let mut session = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_collect_statistics(true);
    let options = session.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.default_null_ordering = "nulls_max".to_owned();
    // Fields say which type of PostgreSQL's they are; plans may lose that on the way, which harms nobody.
    options.execution.skip_physical_aggregate_schema_check = true;
    options.execution.parquet.pushdown_filters = false;
    options.execution.listing_table_ignore_subdirectory = false;
    let session = cut(session, grain);
    let builder =
        SessionStateBuilder::new().with_config(session).with_runtime_env(env).with_default_features();
    let builder = builder.with_optimizer_rules(distinct::rules());
    let mut state = builder.with_physical_optimizer_rule(Arc::new(SelectiveScans)).build();
    state.register_expr_planner(operators::planner()).expect("a session state takes every planner");
    state
}

/// Makes plans of that grain.
fn cut(session: SessionConfig, grain: Grain) -> SessionConfig {
    session
        .with_target_partitions(grain.partitions)
        .with_batch_size(grain.batch_rows)
        .with_sort_spill_reservation_bytes(grain.sort_reserve_bytes)
}

/// Starts the engine over everything that the configuration names.
///
/// # Errors
/// What is wrong with the catalogs' files, and what the machine refuses.
pub fn start(config: Arc<Config>, io: tokio::runtime::Handle) -> Result<Arc<Engine>> {
    let runtime = Arc::new(Runtime::start(&config, io)?);
    let state = base_state(runtime.grain, Arc::clone(&runtime.env));
    let catalogs = Arc::new(Catalogs::load(&config, &runtime, state)?);
    Ok(Arc::new(Engine::new(config, runtime, catalogs)))
}
