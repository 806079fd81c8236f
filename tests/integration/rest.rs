//! The Iceberg REST catalog: other engines as clients of the daemon, and what they may not do.
//!
//! `LACUS_TEST_PYTHON` names an interpreter with pyiceberg and duckdb; without it, their tests are skipped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use crate::daemon::{Catalogs, Daemon, Setup, code, rows};
use crate::faults::{in_bucket, number};
use crate::interop::python;
use crate::s3::S3Target;

/// Sends one request; returns the status and the body, null where there is none.
pub fn request(address: SocketAddr, head: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut text = format!("{head} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    let mut socket = TcpStream::connect(address).expect("the daemon serves HTTP");
    socket.write_all(format!("{text}\r\n{body}").as_bytes()).expect("the daemon reads a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the daemon answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Runs a step of the script as a client of the daemon; `None` without Python.
fn client(daemon: &Daemon, step: &[&str]) -> Option<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/rest_catalog.py");
    let url = format!("http://{}/iceberg", daemon.http);
    let ran = python()?.arg(script).arg(url).args(step).env("PYTHONWARNINGS", "ignore").output();
    let ran = ran.expect("the interpreter starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(serde_json::from_slice(&ran.stdout).expect("the script prints JSON"))
}

async fn served(flags: &[&str]) -> (Catalogs, Daemon) {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(flags).serve(catalogs.path());
    (catalogs, daemon)
}

/// A daemon with the tables `mart.far`, partitioned, and `mart.marks`, and the view `mart.seen`.
async fn with_tables() -> (Catalogs, Daemon) {
    let (catalogs, daemon) = served(&[]).await;
    let sql = daemon.connect("lake").await;
    for made in [
        "CREATE SCHEMA IF NOT EXISTS mart",
        "CREATE TABLE mart.far PARTITIONED BY (month) AS \
         SELECT month, carrier, distance FROM raw.flights WHERE distance > 2500",
        "CREATE TABLE mart.marks AS SELECT n FROM generate_series(1, 10) AS t(n)",
        "CREATE VIEW mart.seen AS SELECT n FROM mart.marks",
    ] {
        rows(&sql, made).await;
    }
    (catalogs, daemon)
}

/// How many entries the log has.
fn versions(catalogs: &Catalogs) -> usize {
    std::fs::read_dir(catalogs.path().join("sample/_lacus/log")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn pyiceberg_reads_what_sql_wrote() {
    let (_catalogs, daemon) = with_tables().await;
    let Some(seen) = client(&daemon, &["read"]) else { return };
    let sql = daemon.connect("lake").await;
    let count = number(&sql, "SELECT count(*) FROM mart.far").await;
    let february = number(&sql, "SELECT count(*) FROM mart.far WHERE month = 2").await;
    assert_eq!(seen["namespaces"], json!(["mart", "public", "raw"]));
    assert_eq!((&seen["tables"], &seen["views"]), (&json!(["mart.far", "mart.marks"]), &json!([])));
    assert_eq!((&seen["rows"], &seen["filtered"]), (&json!(count), &json!(february)));
    assert_eq!((&seen["exists"], &seen["mode"]), (&json!([true, false]), &json!("copy-on-write")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_reads_what_pyiceberg_wrote() {
    let (_catalogs, daemon) = with_tables().await;
    let Some(seen) = client(&daemon, &["write"]) else { return };
    assert_eq!(seen["tables"], json!(["guest.kept", "guest.visits"]));
    assert_eq!(seen["properties"], json!({"comment": "what others write"}));
    let sql = daemon.connect("lake").await;
    let text = |rows: Vec<Vec<Option<String>>>| {
        rows.into_iter()
            .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    let visits = "SELECT year, city FROM guest.visits ORDER BY year, city";
    assert_eq!(text(rows(&sql, visits).await), ["2024 Ulm", "2025 ", "2026 Kiel"]);
    assert_eq!(number(&sql, "SELECT sum(n) FROM guest.kept").await, 6);
    assert_eq!(number(&sql, "SELECT count(*) FROM guest.visits WHERE year = 2024").await, 1);
    // And on: SQL writes to the guest's table, the guest reads it.
    rows(&sql, "INSERT INTO guest.visits (city, year) VALUES ('Jena', 2027)").await;
    rows(&sql, "UPDATE guest.visits SET city = 'Ulm an der Donau' WHERE year = 2024").await;
    assert_eq!(text(rows(&sql, visits).await)[0], "2024 Ulm an der Donau");
    assert_eq!(code(&sql, "INSERT INTO guest.visits (city) VALUES ('nowhen')").await, "23502");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused() {
    let (catalogs, daemon) = with_tables().await;
    let sql = daemon.connect("lake").await;
    rows(&sql, "CREATE TABLE mart.strict (n bigint NOT NULL)").await;
    rows(&sql, "INSERT INTO mart.strict VALUES (1)").await;
    let before = versions(&catalogs);
    let Some(told) = client(&daemon, &["refused"]) else { return };
    for (what, told_of) in [
        ("version 3", "UnsupportedOperationException: Iceberg tables of format version 3, only 2"),
        ("location", "UnsupportedOperationException: a location of its own"),
        ("exists", "already exists"),
        ("merge on read", "write.delete.mode = merge-on-read: Lacus reads tables without delete files"),
        ("deletes", "holds deletes"),
        ("outside", "ForbiddenException"),
        ("other table", "lies outside of the table's folder"),
        ("row count", "has 10 rows, and its manifest says 1000"),
        ("absent file", "none.parquet"),
        (
            "column",
            "UnsupportedOperationException: column \"more\" is NOT NULL, and rows that are there lack it",
        ),
        ("nulls", "null value in column \"n\""),
        ("no ids", "gives column \"n\" no field id"),
        ("stale", "CommitFailedException"),
    ] {
        assert!(told[what].as_str().unwrap().contains(told_of), "{what}: {}", told[what]);
    }
    assert_eq!(versions(&catalogs), before + 1, "of all these, one append was committed");
    assert_eq!(number(&sql, "SELECT sum(n) FROM mart.marks").await, 155);
}

#[tokio::test(flavor = "multi_thread")]
async fn pyiceberg_changes_columns_and_partitions_of_a_table_with_rows() {
    let (_catalogs, daemon) = with_tables().await;
    let sql = daemon.connect("lake").await;
    for made in [
        "CREATE TABLE mart.grown (id int, name text, at timestamp, spare int DEFAULT 7, UNIQUE (name))",
        "INSERT INTO mart.grown VALUES (1, 'one', '2026-01-01', 1), (2, 'two', '2026-02-01', 2)",
    ] {
        rows(&sql, made).await;
    }
    let Some(seen) = client(&daemon, &["evolve"]) else { return };
    let all = "SELECT extract(month FROM at)::int AS month, id, label, more FROM mart.grown ORDER BY id";
    let wanted =
        [["1", "1", "one", ""], ["2", "2", "two", ""], ["3", "3", "three", "300"], ["4", "4", "four", "400"]];
    let text = async |query: &str| {
        let rows = rows(&sql, query).await.into_iter();
        rows.map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(text(all).await, wanted);
    assert_eq!(seen["rows"].as_array().unwrap().len(), 4, "{seen}");
    for (what, told) in
        [("required", "cannot be made NOT NULL"), ("source", "shard"), ("key", "grown_name_key")]
    {
        assert!(seen["told"][what].as_str().unwrap().contains(told), "{what}: {}", seen["told"]);
    }
    // And on, in SQL: under the partitions that the guest left, and read by the guest's own columns.
    rows(&sql, "UPDATE mart.grown SET more = 1 WHERE label IN ('one', 'three')").await;
    rows(&sql, "INSERT INTO mart.grown (id, label) VALUES (5, 'five')").await;
    assert_eq!(text("SELECT sum(more), count(*) FROM mart.grown").await, [["402", "5"]]);
    let specs =
        "SELECT count(DISTINCT spec_id) FROM mart.\"grown$files\" WHERE partition['shard'] IS NOT NULL";
    assert_eq!(number(&sql, specs).await, 1);
    assert_eq!(code(&sql, "SELECT spare FROM mart.grown").await, "42703");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_client_hold_what_the_table_asks() {
    let (_catalogs, daemon) = with_tables().await;
    let sql = daemon.connect("lake").await;
    rows(&sql, "CREATE TABLE mart.ruled (n bigint CHECK (n > 0), CONSTRAINT one UNIQUE (n) ENFORCED)").await;
    rows(&sql, "INSERT INTO mart.ruled VALUES (1), (2)").await;
    let Some(told) = client(&daemon, &["ruled"]) else { return };
    for (at, wanted) in
        ["allowed", "ruled_n_check", "violates unique constraint", "allowed"].into_iter().enumerate()
    {
        assert!(told[at].as_str().unwrap().contains(wanted), "{at}: {told}");
    }
    assert_eq!(number(&sql, "SELECT sum(n) FROM mart.ruled").await, 83);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_race_lose_nothing() {
    let (_catalogs, daemon) = with_tables().await;
    let sql = daemon.connect("lake").await;
    let inserts = tokio::spawn(async move {
        for n in 0..20 {
            rows(&sql, &format!("INSERT INTO mart.marks VALUES ({n})")).await;
        }
    });
    let seen = tokio::task::block_in_place(|| client(&daemon, &["race", "4"]));
    inserts.await.unwrap();
    let Some(seen) = seen else { return };
    assert_eq!(seen["failures"], json!([]));
    let wanted: Vec<i64> = (0..3).flat_map(|writer| (0..4).map(move |n| writer * 1000 + n)).collect();
    assert_eq!(seen["rows"], json!(wanted));
    let sql = daemon.connect("lake").await;
    assert_eq!(number(&sql, "SELECT count(DISTINCT n) FROM guest.race").await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn duckdb_attaches_the_catalog() {
    let (_catalogs, daemon) = with_tables().await;
    let Some(seen) = client(&daemon, &["duckdb"]) else { return };
    if let Some(reason) = seen["skipped"].as_str() {
        return println!("skipped: {reason}");
    }
    let sql = daemon.connect("lake").await;
    assert_eq!((&seen["sum"].to_string(), &seen["after"].to_string()), (&"55".into(), &"3055".into()));
    let join = number(&sql, "SELECT count(*) FROM mart.far WHERE month <= 10").await;
    assert_eq!(seen["join"], join);
    assert_eq!(number(&sql, "SELECT sum(n) FROM mart.marks").await, 3055);
    assert_eq!(
        rows(&sql, "SELECT legs, name FROM mart.ducks").await,
        [[Some("7".into()), Some("Erpel".into())]]
    );
}

/// A change of properties, of a table that is at `uuid`.
fn change(table: &str, uuid: &Value, value: &str) -> Value {
    json!({
        "identifier": {"namespace": ["mart"], "name": table},
        "requirements": [{"type": "assert-table-uuid", "uuid": uuid}],
        "updates": [{"action": "set-properties", "updates": {"told": value, "comment": value}}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tables_change_in_one_entry_or_not_at_all() {
    let (catalogs, daemon) = with_tables().await;
    let get = |table: &str| {
        let head = format!("GET /iceberg/v1/lake/namespaces/mart/tables/{table}");
        request(daemon.http, &head, &[], "").1
    };
    let commit = |changes: Vec<Value>| {
        let body = json!({"table-changes": changes}).to_string();
        request(daemon.http, "POST /iceberg/v1/lake/transactions/commit", &[], &body)
    };
    let uuid = |table: &str| get(table)["metadata"]["table-uuid"].clone();
    let (far, marks) = (uuid("far"), uuid("marks"));
    let before = versions(&catalogs);
    let (status, told) = commit(vec![change("far", &far, "one"), change("marks", &marks, "one")]);
    assert_eq!((status, told), (204, Value::Null));
    assert_eq!(versions(&catalogs), before + 1);
    let (status, told) = commit(vec![change("far", &far, "two"), change("marks", &far, "two")]);
    assert_eq!((status, &told["error"]["type"]), (409, &json!("CommitFailedException")), "{told}");
    let (status, told) = commit(vec![change("far", &far, "two"), change("near", &far, "two")]);
    assert_eq!((status, &told["error"]["type"]), (404, &json!("NoSuchTableException")), "{told}");
    let (status, _) = commit(vec![change("far", &far, "two"), change("far", &far, "three")]);
    assert_eq!(status, 400);
    assert_eq!(versions(&catalogs), before + 1);
    for table in ["far", "marks"] {
        assert_eq!(get(table)["metadata"]["properties"]["told"], "one");
    }
    let sql = daemon.connect("lake").await;
    let comment = "SELECT obj_description('mart.marks'::regclass)";
    assert_eq!(rows(&sql, comment).await, [[Some("one".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_made_again_on_what_another_daemon_left() {
    let target = S3Target::for_tests().await;
    let catalogs = [in_bucket(&target), in_bucket(&target)];
    let daemons = [0, 1].map(|at: usize| Setup::default().serve(catalogs[at].path()));
    let sql = daemons[0].connect("lake").await;
    rows(&sql, "CREATE SCHEMA IF NOT EXISTS mart").await;
    rows(&sql, "CREATE TABLE mart.marks (n integer)").await;
    let head = "GET /iceberg/v1/lake/namespaces/mart/tables/marks";
    let http = daemons[1].http;
    let uuid = request(http, head, &[], "").1["metadata"]["table-uuid"].clone();
    let inserts = tokio::spawn(async move {
        for n in 0..12 {
            rows(&sql, &format!("INSERT INTO mart.marks VALUES ({n})")).await;
        }
        sql
    });
    let commit = move |value: &str| {
        let body = change("marks", &uuid, value).to_string();
        request(http, "POST /iceberg/v1/lake/namespaces/mart/tables/marks", &[], &body)
    };
    let told = tokio::task::spawn_blocking(move || {
        (0..12).map(|n| commit(&n.to_string())).find(|(status, _)| *status != 200)
    });
    assert_eq!(told.await.unwrap(), None, "nothing that a commit required has changed");
    let sql = inserts.await.unwrap();
    assert_eq!(number(&sql, "SELECT count(DISTINCT n) FROM mart.marks").await, 12);
    let table = request(daemons[0].http, head, &[], "").1["metadata"].clone();
    assert_eq!(
        (&table["properties"]["told"], table["snapshots"].as_array().unwrap().len()),
        (&json!("11"), 12)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_told_so() {
    let (_catalogs, daemon) = with_tables().await;
    let ask = |head: &str, body: &str| {
        let (status, told) = request(daemon.http, head, &[], body);
        (status, told["error"]["type"].as_str().unwrap_or_default().to_owned())
    };
    let table = "POST /iceberg/v1/lake/namespaces/mart/tables/marks";
    let unknown = r#"{"requirements": [], "updates": [{"action": "add-encryption-key"}]}"#;
    for (head, body, status, kind) in [
        ("GET /iceberg/v1/config?warehouse=none", "", 404, "NoSuchWarehouseException"),
        ("GET /iceberg/v1/tpch/namespaces", "", 404, "NoSuchWarehouseException"),
        ("GET /iceberg/v1/lake/namespaces/none", "", 404, "NoSuchNamespaceException"),
        ("GET /iceberg/v1/lake/namespaces/a%1Fb/tables", "", 404, "NoSuchNamespaceException"),
        ("GET /iceberg/v1/lake/namespaces/mart/tables/none", "", 404, "NoSuchTableException"),
        ("GET /iceberg/v1/lake/namespaces/mart/tables/seen", "", 404, "NoSuchTableException"),
        ("GET /iceberg/v1/lake/namespaces/raw/tables/flights", "", 404, "NoSuchTableException"),
        ("GET /iceberg/v1/lake/namespaces/mart/views/seen", "", 404, "NoSuchViewException"),
        ("GET /iceberg/v1/lake/namespaces/mart/views", "", 406, "UnsupportedOperationException"),
        ("DELETE /iceberg/v1/lake/namespaces/mart", "", 409, "NamespaceNotEmptyException"),
        ("POST /iceberg/v1/lake/namespaces", r#"{"namespace": ["mart"]}"#, 409, "AlreadyExistsException"),
        ("POST /iceberg/v1/lake/namespaces", r#"{"namespace": ["pg_x"]}"#, 403, "ForbiddenException"),
        ("POST /iceberg/v1/lake/namespaces", "{", 400, "BadRequestException"),
        (table, unknown, 400, "BadRequestException"),
        ("POST /iceberg/v1/lake/namespaces/mart/register", "{}", 406, "UnsupportedOperationException"),
        ("GET /iceberg/v2/x", "", 406, "UnsupportedOperationException"),
    ] {
        assert_eq!(ask(head, body), (status, kind.to_owned()), "{head}");
    }
    let (status, config) = request(daemon.http, "GET /iceberg/v1/config?warehouse=lake", &[], "");
    assert_eq!((status, &config["overrides"]["prefix"]), (200, &json!("lake")));
    assert_eq!(request(daemon.http, "HEAD /iceberg/v1/lake/namespaces/mart", &[], "").0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_comment_of_a_namespace_is_its_one_property() {
    let (_catalogs, daemon) = with_tables().await;
    let update =
        |body: &str| request(daemon.http, "POST /iceberg/v1/lake/namespaces/mart/properties", &[], body).1;
    let comment =
        || request(daemon.http, "GET /iceberg/v1/lake/namespaces/mart", &[], "").1["properties"].clone();
    assert_eq!(update(r#"{"updates": {"comment": "x"}}"#)["updated"], json!(["comment"]));
    assert_eq!(
        update(r#"{"removals": ["other"]}"#),
        json!({"updated": [], "removed": [], "missing": ["other"]})
    );
    assert_eq!(comment(), json!({"comment": "x"}));
    assert_eq!(update(r#"{"removals": ["comment"]}"#)["removed"], json!(["comment"]));
    assert_eq!(update(r#"{"removals": ["comment"]}"#)["missing"], json!(["comment"]));
    assert_eq!(comment(), json!({}));
    assert_eq!(update(r#"{"updates": {"owner": "x"}}"#)["error"]["type"], "UnsupportedOperationException");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_users_web_pages_and_strange_names_are_kept_out() {
    let (_catalogs, daemon) = served(&[]).await;
    let head = "GET /iceberg/v1/lake/namespaces";
    let status = |headers: &[(&str, &str)]| request(daemon.http, head, headers, "").0;
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&[("Host", "localhost:8080")]), 200);
    assert_eq!(status(&[("Host", "lake.example")]), 403);
    assert_eq!(status(&[("Origin", "http://lake.example")]), 403);
    assert_eq!(request(daemon.http, "GET /health", &[("Host", "lake.example")], "").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_log_in_as_on_the_other_port() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.toml");
    std::fs::write(&users, lacus::access::user_entry("ann", &b"open sesame"[..]).unwrap()).unwrap();
    let (_catalogs, daemon) = served(&["--users", users.to_str().unwrap()]).await;
    let head = "GET /iceberg/v1/config";
    let ask = |authorization: &str| {
        let (status, told) = request(daemon.http, head, &[("Authorization", authorization)], "");
        (status, told["error"]["type"].as_str().unwrap_or_default().to_owned())
    };
    let refused = (401, "NotAuthorizedException".to_owned());
    assert_eq!(request(daemon.http, head, &[], "").0, 401);
    // ann:open sesame, ann:close sesame, and no pair at all.
    assert_eq!(ask("Basic YW5uOm9wZW4gc2VzYW1l"), (200, String::new()));
    for wrong in ["Basic YW5uOmNsb3NlIHNlc2FtZQ==", "Basic YW5u", "Bearer None", "Digest x", ""] {
        assert_eq!(ask(wrong), refused, "{wrong}");
    }
    let token = |form: &str| {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        request(daemon.http, "POST /iceberg/v1/oauth/tokens", &headers, form)
    };
    let grant = "grant_type=client_credentials&client_id=ann&client_secret=";
    let (status, given) = token(&format!("{grant}open+sesame"));
    assert_eq!((status, &given["token_type"], &given["expires_in"]), (200, &json!("bearer"), &json!(3600)));
    let bearer = format!("Bearer {}", given["access_token"].as_str().unwrap());
    assert_eq!(ask(&bearer), (200, String::new()));
    assert_eq!(token(&format!("{grant}wrong")).1["error"], "invalid_client");
    assert_eq!(token("grant_type=password&username=ann").1["error"], "unsupported_grant_type");
    assert_eq!(token("grant_type=client_credentials").1["error"], "invalid_request");
    std::fs::write(&users, lacus::access::user_entry("ann", &b"another"[..]).unwrap()).unwrap();
    assert_eq!(ask(&bearer), refused, "a token ends with its password");
    let Some(seen) = client(&daemon, &["login", "ann:another", "ann:open sesame"]) else { return };
    let namespaces = json!(["mart", "public", "raw"]);
    assert_eq!((&seen["token"], &seen["basic"]), (&namespaces, &namespaces), "{seen}");
    for refused in ["wrong", "nobody", "forged"] {
        assert!(seen[refused].is_string(), "{seen}");
    }
}

/// Asks over TLS, believing the one certificate; returns the status.
async fn status_over_tls(address: SocketAddr, certificate: &Path, headers: &str) -> u16 {
    use rustls_pki_types::pem::PemObject;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    let mut roots = RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
    let head = "GET /iceberg/v1/lake/namespaces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    stream.write_all(format!("{head}{headers}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The other side may close without a word.
    stream.read_to_end(&mut answer).await.ok();
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_speaks_tls_and_can_insist_on_it() {
    let state = tempfile::tempdir().unwrap();
    let flags = ["--tls-required", "--state-dir", state.path().to_str().unwrap()];
    let (_catalogs, daemon) = served(&flags).await;
    let certificate = state.path().join("server.crt");
    assert_eq!(status_over_tls(daemon.http, &certificate, "").await, 200);
    assert_eq!(status_over_tls(daemon.http, &certificate, "Origin: https://localhost\r\n").await, 403);
    let plain = request(daemon.http, "GET /iceberg/v1/lake/namespaces", &[], "");
    assert_eq!((plain.0, &plain.1["error"]["type"]), (403, &json!("ForbiddenException")));
    assert_eq!(request(daemon.http, "GET /health", &[], "").0, 200, "who watches needs no TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused() {
    let (_catalogs, daemon) = served(&["--message-limit", "100KB"]).await;
    let body = format!("{{\"namespace\": [\"{}\"]}}", "x".repeat(200_000));
    let (status, told) = request(daemon.http, "POST /iceberg/v1/lake/namespaces", &[], &body);
    assert_eq!(status, 413, "{told}");
}
