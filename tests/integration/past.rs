//! The past of a lake: from another daemon, by time, by snapshot, by the name of the database.

use std::time::Duration;

use tokio_postgres::Client;

use crate::daemon::{Catalogs, Daemon, Setup, code, rows, try_rows};
use crate::faults::{in_bucket, number};
use crate::s3::S3Target;

async fn on(client: &Client, sql: &str) {
    rows(client, sql).await;
}

async fn text(client: &Client, sql: &str) -> String {
    rows(client, sql).await[0][0].clone().expect("a value")
}

/// The instant between two commits.
async fn instant(client: &Client) -> String {
    tokio::time::sleep(Duration::from_millis(20)).await;
    let now = text(client, "SELECT now()").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    now
}

async fn pair() -> (S3Target, [Catalogs; 2], [Daemon; 2]) {
    let target = S3Target::for_tests().await;
    let catalogs = [in_bucket(&target), in_bucket(&target)];
    let daemons = [0, 1].map(|at: usize| Setup::default().serve(catalogs[at].path()));
    (target, catalogs, daemons)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_just_started_knows_the_whole_past() {
    let (_target, _catalogs, daemons) = pair().await;
    let writer = daemons[0].connect("lake").await;
    on(&writer, "CREATE SCHEMA IF NOT EXISTS mart").await;
    on(&writer, "CREATE TABLE mart.a (n integer)").await;
    on(&writer, "CREATE TABLE mart.b (n integer)").await;
    let mut instants = Vec::new();
    // Past a checkpoint, and both tables always in one commit.
    for n in 1..=70 {
        on(&writer, &format!("INSERT INTO mart.a VALUES ({n}); INSERT INTO mart.b VALUES ({n})")).await;
        if n % 10 == 0 {
            instants.push((n, instant(&writer).await));
        }
    }
    on(&writer, "ALTER TABLE mart.a RENAME TO c").await;
    let reader = daemons[1].connect("lake").await;
    let both = "SELECT (SELECT count(*) FROM mart.a) * 1000 + (SELECT count(*) FROM mart.b)";
    for (n, instant) in instants.iter().rev() {
        on(&reader, &format!("SET lacus.as_of = '{instant}'")).await;
        assert_eq!(number(&reader, both).await, n * 1001, "as of {instant}");
        on(&reader, "RESET lacus.as_of").await;
        let sql = format!("SELECT count(*) FROM mart.a FOR TIMESTAMP AS OF '{instant}'");
        assert_eq!(number(&reader, &sql).await, *n);
    }
    assert_eq!(code(&reader, both).await, "42P01");
    let database = format!("'lake@{}'", instants[2].1.replace(' ', "T"));
    let past = daemons[1].connect(&database).await;
    assert_eq!(number(&past, both).await, 30_030);
    assert_eq!(text(&past, "SELECT current_database()").await, "lake");
    assert_eq!(code(&past, "INSERT INTO mart.a VALUES (0)").await, "25006");
    // The first two versions are the tables.
    on(&past, "SET lacus.as_of = '4'").await;
    assert_eq!(number(&past, both).await, 2002);
    on(&past, "RESET ALL").await;
    assert_eq!(number(&past, both).await, 30_030, "the database's name is where RESET goes back to");
    let past = daemons[0].connect("lake@12").await;
    assert_eq!(number(&past, both).await, 10_010);
    for nothing in ["lake@", "lake@some_day", "lakes@4"] {
        let refused = daemons[0].try_connect(nothing).await.expect_err(nothing);
        assert_eq!(refused.code().map(|code| code.code()), Some("3D000"), "{nothing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_files_are_gone_says_so() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    on(&client, "CREATE SCHEMA desk").await;
    on(&client, "CREATE TABLE desk.t AS SELECT 1 AS n").await;
    on(&client, "INSERT INTO desk.t VALUES (2)").await;
    let tables = catalogs.path().join("sample/_lacus/tables");
    let table = std::fs::read_dir(tables).unwrap().next().unwrap().unwrap().path();
    for file in std::fs::read_dir(table.join("metadata")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("00000-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    drop(daemon);
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    assert_eq!(number(&client, "SELECT count(*) FROM desk.t").await, 2);
    let error = try_rows(&client, "SELECT * FROM desk.t FOR VERSION AS OF 2").await.unwrap_err();
    let error = error.as_db_error().expect("the daemon's own error");
    assert_eq!(error.code().code(), "72000", "{error}");
    on(&client, "SET lacus.as_of = '2'").await;
    assert_eq!(code(&client, "SELECT * FROM desk.t").await, "72000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_a_snapshot_of_the_table_first() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    on(&client, "CREATE SCHEMA desk").await;
    on(&client, "CREATE TABLE desk.t AS SELECT 1 AS n").await;
    on(&client, "INSERT INTO desk.t VALUES (2)").await;
    on(&client, "DELETE FROM desk.t WHERE n = 1").await;
    on(&client, "ALTER TABLE desk.t RENAME TO u").await;
    let ids = rows(&client, "SELECT snapshot_id FROM desk.\"u$snapshots\" ORDER BY committed_at").await;
    let ids: Vec<String> = ids.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    for (id, wanted) in ids.iter().zip([1, 3, 2]) {
        let sql = format!("SELECT sum(n) FROM desk.u FOR VERSION AS OF {id}");
        assert_eq!(number(&client, &sql).await, wanted);
    }
    let changes = format!("SELECT count(*) FROM table_changes('desk.u', {}, {})", ids[0], ids[2]);
    assert_eq!(number(&client, &changes).await, 2);
    let backwards = format!("SELECT count(*) FROM table_changes('desk.u', {}, {})", ids[2], ids[0]);
    assert_eq!(code(&client, &backwards).await, "22023");
    on(&client, "BEGIN").await;
    on(&client, &format!("ALTER TABLE desk.u RESTORE TO VERSION {}", ids[1])).await;
    assert_eq!(number(&client, "SELECT sum(n) FROM desk.u").await, 3);
    on(&client, "ROLLBACK").await;
    assert_eq!(number(&client, "SELECT sum(n) FROM desk.u").await, 2);
    let prepared =
        client.prepare(&format!("SELECT n FROM desk.u FOR VERSION AS OF {}", ids[0])).await.unwrap();
    assert_eq!(client.query_one(&prepared, &[]).await.unwrap().get::<_, i32>(0), 1);
    let unknown = client.prepare("SELECT n FROM desk.u FOR VERSION AS OF $1").await.unwrap_err();
    assert_eq!(unknown.code().map(|code| code.code()), Some("0A000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_one_lake_is_a_time_of_the_others() {
    let catalogs = Catalogs::on_disk();
    std::fs::write(catalogs.path().join("other.toml"), "root = \"other/\"\n").unwrap();
    std::fs::create_dir(catalogs.path().join("other")).unwrap();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    on(&client, "CREATE TABLE other.public.t AS SELECT 1 AS n").await;
    on(&client, "CREATE TABLE public.t AS SELECT 1 AS n").await;
    instant(&client).await;
    on(&client, "INSERT INTO other.public.t VALUES (2)").await;
    on(&client, "INSERT INTO public.t VALUES (2)").await;
    let both = "SELECT (SELECT count(*) FROM public.t) * 10 + (SELECT count(*) FROM other.public.t)";
    assert_eq!(number(&client, both).await, 22);
    on(&client, "SET lacus.as_of = '1'").await;
    assert_eq!(number(&client, both).await, 11);
    assert_eq!(code(&client, "INSERT INTO other.public.t VALUES (3)").await, "25006");
    on(&client, "RESET lacus.as_of").await;
    let one = "SELECT (SELECT count(*) FROM public.t FOR VERSION AS OF 1) * 10 \
        + (SELECT count(*) FROM other.public.t FOR VERSION AS OF 1)";
    assert_eq!(number(&client, one).await, 11);
}
