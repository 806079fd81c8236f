//! CTAS: the join of orders and lineitem as Parquet files, beside plain DataFusion and DuckDB.
//!
//!     cargo bench --bench ctas                 one heap, and 84 monthly partitions, at scale factor 1
//!     cargo bench --bench ctas -- monthly      only the partitions
//!
//! Lacus is its sink here, under the same DataFusion plan over the same files as plain DataFusion's
//! `COPY`; DuckDB runs its own `COPY`. Each write is a process of its own, so that its peak of memory is
//! its own; the contestants take turns. A time is from the text of the statement to the last file being
//! complete. Each writes 25 columns, zstd as it comes (DuckDB and DataFusion level 3, Lacus level 1).
//! Settings: see `rig`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

mod rig;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use lacus::format::partition::Transform;
use lacus::sink::{WriteOptions, run_write, write_plan};
use lacus::storage::{StoreOptions, Stores};
use rig::{Result, Settings, data, median, process};
use tokio::runtime::Runtime;

/// The daemon's allocator, for both contestants that are linked in here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DUCKDB: &str = include_str!("rig/ctas_duckdb.py");
const JOIN: &str = "lineitem JOIN orders ON l_orderkey = o_orderkey";
const LAYOUTS: [&str; 2] = ["unpartitioned", "monthly"];
const CONTESTANTS: [&str; 3] = ["lacus", "datafusion", "duckdb"];

/// How one write went.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    seconds: f64,
    rows: u64,
    bytes: u64,
    files: u64,
    peak_bytes: u64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, tables, output, threads, layout] = arguments.as_slice()
        && let Some(contestant) = word.strip_prefix("write-with-")
    {
        return write_once(contestant, Path::new(tables), Path::new(output), threads.parse()?, layout);
    }
    let settings = Settings::read()?;
    let root = Runtime::new()?.block_on(data::prepare(&settings))?;
    println!("{:14}{:12}{:>9}{:>8}{:>10}{:>8}{:>9}", "", "", "seconds", "ratio", "MB peak", "files", "MB");
    for layout in LAYOUTS.into_iter().filter(|layout| settings.selects(layout)) {
        let outcomes = race(&settings, &root, layout)?;
        print_medians(layout, &outcomes);
    }
    Ok(())
}

/// Lets the contestants take turns; those that cannot take part are left out.
fn race(settings: &Settings, root: &Path, layout: &str) -> Result<Vec<(&'static str, Vec<Outcome>)>> {
    let mut outcomes: Vec<(&str, Vec<Outcome>)> = CONTESTANTS.map(|name| (name, Vec::new())).into();
    for run in 0..settings.runs {
        for (name, outcomes) in &mut outcomes {
            if run > 0 && outcomes.is_empty() {
                continue;
            }
            match turn(name, settings, root, layout) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) if *name == "duckdb" && run == 0 => {
                    eprintln!("without DuckDB ({error}); LACUS_BENCH_PYTHON names a Python that has it");
                }
                Err(error) => return Err(error),
            }
        }
    }
    outcomes.retain(|(_, outcomes)| !outcomes.is_empty());
    let rows = outcomes[0].1[0].rows;
    assert!(
        outcomes.iter().flat_map(|(_, outcomes)| outcomes).all(|outcome| outcome.rows == rows),
        "the contestants wrote different numbers of rows: {outcomes:?}"
    );
    Ok(outcomes)
}

/// Runs one write in a process of its own, and removes its files.
fn turn(contestant: &str, settings: &Settings, root: &Path, layout: &str) -> Result<Outcome> {
    let output = settings.data.join(format!("ctas-{}", std::process::id()));
    std::fs::create_dir_all(&output)?;
    let mut command = match contestant {
        "duckdb" => {
            let mut python = Command::new(&settings.python);
            python.args(["-c", DUCKDB]);
            python
        }
        _ => {
            let mut child = Command::new(std::env::current_exe()?);
            child.arg(format!("write-with-{contestant}"));
            child
        }
    };
    command.arg(root.join(data::SCHEMA)).arg(&output).arg(settings.threads.to_string()).arg(layout);
    let ended = command.stderr(std::process::Stdio::inherit()).output();
    std::fs::remove_dir_all(&output)?;
    let ended = ended?;
    if !ended.status.success() {
        return Err(format!("{contestant} failed: {}", ended.status).into());
    }
    Outcome::parse(&String::from_utf8(ended.stdout)?)
}

impl Outcome {
    fn parse(line: &str) -> Result<Self> {
        let [seconds, rows, bytes, files, peak_bytes] =
            <[&str; 5]>::try_from(line.split_whitespace().collect::<Vec<_>>())
                .map_err(|_| format!("cannot read \"{line}\""))?;
        Ok(Self {
            seconds: seconds.parse()?,
            rows: rows.parse()?,
            bytes: bytes.parse()?,
            files: files.parse()?,
            peak_bytes: peak_bytes.parse()?,
        })
    }
}

fn print_medians(layout: &str, outcomes: &[(&str, Vec<Outcome>)]) {
    let of = |outcomes: &[Outcome], value: fn(&Outcome) -> f64| median(outcomes.iter().map(value).collect());
    let first = of(&outcomes[0].1, |outcome| outcome.seconds);
    for (name, outcomes) in outcomes {
        let seconds = of(outcomes, |outcome| outcome.seconds);
        println!(
            "{layout:14}{name:12}{seconds:9.2}{:8.2}{:10.0}{:8.0}{:9.0}",
            seconds / first,
            process::megabytes(of(outcomes, |outcome| outcome.peak_bytes as f64) as u64),
            of(outcomes, |outcome| outcome.files as f64),
            process::megabytes(of(outcomes, |outcome| outcome.bytes as f64) as u64),
        );
    }
}

/// The child: writes once and prints the outcome.
fn write_once(contestant: &str, tables: &Path, output: &Path, threads: usize, layout: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let (seconds, rows) = runtime.block_on(async {
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
        for table in ["orders", "lineitem"] {
            let folder = tables.join(table).display().to_string();
            session.register_parquet(table, folder, ParquetReadOptions::default()).await?;
        }
        let began = Instant::now();
        let rows = match contestant {
            "lacus" => write_with_lacus(&session, output, layout).await?,
            _ => write_with_datafusion(&session, output, layout).await?,
        };
        Ok::<_, Box<dyn std::error::Error>>((began.elapsed().as_secs_f64(), rows))
    })?;
    let files = parquet_files(output)?;
    let bytes = files.iter().map(|file| Ok(std::fs::metadata(file)?.len())).sum::<Result<u64>>()?;
    let peak = process::resident_peak_bytes(std::process::id())?;
    println!("{seconds} {rows} {bytes} {} {peak}", files.len());
    Ok(())
}

async fn write_with_lacus(session: &SessionContext, output: &Path, layout: &str) -> Result<u64> {
    let stores = Stores::new(tokio::runtime::Handle::current(), 64);
    let root = format!("{}/", output.display());
    let location = stores.open(&root, output, &StoreOptions::default(), &session.runtime_env())?;
    let input = session.sql(&format!("SELECT * FROM {JOIN}")).await?.create_physical_plan().await?;
    let directory = location.child("data");
    let mut options = WriteOptions::new(location, directory, input.schema());
    if layout == "monthly" {
        options.partition = vec![Transform::parse_sql("months", &["o_orderdate"])?];
    }
    let files = run_write(write_plan(Arc::clone(&input), options)?, session.task_ctx()).await?;
    if std::env::var_os("LACUS_BENCH_PLAN").is_some() {
        eprintln!("{}", datafusion::physical_plan::displayable(input.as_ref()).indent(false));
    }
    Ok(files.iter().map(|file| file.row_count).sum())
}

async fn write_with_datafusion(session: &SessionContext, output: &Path, layout: &str) -> Result<u64> {
    let output = output.display();
    let copy = match layout {
        "monthly" => format!(
            "COPY (SELECT *, CAST(date_trunc('month', o_orderdate) AS DATE) AS o_month FROM {JOIN}) \
             TO '{output}/' STORED AS PARQUET PARTITIONED BY (o_month)"
        ),
        _ => format!("COPY (SELECT * FROM {JOIN}) TO '{output}/' STORED AS PARQUET"),
    };
    let counts = session.sql(&copy).await?.collect().await?;
    let count = datafusion::common::ScalarValue::try_from_array(counts[0].column(0), 0)?;
    Ok(count.to_string().parse()?)
}

fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(parquet_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    Ok(files)
}
