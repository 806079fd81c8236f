//! Plans: a parsed query becomes a logical plan, without side effects.
//!
//! Every table that the query names is looked up once, in the statement's transaction, before
//! DataFusion plans it; nothing is looked up behind its back. Files that the query names must lie
//! under a root that the configuration allows. What is planned can only read.

mod changes;
mod context;
mod file_call;
pub mod lake_tables;
mod lateral;
mod parameters;
mod past;
mod relations;
mod runtime_tables;
mod whole_row;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ParamValues;
use datafusion::common::TableReference;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast;
use futures::future::BoxFuture;

use super::statement::Name;
use super::{catalog_types, dialect};
use crate::catalog::Browse;
use crate::catalog::temporary::TEMPORARY_SCHEMA;
use crate::catalog::transaction::{Found, Transaction};
use crate::error::{Error, Result};
use crate::function::SessionFacts;
use crate::runtime::{Runtime, compact, memory, meter};
use crate::system;
use context::Tables;
pub(super) use parameters::placeholder;

/// How deep views may stand on views.
const VIEWS_MAX: usize = 32;

/// What one statement plans with. Owned, so that planning can run on the query threads.
pub struct Planner {
    pub state: SessionState,
    pub transaction: Arc<Transaction>,
    pub facts: Arc<SessionFacts>,
    pub runtime: Arc<Runtime>,
    /// The session's catalog.
    pub database: String,
    pub search_path: Vec<String>,
    pub temporary: TemporarySight,
}

/// Whether names can mean temporary tables, and whether one did.
#[derive(Debug, Clone, Default)]
pub struct TemporarySight {
    pub sees: bool,
    pub seen: Arc<AtomicBool>,
}

/// A relation's full name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FullName {
    pub catalog: String,
    pub schema: String,
    pub name: String,
}

impl std::fmt::Display for FullName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl Planner {
    /// Plans a query; `parameters` are the types that the client declared, unknown ones none.
    ///
    /// # Errors
    /// Names that do not exist, types that do not fit, files out of bounds: whatever can be wrong
    /// with a query before it runs.
    pub async fn query(&self, query: ast::Query, parameters: &[Option<DataType>]) -> Result<LogicalPlan> {
        self.query_at(query, parameters, 0, Vec::new()).await
    }

    /// Plans a query that knows `tables` by these names, beside those of the catalogs.
    ///
    /// # Errors
    /// As [`Planner::query`].
    pub async fn query_with(
        &self,
        query: ast::Query,
        parameters: &[Option<DataType>],
        tables: Vec<(String, Arc<dyn TableSource>)>,
    ) -> Result<LogicalPlan> {
        self.query_at(query, parameters, 0, tables).await
    }

    /// Boxed, because a view's query is planned inside of its reader's.
    fn query_at<'a>(
        &'a self,
        query: ast::Query,
        parameters: &'a [Option<DataType>],
        depth: usize,
        own: Vec<(String, Arc<dyn TableSource>)>,
    ) -> BoxFuture<'a, Result<LogicalPlan>> {
        Box::pin(self.plan_at(query, parameters, depth, own))
    }

    async fn plan_at(
        &self,
        query: ast::Query,
        parameters: &[Option<DataType>],
        depth: usize,
        own: Vec<(String, Arc<dyn TableSource>)>,
    ) -> Result<LogicalPlan> {
        if depth > VIEWS_MAX {
            return Err(Error::LimitExceeded(format!("views stand on views more than {VIEWS_MAX} deep")));
        }
        let mut statement = ast::Statement::Query(Box::new(query));
        let mut tables = Tables::new(&self.state);
        self.past(&mut statement, &mut tables, depth).await?;
        self.changes(&mut statement, &mut tables, depth).await?;
        let types = parameters::with_casts(&self.state, &statement, parameters);
        dialect::check(&statement)?;
        dialect::rewrite(&mut statement);
        if depth == 0 {
            let browse = Arc::clone(&self.transaction) as Arc<dyn Browse>;
            system::prepare(&statement, &browse, &self.facts, &self.state).await?;
        }
        own.into_iter().for_each(|(name, source)| tables.add(TableReference::bare(name), source));
        self.files(&mut statement, &mut tables).await?;
        let statement = PlannerStatement::Statement(Box::new(statement));
        let (references, _) = resolve_table_references(&statement, true)?;
        for reference in references {
            if !tables.holds(&reference) {
                match self.source(&reference, depth).await {
                    // A function in FROM is among the references; the planner finds it by itself.
                    Err(Error::TableNotFound(_)) if self.is_table_function(&reference) => {}
                    source => tables.add(reference, source?),
                }
            }
        }
        let PlannerStatement::Statement(mut statement) = statement else {
            return Err(Error::Internal("a query became another statement".to_owned()));
        };
        whole_row::spelled_out(&mut statement, |reference| tables.columns(reference));
        let types = types.into_iter().map(|ty| ty.map(parameter_field)).collect();
        let mut context = PlannerContext::new().with_prepare_param_data_types(types);
        let planner = SqlToRel::new_with_options(&tables, self.options());
        let plan = planner.sql_statement_to_plan_with_context(*statement, &mut context)?;
        let plan = parameters::of_arrays(lateral::joined(plan)?)?;
        // A second fence: whatever the planner made of the statement, it must not do anything.
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        if depth == 0 { catalog_types::shown(plan, &self.facts) } else { Ok(plan) }
    }

    fn is_table_function(&self, reference: &TableReference) -> bool {
        reference.schema().is_none() && self.state.table_functions().contains_key(reference.table())
    }

    /// Optimises a plan with its parameters filled in, and makes it runnable.
    ///
    /// # Errors
    /// What the optimiser finds, and storage failures while files are listed.
    pub async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let optimized = self.state.optimize(plan)?;
        let plan = self.state.query_planner().create_physical_plan(&optimized, &self.state).await?;
        let plan = meter::windows(plan)?;
        let is_fine = memory::is_fine(self.state.config().batch_size());
        Ok(if is_fine { compact::sorts(plan)? } else { plan })
    }

    /// Finds the full name of a relation that exists.
    ///
    /// # Errors
    /// [`Error::TableNotFound`], [`Error::SchemaNotFound`], [`Error::CatalogNotFound`].
    pub async fn find(&self, name: &Name) -> Result<FullName> {
        self.locate(name).await?.ok_or_else(|| Error::TableNotFound(name.to_string()))
    }

    /// Names a relation that is to be created: in the schema given, or the first of the search path.
    ///
    /// # Errors
    /// [`Error::SchemaNotFound`], [`Error::CatalogNotFound`].
    pub async fn target(&self, name: &Name) -> Result<FullName> {
        let catalog = name.catalog.clone().unwrap_or_else(|| self.database.clone());
        self.transaction.ensure_catalog(&catalog)?;
        let candidates = name.schema.clone().map_or_else(|| self.search_path.clone(), |schema| vec![schema]);
        for schema in &candidates {
            if self.transaction.schema_exists(&catalog, schema).await? {
                return Ok(FullName { catalog, schema: schema.clone(), name: name.name.clone() });
            }
        }
        let missing = name.schema.clone().or_else(|| candidates.last().cloned()).unwrap_or_default();
        Err(Error::SchemaNotFound(missing))
    }

    /// Names a temporary relation that is to be created.
    ///
    /// # Errors
    /// [`Error::InvalidDefinition`] for a name in another schema.
    pub fn temporary_target(&self, name: &Name) -> Result<FullName> {
        if name.schema.as_ref().is_some_and(|schema| schema != TEMPORARY_SCHEMA) {
            let message = "cannot create temporary relation in non-temporary schema".to_owned();
            return Err(Error::InvalidDefinition(message));
        }
        let (schema, name) = (TEMPORARY_SCHEMA.to_owned(), name.name.clone());
        Ok(FullName { catalog: self.database.clone(), schema, name })
    }

    /// The relation that a name means.
    ///
    /// # Errors
    /// [`Error::TableNotFound`] and what lookup finds wrong.
    pub async fn provider(&self, name: &Name) -> Result<Found> {
        let found = self.lookup(name).await?;
        found.map(|(_, found)| found).ok_or_else(|| Error::TableNotFound(name.to_string()))
    }

    fn options(&self) -> ParserOptions {
        let options = &self.state.config_options().sql_parser;
        ParserOptions::new()
            .with_parse_float_as_decimal(options.parse_float_as_decimal)
            .with_enable_ident_normalization(true)
            .with_support_varchar_with_length(true)
            .with_map_string_types_to_utf8view(options.map_string_types_to_utf8view)
            .with_collect_spans(false)
            .with_default_null_ordering(options.default_null_ordering.as_str().into())
    }
}

/// A planner's context for expressions that stand alone.
pub(super) fn no_tables(state: &SessionState) -> Tables<'_> {
    Tables::new(state)
}

/// Parameter types of a plan in order, `$1` first; what nothing tells is text.
///
/// # Errors
/// [`Error::UndefinedParameter`] for a gap in the numbers.
pub fn parameter_types(plan: &LogicalPlan, declared: &[Option<DataType>]) -> Result<Vec<DataType>> {
    let found = plan.get_parameter_types()?;
    let mut types: Vec<Option<DataType>> = declared.to_vec();
    for (id, ty) in found {
        let number = parameter_number(&id)?;
        if types.len() < number {
            types.resize(number, None);
        }
        let slot = &mut types[number - 1];
        *slot = slot.take().or(ty);
    }
    Ok(types.into_iter().map(|ty| ty.unwrap_or(DataType::Utf8)).collect())
}

/// Replaces `$1`, `$2`, … by values.
///
/// # Errors
/// [`Error::UndefinedParameter`] when a value is missing.
pub fn bind(plan: LogicalPlan, values: &[datafusion::common::ScalarValue]) -> Result<LogicalPlan> {
    if values.is_empty() {
        return Ok(plan);
    }
    Ok(plan.with_param_values(ParamValues::from(values.to_vec()))?)
}

fn parameter_number(id: &str) -> Result<usize> {
    let number = id.strip_prefix('$').and_then(|digits| digits.parse().ok());
    number
        .filter(|number| (1..=65535).contains(number))
        .ok_or_else(|| Error::UndefinedParameter(format!("there is no parameter {id}")))
}

fn parameter_field(ty: DataType) -> FieldRef {
    Arc::new(Field::new("parameter", ty, true))
}
