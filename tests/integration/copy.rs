//! COPY between a client and the daemon: every format both ways, errors and their places, and nothing
//! that stays of what did not end well.

use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::Client;

use crate::daemon::{Catalogs, Daemon, Setup, code, rows};
use crate::faults::number;
use crate::interop::table_folder;
use crate::raw::Raw;

const COLUMNS: &str = "id int, name text, price numeric(8,2), day date, at timestamptz, ok boolean, raw bytea, \
    tags int[], token uuid, share float8, noon time";
const VALUES: &str = "VALUES (1, E'a\\tb\\\\c\\n\"d\"'::text, -12.34::numeric(8,2), DATE '2020-02-29', \
    TIMESTAMPTZ '2020-01-02 03:04:05.678+02', true, '\\x00ff5c'::bytea, ARRAY[1, NULL, 3]::int[], \
    '6f1f0f2e-5d0b-4c0b-9b0a-1f2e3d4c5b6a'::uuid, 1.5::float8, TIME '12:00:01'); INSERT INTO desk.a VALUES \
    (2, '', 0, NULL, NULL, false, ''::bytea, '{}'::int[], NULL, 'NaN'::float8, NULL), \
    (3, '\\N', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
    (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

fn served(flags: &[&str]) -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(flags).serve(catalogs.path());
    (catalogs, daemon)
}

async fn copy_out(client: &Client, sql: &str) -> Vec<Bytes> {
    client.copy_out(sql).await.unwrap().try_collect().await.unwrap()
}

async fn copy_in(client: &Client, sql: &str, pieces: Vec<Bytes>) -> Result<u64, tokio_postgres::Error> {
    let mut sink = Box::pin(client.copy_in(sql).await?);
    for piece in pieces {
        sink.send(piece).await?;
    }
    sink.as_mut().finish().await
}

/// One byte a piece.
fn crumbs(bytes: &[u8]) -> Vec<Bytes> {
    bytes.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_goes_and_comes_back() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    rows(
        &client,
        &format!("CREATE SCHEMA desk; CREATE TABLE desk.a ({COLUMNS}); INSERT INTO desk.a {VALUES}"),
    )
    .await;
    let all = "SELECT * FROM desk.a ORDER BY id";
    let wanted = rows(&client, all).await;
    assert_eq!(wanted.len(), 4);
    for options in [
        "",
        "(DELIMITER '|', NULL 'nil')",
        "(HEADER)",
        "(FORMAT csv)",
        "(FORMAT csv, HEADER MATCH, QUOTE '''', ESCAPE '\\')",
        "CSV HEADER DELIMITER AS ';' NULL 'nil'",
        "(FORMAT csv, FREEZE, ENCODING 'utf-8')",
        "(FORMAT binary)",
        "BINARY",
    ] {
        let out = options.replace("HEADER MATCH", "HEADER").replace("FREEZE, ", "");
        let sent =
            copy_out(&client, &format!("COPY (SELECT * FROM desk.a ORDER BY id) TO STDOUT {out}")).await;
        let whole = sent.concat();
        for pieces in [vec![Bytes::from(whole.clone())], crumbs(&whole), sent] {
            rows(&client, &format!("CREATE TABLE desk.b ({COLUMNS})")).await;
            let copied = copy_in(&client, &format!("COPY desk.b FROM STDIN {options}"), pieces).await;
            assert_eq!(copied.unwrap(), 4, "{options}");
            let back = rows(&client, "SELECT * FROM desk.b ORDER BY id").await;
            assert_eq!(back, wanted, "{options}");
            rows(&client, "DROP TABLE desk.b").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_look_as_postgres_writes_them() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    for (options, wanted) in [
        ("", &b"1\ta\\tb\\\\c\n2\t\\N\n"[..]),
        ("(FORMAT csv)", b"1,a\tb\\c\n2,\n"),
        ("(FORMAT csv, HEADER, FORCE_QUOTE *)", b"n,s\n\"1\",\"a\tb\\c\"\n\"2\",\n"),
        ("(DELIMITER ',', NULL '')", b"1,a\\tb\\\\c\n2,\n"),
        ("(FORMAT csv, QUOTE 'a', ESCAPE '\\')", b"1,a\\a\tb\\\\ca\n2,\n"),
        ("(FORMAT csv, NULL '1')", b"\"1\",a\tb\\c\n2,1\n"),
    ] {
        let sql = format!("COPY (VALUES (1, E'a\\tb\\\\c'), (2, NULL)) TO STDOUT {options}");
        let sql = sql.replace("VALUES", "SELECT * FROM (VALUES").replace("NULL))", "NULL)) AS v(n, s))");
        let sent = copy_out(&client, &sql).await;
        assert_eq!(String::from_utf8_lossy(&sent.concat()), String::from_utf8_lossy(wanted), "{options}");
    }
    // Clients take the head of a binary copy from the first row's message.
    let binary = copy_out(&client, "COPY (SELECT 7 AS n) TO STDOUT (FORMAT binary)").await;
    let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    assert_eq!(binary, [[head, &b"\0\x01\0\0\0\x04\0\0\0\x07"[..]].concat(), b"\xff\xff".to_vec()]);
    let none = copy_out(&client, "COPY (SELECT 7 AS n WHERE false) TO STDOUT (FORMAT binary)").await;
    assert_eq!(none, [[head, &b"\xff\xff"[..]].concat()]);
    // A line of its own would end the data.
    assert_eq!(copy_out(&client, "COPY (SELECT '\\.') TO STDOUT CSV").await, [&b"\"\\.\"\n"[..]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_is_a_stream_of_batches() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    let sql =
        "COPY (SELECT month, carrier AS \"Carrier\", time_hour FROM raw.flights) TO STDOUT (FORMAT arrow)";
    let sent = copy_out(&client, sql).await.concat();
    let reader = StreamReader::try_new(sent.as_slice(), None).unwrap();
    let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["month", "Carrier", "time_hour"]);
    let batches: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
    let count: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    let months = |batch: &arrow::array::RecordBatch| {
        let months = batch.column(0).as_primitive::<Int32Type>();
        months.iter().flatten().map(i64::from).sum::<i64>()
    };
    let sum: i64 = batches.iter().map(months).sum();
    assert_eq!(count, 336_776);
    assert_eq!(sum, number(&client, "SELECT sum(month) FROM raw.flights").await);
    let none = copy_out(&client, "COPY (SELECT 7 AS n WHERE false) TO STDOUT (FORMAT arrow)").await.concat();
    assert_eq!(StreamReader::try_new(none.as_slice(), None).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_where_they_were_met() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA desk; CREATE TABLE desk.t (n int NOT NULL, s text, CHECK (n < 100))").await;
    let csv = "COPY desk.t FROM STDIN (FORMAT csv, HEADER MATCH)";
    let text = "COPY desk.t FROM STDIN";
    let long = "x".repeat(200);
    for (sql, data, state, place) in [
        (text, "1\ta\nx\tb\n", "22P02", "COPY t, line 2, column n: \"x\""),
        (text, "1\ta\n99999999999\tb\n", "22003", "COPY t, line 2, column n: \"99999999999\""),
        (text, "1\n", "22P04", "COPY t, line 1: \"1\""),
        (text, "1\ta\tb\n", "22P04", "COPY t, line 1: \"1\ta\tb\""),
        (text, "1\ta\n2\tb\rc\n", "22P04", "COPY t, line 2"),
        (text, "1\ta\n\\N\tb\n", "23502", "COPY t, line 2"),
        (text, "1\ta\n2\tb\n100\tc\n", "23514", "COPY t, line 3"),
        (text, "1\t\\xff\n", "22021", "COPY t, line 1"),
        (csv, "n,s\n1,a\n2,\"b\nc\n", "22P04", "COPY t, line 3"),
        (csv, "n,s\n1,\"a\n\n\"\nx,b\n", "22P02", "COPY t, line 5, column n: \"x\""),
        (csv, "s,n\n1,a\n", "22P04", "COPY t, line 1: \"s,n\""),
        (csv, "n\n1\n", "22P04", "COPY t, line 1: \"n\""),
        (
            csv,
            &format!("n,s\n{long},a\n"),
            "22P02",
            &format!("COPY t, line 2, column n: \"{}...\"", &long[..100]),
        ),
        ("COPY desk.t FROM STDIN BINARY", "PGCOPX\n\n\n\n", "22P04", ""),
    ] {
        let failed = copy_in(&client, sql, vec![Bytes::from(data.to_owned())]).await.unwrap_err();
        let failed = failed.as_db_error().unwrap();
        assert_eq!((failed.code().code(), failed.where_().unwrap_or_default()), (state, place), "{data:?}");
    }
    let short =
        [b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", &b"\0\x02\0\0\0\x02\0\x07\xff\xff\xff\xff"[..]].concat();
    let failed = copy_in(&client, "COPY desk.t FROM STDIN BINARY", vec![short.into()]).await.unwrap_err();
    let failed = failed.as_db_error().unwrap();
    assert_eq!((failed.code().code(), failed.where_()), ("22P03", Some("COPY t, line 1, column n")));
    assert_eq!(number(&client, "SELECT count(*) FROM desk.t").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_part_of_their_transaction() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    let other = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA desk; CREATE TABLE desk.t (n int, s text DEFAULT 'none')").await;
    let count = "SELECT count(*) FROM desk.t";
    let copy = async |data: &'static str| {
        copy_in(&client, "COPY desk.t (n) FROM STDIN WHERE n % 2 = 1", vec![data.into()]).await.unwrap()
    };
    rows(&client, "BEGIN").await;
    assert_eq!(copy("1\n2\n3\n").await, 2);
    assert_eq!(number(&client, count).await, 2, "a transaction reads its own writes");
    assert_eq!(number(&other, count).await, 0, "nobody else does");
    rows(&client, "SAVEPOINT a").await;
    assert_eq!(copy("5\n").await, 1);
    rows(&client, "ROLLBACK TO a; COMMIT").await;
    assert_eq!(
        rows(&other, "SELECT sum(n), max(s) FROM desk.t").await,
        [[Some("4".to_owned()), Some("none".to_owned())]]
    );
    rows(&client, "BEGIN; SELECT 1").await;
    assert!(copy_in(&client, "COPY desk.t FROM STDIN", vec!["x\n".into()]).await.is_err());
    assert_eq!(code(&client, "SELECT 1").await, "25P02");
    rows(&client, "ROLLBACK; BEGIN READ ONLY").await;
    assert_eq!(code(&client, "COPY desk.t FROM STDIN").await, "25006");
    rows(&client, "ROLLBACK; CREATE TEMPORARY TABLE here (n int)").await;
    assert_eq!(copy_in(&client, "COPY here FROM STDIN", vec!["1\n2".into()]).await.unwrap(), 2);
    assert_eq!(number(&client, "SELECT sum(n) FROM here").await, 3);
}

#[test]
fn messages_of_a_copy() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query("CREATE SCHEMA desk; CREATE TABLE desk.t (n int)");
    assert_eq!(raw.trace(), "C C ZI");
    raw.query("COPY desk.t FROM STDIN; SELECT 1");
    for piece in [&b"1"[..], b"\n2", b"", b"\n"] {
        raw.send(b'd', piece);
    }
    raw.send(b'c', &[]);
    assert_eq!(raw.trace(), "G C T D C ZI");
    // A client of the extended protocol sends Sync ahead, and again behind its data.
    raw.run("COPY desk.t FROM STDIN");
    raw.sync();
    raw.flush();
    raw.send(b'd', b"3\n");
    raw.send(b'c', &[]);
    raw.sync();
    assert_eq!(raw.trace(), "1 2 G C ZI");
    raw.run("COPY desk.t TO STDOUT");
    raw.sync();
    assert_eq!(raw.trace(), "1 2 H d d d c C ZI");
    raw.query("COPY desk.t FROM STDIN");
    raw.send(b'd', b"4\n");
    raw.send(b'f', b"changed my mind\0");
    assert_eq!(raw.trace(), "G E57014 ZI");
    // What a client still sends of a copy that failed is passed over.
    raw.query("COPY desk.t FROM STDIN");
    raw.send(b'd', "x\n".repeat(1_000_000).as_bytes());
    raw.send(b'd', b"5\n");
    raw.send(b'c', &[]);
    assert_eq!(raw.trace(), "G E22P02 ZI");
    raw.run("COPY desk.t FROM STDIN");
    raw.sync();
    raw.send(b'd', b"6\n");
    raw.query("SELECT 1");
    raw.sync();
    assert_eq!(raw.trace(), "1 2 G E08P01 ZI");
    assert_eq!(raw.value("SELECT sum(n) FROM desk.t"), "6");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_leaves_nothing() {
    let (catalogs, daemon) = served(&["--message-limit", "2MB"]);
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA desk; CREATE TABLE desk.t (s text); INSERT INTO desk.t VALUES ('here')")
        .await;
    let data = table_folder(&catalogs, "desk.t").join("data");
    let files = || std::fs::read_dir(&data).unwrap().count();
    assert_eq!(files(), 1);
    let line = format!("{}\n", "y".repeat(999));
    for ending in ["gone", "failed", "too long", "cancelled"] {
        let mut raw = Raw::connect(daemon.address, "lake");
        raw.query("COPY desk.t FROM STDIN");
        assert_eq!(raw.next().unwrap().kind, b'G');
        for _ in 0..40 {
            raw.send(b'd', line.repeat(1000).as_bytes());
        }
        match ending {
            "gone" => drop(raw),
            "failed" => {
                raw.send(b'f', b"no\0");
                assert_eq!(raw.trace(), "E57014 ZI");
            }
            "too long" => {
                (0..4).for_each(|_| raw.send(b'd', "z".repeat(1_999_999).as_bytes()));
                assert_eq!(raw.trace(), "E54000 ZI");
            }
            _ => {
                let kill = "SELECT query_id FROM system.runtime.queries WHERE query LIKE 'COPY desk.t%'";
                let id = rows(&client, kill).await[0][0].clone().unwrap();
                let other = daemon.connect("lake").await;
                rows(&other, &format!("CALL system.runtime.kill_query('{id}')")).await;
                assert_eq!(raw.trace(), "E57014 ZI");
            }
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while files() > 1 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(files(), 1, "{ending}");
        assert_eq!(number(&client, "SELECT count(*) FROM desk.t").await, 1, "{ending}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat() {
    const ROWS: usize = 1_000_000;
    let (_catalogs, daemon) = served(&["--memory-limit", "256MB"]);
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA desk; CREATE TABLE desk.t (n bigint, s text)").await;
    let before = daemon.resident_bytes();
    daemon.forget_peak();
    let mut sink = Box::pin(client.copy_in("COPY desk.t FROM STDIN").await.unwrap());
    let line = |n: usize| format!("{n}\t{n:0>200}\n");
    for begin in (0..ROWS).step_by(1000) {
        let lines: String = (begin..begin + 1000).map(line).collect();
        sink.send(Bytes::from(lines)).await.unwrap();
    }
    assert_eq!(sink.as_mut().finish().await.unwrap(), ROWS as u64);
    let mut stream = Box::pin(client.copy_out("COPY desk.t TO STDOUT (FORMAT csv)").await.unwrap());
    let mut count = 0;
    while stream.try_next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, ROWS);
    let grown = daemon.peak_resident_bytes().saturating_sub(before);
    assert!(grown < 400 << 20, "{} MB for {} MB of rows", grown >> 20, (ROWS * 208) >> 20);
}
