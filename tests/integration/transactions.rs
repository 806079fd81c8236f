//! Transactions over the wire: what messages share one, how they end, who gives way to whom.

use std::time::Duration;

use tokio_postgres::Client;

use crate::daemon::{Catalogs, Daemon, Setup, code, rows, try_rows};
use crate::faults::number;
use crate::raw::Raw;

fn served(flags: &[&str]) -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(flags).serve(catalogs.path());
    (catalogs, daemon)
}

async fn on(client: &Client, sql: &str) {
    rows(client, sql).await;
}

/// Three values of an error: its SQLSTATE, its message and its detail.
async fn conflict(client: &Client, sql: &str) -> (String, String, String) {
    let error = try_rows(client, sql).await.expect_err(sql);
    let error = error.as_db_error().expect("the daemon's own error");
    let detail = error.detail().unwrap_or_default().to_owned();
    (error.code().code().to_owned(), error.message().to_owned(), detail)
}

#[test]
fn what_runs_up_to_sync_is_one_transaction() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query("CREATE SCHEMA desk");
    assert_eq!(raw.trace(), "C ZI");
    raw.run("CREATE TABLE desk.kept (n integer)");
    raw.run("INSERT INTO desk.kept VALUES (1)");
    raw.run("INSERT INTO desk.kept VALUES (2)");
    raw.sync();
    assert_eq!(raw.trace(), "1 2 C 1 2 C 1 2 C ZI", "each statement sees those before it");
    raw.run("INSERT INTO desk.kept VALUES (3)");
    raw.run("SELECT 1 / 0");
    raw.run("INSERT INTO desk.kept VALUES (4)");
    raw.sync();
    assert_eq!(raw.trace(), "1 2 C 1 2 E22012 ZI");
    assert_eq!(raw.value("SELECT count(*) FROM desk.kept"), "2", "an error undoes what came before it");
    raw.run("INSERT INTO desk.kept VALUES (5)");
    raw.run("BEGIN");
    raw.run("INSERT INTO desk.kept VALUES (6)");
    raw.sync();
    assert_eq!(raw.trace(), "1 2 C 1 2 C 1 2 C ZT", "BEGIN makes a block of it");
    raw.query("ROLLBACK");
    assert_eq!(raw.trace(), "C ZI");
    assert_eq!(raw.value("SELECT count(*) FROM desk.kept"), "2");
    raw.run("INSERT INTO desk.kept VALUES (7)");
    raw.flush();
    for wanted in *b"12C" {
        assert_eq!(raw.next().map(|message| message.kind), Some(wanted));
    }
    let mut other = Raw::connect(daemon.address, "lake");
    assert_eq!(other.value("SELECT count(*) FROM desk.kept"), "2", "before Sync nobody sees it");
    raw.sync();
    assert_eq!(raw.trace(), "ZI");
    assert_eq!(other.value("SELECT count(*) FROM desk.kept"), "3");
}

#[test]
fn a_conflict_of_a_pipeline_is_told_at_sync() {
    let (_catalogs, daemon) = served(&[]);
    let (mut one, mut other) = (Raw::connect(daemon.address, "lake"), Raw::connect(daemon.address, "lake"));
    one.query("CREATE SCHEMA desk; CREATE TABLE desk.marks AS SELECT 1 AS n");
    assert_eq!(one.trace(), "C C ZI");
    one.run("INSERT OVERWRITE desk.marks SELECT 2");
    one.flush();
    for wanted in *b"12C" {
        assert_eq!(one.next().map(|message| message.kind), Some(wanted));
    }
    other.query("INSERT INTO desk.marks VALUES (3)");
    assert_eq!(other.trace(), "C ZI");
    one.sync();
    assert_eq!(one.trace(), "E40001 ZI");
    one.query("SELECT 1");
    assert_eq!(one.trace(), "T D C ZI", "the session goes on");
}

#[test]
fn warnings_are_notices() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    for (sql, wanted) in [
        ("COMMIT", ("25P01", "there is no transaction in progress")),
        ("ROLLBACK", ("25P01", "there is no transaction in progress")),
        ("BEGIN; BEGIN", ("25001", "there is already a transaction in progress")),
        ("ROLLBACK; ROLLBACK", ("25P01", "there is no transaction in progress")),
        ("SET TRANSACTION READ ONLY", ("25P01", "SET TRANSACTION can only be used in transaction blocks")),
        ("SET LOCAL statement_timeout = 0", ("25P01", "SET LOCAL can only be used in transaction blocks")),
    ] {
        raw.query(sql);
        let notices = raw.notices();
        assert_eq!(notices, [(wanted.0.to_owned(), wanted.1.to_owned())], "{sql}");
    }
    raw.query("SET client_min_messages = error");
    assert_eq!(raw.notices(), []);
    raw.query("COMMIT");
    assert_eq!(raw.notices(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_names_the_table_and_the_other() {
    let (_catalogs, daemon) = served(&[]);
    let (one, other) = (daemon.connect("lake").await, daemon.connect("lake").await);
    on(&one, "CREATE SCHEMA desk").await;
    on(&one, "CREATE TABLE desk.marks AS SELECT 1 AS n").await;
    on(&one, "BEGIN").await;
    on(&one, "INSERT OVERWRITE desk.marks SELECT 2").await;
    on(&other, "INSERT INTO desk.marks VALUES (3)").await;
    let (code, message, detail) = conflict(&one, "COMMIT").await;
    assert_eq!(code, "40001");
    assert_eq!(
        message,
        "could not serialize access: table \"desk.marks\" was changed by another transaction"
    );
    assert!(detail.starts_with("User \"ada\" committed query "), "{detail}");
    assert!(detail.ends_with(" as version 3 of the lake."), "{detail}");
    on(&one, "BEGIN").await;
    on(&one, "DROP SCHEMA desk CASCADE").await;
    on(&other, "CREATE TABLE desk.late (n integer)").await;
    let (code, message, _) = conflict(&one, "COMMIT").await;
    assert_eq!((code.as_str(), message.contains("schema \"desk\"")), ("40001", true), "{message}");
    assert_eq!(number(&other, "SELECT count(*) FROM desk.late").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn overwrites_of_different_partitions_do_not_conflict() {
    let (_catalogs, daemon) = served(&[]);
    let (one, other) = (daemon.connect("lake").await, daemon.connect("lake").await);
    on(&one, "CREATE SCHEMA desk").await;
    on(&one, "CREATE TABLE desk.days PARTITIONED BY (day) AS SELECT * FROM (VALUES (1, 'mon'), (2, 'tue')) AS t(n, day)").await;
    let sum = "SELECT string_agg(n::text || day, ' ' ORDER BY day, n) FROM desk.days";
    for client in [&one, &other] {
        on(client, "BEGIN").await;
    }
    on(&one, "INSERT OVERWRITE desk.days VALUES (10, 'mon')").await;
    on(&other, "INSERT OVERWRITE desk.days VALUES (20, 'tue')").await;
    on(&other, "INSERT INTO desk.days VALUES (30, 'wed')").await;
    on(&one, "COMMIT").await;
    on(&other, "COMMIT").await;
    assert_eq!(rows(&one, sum).await, [[Some("10mon 20tue 30wed".to_owned())]]);
    // Rows that came into what is replaced are not lost, nor replaced twice.
    for (first, second) in [
        ("INSERT INTO desk.days VALUES (11, 'mon')", "INSERT OVERWRITE desk.days VALUES (12, 'mon')"),
        ("INSERT OVERWRITE desk.days VALUES (13, 'mon')", "INSERT OVERWRITE desk.days VALUES (14, 'mon')"),
        ("INSERT INTO desk.days VALUES (31, 'wed')", "TRUNCATE desk.days"),
    ] {
        on(&one, "BEGIN").await;
        on(&one, second).await;
        on(&other, first).await;
        assert_eq!(code(&one, "COMMIT").await, "40001", "{first}; {second}");
    }
    // An append onto what another has overwritten stays an append.
    on(&one, "BEGIN").await;
    on(&one, "INSERT INTO desk.days VALUES (15, 'mon')").await;
    on(&other, "INSERT OVERWRITE desk.days VALUES (14, 'mon')").await;
    on(&one, "COMMIT").await;
    assert_eq!(rows(&one, sum).await, [[Some("14mon 15mon 20tue 30wed 31wed".to_owned())]]);
    // A comment changes no file.
    on(&one, "BEGIN").await;
    on(&one, "INSERT OVERWRITE desk.days VALUES (16, 'mon')").await;
    on(&other, "COMMENT ON COLUMN desk.days.n IS 'number'").await;
    on(&other, "COMMENT ON TABLE desk.days IS 'days'").await;
    on(&one, "COMMIT").await;
    assert_eq!(rows(&one, sum).await, [[Some("16mon 20tue 30wed 31wed".to_owned())]]);
    let comment = "SELECT obj_description('desk.days'::regclass)";
    assert_eq!(rows(&one, comment).await, [[Some("days".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_follows_a_rename_of_its_own() {
    let (_catalogs, daemon) = served(&[]);
    let (one, other) = (daemon.connect("lake").await, daemon.connect("lake").await);
    on(&one, "CREATE SCHEMA desk").await;
    on(&one, "CREATE TABLE desk.old AS SELECT 1 AS n").await;
    on(&one, "BEGIN").await;
    on(&one, "ALTER TABLE desk.old RENAME TO new").await;
    on(&one, "INSERT INTO desk.new VALUES (2)").await;
    on(&other, "INSERT INTO desk.old VALUES (3)").await;
    on(&one, "INSERT INTO desk.new VALUES (4)").await;
    on(&one, "COMMIT").await;
    assert_eq!(number(&one, "SELECT sum(n) FROM desk.new").await, 10, "no row is lost, none comes twice");
    assert_eq!(number(&one, "SELECT count(*) FROM desk.new").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_to_different_names_never_conflict() {
    let (_catalogs, daemon) = served(&[]);
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..8 {
        let client = daemon.connect("lake").await;
        sessions.spawn(async move {
            on(&client, "CREATE SCHEMA IF NOT EXISTS shared").await;
            on(&client, &format!("CREATE SCHEMA own_{number}")).await;
            on(&client, &format!("CREATE TABLE shared.t_{number} AS SELECT {number} AS n")).await;
            on(&client, &format!("CREATE VIEW own_{number}.v AS SELECT n FROM shared.t_{number}")).await;
            on(&client, "BEGIN").await;
            on(&client, &format!("INSERT INTO shared.t_{number} VALUES ({number})")).await;
            on(&client, &format!("ALTER TABLE shared.t_{number} RENAME TO u_{number}")).await;
            on(&client, &format!("DROP VIEW own_{number}.v")).await;
            on(&client, "COMMIT").await;
        });
    }
    sessions.join_all().await;
    let client = daemon.connect("lake").await;
    let tables = rows(&client, "SHOW TABLES FROM shared").await;
    assert_eq!(tables.len(), 8, "{tables:?}");
    assert!(tables.iter().all(|row| row[0].as_ref().is_some_and(|name| name.starts_with("u_"))));
    assert_eq!(code(&client, "CREATE SCHEMA own_3").await, "42P06");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_of_tables_and_views_is_never_seen_half_done() {
    const SWAPS: i64 = 200;
    let (_catalogs, daemon) = served(&[]);
    let writer = daemon.connect("lake").await;
    on(&writer, "CREATE SCHEMA desk").await;
    on(&writer, "CREATE TABLE desk.x AS SELECT 0 AS n").await;
    on(&writer, "CREATE VIEW desk.v AS SELECT 0 AS n").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut readers = tokio::task::JoinSet::new();
    for table in ["desk.x", "desk.v"] {
        let (client, stopped) = (daemon.connect("lake").await, stopped.clone());
        readers.spawn(async move {
            let (mut last, mut reads) = (0, 0);
            while !*stopped.borrow() {
                let now = number(&client, &format!("SELECT n FROM {table}")).await;
                assert!(now >= last, "{table} went back from {last} to {now}");
                (last, reads) = (now, reads + 1);
            }
            (last, reads)
        });
    }
    for swap in 1..=SWAPS {
        on(&writer, "BEGIN").await;
        on(&writer, &format!("CREATE TABLE desk.x__dbt_tmp AS (SELECT {swap} AS n)")).await;
        on(&writer, "ALTER TABLE desk.x RENAME TO x__dbt_backup").await;
        on(&writer, "ALTER TABLE desk.x__dbt_tmp RENAME TO x").await;
        on(&writer, "DROP TABLE IF EXISTS desk.x__dbt_backup CASCADE").await;
        on(&writer, "COMMIT").await;
        on(&writer, "BEGIN").await;
        on(&writer, &format!("CREATE VIEW desk.v__dbt_tmp AS (SELECT {swap} AS n)")).await;
        on(&writer, "ALTER VIEW desk.v RENAME TO v__dbt_backup").await;
        on(&writer, "ALTER TABLE desk.v__dbt_tmp RENAME TO v").await;
        on(&writer, "DROP VIEW IF EXISTS desk.v__dbt_backup CASCADE").await;
        on(&writer, "COMMIT").await;
    }
    stop.send(true).unwrap();
    for (_, reads) in readers.join_all().await {
        assert!(reads > 10, "a reader has looked {reads} times only");
    }
    for table in ["desk.x", "desk.v"] {
        assert_eq!(number(&writer, &format!("SELECT n FROM {table}")).await, SWAPS);
    }
    assert_eq!(rows(&writer, "SHOW TABLES FROM desk").await.len(), 2);
}

#[test]
fn a_transaction_that_takes_too_long_is_ended() {
    let (_catalogs, daemon) = served(&["--transaction-timeout-s", "2"]);
    let began = std::time::Instant::now();
    let mut bounded = Raw::connect(daemon.address, "lake");
    bounded.query("BEGIN; SET transaction_timeout = '1h'");
    assert_eq!(bounded.trace(), "C C ZT");
    let mut own = Raw::connect(daemon.address, "lake");
    own.query("SET transaction_timeout = '400ms'");
    assert_eq!(own.trace(), "C ZI");
    std::thread::sleep(Duration::from_millis(600));
    own.query("BEGIN");
    assert_eq!(own.trace(), "C ZT", "outside of a transaction time does not count");
    own.query("SELECT 1");
    assert_eq!(own.trace(), "T D C ZT");
    assert_eq!(own.trace(), "E25P04 end");
    let mut busy = Raw::connect(daemon.address, "lake");
    busy.query("SET transaction_timeout = '400ms'");
    assert_eq!(busy.trace(), "C ZI");
    busy.query("SELECT count(*) FROM tpch.sf10.lineitem AS a, tpch.sf10.lineitem AS b WHERE a.l_comment <> b.l_comment");
    assert!(busy.trace().ends_with("E25P04 end"), "a statement that runs is a transaction too");
    assert_eq!(bounded.trace(), "E25P04 end", "the daemon's bound holds whatever a session asks for");
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[test]
fn an_idle_session_is_ended_where_it_asks_for_it() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query("SET idle_session_timeout = '300ms'");
    assert_eq!(raw.trace(), "C ZI");
    raw.query("BEGIN");
    assert_eq!(raw.trace(), "C ZT");
    std::thread::sleep(Duration::from_millis(600));
    raw.query("COMMIT");
    assert_eq!(raw.trace(), "C ZI", "inside of a transaction the other timeout counts");
    assert_eq!(raw.trace(), "E57P05 end");
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_go_with_their_session() {
    let spill = tempfile::tempdir().unwrap();
    let flags = ["--spill-dir", spill.path().to_str().unwrap(), "--spill-limit", "2MB"];
    let (catalogs, daemon) = served(&flags);
    let keeper = daemon.connect("lake").await;
    let client = daemon.connect("lake").await;
    on(&client, "CREATE TEMP TABLE numbers AS SELECT * FROM generate_series(1, 1000) AS t(n)").await;
    on(&client, "CREATE TEMP TABLE others AS SELECT 1 AS n").await;
    on(&keeper, "CREATE TEMP TABLE kept AS SELECT 7 AS n").await;
    assert_eq!(files_below(spill.path(), "parquet"), 3);
    assert_eq!(files_below(&catalogs.path().join("sample/_lacus"), "parquet"), 0, "none lies in the lake");
    on(&client, "DROP TABLE others").await;
    assert_eq!(files_below(spill.path(), "parquet"), 2, "a dropped table takes its files with it");
    let many = "CREATE TEMP TABLE many AS SELECT l_comment, l_orderkey FROM tpch.sf1.lineitem LIMIT 400000";
    assert_eq!(code(&client, many).await, "53100");
    on(&client, "INSERT INTO numbers VALUES (1)").await;
    // A client that vanishes says nothing.
    drop(client);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while files_below(spill.path(), "parquet") > 1 && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(files_below(spill.path(), "parquet"), 1);
    assert_eq!(number(&keeper, "SELECT n FROM kept").await, 7);
}

/// Files with this extension, at any depth.
fn files_below(folder: &std::path::Path, extension: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let mut files = 0;
    for path in entries.flatten().map(|entry| entry.path()) {
        files += match path.is_dir() {
            true => files_below(&path, extension),
            false => usize::from(path.extension().is_some_and(|found| found == extension)),
        };
    }
    files
}
