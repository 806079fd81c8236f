//! EXPLAIN and EXPLAIN ANALYZE: the plan as PostgreSQL's clients read it, as lines or as json.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
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
use super::plan::bind;
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
pub async fn explain(
    session: &mut Session,
    request: &Explain,
    values: &[ScalarValue],
    run: Run,
) -> Result<Outcome> {
    let (run, explained) = match &request.what {
        statement::Explained::Change(statement) => {
            changed(session, request, (statement, values), run).await?
        }
        _ => planned(session, request, values, run).await?,
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
    (statement, values): (&statement::Statement, &[ScalarValue]),
    mut run: Run,
) -> Result<(Run, Explained)> {
    let plans = Plans::default();
    run.plans = Some(Arc::clone(&plans));
    let began = Instant::now();
    let (done, _) = Box::pin(session.change_in(statement, values, &run)).await?;
    let ran = Some((super::assert::count_of(&done) as usize, began.elapsed()));
    let physical = std::mem::take(&mut *plans.lock().unwrap_or_else(PoisonError::into_inner));
    let (verbose, options) = (request.verbose, Options::of(request));
    Ok((run, Explained { logical: None, physical, verbose, options, planning: None, ran }))
}

async fn planned(
    session: &mut Session,
    request: &Explain,
    values: &[ScalarValue],
    run: Run,
) -> Result<(Run, Explained)> {
    let planner = session.planner().await?;
    let context = session.task_context();
    let (what, verbose, values) = (request.what.clone(), request.verbose, values.to_vec());
    let options = Options::of(request);
    let mut explained = run
        .plan(async move {
            let began = Instant::now();
            let logical = match what {
                statement::Explained::Query(query) => {
                    let types: Vec<_> = values.iter().map(|value| Some(value.data_type())).collect();
                    bind(planner.query(*query, &types).await?, &values)?
                }
                statement::Explained::Modify(modify) => found_changes(&planner, &modify).await?,
                statement::Explained::Change(_) => {
                    return Err(Error::Internal("a change is run to be explained".to_owned()));
                }
            };
            let physical = planner.physical(&logical).await?;
            let planning = began.elapsed();
            let logical = if verbose { Some(planner.state.optimize(&logical)?) } else { None };
            let (physical, planning) = (vec![physical], Some(planning));
            Ok(Explained { logical, physical, verbose, options, planning, ran: None })
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

/// What of it is told.
#[derive(Clone, Copy)]
struct Options {
    costs: bool,
    timing: bool,
    summary: bool,
}

impl Options {
    fn of(request: &Explain) -> Self {
        Self { costs: request.costs, timing: request.timing, summary: request.summary }
    }
}

/// What there is to show.
struct Explained {
    /// The optimized logical plan, where it was asked for.
    logical: Option<LogicalPlan>,
    /// One, or what a statement ran one after another.
    physical: Vec<Arc<dyn ExecutionPlan>>,
    verbose: bool,
    options: Options,
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
        if self.options.summary {
            lines.extend(self.planning.map(|planning| format!("Planning Time: {:.3} ms", millis(planning))));
            lines.extend(self.ran.map(|(_, time)| format!("Execution Time: {:.3} ms", millis(time))));
        }
        lines.extend(self.ran.map(|(rows, _)| format!("Rows: {rows}")));
        lines
    }

    /// PostgreSQL's document: a list of one object, whose `Plan` holds its inputs under `Plans`.
    fn document(&self) -> Result<String> {
        let mut top = Map::new();
        let mut plans: Vec<Value> = self.physical.iter().map(|plan| self.node(plan.as_ref()).0).collect();
        let plan = match plans.len() {
            1 => plans.remove(0),
            _ => json!({"Node Type": "ModifyTable", "Plans": plans}),
        };
        top.insert("Plan".to_owned(), plan);
        if let Some(logical) = &self.logical {
            top.insert("Logical Plan".to_owned(), json!(logical.display_indent().to_string()));
        }
        if self.options.summary {
            if let Some(planning) = self.planning {
                top.insert("Planning Time".to_owned(), json!(millis(planning)));
            }
            if let Some((_, running)) = self.ran {
                top.insert("Execution Time".to_owned(), json!(millis(running)));
            }
        }
        serde_json::to_string_pretty(&json!([top])).map_err(|error| Error::Internal(error.to_string()))
    }

    /// A node with its inputs, and what it costs with them.
    fn node(&self, plan: &dyn ExecutionPlan) -> (Value, f64) {
        let mut node = Map::new();
        node.insert("Node Type".to_owned(), json!(plan.name()));
        let line = displayable(plan).one_line().to_string();
        let line = line.trim();
        let details = line.strip_prefix(plan.name()).map_or(line, |rest| rest.trim_start_matches([':', ' ']));
        if !details.is_empty() {
            node.insert("Details".to_owned(), json!(details));
        }
        let (inputs, costs): (Vec<Value>, Vec<f64>) =
            plan.children().iter().map(|child| self.node(child.as_ref())).unzip();
        let statistics = StatisticsContext::default().compute(plan, &StatisticsArgs::new()).ok();
        let known = |of: fn(&Statistics) -> Precision<usize>| {
            statistics.as_ref().and_then(|known| of(known).get_value().copied())
        };
        let (rows, bytes) = (known(|known| known.num_rows), known(|known| known.total_byte_size));
        let read = if inputs.is_empty() { bytes.unwrap_or_default() as f64 / PAGE_BYTES } else { 0.0 };
        let cost = costs.iter().sum::<f64>() + read + rows.unwrap_or_default() as f64 * ROW_COST;
        if self.options.costs {
            node.insert("Startup Cost".to_owned(), json!(0.0));
            node.insert("Total Cost".to_owned(), json!((cost * 100.0).round() / 100.0));
            node.insert("Plan Rows".to_owned(), json!(rows.unwrap_or_default()));
            let width = bytes.unwrap_or_default() / rows.unwrap_or_default().max(1);
            node.insert("Plan Width".to_owned(), json!(width));
        }
        if let Some(metrics) = plan.metrics().filter(|_| self.ran.is_some()) {
            measured(&mut node, &metrics, self.options.timing);
        }
        if !inputs.is_empty() {
            node.insert("Plans".to_owned(), json!(inputs));
        }
        (Value::Object(node), cost)
    }
}

/// What PostgreSQL counts for a page that is read, and for a row, in its own unit: reading one page.
const PAGE_BYTES: f64 = 8192.0;
const ROW_COST: f64 = 0.01;

/// Adds what a node did while the query ran, all its partitions together.
fn measured(node: &mut Map<String, Value>, metrics: &MetricsSet, timing: bool) {
    if let Some(nanos) = metrics.elapsed_compute().filter(|_| timing) {
        node.insert("Actual Startup Time".to_owned(), json!(0.0));
        node.insert("Actual Total Time".to_owned(), json!(nanos as f64 / 1e6));
    }
    if let Some(rows) = metrics.output_rows() {
        node.insert("Actual Rows".to_owned(), json!(rows));
        node.insert("Actual Loops".to_owned(), json!(1));
    }
}

/// Milliseconds to three places, as PostgreSQL prints them.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
