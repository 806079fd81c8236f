//! Relations: the names of a query become tables, views and files.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::common::{Column, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableSource};
use datafusion::prelude::col;
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, TableAlias, TableFactor, VisitorMut};

use super::context::Tables;
use super::file_call::FileCall;
use super::{FullName, Planner, TemporarySight, lake_tables, runtime_tables};
use crate::catalog::Browse;
use crate::catalog::log::ViewRecord;
use crate::catalog::temporary::TEMPORARY_SCHEMA;
use crate::catalog::transaction::Found;
use crate::engine::dialect::display_name;
use crate::engine::parse;
use crate::engine::statement::{Name, Statement};
use crate::error::{Error, Result};
use crate::system;

/// Schemas of the daemon itself, in every catalog.
const SYSTEM_SCHEMAS: [&str; 3] = ["pg_catalog", "information_schema", "system"];

impl Planner {
    /// The source of one table reference of a query.
    pub(super) async fn source(
        &self,
        reference: &TableReference,
        depth: usize,
    ) -> Result<Arc<dyn TableSource>> {
        let name = Name {
            catalog: reference.catalog().map(str::to_owned),
            schema: reference.schema().map(str::to_owned),
            name: reference.table().to_owned(),
        };
        let found = self.lookup(&name).await?;
        let (full, found) = found.ok_or_else(|| Error::TableNotFound(name.to_string()))?;
        self.note_read(&full).await?;
        if !SYSTEM_SCHEMAS.contains(&full.schema.as_str()) {
            self.transaction.note_use(&full.catalog, &full.schema, &full.name);
        }
        match found {
            Found::Table(table) => Ok(provider_as_source(table)),
            Found::View(view) => {
                let plan = self.of_view(&full, &view, depth + 1).await?;
                Ok(provider_as_source(Arc::new(ViewTable::new(plan, Some(view.sql)))))
            }
        }
    }

    /// Looks a relation up, as [`locate`](Self::locate) finds it.
    pub(super) async fn lookup(&self, name: &Name) -> Result<Option<(FullName, Found)>> {
        let Some(full) = self.locate(name).await? else { return Ok(None) };
        let found = match runtime_tables::table(&self.runtime, name)? {
            Some(table) => Some(Found::Table(table)),
            None => self.relation(&full).await?,
        };
        Ok(found.map(|found| (full, found)))
    }

    /// Finds a relation: where its name says, or along the search path, `pg_catalog` first. What files a
    /// managed table has is not asked.
    pub(super) async fn locate(&self, name: &Name) -> Result<Option<FullName>> {
        let catalog = name.catalog.as_ref().unwrap_or(&self.database);
        let full = |schema: &str| FullName {
            catalog: catalog.clone(),
            schema: schema.to_owned(),
            name: name.name.clone(),
        };
        if runtime_tables::table(&self.runtime, name)?.is_some() {
            return Ok(Some(full(runtime_tables::SCHEMA)));
        }
        self.transaction.ensure_catalog(catalog)?;
        let path: Vec<&str> = match &name.schema {
            Some(schema) => vec![schema],
            None => self.searched(),
        };
        for schema in path {
            let full = full(schema);
            if self.exists(&full).await? {
                if schema == TEMPORARY_SCHEMA {
                    self.temporary.seen.store(true, Ordering::Relaxed);
                }
                return Ok(Some(full));
            }
            // That the name is free here is what the rest of the search path relies upon.
            self.note_read(&full).await?;
        }
        Ok(None)
    }

    /// The schemas in which a bare name is looked up: temporary tables first, then the system's.
    fn searched(&self) -> Vec<&str> {
        let path = self.search_path.iter().map(String::as_str);
        let is_named = self.search_path.iter().any(|schema| schema == TEMPORARY_SCHEMA);
        let sees = self.temporary.sees && self.transaction.may_see_temporary();
        let first = (sees && !is_named).then_some(TEMPORARY_SCHEMA);
        let path = path.filter(|schema| sees || *schema != TEMPORARY_SCHEMA);
        first.into_iter().chain(std::iter::once("pg_catalog")).chain(path).collect()
    }

    /// Tells a transaction that checks its reads of one.
    async fn note_read(&self, full: &FullName) -> Result<()> {
        match SYSTEM_SCHEMAS.contains(&full.schema.as_str()) {
            true => Ok(()),
            false => self.transaction.note_read(&full.catalog, &full.schema, &full.name).await,
        }
    }

    async fn exists(&self, full: &FullName) -> Result<bool> {
        match SYSTEM_SCHEMAS.contains(&full.schema.as_str()) {
            true => Ok(self.relation(full).await?.is_some()),
            false => self.transaction.has_relation(&full.catalog, &full.schema, &full.name).await,
        }
    }

    async fn relation(&self, full: &FullName) -> Result<Option<Found>> {
        if full.schema == lake_tables::SCHEMA {
            return lake_tables::relation(&self.transaction, full).await;
        }
        if SYSTEM_SCHEMAS.contains(&full.schema.as_str()) {
            let browse = Arc::clone(&self.transaction) as Arc<dyn Browse>;
            let facts = Arc::clone(&self.facts);
            return Ok(
                system::table(browse, facts, &full.catalog, &full.schema, &full.name).map(Found::Table)
            );
        }
        self.transaction.relation(&full.catalog, &full.schema, &full.name).await
    }

    /// Plans a view's query as it was when the view was made: with its own search path.
    ///
    /// # Errors
    /// As [`Planner::query`], and for a view that has lost columns.
    pub async fn of_view(&self, full: &FullName, view: &ViewRecord, depth: usize) -> Result<LogicalPlan> {
        let query = match parse::parse(&view.sql)?.pop().map(|parsed| parsed.statement) {
            Some(Statement::Query(query)) => query,
            _ => return Err(Error::Internal(format!("view \"{full}\" holds no query"))),
        };
        let planner = Self {
            state: self.state.clone(),
            transaction: Arc::clone(&self.transaction),
            facts: Arc::clone(&self.facts),
            runtime: Arc::clone(&self.runtime),
            database: full.catalog.clone(),
            search_path: view.search_path.clone(),
            // A lasting view never stood on temporary tables, whatever their names.
            temporary: TemporarySight {
                sees: full.schema == TEMPORARY_SCHEMA,
                seen: Arc::clone(&self.temporary.seen),
            },
        };
        let plan = planner.query_at(*query, &[], depth, Vec::new()).await?;
        let columns = plan.schema().columns();
        let renamed = view.columns.iter().enumerate().map(|(at, own)| {
            let lost = || format!("view \"{full}\" has lost columns: a table below it has changed");
            let column = column_of_view(&columns, view, at).ok_or_else(|| Error::Planning(lost()))?;
            Ok(col(column.clone()).alias(&own.name))
        });
        Ok(LogicalPlanBuilder::from(plan).project(renamed.collect::<Result<Vec<_>>>()?)?.build()?)
    }

    /// Replaces every file that the query reads (`read_csv('…')`, `FROM 's3://…'`) by a table of its own name.
    pub(super) async fn files(&self, statement: &mut ast::Statement, tables: &mut Tables<'_>) -> Result<()> {
        let mut calls = FileCalls::default();
        if let ControlFlow::Break(error) = ast::VisitMut::visit(statement, &mut calls) {
            return Err(error);
        }
        for (name, call) in calls.found {
            let table = self.transaction.files(&self.database, &call.borrowed()).await?;
            tables.add(TableReference::bare(name), provider_as_source(table));
        }
        Ok(())
    }
}

/// The column of a view's query that is the view's own at `at`: the one of the name that it had, because
/// the columns of a `*` may have changed their places; the one at its place if several have the name.
fn column_of_view<'a>(columns: &'a [Column], view: &ViewRecord, at: usize) -> Option<&'a Column> {
    let Some(source) = &view.columns[at].source else { return columns.get(at) };
    let mut named = columns.iter().filter(|column| display_name(&column.name) == source);
    match (named.next(), named.next()) {
        (None, _) => None,
        (Some(column), None) => Some(column),
        (Some(_), Some(_)) => columns.get(at),
    }
}

/// Collects the files that a query reads, and gives each a name.
#[derive(Default)]
struct FileCalls {
    found: Vec<(String, FileCall)>,
}

impl VisitorMut for FileCalls {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, args, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let call = match FileCall::of(name, args.as_ref()) {
            Ok(Some(call)) => call,
            Ok(None) => return ControlFlow::Continue(()),
            Err(error) => return ControlFlow::Break(error),
        };
        let table = format!("lacus files {}", self.found.len() + 1);
        if alias.is_none() {
            *alias = Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('"', call.alias()),
                columns: Vec::new(),
                at: None,
            });
        }
        *name = ObjectName::from(vec![Ident::with_quote('"', &table)]);
        *args = None;
        self.found.push((table, call));
        ControlFlow::Continue(())
    }
}
