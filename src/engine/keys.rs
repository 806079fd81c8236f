//! Enforced keys: whether one comes twice in a table, asked after rows are staged and before they are committed.
//!
//! Keys that were there before are known to be different, so only those can come twice that new rows have: the
//! files are read that can hold a key between the least and the greatest of a new file. For keys that
//! grow, as numbers and times do, those are few; for others it is the whole table.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::Column;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableSource, lit};
use datafusion::physical_plan::collect;
use datafusion::prelude::col;

use super::alter::{name_of, parsed};
use super::execute::{Run, note};
use super::plan::{FullName, Planner};
use super::rules::names_of;
use super::session::Session;
use super::show::quoted;
use super::statement::Name;
use super::weight::weight;
use crate::catalog::transaction::{Found, Transaction};
use crate::error::{Error, Result};
use crate::format::WrittenFile;

/// What a query calls the rows that can have a new row's key.
const NEAR: &str = "$near";
/// New files whose keys are told apart; with more of them, the whole table is asked.
const SPANS_MAX: usize = 64;

/// What came into a table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Added<'a> {
    /// Rows in files of their own.
    Files(&'a [WrittenFile]),
    /// Nobody knows: the whole table is asked.
    Anything,
}

impl Session {
    /// Refuses what a transaction has staged if an enforced key comes twice in a table.
    ///
    /// # Errors
    /// [`Error::UniqueViolation`].
    pub(super) async fn refuse_duplicate_keys(
        &self,
        transaction: &Arc<Transaction>,
        full: &FullName,
        added: Added<'_>,
        run: &Run,
    ) -> Result<()> {
        let target = transaction.target(&full.catalog, &full.schema, &full.name).await?;
        for key in target.rules.enforced() {
            let names = names_of(&target.columns, &key.columns);
            let near = match added {
                Added::Files([]) => continue,
                Added::Files(files) => near(&target.columns, &names, files)?,
                Added::Anything => None,
            };
            if let Some(values) = self.duplicate(transaction, (full, &names), near, run).await? {
                let key_text = format!("({})=({values})", names.join(", "));
                return Err(Error::UniqueViolation { constraint: key.name.clone(), key: key_text });
            }
        }
        Ok(())
    }

    /// A key that comes twice, as text. Null is equal to nothing.
    async fn duplicate(
        &self,
        transaction: &Arc<Transaction>,
        (full, names): (&FullName, &[&str]),
        near: Option<Expr>,
        run: &Run,
    ) -> Result<Option<String>> {
        let planner = self.planner_in(Arc::clone(transaction)).await?;
        let (from, tables) = match near {
            Some(near) => (quoted(NEAR), vec![(NEAR.to_owned(), rows_near(&planner, full, near).await?)]),
            None => (name_of(full), Vec::new()),
        };
        let columns: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let known: Vec<String> = columns.iter().map(|column| format!("{column} IS NOT NULL")).collect();
        let (list, known) = (columns.join(", "), known.join(" AND "));
        let query = parsed(&format!(
            "SELECT {list} FROM {from} WHERE {known} GROUP BY {list} HAVING count(*) > 1 LIMIT 1"
        ))?;
        let plan = run
            .plan(async move {
                let plan = planner.query_with(*query, &[], tables).await?;
                planner.physical(&plan).await
            })
            .await?;
        run.runtime.queries.admit(&run.guard, weight(plan.as_ref())).await?;
        note(run.plans.as_ref(), &plan);
        let context = self.task_context();
        let batches = run.on_cpu(async move { Ok(collect(plan, context).await?) }).await?;
        let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
        let texts = batch.columns().iter().map(|column| {
            let text = cast(column, &DataType::Utf8)?;
            Ok(text.as_string::<i32>().value(0).to_owned())
        });
        Ok(Some(texts.collect::<Result<Vec<_>>>()?.join(", ")))
    }
}

/// The rows of a table that pass a condition.
async fn rows_near(planner: &Planner, full: &FullName, near: Expr) -> Result<Arc<dyn TableSource>> {
    let FullName { catalog, schema, name } = full.clone();
    let named = Name { catalog: Some(catalog), schema: Some(schema), name };
    let Found::Table(table) = planner.provider(&named).await? else {
        return Err(Error::WrongObjectType { name: named.name, wanted: "table" });
    };
    let rows = LogicalPlanBuilder::scan(NEAR, provider_as_source(table), None)?.filter(near)?.build()?;
    Ok(provider_as_source(Arc::new(ViewTable::new(rows, None))))
}

/// The condition that a row can have the key of a row in one of the files; none where any row can.
fn near(columns: &Schema, names: &[&str], files: &[WrittenFile]) -> Result<Option<Expr>> {
    if files.len() > SPANS_MAX {
        return Ok(None);
    }
    let mut near = lit(false);
    for file in files {
        let mut within: Option<Expr> = None;
        for name in names {
            let at = columns.index_of(name)?;
            let Some(known) = file.columns.get(at) else { continue };
            let (Some(least), Some(greatest)) = (&known.lower, &known.upper) else { continue };
            let data_type = columns.field(at).data_type();
            let (least, greatest) = (least.cast_to(data_type)?, greatest.cast_to(data_type)?);
            let between = col(Column::from_name(*name)).between(lit(least), lit(greatest));
            within = Some(within.map_or(between.clone(), |known| known.and(between)));
        }
        match within {
            Some(within) => near = near.or(within),
            None => return Ok(None),
        }
    }
    Ok(Some(near))
}
