//! The runtime: what queries may use, and which of them run.
//!
//! Query work has threads of its own, apart from those that serve sockets and object stores, so that
//! a light statement and a cancel are answered while every core is busy. Memory, spill and the number
//! of running queries are bounded here; what a query does is decided in `engine`.

pub mod channels;
pub mod compact;
pub mod cpu;
pub mod locks;
pub mod memory;
pub mod meter;
pub mod queries;
pub mod sessions;
mod spill;
pub mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::config::Config;
use crate::error::Result;
use crate::storage::{Quota, Scratch};
use crate::telemetry::Metrics;
use channels::Channels;
use cpu::CpuRuntime;
use locks::Locks;
use memory::{GlobalPool, Grain, QueryPool};
use queries::Queries;
use sessions::Sessions;
use spill::SpillFolder;
use upkeep::UpkeepLog;

/// Threads that plan; the system shares the cores between them and those that run queries.
const PLANNING_THREADS: usize = 2;

/// What all queries of this process share.
#[derive(Debug)]
pub struct Runtime {
    /// Serves sockets and object stores.
    pub io: tokio::runtime::Handle,
    /// Runs queries.
    pub cpu: CpuRuntime,
    /// Plans queries and answers those about the catalog alone, so that neither waits behind the work
    /// of heavy ones.
    pub planning: CpuRuntime,
    /// Caches, stores, spill folder and the pool over all queries.
    pub env: Arc<RuntimeEnv>,
    pub queries: Queries,
    pub sessions: Arc<Sessions>,
    pub channels: Arc<Channels>,
    pub locks: Arc<Locks>,
    pub upkeep: UpkeepLog,
    pub metrics: Arc<Metrics>,
    /// How finely queries are cut.
    pub grain: Grain,
    query_memory_bytes: usize,
    global: Arc<GlobalPool>,
    /// Removed when the process ends.
    spill: SpillFolder,
    scratch: Arc<Quota>,
}

impl Runtime {
    /// Starts the CPU runtime and prepares memory pool and spill folder.
    ///
    /// # Errors
    /// [`Error::Config`] when the spill folder cannot be made or written.
    pub fn start(config: &Config, io: tokio::runtime::Handle) -> Result<Self> {
        let spill = SpillFolder::create(&config.spill_dir)?;
        let global = Arc::new(GlobalPool::new(config.memory_limit_bytes));
        let grain = Grain::of(config.query_memory_bytes, config.threads);
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill.path().to_owned()]))
            .with_max_temp_directory_size(config.spill_limit_bytes)
            .with_max_spill_merge_fan_in(grain.merge_runs);
        let env = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&global) as Arc<dyn MemoryPool>)
            .with_disk_manager_builder(disk)
            .with_metadata_cache_limit(config.metadata_cache_bytes)
            .with_file_statistics_cache_limit(config.metadata_cache_bytes / 4)
            .build_arc()?;
        // DataFusion registers the whole file system by itself; only fenced roots may be reached.
        if let Ok(everything) = url::Url::parse("file:///") {
            env.deregister_object_store(&everything)?;
        }
        let metrics = Arc::new(Metrics::default());
        let scratch = Arc::new(Quota::new(config.spill_limit_bytes, Arc::clone(&env.disk_manager)));
        Ok(Self {
            io,
            cpu: CpuRuntime::start("lacus-cpu", config.threads)?,
            planning: CpuRuntime::start("lacus-plan", PLANNING_THREADS)?,
            env,
            sessions: Arc::default(),
            channels: Arc::default(),
            locks: Arc::default(),
            upkeep: UpkeepLog::default(),
            grain,
            queries: Queries::new(config.queries_max, config.queue_max, Arc::clone(&metrics)),
            metrics,
            query_memory_bytes: config.query_memory_bytes,
            global,
            spill,
            scratch,
        })
    }

    /// Returns an environment for one query: the shared one, with a memory pool of its own.
    pub fn query_env(&self) -> Arc<RuntimeEnv> {
        let pool = QueryPool::new(Arc::clone(&self.global), self.query_memory_bytes);
        Arc::new(RuntimeEnv { memory_pool: Arc::new(pool), ..self.env.as_ref().clone() })
    }

    /// Makes a folder for temporary tables, which count against the limit of spilled data.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Storage`] when the folder cannot be made.
    pub fn scratch(&self) -> Result<Scratch> {
        Scratch::make(self.spill.path(), Arc::clone(&self.scratch), Arc::clone(&self.env), self.io.clone())
    }

    /// How a query is cut that did not fit into its memory.
    pub fn finest_grain(&self) -> Grain {
        Grain::finest(self.query_memory_bytes)
    }

    /// Waits until no query runs, at most `limit` long; then cancels what is left.
    pub async fn drain(&self, limit: Duration) {
        self.queries.drain(limit).await;
    }

    /// Removes this process's spill folder, as its last act.
    pub async fn remove_spill_folder(&self) {
        self.spill.remove().await;
    }
}
