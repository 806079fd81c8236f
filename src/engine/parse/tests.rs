use super::*;

fn one(sql: &str) -> Statement {
    let mut statements = parse(sql).unwrap();
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0).statement
}

#[test]
fn statements_keep_the_text_they_were_written_with() {
    let parsed = parse("  SELECT 'a;b' ; -- done\n SELECT  2;; ").unwrap();
    let texts: Vec<&str> = parsed.iter().map(|parsed| parsed.text.as_ref()).collect();
    assert_eq!(texts, ["SELECT 'a;b'", "SELECT  2"]);
}

#[test]
fn a_syntax_error_points_at_its_place() {
    let error = parse("SELECT 1;\nSELECT * FORM t").unwrap_err();
    assert_eq!((error.sqlstate(), error.position()), ("42601", Some(25)), "{error}");
    let error = parse("SELECT (").unwrap_err();
    assert_eq!(error.sqlstate(), "42601");
    assert!(error.to_string().contains("at end of input"), "{error}");
}

#[test]
fn partitions_are_columns_or_transforms() {
    let Statement::CreateTable(create) =
        one("CREATE TABLE mart.d PARTITIONED BY (month, days(ts), bucket(16, \"Id\")) AS SELECT 1")
    else {
        panic!("not a table")
    };
    let columns: Vec<_> = create
        .partitioned_by
        .iter()
        .map(|p| (p.function.as_deref(), p.argument, p.column.as_str()))
        .collect();
    assert_eq!(
        columns,
        [(None, None, "month"), (Some("days"), None, "ts"), (Some("bucket"), Some(16), "Id")]
    );
    assert!(create.query.is_some());
}

#[test]
fn a_view_keeps_its_query_as_written() {
    let Statement::CreateView(view) = one("CREATE OR REPLACE VIEW v (A) AS SELECT  x -- why\n FROM t") else {
        panic!("not a view")
    };
    assert_eq!(
        (view.sql.as_str(), view.columns.as_slice()),
        ("SELECT  x -- why\n FROM t", &["a".to_owned()][..])
    );
}

#[test]
fn settings_take_words_numbers_and_lists() {
    let set = |sql| match one(sql) {
        Statement::Set { name, value, local } => (name, value, local),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        set("SET search_path TO raw, \"Mart\""),
        ("search_path".into(), Some("raw, Mart".into()), false)
    );
    assert_eq!(
        set("SET LOCAL statement_timeout = '5s'"),
        ("statement_timeout".into(), Some("5s".into()), true)
    );
    assert_eq!(set("SET TIME ZONE 'Europe/Berlin'").0, "timezone");
    assert_eq!(set("SET extra_float_digits = DEFAULT").1, None);
}

#[test]
fn files_beyond_the_lake_cannot_be_declared() {
    let error = parse("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'").unwrap_err();
    assert_eq!(error.sqlstate(), "0A000");
}

#[test]
fn deep_nesting_is_refused() {
    let sql = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(parse(&sql).unwrap_err().sqlstate(), "54000");
}

#[test]
fn chains_are_parsed_up_to_their_limits() {
    let codes = |sql: &str| parse(sql).map(|_| ()).map_err(|error| error.sqlstate());
    let chained = |link: &str, times: usize| format!("SELECT 1{}", link.repeat(times));
    assert_eq!(codes(&chained(" + 1", 5_000)), Ok(()));
    assert_eq!(codes(&chained(" + 1", 5_001)), Err("54000"));
    assert_eq!(codes(&chained(" UNION ALL SELECT 1", 1_000)), Ok(()));
    assert_eq!(codes(&chained(" UNION ALL SELECT 1", 1_001)), Err("54000"));
    // What stands side by side is no chain.
    assert_eq!(codes(&chained(", 1 + 1", 20_000)), Ok(()));
    let cases = format!("SELECT CASE{} END FROM t", " WHEN a = 1 THEN -1".repeat(6_000));
    assert_eq!(codes(&cases), Ok(()));
}
