//! One lake, several daemons and sessions: what each sees, and who wins.

use crate::daemon::{Catalogs, Daemon, Setup, code, rows, try_rows};
use crate::faults::{in_bucket, number};
use crate::s3::S3Target;

/// Two daemons over one bucket, each with a catalog folder of its own.
async fn pair() -> (S3Target, [Catalogs; 2], [Daemon; 2]) {
    let target = S3Target::for_tests().await;
    let catalogs = [in_bucket(&target), in_bucket(&target)];
    let daemons = [0, 1].map(|at: usize| Setup::default().serve(catalogs[at].path()));
    rows(&daemons[0].connect("lake").await, "CREATE SCHEMA IF NOT EXISTS mart").await;
    (target, catalogs, daemons)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_daemon_writes_the_other_reads_next() {
    let (_target, _catalogs, daemons) = pair().await;
    let (one, other) = (daemons[0].connect("lake").await, daemons[1].connect("lake").await);
    rows(&one, "CREATE TABLE mart.marks AS SELECT 0 AS n").await;
    for n in 1..=5 {
        let (writer, reader) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        rows(writer, &format!("INSERT INTO mart.marks VALUES ({n})")).await;
        assert_eq!(number(reader, "SELECT count(*) FROM mart.marks").await, n + 1);
        assert_eq!(number(reader, "SELECT max(n) FROM mart.marks").await, n);
    }
    rows(&other, "DROP TABLE mart.marks").await;
    assert_eq!(code(&one, "SELECT * FROM mart.marks").await, "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_from_everywhere_lose_nothing() {
    const CLIENTS: usize = 8;
    const INSERTS: usize = 10;
    let (_target, _catalogs, daemons) = pair().await;
    rows(&daemons[0].connect("lake").await, "CREATE TABLE mart.marks (writer integer, n integer)").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..CLIENTS {
        let client = daemons[writer % 2].connect("lake").await;
        writers.spawn(async move {
            for n in 0..INSERTS {
                rows(&client, &format!("INSERT INTO mart.marks VALUES ({writer}, {n})")).await;
            }
        });
    }
    writers.join_all().await;
    for daemon in &daemons {
        let client = daemon.connect("lake").await;
        let sql = "SELECT count(*), count(DISTINCT writer * 100 + n) FROM mart.marks";
        let all = Some((CLIENTS * INSERTS).to_string());
        assert_eq!(rows(&client, sql).await, [[all.clone(), all]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_creator_wins() {
    let (_target, _catalogs, daemons) = pair().await;
    for round in 0..4 {
        let mut creators = tokio::task::JoinSet::new();
        for creator in 0..4 {
            let client = daemons[creator % 2].connect("lake").await;
            creators.spawn(async move {
                let sql = format!("CREATE TABLE mart.race{round} AS SELECT {creator} AS winner");
                let made = try_rows(&client, &sql).await;
                made.map(|_| creator).map_err(|error| error.code().map(|code| code.code().to_owned()))
            });
        }
        let results = creators.join_all().await;
        let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        let lost = Err(Some("42P07".to_owned()));
        assert_eq!(results.iter().filter(|result| **result == lost).count(), 3, "{results:?}");
        let client = daemons[0].connect("lake").await;
        let found = number(&client, &format!("SELECT winner FROM mart.race{round}")).await;
        assert_eq!(found, *winners[0] as i64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_gives_way_rather_than_lose_rows() {
    let (_target, _catalogs, daemons) = pair().await;
    let (one, other) = (daemons[0].connect("lake").await, daemons[1].connect("lake").await);
    rows(&one, "CREATE TABLE mart.marks AS SELECT 1 AS n").await;
    rows(&one, "BEGIN").await;
    rows(&one, "INSERT OVERWRITE mart.marks SELECT n + 10 FROM mart.marks").await;
    rows(&other, "INSERT INTO mart.marks VALUES (2)").await;
    assert_eq!(code(&one, "COMMIT").await, "40001");
    let sql = "SELECT n FROM mart.marks ORDER BY n";
    assert_eq!(rows(&one, sql).await, [[Some("1".to_owned())], [Some("2".to_owned())]]);
    rows(&one, "INSERT OVERWRITE mart.marks SELECT n + 10 FROM mart.marks").await;
    assert_eq!(rows(&other, sql).await, [[Some("11".to_owned())], [Some("12".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_reads_one_snapshot() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let (reader, writer) = (daemon.connect("lake").await, daemon.connect("lake").await);
    rows(&writer, "CREATE SCHEMA IF NOT EXISTS mart").await;
    rows(&writer, "CREATE TABLE mart.one AS SELECT 1 AS n").await;
    rows(&writer, "CREATE TABLE mart.two AS SELECT 1 AS n").await;
    let both = "SELECT (SELECT count(*) FROM mart.one) * 10 + (SELECT count(*) FROM mart.two)";
    rows(&reader, "BEGIN").await;
    assert_eq!(number(&reader, both).await, 11);
    rows(&writer, "BEGIN").await;
    rows(&writer, "INSERT INTO mart.one VALUES (2)").await;
    rows(&writer, "INSERT INTO mart.two VALUES (2)").await;
    assert_eq!(number(&writer, both).await, 22, "a transaction sees its own rows");
    assert_eq!(number(&reader, both).await, 11);
    rows(&writer, "COMMIT").await;
    assert_eq!(number(&reader, both).await, 11);
    rows(&reader, "COMMIT").await;
    assert_eq!(number(&reader, both).await, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_and_folders_are_seen() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    let root = catalogs.path().join("sample");
    assert_eq!(code(&client, "SELECT * FROM inbox.marks").await, "42P01");
    std::fs::create_dir_all(root.join("inbox/marks")).unwrap();
    std::fs::write(root.join("inbox/marks/a.csv"), "n\n1\n2\n").unwrap();
    assert_eq!(number(&client, "SELECT sum(n) FROM inbox.marks").await, 3);
    std::fs::write(root.join("inbox/marks/b.csv"), "n\n3\n").unwrap();
    assert_eq!(number(&client, "SELECT sum(n) FROM inbox.marks").await, 6);
    std::fs::remove_file(root.join("inbox/marks/a.csv")).unwrap();
    assert_eq!(number(&client, "SELECT sum(n) FROM inbox.marks").await, 3);
}
