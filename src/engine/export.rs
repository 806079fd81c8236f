//! COPY TO: a query's result as files for others, under a root that the configuration allows.

use super::execute::{Outcome, Run};
use super::plan::Planner;
use super::session::Session;
use super::statement::Export;
use crate::error::Result;
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
        run.runtime.queries.admit(&run.guard).await?;
        let context = self.task_context();
        let query = request.query.clone();
        let exported = run
            .on_cpu(async move {
                let plan = planner.query(*query, &[]).await?;
                export(planner.physical(&plan).await?, options, context).await
            })
            .await?;
        Ok(Outcome::Done(format!("COPY {}", exported.row_count)))
    }
}

/// Options as texts: a list with commas, and a name that stands alone as `true`.
fn written(options: &[(String, Vec<String>)]) -> Vec<(String, String)> {
    let text = |values: &[String]| match values {
        [] => "true".to_owned(),
        values => values.join(","),
    };
    options.iter().map(|(name, values)| (name.clone(), text(values))).collect()
}
