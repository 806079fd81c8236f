//! Upkeep: small files become few, the past is let go, and nobody loses a row by it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Catalogs, Daemon, Setup, code, rows, try_rows};
use crate::faults::{in_bucket, number};
use crate::s3::S3Target;

/// Everything that nobody needs now goes.
const ALL: &str = "VACUUM (RETAIN '0 s', GRACE '0 s', FORCE)";

/// A lake on disk with a schema `mart`.
async fn lake() -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    rows(&daemon.connect("lake").await, "CREATE SCHEMA IF NOT EXISTS mart").await;
    (catalogs, daemon)
}

fn root(catalogs: &Catalogs) -> PathBuf {
    catalogs.path().join("sample/_lacus")
}

/// All files below a folder that end so, with their sizes.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let found = paths.flat_map(|path| if path.is_dir() { files(&path, "") } else { vec![path] });
    found.filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
}

/// The newest metadata of the only table whose folder begins with `name`.
fn metadata(catalogs: &Catalogs, name: &str) -> Value {
    let folders =
        std::fs::read_dir(root(catalogs).join("tables")).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(name);
    let folder = folders.into_iter().find(is_it).expect("the table has a folder");
    let hint = std::fs::read_to_string(folder.join("metadata/version-hint.text")).unwrap();
    let text = std::fs::read(folder.join(format!("metadata/v{hint}.metadata.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn current(metadata: &Value) -> &Value {
    let snapshots = metadata["snapshots"].as_array().unwrap();
    snapshots.iter().find(|one| one["snapshot-id"] == metadata["current-snapshot-id"]).unwrap()
}

/// Waits until files are old enough for a store that tells the time in seconds.
async fn age() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_leaves_what_the_newest_version_needs_and_nothing_else() {
    let (catalogs, daemon) = lake().await;
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE TABLE mart.kept AS SELECT g AS n FROM generate_series(1, 1000) AS t(g)").await;
    rows(&client, "CREATE TABLE mart.gone AS SELECT 1 AS n").await;
    for n in 0..5 {
        rows(&client, &format!("UPDATE mart.kept SET n = n + 1 WHERE n > {n}")).await;
    }
    rows(&client, "DROP TABLE mart.gone").await;
    let stray = root(&catalogs).join("tables/mart.stray-0/data/left.parquet");
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::write(&stray, "a transaction that never ended").unwrap();
    let before = files(&root(&catalogs).join("tables"), "");

    // With the grace period as configured, nothing is old enough.
    rows(&client, "VACUUM (RETAIN '0 s')").await;
    assert!(stray.exists());
    age().await;
    let told = rows(&client, "VACUUM (RETAIN '0 s', GRACE '0 s', FORCE, DRY_RUN)").await;
    assert!(files(&root(&catalogs).join("tables"), "").len() >= before.len(), "a dry run removes nothing");
    let reasons = |wanted: &str| told.iter().filter(|row| row[2].as_deref() == Some(wanted)).count();
    assert!(reasons("dropped table") >= 5 && reasons("old version") >= 5 && reasons("unreferenced") >= 5);
    assert!(told.iter().all(|row| row[0].as_ref().unwrap().starts_with("_lacus/tables/")));

    rows(&client, ALL).await;
    assert!(!stray.exists());
    let left = files(&root(&catalogs).join("tables"), "");
    let data = left.iter().filter(|path| path.extension().is_some_and(|it| it == "parquet")).count();
    // The metadata file and its copy, the hint, the list of manifests, and two: what came, what went.
    assert_eq!((data, left.len() - data), (1, 6), "{left:#?}");
    let kept = metadata(&catalogs, "mart.kept");
    assert_eq!(kept["snapshots"].as_array().unwrap().len(), 1);
    let sum = "SELECT count(*), sum(n) FROM mart.kept";
    let expected = rows(&client, sum).await;
    drop(daemon);
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    assert_eq!(rows(&client, sum).await, expected);
    assert_eq!(rows(&client, ALL).await.len(), 0);
    rows(&client, "INSERT INTO mart.kept VALUES (0)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_leaves_what_branches_need() {
    let (catalogs, daemon) = lake().await;
    let main = daemon.connect("lake").await;
    rows(&main, "CREATE TABLE mart.t AS SELECT g AS n FROM generate_series(1, 100) AS t(g)").await;
    rows(&main, "CREATE BRANCH dev").await;
    rows(&main, "CREATE BRANCH idle").await;
    let dev = daemon.connect("lake@dev").await;
    rows(&dev, "CREATE TABLE mart.own AS SELECT 1 AS n").await;
    rows(&dev, "UPDATE mart.t SET n = -n").await;
    rows(&dev, "INSERT INTO mart.t VALUES (1000)").await;
    rows(&main, "CREATE TABLE mart.gone AS SELECT 1 AS n").await;
    rows(&main, "DROP TABLE mart.gone").await;
    age().await;
    let tables = root(&catalogs).join("tables");
    let before = files(&tables, "").len();
    rows(&main, ALL).await;
    assert!(files(&tables, "").len() < before, "something goes");
    // What a daemon has in memory proves nothing.
    drop(daemon);
    let daemon = Setup::default().serve(catalogs.path());
    let (main, dev) = (daemon.connect("lake").await, daemon.connect("lake@dev").await);
    let sum = "SELECT count(*), sum(n) FROM mart.t";
    let told = |count: &str, sum: &str| vec![vec![Some(count.to_owned()), Some(sum.to_owned())]];
    assert_eq!(rows(&main, sum).await, told("100", "5050"));
    assert_eq!(rows(&daemon.connect("lake@idle").await, sum).await, told("100", "5050"));
    assert_eq!(rows(&dev, sum).await, told("101", "-4050"));
    assert_eq!(rows(&dev, "SELECT n FROM mart.own").await, [[Some("1".to_owned())]]);
    rows(&main, "MERGE BRANCH dev").await;
    age().await;
    rows(&main, ALL).await;
    assert_eq!(rows(&main, sum).await, told("101", "-4050"));
    assert_eq!(rows(&daemon.connect("lake@idle").await, sum).await, told("100", "5050"));
    rows(&main, "DROP BRANCH idle").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_keeps_what_was_current_within_the_retention() {
    let (catalogs, daemon) = lake().await;
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE TABLE mart.t AS SELECT 1 AS n").await;
    for n in 2..5 {
        rows(&client, &format!("INSERT OVERWRITE mart.t SELECT {n}")).await;
    }
    rows(&client, "CREATE TABLE mart.dropped AS SELECT 1 AS n").await;
    rows(&client, "DROP TABLE mart.dropped").await;
    age().await;
    let before = files(&root(&catalogs).join("tables"), "");
    rows(&client, "VACUUM (GRACE '0 s', FORCE)").await;
    assert_eq!(files(&root(&catalogs).join("tables"), ""), before, "all of it is younger than 7 days");
    assert_eq!(metadata(&catalogs, "mart.t")["snapshots"].as_array().unwrap().len(), 4);
    // An hour's past is a minute old here: it stays, also where the metadata names it no more.
    rows(&client, "VACUUM (GRACE '0 s', RETAIN '1 hour', FORCE) mart.t").await;
    assert_eq!(files(&root(&catalogs).join("tables"), ""), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_of_one_daemon_leaves_the_transactions_of_another_alone() {
    let target = S3Target::for_tests().await;
    let catalogs = [in_bucket(&target), in_bucket(&target)];
    let daemons = [0, 1].map(|at: usize| Setup::default().serve(catalogs[at].path()));
    let (one, other) = (daemons[0].connect("lake").await, daemons[1].connect("lake").await);
    rows(&one, "CREATE SCHEMA IF NOT EXISTS mart").await;
    rows(&one, "CREATE TABLE mart.t AS SELECT 1 AS n").await;
    // A reader of an old version, and a writer of a new one.
    rows(&other, "BEGIN").await;
    assert_eq!(number(&other, "SELECT sum(n) FROM mart.t").await, 1);
    rows(&one, "INSERT OVERWRITE mart.t SELECT 10").await;
    rows(&other, "CREATE TABLE mart.u AS SELECT 2 AS n").await;
    age().await;
    rows(&one, "VACUUM (RETAIN '0 s')").await;
    assert_eq!(number(&other, "SELECT sum(n) FROM mart.t").await, 1);
    rows(&other, "COMMIT").await;
    assert_eq!(number(&one, "SELECT n FROM mart.u").await, 2);
    // Two at one time find the same garbage.
    age().await;
    let both = tokio::join!(rows(&one, ALL), rows(&other, ALL));
    assert_eq!((both.0.len(), both.1.len()), (0, 0));
    assert_eq!(number(&other, "SELECT n FROM mart.t").await, 10);
    assert_eq!(number(&one, "SELECT n FROM mart.u").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn optimize_loses_no_append_that_comes_meanwhile() {
    const ROUNDS: i64 = 40;
    let (catalogs, daemon) = lake().await;
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE TABLE mart.t (n bigint)").await;
    let writer = daemon.connect("lake").await;
    let writing = tokio::spawn(async move {
        for n in 1..=ROUNDS {
            rows(&writer, &format!("INSERT INTO mart.t VALUES ({n})")).await;
        }
    });
    let mut rewritten = 0;
    while !writing.is_finished() {
        rewritten += number(&client, "OPTIMIZE mart.t").await;
        let (count, sum) =
            (number(&client, "SELECT count(*) FROM mart.t").await, "SELECT coalesce(sum(n), 0) FROM mart.t");
        assert!(number(&client, sum).await >= count * (count + 1) / 2);
    }
    writing.await.unwrap();
    assert!(rewritten > 0);
    number(&client, "OPTIMIZE mart.t").await;
    assert_eq!(number(&client, "SELECT sum(n) FROM mart.t").await, ROUNDS * (ROUNDS + 1) / 2);
    let now = metadata(&catalogs, "mart.t");
    assert_eq!(current(&now)["summary"]["operation"], "replace");
    assert_eq!(current(&now)["summary"]["total-data-files"], "1");
    assert_eq!(current(&now)["summary"]["total-records"], ROUNDS.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sorted_table_has_the_rows_that_it_had() {
    let (_catalogs, daemon) = lake().await;
    let client = daemon.connect("lake").await;
    let made = "CREATE TABLE mart.flights AS SELECT * FROM raw.flights";
    rows(&client, made).await;
    let sum = "SELECT count(*), sum(distance), min(time_hour), count(DISTINCT tailnum) FROM mart.flights";
    let expected = rows(&client, sum).await;
    for how in ["ORDER BY distance, flight DESC", "ZORDER BY (distance, time_hour, tailnum)"] {
        rows(&client, &format!("OPTIMIZE mart.flights {how}")).await;
        assert_eq!(rows(&client, sum).await, expected, "{how}");
    }
    assert_eq!(code(&client, "OPTIMIZE mart.flights ORDER BY nothing").await, "42703");
}

/// What a table's many small files become by themselves, and what is seen of it.
#[tokio::test(flavor = "multi_thread")]
async fn small_inserts_are_put_together_unasked() {
    const ROWS: i64 = 300;
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(&["--upkeep-interval-s", "1"]).serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
    rows(&client, "CREATE TABLE mart.drops (n bigint)").await;
    for n in 1..=ROWS {
        rows(&client, &format!("INSERT INTO mart.drops VALUES ({n})")).await;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let count =
        |metadata: &Value| current(metadata)["summary"]["total-data-files"].as_str().unwrap().parse::<i64>();
    while count(&metadata(&catalogs, "mart.drops")).unwrap() >= 40 {
        assert!(Instant::now() < deadline, "the files stay as many as they were");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(number(&client, "SELECT count(*) FROM mart.drops").await, ROWS);
    assert_eq!(number(&client, "SELECT sum(n) FROM mart.drops").await, ROWS * (ROWS + 1) / 2);
    let done = "SELECT count(*) FROM system.runtime.upkeep WHERE \"table\" = 'lake.mart.drops' \
        AND action = 'optimize' AND state = 'FINISHED' AND files >= 32";
    assert!(number(&client, done).await >= 1);
    assert!(daemon.metric("lacus_upkeep_files_removed_total") >= 250);
    assert_eq!(daemon.metric("lacus_upkeep_failed_total"), 0);
}

/// PyIceberg and DuckDB read a table after each kind of upkeep, and its sketches.
#[tokio::test(flavor = "multi_thread")]
async fn others_read_what_upkeep_leaves() {
    let Some(python) = std::env::var_os("LACUS_TEST_PYTHON").filter(|path| !path.is_empty()) else {
        println!("skipped: LACUS_TEST_PYTHON names no interpreter");
        return;
    };
    let (catalogs, daemon) = lake().await;
    let client = daemon.connect("lake").await;
    rows(
        &client,
        "CREATE TABLE mart.far PARTITIONED BY (month) AS SELECT * FROM raw.flights WHERE distance > 1000",
    )
    .await;
    for month in 1..=6 {
        let sql = "INSERT INTO mart.far SELECT * FROM raw.flights WHERE distance <= 1000 AND month =";
        rows(&client, &format!("{sql} {month}")).await;
    }
    age().await;
    for step in ["OPTIMIZE mart.far", "ANALYZE mart.far", "OPTIMIZE mart.far ORDER BY carrier", ALL] {
        rows(&client, step).await;
        let (count, sum) =
            (number(&client, "SELECT count(*) FROM mart.far").await, "SELECT sum(distance) FROM mart.far");
        let sum = number(&client, sum).await;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_iceberg.py");
        let folder =
            std::fs::read_dir(root(&catalogs).join("tables")).unwrap().next().unwrap().unwrap().path();
        let read = std::process::Command::new(&python)
            .arg(script)
            .arg(folder)
            .args(["--engine", "pyiceberg", "--engine", "duckdb"])
            .output()
            .expect("the interpreter starts");
        assert!(read.status.success(), "{step}: {}", String::from_utf8_lossy(&read.stderr));
        let seen: Value = serde_json::from_slice(&read.stdout).expect("the script prints JSON");
        for engine in ["pyiceberg", "duckdb"] {
            assert_eq!(seen[engine]["rows"], count, "{engine} after {step}");
            let found = seen[engine]["columns"]["distance"]["sum"].to_string();
            assert_eq!(found, sum.to_string(), "{engine} after {step}");
        }
    }
    // PyIceberg knows the statistics file, and its own reader of Puffin takes the file apart.
    rows(&client, "ANALYZE mart.far").await;
    let newest = metadata(&catalogs, "mart.far");
    let path =
        newest["statistics"][0]["statistics-path"].as_str().unwrap().trim_start_matches("file://").to_owned();
    let script = "import sys\n\
        from pyiceberg.table.metadata import TableMetadataUtil\n\
        metadata = TableMetadataUtil.parse_raw(sys.argv[2])\n\
        assert len(metadata.statistics) == 1, metadata.statistics\n\
        from pyiceberg.table.puffin import PuffinFile\n\
        blobs = PuffinFile(open(sys.argv[1], 'rb').read()).footer.blobs\n\
        print(len(blobs), blobs[0].properties['ndv'])\n";
    let read = std::process::Command::new(&python)
        .args(["-c", script, &path, &newest.to_string()])
        .output()
        .expect("the interpreter starts");
    let (out, error) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
    assert!(read.status.success(), "{error}");
    assert_eq!(out.trim(), "19 1", "nineteen columns, one year");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_that_was_killed_is_done_by_the_next() {
    let (catalogs, first) = lake().await;
    drop(first);
    let tables = root(&catalogs).join("tables");
    let mut was_cut = false;
    for _ in 0..8 {
        let mut daemon = Setup::default().serve(catalogs.path());
        let client = daemon.connect("lake").await;
        let series = "SELECT g AS n FROM generate_series(1, 200) AS t(g)";
        rows(&client, &format!("CREATE TABLE IF NOT EXISTS mart.kept AS {series}")).await;
        rows(&client, "UPDATE mart.kept SET n = n + 1").await;
        rows(&client, &format!("CREATE TABLE mart.gone PARTITIONED BY (n) AS {series}")).await;
        rows(&client, "DROP TABLE mart.gone").await;
        let sum = "SELECT count(*), sum(n) FROM mart.kept";
        let expected = rows(&client, sum).await;
        age().await;
        let before = files(&tables, ".parquet").len();
        let vacuum = tokio::spawn(async move { try_rows(&client, ALL).await.is_ok() });
        while files(&tables, ".parquet").len() == before && !vacuum.is_finished() {
            tokio::task::yield_now().await;
        }
        daemon.kill();
        let answered = vacuum.await.unwrap();
        let left = files(&tables, ".parquet").len();
        was_cut |= !answered && left > 1;
        let daemon = Setup::default().serve(catalogs.path());
        let client = daemon.connect("lake").await;
        assert_eq!(rows(&client, sum).await, expected, "{left} of {before} files were left");
        rows(&client, ALL).await;
        assert_eq!(files(&tables, ".parquet").len(), 1);
        assert_eq!(rows(&client, sum).await, expected);
        if was_cut {
            break;
        }
    }
    assert!(was_cut, "no VACUUM was killed in the middle of its work");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_analyze_counts_changes_the_order_of_joins() {
    let (_catalogs, daemon) = lake().await;
    let client = daemon.connect("lake").await;
    // The keys of a and b look as if all were different, and are two.
    for (name, columns, count) in [
        ("a", "g AS x, g % 2 * 1000000 AS k", 10000),
        ("b", "g % 2 * 1000000 AS k", 100),
        ("c", "g AS x", 5000),
    ] {
        let made =
            format!("CREATE TABLE mart.{name} AS SELECT {columns} FROM generate_series(1, {count}) AS t(g)");
        rows(&client, &made).await;
    }
    let query = "SELECT count(*) FROM mart.a JOIN mart.b ON a.k = b.k JOIN mart.c ON a.x = c.x";
    // The first table that is named below the last join is what it keeps in memory.
    let kept = async || {
        let lines = rows(&client, &format!("EXPLAIN {query}")).await;
        let lines: Vec<String> = lines.into_iter().flatten().flatten().collect();
        let top = lines.iter().position(|line| line.contains("HashJoinExec")).expect("a join");
        let inputs =
            lines[top + 1..].iter().find(|line| line.contains("mart.") || line.contains("HashJoinExec"));
        inputs.map(|line| line.contains("HashJoinExec"))
    };
    assert_eq!(kept().await, Some(true), "a joined with b seems to be little");
    let counted = rows(&client, query).await;
    rows(&client, "ANALYZE mart.a, mart.b, mart.c").await;
    assert_eq!(kept().await, Some(false), "and is known to be much");
    assert_eq!(rows(&client, query).await, counted);
}

#[tokio::test(flavor = "multi_thread")]
async fn enforced_keys_are_asked_of_the_files_that_can_hold_them() {
    let (_catalogs, daemon) = lake().await;
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE TABLE mart.log (at int, name text, PRIMARY KEY (at) ENFORCED)").await;
    for from in [0, 100, 200, 300] {
        let made = format!(
            "INSERT INTO mart.log SELECT g, 'n' || g FROM generate_series({from}, {}) AS t(g)",
            from + 99
        );
        rows(&client, &made).await;
    }
    assert_eq!(code(&client, "INSERT INTO mart.log VALUES (350, 'twice'), (400, 'new')").await, "23505");
    assert_eq!(code(&client, "UPDATE mart.log SET at = at - 100 WHERE at = 399").await, "23505");
    assert_eq!(code(&client, "INSERT INTO mart.log VALUES (400, 'one'), (400, 'two')").await, "23505");
    let lines = rows(&client, "EXPLAIN ANALYZE INSERT INTO mart.log VALUES (400, 'new'), (401, 'new')").await;
    let plan = lines.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n");
    assert!(plan.contains("files_pruned_at_planning=4"), "only the new file is asked: {plan}");
    let lines = rows(&client, "EXPLAIN ANALYZE UPDATE mart.log SET at = 500 WHERE at = 50").await;
    let plan = lines.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n");
    assert!(plan.contains("files_pruned_at_planning=5"), "rows that stay are not asked again: {plan}");
    assert_eq!(number(&client, "SELECT count(DISTINCT at) FROM mart.log").await, 402);
}
