//! EXPLAIN and EXPLAIN ANALYZE: the plan as PostgreSQL's clients read it, as lines or as json.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use futures::StreamExt;
use serde_json::{Map, Value, json};

use super::execute::{Outcome, Plans, Rows, Run};
use super::modify::found_changes;
use super::session::Session;
use super::statement::{self, Explain};
use super::weight::weight;
use crate::error::{Error, Result};
use crate::function::types::PG_TYPE;

/// The one column of an explanation.
pub fn schema(request: &Explain) -> SchemaRef {
    let field = Field::new("QUERY PLAN", DataType::Utf8, false);
    Arc::new(Schema::new(vec![match request.json {
        true => field.with_metadata([(PG_TYPE.to_owned(), "json".to_owned())].into()),
        false => field,
    }]))
}

/// Plans a query, runs it when asked to, and answers with the plan.
///
/// # Errors
/// As the query itself.
pub async fn explain(session: &mut Session, request: &Explain, run: Run) -> Result<Outcome> {
    let (run, explained) = match &request.what {
        statement::Explained::Change(statement) => changed(session, request, statement, run).await?,
        _ => planned(session, request, run).await?,
    };
    let lines = if request.json { vec![explained.document()?] } else { explained.lines() };
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(lines));
    let batch = RecordBatch::try_new(schema(request), vec![column]).map_err(Error::from)?;
    Ok(Outcome::Rows(Rows::of_batch("EXPLAIN", batch, run)))
}

/// Runs a statement that writes rows, and keeps the plans that it ran.
async fn changed(
    session: &mut Session,
    request: &Explain,
    statement: &statement::Statement,
    mut run: Run,
) -> Result<(Run, Explained)> {
    let plans = Plans::default();
    run.plans = Some(Arc::clone(&plans));
    let began = Instant::now();
    let (done, _) = Box::pin(session.change_in(statement, &[], &run)).await?;
    let rows = match &done {
        Outcome::Done(tag) => tag.rsplit(' ').next().and_then(|rows| rows.parse().ok()),
        Outcome::Rows(_) => None,
    };
    let ran = Some((rows.unwrap_or(0), began.elapsed()));
    let physical = std::mem::take(&mut *plans.lock().unwrap_or_else(PoisonError::into_inner));
    let verbose = request.verbose;
    Ok((run, Explained { logical: None, physical, verbose, planning: None, ran }))
}

async fn planned(session: &mut Session, request: &Explain, run: Run) -> Result<(Run, Explained)> {
    let planner = session.planner().await?;
    let context = session.task_context();
    let (what, verbose) = (request.what.clone(), request.verbose);
    let mut explained = run
        .plan(async move {
            let began = Instant::now();
            let logical = match what {
                statement::Explained::Query(query) => planner.query(*query, &[]).await?,
                statement::Explained::Modify(modify) => found_changes(&planner, &modify).await?,
                statement::Explained::Change(_) => {
                    return Err(Error::Internal("a change is run to be explained".to_owned()));
                }
            };
            let physical = planner.physical(&logical).await?;
            let planning = began.elapsed();
            let logical = if verbose { Some(planner.state.optimize(&logical)?) } else { None };
            let (physical, planning) = (vec![physical], Some(planning));
            Ok(Explained { logical, physical, verbose, planning, ran: None })
        })
        .await?;
    if let (true, [plan]) = (request.analyze, explained.physical.as_slice()) {
        run.runtime.queries.admit(&run.guard, weight(plan.as_ref())).await?;
        explained.ran = Some(run.on_cpu(counted(Arc::clone(plan), context)).await?);
    }
    Ok((run, explained))
}

/// Runs a plan to its end; counts its rows and the time it takes.
async fn counted(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<(usize, Duration)> {
    let began = Instant::now();
    let mut rows = 0;
    let mut stream = execute_stream(plan, context)?;
    while let Some(batch) = stream.next().await {
        rows += batch?.num_rows();
    }
    Ok((rows, began.elapsed()))
}

/// What there is to show.
struct Explained {
    /// The optimized logical plan, where it was asked for.
    logical: Option<LogicalPlan>,
    /// One, or what a statement ran one after another.
    physical: Vec<Arc<dyn ExecutionPlan>>,
    verbose: bool,
    /// How long planning took, where it was apart from running.
    planning: Option<Duration>,
    /// Rows and time, where the query ran.
    ran: Option<(usize, Duration)>,
}

impl Explained {
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(logical) = &self.logical {
            lines.push("Logical Plan:".to_owned());
            lines.extend(logical.display_indent().to_string().lines().map(|line| format!("  {line}")));
            lines.push("Physical Plan:".to_owned());
        }
        for plan in self.physical.iter().map(AsRef::as_ref) {
            let shown = match self.ran {
                None => displayable(plan).set_show_statistics(self.verbose).indent(self.verbose).to_string(),
                Some(_) => DisplayableExecutionPlan::with_metrics(plan).indent(self.verbose).to_string(),
            };
            lines.extend(shown.lines().map(str::to_owned));
        }
        if let Some((rows, running)) = self.ran {
            lines.extend(self.planning.map(|planning| format!("Planning Time: {:.3} ms", millis(planning))));
            lines.push(format!("Execution Time: {:.3} ms", millis(running)));
            lines.push(format!("Rows: {rows}"));
        }
        lines
    }

    /// PostgreSQL's document: a list of one object, whose `Plan` holds its inputs under `Plans`.
    fn document(&self) -> Result<String> {
        let mut top = Map::new();
        let mut plans: Vec<Value> = self.physical.iter().map(|plan| self.node(plan.as_ref())).collect();
        let plan = match plans.len() {
            1 => plans.remove(0),
            _ => json!({"Node Type": "ModifyTable", "Plans": plans}),
        };
        top.insert("Plan".to_owned(), plan);
        if let Some(logical) = &self.logical {
            top.insert("Logical Plan".to_owned(), json!(logical.display_indent().to_string()));
        }
        if let Some((_, running)) = self.ran {
            if let Some(planning) = self.planning {
                top.insert("Planning Time".to_owned(), json!(millis(planning)));
            }
            top.insert("Execution Time".to_owned(), json!(millis(running)));
        }
        serde_json::to_string_pretty(&json!([top])).map_err(|error| Error::Internal(error.to_string()))
    }

    fn node(&self, plan: &dyn ExecutionPlan) -> Value {
        let mut node = Map::new();
        node.insert("Node Type".to_owned(), json!(plan.name()));
        let line = displayable(plan).one_line().to_string();
        let line = line.trim();
        let details = line.strip_prefix(plan.name()).map_or(line, |rest| rest.trim_start_matches([':', ' ']));
        if !details.is_empty() {
            node.insert("Details".to_owned(), json!(details));
        }
        let statistics = StatisticsContext::default().compute(plan, &StatisticsArgs::new()).ok();
        if let Some(rows) = statistics.and_then(|known| known.num_rows.get_value().copied()) {
            node.insert("Plan Rows".to_owned(), json!(rows));
        }
        if let Some(metrics) = plan.metrics().filter(|_| self.ran.is_some()) {
            measured(&mut node, &metrics);
        }
        let inputs: Vec<Value> = plan.children().iter().map(|child| self.node(child.as_ref())).collect();
        if !inputs.is_empty() {
            node.insert("Plans".to_owned(), json!(inputs));
        }
        Value::Object(node)
    }
}

/// Adds what a node did while the query ran, all its partitions together.
fn measured(node: &mut Map<String, Value>, metrics: &MetricsSet) {
    if let Some(rows) = metrics.output_rows() {
        node.insert("Actual Rows".to_owned(), json!(rows));
    }
    if let Some(nanos) = metrics.elapsed_compute() {
        node.insert("Actual Total Time".to_owned(), json!(nanos as f64 / 1e6));
    }
}

/// Milliseconds to three places, as PostgreSQL prints them.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
