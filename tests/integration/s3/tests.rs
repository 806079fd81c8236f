//! What `storage` promises of a remote store, kept by a real one.

use std::sync::Arc;
use std::time::Duration;

use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::prelude::{CsvReadOptions, SessionContext, col};
use futures::future::join_all;
use lacus::error::Error;
use lacus::storage::{Location, PutOutcome, StoreOptions, Stores};
use tokio::runtime::Handle;

use crate::s3::*;
use crate::stores::{self, objects_live, one_create_wins};

fn open(target: &S3Target, prefix: &str, more: &str) -> Location {
    let folder = tempfile::tempdir().unwrap();
    let options = target.write_store_table(folder.path()) + more;
    stores::open(&(target.root() + prefix), folder.path(), &options)
}

/// A server whose faults the test switches, and its bucket.
fn faulty() -> (Arc<Faults>, S3Target) {
    let server = S3Server::start();
    (Arc::clone(&server.faults), server.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_of_many_racing_creates_wins() {
    let target = S3Target::for_tests().await;
    let location = open(&target, "lake/", "");
    one_create_wins(&location).await;
}

#[tokio::test]
async fn objects_are_written_listed_read_and_deleted() {
    let target = S3Target::for_tests().await;
    let location = open(&target, "deep/lake", "");
    assert_eq!(location.url, format!("s3://{}/deep/lake/", target.bucket));
    objects_live(&location, &open(&target, "", ""), "deep/lake").await;
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_found_by_reading() {
    let (faults, target) = faulty();
    let location = open(&target, "lake", "");
    let path = location.child("log/1.json");
    faults.lose_next_puts(1);
    let outcome = location.put_if_absent(&path, "ours".into()).await.unwrap();
    assert!(matches!(outcome, PutOutcome::Exists), "{outcome:?}");
    assert_eq!(location.read(&path).await.unwrap().unwrap(), "ours");

    let path = location.child("log/2.json");
    faults.lose_next_puts(usize::MAX);
    let outcome = location.put_if_absent(&path, "ours".into()).await.unwrap();
    assert!(matches!(outcome, PutOutcome::Ambiguous(_)), "{outcome:?}");
    assert_eq!(location.read(&path).await.unwrap().unwrap(), "ours");
}

#[tokio::test]
async fn a_busy_store_is_asked_again() {
    let (faults, target) = faulty();
    let location = open(&target, "lake", "");
    faults.refuse_every(2);
    for n in 0..5 {
        let path = location.child(&format!("t/{n}"));
        location.put(&path, "x".into()).await.unwrap();
        assert_eq!(location.read(&path).await.unwrap().unwrap(), "x");
        let slot = location.child(&format!("log/{n}"));
        assert!(matches!(location.put_if_absent(&slot, "x".into()).await.unwrap(), PutOutcome::Created));
    }
    assert_eq!(location.list(&location.child("t")).await.unwrap().len(), 5);
    faults.clear();

    faults.cut_next(2);
    assert_eq!(location.read(&location.child("t/0")).await.unwrap().unwrap(), "x");
    faults.cut_next(2);
    location.put(&location.child("t/0"), "y".into()).await.unwrap();
    faults.refuse_next(3);
    assert_eq!(location.read(&location.child("t/0")).await.unwrap().unwrap(), "y");
}

#[tokio::test]
async fn a_create_that_a_busy_store_refuses_may_be_sent_again() {
    let (faults, target) = faulty();
    let location = open(&target, "lake", "");
    let path = location.child("log/1.json");
    faults.refuse_next(100);
    let outcome = location.put_if_absent(&path, "ours".into()).await.unwrap();
    assert!(matches!(outcome, PutOutcome::Ambiguous(_)), "{outcome:?}");
    faults.clear();
    assert_eq!(location.read(&path).await.unwrap(), None);
    assert!(matches!(location.put_if_absent(&path, "ours".into()).await.unwrap(), PutOutcome::Created));
}

#[tokio::test]
async fn the_probe_tells_stores_apart() {
    let target = S3Target::for_tests().await;
    let location = open(&target, "lake", "");
    assert!(location.probe_create_race(&location.child("_lacus")).await.unwrap());
    assert!(location.list(&location.prefix).await.unwrap().is_empty());

    let (faults, target) = faulty();
    let location = open(&target, "lake", "");
    faults.ignore_conditions(true);
    assert!(!location.probe_create_race(&location.child("_lacus")).await.unwrap());
    faults.clear();
    faults.refuse_next(8);
    assert!(location.probe_create_race(&location.child("_lacus")).await.is_err());
    // The ninth create, after the race, is what is refused: that says nothing of the store.
    for what in [AtPut::Refuse, AtPut::Lose] {
        faults.at_put(9, what);
        let verdict = location.probe_create_race(&location.child("_lacus")).await;
        assert!(!matches!(verdict, Ok(false)), "{what:?}");
        assert!(!faults.is_planned());
    }
}

#[tokio::test]
async fn secrets_show_neither_in_errors_nor_in_debug_output() {
    let mut target = S3Target::for_tests().await;
    let location = open(&target, "lake", "");
    let key = target.secret_key.clone();
    assert!(!format!("{location:?} {}", location.store).contains(&key), "{location:?}");

    target.secret_key = "hunter2hunter2".to_owned();
    let stranger = open(&target, "lake", "");
    let path = stranger.child("x");
    let refused = [
        stranger.read(&path).await.map(drop),
        stranger.put(&path, "x".into()).await,
        stranger.put_if_absent(&path, "x".into()).await.map(drop),
        stranger.list(&stranger.prefix).await.map(drop),
        stranger.probe_create_race(&stranger.prefix).await.map(drop),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert!(matches!(error, Error::PermissionDenied(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    target.bucket = "no-such-bucket".to_owned();
    target.secret_key = key;
    let nowhere = open(&target, "lake", "");
    let error = nowhere.list(&nowhere.prefix).await.unwrap_err();
    assert!(matches!(&error, Error::FileNotFound(url) if *url == nowhere.url), "{error:?}");
    // Same bucket, other credentials, same runtime: the first location still works.
    assert!(location.list(&location.prefix).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_location_keeps_its_limit_of_requests() {
    let (faults, target) = faulty();
    let location = open(&target, "lake", "requests_max = 2");
    faults.delay(Duration::from_millis(20));
    let paths: Vec<_> = (0..10).map(|n| location.child(&format!("t/{n}"))).collect();
    let puts = paths.iter().map(|path| location.put(path, "x".into()));
    assert!(join_all(puts).await.iter().all(Result::is_ok));
    assert_eq!((faults.requests(), faults.under_way_max()), (10, 2));
}

#[tokio::test]
async fn datafusion_reads_through_the_registered_store() {
    let target = S3Target::for_tests().await;
    let folder = tempfile::tempdir().unwrap();
    let options: StoreOptions = toml::from_str(&target.write_store_table(folder.path())).unwrap();
    let context = SessionContext::new();
    let stores = Stores::new(Handle::current(), 32);
    let location = stores.open(&target.root(), folder.path(), &options, &context.runtime_env()).unwrap();
    location.put(&location.child("t/month=1/a.csv"), "n\n1\n2\n".into()).await.unwrap();
    location.put(&location.child("t/month=2/b.csv"), "n\n39\n".into()).await.unwrap();
    let table = format!("{}{}", location.store_url, location.child("t/"));
    let rows = context.read_csv(format!("{table}/"), CsvReadOptions::new()).await.unwrap();
    let total = rows.aggregate(vec![], vec![sum(col("n"))]).unwrap().to_string().await.unwrap();
    assert!(total.contains("| 42 "), "{total}");
}

/// A CPU runtime that is given no I/O driver at all can still use the store.
#[test]
fn requests_run_on_the_io_runtime() {
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (location, _target) = io.block_on(async {
        let target = S3Target::for_tests().await;
        (open(&target, "lake", ""), target)
    });
    let cpu = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    cpu.block_on(async {
        location.put(&location.child("x"), vec![1_u8; 1 << 20].into()).await.unwrap();
        assert_eq!(location.read(&location.child("x")).await.unwrap().unwrap().len(), 1 << 20);
    });
}
