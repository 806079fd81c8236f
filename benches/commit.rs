//! Commits: how many a second 16 sessions make, when they share entries of the log and when not.
//!
//!     cargo bench --bench commit                 all parts
//!     cargo bench --bench commit -- disk names   one store, one kind of change
//!
//! Stores: `disk` (a local folder), `s3` (the server of the tests, in this process) and `slow` (the same,
//! each request 50 ms later). Changes: `names` (a comment: the log alone), `apart` (a row into a table of
//! the session's own) and `together` (a row into one table). Settings: see `rig`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its result, and panics")]

mod rig;
#[path = "../tests/integration/s3.rs"]
#[allow(dead_code, reason = "the benchmark uses its part")]
mod s3;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rig::daemon::{Daemon, connect, told};
use rig::{Result, Settings};
use s3::{S3Server, S3Target};

const SESSIONS: usize = 16;
const RUN: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    let settings = Settings::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    println!("commits a second of {SESSIONS} sessions: alone, and sharing entries");
    for store in ["disk", "s3", "slow"] {
        for change in ["names", "apart", "together"] {
            let named = |part: &str| settings.selected.iter().any(|word| word == part);
            let stores = ["disk", "s3", "slow"].into_iter().any(named);
            let changes = ["names", "apart", "together"].into_iter().any(named);
            if (stores && !named(store)) || (changes && !named(change)) {
                continue;
            }
            let alone = runtime.block_on(measure(&settings, store, change, "1"))?;
            let shared = runtime.block_on(measure(&settings, store, change, "64"))?;
            println!("{store:>6} {change:>9} {alone:8.1} {shared:8.1}   {:.1} times", shared / alone);
        }
    }
    Ok(())
}

/// Commits a second, in groups of at most `group_max`.
async fn measure(settings: &Settings, store: &str, change: &str, group_max: &str) -> Result<f64> {
    let catalog = tempfile::tempdir()?;
    let root = tempfile::tempdir()?;
    let server = (store != "disk").then(S3Server::start);
    let faults = server.as_ref().map(|server| Arc::clone(&server.faults));
    let target = server.map(S3Target::from);
    let definition = match &target {
        None => format!("root = {:?}\n", root.path()),
        Some(target) => {
            let table = target.write_store_table(catalog.path());
            // Named by their full path, wherever the daemon is started.
            let table = table.replace("\"s3.", &format!("\"{}/s3.", catalog.path().display()));
            format!("root = \"{}\"\n[store]\n{table}", target.root())
        }
    };
    std::fs::write(catalog.path().join("lake.toml"), definition)?;
    let daemon = Daemon::serve(settings, catalog, &["--commit-group-max", group_max])?;
    let client = connect(daemon.address, "lake", "lacus").await?;
    client.batch_execute("CREATE SCHEMA IF NOT EXISTS mart").await.map_err(told)?;
    for table in 0..SESSIONS {
        client.batch_execute(&format!("CREATE TABLE mart.t{table} (n integer)")).await.map_err(told)?;
    }
    if let Some(faults) = faults.filter(|_| store == "slow") {
        faults.delay(SLOW);
    }
    let committed = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..SESSIONS {
        let client = connect(daemon.address, "lake", "lacus").await?;
        let (committed, change) = (Arc::clone(&committed), change.to_owned());
        sessions.spawn(async move {
            let mut n = 0;
            while began.elapsed() < RUN {
                let sql = match change.as_str() {
                    "names" => format!("COMMENT ON TABLE mart.t{session} IS '{n}'"),
                    "apart" => format!("INSERT INTO mart.t{session} VALUES ({n})"),
                    _ => format!("INSERT INTO mart.t0 VALUES ({n})"),
                };
                client.batch_execute(&sql).await.map_err(told)?;
                committed.fetch_add(1, Ordering::Relaxed);
                n += 1;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(ended) = sessions.join_next().await {
        ended??;
    }
    Ok(committed.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}
