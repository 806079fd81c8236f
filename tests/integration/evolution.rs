//! Evolution: tables whose columns and partitions changed, as a query's plan and other readers see them.

use crate::daemon::{Catalogs, Setup, rows};

/// A number behind `name=` in what EXPLAIN ANALYZE shows of the scan.
fn metric(plan: &str, name: &str) -> String {
    let found = plan.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {plan}"));
    found.chars().take_while(|c| !matches!(c, ',' | ']')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_row_groups_are_skipped_on_evolved_tables() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    for sql in [
        "CREATE SCHEMA evo",
        "CREATE TABLE evo.t AS SELECT n::int AS id, 'a' AS name FROM generate_series(1, 3000000) AS g(n)",
        "INSERT INTO evo.t SELECT n::int, 'b' FROM generate_series(3000001, 3001000) AS g(n)",
        "ALTER TABLE evo.t RENAME COLUMN id TO number",
        "ALTER TABLE evo.t ALTER COLUMN number TYPE bigint, ADD COLUMN extra text FIRST",
        "INSERT INTO evo.t (number, extra) SELECT n, 'x' FROM generate_series(3001001, 3002000) AS g(n)",
        "CREATE TABLE evo.few AS SELECT 2999999::bigint AS id UNION ALL SELECT 2999000",
    ] {
        rows(&client, sql).await;
    }
    let explain = async |sql: &str| {
        let lines = rows(&client, &format!("EXPLAIN ANALYZE {sql}")).await;
        lines.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n")
    };
    // By the renamed and widened column: the old file's row groups, and the other files.
    let plan = explain("SELECT name FROM evo.t WHERE number = 2999999").await;
    assert_eq!(metric(&plan, "files_pruned_at_planning"), "2", "{plan}");
    assert!(plan.contains("row_groups_pruned_statistics=3 total \u{2192} 1 matched"), "{plan}");
    // By a filter that is known only when the other side of the join has been read.
    let plan = explain("SELECT name FROM evo.few JOIN evo.t ON number = few.id").await;
    assert!(plan.contains("DynamicFilter"), "{plan}");
    assert!(plan.contains("row_groups_pruned_statistics=3 total \u{2192} 1 matched"), "{plan}");
    // A column that old files do not have: they are skipped as soon as they are opened.
    let plan = explain("SELECT number FROM evo.t WHERE extra = 'x'").await;
    assert!(plan.contains("Rows: 1000"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_partitioning_are_skipped() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    let days = "SELECT n AS id, DATE '2026-01-01' + n::int AS day FROM generate_series(0, 119) AS g(n)";
    for sql in [
        "CREATE SCHEMA evo",
        &format!("CREATE TABLE evo.t PARTITIONED BY (month(day)) AS {days}"),
        "ALTER TABLE evo.t SET PARTITIONED BY (truncate(10, id))",
        &format!("INSERT INTO evo.t {days}"),
        "ALTER TABLE evo.t SET PARTITIONED BY ()",
        &format!("INSERT INTO evo.t {days}"),
    ] {
        rows(&client, sql).await;
    }
    let lines = rows(&client, "EXPLAIN ANALYZE SELECT id FROM evo.t WHERE day = '2026-03-01'").await;
    let plan = lines.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n");
    // Of four months, twelve tens and one file for all: one of each is read.
    assert_eq!(metric(&plan, "files_pruned_at_planning"), "14", "{plan}");
    assert!(plan.contains("Rows: 3"), "{plan}");
}
