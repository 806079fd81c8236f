//! Scale: what metadata alone costs, in a lake of many tables and a table of many files.
//!
//!     cargo bench --bench scale            all parts
//!     cargo bench --bench scale -- open    opening a lake of 10,000 tables behind 100,000 commits
//!     cargo bench --bench scale -- plan    planning a query over a table of 100,000 files
//!
//! Stores are in memory; `open` is also measured with 20 ms before each answer. Settings: see `rig`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its result, and panics")]

mod rig;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{SessionContext, col, lit};
use lacus::catalog::lake::Lake;
use lacus::catalog::log::{LogEntry, Operation, TableRecord};
use lacus::catalog::state::LakeState;
use lacus::engine::base_state;
use lacus::format::iceberg::{self, Change, Definition};
use lacus::format::{ColumnMetrics, WrittenFile};
use lacus::runtime::memory::Grain;
use lacus::scan::FilesTable;
use lacus::storage::Location;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use rig::{Result, Settings, median};

const TABLES: usize = 10_000;
const COMMITS: u64 = 100_000;
const FILES: i64 = 100_000;
const COLUMNS: usize = 10;
const LATENCY: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let settings = Settings::read()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(settings.threads).enable_all().build()?;
    if settings.selects("open") {
        let lake = runtime.block_on(written_lake())?;
        for latency in [Duration::ZERO, LATENCY] {
            let runs = (0..settings.runs).map(|_| runtime.block_on(open(&lake, latency)));
            let ms = median(runs.collect::<Result<_>>()?);
            println!("open {TABLES} tables, {COMMITS} commits, {latency:?} a request: {ms:.0} ms");
        }
    }
    if settings.selects("plan") {
        runtime.block_on(plan(&settings))?;
    }
    Ok(())
}

fn location(store: Arc<dyn ObjectStore>) -> Result<Location> {
    Ok(Location {
        url: "memory:///".to_owned(),
        store,
        store_url: ObjectStoreUrl::parse("lacus://scale")?,
        prefix: Path::from("scale"),
    })
}

/// The last checkpoints and entries of a lake that saw so many commits: no others are read.
async fn written_lake() -> Result<Arc<InMemory>> {
    let store = Arc::new(InMemory::new());
    let lake = Lake::new("lake".to_owned(), location(Arc::clone(&store) as _)?, None, false, 1);
    let put = |number: usize| Operation::PutTable {
        schema: format!("schema{}", number % 20),
        name: format!("table{number}"),
        table: TableRecord {
            materialized: None,
            id: format!("{number:08}-4c52-4b8e-9d5b-2f8f6c1d7a10"),
            directory: format!("_lacus/tables/schema.table{number}-4c524b8e"),
            metadata: format!(
                "_lacus/tables/schema.table{number}-4c524b8e/metadata/00007-{number:08}.metadata.json"
            ),
            comment: None,
            rows: None,
        },
    };
    let mut state = LakeState::default();
    (0..TABLES).for_each(|number| state.change(&put(number)));
    state.version = COMMITS / 64 * 64 - 1;
    for version in state.version + 1..=COMMITS {
        let entry = LogEntry {
            version,
            transaction: version.to_string(),
            time_ms: version as i64,
            writer: "bench".to_owned(),
            user: "ada".to_owned(),
            query: version.to_string(),
            operations: vec![put(version as usize % TABLES)],
            deps: Vec::new(),
            members: Vec::new(),
        };
        lake.put(&entry).await?;
        state.apply(&entry);
        lake.checkpoint(&state).await;
    }
    Ok(store)
}

/// Milliseconds until a process that has seen nothing yet knows the lake's state.
async fn open(store: &Arc<InMemory>, latency: Duration) -> Result<f64> {
    let wait = ThrottleConfig {
        wait_get_per_call: latency,
        wait_list_with_delimiter_per_call: latency,
        ..ThrottleConfig::default()
    };
    let store = ThrottledStore::new(Arc::clone(store), wait);
    let lake = Lake::new("lake".to_owned(), location(Arc::new(store))?, None, false, 1);
    let began = Instant::now();
    let state = lake.refresh().await?;
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    assert_eq!((state.version, state.tables().count()), (COMMITS, TABLES));
    Ok(ms)
}

/// Plans `SELECT * … WHERE id = …` over files that each hold other ids.
async fn plan(settings: &Settings) -> Result<()> {
    let location = location(Arc::new(InMemory::new()))?;
    let directory = location.child("_lacus/tables/mart.t-1a2b3c4d");
    let mut fields = vec![Field::new("id", DataType::Int64, true)];
    fields.extend((1..COLUMNS).map(|number| Field::new(format!("c{number}"), DataType::Int64, true)));
    let create = Change::Create(Definition {
        schema: Arc::new(Schema::new(fields)),
        partition: Vec::new(),
        properties: BTreeMap::new(),
        comment: None,
    });
    let files = (0..FILES).map(|number| file(&directory, number)).collect();
    let began = Instant::now();
    let staged = iceberg::stage(&location, &directory, None, vec![create, Change::Append(files)]).await?;
    println!("stage {FILES} files: {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    let state = base_state(Grain::of(8 << 30, settings.threads), Arc::new(RuntimeEnv::default()));
    let context = SessionContext::new_with_state(state);
    let (mut listed, mut planned) = (Vec::new(), Vec::new());
    for run in 0..=settings.runs {
        let began = Instant::now();
        let snapshot = Arc::new(iceberg::snapshot(&location, &staged.metadata, None).await?);
        let listing_ms = began.elapsed().as_secs_f64() * 1000.0;
        let began = Instant::now();
        let table = Arc::new(FilesTable::new(snapshot));
        let query = context.read_table(table)?.filter(col("id").eq(lit(77_777_i64)))?;
        let plan = query.create_physical_plan().await?;
        let planning_ms = began.elapsed().as_secs_f64() * 1000.0;
        let text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
        let (files, right) = (text.matches(".parquet").count(), text.matches("-00007777.parquet").count());
        assert!(files > 0 && files == right, "{text}");
        match run {
            0 => println!("list and plan, cold: {listing_ms:.0} ms, {planning_ms:.0} ms"),
            _ => {
                listed.push(listing_ms);
                planned.push(planning_ms);
            }
        }
    }
    println!("list and plan, warm: {:.0} ms, {:.0} ms", median(listed), median(planned));
    Ok(())
}

fn file(directory: &Path, number: i64) -> WrittenFile {
    let column = |_| ColumnMetrics {
        size_bytes: 1000,
        value_count: 1000,
        null_count: 0,
        lower: Some(ScalarValue::Int64(Some(number * 10))),
        upper: Some(ScalarValue::Int64(Some(number * 10 + 9))),
    };
    WrittenFile {
        path: directory.clone().join("data").join(format!("20261127_000000_00000-{number:08}.parquet")),
        size_bytes: 1 << 20,
        row_count: 1000,
        partition: Vec::new(),
        columns: (0..COLUMNS).map(column).collect(),
        split_offsets: vec![4],
    }
}
