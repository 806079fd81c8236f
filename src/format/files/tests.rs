use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::TimeUnit;
use datafusion::common::ScalarValue;
use object_store::ObjectStoreExt;

use super::testing::TestLake;
use super::*;

fn open_files(ttl: Duration) -> OpenFiles {
    OpenFiles::new(ListingLimits { ttl, ..ListingLimits::default() })
}

fn columns(snapshot: &Snapshot) -> Vec<(String, DataType)> {
    let fields = snapshot.schema.fields().iter();
    fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
}

async fn pin(lake: &TestLake, set: &FileSet) -> Result<Snapshot> {
    let state = lake.context.state();
    open_files(Duration::ZERO).snapshot(&state, &lake.location, set).await
}

fn folder(lake: &TestLake, path: &str) -> FileSet {
    FileSet::new(FilePattern::Folder(lake.path(path)))
}

#[tokio::test]
async fn a_partitioned_folder_is_one_table() {
    let lake = TestLake::new();
    let ints = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as _;
    lake.put_parquet("raw/t/day=2024-01-01/n=01/a.parquet", vec![("x", ints(vec![1, 2]))]).await;
    let wide = Arc::new(Int64Array::from(vec![3])) as _;
    let extra = Arc::new(StringArray::from(vec!["z"])) as _;
    let nested = "raw/t/day=2024-01-02/n=__HIVE_DEFAULT_PARTITION__/b.parquet";
    lake.put_parquet(nested, vec![("x", wide), ("y", extra)]).await;
    lake.put("raw/t/_SUCCESS", "").await;
    lake.put("raw/t/_staging/x.parquet", "junk").await;
    lake.put("raw/t/day=2024-01-01/n=01/.a.parquet.crc", "junk").await;
    lake.put("raw/t/notes.md", "not data").await;

    let snapshot = pin(&lake, &folder(&lake, "raw/t")).await.unwrap();
    let expected = [
        ("x", DataType::Int64),
        ("y", DataType::Utf8View),
        ("day", DataType::Date32),
        ("n", DataType::Int64),
    ];
    assert_eq!(columns(&snapshot), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(snapshot.partition_columns, ["day", "n"]);
    assert_eq!(snapshot.files.len(), 2);
    assert_eq!(snapshot.files[0].partition, [ScalarValue::Date32(Some(19723)), ScalarValue::Int64(Some(1))]);
    assert_eq!(snapshot.files[1].partition[1], ScalarValue::Int64(None));
}

#[tokio::test]
async fn listings_are_as_old_as_the_limit_allows() {
    let lake = TestLake::new();
    lake.put("raw/t/a.csv", "x\n1\n").await;
    let state = lake.context.state();
    let set = folder(&lake, "raw/t");
    let (cached, live) = (open_files(Duration::from_secs(3600)), open_files(Duration::ZERO));
    for files in [&cached, &live] {
        assert_eq!(files.snapshot(&state, &lake.location, &set).await.unwrap().files.len(), 1);
    }
    lake.store.take();
    lake.put("raw/t/b.csv", "x\n2\n").await;
    assert_eq!(cached.snapshot(&state, &lake.location, &set).await.unwrap().files.len(), 1);
    assert_eq!(lake.store.take(), (0, 0));
    assert_eq!(live.snapshot(&state, &lake.location, &set).await.unwrap().files.len(), 2);
}

#[tokio::test]
async fn text_types_are_inferred_over_files() {
    let lake = TestLake::new();
    lake.put("raw/t/a.csv", "id,price,seen,gap\n1,2,2013-01-01T06:00:00Z,\n").await;
    lake.put("raw/t/b.csv", "id,price,seen\n2,2.5,2013-01-01T06:00:01Z\n").await;
    lake.put("raw/t/empty.csv", "").await;
    let snapshot = pin(&lake, &folder(&lake, "raw/t")).await.unwrap();
    let expected = [
        ("id", DataType::Int64),
        ("price", DataType::Float64),
        ("seen", DataType::Timestamp(TimeUnit::Second, None)),
        ("gap", DataType::Utf8View),
    ];
    assert_eq!(columns(&snapshot), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(snapshot.files.len(), 2);

    lake.put("raw/j/a.ndjson", "{\"a\": 1, \"b\": {\"c\": true}}\n{\"a\": 1.5}\n").await;
    let snapshot = pin(&lake, &folder(&lake, "raw/j")).await.unwrap();
    assert_eq!(columns(&snapshot)[0], ("a".to_owned(), DataType::Float64));
}

#[tokio::test]
async fn a_large_text_file_is_inferred_from_its_first_lines() {
    let lake = TestLake::new();
    let line = format!("{{\"n\": 1, \"text\": \"{}\"}}\n", "x".repeat(1000));
    lake.put("raw/big.jsonl", line.repeat(20_000)).await;
    let set = FileSet::new(FilePattern::File(lake.path("raw/big.jsonl")));
    lake.store.take();
    let snapshot = pin(&lake, &set).await.unwrap();
    assert_eq!(columns(&snapshot).len(), 2);
    assert_eq!(lake.store.take().0, 2, "one head and one range");
}

#[tokio::test]
async fn what_is_no_table_is_refused_with_the_file_at_fault() {
    let lake = TestLake::new();
    let floats = || vec![("x", Arc::new(Float64Array::from(vec![1.0; 9])) as _)];
    lake.put_parquet("mixed/a.parquet", floats()).await;
    lake.put("mixed/b.csv", "x\n1\n").await;
    let message = pin(&lake, &folder(&lake, "mixed")).await.unwrap_err();
    assert_eq!(message.sqlstate(), "42P16");
    assert!(message.to_string().contains("parquet (\"a.parquet\") and csv (\"b.csv\")"), "{message}");

    let mut bytes = super::testing::parquet(floats());
    bytes.truncate(bytes.len() - 5);
    lake.put("cut/a.parquet", bytes).await;
    lake.put("none/a.parquet", "").await;
    for table in ["cut", "none"] {
        let error = pin(&lake, &folder(&lake, table)).await.unwrap_err();
        let url = format!("mem://bucket/lake/{table}/a.parquet");
        assert!(matches!(&error, Error::CorruptFile { path, .. } if *path == url), "{error:?}");
    }

    lake.put("order/a.csv", "x,y\n1,2\n").await;
    lake.put("order/b.csv", "y,x\n1,2\n").await;
    let error = pin(&lake, &folder(&lake, "order")).await.unwrap_err();
    assert!(error.to_string().contains("order/b.csv"), "{error}");

    lake.put("keys/a=1/a.csv", "x\n1\n").await;
    lake.put("keys/b=1/a.csv", "x\n1\n").await;
    assert!(matches!(pin(&lake, &folder(&lake, "keys")).await, Err(Error::InvalidTable { .. })));
    assert!(matches!(pin(&lake, &folder(&lake, "absent")).await, Err(Error::FileNotFound(_))));
}

#[tokio::test]
async fn patterns_choose_files() {
    let lake = TestLake::new();
    for name in ["2023-12.csv", "2024-01.csv", "2024-02.csv", "deep/2024-03.csv", "_2024-04.csv"] {
        lake.put(&format!("raw/{name}"), "x\n1\n").await;
    }
    let count = async |pattern: &str| {
        let base = lake.path("raw");
        let set = FileSet::new(FilePattern::Glob { base, pattern: pattern.to_owned() });
        pin(&lake, &set).await.map_or(0, |snapshot| snapshot.files.len())
    };
    assert_eq!(count("2024-*.csv").await, 2);
    assert_eq!(count("**/2024-*.csv").await, 3);
    assert_eq!(count("*/*.csv").await, 1);
    assert_eq!(count("2024-0[13].csv").await, 1);
    assert_eq!(count("*.parquet").await, 0);
}

#[tokio::test]
async fn a_declared_table_needs_no_inference_and_no_files() {
    let lake = TestLake::new();
    let schema = Schema::new(vec![Field::new("x", DataType::Int64, true)]);
    let declared = FileSet {
        kind: Some(FileKind::Parquet),
        columns: Some(Arc::new(schema)),
        partitions: Partitions::Declared(vec![("month".to_owned(), DataType::Int32)]),
        ..folder(&lake, "raw/t")
    };
    assert_eq!(pin(&lake, &declared).await.unwrap().files.len(), 0);
    lake.put_parquet("raw/t/month=02/a.parquet", vec![("x", Arc::new(Int32Array::from(vec![1])) as _)]).await;
    lake.store.take();
    let snapshot = pin(&lake, &declared).await.unwrap();
    assert_eq!(snapshot.files[0].partition, [ScalarValue::Int32(Some(2))]);
    assert_eq!(lake.store.take(), (0, 1));
    lake.store.delete(&lake.path("raw/t/month=02/a.parquet")).await.unwrap();
    lake.put("raw/t/month=may/a.parquet", "junk").await;
    let error = pin(&lake, &declared).await.unwrap_err();
    assert!(error.to_string().contains("\"may\" in its path is not a value"), "{error}");
}
