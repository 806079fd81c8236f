//! EXPLAIN and EXPLAIN ANALYZE: the plan as PostgreSQL's clients read it, one line a row.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{displayable, execute_stream};
use futures::StreamExt;

use super::execute::{Outcome, Rows, Run};
use super::session::Session;
use super::statement::Explain;
use crate::error::{Error, Result};

/// The one column of an explanation.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]))
}

/// Plans a query, runs it when asked to, and answers with the plan.
///
/// # Errors
/// As the query itself.
pub async fn explain(session: &mut Session, request: &Explain, run: Run) -> Result<Outcome> {
    let planner = session.planner().await?;
    let context = session.task_context();
    let query = request.query.clone();
    let (analyze, verbose) = (request.analyze, request.verbose);
    let planning = std::time::Instant::now();
    if analyze {
        run.runtime.queries.admit(&run.guard).await?;
    }
    let lines = run
        .on_cpu(async move {
            let logical = planner.query(*query, &[]).await?;
            let plan = planner.physical(&logical).await?;
            let planned = planning.elapsed();
            let mut lines = Vec::new();
            if verbose {
                let optimized = planner.state.optimize(&logical)?;
                lines.extend(indented("Logical Plan:", &optimized.display_indent().to_string()));
                lines.push("Physical Plan:".to_owned());
            }
            if !analyze {
                lines.extend(text_of(
                    &displayable(plan.as_ref()).set_show_statistics(verbose).indent(verbose).to_string(),
                ));
                return Ok(lines);
            }
            let running = std::time::Instant::now();
            let mut rows = 0;
            let mut stream = execute_stream(Arc::clone(&plan), context)?;
            while let Some(batch) = stream.next().await {
                rows += batch?.num_rows();
            }
            let shown = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(verbose).to_string();
            lines.extend(text_of(&shown));
            lines.push(format!("Planning Time: {:.3} ms", planned.as_secs_f64() * 1e3));
            lines.push(format!("Execution Time: {:.3} ms", running.elapsed().as_secs_f64() * 1e3));
            lines.push(format!("Rows: {rows}"));
            Ok(lines)
        })
        .await?;
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(lines));
    let batch = RecordBatch::try_new(schema(), vec![column]).map_err(Error::from)?;
    Ok(Outcome::Rows(Rows::of_batch("EXPLAIN", batch, run)))
}

fn text_of(plan: &str) -> Vec<String> {
    plan.lines().map(str::to_owned).collect()
}

fn indented(title: &str, plan: &str) -> Vec<String> {
    std::iter::once(title.to_owned()).chain(plan.lines().map(|line| format!("  {line}"))).collect()
}
