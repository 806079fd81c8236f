//! dbt-postgres as it comes from its package, on a project of its own (`tests/dbt`) over the sample lake.
//!
//! `LACUS_TEST_PYTHON` names an interpreter with dbt-core and dbt-postgres; without them, this is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{Catalogs, Daemon, Setup, copy, rows, try_rows};
use crate::faults::number;
use crate::interop::python;

/// What a reader polls while dbt runs, and how many columns each has.
const POLLED: [&str; 9] = [
    "shop_seeds.alliances",
    "shop_staging.stg_flights",
    "shop.daily",
    "shop.carriers_ranked",
    "shop.appended",
    "shop.replaced",
    "shop.merged",
    "shop.batched",
    "shop.busiest",
];

/// A copy of the project, and the daemon that it talks to.
struct Project {
    folder: TempDir,
    port: u16,
}

impl Project {
    fn new(daemon: &Daemon) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dbt"), folder.path());
        Self { folder, port: daemon.address.port() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command of dbt; what it prints is shown when it fails.
    fn run(&self, arguments: &[&str]) {
        let mut command: Command = python().expect("there was an interpreter a moment ago");
        command
            .args(["-c", "from dbt.cli.main import cli; cli()"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("DBT_PROFILES_DIR", self.folder.path())
            .env("LACUS_PORT", self.port.to_string());
        let ran = command.output().expect("the interpreter starts");
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "dbt {arguments:?}\n{out}\n{err}");
    }

    fn artifact(&self, name: &str) -> Value {
        let text = std::fs::read(self.path("target").join(name)).expect("dbt wrote the artifact");
        serde_json::from_slice(&text).expect("an artifact is JSON")
    }

    /// How many nodes the last command ran, all of which must have gone well.
    fn successes(&self) -> usize {
        let results = self.artifact("run_results.json");
        let results = results["results"].as_array().expect("results are listed");
        for result in results {
            let status = result["status"].as_str().unwrap_or_default();
            assert!(matches!(status, "success" | "pass"), "{result}");
        }
        results.len()
    }
}

/// Whether the interpreter has dbt.
fn has_dbt() -> bool {
    let Some(mut python) = python() else { return false };
    let found = python.args(["-c", "import dbt.adapters.postgres, dbt.cli.main"]).output();
    let found = found.expect("the interpreter starts").status.success();
    if !found {
        println!("skipped: the interpreter has no dbt-postgres");
    }
    found
}

/// Reads every table again and again until it is told to stop; one that was there once must stay.
async fn poll(client: tokio_postgres::Client, stop: Arc<AtomicBool>) -> usize {
    let (mut seen, mut reads) = ([false; POLLED.len()], 0);
    while !stop.load(Ordering::Relaxed) {
        for (name, seen) in POLLED.iter().zip(&mut seen) {
            match try_rows(&client, &format!("SELECT count(*) FROM {name}")).await {
                Ok(counted) => {
                    *seen = true;
                    assert_ne!(counted[0][0].as_deref(), Some("0"), "{name} is empty");
                    reads += 1;
                }
                Err(error) => assert!(!*seen, "{name} was there, and then: {error:?}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(seen, [true; POLLED.len()], "every table was seen");
    reads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_built_twice_and_no_reader_misses_a_table() {
    if !has_dbt() {
        return;
    }
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    let project = Arc::new(Project::new(&daemon));
    let stop = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(poll(daemon.connect("lake").await, Arc::clone(&stop)));
    let builder = Arc::clone(&project);
    let run = async move |arguments: &'static [&'static str]| {
        let project = Arc::clone(&builder);
        tokio::task::spawn_blocking(move || project.run(arguments)).await.expect("dbt runs");
    };

    run(&["debug"]).await;
    for step in ["seed", "run", "snapshot", "test"] {
        run(match step {
            "seed" => &["seed"],
            "run" => &["run", "--event-time-start", "2013-10-01", "--event-time-end", "2014-01-01"],
            "snapshot" => &["snapshot"],
            _ => &["test"],
        })
        .await;
        assert!(project.successes() > 0, "{step}");
    }
    let appended = number(&client, "SELECT count(*) FROM shop.appended").await;
    let first_seen = rows(&client, "SELECT carrier, first_seen FROM shop.merged ORDER BY 1").await;
    assert_eq!(first_seen.len(), 16);
    let autumn = number(&client, "SELECT count(*) FROM shop.daily WHERE day >= '2013-10-01'").await;
    assert_eq!(number(&client, "SELECT count(*) FROM shop.batched").await, autumn);

    // A carrier changes its alliance, and one is no longer there.
    let seed = project.path("seeds/alliances.csv");
    let text = std::fs::read_to_string(&seed).unwrap();
    std::fs::write(&seed, text.replace("AA,oneworld,1999-02-01", "AA,none,2026-01-01").replace("9E,,\n", ""))
        .unwrap();
    run(&["build", "--event-time-start", "2013-11-01", "--event-time-end", "2014-01-01"]).await;
    assert_eq!(project.successes(), 28);
    stop.store(true, Ordering::Relaxed);
    assert!(reader.await.expect("no table was missed") > 100);

    assert!(number(&client, "SELECT count(*) FROM shop.appended").await > appended);
    assert_eq!(number(&client, "SELECT count(*) FROM shop.batched").await, autumn);
    let again = rows(&client, "SELECT carrier, first_seen FROM shop.merged ORDER BY 1").await;
    assert_eq!(again, first_seen, "a merge leaves the column that it is told to leave");
    let history = "SELECT carrier, alliance, dbt_valid_to IS NULL FROM shop_history.alliances_checked \
        WHERE carrier IN ('AA', '9E') ORDER BY carrier, dbt_valid_from";
    let text = |one: &str| Some(one.to_owned());
    let wanted = vec![
        vec![text("9E"), None, text("f")],
        vec![text("AA"), text("oneworld"), text("f")],
        vec![text("AA"), text("none"), text("t")],
    ];
    assert_eq!(rows(&client, history).await, wanted);

    run(&["docs", "generate"]).await;
    let catalog = project.artifact("catalog.json");
    let daily = &catalog["nodes"]["model.flights.daily"];
    assert_eq!(daily["columns"]["day"]["comment"], "The day of departure, local.");
    assert_eq!(catalog["nodes"]["model.flights.busiest"]["metadata"]["type"], "MATERIALIZED VIEW");
    assert_eq!(catalog["errors"], Value::Null);
    run(&["source", "freshness"]).await;
    let sources = project.artifact("sources.json");
    assert_eq!(sources["results"][0]["max_loaded_at"], "2014-01-01T04:00:00+00:00");
    assert_eq!(sources["results"][0]["status"], "warn", "2013 is over");
}
