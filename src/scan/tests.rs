use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::common::ScalarValue;
use datafusion::physical_plan::collect;
use datafusion::prelude::{col, lit};

use super::*;
use crate::error::Error;
use crate::format::files::listing::ListingLimits;
use crate::format::files::testing::{TestLake, location, parquet};
use crate::format::files::{FilePattern, FileSet, OpenFiles};

async fn pinned(lake: &TestLake, path: &str) -> Arc<Snapshot> {
    let files = OpenFiles::new(ListingLimits { ttl: Duration::ZERO, ..ListingLimits::default() });
    let set = FileSet::new(FilePattern::Folder(lake.path(path)));
    Arc::new(files.snapshot(&lake.context.state(), &lake.location, &set).await.unwrap())
}

/// Registers the folder as table `t`.
async fn table(lake: &TestLake, path: &str) {
    let table = FilesTable::new(pinned(lake, path).await);
    lake.context.deregister_table("t").unwrap();
    lake.context.register_table("t", Arc::new(table)).unwrap();
}

async fn rows(lake: &TestLake, sql: &str) -> String {
    let batches = lake.context.sql(sql).await.unwrap().collect().await.unwrap();
    arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
}

/// The one value of a query, as text.
async fn value(lake: &TestLake, sql: &str) -> String {
    let batches: Vec<RecordBatch> = lake.context.sql(sql).await.unwrap().collect().await.unwrap();
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).expect("there is a row");
    ScalarValue::try_from_array(batch.column(0), 0).unwrap().to_string()
}

fn ints(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

/// Ten files of ten rows, `x` ascending over them, two months.
async fn ten_files(lake: &TestLake) {
    for file in 0..10 {
        let path = format!("raw/t/month={}/{file}.parquet", 1 + file / 5);
        lake.put_parquet(&path, vec![("x", ints(file * 10..file * 10 + 10))]).await;
    }
}

#[tokio::test]
async fn a_warm_query_over_a_thousand_files_reads_no_footer() {
    let lake = TestLake::new();
    for file in 0..1000 {
        let path = format!("raw/t/part-{file:04}.parquet");
        lake.put(&path, parquet(vec![("x", ints([file, file + 1]))])).await;
    }
    lake.store.take();
    table(&lake, "raw/t").await;
    assert_eq!(value(&lake, "SELECT count(*) FROM t WHERE x >= 999").await, "3");
    let (cold, _) = lake.store.take();
    assert!(cold >= 1000, "every footer is read once, cold: {cold}");
    table(&lake, "raw/t").await;
    assert_eq!(lake.store.take(), (0, 1), "a listing, and no inference");
    assert_eq!(value(&lake, "SELECT count(*) FROM t WHERE x >= 999").await, "3");
    let (warm, _) = lake.store.take();
    assert!(warm <= 4, "only data of the two files that match is read: {warm}");
    assert_eq!(value(&lake, "SELECT count(*) FROM t").await, "2000");
    assert_eq!(lake.store.take(), (0, 0), "counts come from metadata");
}

#[tokio::test]
async fn files_are_skipped_by_partition_before_their_footers_are_read() {
    let lake = TestLake::new();
    ten_files(&lake).await;
    let snapshot = pinned(&lake, "raw/t").await;
    // A session of its own, whose caches know no footer.
    let cold = TestLake::new().context;
    cold.runtime_env()
        .register_object_store(lake.location.store_url.as_ref(), Arc::clone(&lake.location.store));
    lake.store.take();
    let filters = [col("month").eq(lit(2_i64)), col("x").lt(lit(60_i32))];
    let plan = scan(&cold.state(), &snapshot, None, &filters, None).await.unwrap();
    assert_eq!(lake.store.take().0, 5, "one footer for each file of the month");
    let metrics = plan.metrics().unwrap();
    assert_eq!(metrics.sum_by_name("files_pruned_at_planning").unwrap().as_usize(), 9);
    let batches = collect(plan, cold.task_ctx()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
}

#[tokio::test]
async fn partition_filters_are_exact_and_statistics_answer() {
    let lake = TestLake::new();
    ten_files(&lake).await;
    table(&lake, "raw/t").await;
    let plan = rows(&lake, "EXPLAIN SELECT x FROM t WHERE month = 2").await;
    assert!(!plan.contains("FilterExec"), "{plan}");
    let plan = rows(&lake, "EXPLAIN SELECT count(*), max(x), min(month) FROM t WHERE month > 1").await;
    assert!(!plan.contains("DataSourceExec"), "answered from statistics: {plan}");
    let query = "SELECT concat(count(*), ' ', max(x), ' ', min(month)) FROM t WHERE month > 1";
    assert_eq!(value(&lake, query).await, "50 99 2");
    assert_eq!(value(&lake, "SELECT sum(x) FROM t WHERE month = 1 AND x % 2 = 0").await, "600");
    assert_eq!(value(&lake, "SELECT count(*) FROM t WHERE month = 3").await, "0");
    let analyzed = rows(&lake, "EXPLAIN ANALYZE SELECT x FROM t WHERE x = 15").await;
    assert!(analyzed.contains("files_pruned_at_planning=9"), "{analyzed}");
    assert!(analyzed.contains("row_groups_pruned_statistics"), "{analyzed}");
}

#[tokio::test]
async fn null_partitions_are_null() {
    let lake = TestLake::new();
    lake.put_parquet("raw/t/k=__HIVE_DEFAULT_PARTITION__/a.parquet", vec![("x", ints([1]))]).await;
    lake.put_parquet("raw/t/k=b/a.parquet", vec![("x", ints([2, 3]))]).await;
    table(&lake, "raw/t").await;
    assert_eq!(value(&lake, "SELECT count(*) FROM t WHERE k IS NULL").await, "1");
    assert_eq!(value(&lake, "SELECT count(*) FROM t WHERE k <> 'b'").await, "0");
    assert_eq!(value(&lake, "SELECT count(k) FROM t").await, "2");
    assert_eq!(value(&lake, "SELECT min(k) FROM t").await, "b");
}

#[tokio::test]
async fn columns_meet_by_name_whatever_the_files_hold() {
    let lake = TestLake::new();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["p", "q"]));
    lake.put_parquet("raw/t/a.parquet", vec![("x", ints([1, 2])), ("s", text)]).await;
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![i64::from(i32::MAX) + 1]));
    lake.put_parquet("raw/t/b.parquet", vec![("extra", ints([7])), ("x", wide)]).await;
    table(&lake, "raw/t").await;
    assert_eq!(value(&lake, "SELECT sum(x) FROM t").await, "2147483651");
    assert_eq!(value(&lake, "SELECT max(x) FROM t").await, "2147483648");
    assert_eq!(value(&lake, "SELECT min(x) FROM t").await, "1");
    assert_eq!(value(&lake, "SELECT count(*) FROM t WHERE s IS NULL AND extra = 7").await, "1");
    assert_eq!(value(&lake, "SELECT count(s) FROM t").await, "2");
    assert_eq!(value(&lake, "SELECT min(s) FROM t").await, "p");
    assert_eq!(value(&lake, "SELECT x FROM t WHERE s = 'q'").await, "2");
}

#[tokio::test]
async fn two_stores_may_hold_different_files_under_one_path() {
    let (one, two) = (TestLake::new(), TestLake::new());
    one.put_parquet("raw/t/a.parquet", vec![("x", ints([1]))]).await;
    two.put_parquet("raw/t/a.parquet", vec![("x", ints([2]))]).await;
    let elsewhere = location("mem://other/", "lake", Arc::clone(&two.store) as _);
    one.context
        .runtime_env()
        .register_object_store(elsewhere.store_url.as_ref(), Arc::clone(&elsewhere.store));
    for (place, expected) in [(&one.location, "1"), (&elsewhere, "2"), (&one.location, "1")] {
        let files = OpenFiles::new(ListingLimits::default());
        let set = FileSet::new(FilePattern::Folder(place.child("raw/t")));
        let mut snapshot = files.snapshot(&one.context.state(), place, &set).await.unwrap();
        // The worst case: same path, same size, written in the same instant.
        let mut file = snapshot.files[0].clone();
        file.object.last_modified = chrono::DateTime::UNIX_EPOCH;
        snapshot.files = [file].into();
        one.context.deregister_table("t").unwrap();
        one.context.register_table("t", Arc::new(FilesTable::new(Arc::new(snapshot)))).unwrap();
        assert_eq!(value(&one, "SELECT max(x) FROM t").await, expected);
        assert_eq!(value(&one, "SELECT x FROM t").await, expected);
    }
}

#[tokio::test]
async fn a_limit_reads_few_footers_and_bad_data_names_its_file() {
    let lake = TestLake::new();
    ten_files(&lake).await;
    for file in 0..100 {
        lake.put_parquet(&format!("raw/many/{file:03}.parquet"), vec![("x", ints([file]))]).await;
    }
    let snapshot = pinned(&lake, "raw/many").await;
    let cold = TestLake::new().context;
    cold.runtime_env()
        .register_object_store(lake.location.store_url.as_ref(), Arc::clone(&lake.location.store));
    lake.store.take();
    scan(&cold.state(), &snapshot, None, &[], Some(5)).await.unwrap();
    assert_eq!(lake.store.take().0, LIMIT_BATCH);

    lake.put("raw/t/month=2/7.parquet", "PAR1 but not much more than that PAR1").await;
    let snapshot = pinned_unchecked(&lake).await;
    let error = scan(&cold.state(), &snapshot, None, &[], None).await.unwrap_err();
    let at_fault = "mem://bucket/lake/raw/t/month=2/7.parquet";
    assert!(matches!(&error, Error::CorruptFile { path, .. } if path == at_fault), "{error:?}");
}

/// A snapshot with declared columns: nothing looked into the files yet.
async fn pinned_unchecked(lake: &TestLake) -> Snapshot {
    let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
        "x",
        arrow::datatypes::DataType::Int32,
        true,
    )]);
    let mut set = FileSet::new(FilePattern::Folder(lake.path("raw/t")));
    set.columns = Some(Arc::new(schema));
    let files = OpenFiles::new(ListingLimits::default());
    files.snapshot(&lake.context.state(), &lake.location, &set).await.unwrap()
}
