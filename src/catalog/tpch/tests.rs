use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;

use super::*;

/// A session over `tiny`, whose scans have this many partitions.
fn tiny(partitions: usize) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    for name in TABLES {
        let table = table(0.01, name).expect("a table of the connector");
        context.register_table(name, table).unwrap();
    }
    context
}

/// All rows of a query as one batch.
async fn table_of(context: &SessionContext, sql: &str) -> RecordBatch {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

async fn rows(context: &SessionContext, sql: &str) -> String {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let body = text.lines().skip(3).filter(|line| !line.starts_with('+'));
    body.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_schema_name_is_a_scale_factor() {
    assert_eq!(scale_factor("tiny"), Some(0.01));
    assert_eq!(scale_factor("sf1"), Some(1.0));
    assert_eq!(scale_factor("sf0.1"), Some(0.1));
    assert_eq!(scale_factor("sf0_1"), Some(0.1));
    assert_eq!(scale_factor("sf100000"), Some(100_000.0));
    for wrong in
        ["", "sf", "sf0", "sf0.0001", "sf100001", "sf-1", "sf+1", "sf01", "sf1e3", "sfinf", "sf1_0_0"]
    {
        assert_eq!(scale_factor(wrong), None, "{wrong}");
    }
    assert!(schema_names().iter().all(|name| scale_factor(name).is_some()));
    assert!(table(1.0, "orders").is_some() && table(1.0, "order").is_none());
    assert!(table(0.0, "orders").is_none() && table(f64::NAN, "orders").is_none());
    assert!(TABLES.is_sorted() && TABLES.iter().all(|name| comment(name).is_some()));
}

/// The counts as DuckDB has them after reading the same data, and as statistics promise them.
#[tokio::test]
async fn tables_have_as_many_rows_as_their_statistics_say() {
    let expected = [1_500, 60_175, 25, 15_000, 2_000, 8_000, 5, 100];
    let context = tiny(3);
    for (name, expected) in TABLES.into_iter().zip(expected) {
        let promised = table(0.01, name).unwrap().statistics().unwrap();
        assert_eq!(promised.num_rows.get_value(), Some(&expected), "{name}");
        assert_eq!(promised.num_rows.is_exact(), Some(true), "{name}");
        // A filter that always holds keeps the planner from answering by statistics.
        let key = Table::by_name(name).unwrap().order()[0];
        let counted = rows(&context, &format!("SELECT count(*) FROM {name} WHERE {key} % 1 = 0")).await;
        assert_eq!(counted, expected.to_string(), "{name}");
    }
}

/// What `SELECT min(..)` answers by statistics alone has to be what the rows hold.
#[tokio::test]
async fn exact_bounds_are_those_of_the_rows() {
    let context = tiny(2);
    for name in TABLES {
        let table = table(0.01, name).unwrap();
        let statistics = table.statistics().unwrap();
        for (field, column) in table.schema().fields().iter().zip(&statistics.column_statistics) {
            let (Some(true), Some(low)) = (column.min_value.is_exact(), column.min_value.get_value()) else {
                continue;
            };
            let high = column.max_value.get_value().unwrap();
            let distinct = column.distinct_count.get_value().unwrap();
            let key = field.name();
            let sql = format!("SELECT min({key} + 0), max({key} + 0), count(DISTINCT {key} + 0) FROM {name}");
            assert_eq!(rows(&context, &sql).await, format!("{low}|{high}|{distinct}"), "{key}");
        }
    }
}

#[test]
fn counted_lines_are_the_published_ones() {
    assert_eq!(statistics::counted_lineitem_rows(1.0), 6_001_215);
    assert_eq!(statistics::counted_lineitem_rows(0.01), 60_175);
}

#[tokio::test]
async fn partitions_hold_the_same_rows_as_the_whole() {
    let serial = tiny(1);
    let parallel = tiny(3);
    for sql in [
        "SELECT * FROM lineitem ORDER BY l_orderkey, l_linenumber",
        "SELECT * FROM orders ORDER BY o_orderkey",
        "SELECT * FROM partsupp ORDER BY ps_partkey, ps_suppkey",
    ] {
        assert_eq!(table_of(&serial, sql).await, table_of(&parallel, sql).await, "{sql}");
    }
    let plan =
        parallel.sql("SELECT l_tax FROM lineitem").await.unwrap().create_physical_plan().await.unwrap();
    assert_eq!(plan.properties().partitioning.partition_count(), 3);
}

/// Comments need the 300 MiB of text, other columns must not depend on it.
#[tokio::test]
async fn columns_are_the_same_with_and_without_comments() {
    for (name, keys) in [("supplier", 6), ("customer", 7), ("part", 8)] {
        let table = Table::by_name(name).unwrap();
        let split = generate::Split { table, scale_factor: 0.01, number: 1, count: 1 };
        let columns: Vec<usize> = (0..keys).collect();
        for (full, short) in split.open(1_000, true).zip(split.open(1_000, false)) {
            let (full, short) = (full.unwrap(), short.unwrap());
            assert_eq!(full.project(&columns).unwrap(), short.project(&columns).unwrap());
            assert_ne!(full, short);
        }
    }
}

#[tokio::test]
async fn projection_and_limit_reach_the_scan() {
    let context = tiny(2);
    let sql = "SELECT l_orderkey, l_linenumber FROM lineitem LIMIT 3";
    assert_eq!(rows(&context, sql).await, "1|1\n1|2\n1|3");
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("projection=[l_orderkey, l_linenumber], partitions=1, limit=3"), "{text}");
    let parallel = "SELECT count(*) FROM (SELECT l_tax + 1 FROM lineitem LIMIT 50000)";
    assert_eq!(rows(&context, parallel).await, "50000");
}

/// Sums that DuckDB 2.0 computes over the same tables.
#[tokio::test]
async fn sums_are_those_of_another_engine() {
    let context = tiny(2);
    let sql = "SELECT sum(l_quantity), sum(l_extendedprice), sum(l_discount), sum(l_tax), \
               sum(l_partkey), sum(l_suppkey), min(l_shipdate), max(l_receiptdate) FROM lineitem";
    assert_eq!(rows(&context, sql).await, LINEITEM_SUMS);
    let sql =
        "SELECT sum(o_totalprice), sum(o_custkey), sum(length(o_clerk)), sum(length(o_comment)) FROM orders";
    assert_eq!(rows(&context, sql).await, ORDERS_SUMS);
}

const LINEITEM_SUMS: &str = "1536127.00|2152189760.47|3004.54|2420.51|60337552|3041002|1992-01-04|1998-12-25";
const ORDERS_SUMS: &str = "2127396830.02|11331746|225000|727364";
