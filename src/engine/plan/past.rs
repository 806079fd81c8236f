//! Tables of the past: `FOR VERSION AS OF` and `FOR TIMESTAMP AS OF` behind a name.
//!
//! A number is a snapshot of the table that has the name now, or else a version of the lake; a time is
//! the version that the lake had then. At a version of the lake the name means what it meant then: a
//! table that is renamed or dropped by now is found under its old name, and a view reads the tables of
//! then. That a transaction sees its own snapshot holds for the past too: it ends where that begins.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{DFSchema, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{ColumnarValue, ExprSchemable, TableSource};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, TableAlias, TableFactor, VisitorMut};

use super::context::Tables;
use super::{Planner, placeholder};
use crate::catalog::history::AsOf;
use crate::catalog::transaction::Transaction;
use crate::engine::parse::{Moment, name_of};
use crate::engine::statement::Name;
use crate::error::{Error, Result};

impl Planner {
    /// Replaces every table of the past that the query names by one of its own name.
    pub(super) async fn past(
        &self,
        statement: &mut ast::Statement,
        tables: &mut Tables<'_>,
        depth: usize,
    ) -> Result<()> {
        let mut found = Pasts::default();
        if let ControlFlow::Break(error) = ast::VisitMut::visit(statement, &mut found) {
            return Err(error);
        }
        for (own, name, moment) in found.found {
            let source = match self.moment(&moment)? {
                AsOf::Version(version) => match self.at_snapshot(&name, version).await? {
                    Some(source) => source,
                    None => self.as_of(&name, AsOf::Version(version), depth).await?,
                },
                time => self.as_of(&name, time, depth).await?,
            };
            tables.add(TableReference::bare(own), source);
        }
        Ok(())
    }

    /// The value of a moment's expression.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a parameter, and what is wrong with the expression.
    pub fn moment(&self, moment: &Moment) -> Result<AsOf> {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        match moment {
            Moment::Version(expr) => self.value_as_of(expr, &DataType::Int64),
            Moment::Timestamp(expr) => self.value_as_of(expr, &instant),
        }
    }

    /// A whole number as a version, anything else as a time.
    pub(super) fn version_or_time(&self, expr: &ast::Expr) -> Result<AsOf> {
        let tables = Tables::new(&self.state);
        let none = DFSchema::empty();
        let planner = SqlToRel::new_with_options(&tables, self.options());
        let planned = planner.sql_to_expr(expr.clone(), &none, &mut PlannerContext::new())?;
        let moment = match planned.get_type(&none)?.is_integer() {
            true => Moment::Version(expr.clone()),
            false => Moment::Timestamp(expr.clone()),
        };
        self.moment(&moment)
    }

    fn value_as_of(&self, expr: &ast::Expr, ty: &DataType) -> Result<AsOf> {
        if placeholder(expr).is_some() {
            let message = "a version or a time is a constant, not a parameter".to_owned();
            return Err(Error::Unsupported(message));
        }
        match self.constant(expr, ty)? {
            ScalarValue::Int64(Some(version)) => match u64::try_from(version) {
                Ok(version) => Ok(AsOf::Version(version)),
                Err(_) => Err(Error::InvalidParameter(format!("there is no version {version}"))),
            },
            ScalarValue::TimestampMicrosecond(Some(micros), _) => Ok(AsOf::at_micros(micros)),
            _ => Err(Error::InvalidParameter("a version or a time must not be null".to_owned())),
        }
    }

    /// The value of an expression without columns.
    pub(super) fn constant(&self, expr: &ast::Expr, ty: &DataType) -> Result<ScalarValue> {
        let tables = Tables::new(&self.state);
        let none = DFSchema::empty();
        let planner = SqlToRel::new_with_options(&tables, self.options());
        let expr = planner.sql_to_expr(expr.clone(), &none, &mut PlannerContext::new())?;
        let expr = tables.computed(expr.cast_to(ty, &none)?)?;
        let physical = self.state.create_physical_expr(expr, &none)?;
        match physical.evaluate(&one_row()?)? {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(values) => Ok(ScalarValue::try_from_array(&values, 0)?),
        }
    }

    /// A table at one of its own snapshots, if the number is one.
    async fn at_snapshot(&self, name: &Name, snapshot: u64) -> Result<Option<Arc<dyn TableSource>>> {
        let Ok(snapshot) = i64::try_from(snapshot) else { return Ok(None) };
        let Some((full, _)) = self.lookup(name).await? else { return Ok(None) };
        let (catalog, schema, table) = (&full.catalog, &full.schema, &full.name);
        let table = self.transaction.table_at_snapshot(catalog, schema, table, snapshot).await?;
        Ok(table.map(provider_as_source))
    }

    /// What a name meant at a moment.
    async fn as_of(&self, name: &Name, as_of: AsOf, depth: usize) -> Result<Arc<dyn TableSource>> {
        let catalog = name.catalog.as_ref().unwrap_or(&self.database);
        let past = self.transaction.back_to(catalog, as_of).await.map_err(|error| match error {
            // Without its number in the message nobody would look for a typing error in it.
            Error::InvalidParameter(reason) => match as_of {
                AsOf::Version(version) => Error::InvalidParameter(format!(
                    "table \"{name}\" has no snapshot {version}, or no more, and {reason}"
                )),
                AsOf::Time(_) => Error::InvalidParameter(reason),
            },
            other => other,
        })?;
        let reference = match (&name.catalog, &name.schema) {
            (Some(catalog), Some(schema)) => {
                TableReference::full(catalog.as_str(), schema.as_str(), name.name.as_str())
            }
            (_, Some(schema)) => TableReference::partial(schema.as_str(), name.name.as_str()),
            _ => TableReference::bare(name.name.as_str()),
        };
        self.within(past).source(&reference, depth).await
    }

    /// The same planner in another transaction.
    fn within(&self, transaction: Arc<Transaction>) -> Self {
        Self {
            state: self.state.clone(),
            transaction,
            facts: Arc::clone(&self.facts),
            runtime: Arc::clone(&self.runtime),
            database: self.database.clone(),
            search_path: self.search_path.clone(),
            temporary: self.temporary.clone(),
        }
    }
}

/// Collects the tables of the past that a query names, and gives each a name of its own.
#[derive(Default)]
struct Pasts {
    found: Vec<(String, Name, Moment)>,
}

impl VisitorMut for Pasts {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, args, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(moment) = args.as_ref().and_then(Moment::of) else { return ControlFlow::Continue(()) };
        let table = match name_of(name) {
            Ok(table) => table,
            Err(error) => return ControlFlow::Break(error),
        };
        let own = format!("lacus past {}", self.found.len() + 1);
        if alias.is_none() {
            let name = Ident::with_quote('"', &table.name);
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
        *name = ObjectName::from(vec![Ident::with_quote('"', &own)]);
        *args = None;
        self.found.push((own, table, moment));
        ControlFlow::Continue(())
    }
}

/// A row without columns.
fn one_row() -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?)
}
