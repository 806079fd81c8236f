//! ALTER TABLE: what it does to columns, and to the views that stand on them.
//!
//! Columns change by their field ids and no file is touched. A view is a text, so what a change does to
//! views is found by planning those that may read the table, before and after: one that can no longer
//! be planned depends on what was changed.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::execution::context::SessionState;
use datafusion::physical_plan::{ExecutionPlan, collect};

use super::ddl::tolerate;
use super::execute::{Outcome, Run};
use super::parse::{self, refuse_options};
use super::plan::{FullName, Planner};
use super::session::{Session, done};
use super::show::{arrow_type, quoted};
use super::statement::{AlterAction, AlterTable, Statement};
use super::weight::weight;
use crate::catalog::log::ViewRecord;
use crate::catalog::transaction::Found;
use crate::catalog::{Browse, RelationKind};
use crate::error::{Error, Result};
use crate::format::iceberg::{Change, Evolution};

/// A view that could be planned before a change.
struct Dependent {
    name: FullName,
    record: ViewRecord,
}

impl Session {
    pub(super) async fn alter_table(
        &mut self,
        planner: Planner,
        alter: &AlterTable,
        run: &Run,
    ) -> Result<Outcome> {
        let full = match planner.find(&alter.name).await {
            Err(Error::TableNotFound(_) | Error::SchemaNotFound(_)) if alter.if_exists => {
                return Ok(done("ALTER TABLE"));
            }
            found => found?,
        };
        for action in &alter.actions {
            self.alter_once(&planner, &full, action, run).await?;
        }
        Ok(done("ALTER TABLE"))
    }

    async fn alter_once(
        &mut self,
        planner: &Planner,
        full: &FullName,
        action: &AlterAction,
        run: &Run,
    ) -> Result<()> {
        match action {
            AlterAction::AddColumn { parent, column, if_not_exists, place } => {
                let field = Arc::new(defined_field(self.state(), column)?);
                let added = self.add_column(planner, full, (parent, field, place.clone()), run).await;
                tolerate(added, *if_not_exists, |error| matches!(error, Error::AlreadyExists { .. }))
            }
            AlterAction::DropColumn { path, if_exists, cascade } => {
                let dropped = drop_column(planner, full, path, *cascade).await;
                tolerate(dropped, *if_exists, |error| matches!(error, Error::ColumnNotFound { .. }))
            }
            AlterAction::RenameColumn { path, to } => {
                let views = views_over(planner, full).await?;
                let change = Evolution::Rename { path: path.clone(), to: to.clone() };
                evolve(planner, full, change).await?;
                rename_in_views(planner, &views, &path.join("."), to).await
            }
            AlterAction::SetType { path, data_type } => {
                let views = views_over(planner, full).await?;
                let to = arrow_type(self.state(), data_type)?;
                evolve(planner, full, Evolution::Widen { path: path.clone(), to }).await?;
                refresh_types(planner, &views).await
            }
            AlterAction::SetNotNull { path, not_null } => {
                if *not_null && path.len() == 1 {
                    let condition = format!("{} IS NULL", quoted(&path[0]));
                    if self.has_rows(planner, full, &condition, run).await? {
                        return Err(Error::NotNullViolation(path[0].clone()));
                    }
                }
                let change = Evolution::SetRequired { path: path.clone(), required: *not_null };
                evolve(planner, full, change).await
            }
            AlterAction::Move { path, place } => {
                evolve(planner, full, Evolution::Move { path: path.clone(), place: place.clone() }).await
            }
        }
    }

    async fn add_column(
        &mut self,
        planner: &Planner,
        full: &FullName,
        (parent, field, place): (&[String], FieldRef, Option<crate::format::iceberg::Place>),
        run: &Run,
    ) -> Result<()> {
        let name = field.name().clone();
        let needs_value = !field.is_nullable();
        evolve(planner, full, Evolution::Add { parent: parent.to_vec(), field, place }).await?;
        if needs_value && self.has_rows(planner, full, "true", run).await? {
            return Err(Error::NotNullViolation(name));
        }
        Ok(())
    }

    /// Whether a row of the table passes a condition.
    pub(super) async fn has_rows(
        &self,
        planner: &Planner,
        full: &FullName,
        condition: &str,
        run: &Run,
    ) -> Result<bool> {
        let query = parsed(&format!("SELECT 1 FROM {} WHERE {condition} LIMIT 1", name_of(full)))?;
        let planner = self.planner_in(Arc::clone(&planner.transaction)).await?;
        let plan: Arc<dyn ExecutionPlan> = run
            .plan(async move {
                let plan = planner.query(*query, &[]).await?;
                planner.physical(&plan).await
            })
            .await?;
        run.runtime.queries.admit(&run.guard, weight(plan.as_ref())).await?;
        let context = self.task_context();
        let batches = run.on_cpu(async move { Ok(collect(plan, context).await?) }).await?;
        Ok(batches.iter().any(|batch| batch.num_rows() > 0))
    }
}

/// Stages one change to the columns of a table.
async fn evolve(planner: &Planner, full: &FullName, change: Evolution) -> Result<()> {
    let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
    planner.transaction.stage(target, Some(Change::Evolve(change))).await
}

async fn drop_column(planner: &Planner, full: &FullName, path: &[String], cascade: bool) -> Result<()> {
    let views = views_over(planner, full).await?;
    evolve(planner, full, Evolution::Drop { path: path.to_vec() }).await?;
    let broken = broken(planner, &views).await?;
    if !cascade && !broken.is_empty() {
        let what = format!("column {} of table {}", path.join("."), full.name);
        return Err(Error::DependentObjects { what });
    }
    for view in broken {
        let FullName { catalog, schema, name } = &view.name;
        planner.transaction.drop_relation(catalog, schema, name, "view").await?;
    }
    Ok(())
}

/// The views that may read a table, alone or through others, and that can be planned now.
async fn views_over(planner: &Planner, full: &FullName) -> Result<Vec<Dependent>> {
    let transaction = &planner.transaction;
    let mut left = Vec::new();
    for (schema, _) in transaction.schemas(&full.catalog).await? {
        let relations = transaction.relations(&full.catalog, &schema).await?;
        left.extend(relations.into_iter().filter(|relation| relation.kind == RelationKind::View));
    }
    let mut named = vec![full.name.to_lowercase()];
    let mut views = Vec::new();
    loop {
        let before = views.len();
        let (over, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|view| {
            let sql = view.view_sql.as_deref().unwrap_or_default().to_lowercase();
            named.iter().any(|name| sql.contains(name))
        });
        left = others;
        for view in over {
            named.push(view.name.to_lowercase());
            views.push(FullName {
                catalog: view.catalog.clone(),
                schema: view.schema.clone(),
                name: view.name.clone(),
            });
        }
        if views.len() == before {
            break;
        }
    }
    let mut dependents = Vec::new();
    for name in views {
        let found = transaction.relation(&name.catalog, &name.schema, &name.name).await?;
        if let (Some(Found::View(record)), Ok(_)) = (found, columns_of(planner, &name).await) {
            dependents.push(Dependent { name, record });
        }
    }
    Ok(dependents)
}

/// The columns that a relation has when it is planned now.
async fn columns_of(planner: &Planner, name: &FullName) -> Result<Arc<Schema>> {
    let query = parsed(&format!("SELECT * FROM {}", name_of(name)))?;
    Ok(Arc::clone(planner.query(*query, &[]).await?.schema().inner()))
}

/// Those of `views` that cannot be planned any more.
async fn broken<'a>(planner: &Planner, views: &'a [Dependent]) -> Result<Vec<&'a Dependent>> {
    let mut broken = Vec::new();
    for view in views {
        if columns_of(planner, &view.name).await.is_err() {
            broken.push(view);
        }
    }
    Ok(broken)
}

/// Tells the views of a column's new name, which those that read all columns follow.
async fn rename_in_views(planner: &Planner, views: &[Dependent], from: &str, to: &str) -> Result<()> {
    for view in broken(planner, views).await? {
        let mut record = view.record.clone();
        for column in &mut record.columns {
            if column.source.as_deref() == Some(from) {
                column.source = Some(to.to_owned());
            }
        }
        let FullName { catalog, schema, name } = &view.name;
        planner.transaction.put_view(catalog, schema, name, record, true).await?;
    }
    match broken(planner, views).await?.first() {
        None => Ok(()),
        Some(view) => Err(Error::Unsupported(format!(
            "cannot rename column \"{from}\": view \"{}\" names it; drop or replace the view first",
            view.name
        ))),
    }
}

/// Records the types that the columns of `views` have now.
async fn refresh_types(planner: &Planner, views: &[Dependent]) -> Result<()> {
    for view in views {
        let columns = columns_of(planner, &view.name).await?;
        let mut record = view.record.clone();
        for (column, field) in record.columns.iter_mut().zip(columns.fields()) {
            column.data_type = field.data_type().to_string();
        }
        if record != view.record {
            let FullName { catalog, schema, name } = &view.name;
            planner.transaction.put_view(catalog, schema, name, record, true).await?;
        }
    }
    Ok(())
}

/// The query of a text that this module wrote.
pub(super) fn parsed(sql: &str) -> Result<Box<datafusion::sql::sqlparser::ast::Query>> {
    match parse::parse(sql)?.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(Error::Internal(format!("no query: {sql}"))),
    }
}

/// A relation's full name as SQL needs it.
pub(super) fn name_of(full: &FullName) -> String {
    [&full.catalog, &full.schema, &full.name].map(|part| quoted(part)).join(".")
}

fn defined_field(state: &SessionState, column: &datafusion::sql::sqlparser::ast::ColumnDef) -> Result<Field> {
    let nullable = refuse_options(column)?;
    let data_type: DataType = arrow_type(state, &column.data_type)?;
    Ok(Field::new(parse::fold(&column.name), data_type, nullable))
}
