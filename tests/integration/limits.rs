//! Limits: what stops a query, and what a heavy one may not do to the others.

use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::daemon::{Catalogs, Daemon, Setup, code, rows};
use crate::raw::Raw;

/// Keeps every query thread busy for minutes.
const HEAVY: &str = "SELECT count(*) FROM tpch.sf100.lineitem WHERE md5(l_comment) = 'x'";

fn served(flags: &[&str]) -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(flags).serve(catalogs.path());
    (catalogs, daemon)
}

/// Waits until a metric has a value; panics after ten seconds.
async fn wait_for(daemon: &Daemon, metric: &str, value: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemon.metric(metric) != value {
        assert!(Instant::now() < deadline, "{metric} is {} instead of {value}", daemon.metric(metric));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_and_a_timeout_stop_a_query() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    let token = client.cancel_token();
    let heavy = tokio::spawn(async move { (code(&client, HEAVY).await, client) });
    wait_for(&daemon, "lacus_queries_running", 1).await;
    let asked = Instant::now();
    token.cancel_query(NoTls).await.unwrap();
    let (stopped, client) = heavy.await.unwrap();
    assert_eq!(stopped, "57014");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    rows(&client, "SET statement_timeout = '500ms'").await;
    let began = Instant::now();
    assert_eq!(code(&client, HEAVY).await, "57014");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    rows(&client, "SET statement_timeout = 0").await;
    assert_eq!(rows(&client, "SELECT 1").await.len(), 1);
    wait_for(&daemon, "lacus_queries_running", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_with_its_client() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query(HEAVY);
    wait_for(&daemon, "lacus_queries_running", 1).await;
    drop(raw);
    wait_for(&daemon, "lacus_queries_running", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_costs_no_memory() {
    let (_catalogs, daemon) = served(&[]);
    // The first comment that is read makes the generator's text of 300 MiB, which then stays.
    rows(&daemon.connect("tpch").await, "SELECT max(l_comment) FROM tiny.lineitem").await;
    let idle = daemon.resident_bytes();
    let mut raw = Raw::connect(daemon.address, "tpch");
    raw.query("SELECT * FROM sf1.lineitem");
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let grown = daemon.resident_bytes().saturating_sub(idle);
        assert!(grown < 256 << 20, "{grown} bytes more than idle");
    }
    assert_eq!(daemon.metric("lacus_queries_running"), 1);
    drop(raw);
    wait_for(&daemon, "lacus_queries_running", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_waits_for_its_turn() {
    let (_catalogs, daemon) = served(&["--queries-max", "1"]);
    let mut first = Raw::connect(daemon.address, "lake");
    // Nobody reads it, so it keeps its place.
    first.query("SELECT * FROM tpch.sf1.lineitem");
    wait_for(&daemon, "lacus_queries_running", 1).await;
    let client = daemon.connect("tpch").await;
    let token = client.cancel_token();
    let waiting = tokio::spawn(async move {
        (code(&client, "SELECT count(*) FROM sf1.orders WHERE o_orderkey > 0").await, client)
    });
    wait_for(&daemon, "lacus_queries_waiting", 1).await;
    // What is about the catalog, or reads little, waits for nobody.
    let light = daemon.connect("lake").await;
    let listed = "SELECT state, count(*) FROM system.runtime.queries WHERE query LIKE '%orders%' \
        OR query LIKE '%lineitem%' GROUP BY 1 ORDER BY 1";
    let listed = rows(&light, listed).await;
    let states: Vec<_> = listed.iter().map(|row| row[0].as_deref().unwrap()).collect();
    assert_eq!(states, ["QUEUED", "RUNNING"]);
    for sql in [
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace",
        "SELECT count(*) FROM information_schema.tables",
        "SELECT count(*) FROM raw.airlines",
        "SELECT count(*) FROM tpch.tiny.orders",
        "EXPLAIN SELECT count(*) FROM tpch.sf100.lineitem",
        "SHOW TABLES FROM raw",
    ] {
        let answered = tokio::time::timeout(Duration::from_secs(10), rows(&light, sql)).await;
        assert!(!answered.unwrap_or_else(|_| panic!("{sql}: it waits")).is_empty());
    }
    assert_eq!(daemon.metric("lacus_queries_waiting"), 1);
    token.cancel_query(NoTls).await.unwrap();
    let (stopped, client) = waiting.await.unwrap();
    assert_eq!(stopped, "57014");
    wait_for(&daemon, "lacus_queries_waiting", 0).await;
    drop(first);
    let counted = rows(&client, "SELECT count(*) FROM sf0_1.orders").await;
    assert_eq!(counted, [[Some("150000".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_queries_do_not_silence_a_light_one() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let (_catalogs, daemon) = served(&["--threads", "1", "--queries-max", "4"]);
    let mut heavy = Vec::new();
    for number in [1, 9, 18, 21, 3] {
        let mut raw = Raw::connect(daemon.address, "tpch");
        raw.query(&format!("SET search_path = sf10; {}", crate::tpch::query(number)));
        heavy.push(raw);
    }
    wait_for(&daemon, "lacus_queries_running", 4).await;
    wait_for(&daemon, "lacus_queries_waiting", 1).await;
    let client = daemon.connect("lake").await;
    for round in 0..20 {
        for sql in ["SELECT 1", "SELECT count(*) FROM pg_class", "SHOW search_path"] {
            let asked = Instant::now();
            assert_eq!(rows(&client, sql).await.len(), 1);
            assert!(asked.elapsed() < PATIENCE, "{sql} took {:?} in round {round}", asked.elapsed());
        }
        let asked = Instant::now();
        rows(&daemon.connect("lake").await, "SELECT 1").await;
        assert!(asked.elapsed() < PATIENCE, "a login took {:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let token = client.cancel_token();
    let stopped = tokio::spawn(async move { code(&client, HEAVY).await });
    wait_for(&daemon, "lacus_queries_waiting", 2).await;
    let asked = Instant::now();
    token.cancel_query(NoTls).await.unwrap();
    assert_eq!(stopped.await.unwrap(), "57014");
    assert!(asked.elapsed() < PATIENCE, "a cancel in the queue took {:?}", asked.elapsed());
    assert_eq!(daemon.metric("lacus_queries_running"), 4, "the heavy ones are still at it");
    drop(heavy);
    wait_for(&daemon, "lacus_queries_running", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_a_running_query_finish() {
    let (_catalogs, mut daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    let sql = "SELECT count(*) FROM tpch.sf1.orders WHERE md5(o_comment) <> 'x'";
    let running = tokio::spawn(async move { rows(&client, sql).await });
    let mut idle = Raw::connect(daemon.address, "lake");
    wait_for(&daemon, "lacus_queries_running", 1).await;
    let address = daemon.address;
    let stopped = tokio::task::spawn_blocking(move || daemon.terminate(Duration::from_secs(30)));
    assert_eq!(idle.trace(), "E57P01 end");
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody is let in any more");
    assert_eq!(running.await.unwrap(), [[Some("1500000".to_owned())]]);
    assert!(stopped.await.unwrap(), "the daemon ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_chains_are_answered() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    for (head, link, times) in [
        ("SELECT 1", " UNION ALL SELECT 1", 1_000),
        ("SELECT 1", " + 1", 600),
        ("SELECT 1 = 2", " OR 1 = 2", 600),
        ("SELECT 1", "::int", 5_000),
    ] {
        let chained = format!("{head}{}", link.repeat(times));
        client.batch_execute(&chained).await.unwrap_or_else(|error| panic!("{link}: {error}"));
    }
    assert_eq!(rows(&client, "SELECT 1").await, [[Some("1".to_owned())]]);
}
