//! What PostgreSQL's clients count on beside rows: cursors, notifications, signals, notices, reports.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::daemon::{Catalogs, Daemon, Setup};
use crate::interop::python;
use crate::raw::Raw;

/// Keeps every query thread busy for minutes.
const HEAVY: &str = "SELECT count(*) FROM tpch.sf100.lineitem WHERE md5(l_comment) = 'x'";

fn served(flags: &[&str]) -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(flags).serve(catalogs.path());
    (catalogs, daemon)
}

/// Settings of the messages up to ReadyForQuery that the daemon reports.
fn reported(raw: &mut Raw, sql: &str) -> Vec<String> {
    raw.query(sql);
    let mut reports = Vec::new();
    while let Some(message) = raw.next() {
        match message.kind {
            b'S' => reports.push(String::from_utf8(message.body).unwrap().replace('\0', " ")),
            b'Z' => break,
            _ => {}
        }
    }
    reports
}

/// Process id, channel and payload of a notification, which must be the next message.
fn notification(raw: &mut Raw) -> (i32, String) {
    let message = raw.next().expect("the daemon has something to say");
    assert_eq!(message.kind, b'A', "{}", message.word());
    let process_id = i32::from_be_bytes(message.body[..4].try_into().unwrap());
    (process_id, String::from_utf8(message.body[4..].to_vec()).unwrap().replace('\0', " "))
}

#[test]
fn settings_are_reported_also_when_they_go_back() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    assert_eq!(reported(&mut raw, "BEGIN; SET TIME ZONE 'Asia/Tokyo'"), ["TimeZone Asia/Tokyo "]);
    assert_eq!(reported(&mut raw, "SET datestyle = dmy"), ["DateStyle ISO, DMY "]);
    assert_eq!(reported(&mut raw, "ROLLBACK"), ["DateStyle ISO, MDY ", "TimeZone UTC "]);
    assert_eq!(
        reported(&mut raw, "SELECT set_config('application_name', 'x', false)"),
        ["application_name x "]
    );
    assert_eq!(reported(&mut raw, "SET statement_timeout = 1000"), [""; 0], "of no interest to drivers");
}

#[test]
fn notifications_arrive_unasked_but_not_within_a_transaction() {
    let (_catalogs, daemon) = served(&[]);
    let mut one = Raw::connect(daemon.address, "lake");
    let mut other = Raw::connect(daemon.address, "lake");
    let mut elsewhere = Raw::connect(daemon.address, "tpch");
    let sender: i32 = other.value("SELECT pg_backend_pid()").parse().unwrap();
    one.query("LISTEN news");
    assert_eq!(one.trace(), "C ZI");
    elsewhere.query("LISTEN news");
    assert_eq!(elsewhere.trace(), "C ZI");
    other.query("NOTIFY news, 'a'; NOTIFY news, 'b'; NOTIFY news, 'a'; NOTIFY quiet");
    assert_eq!(other.trace(), "C C C C ZI");
    assert_eq!(notification(&mut one), (sender, "news a ".to_owned()));
    assert_eq!(notification(&mut one), (sender, "news b ".to_owned()));
    one.query("BEGIN");
    assert_eq!(one.trace(), "C ZT");
    other.query("SELECT pg_notify('news', 'c')");
    assert_eq!(other.trace(), "T D C ZI");
    one.query("SELECT 1");
    assert_eq!(one.trace(), "T D C ZT");
    one.query("COMMIT");
    assert_eq!(one.trace(), "C A ZI");
    other.query("BEGIN; NOTIFY news, 'd'; SAVEPOINT s; NOTIFY news, 'e'; ROLLBACK TO s; COMMIT");
    assert_eq!(other.trace(), "C C C C C C ZI");
    assert_eq!(notification(&mut one).1, "news d ");
    one.query("NOTIFY news, 'to myself'; SELECT 1 / 0");
    assert_eq!(one.trace(), "C T E22012 ZI", "what failed is not sent");
    one.query("NOTIFY news, 'to myself'");
    assert_eq!(one.trace(), "C A ZI");
    elsewhere.query("SELECT 1");
    assert_eq!(elsewhere.trace(), "T D C ZI", "another database hears nothing");
}

#[test]
fn a_session_is_cancelled_and_ended_by_another() {
    let (_catalogs, daemon) = served(&[]);
    let mut one = Raw::connect(daemon.address, "lake");
    let mut other = Raw::connect(daemon.address, "lake");
    let process_id = one.value("SELECT pg_backend_pid()");
    for (function, wanted) in [("pg_cancel_backend", "E57014 ZI"), ("pg_terminate_backend", "E57P01 end")] {
        one.query(HEAVY);
        let deadline = Instant::now() + Duration::from_secs(10);
        let running =
            format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process_id} AND state = 'active'");
        while other.value(&running) != "1" {
            assert!(Instant::now() < deadline, "the query runs");
        }
        assert_eq!(other.value(&format!("SELECT {function}({process_id})")), "t");
        let trace = one.trace();
        assert!(trace.ends_with(wanted), "{trace}");
    }
    let mut idle = Raw::connect(daemon.address, "lake");
    let process_id = idle.value("SELECT pg_backend_pid()");
    assert_eq!(other.value(&format!("SELECT pg_terminate_backend({process_id}, 1000)")), "t");
    assert_eq!(idle.trace(), "E57P01 end");
    other.query("SELECT pg_terminate_backend(1000000)");
    assert_eq!(other.notices(), [("01000".into(), "PID 1000000 is not a PostgreSQL backend process".into())]);
}

#[test]
fn who_waits_for_a_lock_can_be_cancelled_and_finds_circles() {
    let (_catalogs, daemon) = served(&["--queries-max", "1"]);
    let mut one = Raw::connect(daemon.address, "lake");
    let mut other = Raw::connect(daemon.address, "lake");
    one.query("SELECT pg_advisory_lock(1)");
    assert_eq!(one.trace(), "T D C ZI");
    other.query("SELECT pg_advisory_lock(2)");
    assert_eq!(other.trace(), "T D C ZI");
    one.query("SELECT pg_advisory_lock(2)");
    let deadline = Instant::now() + Duration::from_secs(10);
    while other.value("SELECT count(*) FROM pg_locks WHERE NOT granted") != "1" {
        assert!(Instant::now() < deadline, "the first one waits");
    }
    assert_eq!(other.value("SELECT count(*) FROM raw.airlines"), "16", "who waits takes no query's place");
    other.query("SELECT pg_advisory_lock(1)");
    assert_eq!(other.trace(), "T E40P01 ZI");
    drop(other);
    assert_eq!(one.trace(), "T D C ZI", "locks end with their session");
}

#[test]
fn what_if_exists_skips_is_a_notice() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query("CREATE SCHEMA note; CREATE TABLE note.t (n int)");
    assert_eq!(raw.notices(), []);
    for (sql, sqlstate, message) in [
        ("CREATE SCHEMA IF NOT EXISTS note", "42P06", "schema \"note\" already exists, skipping"),
        ("CREATE TABLE IF NOT EXISTS note.t (n int)", "42P07", "relation \"t\" already exists, skipping"),
        ("DROP TABLE IF EXISTS note.u", "00000", "table \"note.u\" does not exist, skipping"),
        ("DROP SCHEMA IF EXISTS nowhere", "00000", "schema \"nowhere\" does not exist, skipping"),
        (
            "ALTER TABLE note.t ADD COLUMN IF NOT EXISTS n int",
            "42701",
            "column \"n\" already exists, skipping",
        ),
        (
            "ALTER TABLE IF EXISTS note.u ADD COLUMN n int",
            "00000",
            "table \"note.u\" does not exist, skipping",
        ),
    ] {
        raw.query(sql);
        assert_eq!(raw.notices(), [(sqlstate.to_owned(), message.to_owned())], "{sql}");
    }
    raw.query("SET client_min_messages = warning");
    assert_eq!(raw.notices(), []);
    raw.query("DROP TABLE IF EXISTS note.u");
    assert_eq!(raw.notices(), []);
}

#[test]
fn a_cursor_is_a_portal_to_the_protocol() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query("BEGIN; DECLARE c BINARY CURSOR FOR SELECT n FROM generate_series(1, 9) AS t(n)");
    assert_eq!(raw.trace(), "C C ZT");
    raw.send(b'D', b"Pc\0");
    raw.run("FETCH 2 c");
    raw.sync();
    assert_eq!(raw.trace(), "T 1 2 D D C ZT");
    raw.query("FETCH c");
    let row = loop {
        let message = raw.next().unwrap();
        if message.kind == b'D' {
            break message.body;
        }
    };
    assert_eq!(row[row.len() - 8..], 3_i64.to_be_bytes(), "a binary cursor gives the simple protocol bytes");
    assert_eq!(raw.trace(), "C ZT");
    // A portal that the client bound itself can be moved over, as asyncpg does.
    raw.parse("s", "VALUES (1), (2), (3), (4)");
    raw.bind("p", "s");
    raw.execute("p", 1);
    raw.sync();
    assert_eq!(raw.trace(), "1 2 D s ZT");
    raw.query("MOVE FORWARD 2 p");
    assert_eq!(raw.trace(), "C ZT");
    raw.execute("p", 0);
    raw.sync();
    assert_eq!(raw.trace(), "D C ZT");
    raw.send(b'C', b"Pc\0");
    raw.sync();
    assert_eq!(raw.trace(), "3 ZT");
    raw.query("FETCH c");
    assert_eq!(raw.trace(), "E34000 ZE");
}

#[test]
fn an_open_cursor_costs_neither_memory_nor_a_querys_place() {
    let (_catalogs, daemon) = served(&["--queries-max", "1"]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query("BEGIN; DECLARE c CURSOR FOR SELECT l_orderkey, l_comment FROM tpch.sf1.lineitem");
    assert_eq!(raw.trace(), "C C ZT");
    raw.query("FETCH c");
    assert_eq!(raw.trace(), "T D C ZT");
    let mut other = Raw::connect(daemon.address, "lake");
    assert_eq!(other.value("SELECT count(*) FROM raw.flights"), "336776");
    let before = daemon.resident_bytes();
    daemon.forget_peak();
    raw.query("MOVE 400000 c");
    assert_eq!(raw.trace(), "C ZT");
    let grown = daemon.peak_resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown} bytes more");
    raw.query("ROLLBACK");
    assert_eq!(raw.trace(), "C ZI");
    assert_eq!(daemon.metric("lacus_queries_running"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_drivers_find_their_manners() {
    let Some(mut python) = python() else { return };
    let (_catalogs, daemon) = served(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/manners.py");
    let ran = python.arg(script).arg(daemon.address.port().to_string()).output();
    let ran = ran.expect("the interpreter starts");
    print!("{}", String::from_utf8_lossy(&ran.stdout));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
