//! Transactions over the wire: who gives way to whom.

use tokio_postgres::Client;

use crate::daemon::{Catalogs, Daemon, Setup, code, rows, try_rows};
use crate::faults::number;

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
