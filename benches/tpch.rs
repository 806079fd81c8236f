//! TPC-H: 22 queries through the wire, beside plain DataFusion and DuckDB on the same files.
//!
//!     cargo bench --bench tpch               all queries, at scale factor 1
//!     cargo bench --bench tpch -- 17 18      two of them
//!     cargo bench --bench tpch -- data       writes the data and stops
//!
//! Each contestant is a process of its own with the same number of threads. They take turns at each
//! query: one cold run each, then the hot ones. A time is from the text leaving to the last row being
//! read. The number of rows has to be the same for all. Settings: see `rig`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

mod rig;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use lacus::catalog::tpch::TABLES;
use rig::daemon::{self, Daemon};
use rig::{Result, Settings, data, median, process};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, SimpleQueryMessage};

const DUCKDB: &str = include_str!("rig/tpch_duckdb.py");

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, root, threads] = arguments.as_slice()
        && word == "answer-with-datafusion"
    {
        return answer_with_datafusion(Path::new(root), threads.parse()?);
    }
    let settings = Settings::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let root = runtime.block_on(data::prepare(&settings))?;
    if settings.selected.iter().any(|word| word == "data") {
        eprintln!("the data is in {}", root.display());
        return Ok(());
    }
    let queries: Vec<usize> = (1..=22).filter(|number| settings.selects(&number.to_string())).collect();
    let mut contestants = contestants(&settings, &root, runtime)?;
    let medians = race(&settings, &queries, &mut contestants)?;
    print_medians(&settings, &queries, &contestants, &medians)
}

fn contestants(settings: &Settings, root: &Path, runtime: Runtime) -> Result<Vec<Box<dyn Contestant>>> {
    let daemon = Daemon::start(settings, root)?;
    let client = runtime.block_on(daemon.connect())?;
    let mut all: Vec<Box<dyn Contestant>> = vec![Box::new(Wire { daemon, client, runtime })];
    let threads = settings.threads.to_string();
    let mut datafusion = Command::new(std::env::current_exe()?);
    datafusion.arg("answer-with-datafusion").arg(root).arg(&threads);
    all.push(Box::new(Piped::start("datafusion", datafusion)?));
    let mut duckdb = Command::new(&settings.python);
    duckdb.args(["-c", DUCKDB]).arg(root.join(data::SCHEMA)).arg(&threads);
    match Piped::start("duckdb", duckdb) {
        Ok(duckdb) => all.push(Box::new(duckdb)),
        Err(error) => eprintln!("without DuckDB ({error}); LACUS_BENCH_PYTHON names a Python that has it"),
    }
    Ok(all)
}

/// One engine in the race.
trait Contestant {
    fn name(&self) -> &'static str;
    fn pid(&self) -> u32;
    /// Runs a query and reads all its rows; returns their number.
    fn answer(&mut self, sql: &str) -> Result<usize>;
}

/// Lacus, through a Postgres connection.
struct Wire {
    daemon: Daemon,
    client: Client,
    runtime: Runtime,
}

impl Contestant for Wire {
    fn name(&self) -> &'static str {
        "lacus"
    }

    fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    fn answer(&mut self, sql: &str) -> Result<usize> {
        let messages = self.runtime.block_on(self.client.simple_query(sql)).map_err(daemon::told)?;
        Ok(messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count())
    }
}

/// A child that reads a query a line and answers with the number of its rows.
struct Piped {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Piped {
    fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("stdin was asked for")?;
        let output = BufReader::new(child.stdout.take().ok_or("stdout was asked for")?);
        let mut piped = Self { name, child, input, output };
        match piped.line()?.as_str() {
            "ready" => Ok(piped),
            other => Err(format!("{name} does not start: \"{other}\"").into()),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Contestant for Piped {
    fn name(&self) -> &'static str {
        self.name
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn answer(&mut self, sql: &str) -> Result<usize> {
        writeln!(self.input, "{}", one_line(sql))?;
        let answer = self.line()?;
        answer.parse().map_err(|_| format!("{}: {answer}", self.name).into())
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // Either may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A query without comments and line ends.
fn one_line(sql: &str) -> String {
    let lines = sql.lines().filter(|line| !line.starts_with("--"));
    lines.collect::<Vec<_>>().join(" ").trim_end_matches(';').to_owned()
}

/// Runs every query by every contestant, in turns. Returns medians in milliseconds, a row a query.
fn race(
    settings: &Settings,
    queries: &[usize],
    contestants: &mut [Box<dyn Contestant>],
) -> Result<Vec<Vec<f64>>> {
    let mut medians = Vec::new();
    for &number in queries {
        let sql = one_line(&data::query(number)?);
        let mut times = vec![Vec::new(); contestants.len()];
        for run in 0..=settings.runs.max(1) {
            let mut rows = Vec::new();
            // Each comes first as often as the others: what ran before leaves its traces in the caches.
            for turn in 0..contestants.len() {
                let index = (run + turn) % contestants.len();
                let begin = Instant::now();
                let answer = contestants[index].answer(&sql);
                rows.push(answer.map_err(|error| format!("query {number}: {error}"))?);
                if run > 0 {
                    times[index].push(begin.elapsed().as_secs_f64() * 1e3);
                }
            }
            if rows.iter().any(|count| *count != rows[0]) {
                return Err(format!("query {number}: the contestants disagree, rows {rows:?}").into());
            }
        }
        medians.push(times.into_iter().map(median).collect());
    }
    Ok(medians)
}

fn print_medians(
    settings: &Settings,
    queries: &[usize],
    contestants: &[Box<dyn Contestant>],
    medians: &[Vec<f64>],
) -> Result<()> {
    let Settings { scale_factor, threads, runs, .. } = settings;
    println!("\nTPC-H, scale factor {scale_factor}, {threads} threads, median of {runs} hot runs, ms");
    print!("{:>6}", "query");
    contestants.iter().for_each(|contestant| print!("{:>12}", contestant.name()));
    contestants[1..].iter().for_each(|other| print!("{:>15}", format!("/ {}", other.name())));
    println!();
    let line = |label: &str, times: &[f64]| {
        print!("{label:>6}");
        times.iter().for_each(|time| print!("{time:>12.1}"));
        times[1..].iter().for_each(|other| print!("{:>15.2}", times[0] / other));
        println!();
    };
    for (number, times) in queries.iter().zip(medians) {
        line(&number.to_string(), times);
    }
    let total = |contestant: usize| medians.iter().map(|times| times[contestant]).sum();
    line("total", &(0..contestants.len()).map(total).collect::<Vec<f64>>());
    print!("{:>6}", "MB");
    for contestant in contestants {
        print!("{:>12.0}", process::megabytes(process::resident_peak_bytes(contestant.pid())?));
    }
    println!("  (peak resident memory)");
    Ok(())
}

/// The contestant `datafusion`: as it comes, with listing tables over the same files.
fn answer_with_datafusion(root: &Path, threads: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let context =
            SessionContext::new_with_config(SessionConfig::from_env()?.with_target_partitions(threads));
        for name in TABLES {
            let folder = root.join(data::SCHEMA).join(name);
            let folder = format!("{}/", folder.to_str().ok_or("the path is not UTF-8")?);
            context.register_parquet(name, folder, ParquetReadOptions::default()).await?;
        }
        println!("ready");
        for sql in std::io::stdin().lines() {
            match count_rows(&context, &sql?).await {
                Ok(rows) => println!("{rows}"),
                Err(error) => println!("{}", error.to_string().replace('\n', " ")),
            }
        }
        Ok(())
    })
}

async fn count_rows(context: &SessionContext, sql: &str) -> Result<usize> {
    let mut batches = context.sql(sql).await?.execute_stream().await?;
    let mut rows = 0;
    while let Some(batch) = batches.next().await.transpose()? {
        rows += batch.num_rows();
    }
    Ok(rows)
}
