//! Other programs: engines that read the lake's tables by their path, and a driver of another language.
//!
//! `LACUS_TEST_PYTHON` names an interpreter with pyiceberg, duckdb and psycopg; without it, these are skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::daemon::{Catalogs, Setup, rows};
use crate::faults::number;

pub fn python() -> Option<Command> {
    let found = std::env::var_os("LACUS_TEST_PYTHON").filter(|path| !path.is_empty());
    if found.is_none() {
        println!("skipped: LACUS_TEST_PYTHON names no interpreter");
    }
    found.map(Command::new)
}

/// The folder of a table that the log holds.
pub fn table_folder(catalogs: &Catalogs, name: &str) -> PathBuf {
    let tables = catalogs.path().join("sample/_lacus/tables");
    let folders = std::fs::read_dir(tables).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(name);
    folders.into_iter().find(is_it).expect("the table has a folder")
}

fn read(mut python: Command, folder: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_iceberg.py");
    let read = python.arg(script).arg(folder).args(["--engine", "pyiceberg", "--engine", "duckdb"]).output();
    let read = read.expect("the interpreter starts");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).expect("the script prints JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn other_engines_read_what_was_written() {
    if python().is_none() {
        return;
    }
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
    let made = "CREATE TABLE mart.far PARTITIONED BY (month) AS \
        SELECT month, carrier, distance, dep_time FROM raw.flights WHERE distance > 2000";
    let again = "INSERT OVERWRITE mart.far SELECT month, carrier, distance, dep_time \
        FROM raw.flights WHERE distance > 2500 AND month = 2";
    let steps = [made, "INSERT INTO mart.far (month, carrier, distance) VALUES (13, 'ZZ', 9999)", again];
    for step in steps {
        rows(&client, step).await;
        let count = number(&client, "SELECT count(*) FROM mart.far").await;
        let sum = number(&client, "SELECT sum(distance) FROM mart.far").await;
        let nulls = number(&client, "SELECT count(*) - count(dep_time) FROM mart.far").await;
        let seen = read(python().unwrap(), &table_folder(&catalogs, "mart.far"));
        for engine in ["pyiceberg", "duckdb"] {
            let seen = &seen[engine];
            assert_eq!(seen["rows"], count, "{engine}: {step}");
            assert_eq!(seen["columns"]["distance"]["sum"].to_string(), sum.to_string(), "{engine}: {step}");
            assert_eq!(seen["columns"]["dep_time"]["nulls"], nulls, "{engine}: {step}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_engines_see_main_and_what_was_restored() {
    if python().is_none() {
        return;
    }
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA desk; CREATE TABLE desk.far (n bigint, kind text) PARTITIONED BY (kind)")
        .await;
    rows(&client, "INSERT INTO desk.far VALUES (1, 'a'), (2, 'b'), (4, NULL)").await;
    rows(&client, "CREATE BRANCH dev").await;
    let steps = [
        ("lake@dev", "INSERT INTO desk.far VALUES (8, 'a')"),
        ("lake@dev", "UPDATE desk.far SET n = 16 WHERE kind = 'b'"),
        ("lake", "INSERT INTO desk.far VALUES (32, 'b')"),
        ("lake", "MERGE BRANCH dev"),
        ("lake", "DELETE FROM desk.far WHERE n < 30"),
        ("lake", "ALTER TABLE desk.far RESTORE TO VERSION 3"),
        ("lake", "INSERT INTO desk.far VALUES (64, 'c')"),
    ];
    for (database, step) in steps {
        rows(&daemon.connect(database).await, step).await;
        let count = number(&client, "SELECT count(*) FROM desk.far").await;
        let sum = number(&client, "SELECT sum(n) FROM desk.far").await;
        let seen = read(python().unwrap(), &table_folder(&catalogs, "desk.far"));
        for engine in ["pyiceberg", "duckdb"] {
            let seen = &seen[engine];
            assert_eq!(seen["rows"], count, "{engine}: {step}");
            assert_eq!(seen["columns"]["n"]["sum"].to_string(), sum.to_string(), "{engine}: {step}");
        }
    }
    assert_eq!(number(&client, "SELECT sum(n) FROM desk.far").await, 71);
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_runs_a_binary_query() {
    let Some(mut python) = python() else { return };
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let script = "import sys\n\
        try:\n import psycopg\nexcept ImportError:\n sys.exit(print('skipped: no psycopg'))\n\
        c = psycopg.connect(sys.argv[1]).cursor(binary=True)\n\
        c.execute('SELECT count(*), %s::text, %s::bigint, NULL::date FROM raw.flights WHERE distance > %s', \
            ('ä', -5, 2000))\n\
        print(c.fetchone()[1:])\n";
    let address = format!("host=127.0.0.1 port={} user=ada dbname=lake", daemon.address.port());
    let ran = python.args(["-c", script, &address]).output().expect("the interpreter starts");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{err}");
    assert!(out.starts_with("skipped") || out.trim() == "('ä', -5, None)", "{out}");
}
