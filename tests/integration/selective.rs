//! Filters that a join or a top-N finds while it runs, applied to the rows of Parquet files.

use tokio_postgres::Client;

use crate::daemon::{Catalogs, Setup, rows};

/// A number behind `name=` in what EXPLAIN ANALYZE shows, the largest of all scans: 0, or more.
fn anything(plan: &str, name: &str) -> bool {
    let found: Vec<&str> = plan.split(&format!("{name}=")).skip(1).collect();
    assert!(!found.is_empty(), "no {name} in {plan}");
    found.iter().any(|text| !text.starts_with("0,"))
}

async fn plan(client: &Client, sql: &str) -> String {
    let lines = rows(client, &format!("EXPLAIN ANALYZE {sql}")).await;
    lines.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n")
}

async fn one(client: &Client, sql: &str) -> String {
    rows(client, sql).await[0]
        .iter()
        .map(|value| value.clone().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("|")
}

#[tokio::test(flavor = "multi_thread")]
async fn few_keys_of_a_join_leave_rows_undecoded_and_many_do_not() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    for sql in [
        "CREATE SCHEMA s",
        "CREATE TABLE s.facts AS SELECT (n * 7919 % 100000)::bigint AS key, 'value ' || n AS text, \
         CASE WHEN n % 10 = 0 THEN NULL ELSE n % 50000 END AS maybe FROM generate_series(1, 300000) AS g(n)",
        "CREATE TABLE s.few AS SELECT n * 1000 AS key FROM generate_series(1, 50) AS g(n)",
        "CREATE TABLE s.many AS SELECT n * 2 AS key FROM generate_series(1, 40000) AS g(n)",
    ] {
        rows(&client, sql).await;
    }
    let few = "SELECT count(*), min(text) FROM s.facts JOIN s.few USING (key)";
    assert_eq!(one(&client, few).await, "150|value 1000");
    assert!(anything(&plan(&client, few).await, "pushdown_rows_pruned"));
    let many = "SELECT count(*), min(text) FROM s.facts JOIN s.many USING (key)";
    assert_eq!(one(&client, many).await, "120000|value 10");
    assert!(!anything(&plan(&client, many).await, "pushdown_rows_pruned"));
    // What a query asks itself is left to the filter above the scan, and both hold together.
    let both = "SELECT count(*), min(text) FROM s.facts JOIN s.few USING (key) WHERE text LIKE '%7'";
    assert_eq!(
        one(&client, both).await,
        one(&client, &both.replace("USING (key)", "ON facts.key + 0 = few.key + 0")).await
    );
    // Rows without a key are kept where the join keeps them.
    let nulls =
        "SELECT count(*), count(maybe), count(few.key) FROM s.facts LEFT JOIN s.few ON maybe = few.key";
    assert_eq!(one(&client, nulls).await, "300000|270000|0");
    let without = "SELECT count(*) FROM s.facts WHERE maybe NOT IN (SELECT key FROM s.few)";
    assert_eq!(one(&client, without).await, "270000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_n_leaves_out_rows_that_come_too_late() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA s").await;
    rows(&client, "CREATE TABLE s.t (id bigint, text text)").await;
    // A row group is filtered before its rows are read: what one taught helps with the next.
    for file in 0..8 {
        let numbers = format!("generate_series({}, {})", file * 30_000 + 1, (file + 1) * 30_000);
        rows(
            &client,
            &format!("INSERT INTO s.t SELECT n * 7919 % 300007, 'text ' || n FROM {numbers} AS g(n)"),
        )
        .await;
    }
    let top = "SELECT id, text FROM s.t ORDER BY id DESC LIMIT 3";
    let found: Vec<Vec<Option<String>>> = rows(&client, top).await;
    assert_eq!(
        found.iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>(),
        ["300006", "300005", "300004"]
    );
    assert!(anything(&plan(&client, top).await, "pushdown_rows_pruned"));
}
