//! What DataFusion's planner may ask for: the tables that were looked up, and the session's functions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, ScalarValue, TableReference};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use crate::engine::catalog_types::CatalogTypes;
use crate::engine::semantics::Semantics;
use crate::error::Error;

/// Functions in FROM that count from one value to another.
const SERIES: [&str; 2] = ["generate_series", "range"];

/// The arguments of a series as DataFusion takes them: bigints, or timestamps in nanoseconds, and typed.
fn series_arguments(args: Vec<Expr>, computed: impl Fn(Expr) -> Result<Expr>) -> Result<Vec<Expr>> {
    let zone = args.iter().find_map(|arg| match arg {
        Expr::Literal(value, _) => match value.data_type() {
            DataType::Timestamp(_, zone) => Some(zone),
            _ => None,
        },
        _ => None,
    });
    let Some(zone) = zone else {
        let whole = |arg: Expr| match arg {
            Expr::Literal(ScalarValue::Int32(value), metadata) => {
                Expr::Literal(ScalarValue::Int64(value.map(i64::from)), metadata)
            }
            other => other,
        };
        return Ok(args.into_iter().map(whole).collect());
    };
    let moment = DataType::Timestamp(TimeUnit::Nanosecond, zone);
    let fitted = |(at, arg): (usize, Expr)| match at {
        0 | 1 => computed(Expr::Cast(Cast::new(Box::new(arg), moment.clone()))),
        _ => Ok(arg),
    };
    args.into_iter().enumerate().map(fitted).collect()
}

/// The tables of one statement, by the names it calls them.
pub struct Tables<'a> {
    state: &'a SessionState,
    sources: HashMap<TableReference, Arc<dyn TableSource>>,
}

impl<'a> Tables<'a> {
    pub fn new(state: &'a SessionState) -> Self {
        Self { state, sources: HashMap::new() }
    }

    pub fn add(&mut self, reference: TableReference, source: Arc<dyn TableSource>) {
        self.sources.insert(reference, source);
    }

    pub fn holds(&self, reference: &TableReference) -> bool {
        self.sources.contains_key(reference)
    }

    /// The names of a table's columns.
    pub fn columns(&self, reference: &TableReference) -> Option<Vec<String>> {
        let schema = self.sources.get(reference)?.schema();
        Some(schema.fields().iter().map(|field| field.name().clone()).collect())
    }

    /// An expression without columns, its types coerced, as far computed as it can be before it runs.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn computed(&self, expr: Expr) -> Result<Expr> {
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.state.config_options()))
            .with_query_execution_start_time(self.state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(context);
        let none = DFSchema::empty();
        let mut expr = simplifier.coerce(expr, &none)?;
        if let Some(semantics) = self.state.config().get_extension::<Semantics>() {
            expr = semantics.apply(expr, &none, self.state.config_options())?;
        }
        simplifier.simplify(expr)
    }
}

impl ContextProvider for Tables<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let found = self.sources.get(&name).cloned();
        found.ok_or_else(|| DataFusionError::from(Error::TableNotFound(name.to_string())))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let missing = || {
            DataFusionError::from(Error::FunctionNotFound(format!("table function {name} does not exist")))
        };
        let function = self.state.table_functions().get(name).cloned().ok_or_else(missing)?;
        let args = args.into_iter().map(|arg| self.computed(arg)).collect::<Result<Vec<_>>>()?;
        let args = match SERIES.contains(&name) {
            true => series_arguments(args, |arg| self.computed(arg))?,
            false => args,
        };
        let table = function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.state))?;
        Ok(provider_as_source(table))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(CatalogTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
