//! RETURNING: the rows that a statement wrote, or deleted, as a query over them.
//!
//! New rows are read from the files that they were written to, deleted ones from those that still hold
//! them, so that nothing is kept while the statement runs. The query is over before the commit: what is
//! wrong with it undoes the statement, also that its answer is larger than the query's memory. The answer
//! is held until the client has it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session as CatalogSession, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::sqlparser::ast::{Ident, SelectItem, SetExpr};
use futures::StreamExt;
use object_store::path::Path;

use super::alter::parsed;
use super::execute::Run;
use super::plan::{FullName, Planner, bind, parameter_types};
use super::session::Session;
use crate::catalog::transaction::Found;
use crate::error::{Error, Result};
use crate::format::{Snapshot, WrittenFile};
use crate::scan::{FilesTable, address, scan};
use crate::sink::rewrite::{Rewrite, victims_plan};

/// What a query calls the rows that a statement changed.
const RETURNED: &str = "$returned";

/// What a statement returns: the items, and what they call its table.
#[derive(Debug, Clone)]
pub(super) struct Returning {
    pub items: Vec<SelectItem>,
    pub alias: Ident,
}

/// The rows that a statement answers with.
#[derive(Debug)]
pub(super) struct Returned {
    pub word: &'static str,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl Returning {
    pub fn new(items: &[SelectItem], alias: Option<&Ident>, table: &str) -> Self {
        let alias = alias.cloned().unwrap_or_else(|| Ident::with_quote('"', table));
        Self { items: items.to_vec(), alias }
    }

    async fn plan(
        &self,
        planner: &Planner,
        rows: Arc<dyn TableProvider>,
        types: &[Option<DataType>],
    ) -> Result<LogicalPlan> {
        let mut query = parsed(&format!("SELECT 1 FROM \"{RETURNED}\" AS {}", self.alias))?;
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.projection.clone_from(&self.items);
        }
        planner.query_with(*query, types, vec![(RETURNED.to_owned(), provider_as_source(rows))]).await
    }
}

impl Session {
    /// Asks for what a statement returns of `rows`.
    pub(super) async fn returned(
        &self,
        planner: Planner,
        (returning, word): (Returning, &'static str),
        rows: Arc<dyn TableProvider>,
        values: &[ScalarValue],
        run: &Run,
    ) -> Result<Returned> {
        let values = values.to_vec();
        let (plan, schema) = run
            .plan(async move {
                let types: Vec<_> = values.iter().map(|value| Some(value.data_type())).collect();
                let plan = bind(returning.plan(&planner, rows, &types).await?, &values)?;
                let schema = Arc::clone(plan.schema().inner());
                Ok((planner.physical(&plan).await?, schema))
            })
            .await?;
        let context = self.task_context();
        let batches = run
            .on_cpu(async move {
                let memory = MemoryConsumer::new("returning").register(context.memory_pool());
                let mut rows = execute_stream(plan, context)?;
                let mut batches = Vec::new();
                while let Some(batch) = rows.next().await {
                    let batch = batch?;
                    memory.try_grow(batch.get_array_memory_size())?;
                    batches.push(batch);
                }
                Ok(batches)
            })
            .await?;
        Ok(Returned { word, schema, batches })
    }

    /// The columns of what a statement returns; parameters of their own are added to the others.
    pub(super) async fn returned_schema(
        &self,
        returning: Returning,
        name: &super::statement::Name,
        parameters: &mut Vec<DataType>,
        run: &Run,
    ) -> Result<SchemaRef> {
        let planner = self.planner().await?;
        let Found::Table(rows) = planner.provider(name).await? else {
            return Err(Error::WrongObjectType { name: name.name.clone(), wanted: "table" });
        };
        let types: Vec<_> = parameters.iter().cloned().map(Some).collect();
        let planned = run.plan(async move {
            let plan = returning.plan(&planner, rows, &types).await?;
            let found = parameter_types(&plan, &types)?;
            Ok((Arc::clone(plan.schema().inner()), found))
        });
        let (schema, found) = planned.await?;
        *parameters = found;
        Ok(schema)
    }
}

/// The rows of files that the statement has staged.
pub(super) async fn written_rows(
    planner: &Planner,
    full: &FullName,
    files: &[WrittenFile],
) -> Result<Arc<dyn TableProvider>> {
    let FullName { catalog, schema, name } = full;
    let found = planner.transaction.relation(catalog, schema, name).await?;
    let Some(Found::Table(table)) = found else { return Err(Error::TableNotFound(full.to_string())) };
    let table = (table.as_ref() as &dyn std::any::Any).downcast_ref::<FilesTable>();
    let table = table.ok_or_else(|| Error::Internal(format!("table \"{full}\" has no files")))?;
    let paths: HashSet<&Path> = files.iter().map(|file| &file.path).collect();
    let snapshot = table.snapshot();
    let new = snapshot.files.iter().filter(|file| paths.contains(&file.object.location)).cloned();
    let snapshot = Snapshot { files: new.collect(), ..snapshot.as_ref().clone() };
    Ok(Arc::new(FilesTable::new(Arc::new(snapshot))))
}

/// The rows of a snapshot that a statement has marked to go.
#[derive(Debug)]
pub(super) struct MarkedRows {
    /// With addresses.
    pub snapshot: Arc<Snapshot>,
    pub rewrite: Arc<Rewrite>,
}

#[async_trait]
impl TableProvider for MarkedRows {
    fn schema(&self) -> SchemaRef {
        let fields = self.snapshot.schema.fields();
        Arc::new(arrow::datatypes::Schema::new(fields[..fields.len().saturating_sub(2)].to_vec()))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let touched: Vec<usize> = self.rewrite.touched().into_iter().map(|(file, _)| file).collect();
        let files = address::chosen(&self.snapshot, &touched);
        let rows = victims_plan(scan(state, &files, None, &[], None).await?, Arc::clone(&self.rewrite))?;
        let Some(projection) = projection else { return Ok(rows) };
        let columns = rows.schema();
        let exprs = projection.iter().map(|index| {
            let name = columns.field(*index).name();
            let column = datafusion::physical_expr::expressions::Column::new(name, *index);
            (Arc::new(column) as Arc<dyn datafusion::physical_plan::PhysicalExpr>, name.clone())
        });
        Ok(Arc::new(ProjectionExec::try_new(exprs.collect::<Vec<_>>(), rows)?))
    }
}
