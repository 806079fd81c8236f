//! Clients: what one waits for, and what the server spends on it, beside PostgreSQL 15.
//!
//!     cargo bench --bench clients                    all parts
//!     cargo bench --bench clients -- select1 cold    two of them
//!
//! Parts: `select1` (latency of a prepared statement, 1 and 16 connections), `lookup` (one row by its
//! key, of a table of 1.5 million), `encode` (server CPU of sending all of lineitem, as text and binary,
//! by SELECT and by COPY, and of taking it by COPY), `cold` (start to the first row), `idle` (memory,
//! also of a thousand connections) and `slow` (memory while a slow client reads ten million rows).
//! PostgreSQL runs where Debian's package
//! is installed, as a private cluster. Settings: see `rig`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

mod rig;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rig::daemon::{Daemon, connect};
use rig::postgres::Postgres;
use rig::{Result, Settings, data, median, process};

/// Formats of COPY TO; the last is not PostgreSQL's.
const COPY_FORMATS: [&str; 4] = ["text", "csv", "binary", "arrow"];
/// Seconds of `SELECT 1` with one number of connections.
const SELECT_SECONDS: u64 = 5;
const SELECT_1: &str = "SELECT 1;\n";
/// Three of four keys have no order, as TPC-H has it.
const LOOKUP: &str = "\\set key random(1, 6000000)\nSELECT * FROM bench.orders WHERE o_orderkey = :key;\n";
const IDLE_CONNECTIONS: usize = 1_000;
/// A backend's time counts when the postmaster has seen it end.
const SETTLE: Duration = Duration::from_millis(500);
const SLOW_ROWS: usize = 10_000_000;
const SLOW_LIMIT: Duration = Duration::from_secs(180);
/// How much the slow client reads before it sleeps for [`SLOW_PAUSE`]: 25 MB a second at most.
const SLOW_BYTES: usize = 512 * 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(20);

const BINARY_CLIENT: &str = "
import sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    with connection.cursor(binary=True) as cursor:
        cursor.execute(sys.argv[2])
        print(cursor.rowcount)
";

fn main() -> Result<()> {
    let settings = Settings::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let root = data::prepare(&settings).await?;
        if settings.selects("select1") {
            select1(&settings, &root).await?;
        }
        if settings.selects("lookup") {
            lookup(&settings).await?;
        }
        if settings.selects("encode") {
            encode(&settings, &root)?;
        }
        if settings.selects("cold") {
            cold(&settings, &root).await?;
        }
        if settings.selects("idle") {
            idle(&settings, &root).await?;
        }
        if settings.selects("slow") {
            slow(&settings, &root)?;
        }
        Ok(())
    })
}

/// Latency of a prepared `SELECT 1`.
async fn select1(settings: &Settings, root: &Path) -> Result<()> {
    println!("\nprepared SELECT 1, {SELECT_SECONDS} s each");
    let daemon = Daemon::start(settings, root)?;
    latency("lacus", daemon.address, "lake").await?;
    pgbench("lacus", daemon.address, "lake", SELECT_1)?;
    drop(daemon);
    match Postgres::start()? {
        Some(postgres) => {
            latency("postgresql", postgres.address, "postgres").await?;
            pgbench("postgresql", postgres.address, "postgres", SELECT_1)
        }
        None => note_no_postgres(),
    }
}

async fn latency(name: &str, address: SocketAddr, database: &str) -> Result<()> {
    let client = connect(address, database, "postgres").await?;
    let statement = client.prepare("SELECT 1").await?;
    let mut micros = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(SELECT_SECONDS) {
        let sent = Instant::now();
        client.query_one(&statement, &[]).await?;
        micros.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
    println!("{name:>12}  one connection: median {:.0} us, 99 % {:.0} us", at(0.5), at(0.99));
    Ok(())
}

/// One row by its key.
async fn lookup(settings: &Settings) -> Result<()> {
    println!("\nan order by its key, of 1.5 million, {SELECT_SECONDS} s each");
    let (catalog, root) = (tempfile::tempdir()?, tempfile::tempdir()?);
    std::fs::write(catalog.path().join("lake.toml"), format!("root = {:?}\n", root.path()))?;
    std::fs::write(catalog.path().join("tpch.toml"), "connector = \"tpch\"\n")?;
    let daemon = Daemon::serve(settings, catalog, &[])?;
    let client = connect(daemon.address, "lake", "postgres").await?;
    let load = "CREATE SCHEMA bench; \
        CREATE TABLE bench.orders AS SELECT * FROM tpch.sf1.orders ORDER BY o_orderkey";
    client.batch_execute(load).await.map_err(rig::daemon::told)?;
    pgbench("lacus", daemon.address, "lake", LOOKUP)?;
    drop(daemon);
    match Postgres::start()? {
        Some(postgres) => {
            postgres.load_orders(1.0)?;
            pgbench("postgresql", postgres.address, "postgres", LOOKUP)
        }
        None => note_no_postgres(),
    }
}

/// The rates that pgbench reaches with a script, where it is installed.
fn pgbench(name: &str, address: SocketAddr, database: &str, sql: &str) -> Result<()> {
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(script.path(), sql)?;
    for (mode, connections) in [("prepared", "1"), ("prepared", "16"), ("extended", "16"), ("simple", "16")] {
        let mut pgbench = Command::new("pgbench");
        pgbench.args(["-n", "-M", mode, "-j", "1", "-c", connections, "-h", "127.0.0.1"]);
        pgbench.args(["-T", &SELECT_SECONDS.to_string(), "-p", &address.port().to_string()]);
        let Ok(output) = pgbench.args(["-U", "postgres", "-f"]).arg(script.path()).arg(database).output()
        else {
            println!("{name:>12}  pgbench is not installed");
            return Ok(());
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find(|line| line.starts_with("tps = "));
        match (output.status.success(), rate) {
            (true, Some(rate)) => {
                println!("{name:>12}  pgbench -M {mode:<8} {connections:>2} connections: {rate}");
            }
            _ => return Err(format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
    Ok(())
}

/// Processor time that a server spends on sending all of lineitem.
fn encode(settings: &Settings, root: &Path) -> Result<()> {
    println!("\nSELECT * FROM lineitem, scale factor {}: server CPU", settings.scale_factor);
    let daemon = Daemon::start(settings, root)?;
    let table = format!("{}.lineitem", data::SCHEMA);
    // Once for the caches of footers, as PostgreSQL's table is cached by its load.
    read_as_text(daemon.address, "lake", &format!("SELECT count(l_comment) FROM {table}"))?;
    measure_encoding(settings, "lacus", daemon.pid(), daemon.address, "lake", &table)?;
    drop(daemon);
    match Postgres::start()? {
        Some(postgres) => {
            postgres.load_lineitem(settings.scale_factor)?;
            let pid = postgres.pid()?;
            measure_encoding(settings, "postgresql", pid, postgres.address, "postgres", "lineitem")
        }
        None => note_no_postgres(),
    }
}

fn measure_encoding(
    settings: &Settings,
    name: &str,
    pid: u32,
    address: SocketAddr,
    database: &str,
    table: &str,
) -> Result<()> {
    let sql = format!("SELECT * FROM {table}");
    let measured = |format: &str, read: &dyn Fn() -> Result<()>| -> Result<()> {
        std::thread::sleep(SETTLE);
        let (before, begin) = (process::processor_time(pid)?, Instant::now());
        read()?;
        let elapsed = begin.elapsed().as_secs_f64();
        std::thread::sleep(SETTLE);
        let spent = (process::processor_time(pid)? - before).as_secs_f64();
        println!("{name:>12}  {format:<16} {spent:>6.2} s CPU, {elapsed:>6.2} s elapsed");
        Ok(())
    };
    measured("text, psql", &|| read_as_text(address, database, &sql))?;
    let sql = sql.as_str();
    if let Err(error) =
        measured("binary, psycopg", &|| read_as_binary(&settings.python, address, database, sql))
    {
        println!("{name:>12}  binary: {error}; LACUS_BENCH_PYTHON names a Python that has psycopg");
    }
    for format in COPY_FORMATS.iter().filter(|format| name == "lacus" || **format != "arrow") {
        let sql = format!("COPY {table} TO STDOUT (FORMAT {format})");
        measured(&format!("COPY TO, {format}"), &|| read_as_text(address, database, &sql))?;
    }
    // psql takes what it sends from a pipe, so that neither disk nor its own reader counts.
    for format in ["text", "csv", "binary"] {
        let taken = format!("CREATE TABLE {table}_{format} AS SELECT * FROM {table} LIMIT 0");
        read_as_text(address, database, &taken)?;
        let out = format!("COPY {table} TO STDOUT (FORMAT {format})");
        let into = format!("COPY {table}_{format} FROM STDIN (FORMAT {format})");
        measured(&format!("COPY both ways, {format}"), &|| pipe(address, database, &out, &into))?;
    }
    Ok(())
}

/// Pipes what one psql gets into what another one sends.
fn pipe(address: SocketAddr, database: &str, out: &str, into: &str) -> Result<()> {
    let mut from = psql(address, database, out).stdout(Stdio::piped()).spawn()?;
    let rows = from.stdout.take().ok_or("stdout was asked for")?;
    let status = psql(address, database, into).stdin(rows).status()?;
    match (from.wait()?.success(), status.success()) {
        (true, true) => Ok(()),
        _ => Err(format!("psql cannot pipe {out}").into()),
    }
}

fn read_as_text(address: SocketAddr, database: &str, sql: &str) -> Result<()> {
    let status = psql(address, database, sql).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("psql ended with {status}").into()) }
}

fn psql(address: SocketAddr, database: &str, sql: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "postgres", "-d", database, "-c", sql]);
    psql.args(["-p", &address.port().to_string()]);
    psql
}

fn read_as_binary(python: &str, address: SocketAddr, database: &str, sql: &str) -> Result<()> {
    let target = format!("host=127.0.0.1 port={} user=postgres dbname={database}", address.port());
    let mut command = Command::new(python);
    let status = command.args(["-c", BINARY_CLIENT, &target, sql]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{python} ended with {status}").into()) }
}

/// From the start of the process to the first row of a count.
async fn cold(settings: &Settings, root: &Path) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..settings.runs.max(1) {
        let begin = Instant::now();
        let daemon = Daemon::start(settings, root)?;
        let client = connect(daemon.address, "lake", "postgres").await?;
        let row = client.query_one(&format!("SELECT count(*) FROM {}.lineitem", data::SCHEMA), &[]).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        assert!(row.get::<_, i64>(0) > 0, "lineitem has rows");
    }
    println!(
        "\ncold start to the first row of count(*): median {:.0} ms of {}",
        median(times),
        settings.runs
    );
    Ok(())
}

/// Memory of a daemon that has answered one statement, and of connections that do nothing.
async fn idle(settings: &Settings, root: &Path) -> Result<()> {
    let daemon = Daemon::start(settings, root)?;
    daemon.connect().await?.query_one("SELECT 1", &[]).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("\nidle: {:.0} MB resident", process::megabytes(process::resident_bytes(daemon.pid())?));
    drop(daemon);
    let catalog = tempfile::tempdir()?;
    std::fs::write(catalog.path().join("tpch.toml"), "connector = \"tpch\"\n")?;
    let most = (2 * IDLE_CONNECTIONS).to_string();
    let daemon = Daemon::serve(settings, catalog, &["--connections-max", &most])?;
    let mut clients = Vec::new();
    // The first ones warm up what all share.
    for _ in 0..50 {
        clients.push(connect(daemon.address, "tpch", "postgres").await?);
    }
    let before = idle_bytes(&daemon).await?;
    for _ in 0..IDLE_CONNECTIONS {
        clients.push(connect(daemon.address, "tpch", "postgres").await?);
    }
    let kilobytes = |bytes: u64| bytes as f64 / 1024.0 / IDLE_CONNECTIONS as f64;
    println!("an idle connection: {:.0} kB", kilobytes(idle_bytes(&daemon).await?.saturating_sub(before)));
    for client in &clients {
        client.query("SELECT 1", &[]).await?;
    }
    println!("one that was used: {:.0} kB", kilobytes(idle_bytes(&daemon).await?.saturating_sub(before)));
    Ok(())
}

/// Memory once the connections have been idle for long enough to be parked.
async fn idle_bytes(daemon: &Daemon) -> Result<u64> {
    tokio::time::sleep(Duration::from_secs(5)).await;
    process::resident_bytes(daemon.pid())
}

/// Memory while a client that reads slowly is sent ten million rows.
fn slow(settings: &Settings, root: &Path) -> Result<()> {
    let daemon = Daemon::start(settings, root)?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = process::resident_bytes(daemon.pid())?;
    let lineitem = format!("SELECT * FROM {}.lineitem", data::SCHEMA);
    let copies = vec![lineitem; SLOW_ROWS / (6_000_000.0 * settings.scale_factor).max(1.0) as usize + 1];
    let sql = format!("{} LIMIT {SLOW_ROWS}", copies.join(" UNION ALL "));
    let mut reader = SlowReader::start(daemon.address, &sql)?;
    let (mut peak, begin) = (idle, Instant::now());
    while reader.step()? && begin.elapsed() < SLOW_LIMIT {
        peak = peak.max(process::resident_bytes(daemon.pid())?);
        std::thread::sleep(SLOW_PAUSE);
    }
    println!(
        "\nslow client: {} rows in {:.0} s, idle {:.0} MB, peak {:.0} MB (+{:.0})",
        reader.rows,
        begin.elapsed().as_secs_f64(),
        process::megabytes(idle),
        process::megabytes(peak),
        process::megabytes(peak - idle)
    );
    Ok(())
}

/// A client that counts rows as they come, no faster than it wants to, and keeps nothing.
struct SlowReader {
    stream: TcpStream,
    /// What came and is not a whole message yet.
    rest: Vec<u8>,
    rows: usize,
}

impl SlowReader {
    fn start(address: SocketAddr, sql: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        startup.extend_from_slice(b"user\0postgres\0database\0lake\0\0");
        stream.write_all(&(startup.len() as u32 + 4).to_be_bytes())?;
        stream.write_all(&startup)?;
        stream.write_all(b"Q")?;
        stream.write_all(&(sql.len() as u32 + 5).to_be_bytes())?;
        stream.write_all(sql.as_bytes())?;
        stream.write_all(b"\0")?;
        Ok(Self { stream, rest: Vec::new(), rows: 0 })
    }

    /// Reads a little; false when the query is complete.
    fn step(&mut self) -> Result<bool> {
        let mut chunk = vec![0; SLOW_BYTES];
        let count = self.stream.read(&mut chunk)?;
        if count == 0 {
            return Err("the server closed the connection".into());
        }
        self.rest.extend_from_slice(&chunk[..count]);
        let mut at = 0;
        while let Some(header) = self.rest.get(at..at + 5) {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            if self.rest.len() < at + 1 + length {
                break;
            }
            match header[0] {
                b'D' => self.rows += 1,
                b'C' => return Ok(false),
                b'E' => return Err(String::from_utf8_lossy(&self.rest[at + 5..at + 1 + length]).into()),
                _ => {}
            }
            at += 1 + length;
        }
        self.rest.drain(..at);
        Ok(true)
    }
}

fn note_no_postgres() -> Result<()> {
    println!("{:>12}  is not installed", "postgresql");
    Ok(())
}
