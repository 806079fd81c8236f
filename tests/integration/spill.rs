//! Spill: what does not fit into memory goes to disk, stays within its limits, and leaves nothing behind.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::daemon::{Catalogs, Daemon, Setup, code, rows};
use crate::raw::Raw;

/// Spills for minutes before its first row.
const ENDLESS: &str = "SELECT * FROM tpch.sf10.orders ORDER BY o_comment";

/// How long a query may take until it spills: the text that comments are made of takes a minute where
/// an unoptimised build shares its cores.
const SPILLS_WITHIN: Duration = Duration::from_secs(240);

/// A daemon with a spill folder of its own.
struct Spilling {
    _catalogs: Catalogs,
    folder: tempfile::TempDir,
    daemon: Daemon,
}

impl Spilling {
    fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (_catalogs, daemon) = served(folder.path(), flags);
        Self { _catalogs, folder, daemon }
    }

    /// Waits until the query that runs has spilled something.
    async fn begins(&self) {
        within(SPILLS_WITHIN, "nothing is spilled", || {
            self.daemon.metric("lacus_spill_bytes") > 0 && !files(self.folder.path()).is_empty()
        })
        .await;
    }

    /// Waits, a second at most, until nothing is left of a query: no memory, no file.
    async fn ends(&self, how: &str) {
        within(Duration::from_secs(1), &format!("something is left after {how}"), || {
            self.daemon.metric("lacus_memory_reserved_bytes") == 0
                && self.daemon.metric("lacus_spill_bytes") == 0
                && files(self.folder.path()).is_empty()
        })
        .await;
    }
}

fn served(spill_dir: &Path, flags: &[&str]) -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let dir = spill_dir.to_str().unwrap();
    let daemon = Setup::default().with(&["--spill-dir", dir]).with(flags).serve(catalogs.path());
    (catalogs, daemon)
}

async fn within(limit: Duration, otherwise: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The files that queries have in a spill folder; the daemons' own locks are none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_lock = path.file_name().is_some_and(|name| name == "alive" || name == "lacus.lock");
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if is_lock => {}
            false => found.push(path),
        }
    }
    found
}

/// Reads a sorted result to its end; returns how many rows there were.
async fn count_sorted(client: &Client, sql: &str, column: usize) -> usize {
    let mut messages = pin!(client.simple_query_raw(sql).await.unwrap());
    let (mut last, mut count) = (String::new(), 0);
    while let Some(message) = messages.try_next().await.unwrap_or_else(|error| panic!("{sql}: {error:?}")) {
        if let SimpleQueryMessage::Row(row) = message {
            let value = row.get(column).unwrap();
            assert!(last.as_str() <= value, "row {count}: \"{value}\" after \"{last}\"");
            value.clone_into(&mut last);
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_of_more_than_memory_is_right_and_bounded() {
    let spilling = Spilling::start(&["--memory-limit", "64MB"]);
    let client = spilling.daemon.connect("tpch").await;
    // The first comment that is read makes the generator's text of 300 MiB, which then stays.
    rows(&client, "SELECT max(o_comment) FROM tiny.orders").await;
    let idle = spilling.daemon.resident_bytes();
    spilling.daemon.forget_peak();
    let sorted = count_sorted(&client, "SELECT * FROM sf1.orders ORDER BY o_comment, o_orderkey", 8).await;
    assert_eq!(sorted, 1_500_000);
    let grown = spilling.daemon.peak_resident_bytes().saturating_sub(idle);
    assert!(grown < 256 << 20, "{grown} bytes more than idle, for some 300 MB of rows");
    spilling.ends("a sort").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_memory_limit_and_number_of_threads_sorts_groups_joins_and_writes() {
    for (limit, threads) in [("32MB", "1"), ("48MB", "8"), ("64MB", "4"), ("128MB", "8")] {
        let spilling = Spilling::start(&["--memory-limit", limit, "--threads", threads]);
        let client = spilling.daemon.connect("lake").await;
        let of = format!("{limit}, {threads} threads");
        rows(&client, "CREATE SCHEMA IF NOT EXISTS mart").await;
        // Some 70 MB of rows.
        let orders = "tpch.sf0_25.orders";
        let by_comment = format!("SELECT * FROM {orders} ORDER BY o_comment");
        let count = Some(count_sorted(&client, &by_comment, 8).await.to_string());
        assert_eq!(count.as_deref(), Some("375000"), "{of}");
        for sql in [
            format!(
                "SELECT sum(n) FROM (SELECT o_comment, o_clerk, count(*) AS n FROM {orders} GROUP BY 1, 2)"
            ),
            format!("SELECT count(*) FROM (SELECT DISTINCT o_comment, o_orderkey::text FROM {orders})"),
            format!(
                "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY o_comment, o_orderkey) AS n, o_clerk \
                 FROM {orders}) WHERE o_clerk > ''"
            ),
            format!(
                "SELECT count(*) FROM {orders} a JOIN {orders} b ON a.o_comment = b.o_comment \
                 AND a.o_orderkey = b.o_orderkey WHERE a.o_clerk = b.o_clerk"
            ),
        ] {
            let counted = rows(&client, &sql).await;
            assert_eq!(counted, [[count.clone()]], "{of}: {sql}");
        }
        rows(&client, &format!("CREATE TABLE mart.sorted AS {by_comment}")).await;
        assert_eq!(rows(&client, "SELECT count(*) FROM mart.sorted").await, [[count]], "{of}");
        spilling.ends(&of).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_spill_ends_in_an_error_and_not_the_daemon() {
    let spilling = Spilling::start(&["--memory-limit", "64MB"]);
    let client = spilling.daemon.connect("tpch").await;
    rows(&client, "SELECT max(o_comment) FROM tiny.orders").await;
    let idle = spilling.daemon.resident_bytes();
    spilling.daemon.forget_peak();
    for sql in [
        "SELECT length(string_agg(o_comment, '')) FROM sf1.orders",
        "SELECT count(*) FROM (SELECT o_comment, sum(o_totalprice) OVER () AS s FROM sf1.orders) WHERE s > 0",
        "SELECT count(*) FROM sf1.orders WHERE o_comment NOT IN (SELECT nullif(o_comment, '') FROM sf1.orders)",
    ] {
        let error = client.simple_query(sql).await.expect_err(sql);
        let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
        assert_eq!(error.code().code(), "53200", "{sql}: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--memory-limit")), "{error:?}");
        spilling.ends(sql).await;
    }
    let grown = spilling.daemon.peak_resident_bytes().saturating_sub(idle);
    assert!(grown < 384 << 20, "{grown} bytes more than idle");
    assert_eq!(rows(&client, "SELECT count(*) FROM tiny.orders").await, [[Some("15000".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reached_spill_limit_leaves_no_files() {
    let spilling = Spilling::start(&["--memory-limit", "32MB", "--spill-limit", "10MB"]);
    let client = spilling.daemon.connect("tpch").await;
    for sql in [
        "SELECT * FROM sf1.orders ORDER BY o_comment",
        "SELECT count(*) FROM (SELECT o_comment, o_clerk, count(*) FROM sf1.orders GROUP BY 1, 2)",
        "SELECT count(*) FROM sf1.orders a JOIN sf1.orders b ON a.o_comment = b.o_comment",
    ] {
        let error = client.simple_query(sql).await.expect_err(sql);
        let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
        assert_eq!(error.code().code(), "53100", "{sql}: {error:?}");
        assert!(error.message().contains("limit"), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--spill-limit")), "{error:?}");
        spilling.ends(sql).await;
    }
    assert_eq!(rows(&client, "SELECT count(*) FROM tiny.orders").await, [[Some("15000".to_owned())]]);
}

/// A file system of 16 MiB; needs the right to mount, which not everybody has.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "lacus-test"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg(self.0.path()).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_a_query_and_leaves_no_files() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: no right to mount a small file system");
        return;
    };
    let (_catalogs, daemon) = served(disk.0.path(), &["--memory-limit", "64MB"]);
    let client = daemon.connect("tpch").await;
    for sql in [
        "SELECT * FROM sf1.orders ORDER BY o_comment",
        "SELECT count(*) FROM sf1.orders a JOIN sf1.orders b ON a.o_comment = b.o_comment",
    ] {
        assert_eq!(code(&client, sql).await, "53100", "{sql}");
        within(Duration::from_secs(1), "files are left", || files(disk.0.path()).is_empty()).await;
    }
    assert_eq!(rows(&client, "SELECT count(*) FROM tiny.orders").await, [[Some("15000".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_query_leaves_neither_memory_nor_files() {
    let spilling = Spilling::start(&["--memory-limit", "64MB"]);
    let client = spilling.daemon.connect("lake").await;
    let token = client.cancel_token();
    let cancelled = tokio::spawn(async move { (code(&client, ENDLESS).await, client) });
    spilling.begins().await;
    token.cancel_query(NoTls).await.unwrap();
    let (stopped, client) = cancelled.await.unwrap();
    assert_eq!(stopped, "57014");
    spilling.ends("a cancel").await;

    rows(&client, "SET statement_timeout = '8s'").await;
    let late = tokio::spawn(async move { code(&client, ENDLESS).await });
    spilling.begins().await;
    assert_eq!(late.await.unwrap(), "57014");
    spilling.ends("a timeout").await;

    let mut raw = Raw::connect(spilling.daemon.address, "lake");
    raw.query(ENDLESS);
    spilling.begins().await;
    drop(raw);
    spilling.ends("its client's end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_removes_what_a_killed_daemon_left() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--memory-limit", "64MB"];
    let (_living_catalogs, living) = served(folder.path(), &flags);
    let mut beside = Raw::connect(living.address, "lake");
    beside.query(ENDLESS);
    within(SPILLS_WITHIN, "nothing is spilled", || !files(folder.path()).is_empty()).await;
    let of_living = files(folder.path());

    let (_catalogs, mut killed) = served(folder.path(), &flags);
    let mut raw = Raw::connect(killed.address, "lake");
    raw.query(ENDLESS);
    let others = || -> Vec<_> {
        let folder_of = |path: &PathBuf| path.parent().map(Path::to_owned);
        let living = folder_of(&of_living[0]);
        files(folder.path()).into_iter().filter(|path| folder_of(path) != living).collect()
    };
    within(SPILLS_WITHIN, "nothing is spilled", || !others().is_empty()).await;
    killed.kill();
    assert!(!others().is_empty(), "a kill leaves files");

    let (_next_catalogs, mut next) = served(folder.path(), &flags);
    assert_eq!(others(), Vec::<PathBuf>::new());
    let folder_of_living = of_living[0].parent().expect("a spill file lies in a folder");
    assert!(folder_of_living.exists(), "the folder of the living daemon stays");
    assert!(next.terminate(Duration::from_secs(10)));
    drop(beside);
    let mut living = living;
    assert!(living.terminate(Duration::from_secs(10)));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|it| it.file_name()).collect();
    assert_eq!(left, ["lacus.lock"], "who ends well takes the folder along");
}
