//! `ANALYZE`: the values of a table's columns are read once, in parallel, and sketched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use tokio::task::JoinSet;

use crate::catalog::transaction::Found;
use crate::engine::execute::Run;
use crate::engine::plan::{FullName, Planner};
use crate::engine::session::Session;
use crate::engine::statement::Name;
use crate::engine::write::{column_not_found, refuse_duplicates};
use crate::error::{Error, Result};
use crate::format::iceberg::{ColumnSketch, SKETCH_BYTES, TableMetadata, store_analysis};
use crate::runtime::cpu::from_join;
use crate::runtime::queries::Weight;
use crate::scan::{FilesTable, scan};

impl Session {
    /// Analyzes tables, all managed ones of the catalog where none are named, and commits unless a
    /// transaction block is open.
    pub(super) async fn analyze(&mut self, tables: &[(Name, Vec<String>)], run: &Run) -> Result<()> {
        let (transaction, autocommit) = self.transaction();
        let planner = self.planner_in(Arc::clone(&transaction)).await?;
        run.runtime.queries.admit(&run.guard, Weight::Heavy).await?;
        let all = if tables.is_empty() { managed(&planner).await? } else { Vec::new() };
        for (name, columns) in tables.iter().chain(&all) {
            let (began, full) = (Instant::now(), planner.find(name).await?);
            let analyzed = self.analyze_one(&planner, &full, name, columns, run).await;
            let noted = analyzed.as_ref().map(|()| (0, 0)).map_err(Error::repeated);
            self.note_upkeep(format!("{}.{full}", full.catalog), "analyze", began, noted);
            analyzed?;
        }
        match autocommit {
            true => self.commit(&transaction, run.guard.id.clone()).await,
            false => {
                self.note_change(&run.guard.id);
                Ok(())
            }
        }
    }

    async fn analyze_one(
        &self,
        planner: &Planner,
        full: &FullName,
        name: &Name,
        columns: &[String],
        run: &Run,
    ) -> Result<()> {
        let transaction = Arc::clone(&planner.transaction);
        let target = transaction.stored(&full.catalog, &full.schema, &full.name).await?;
        let Found::Table(table) = planner.provider(name).await? else {
            return Err(Error::WrongObjectType { name: full.name.clone(), wanted: "table" });
        };
        let files = (table.as_ref() as &dyn std::any::Any).downcast_ref::<FilesTable>();
        let snapshot =
            files.ok_or_else(|| Error::Internal(format!("table \"{full}\" has no files")))?.snapshot();
        let metadata = transaction.metadata_of(&target).await?;
        let wanted = wanted(&metadata, &snapshot.schema, columns)?;
        if wanted.is_empty() || metadata.current_snapshot().is_none() {
            return Ok(());
        }
        let places: Vec<usize> = wanted.iter().map(|(place, _)| *place).collect();
        let plan = scan(&planner.state, snapshot, Some(&places), &[], None).await?;
        let context = self.task_context();
        let sketches = run.on_cpu(sketch(plan, context, places.len())).await?;
        let columns = wanted.iter().map(|(_, id)| *id).zip(sketches).collect();
        if let Some(change) = store_analysis(&target.location, &metadata, columns).await? {
            transaction.stage(target, Some(change)).await?;
        }
        Ok(())
    }
}

/// The columns to read, by their places, with their ids.
fn wanted(
    metadata: &TableMetadata,
    schema: &arrow::datatypes::Schema,
    columns: &[String],
) -> Result<Vec<(usize, i32)>> {
    refuse_duplicates(columns.iter().map(String::as_str))?;
    if let Some(missing) = columns.iter().find(|name| schema.column_with_name(name).is_none()) {
        return Err(column_not_found(missing, schema));
    }
    let fields = schema.fields().iter().enumerate();
    let meant = fields.filter(|(_, field)| columns.is_empty() || columns.contains(field.name()));
    let sketched = meant.filter(|(_, field)| ColumnSketch::takes(field.data_type()));
    let id = |name: &str| metadata.current_schema().field(name).map(|field| field.id);
    Ok(sketched.filter_map(|(place, field)| Some((place, id(field.name())?))).collect())
}

/// Every managed table of the session's catalog.
async fn managed(planner: &Planner) -> Result<Vec<(Name, Vec<String>)>> {
    let tables = planner.transaction.managed_tables(&planner.database).await?;
    let named = |(schema, name)| {
        (Name { catalog: Some(planner.database.clone()), schema: Some(schema), name }, Vec::new())
    };
    Ok(tables.into_iter().map(named).collect())
}

/// Runs all partitions of a plan; returns the sketches of each column, one a partition.
async fn sketch(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    columns: usize,
) -> Result<Vec<Vec<ColumnSketch>>> {
    let mut partitions = JoinSet::new();
    for partition in 0..plan.output_partitioning().partition_count() {
        let memory = MemoryConsumer::new("analyze").register(context.memory_pool());
        memory.try_grow(columns * SKETCH_BYTES)?;
        let mut batches = plan.execute(partition, Arc::clone(&context))?;
        partitions.spawn(async move {
            let mut sketches = (0..columns).map(|_| ColumnSketch::new()).collect::<Result<Vec<_>>>()?;
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                for (sketch, column) in sketches.iter_mut().zip(batch.columns()) {
                    sketch.add(column.as_ref())?;
                }
            }
            drop(memory);
            Ok::<_, Error>(sketches)
        });
    }
    let mut found: BTreeMap<usize, Vec<ColumnSketch>> = BTreeMap::new();
    while let Some(ended) = partitions.join_next().await {
        for (column, sketch) in ended.map_err(from_join)??.into_iter().enumerate() {
            found.entry(column).or_default().push(sketch);
        }
    }
    Ok(found.into_values().collect())
}
