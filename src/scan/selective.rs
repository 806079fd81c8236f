//! Filters that appear while a query runs, applied to the rows of Parquet files before they are decoded.
//!
//! A hash join knows the keys of its build side before it reads its probe side, a top-N the worst row
//! that still counts. DataFusion hands both to the scan, to skip row groups; this rule has the reader
//! apply them to rows as well, so that columns of rows that no join wants are not decoded. A filter
//! that lets most rows pass costs more than it saves: each watches what it lets pass and retires.
//! A query's own conditions stay in the `FilterExec` above the scan, which is faster for most of them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ScalarValue, Statistics, internal_err};
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::functions::core::input_file_name::InputFileNameFunc;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF};
use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, DynamicFilterTracking};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, conjunction, split_conjunction};
use datafusion::physical_expr_common::physical_expr::snapshot_generation;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Rows that a filter sees before it is judged.
const SAMPLE_ROWS: u64 = 16 * 1024;
/// The part of its rows, in percent, that a filter may let pass and still be of use.
///
/// TPC-H at scale factor 1 gains most at 8 to 16: 3 leaves out filters that halve a query's time.
const PASSING_PERCENT_MAX: u64 = 10;
/// The generation of a dynamic filter to which nothing has been said yet.
const EMPTY_GENERATION: u64 = 1;
/// Values that a filter is asked about before the first file is opened.
const TRIAL_VALUES: usize = 512;

/// Lets Parquet scans apply the filters of joins and top-Ns to rows.
#[derive(Debug)]
pub struct SelectiveScans;

impl PhysicalOptimizerRule for SelectiveScans {
    fn name(&self) -> &str {
        "selective_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_up(|node| match selective(&node)? {
            Some(scan) => Ok(Transformed::yes(scan)),
            None => Ok(Transformed::no(node)),
        })?;
        Ok(rewritten.data)
    }
}

/// The scan with its dynamic filters applied to rows; none if it has no such filter.
fn selective(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(scan) = node.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>() else { return Ok(None) };
    let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else { return Ok(None) };
    let Some(predicate) = source.filter() else { return Ok(None) };
    let parts = split_conjunction(&predicate);
    if !parts.iter().any(|part| is_dynamic(part)) {
        return Ok(None);
    }
    let (schema, statistics) = (source.table_schema().table_schema(), config.statistics());
    let parts = parts.into_iter().map(|part| -> Arc<dyn PhysicalExpr> {
        // Hashing the rows of several columns takes longer than what is saved.
        let role = match is_dynamic(part) && collect_columns(part).len() == 1 {
            true => Role::Rows(Arc::new(Watch::over(Trial::of(part, schema, &statistics)))),
            false => Role::Files,
        };
        Arc::new(RowFilter { filter: Arc::clone(part), barrier: barrier(), role })
    });
    let source = source.clone().with_predicate(conjunction(parts)).with_pushdown_filters(true);
    let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).build();
    Ok(Some(DataSourceExec::from_data_source(config)))
}

fn is_dynamic(part: &Arc<dyn PhysicalExpr>) -> bool {
    part.downcast_ref::<DynamicFilterPhysicalExpr>().is_some()
}

/// An expression that the Parquet reader does not take into a row filter, nor what contains it.
fn barrier() -> Arc<dyn PhysicalExpr> {
    let function = Arc::new(ScalarUDF::from(InputFileNameFunc::new()));
    let field = Arc::new(Field::new("input_file_name", DataType::Utf8, true));
    Arc::new(ScalarFunctionExpr::new("input_file_name", function, Vec::new(), field, Arc::default()))
}

/// A part of a scan's predicate, and what it is applied to. Everything may use it to skip files, row
/// groups and pages.
#[derive(Debug)]
struct RowFilter {
    filter: Arc<dyn PhysicalExpr>,
    barrier: Arc<dyn PhysicalExpr>,
    role: Role,
}

#[derive(Debug, Clone)]
enum Role {
    /// Not to rows: something above the scan does that.
    Files,
    /// To rows too, as long as it is worth it. Files opened later are read without it once it retired.
    Rows(Arc<Watch>),
}

/// How many rows a filter saw in all files of a scan, and let pass.
#[derive(Debug)]
struct Watch {
    seen: AtomicU64,
    passed: AtomicU64,
    /// Open until the filter is complete.
    trial: Mutex<Option<Trial>>,
}

impl Watch {
    fn over(trial: Option<Trial>) -> Self {
        Self { seen: AtomicU64::new(0), passed: AtomicU64::new(0), trial: Mutex::new(trial) }
    }

    fn count(&self, seen: usize, passed: usize) {
        self.seen.fetch_add(seen as u64, Ordering::Relaxed);
        self.passed.fetch_add(passed as u64, Ordering::Relaxed);
    }

    fn is_retired(&self) -> bool {
        self.try_out();
        let seen = self.seen.load(Ordering::Relaxed);
        seen >= SAMPLE_ROWS && self.passed.load(Ordering::Relaxed) * 100 > seen * PASSING_PERCENT_MAX
    }

    /// Judges a filter by made-up values as soon as it is complete, before it costs anything.
    fn try_out(&self) {
        let mut trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(passed) = trial.as_ref().and_then(Trial::passed) {
            *trial = None;
            if passed as u64 * 100 > TRIAL_VALUES as u64 * PASSING_PERCENT_MAX {
                self.passed.store(SAMPLE_ROWS, Ordering::Relaxed);
                self.seen.store(SAMPLE_ROWS, Ordering::Relaxed);
            }
        }
    }
}

/// Made-up values for a filter over one column: evenly spread between the bounds of the column.
#[derive(Debug)]
struct Trial {
    filter: Arc<dyn PhysicalExpr>,
    values: RecordBatch,
}

impl Trial {
    /// None where the filter has several columns, or one without known bounds or of no integer type.
    fn of(filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, statistics: &Statistics) -> Option<Self> {
        let columns = collect_columns(filter);
        let [column] = columns.iter().collect::<Vec<_>>()[..] else { return None };
        let bounds = statistics.column_statistics.get(column.index())?;
        let (least, greatest) = (integer(&bounds.min_value)?, integer(&bounds.max_value)?);
        // What others wrote may be the wrong way round.
        if least > greatest {
            return None;
        }
        let mut random = StdRng::seed_from_u64(0);
        let values = (0..TRIAL_VALUES).map(|_| random.random_range(least..=greatest));
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        let columns =
            schema.fields().iter().enumerate().map(|(index, field)| match index == column.index() {
                true => cast(&values, field.data_type()).ok(),
                false => Some(new_null_array(field.data_type(), TRIAL_VALUES)),
            });
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let nullable = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let values = RecordBatch::try_new(nullable, columns.collect::<Option<_>>()?).ok()?;
        Some(Self { filter: Arc::clone(filter), values })
    }

    /// How many of the values pass; none as long as the filter may change.
    fn passed(&self) -> Option<usize> {
        if !matches!(DynamicFilterTracking::classify(&self.filter), DynamicFilterTracking::AllComplete) {
            return None;
        }
        let passed = self.filter.evaluate(&self.values).ok()?.into_array(TRIAL_VALUES).ok()?;
        Some(passed.as_boolean_opt()?.true_count())
    }
}

/// A bound as an integer, if it is one or a date.
fn integer(bound: &Precision<ScalarValue>) -> Option<i64> {
    let bound = bound.get_value()?;
    let bound = match bound.data_type() {
        DataType::Date32 => bound.cast_to(&DataType::Int32).ok()?,
        data_type if data_type.is_integer() => bound.clone(),
        _ => return None,
    };
    match bound.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

impl RowFilter {
    fn applies_to_rows(&self) -> bool {
        match &self.role {
            Role::Files => false,
            Role::Rows(watch) => !watch.is_retired(),
        }
    }
}

impl PhysicalExpr for RowFilter {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.filter.nullable(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let everything = || ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)));
        let Role::Rows(watch) = &self.role else { return Ok(everything()) };
        if watch.is_retired() {
            return Ok(everything());
        }
        let says_something = snapshot_generation(&self.filter) > EMPTY_GENERATION;
        let value = self.filter.evaluate(batch)?;
        let passed = match &value {
            ColumnarValue::Array(array) => array.as_boolean().true_count(),
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => batch.num_rows(),
            ColumnarValue::Scalar(_) => 0,
        };
        if says_something {
            watch.count(batch.num_rows(), passed);
        }
        Ok(value)
    }

    /// The barrier is a child while the filter must not be a row filter.
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        match self.applies_to_rows() {
            true => vec![&self.filter],
            false => vec![&self.filter, &self.barrier],
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(filter) = children.into_iter().next() else {
            return internal_err!("a row filter has a filter");
        };
        Ok(Arc::new(Self { filter, barrier: Arc::clone(&self.barrier), role: self.role.clone() }))
    }

    fn snapshot(&self) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        Ok(Some(Arc::clone(&self.filter)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filter.fmt_sql(f)
    }
}

impl fmt::Display for RowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filter.fmt(f)
    }
}

impl PartialEq for RowFilter {
    fn eq(&self, other: &Self) -> bool {
        matches!(self.role, Role::Files) == matches!(other.role, Role::Files) && self.filter.eq(&other.filter)
    }
}

impl Eq for RowFilter {}

impl Hash for RowFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.filter.hash(state);
    }
}
