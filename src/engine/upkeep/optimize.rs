//! `OPTIMIZE`: small files become few, or all rows are put in an order, copy-on-write.
//!
//! The rows of the chosen files are read and written again, sorted if asked for, which spills; files of
//! an earlier partitioning are among them, and come out partitioned as the table is now. The
//! commit takes exactly those files away: what others append meanwhile stays, and if one of the files is
//! gone the commit fails with 40001. The Iceberg snapshot is a `replace`, so that readers of changes know
//! that no row changed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::provider_as_source;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableSource};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{Expr, col};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use object_store::path::Path;

use super::choose::Rule;
use super::{Optimize, Order};
use crate::catalog::transaction::{Found, TableTarget};
use crate::engine::execute::Run;
use crate::engine::plan::Planner;
use crate::engine::session::Session;
use crate::engine::show::quoted;
use crate::engine::write::{column_not_found, write_options};
use crate::error::{Error, Result};
use crate::format::Snapshot;
use crate::format::iceberg::Change;
use crate::format::metrics::merged;
use crate::function::z_order::{Span, z_order};
use crate::scan::{FilesTable, address};

/// What the plan calls the table.
const TARGET: &str = "$target";

/// What was rewritten, and into what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub files_before: u64,
    pub files_after: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Session {
    /// Rewrites the files of a table that are worth it, and commits unless a transaction block is open.
    pub(super) async fn optimize(&mut self, request: &Optimize, run: &Run) -> Result<Figures> {
        let began = Instant::now();
        let (transaction, autocommit) = self.transaction();
        let mut planner = self.planner_in(Arc::clone(&transaction)).await?;
        if request.gentle {
            let config = planner.state.config_mut();
            *config = config.clone().with_target_partitions(1);
        }
        let full = planner.find(&request.name).await?;
        let target = transaction.stored(&full.catalog, &full.schema, &full.name).await?;
        let Found::Table(table) = planner.provider(&request.name).await? else {
            return Err(Error::WrongObjectType { name: full.name, wanted: "table" });
        };
        let files = (table.as_ref() as &dyn std::any::Any).downcast_ref::<FilesTable>();
        let files = files.ok_or_else(|| Error::Internal(format!("table \"{full}\" has no files")))?;
        let work = Work { target, snapshot: Arc::clone(files.snapshot()) };
        let mut figures = self.rewrite(planner, request, work, run).await;
        if figures.as_ref().is_ok_and(|figures| figures.files_before > 0) {
            match autocommit {
                true => {
                    if let Err(error) = self.commit(&transaction, run.guard.id.clone()).await {
                        figures = Err(error);
                    }
                }
                false => self.note_change(&run.guard.id),
            }
        }
        let (name, noted) = (format!("{}.{full}", full.catalog), figures.as_ref());
        let noted = noted.map(|figures| (figures.files_before, figures.bytes_before));
        self.note_upkeep(name, "optimize", began, noted.map_err(Error::repeated));
        figures
    }

    async fn rewrite(&self, planner: Planner, request: &Optimize, work: Work, run: &Run) -> Result<Figures> {
        let (request, Work { target, snapshot }) = (request.clone(), work);
        let transaction = Arc::clone(&planner.transaction);
        let target_bytes = write_options(&target, run).file_bytes_target;
        let usual = target_bytes / 4 * 3;
        let small_bytes = request.small_bytes.unwrap_or(usual);
        let rule = Rule {
            small_bytes: if request.gentle { small_bytes.min(usual) } else { small_bytes },
            target_bytes,
            files_min: request.files_min,
            bytes_max: request.bytes_max,
        };
        // What lies in partitions of an earlier spec is put where new rows go, whatever its size; not unasked.
        let elsewhere = match request.gentle {
            true => HashSet::new(),
            false => transaction.files_of_other_specs(&target).await?,
        };
        let (planner, plan, chosen) = run
            .plan(async move {
                let meant = matching(&planner, &request, &snapshot).await?;
                let chosen = match &request.order {
                    Order::AsItComes => rule.choose(&snapshot.files, meant.as_ref(), &elsewhere),
                    Order::By(_) | Order::Z(_) => all(&snapshot, meant.as_ref()),
                };
                let chosen = Arc::new(address::chosen(&snapshot, &chosen));
                let plan = ordered(&planner, &request, &chosen).await?;
                Ok((planner, plan, chosen))
            })
            .await?;
        let mut figures = Figures {
            files_before: chosen.files.len() as u64,
            bytes_before: chosen.files.iter().map(|file| file.object.size).sum(),
            ..Figures::default()
        };
        if chosen.files.is_empty() {
            return Ok(figures);
        }
        let add = self.write(planner, plan, &target, run).await?;
        let rows: u64 = add.iter().map(|file| file.row_count).sum();
        let known = chosen.files.iter().map(|file| file.row_count()).sum::<Option<u64>>();
        if known.is_some_and(|known| known != rows) {
            return Err(Error::Internal(format!("{rows} rows were rewritten of {known:?}")));
        }
        figures.files_after = add.len() as u64;
        figures.bytes_after = add.iter().map(|file| file.size_bytes).sum();
        let remove = chosen.files.iter().map(|file| file.object.location.clone()).collect();
        transaction.stage(target, Some(Change::Compact { add, remove })).await?;
        Ok(figures)
    }
}

/// A table, and its files as the transaction sees them.
struct Work {
    target: TableTarget,
    snapshot: Arc<Snapshot>,
}

/// The files that can hold a row that passes the filter; none without a filter.
async fn matching(
    planner: &Planner,
    request: &Optimize,
    snapshot: &Arc<Snapshot>,
) -> Result<Option<HashSet<Path>>> {
    let Some(filter) = &request.filter else { return Ok(None) };
    let plan = query(planner, request, snapshot, &format!("WHERE {filter}")).await?;
    let mut paths = HashSet::new();
    read_files(planner.physical(&plan).await?.as_ref(), &mut paths);
    Ok(Some(paths))
}

fn read_files(plan: &dyn ExecutionPlan, paths: &mut HashSet<Path>) {
    let source = plan.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
    if let Some(files) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
        let files = files.file_groups.iter().flat_map(|group| group.iter());
        paths.extend(files.map(|file| file.object_meta.location.clone()));
    }
    plan.children().into_iter().for_each(|child| read_files(child.as_ref(), paths));
}

fn all(snapshot: &Snapshot, meant: Option<&HashSet<Path>>) -> Vec<usize> {
    let files = snapshot.files.iter().enumerate();
    let files = files.filter(|(_, file)| meant.is_none_or(|meant| meant.contains(&file.object.location)));
    files.map(|(place, _)| place).collect()
}

/// Plans the reading of all rows, in the order asked for.
async fn ordered(planner: &Planner, request: &Optimize, chosen: &Arc<Snapshot>) -> Result<LogicalPlan> {
    match &request.order {
        Order::AsItComes => Ok(LogicalPlanBuilder::scan(TARGET, source(chosen), None)?.build()?),
        Order::By(keys) => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            query(planner, request, chosen, &format!("ORDER BY {}", keys.join(", "))).await
        }
        Order::Z(columns) => {
            let key = z_key(columns, chosen)?;
            let scan = LogicalPlanBuilder::scan(TARGET, source(chosen), None)?;
            Ok(scan.sort(vec![key.sort(true, false)])?.build()?)
        }
    }
}

fn source(snapshot: &Arc<Snapshot>) -> Arc<dyn TableSource> {
    provider_as_source(Arc::new(FilesTable::new(Arc::clone(snapshot))))
}

async fn query(
    planner: &Planner,
    request: &Optimize,
    snapshot: &Arc<Snapshot>,
    rest: &str,
) -> Result<LogicalPlan> {
    let text = format!("SELECT * FROM \"{TARGET}\" AS {} {rest}", quoted(&request.name.name));
    let query = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text)?.parse_query()?;
    planner.query_with(*query, &[], vec![(TARGET.to_owned(), source(snapshot))]).await
}

/// Where a row lies on a Z-curve through these columns, each from its least value to its greatest.
fn z_key(columns: &[String], chosen: &Snapshot) -> Result<Expr> {
    let known = match chosen.files.is_empty() {
        true => Statistics::new_unknown(&chosen.schema),
        false => merged(&chosen.files, &chosen.schema)?,
    };
    let mut spans = Vec::with_capacity(columns.len());
    for name in columns {
        let Some((at, field)) = chosen.schema.column_with_name(name) else {
            return Err(column_not_found(name, &chosen.schema));
        };
        let of_column = &known.column_statistics[at];
        let ends = match (&of_column.min_value, &of_column.max_value) {
            (
                Precision::Exact(least) | Precision::Inexact(least),
                Precision::Exact(greatest) | Precision::Inexact(greatest),
            ) => Some((least, greatest)),
            _ => None,
        };
        spans.push(Span::of(field.data_type(), ends)?);
    }
    let arguments = columns.iter().map(|name| col(datafusion::common::Column::from_name(name)));
    Ok(z_order(spans).call(arguments.collect()))
}
