//! COPY TO: a query's result as files for others, under a root that the configuration allows.

use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::col;

use super::dialect::display_name;
use super::execute::{Outcome, Run};
use super::frugal::Frugal;
use super::plan::Planner;
use super::session::Session;
use super::statement::Export;
use super::write::refuse_duplicates;
use crate::error::Result;
use crate::runtime::queries::Weight;
use crate::sink::{ExportOptions, export};

impl Session {
    pub(super) async fn export(&mut self, planner: Planner, request: &Export, run: &Run) -> Result<Outcome> {
        let (location, target) = self.engine.catalogs.export_target(&planner.database, &request.url)?;
        let mut url = location.url_of(&target);
        if request.url.ends_with('/') {
            url.push('/');
        }
        let mut options = ExportOptions::from_sql(location, &url, &written(&request.options))?;
        options.file_prefix.clone_from(&run.guard.id);
        let context = self.task_context();
        let query = request.query.clone();
        let (plan, frugal) = run
            .plan(async move {
                let query = shown(planner.query(*query, &[]).await?)?;
                Ok((planner.physical(&query).await?, Frugal::new(planner, query)))
            })
            .await?;
        run.runtime.queries.admit(&run.guard, Weight::Heavy).await?;
        let write = move |plan, context| export(plan, options.clone(), context);
        let exported = run.on_cpu(frugal.after_trying(plan, context, write)).await?;
        Ok(Outcome::Done(format!("COPY {}", exported.row_count)))
    }
}

/// The plan with the column names that a client would see: they stand in the file.
fn shown(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    refuse_duplicates(columns.iter().map(|column| display_name(&column.name)))?;
    if columns.iter().all(|column| display_name(&column.name) == column.name) {
        return Ok(plan);
    }
    let renamed = columns.into_iter().map(|column| {
        let name = display_name(&column.name).to_owned();
        col(column).alias(name)
    });
    Ok(LogicalPlanBuilder::from(plan).project(renamed.collect::<Vec<_>>())?.build()?)
}

/// Options as texts: a list with commas, and a name that stands alone as `true`.
fn written(options: &[(String, Vec<String>)]) -> Vec<(String, String)> {
    let text = |values: &[String]| match values {
        [] => "true".to_owned(),
        values => values.join(","),
    };
    options.iter().map(|(name, values)| (name.clone(), text(values))).collect()
}
