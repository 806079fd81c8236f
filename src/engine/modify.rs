//! UPDATE, DELETE and MERGE, copy-on-write: files with rows that change are written anew.
//!
//! The statement becomes one query over the target with its rows' addresses, joined with what it
//! names: which rows go, and which come. Its new rows are written as they are found; then the files
//! that lose rows are read again, and what stays in them is written. Files without such rows are not
//! touched. What the query looks like is decided in [`query`].

mod query;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::col;
use object_store::path::Path;

use super::execute::{Outcome, Plans, Run, note};
use super::keys::Added;
use super::plan::{FullName, Planner, bind, parameter_types};
use super::returning::{MarkedRows, Returned, Returning, written_rows};
use super::rules::{checked, defaults_of, guard_of};
use super::session::Session;
use super::statement::{Modify, RowAction};
use super::write::write_options;
use crate::catalog::transaction::{Found, TableTarget};
use crate::error::{Error, Result};
use crate::format::iceberg::{Change, Removal};
use crate::format::{Snapshot, WrittenFile};
use crate::runtime::queries::Weight;
use crate::scan::{FilesTable, address, scan};
use crate::sink::rewrite::{Action, CHANGE_COLUMNS, Repeated, Rewrite, changes_plan, survivors_plan};
use crate::sink::{WriteOptions, guard_plan, run_write, write_plan};

/// What a statement that changes rows works on.
struct Subject {
    target: TableTarget,
    /// The target's files, with addresses.
    snapshot: Arc<Snapshot>,
}

impl Session {
    pub(super) async fn modify(
        &mut self,
        planner: Planner,
        modify: &Modify,
        values: &[ScalarValue],
        run: &Run,
    ) -> Result<(Outcome, Option<Returned>)> {
        let subject = subject(&planner, modify).await?;
        let Subject { target, snapshot } = subject;
        let transaction = Arc::clone(&planner.transaction);
        let context = self.task_context();
        let repeated = if modify.word == "MERGE" { Repeated::Refused } else { Repeated::Ignored };
        let rewrite = Rewrite::new(snapshot.files.len(), repeated, context.memory_pool());
        let returns_deleted = modify.word == "MERGE" && modify.returning.is_some() && deletes(modify);
        let rewrite = Arc::new(if returns_deleted { rewrite.keeping_deleted() } else { rewrite });
        let actions: Arc<[Action]> = modify.clauses.iter().map(|clause| action_of(&clause.action)).collect();
        let (parts, given, table) =
            (modify.clone(), values.to_vec(), (target.clone(), Arc::clone(&snapshot)));
        let (planner, plan) = run
            .plan(async move {
                let types: Vec<_> = given.iter().map(|value| Some(value.data_type())).collect();
                let plan = changes(&planner, &parts, &table.0, &table.1, &types).await?;
                let plan = fitted(bind(plan, &given)?, &table.0.columns)?;
                let plan = checked(&planner, plan, &table.0).await?;
                let physical = planner.physical(&plan).await?;
                Ok((planner, physical))
            })
            .await?;
        run.runtime.queries.admit(&run.guard, Weight::Heavy).await?;
        let writing = Writing {
            plan: guard_plan(changes_plan(plan, actions, Arc::clone(&rewrite))?, guard_of(&target))?,
            planner,
            rewrite: Arc::clone(&rewrite),
            snapshot: Arc::clone(&snapshot),
            options: write_options(&target, run),
            context,
            plans: run.plans.clone(),
        };
        let (new, rest, remove) = run.on_cpu(writing.run()).await?;
        let add: Vec<WrittenFile> = new.iter().chain(&rest).cloned().collect();
        let change = match (add.is_empty(), remove.is_empty()) {
            (true, true) => None,
            (false, true) => Some(Change::Append(add)),
            (_, false) => Some(Change::Overwrite { add, remove: Removal::Files(remove) }),
        };
        let full = FullName {
            catalog: target.catalog.clone(),
            schema: target.schema.clone(),
            name: target.name.clone(),
        };
        if change.is_some() {
            transaction.stage(target, change).await?;
            self.refuse_duplicate_keys(&transaction, &full, Added::Files(&new), run).await?;
        }
        let mut returned = None;
        if let Some(returning) = returning_of(modify) {
            let planner = self.planner_in(Arc::clone(&transaction)).await?;
            let gone = Arc::new(MarkedRows { snapshot, rewrite: Arc::clone(&rewrite) });
            let rows: Arc<dyn TableProvider> = match modify.word {
                "DELETE" => gone,
                _ if returns_deleted => both(written_rows(&planner, &full, &new).await?, gone)?,
                _ => written_rows(&planner, &full, &new).await?,
            };
            returned = Some(self.returned(planner, (returning, modify.word), rows, values, run).await?);
        }
        let (inserted, updated, deleted) = rewrite.counts();
        let done = Outcome::Done(format!("{} {}", modify.word, inserted + updated + deleted));
        Ok((done, returned))
    }

    /// The types of the parameters of a statement that changes rows.
    pub(super) async fn modify_parameters(
        &mut self,
        modify: &Modify,
        declared: &[Option<DataType>],
        run: &Run,
    ) -> Result<Vec<DataType>> {
        let planner = self.planner().await?;
        let Subject { target, snapshot } = subject(&planner, modify).await?;
        let mut types = declared.to_vec();
        query::assigned_types(modify, &target.columns, &mut types);
        let modify = modify.clone();
        run.plan(async move {
            let plan = changes(&planner, &modify, &target, &snapshot, &types).await?;
            parameter_types(&plan, &types)
        })
        .await
    }
}

/// Plans how the rows are found that a statement changes, for EXPLAIN.
///
/// # Errors
/// As the statement itself.
pub(super) async fn found_changes(planner: &Planner, modify: &Modify) -> Result<LogicalPlan> {
    let Subject { target, snapshot } = subject(planner, modify).await?;
    let plan = changes(planner, modify, &target, &snapshot, &[]).await?;
    fitted(plan, &target.columns)
}

/// What a statement returns of the rows that it changes.
fn returning_of(modify: &Modify) -> Option<Returning> {
    let items = modify.returning.as_ref()?;
    Some(Returning::new(items, modify.alias.as_ref(), &modify.target.name))
}

fn deletes(modify: &Modify) -> bool {
    modify.clauses.iter().any(|clause| matches!(clause.action, RowAction::Delete))
}

/// New rows, and those that are gone.
fn both(new: Arc<dyn TableProvider>, gone: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let scan = |name, rows| LogicalPlanBuilder::scan(name, provider_as_source(rows), None);
    let all = scan("$new", new)?.union(scan("$gone", gone)?.build()?)?.build()?;
    Ok(Arc::new(ViewTable::new(all, None)))
}

/// Finds the table that a statement changes, as its transaction sees it.
async fn subject(planner: &Planner, modify: &Modify) -> Result<Subject> {
    let full = planner.find(&modify.target).await?;
    let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
    let Found::Table(table) = planner.provider(&modify.target).await? else {
        return Err(Error::WrongObjectType { name: full.name, wanted: "table" });
    };
    let files = (table.as_ref() as &dyn std::any::Any).downcast_ref::<FilesTable>();
    let files = files.ok_or_else(|| Error::Internal(format!("table \"{full}\" has no files")))?;
    Ok(Subject { target, snapshot: Arc::new(address::addressed(files.snapshot())) })
}

/// Plans the query for what changes: the columns of a change, then those of the table.
async fn changes(
    planner: &Planner,
    modify: &Modify,
    target: &TableTarget,
    snapshot: &Arc<Snapshot>,
    types: &[Option<DataType>],
) -> Result<LogicalPlan> {
    let query = query::changes(modify, &target.columns, &defaults_of(target)?)?;
    let table = provider_as_source(Arc::new(FilesTable::new(Arc::clone(snapshot))));
    planner.query_with(query, types, vec![(query::TARGET.to_owned(), table)]).await
}

/// Casts the new values to the types of the table's columns.
fn fitted(plan: LogicalPlan, columns: &Schema) -> Result<LogicalPlan> {
    let found = plan.schema().columns();
    let mut exprs: Vec<_> = found.iter().take(CHANGE_COLUMNS).cloned().map(col).collect();
    for (column, field) in found.iter().skip(CHANGE_COLUMNS).zip(columns.fields()) {
        let value = col(column.clone()).cast_to(field.data_type(), plan.schema())?;
        exprs.push(value.alias(field.name()));
    }
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

fn action_of(action: &RowAction) -> Action {
    match action {
        RowAction::Insert { .. } => Action::Insert,
        RowAction::Update(_) => Action::Update,
        RowAction::Delete => Action::Delete,
        RowAction::Nothing => Action::Nothing,
        RowAction::Refuse => Action::Refuse,
    }
}

/// The two writes of a statement: new rows, then those that stay in files that lose some.
struct Writing {
    plan: Arc<dyn ExecutionPlan>,
    planner: Planner,
    rewrite: Arc<Rewrite>,
    snapshot: Arc<Snapshot>,
    options: WriteOptions,
    context: Arc<TaskContext>,
    plans: Option<Plans>,
}

impl Writing {
    /// Returns the files of new rows, those of the rows that stay, and the files to remove.
    async fn run(self) -> Result<(Vec<WrittenFile>, Vec<WrittenFile>, Vec<Path>)> {
        let plan = write_plan(self.plan, self.options.clone())?;
        note(self.plans.as_ref(), &plan);
        let new = run_write(plan, Arc::clone(&self.context)).await?;
        let touched = self.rewrite.touched();
        let remove =
            touched.iter().map(|(file, _)| self.snapshot.files[*file].object.location.clone()).collect();
        let rows = |file: usize| self.snapshot.files[file].row_count();
        let partly: Vec<usize> =
            touched.iter().filter(|(file, gone)| rows(*file) != Some(*gone)).map(|(file, _)| *file).collect();
        let mut stay = Vec::new();
        if !partly.is_empty() {
            let rest = address::chosen(&self.snapshot, &partly);
            let rest = scan(&self.planner.state, &rest, None, &[], None).await?;
            let rest = survivors_plan(rest, self.rewrite)?;
            let rest = write_plan(rest, self.options)?;
            note(self.plans.as_ref(), &rest);
            stay = run_write(rest, self.context).await?;
        }
        Ok((new, stay, remove))
    }
}
