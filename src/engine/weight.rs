//! Weight: what a plan may cost, as far as its looks tell, so that a light one need not queue behind
//! heavy ones.

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};

use crate::runtime::queries::Weight;

/// Bytes of files, and rows of anything else, that a light plan reads at most.
const LIGHT_FILE_BYTES: u64 = 4 << 20;
const LIGHT_ROWS: usize = 20_000;
/// Rows that a statement itself may hold, or `system.runtime`, to be as light as the catalog.
const MEMORY_ROWS: usize = 2_000;
/// Nodes that make no more rows than they are given, or as a join on equal keys does.
const TAME: [&str; 16] = [
    "AggregateExec",
    "CoalesceBatchesExec",
    "CoalescePartitionsExec",
    "CooperativeExec",
    "FilterExec",
    "GlobalLimitExec",
    "HashJoinExec",
    "LocalLimitExec",
    "ProjectionExec",
    "RepartitionExec",
    "SortExec",
    "SortMergeJoinExec",
    "SortPreservingMergeExec",
    "UnionExec",
    "InterleaveExec",
    // Waits for an advisory lock, which must not keep those from running that hold it.
    "async_func",
];
/// Nodes without input whose rows are about the catalog, or none, or one.
const CATALOG: [&str; 3] = ["PlaceholderRowExec", "EmptyExec", "SystemScan"];

/// Whether a plan reads nothing and makes at most one row, so that it costs less than a task.
pub fn is_constant(plan: &dyn ExecutionPlan) -> bool {
    const CONSTANT: [&str; 4] = ["ProjectionExec", "PlaceholderRowExec", "EmptyExec", "GlobalLimitExec"];
    CONSTANT.contains(&plan.name()) && plan.children().iter().all(|child| is_constant(child.as_ref()))
}

/// The weight of a plan: that of the heaviest thing it reads, and heavy if it may multiply rows.
pub fn weight(plan: &dyn ExecutionPlan) -> Weight {
    let children = plan.children();
    if children.is_empty() {
        return weight_of_leaf(plan);
    }
    match TAME.contains(&plan.name()) {
        true => children.iter().map(|child| weight(child.as_ref())).max().unwrap_or(Weight::Heavy),
        false => Weight::Heavy,
    }
}

fn weight_of_leaf(plan: &dyn ExecutionPlan) -> Weight {
    if CATALOG.contains(&plan.name()) {
        return Weight::Catalog;
    }
    let source = plan.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
    if let Some(files) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
        return if file_bytes(files) <= LIGHT_FILE_BYTES { Weight::Light } else { Weight::Heavy };
    }
    let is_memory = source.is_some_and(|source| source.is::<MemorySourceConfig>());
    let known = StatisticsContext::new().compute(plan, &StatisticsArgs::new()).ok();
    match known.and_then(|known| known.num_rows.get_value().copied()) {
        Some(rows) if is_memory && rows <= MEMORY_ROWS => Weight::Catalog,
        Some(rows) if rows <= LIGHT_ROWS => Weight::Light,
        _ => Weight::Heavy,
    }
}

fn file_bytes(scan: &FileScanConfig) -> u64 {
    let files = scan.file_groups.iter().flat_map(|group| group.iter());
    let bytes = |file: &PartitionedFile| match &file.range {
        Some(range) => u64::try_from(range.end - range.start).unwrap_or_default(),
        None => file.object_meta.size,
    };
    files.map(bytes).sum()
}
