//! Faults: crashes, stores that fail, files that are broken. A table is there whole, or not at all.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::daemon::{Catalogs, Setup, code, rows, try_rows};
use crate::s3::{S3Server, S3Target};

/// A catalog folder whose lake lies in a bucket.
pub fn in_bucket(target: &S3Target) -> Catalogs {
    let catalogs = Catalogs::with_lake("");
    let store = target.write_store_table(catalogs.path());
    let store = store.replace("\"s3.", &format!("\"{}/s3.", catalogs.path().display()));
    let definition = format!("root = \"{}\"\n[store]\n{store}", target.root());
    std::fs::write(catalogs.path().join("lake.toml"), definition).unwrap();
    catalogs
}

pub async fn number(client: &Client, sql: &str) -> i64 {
    rows(client, sql).await[0][0].as_ref().expect("a value").parse().expect("a number")
}

async fn tables(client: &Client, name: &str) -> usize {
    rows(client, &format!("SHOW TABLES FROM mart LIKE '{name}'")).await.len()
}

/// What an error says, for the names in it.
async fn message(client: &Client, sql: &str) -> (String, String) {
    let error = try_rows(client, sql).await.expect_err(sql);
    let error = error.as_db_error().expect("the daemon's own error");
    (error.code().code().to_owned(), error.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_nothing_half_done() {
    let server = S3Server::start();
    let faults = Arc::clone(&server.faults);
    let target = S3Target::from(server);
    let catalogs = in_bucket(&target);
    let made = "CREATE TABLE mart.cut AS SELECT * FROM tpch.tiny.orders";
    for (round, moment_ms) in [40, 120, 250, 450, 700].into_iter().enumerate() {
        let mut daemon = Setup::default().serve(catalogs.path());
        let client = daemon.connect("lake").await;
        rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
        rows(&client, "CREATE TABLE IF NOT EXISTS mart.marks (n integer)").await;
        rows(&client, "DROP TABLE IF EXISTS mart.cut").await;
        // Each request takes its time, so that the moments fall between different ones.
        faults.delay(Duration::from_millis(25));
        let writing = tokio::spawn(async move { try_rows(&client, made).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        daemon.kill();
        let answered = writing.await.unwrap();
        faults.clear();
        let daemon = Setup::default().serve(catalogs.path());
        let client = daemon.connect("lake").await;
        let there = tables(&client, "cut").await == 1;
        assert!(there || !answered, "what was answered is there");
        if there {
            assert_eq!(number(&client, "SELECT count(*) FROM mart.cut").await, 15_000);
        }
        rows(&client, &format!("INSERT INTO mart.marks VALUES ({round})")).await;
        assert_eq!(number(&client, "SELECT count(*) FROM mart.marks").await, round as i64 + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_loses_and_doubles_nothing() {
    let server = S3Server::start();
    let faults = Arc::clone(&server.faults);
    let target = S3Target::from(server);
    let catalogs = in_bucket(&target);
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
    rows(&client, "CREATE TABLE mart.marks (n integer)").await;
    let mut wanted = 0;
    for lost in 1..=6 {
        faults.lose_next_puts(lost);
        rows(&client, &format!("INSERT INTO mart.marks VALUES ({lost})")).await;
        faults.clear();
        wanted += 1;
        assert_eq!(number(&client, "SELECT count(*) FROM mart.marks").await, wanted, "{lost} lost");
    }
    for refused in [1, 3] {
        faults.refuse_next(refused);
        rows(&client, &format!("INSERT INTO mart.marks VALUES ({refused})")).await;
        faults.cut_next(refused);
        rows(&client, &format!("INSERT INTO mart.marks VALUES ({refused})")).await;
        wanted += 2;
    }
    faults.refuse_every(4);
    for n in 0..5 {
        rows(&client, &format!("INSERT INTO mart.marks VALUES ({n})")).await;
        wanted += 1;
    }
    assert_eq!(number(&client, "SELECT count(*) FROM mart.marks").await, wanted);
    faults.clear();
    // A lost answer to CREATE is not "already exists".
    faults.lose_next_puts(1);
    rows(&client, "CREATE SCHEMA once").await;
    faults.clear();
    assert_eq!(code(&client, "CREATE SCHEMA once").await, "42P06");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_or_cancelled_write_leaves_no_table() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
    let failing = "CREATE TABLE mart.broken AS SELECT 1 / (o_orderkey - 32) AS x FROM tpch.tiny.orders";
    assert_eq!(code(&client, failing).await, "22012");
    assert_eq!(tables(&client, "broken").await, 0);
    rows(&client, "BEGIN").await;
    rows(&client, "CREATE TABLE mart.broken AS SELECT 1 AS x").await;
    assert_eq!(code(&client, "INSERT INTO mart.broken SELECT 1 / 0").await, "22012");
    rows(&client, "COMMIT").await;
    assert_eq!(tables(&client, "broken").await, 0);
    let token = client.cancel_token();
    let writing = tokio::spawn(async move {
        (code(&client, "CREATE TABLE mart.broken AS SELECT * FROM tpch.sf10.lineitem").await, client)
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    token.cancel_query(NoTls).await.unwrap();
    let (stopped, client) = writing.await.unwrap();
    assert_eq!(stopped, "57014");
    assert_eq!(tables(&client, "broken").await, 0);
    rows(&client, "CREATE TABLE mart.broken AS SELECT 1 AS x").await;
    assert_eq!(number(&client, "SELECT count(*) FROM mart.broken").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_named() {
    let catalogs = Catalogs::on_disk();
    let raw = catalogs.path().join("sample/raw");
    let whole = std::fs::read(raw.join("flights/month=01/part-0.parquet")).unwrap();
    std::fs::create_dir(raw.join("torn")).unwrap();
    std::fs::write(raw.join("torn/torn-7.parquet"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(raw.join("marks.csv"), "n,name\n1,one\nzwei,two\n3,three\n").unwrap();
    let declared = "location = \"raw/marks.csv\"\n\
        [[column]]\nname = \"n\"\ntype = \"integer\"\n[[column]]\nname = \"name\"\ntype = \"text\"\n";
    std::fs::write(catalogs.path().join("lake/raw/marks.toml"), declared).unwrap();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    let (torn, text) = message(&client, "SELECT count(*), max(distance) FROM raw.torn").await;
    assert_eq!(torn, "58P01", "{text}");
    assert!(text.contains("torn-7.parquet"), "{text}");
    let (bad, text) = message(&client, "SELECT sum(n) FROM raw.marks").await;
    assert_eq!(bad, "22P04", "{text}");
    assert!(text.contains("marks.csv") && text.contains('3'), "{text}");
    assert_eq!(number(&client, "SELECT count(*) FROM raw.airlines").await, 16);
}
