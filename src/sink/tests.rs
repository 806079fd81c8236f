//! Writes of whole plans into real stores.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use tempfile::TempDir;

use super::{ExportOptions, WriteOptions, export, run_write, write_plan};
use crate::error::Result;
use crate::format::WrittenFile;
use crate::format::partition::{PartitionField, Transform};
use crate::storage::Location;

const MEMORY_BYTES: usize = 64 << 20;

/// A folder that is served as a lake's root, and a session over it.
struct Lake {
    folder: TempDir,
    location: Location,
    session: SessionContext,
}

impl Lake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location {
            url: format!("file://{}/", folder.path().display()),
            store: Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap()),
            store_url: ObjectStoreUrl::local_filesystem(),
            prefix: Path::default(),
        };
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(MEMORY_BYTES, 1.0).build_arc().unwrap();
        let config = SessionConfig::new().with_target_partitions(2);
        Self { folder, location, session: SessionContext::new_with_config_rt(config, runtime) }
    }

    async fn plan(&self, sql: &str) -> Arc<dyn ExecutionPlan> {
        self.session.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
    }

    fn task(&self) -> Arc<TaskContext> {
        self.session.task_ctx()
    }

    fn options(&self, schema: SchemaRef) -> WriteOptions {
        WriteOptions::new(self.location.clone(), Path::from("t/data"), schema)
    }

    async fn write(&self, sql: &str, change: impl FnOnce(&mut WriteOptions)) -> Result<Vec<WrittenFile>> {
        let input = self.plan(sql).await;
        let mut options = self.options(input.schema());
        change(&mut options);
        run_write(write_plan(input, options)?, self.task()).await
    }

    fn reader(&self, file: &WrittenFile) -> SerializedFileReader<std::fs::File> {
        SerializedFileReader::new(std::fs::File::open(self.folder.path().join(file.path.as_ref())).unwrap())
            .unwrap()
    }

    fn rows(&self, file: &WrittenFile) -> Vec<RecordBatch> {
        let file = std::fs::File::open(self.folder.path().join(file.path.as_ref())).unwrap();
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect()
    }

    /// All integers of column `column` of all files, sorted.
    fn integers(&self, files: &[WrittenFile], column: &str) -> Vec<i64> {
        let batches = files.iter().flat_map(|file| self.rows(file));
        let mut values: Vec<i64> = batches
            .flat_map(|batch| {
                batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
            })
            .collect();
        values.sort_unstable();
        values
    }

    fn is_empty(&self) -> bool {
        fn files(folder: &FsPath) -> usize {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
        }
        files(self.folder.path()) == 0
    }

    /// Waits for what a write cleans up in the background.
    async fn becomes_empty(&self) {
        for _ in 0..500 {
            if self.is_empty() && self.session.runtime_env().memory_pool.reserved() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("files or memory are left behind");
    }
}

const SERIES: &str = "SELECT value AS n, value % 100 AS part, concat('text number ', value) AS s \
                      FROM generate_series(1, 60000)";

fn by(column: &str, transform: Transform) -> Vec<PartitionField> {
    vec![PartitionField::new(column, transform)]
}

#[tokio::test]
async fn unpartitioned_rows_keep_their_order_and_metrics_are_true() {
    let lake = Lake::new();
    let sql = format!("{SERIES} ORDER BY n");
    let files = lake.write(&sql, |options| options.row_group_rows = 20_000).await.unwrap();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let read: Vec<i64> = lake
        .rows(file)
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert!(read.iter().copied().eq(1..=60_000), "rows are missing, or not in order");
    assert_eq!(
        (file.row_count, file.columns[0].value_count, file.columns[0].null_count),
        (60_000, 60_000, 0)
    );
    assert_eq!(file.columns[0].lower, Some(ScalarValue::Int64(Some(1))));
    assert_eq!(file.columns[0].upper, Some(ScalarValue::Int64(Some(60_000))));
    let size = lake.location.store.head(&file.path).await.unwrap().size;
    assert_eq!(file.size_bytes, size);
    let metadata = lake.reader(file).metadata().clone();
    assert!(metadata.num_row_groups() >= 3, "{} row groups", metadata.num_row_groups());
    let begins: Vec<i64> =
        metadata.row_groups().iter().map(|group| group.column(0).byte_range().0.cast_signed()).collect();
    assert_eq!(file.split_offsets, begins);
    let chunks: u64 = file.columns.iter().map(|column| column.size_bytes).sum();
    assert!(chunks > 0 && chunks < size);
    let indexed = metadata.row_groups().iter().flat_map(|group| group.columns());
    assert!(indexed.map(|chunk| chunk.column_index_offset()).all(|offset| offset.is_some()), "no page index");
}

#[tokio::test]
async fn partitions_have_their_own_files_and_no_others_rows() {
    let lake = Lake::new();
    let files =
        lake.write(SERIES, |options| options.partition = by("part", Transform::Identity)).await.unwrap();
    assert_eq!(files.len(), 100);
    assert!(lake.integers(&files, "n").into_iter().eq(1..=60_000), "rows are missing");
    for file in &files {
        let ScalarValue::Int64(Some(part)) = file.partition[0] else { panic!("{file:?}") };
        assert!(file.path.as_ref().starts_with(&format!("t/data/part={part}/")), "{}", file.path);
        assert!(lake.integers(std::slice::from_ref(file), "part").iter().all(|value| *value == part));
        assert_eq!(file.columns[1].lower, Some(ScalarValue::Int64(Some(part))));
    }
}

#[tokio::test]
async fn a_small_budget_is_kept_and_loses_nothing() {
    let lake = Lake::new();
    let files = lake
        .write(&format!("{SERIES} UNION ALL {SERIES}"), |options| {
            options.partition = by("n", Transform::Bucket(200));
            options.memory_bytes = 1 << 20;
        })
        .await
        .unwrap();
    let expected: Vec<i64> = (1..=60_000).flat_map(|n| [n, n]).collect();
    assert!(lake.integers(&files, "n") == expected, "rows are missing");
    let groups: usize = files.iter().map(|file| lake.reader(file).metadata().num_row_groups()).sum();
    assert!(groups > 200, "rows of 8 MB never exceeded a budget of 1 MB: {groups} row groups");
    assert_eq!(lake.session.runtime_env().memory_pool.reserved(), 0);
}

#[tokio::test]
async fn files_end_early_when_parts_are_too_small_to_send() {
    let mut lake = Lake::new();
    lake.location.url = "s3://bucket/".to_owned();
    let files = lake
        .write(SERIES, |options| {
            options.partition = by("n", Transform::Bucket(50));
            options.memory_bytes = 512 << 10;
        })
        .await
        .unwrap();
    assert!(files.len() > 50, "{} files: nothing was ended before the last row", files.len());
    assert!(lake.integers(&files, "n").into_iter().eq(1..=60_000), "rows are missing");
}

#[tokio::test]
async fn files_end_at_their_target_size() {
    let lake = Lake::new();
    let files = lake
        .write(SERIES, |options| {
            options.row_group_rows = 5_000;
            options.file_bytes_target = 10_000;
        })
        .await
        .unwrap();
    assert!(files.len() > 1, "{files:?}");
    assert!(lake.integers(&files, "n").into_iter().eq(1..=60_000), "rows are missing");
}

#[tokio::test]
async fn columns_are_encoded_side_by_side_when_cores_are_idle() {
    let lake = Lake::new();
    let input = lake.plan(&format!("{SERIES} ORDER BY n DESC")).await;
    let mut options = lake.options(input.schema());
    options.row_group_rows = 10_000;
    let config = SessionConfig::new().with_target_partitions(8);
    let wide = SessionContext::new_with_config_rt(config, lake.session.runtime_env());
    let files = run_write(write_plan(input, options).unwrap(), wide.task_ctx()).await.unwrap();
    let first = &lake.rows(&files[0])[0];
    assert_eq!(first.column(0).as_primitive::<Int64Type>().value(0), 60_000, "the order is lost");
    assert_eq!(lake.integers(&files, "n").len(), 60_000);
}

#[tokio::test]
async fn rows_are_cast_to_the_schema_and_carry_field_ids() {
    let lake = Lake::new();
    let field = Field::new("amount", DataType::Decimal128(9, 2), true)
        .with_metadata([("PARQUET:field_id".to_owned(), "7".to_owned())].into());
    let schema = Arc::new(Schema::new(vec![field]));
    let files = lake.write("SELECT 1.5 AS x", |options| options.schema = Arc::clone(&schema)).await.unwrap();
    assert_eq!(files[0].columns[0].upper, Some(ScalarValue::Decimal128(Some(150), 9, 2)));
    let reader = lake.reader(&files[0]);
    assert_eq!(reader.metadata().file_metadata().schema().get_fields()[0].get_basic_info().id(), 7);
    let error = lake.write("SELECT 12345678.5 AS x", |options| options.schema = schema).await.unwrap_err();
    assert_eq!(error.sqlstate(), "22003", "{error}");
}

#[tokio::test]
async fn a_null_in_a_required_column_leaves_no_file() {
    let lake = Lake::new();
    let sql = "SELECT CASE WHEN value < 50000 THEN value END AS n, value % 7 AS part \
               FROM generate_series(1, 60000)";
    let error = lake
        .write(sql, |options| {
            let fields =
                vec![Field::new("n", DataType::Int64, false), Field::new("part", DataType::Int64, true)];
            options.schema = Arc::new(Schema::new(fields));
            options.partition = by("part", Transform::Identity);
            options.file_bytes_target = 1;
            options.row_group_rows = 1_000;
        })
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "null value in column \"n\" violates not-null constraint");
    lake.becomes_empty().await;
}

#[tokio::test]
async fn a_dropped_write_leaves_no_file() {
    let lake = Lake::new();
    let sql = "SELECT value AS n, value % 7 AS part FROM generate_series(1, 1000000000)";
    let write = lake.write(sql, |options| {
        options.partition = by("part", Transform::Identity);
        options.row_group_rows = 2_000;
        options.file_bytes_target = 10_000;
        options.memory_bytes = 4 << 20;
    });
    tokio::select! {
        files = write => panic!("a billion rows were written: {files:?}"),
        () = async {
            while lake.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    lake.becomes_empty().await;
}

#[tokio::test]
async fn no_rows_make_no_files() {
    let lake = Lake::new();
    assert!(lake.write("SELECT 1 AS n WHERE false", |_| {}).await.unwrap().is_empty());
    assert!(lake.is_empty());
}

#[tokio::test]
async fn memory_that_others_hold_is_an_error() {
    let lake = Lake::new();
    let pool = Arc::clone(&lake.session.runtime_env().memory_pool);
    let others = datafusion::execution::memory_pool::MemoryConsumer::new("others").register(&pool);
    others.grow(MEMORY_BYTES);
    let error = lake.write(SERIES, |_| {}).await.unwrap_err();
    assert_eq!(error.sqlstate(), "53200", "{error}");
}

fn every_kind() -> RecordBatch {
    let long = "ü".repeat(200);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![Some(-5), Some(7), None]).with_precision_and_scale(38, 3).unwrap(),
            ),
        ),
        ("day", Arc::new(Date32Array::from(vec![Some(-1), None, Some(3)]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![3, 1, 2]).with_timezone("UTC"))),
        ("text", Arc::new(StringViewArray::from(vec![Some("b"), Some("a value longer than a view"), None]))),
        ("long", Arc::new(StringViewArray::from(vec![long.as_str(), "a", "b"]))),
        ("number", Arc::new(Float64Array::from(vec![1.0, -2.0, 3.0]))),
        ("nan", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 3.0]))),
        ("nothing", Arc::new(Int64Array::from(vec![None, None, None]))),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
                Some(vec![Some(1)]),
                None,
                Some(vec![]),
            ])),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

#[tokio::test]
async fn bounds_of_every_kind() {
    let lake = Lake::new();
    let batch = every_kind();
    let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
    lake.session.register_table("kinds", Arc::new(table)).unwrap();
    let files = lake.write("SELECT * FROM kinds", |_| {}).await.unwrap();
    let bounds =
        |column: usize| (files[0].columns[column].lower.clone(), files[0].columns[column].upper.clone());
    let decimal = |value| Some(ScalarValue::Decimal128(Some(value), 38, 3));
    assert_eq!(bounds(0), (decimal(-5), decimal(7)));
    assert_eq!(bounds(1), (Some(ScalarValue::Date32(Some(-1))), Some(ScalarValue::Date32(Some(3)))));
    let at = |value| Some(ScalarValue::TimestampMicrosecond(Some(value), Some("UTC".into())));
    assert_eq!(bounds(2), (at(1), at(3)));
    let text = |value: &str| Some(ScalarValue::Utf8View(Some(value.to_owned())));
    assert_eq!(bounds(3), (text("a value longer than a view"), text("b")));
    let (lower, upper) = bounds(4);
    assert_eq!(lower, text("a"));
    let upper = upper.unwrap();
    assert!(upper > text(&"ü".repeat(200)).unwrap() && upper.to_string().len() < 80, "{upper}");
    assert_eq!(bounds(5), (Some(ScalarValue::Float64(Some(-2.0))), Some(ScalarValue::Float64(Some(3.0)))));
    for column in 6..9 {
        assert_eq!(bounds(column), (None, None), "column {column}");
    }
    let nulls: Vec<u64> = files[0].columns.iter().map(|column| column.null_count).collect();
    assert_eq!(nulls, [1, 1, 0, 1, 0, 0, 0, 3, 1]);
    let read = &lake.rows(&files[0])[0];
    assert_eq!(read.column(3).data_type(), &DataType::Utf8, "other readers cannot filter views");
    let cast =
        |(read, written): (&ArrayRef, &ArrayRef)| arrow::compute::cast(read, written.data_type()).unwrap();
    let read: Vec<_> = read.columns().iter().zip(batch.columns()).map(cast).collect();
    assert_eq!(read, batch.columns(), "what was written is not what is read");
    assert_eq!(
        batch.schema().field(2).data_type(),
        &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    );
}

async fn exported(lake: &Lake, sql: &str, url: &str, options: &[(&str, &str)]) -> Result<(u64, Vec<String>)> {
    let url = format!("{}{url}", lake.location.url);
    let options: Vec<(String, String)> =
        options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = ExportOptions::from_sql(lake.location.clone(), &url, &options)?;
    let exported = export(lake.plan(sql).await, options, lake.task()).await?;
    let objects: Vec<_> = lake.location.store.list(None).try_collect().await.unwrap();
    assert_eq!(exported.file_count, objects.len());
    assert_eq!(exported.size_bytes, objects.iter().map(|object| object.size).sum::<u64>());
    let mut paths: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
    paths.sort_unstable();
    Ok((exported.row_count, paths))
}

#[tokio::test]
async fn csv_as_a_single_file() {
    let lake = Lake::new();
    let sql = "SELECT * FROM (VALUES (1, 'a;b'), (2, NULL), (3, 'say \"x\"')) AS t(n, s) ORDER BY n";
    let options = [("FORMAT", "csv"), ("delimiter", ";"), ("NULL", "NA")];
    let (rows, paths) = exported(&lake, sql, "out/x.txt", &options).await.unwrap();
    assert_eq!((rows, paths), (3, vec!["out/x.txt".to_owned()]));
    let text = std::fs::read_to_string(lake.folder.path().join("out/x.txt")).unwrap();
    assert_eq!(text, "n;s\n1;\"a;b\"\n2;NA\n3;\"say \"\"x\"\"\"\n");
    exported(&lake, "SELECT 1 AS n WHERE false", "out/x.txt", &[("format", "csv")]).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(lake.folder.path().join("out/x.txt")).unwrap(),
        "n\n",
        "it is replaced"
    );
}

#[tokio::test]
async fn compressed_runs_join_to_one_file() {
    for (url, read) in [
        ("x.csv.gz", "SELECT count(*), sum(n) FROM read"),
        ("y.json.zst", "SELECT count(*), sum(n) FROM read"),
    ] {
        let lake = Lake::new();
        let (rows, paths) = exported(&lake, SERIES, url, &[]).await.unwrap();
        assert_eq!((rows, paths.as_slice()), (60_000, [url.to_owned()].as_slice()));
        let (format, _) = url.split_once('.').unwrap().1.split_once('.').unwrap();
        let compression = if format == "csv" { "gzip" } else { "zstd" };
        let path = lake.folder.path().join(url).display().to_string();
        let create = format!(
            "CREATE EXTERNAL TABLE read STORED AS {format} LOCATION '{path}' OPTIONS ('format.compression' '{compression}')"
        );
        lake.session.sql(&create).await.unwrap();
        let batches = lake.session.sql(read).await.unwrap().collect().await.unwrap();
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 60_000);
        assert_eq!(batches[0].column(1).as_primitive::<Int64Type>().value(0), 60_000 * 60_001 / 2);
    }
}

#[tokio::test]
async fn hive_folders_leave_their_columns_out() {
    let lake = Lake::new();
    let sql = "SELECT value AS n, CASE WHEN value % 3 > 0 THEN concat('a/', value % 3) END AS key \
               FROM generate_series(1, 9)";
    let (rows, paths) =
        exported(&lake, sql, "out", &[("format", "parquet"), ("partition_by", "(key)")]).await.unwrap();
    assert_eq!(rows, 9);
    let folders: Vec<&str> = paths.iter().map(|path| path.split('/').nth(1).unwrap()).collect();
    assert_eq!(folders, ["key=__HIVE_DEFAULT_PARTITION__", "key=a%2F1", "key=a%2F2"]);
    let file = std::fs::File::open(lake.folder.path().join(&paths[1])).unwrap();
    let batch =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
    assert_eq!(batch.num_columns(), 1);
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 4, 7]);
}

#[tokio::test]
async fn a_failed_export_leaves_nothing() {
    let lake = Lake::new();
    let sql = "SELECT value % 5 AS key, 1 / (59999 - value) AS n FROM generate_series(1, 60000)";
    for (url, options) in [("out", vec![("format", "csv"), ("partition_by", "key")]), ("out.parquet", vec![])]
    {
        let error = exported(&lake, sql, url, &options).await.unwrap_err();
        assert_eq!(error.sqlstate(), "22012", "{error}");
        lake.becomes_empty().await;
    }
}

#[tokio::test]
async fn unknown_options_are_refused() {
    let lake = Lake::new();
    for (url, options) in [
        ("out", vec![]),
        ("out", vec![("format", "xlsx")]),
        ("x.csv", vec![("delimiter", "ab")]),
        ("x.parquet", vec![("header", "true")]),
        ("x.parquet", vec![("compression", "brotli(3)")]),
        ("x.json", vec![("format", "json"), ("FORMAT", "csv")]),
        ("out", vec![("format", "csv"), ("partition_by", "a, n")]),
    ] {
        let error = exported(&lake, "SELECT 1 AS n", url, &options).await.unwrap_err();
        assert!(["22023", "42703"].contains(&error.sqlstate()), "{url} {options:?}: {error}");
    }
}
