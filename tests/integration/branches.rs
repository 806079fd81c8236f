//! Branches over two daemons: what each sees, and that a merge takes everything or nothing.

use std::time::Duration;

use tokio_postgres::Client;

use crate::daemon::{Catalogs, Daemon, Setup, code, rows, try_rows};
use crate::faults::{in_bucket, number};
use crate::s3::{S3Server, S3Target};

async fn on(client: &Client, sql: &str) {
    rows(client, sql).await;
}

async fn pair(target: &S3Target) -> ([Catalogs; 2], [Daemon; 2]) {
    let catalogs = [in_bucket(target), in_bucket(target)];
    let daemons = [0, 1].map(|at: usize| Setup::default().serve(catalogs[at].path()));
    let client = daemons[0].connect("lake").await;
    on(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
    on(&client, "CREATE TABLE mart.marks (writer integer, n integer)").await;
    (catalogs, daemons)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_to_a_branch_is_in_its_merge() {
    let target = S3Target::for_tests().await;
    let (_catalogs, daemons) = pair(&target).await;
    let main = daemons[0].connect("lake").await;
    on(&main, "INSERT INTO mart.marks VALUES (0, 0)").await;
    for round in 1..=3 {
        on(&main, "CREATE BRANCH dev").await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let client = daemons[writer % 2].connect("lake@dev").await;
            writers.spawn(async move {
                let mut acknowledged = 0;
                loop {
                    let sql = format!("INSERT INTO mart.marks VALUES ({round}, {writer})");
                    match try_rows(&client, &sql).await {
                        Ok(_) => acknowledged += 1,
                        Err(error) => {
                            let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
                            assert!(["55006", "3D000"].contains(&code.as_str()), "{error}");
                            return acknowledged;
                        }
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        let counted = format!("SELECT count(*) FROM mart.marks WHERE writer = {round}");
        assert_eq!(number(&main, &counted).await, 0, "main sees nothing of a branch");
        on(&main, "INSERT INTO mart.marks VALUES (0, 0)").await;
        on(&main, "MERGE BRANCH dev").await;
        let acknowledged: i64 = writers.join_all().await.into_iter().sum();
        assert!(acknowledged > 0);
        let other = daemons[1].connect("lake").await;
        assert_eq!(number(&other, &counted).await, acknowledged, "none is lost, none comes twice");
        assert_eq!(number(&other, "SELECT count(*) FROM mart.marks WHERE writer = 0").await, round + 1);
        let gone = daemons[1].try_connect("lake@dev").await.expect_err("the branch has ended");
        assert_eq!(gone.code().map(|code| code.code()), Some("3D000"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_fails_leaves_the_branch_open() {
    let target = S3Target::for_tests().await;
    let (catalogs, mut daemons) = pair(&target).await;
    let main = daemons[0].connect("lake").await;
    on(&main, "INSERT INTO mart.marks VALUES (0, 0)").await;
    on(&main, "CREATE BRANCH dev").await;
    let dev = daemons[1].connect("lake@dev").await;
    // Past a checkpoint of the branch's own.
    for n in 0..70 {
        on(&dev, &format!("INSERT INTO mart.marks VALUES (1, {n})")).await;
    }
    on(&dev, "UPDATE mart.marks SET n = -1 WHERE writer = 0").await;
    on(&main, "UPDATE mart.marks SET n = -2 WHERE writer = 0").await;
    for _ in 0..2 {
        assert_eq!(code(&main, "MERGE BRANCH dev").await, "40001");
    }
    on(&dev, "INSERT INTO mart.marks VALUES (2, 0)").await;
    daemons[1].kill();
    let again = Setup::default().serve(catalogs[1].path());
    let dev = again.connect("lake@dev").await;
    assert_eq!(number(&dev, "SELECT count(*) FROM mart.marks").await, 72);
    assert_eq!(number(&dev, "SELECT n FROM mart.marks WHERE writer = 0").await, -1);
    assert_eq!(number(&main, "SELECT n FROM mart.marks WHERE writer = 0").await, -2);
    on(&main, "ALTER TABLE mart.marks RESTORE TO VERSION 2").await;
    // What the branch rewrote is there again, but as another commit's file: the rows are those of main.
    let merged = try_rows(&main, "MERGE BRANCH dev").await;
    assert!(merged.is_ok(), "{merged:?}");
    assert_eq!(number(&again.connect("lake").await, "SELECT count(*) FROM mart.marks").await, 72);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_merges_one_wins() {
    let target = S3Target::for_tests().await;
    let (_catalogs, daemons) = pair(&target).await;
    let (one, other) = (daemons[0].connect("lake").await, daemons[1].connect("lake").await);
    for round in 1..=5 {
        on(&one, "CREATE BRANCH dev").await;
        let dev = daemons[0].connect("lake@dev").await;
        on(&dev, &format!("INSERT INTO mart.marks VALUES ({round}, 0)")).await;
        let (a, b) = tokio::join!(try_rows(&one, "MERGE BRANCH dev"), try_rows(&other, "MERGE BRANCH dev"));
        let won = [&a, &b].into_iter().filter(|merged| merged.is_ok()).count();
        // Both can lose, when each has stopped the other; then nothing is merged, and the branch goes on.
        if won == 0 {
            on(&one, "MERGE BRANCH dev").await;
        }
        assert!(won <= 1, "{a:?} {b:?}");
        assert_eq!(number(&other, "SELECT count(*) FROM mart.marks").await, round);
        assert_eq!(rows(&other, "SHOW BRANCHES").await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_is_killed_can_be_run_again() {
    let server = S3Server::start();
    let faults = std::sync::Arc::clone(&server.faults);
    let target = S3Target::from(server);
    let (catalogs, mut daemons) = pair(&target).await;
    let keeper = daemons[1].connect("lake").await;
    for (round, moment_ms) in [30, 90, 150, 250, 400].into_iter().enumerate() {
        let main = daemons[0].connect("lake").await;
        on(&main, "CREATE BRANCH dev").await;
        let dev = daemons[0].connect("lake@dev").await;
        on(&dev, &format!("INSERT INTO mart.marks VALUES (1, {round})")).await;
        on(&dev, &format!("CREATE TABLE mart.made_{round} AS SELECT 1 AS n")).await;
        on(&main, &format!("INSERT INTO mart.marks VALUES (0, {round})")).await;
        faults.delay(Duration::from_millis(25));
        let merging = tokio::spawn(async move { try_rows(&main, "MERGE BRANCH dev").await.is_ok() });
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        daemons[0].kill();
        let answered = merging.await.unwrap();
        faults.clear();
        let is_open = rows(&keeper, "SHOW BRANCHES").await.len() == 1;
        let merged = number(&keeper, "SELECT count(*) FROM mart.marks WHERE writer = 1").await;
        let tables = rows(&keeper, &format!("SHOW TABLES FROM mart LIKE 'made\\_{round}'")).await.len();
        assert_eq!(merged as usize, round + usize::from(!is_open), "all of it or nothing");
        assert_eq!(tables, usize::from(!is_open));
        assert!(!(answered && is_open), "what was answered is merged");
        if is_open {
            on(&keeper, "MERGE BRANCH dev").await;
        }
        assert_eq!(number(&keeper, "SELECT count(*) FROM mart.marks").await as usize, 2 * (round + 1));
        daemons[0] = Setup::default().serve(catalogs[0].path());
    }
}
