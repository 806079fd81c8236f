//! MERGE: 1 % of a table's rows, changed and added, beside DuckDB doing the same.
//!
//!     cargo bench --bench merge                both layouts, 10 million rows
//!     cargo bench --bench merge -- spread      one of them
//!
//! The source has one row for every hundred of the target: nine of ten change a row, one adds one. In
//! `spread` the changed rows lie all over the table, so that no file stays as it is; in `recent` they are
//! the last ones, as they are when yesterday's rows are corrected. Lacus merges through the wire, into a
//! managed table on disk; DuckDB into a table of its own, and by writing Parquet files anew with the rows
//! merged. The contestants take turns, each with a fresh target, and must agree on the result. A time is
//! that of the statement, its commit included. `LACUS_BENCH_ROWS` (10,000,000); other settings: see `rig`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

mod rig;

use std::process::{Command, Stdio};
use std::time::Instant;

use rig::daemon::{Daemon, connect, told};
use rig::{Result, Settings, median};
use tokio_postgres::{Client, SimpleQueryMessage};

const DUCKDB: &str = include_str!("rig/merge_duckdb.py");
const LAYOUTS: [&str; 2] = ["spread", "recent"];
const MERGE: &str = "MERGE INTO bench.target USING bench.source ON target.id = source.id \
    WHEN MATCHED THEN UPDATE SET amount = source.amount \
    WHEN NOT MATCHED THEN INSERT (id, amount, name) VALUES (source.id, source.amount, source.name)";

/// How one merge went.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    seconds: f64,
    /// Rows of the result, and the sum of their amounts.
    result: (u64, i64),
}

fn main() -> Result<()> {
    let settings = Settings::read()?;
    let rows: u64 = std::env::var("LACUS_BENCH_ROWS").map_or(Ok(10_000_000), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    println!("MERGE of {} rows into {rows}, seconds (median of {})", rows / 100, settings.runs);
    for layout in LAYOUTS.into_iter().filter(|layout| settings.selects(layout)) {
        let times = runtime.block_on(race(&settings, rows, layout))?;
        let text = times.iter().map(|(name, seconds)| format!("{name} {:.3}", median(seconds.clone())));
        println!("{layout:>8}: {}", text.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

/// The rows of the target, and of the source, as a query that both engines understand.
fn definitions(rows: u64, layout: &str, series: &str) -> (String, String) {
    let target =
        format!("SELECT i AS id, i * 7 % 1000 AS amount, 'customer number ' || i AS name FROM {series}");
    let changed = rows / 1000 * 9;
    let added = rows / 1000;
    let id = match layout {
        "spread" => {
            format!("CASE WHEN i <= {changed} THEN i * {} ELSE i + {rows} END", rows / changed.max(1))
        }
        _ => format!("i + {}", rows - changed),
    };
    let source =
        format!("SELECT {id} AS id, 5000 + i % 10 AS amount, 'a new customer' AS name FROM {series}");
    let numbers = |count: u64| format!("generate_series(1, {count})");
    (target.replace("{n}", &numbers(rows)), source.replace("{n}", &numbers(changed + added)))
}

async fn race(settings: &Settings, rows: u64, layout: &str) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let catalog = tempfile::tempdir()?;
    let root = tempfile::tempdir_in(on_data_disk(settings)?)?;
    std::fs::write(catalog.path().join("lake.toml"), format!("root = {:?}\n", root.path()))?;
    let daemon = Daemon::serve(settings, catalog, &[])?;
    let client = connect(daemon.address, "lake", "lacus").await?;
    client.batch_execute("CREATE SCHEMA bench").await.map_err(told)?;
    let mut times =
        vec![("Lacus", Vec::new()), ("DuckDB's table", Vec::new()), ("DuckDB over Parquet", Vec::new())];
    for run in 0..settings.runs {
        let own = merge(&client, rows, layout).await?;
        times[0].1.push(own.seconds);
        for (at, how) in ["table", "parquet"].into_iter().enumerate() {
            if run > 0 && times[at + 1].1.is_empty() {
                continue;
            }
            match duckdb(settings, how, rows, layout) {
                Ok(other) if other.result == own.result => times[at + 1].1.push(other.seconds),
                Ok(other) => {
                    return Err(format!("{:?} here, {:?} in DuckDB", own.result, other.result).into());
                }
                Err(error) if run == 0 => {
                    eprintln!("without DuckDB ({error}); LACUS_BENCH_PYTHON names a Python that has it");
                }
                Err(error) => return Err(error),
            }
        }
    }
    times.retain(|(_, seconds)| !seconds.is_empty());
    Ok(times)
}

/// Where the lake and DuckDB's files lie: on the disk of the benchmarks' data.
fn on_data_disk(settings: &Settings) -> Result<&std::path::Path> {
    std::fs::create_dir_all(&settings.data)?;
    Ok(&settings.data)
}

/// Lacus's turn, with a fresh target.
async fn merge(client: &Client, rows: u64, layout: &str) -> Result<Outcome> {
    let (target, source) = definitions(rows, layout, "{n} AS t(i)");
    for (name, query) in [("target", target), ("source", source)] {
        let made = format!("DROP TABLE IF EXISTS bench.{name}; CREATE TABLE bench.{name} AS {query}");
        client.batch_execute(&made).await.map_err(told)?;
    }
    let begin = Instant::now();
    client.batch_execute(MERGE).await.map_err(told)?;
    let seconds = begin.elapsed().as_secs_f64();
    let sums = "SELECT count(*), sum(amount)::bigint FROM bench.target";
    for message in client.simple_query(sums).await.map_err(told)? {
        if let SimpleQueryMessage::Row(row) = message {
            let value = |column| row.get(column).ok_or("a result is null");
            return Ok(Outcome { seconds, result: (value(0)?.parse()?, value(1)?.parse()?) });
        }
    }
    Err("no result".into())
}

/// DuckDB's turn, in a process of its own.
fn duckdb(settings: &Settings, how: &str, rows: u64, layout: &str) -> Result<Outcome> {
    let folder = tempfile::tempdir_in(on_data_disk(settings)?)?;
    let (target, source) = definitions(rows, layout, "{n} AS t(i)");
    let mut python = Command::new(&settings.python);
    python.args(["-c", DUCKDB, how, &target, &source]).arg(folder.path()).arg(settings.threads.to_string());
    let ended = python.stderr(Stdio::inherit()).output()?;
    if !ended.status.success() {
        return Err(format!("DuckDB failed: {}", ended.status).into());
    }
    let text = String::from_utf8(ended.stdout)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [seconds, count, sum] = words[..] else { return Err(format!("cannot read \"{text}\"").into()) };
    Ok(Outcome { seconds: seconds.parse()?, result: (count.parse()?, sum.parse()?) })
}
