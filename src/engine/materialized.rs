//! Materialized views: managed tables that keep the query they were filled by.
//!
//! Other engines see an Iceberg table; SQL reads it as one and changes its rows by REFRESH alone, which
//! runs the whole query and replaces them in one commit. Until then, readers see the rows of before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::logical_expr::LogicalPlan;

use super::ddl::view_record;
use super::execute::{Outcome, Run};
use super::plan::Planner;
use super::session::{Session, done};
use super::statement::{CreateTable, Name};
use super::write::fitted;
use crate::catalog::log::MaterializedRecord;
use crate::error::{Error, Result};
use crate::format::iceberg::{Change, Removal};

/// What the log keeps of a materialized view that is to be made; none of a table.
///
/// # Errors
/// [`Error::Unsupported`] for one over temporary tables, and as [`view_record`].
pub(super) fn record(
    planner: &Planner,
    plan: Option<&LogicalPlan>,
    create: &CreateTable,
) -> Result<Option<Box<MaterializedRecord>>> {
    let (Some(sql), Some(plan)) = (&create.materialized, plan) else { return Ok(None) };
    if planner.temporary.seen.load(Ordering::Relaxed) {
        let message = "materialized views must not use temporary tables or views".to_owned();
        return Err(Error::Unsupported(message));
    }
    let view = view_record(planner, plan, &create.column_names, sql)?;
    Ok(Some(Box::new(MaterializedRecord { view, populated: create.with_data })))
}

impl Session {
    /// Replaces the rows of a materialized view by those that its query has now, or by none.
    pub(super) async fn refresh(
        &mut self,
        planner: Planner,
        name: &Name,
        with_data: bool,
        run: &Run,
    ) -> Result<Outcome> {
        let full = planner.find(name).await?;
        let transaction = Arc::clone(&planner.transaction);
        let mut target = match transaction.stored(&full.catalog, &full.schema, &full.name).await {
            Err(Error::WrongObjectType { name, .. }) => Err(wrong(name)),
            other => other,
        }?;
        let Some(view) = target.materialized().map(|one| one.view.clone()) else {
            return Err(wrong(full.name));
        };
        let mut add = Vec::new();
        if with_data {
            let columns = Arc::clone(&target.columns);
            let (planner, plan) = run
                .plan(async move {
                    let plan = planner.of_view(&full, &view, 0).await?;
                    let defaults = vec![None; columns.fields().len()];
                    let plan = fitted(plan, &columns, &[], &defaults)?;
                    Ok((planner, plan))
                })
                .await?;
            add = self.write(planner, plan, &target, run).await?;
        }
        target.populate(with_data);
        transaction.stage(target, Some(Change::Overwrite { add, remove: Removal::All })).await?;
        Ok(done("REFRESH MATERIALIZED VIEW"))
    }
}

fn wrong(name: String) -> Error {
    Error::WrongObjectType { name, wanted: "materialized view" }
}
