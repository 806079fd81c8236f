//! The protocol as clients use it: prepared statements, binary values, portals, errors, limits.

use std::time::Duration;

use tokio_postgres::types::{FromSql, Kind, Type};

use crate::daemon::{Catalogs, Daemon, Setup, code, rows, try_rows};
use crate::raw::Raw;

/// The bytes of a value as they came, of any type.
struct Bytes(Vec<u8>);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn served(flags: &[&str]) -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(flags).serve(catalogs.path());
    (catalogs, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_inferred() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    let name = client.prepare("SELECT name FROM raw.airlines WHERE carrier = $1").await.unwrap();
    assert_eq!(name.params().len(), 1);
    assert!(matches!(name.params()[0], Type::TEXT | Type::VARCHAR), "{:?}", name.params());
    for (carrier, wanted) in [("UA", "United Air Lines Inc."), ("B6", "JetBlue Airways")] {
        let row = client.query_one(&name, &[&carrier]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), wanted);
    }
    let far = "SELECT count(*) FROM raw.flights WHERE distance > $1 AND month = $2";
    let far = client.prepare(far).await.unwrap();
    assert_eq!(far.params(), [Type::INT4, Type::INT4]);
    let counted: i64 = client.query_one(&far, &[&4000, &1]).await.unwrap().get(0);
    let wanted = "SELECT count(*) FROM raw.flights WHERE distance > 4000 AND month = 1";
    assert_eq!(rows(&client, wanted).await, [[Some(counted.to_string())]]);
    assert!(counted > 0);
    let types = [Type::INT8, Type::FLOAT8, Type::BOOL, Type::TEXT, Type::BYTEA];
    let cast = client
        .prepare_typed("SELECT $1::int8, $2::float8, $3::bool, $4::text, $5::bytea", &types)
        .await
        .unwrap();
    assert_eq!(cast.params(), types);
    let row =
        client.query_one(&cast, &[&i64::MIN, &-0.5, &true, &"ä\u{1F985}", &vec![0_u8, 255]]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), i64::MIN);
    assert_eq!(row.get::<_, f64>(1), -0.5);
    assert!(row.get::<_, bool>(2));
    assert_eq!(row.get::<_, &str>(3), "ä\u{1F985}");
    assert_eq!(row.get::<_, Vec<u8>>(4), [0, 255]);
    let missing: Option<i64> = None;
    let is_null = client.prepare_typed("SELECT $1::int8 IS NULL", &[Type::INT8]).await.unwrap();
    let row = client.query_one(&is_null, &[&missing]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_binary() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    let sql = "SELECT -5::bigint, (-32768)::smallint, (-2147483648)::integer, 1.5::real, NULL::bigint, \
        DATE '2000-01-02', TIMESTAMP '2000-01-01 00:00:01', -12345.678::numeric(12,3), \
        INTERVAL '1 month 2 days 3 seconds', ARRAY[1, NULL, 3]::bigint[], NULL::text, ''::text";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), -5);
    assert_eq!(row.get::<_, i16>(1), i16::MIN);
    assert_eq!(row.get::<_, i32>(2), i32::MIN);
    assert_eq!(row.get::<_, f32>(3), 1.5);
    assert_eq!(row.get::<_, Option<i64>>(4), None);
    let types: Vec<_> = row.columns().iter().map(|column| column.type_().clone()).collect();
    assert_eq!(types[5..9], [Type::DATE, Type::TIMESTAMP, Type::NUMERIC, Type::INTERVAL]);
    assert_eq!(row.get::<_, Bytes>(5).0, 1_i32.to_be_bytes());
    assert_eq!(row.get::<_, Bytes>(6).0, 1_000_000_i64.to_be_bytes());
    // Three digits of base 10,000 from the power 1 on, negative, scale 3: 1, 2345, 6780.
    assert_eq!(row.get::<_, Bytes>(7).0, [0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 9, 41, 26, 124]);
    let interval = [3_000_000_i64.to_be_bytes().to_vec(), 2_i32.to_be_bytes().to_vec(), vec![0, 0, 0, 1]];
    assert_eq!(row.get::<_, Bytes>(8).0, interval.concat());
    assert!(matches!(types[9].kind(), Kind::Array(item) if *item == Type::INT8));
    assert_eq!(row.get::<_, Vec<Option<i64>>>(9), [Some(1), None, Some(3)]);
    assert_eq!(row.get::<_, Option<&str>>(10), None);
    assert_eq!(row.get::<_, &str>(11), "");
    let text = "SELECT -12345.678::numeric(12,3), 1e300::float8, 'infinity'::float8, NULL::date";
    let text = rows(&client, text).await;
    assert_eq!(text[0][0].as_deref(), Some("-12345.678"));
    assert_eq!(text[0][1].as_deref(), Some("1e+300"));
    assert_eq!(text[0][2].as_deref(), Some("Infinity"));
    assert_eq!(text[0][3], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_gives_rows_in_portions() {
    let (_catalogs, daemon) = served(&[]);
    let mut client = daemon.connect("tpch").await;
    let transaction = client.transaction().await.unwrap();
    let sql = "SELECT o_orderkey FROM tiny.orders ORDER BY o_orderkey";
    let portal = transaction.bind(sql, &[]).await.unwrap();
    let mut keys: Vec<i64> = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 4_000).await.unwrap();
        assert!(rows.len() <= 4_000);
        // Another statement runs between two portions.
        assert_eq!(transaction.query_one("SELECT 7", &[]).await.unwrap().len(), 1);
        keys.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        if rows.len() < 4_000 {
            break;
        }
    }
    transaction.commit().await.unwrap();
    assert_eq!(keys.len(), 15_000);
    assert!(keys.is_sorted());
    keys.dedup();
    assert_eq!(keys.len(), 15_000, "no row comes twice");
}

#[test]
fn messages_of_portals() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.parse("five", "VALUES (1), (2), (3), (4), (5)");
    raw.bind("p", "five");
    for _ in 0..3 {
        raw.execute("p", 2);
    }
    raw.sync();
    assert_eq!(raw.trace(), "1 2 D D s D D s D C ZI");
    raw.execute("p", 0);
    raw.sync();
    assert_eq!(raw.trace(), "E34000 ZI", "a portal ends with its transaction");
    raw.query("BEGIN");
    assert_eq!(raw.trace(), "C ZT");
    raw.bind("p", "five");
    raw.execute("p", 1);
    raw.sync();
    assert_eq!(raw.trace(), "2 D s ZT");
    raw.execute("p", 0);
    raw.sync();
    assert_eq!(raw.trace(), "D D D D C ZT", "a portal outlives Sync in a transaction");
    raw.bind("p", "five");
    raw.sync();
    assert_eq!(raw.trace(), "E42P03 ZE", "a portal's name is taken");
    raw.query("SELECT 1");
    assert_eq!(raw.trace(), "E25P02 ZE");
    raw.query("ROLLBACK");
    assert_eq!(raw.trace(), "C ZI");
}

#[test]
fn messages_of_statements() {
    let (_catalogs, daemon) = served(&[]);
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query("SELECT 1; VALUES (1), (2); SET statement_timeout = 0");
    assert_eq!(raw.trace(), "T D C T D D C C ZI");
    raw.query("SELECT 1; SELECT nothing; SELECT 3");
    assert_eq!(raw.trace(), "T D C E42703 ZI", "what follows an error does not run");
    for nothing in ["", " ; ", "-- a comment"] {
        raw.query(nothing);
        assert_eq!(raw.trace(), "I ZI");
    }
    raw.parse("", "");
    raw.bind("", "");
    raw.execute("", 0);
    raw.sync();
    assert_eq!(raw.trace(), "1 2 I ZI");
    raw.parse("", "SELECT * FROM raw.nowhere");
    raw.bind("", "");
    raw.execute("", 0);
    raw.sync();
    assert_eq!(raw.trace(), "E42P01 ZI", "an error passes over everything up to Sync");
    raw.parse("a", "SELECT 1");
    raw.parse("a", "SELECT 2");
    raw.sync();
    assert_eq!(raw.trace(), "1 E42P05 ZI", "a statement's name is taken");
    raw.send(b'C', b"Sa\0");
    raw.parse("a", "SELECT 2");
    raw.bind("", "a");
    raw.execute("", 0);
    raw.sync();
    assert_eq!(raw.trace(), "3 1 2 D C ZI");
    raw.bind("", "never");
    raw.sync();
    assert_eq!(raw.trace(), "E26000 ZI");
}

/// Once, such a client made its connection spin for ever.
#[test]
fn a_message_that_ends_half_way_ends_the_connection() {
    let (_catalogs, daemon) = served(&[]);
    for before in [&b""[..], b"E\0\0\0\x09\0\0\0\0\0"] {
        let mut raw = Raw::connect(daemon.address, "lake");
        raw.send_bytes(&[before, b"Q\0\0\0\x10SELECT"].concat());
        raw.hang_up();
        let trace = raw.trace();
        assert!(trace.ends_with("end"), "{trace}");
    }
}

#[test]
fn messages_beyond_a_limit() {
    let flags = ["--statements-max", "3", "--message-limit", "1MB", "--statement-limit", "100KB"];
    let (_catalogs, daemon) = served(&flags);
    let mut raw = Raw::connect(daemon.address, "lake");
    for name in ["a", "b", "c", "d"] {
        raw.parse(name, "SELECT 1");
    }
    raw.sync();
    assert_eq!(raw.trace(), "1 1 1 E54000 ZI");
    for portal in ["a", "b", "c", "d"] {
        raw.bind(portal, "a");
    }
    raw.sync();
    assert_eq!(raw.trace(), "2 2 2 E54000 ZI");
    raw.query(&format!("SELECT '{}'", "x".repeat(200_000)));
    assert_eq!(raw.trace(), "E54000 ZI", "a long statement leaves the session standing");
    raw.query("SELECT 1");
    assert_eq!(raw.trace(), "T D C ZI");
    raw.query(&format!("SELECT '{}'", "x".repeat(2_000_000)));
    assert_eq!(raw.trace(), "E54000 end", "a long message ends the connection");
    let mut raw = Raw::connect(daemon.address, "lake");
    raw.query("SELECT 1");
    assert_eq!(raw.trace(), "T D C ZI");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_belong_to_a_session() {
    let (_catalogs, daemon) = served(&[]);
    let (one, other) = (daemon.connect("lake").await, daemon.connect("lake").await);
    rows(&one, "SET search_path = raw").await;
    rows(&one, "PREPARE counted AS SELECT count(*) FROM airlines").await;
    assert_eq!(rows(&one, "EXECUTE counted").await, [[Some("16".to_owned())]]);
    assert_eq!(code(&other, "SELECT count(*) FROM airlines").await, "42P01");
    assert_eq!(code(&other, "EXECUTE counted").await, "26000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_left_open_is_ended() {
    let (_catalogs, daemon) = served(&[]);
    let client = daemon.connect("lake").await;
    rows(&client, "SET idle_in_transaction_session_timeout = '300ms'").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    rows(&client, "BEGIN").await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(try_rows(&client, "SELECT 1").await.is_err());
    let mut raw = tokio::task::block_in_place(|| Raw::connect(daemon.address, "lake"));
    raw.query("SET idle_in_transaction_session_timeout = '300ms'");
    assert_eq!(raw.trace(), "C ZI");
    raw.query("BEGIN");
    assert_eq!(raw.trace(), "C ZT");
    assert_eq!(raw.trace(), "E25P03 end");
}
