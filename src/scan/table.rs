//! A table over a pinned snapshot, as DataFusion plans it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::{prune, scan};
use crate::format::Snapshot;
use crate::format::metrics::merged;

/// The rows of one snapshot, whatever happens to its table meanwhile.
#[derive(Debug)]
pub struct FilesTable {
    snapshot: Arc<Snapshot>,
}

impl FilesTable {
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot }
    }

    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.snapshot.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(scan(state, &self.snapshot, projection, filters, limit).await?)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match prune::is_on_partitions(&self.snapshot, filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    /// Known before planning only where the format itself says it, as Iceberg does.
    fn statistics(&self) -> Option<Statistics> {
        let files = &self.snapshot.files;
        if files.is_empty() || files.iter().any(|file| file.statistics.is_none()) {
            return None;
        }
        let mut sum = merged(files, &self.snapshot.schema).ok()?;
        self.snapshot.add_distinct(&mut sum);
        Some(sum)
    }
}
