//! Tables about tables: `"t$snapshots"` and its like, of a table as this transaction sees it.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use super::{LakeView, Transaction};
use crate::error::Result;
use crate::format::iceberg::Inspection;

impl Transaction {
    /// What a name with a `$` tells of the table in front of it; none for any other name.
    pub(super) async fn inspected(
        &self,
        view: &LakeView,
        schema: &str,
        name: &str,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((table, asked)) = Inspection::of(name) else { return Ok(None) };
        let Some(record) = view.state.table(schema, table) else { return Ok(None) };
        let metadata = self.metadata(view, record).await?;
        let rows = asked.rows(&view.lake.location, &metadata).await?;
        Ok(Some(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)))
    }
}
