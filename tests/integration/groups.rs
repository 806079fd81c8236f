//! Group commit: sessions that commit at one moment share an entry of the log, and nothing is lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};

use crate::daemon::{Daemon, Setup, code, rows, try_rows};
use crate::faults::{in_bucket, number};
use crate::s3::{Faults, S3Server, S3Target};

const SESSIONS: usize = 12;
const COMMITS: usize = 4;

struct Lake {
    store: AmazonS3,
    faults: Arc<Faults>,
    _target: S3Target,
    _catalogs: crate::daemon::Catalogs,
    daemon: Daemon,
}

async fn lake(flags: &[&str]) -> Lake {
    let server = S3Server::start();
    let faults = Arc::clone(&server.faults);
    let target = S3Target::from(server);
    let store = AmazonS3Builder::new()
        .with_endpoint(&target.endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(&target.bucket)
        .with_access_key_id(&target.access_key)
        .with_secret_access_key(&target.secret_key)
        .build()
        .expect("the store's options are complete");
    let catalogs = in_bucket(&target);
    let daemon = Setup::default().with(flags).serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
    rows(&client, "CREATE TABLE mart.shared (session integer, n integer)").await;
    for session in 0..SESSIONS {
        rows(&client, &format!("CREATE TABLE mart.own_{session} (n integer)")).await;
    }
    Lake { store, faults, _target: target, _catalogs: catalogs, daemon }
}

impl Lake {
    /// The entries of the log, by version.
    async fn entries(&self) -> Vec<serde_json::Value> {
        let mut entries = Vec::new();
        loop {
            let path = format!("_lacus/log/{:020}.json", entries.len() + 1);
            match self.store.get(&object_store::path::Path::from(path)).await {
                Ok(found) => {
                    let bytes = found.bytes().await.unwrap();
                    entries.push(serde_json::from_slice(&bytes).unwrap());
                }
                Err(object_store::Error::NotFound { .. }) => return entries,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Every session appends to the shared table and to one of its own, in one transaction each time.
    async fn append_from_all(&self) {
        let mut sessions = tokio::task::JoinSet::new();
        for session in 0..SESSIONS {
            let client = self.daemon.connect("lake").await;
            sessions.spawn(async move {
                for n in 0..COMMITS {
                    rows(
                        &client,
                        &format!(
                            "INSERT INTO mart.own_{session} VALUES ({n}); \
                             INSERT INTO mart.shared VALUES ({session}, {n})"
                        ),
                    )
                    .await;
                }
            });
        }
        sessions.join_all().await;
    }

    async fn assert_all_there(&self) {
        let client = self.daemon.connect("lake").await;
        let sql = "SELECT count(*), count(DISTINCT session * 100 + n) FROM mart.shared";
        let all = Some((SESSIONS * COMMITS).to_string());
        assert_eq!(rows(&client, sql).await, [[all.clone(), all]]);
        for session in 0..SESSIONS {
            let own = number(&client, &format!("SELECT count(*) FROM mart.own_{session}")).await;
            assert_eq!(own, COMMITS as i64);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_one_moment_share_an_entry() {
    let lake = lake(&[]).await;
    let before = lake.entries().await.len();
    lake.faults.delay(Duration::from_millis(20));
    lake.append_from_all().await;
    lake.faults.clear();
    lake.assert_all_there().await;
    let entries = lake.entries().await.split_off(before);
    assert!(entries.len() < SESSIONS * COMMITS, "{} entries", entries.len());
    let mut transactions = HashSet::new();
    let mut queries = HashSet::new();
    for entry in &entries {
        let alone = vec![entry.clone()];
        let members = entry["members"].as_array().unwrap_or(&alone);
        let mut operations = 0;
        for member in members {
            assert_eq!(member["user"], "ada");
            assert!(transactions.insert(member["transaction"].as_str().unwrap().to_owned()));
            assert!(queries.insert(member["query"].as_str().unwrap().to_owned()));
            operations += member["operations"].as_u64().unwrap_or_default() as usize;
        }
        let all = entry["operations"].as_array().unwrap().len();
        assert!(members.len() == 1 || operations == all, "{operations} of {all} operations have an owner");
    }
    assert_eq!(transactions.len(), SESSIONS * COMMITS, "every transaction is in the log once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_is_no_group() {
    let lake = lake(&["--commit-group-max", "1"]).await;
    let before = lake.entries().await.len();
    lake.append_from_all().await;
    lake.assert_all_there().await;
    let entries = lake.entries().await.split_off(before);
    assert_eq!(entries.len(), SESSIONS * COMMITS);
    assert!(entries.iter().all(|entry| entry.get("members").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_answer_is_lost_is_committed_once() {
    let lake = lake(&[]).await;
    lake.faults.delay(Duration::from_millis(5));
    let faults = Arc::clone(&lake.faults);
    let losing = tokio::spawn(async move {
        for _ in 0..20 {
            faults.lose_next_puts(1);
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    });
    lake.append_from_all().await;
    losing.await.unwrap();
    lake.faults.clear();
    lake.assert_all_there().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_takes_nobody_with_it() {
    let lake = lake(&[]).await;
    let client = lake.daemon.connect("lake").await;
    rows(&client, "CREATE TABLE mart.prize AS SELECT 0 AS winner").await;
    let mut racers = Vec::new();
    for racer in 0..6 {
        let client = lake.daemon.connect("lake").await;
        rows(&client, "BEGIN").await;
        rows(&client, &format!("INSERT OVERWRITE mart.prize SELECT {racer}")).await;
        racers.push(client);
    }
    let mut appender = tokio::task::JoinSet::new();
    for session in 0..6 {
        let client = lake.daemon.connect("lake").await;
        appender.spawn(async move {
            rows(&client, &format!("INSERT INTO mart.own_{session} VALUES (1)")).await;
        });
    }
    lake.faults.delay(Duration::from_millis(20));
    let ends = racers.iter().map(|client| try_rows(client, "COMMIT"));
    let ends = futures::future::join_all(ends).await;
    appender.join_all().await;
    lake.faults.clear();
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1, "one racer wins: {ends:?}");
    for lost in ends.iter().filter_map(|end| end.as_ref().err()) {
        assert_eq!(lost.code().map(|code| code.code()), Some("40001"));
    }
    assert_eq!(number(&client, "SELECT count(*) FROM mart.prize").await, 1);
    for session in 0..6 {
        assert_eq!(number(&client, &format!("SELECT count(*) FROM mart.own_{session}")).await, 1);
    }
    assert_eq!(code(&client, "CREATE TABLE mart.prize (n integer)").await, "42P07");
}
