//! Frugal plans: another try of a query that did not fit into memory.
//!
//! A hash join holds one of its sides whole and cannot spill (DataFusion 55); a sort-merge join can. A
//! frugal plan joins that way where it may (`NOT IN` over values that can be null may not), in few
//! partitions and small batches. That another try does no harm, since nothing of the first has left
//! the daemon, is for the caller to know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use tracing::debug;

use super::cut;
use super::plan::Planner;
use crate::error::{Error, Result};

/// How long the memory of the first try is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is needed to plan a query another time.
pub struct Frugal {
    planner: Planner,
    query: LogicalPlan,
}

impl Frugal {
    pub fn new(planner: Planner, query: LogicalPlan) -> Self {
        Self { planner, query }
    }

    /// Plans the query anew, and waits until the memory of its first try, in `pool`, is free again.
    ///
    /// # Errors
    /// As [`Planner::physical`].
    pub async fn plan(
        mut self,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
        let runtime = Arc::clone(&self.planner.runtime);
        let session = self.planner.state.config_mut();
        let grain = runtime.finest_grain();
        *session = cut(session.clone(), grain);
        self.planner.state.config_mut().options_mut().optimizer.prefer_hash_join = false;
        let plan = self.planner.physical(&self.query).await?;
        let context = TaskContext::from(&self.planner.state).with_runtime(runtime.query_env());
        // Tasks of the first try end on their own time; without their memory this one has less.
        let freed = async {
            while pool.reserved() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, freed).await.is_err() {
            debug!(bytes = pool.reserved(), "the first try still holds memory");
        }
        Ok((plan, Arc::new(context)))
    }

    /// Runs the query's `plan` by `run`; the frugal one, if that does not fit into memory.
    ///
    /// # Errors
    /// What `run` returns, and what planning anew finds.
    pub async fn after_trying<T, F>(
        self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        run: impl Fn(Arc<dyn ExecutionPlan>, Arc<TaskContext>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let pool = Arc::clone(context.memory_pool());
        match run(plan, context).await {
            Err(Error::OutOfMemory(reason)) => {
                debug!(%reason, "another try, frugally");
                let (plan, context) = self.plan(&pool).await?;
                run(plan, context).await
            }
            ended => ended,
        }
    }
}

impl fmt::Debug for Frugal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frugal").finish_non_exhaustive()
    }
}
