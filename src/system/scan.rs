//! Scans of system tables: a table provider, and the plan node that computes its rows.
//!
//! Rows are computed when the node is first polled, not while the statement is planned: by then the
//! filters that a join learns from its other side are known too, and only the relations that pass
//! all filters are read.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};

use super::definition::Definition;
use super::indexes;
use super::listing::{self, Entry, Listing};
use super::rows::{Cell, Rows};
use super::source::{self, Context, Functions, IndexKeys, PerRelation, Source};
use crate::catalog::Browse;
use crate::function::SessionFacts;

/// More columns than PostgreSQL gives to one table.
const COLUMNS_MAX: i64 = 1600;

/// A system table as one statement sees it.
#[derive(Debug)]
pub(super) struct SystemTable {
    definition: &'static Definition,
    browse: Arc<dyn Browse>,
    session: Arc<SessionFacts>,
    database: String,
}

impl SystemTable {
    pub(super) fn new(
        definition: &'static Definition,
        browse: Arc<dyn Browse>,
        session: Arc<SessionFacts>,
        database: &str,
    ) -> Self {
        Self { definition, browse, session, database: database.to_owned() }
    }

    fn context(&self, state: &dyn Session) -> Context {
        Context {
            browse: Arc::clone(&self.browse),
            session: Arc::clone(&self.session),
            facts: self.session.catalog(),
            database: self.database.clone(),
            functions: Functions::of(state),
        }
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.definition.schema)
    }

    fn table_type(&self) -> TableType {
        if self.definition.kind == 'v' { TableType::View } else { TableType::Base }
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.definition.schema.project(columns)?),
            None => self.schema(),
        };
        Ok(Arc::new(SystemScan::new(self.definition, Arc::new(self.context(state)), schema)))
    }
}

/// The plan node: one partition, one batch.
#[derive(Debug, Clone)]
struct SystemScan {
    definition: &'static Definition,
    context: Arc<Context>,
    schema: SchemaRef,
    /// What is asked of the rows above; they are filtered there again.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

impl SystemScan {
    fn new(definition: &'static Definition, context: Arc<Context>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { definition, context, schema, filters: vec![], properties: Arc::new(properties) }
    }

    async fn batch(self) -> Result<RecordBatch> {
        let mut rows = Rows::new(Arc::clone(&self.schema));
        match source::of(self.definition) {
            Source::Empty => {}
            Source::Fixed(fill) => fill(&self.context, &mut rows),
            Source::Names(fill) => fill(&self.context, &self.listing().await?, &mut rows),
            Source::Relations(source) => self.relation_rows(&source, &mut rows).await?,
        }
        rows.finish()
    }

    async fn listing(&self) -> Result<Listing> {
        Ok(Listing::load(self.context.browse.as_ref(), &self.context.database).await?)
    }

    async fn relation_rows(&self, source: &PerRelation, rows: &mut Rows) -> Result<()> {
        let listing = self.listing().await?;
        (source.before)(&listing, rows);
        let (entries, indexed) = self.wanted(source, &listing)?;
        if !(source.reads)(&self.context, rows) && !indexed {
            entries.iter().for_each(|entry| (source.rows)(&self.context, &listing, entry, None, rows));
            return Ok(());
        }
        let read = listing::details(self.context.browse.as_ref(), &entries).await?;
        for (entry, detail) in entries.iter().zip(read) {
            (source.rows)(&self.context, &listing, entry, detail.as_ref(), rows);
        }
        Ok(())
    }

    /// The relations of which a row can pass the filters, and whether one may be that of an index.
    fn wanted(&self, source: &PerRelation, listing: &Listing) -> Result<(Vec<Entry>, bool)> {
        if let Some(ordinal) = source.ordinal {
            let numbers = (1..=COLUMNS_MAX).map(|number| vec![(ordinal, number.into())]).collect();
            if !self.passing(numbers)?.iter().any(|passes| *passes) {
                return Ok((vec![], false));
            }
        }
        let keys = listing.entries.iter().map(|entry| (source.keys)(listing, entry)).collect();
        let own = self.passing(keys)?;
        let indexed = match &source.indexes {
            Some(keys) => self.with_passing_indexes(keys, listing)?,
            None => vec![],
        };
        // A name is that of a table before it is an index's: where one passes, no other table is read to
        // see what its keys are called.
        let named = source.indexes.is_some() && own.contains(&true) && self.asks_for_a_name();
        let passes = |at: usize| match &source.indexes {
            Some(keys) if named && !keys.alone => own[at],
            Some(keys) if keys.alone => own[at] && indexed[at],
            Some(_) => own[at] || indexed[at],
            None => own[at],
        };
        let entries = listing.entries.iter().enumerate();
        let wanted = entries.filter(|(at, _)| passes(*at)).map(|(_, entry)| entry.clone()).collect();
        let may_be_indexed = indexed.iter().zip(own).any(|(indexed, own)| *indexed && (own || !named));
        Ok((wanted, may_be_indexed))
    }

    /// Whether a filter looks at `relname` and no other column.
    fn asks_for_a_name(&self) -> bool {
        self.filters.iter().any(|filter| {
            let columns = collect_columns(filter);
            columns.len() == 1 && columns.iter().all(|column| column.name() == "relname")
        })
    }

    /// Which relations may have an index whose row passes.
    fn with_passing_indexes(&self, keys: &IndexKeys, listing: &Listing) -> Result<Vec<bool>> {
        let mut indexed = vec![false; listing.entries.len()];
        let same = (keys.same)();
        if !same.is_empty() && self.passing(vec![same])? == [false] {
            return Ok(indexed);
        }
        let (places, oids): (Vec<usize>, Vec<i64>) = (listing.entries.iter().enumerate())
            .flat_map(|(at, entry)| indexes::candidates(entry).map(move |oid| (at, oid)))
            .unzip();
        let schema = Arc::new(self.definition.schema.project(&[self.definition.schema.index_of(keys.oid)?])?);
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(oids))])?;
        for (at, passes) in places.into_iter().zip(self.filtered(&batch)) {
            indexed[at] |= passes;
        }
        Ok(indexed)
    }

    /// Which rows pass those filters that look at nothing but these columns.
    fn passing(&self, keys: Vec<Vec<(&'static str, Cell)>>) -> Result<Vec<bool>> {
        let Some(names) = keys.first().map(|key| key.iter().map(|(name, _)| *name).collect::<Vec<_>>())
        else {
            return Ok(vec![]);
        };
        let fields = names.iter().map(|name| self.definition.schema.index_of(name));
        let schema = Arc::new(self.definition.schema.project(&fields.collect::<Result<Vec<_>, _>>()?)?);
        let mut rows = Rows::new(Arc::clone(&schema));
        for key in keys {
            rows.push_all(&key);
        }
        Ok(self.filtered(&rows.finish()?))
    }

    /// Which rows of some columns pass.
    fn filtered(&self, batch: &RecordBatch) -> Vec<bool> {
        let mut passing = vec![true; batch.num_rows()];
        for filter in &self.filters {
            if let Some(answer) = answer(filter, &batch.schema(), batch) {
                passing.iter_mut().zip(answer.iter()).for_each(|(passes, yes)| *passes &= yes == Some(true));
            }
        }
        passing
    }
}

/// What a filter says to rows of some columns; nothing if it looks at others, or fails on a row.
fn answer(filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, batch: &RecordBatch) -> Option<BooleanArray> {
    if !collect_columns(filter).iter().all(|column| schema.index_of(column.name()).is_ok()) {
        return None;
    }
    let filter = reassign_expr_columns(Arc::clone(filter), schema).ok()?;
    let answer = filter.evaluate(batch).ok()?.into_array(batch.num_rows()).ok()?;
    as_boolean_array(&answer).ok().filter(|answer| answer.len() == batch.num_rows()).cloned()
}

impl DisplayAs for SystemScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemScan: table={}.{}", self.definition.schema_name, self.definition.name)?;
        if self.filters.is_empty() {
            return Ok(());
        }
        let filters: Vec<String> = self.filters.iter().map(ToString::to_string).collect();
        write!(f, ", filters=[{}]", filters.join(", "))
    }
}

impl ExecutionPlan for SystemScan {
    fn name(&self) -> &'static str {
        "SystemScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for filter in &self.filters {
            if visit(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = futures::stream::once(self.clone().batch());
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows)))
    }

    /// Guesses that tell a join which side to read first: the one that is cheap.
    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        let rows = match source::of(self.definition) {
            Source::Empty => Precision::Exact(0),
            Source::Fixed(_) => Precision::Inexact(10),
            Source::Names(_) => Precision::Inexact(20),
            Source::Relations(source) if source.ordinal.is_some() => Precision::Inexact(1_000_000),
            Source::Relations(_) => Precision::Inexact(10_000),
        };
        let unknown = Statistics::new_unknown(&self.schema);
        Ok(Arc::new(unknown.with_num_rows(rows).with_total_byte_size(Precision::Absent)))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        pushed: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let mut scan = self.clone();
        scan.filters.extend(pushed.parent_filters.iter().map(|pushed| Arc::clone(&pushed.filter)));
        Ok(FilterPushdownPropagation::all_unsupported(pushed).with_updated_node(Arc::new(scan)))
    }
}
