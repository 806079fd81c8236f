//! Other engines: what we write is read back by PyIceberg and DuckDB from the table's path alone.
//!
//! Runs where `LACUS_TEST_PYTHON` names a Python with the packages that `read_iceberg.py` wants.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int32Array, Int64Array, ListArray, MapBuilder, RecordBatch, StringArray, StringBuilder,
    StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use datafusion::common::ScalarValue;
use serde_json::{Value, json};

use super::lake::{Lake, create};
use crate::format::iceberg::{COMMENT_KEY, Change, Removal, publish_hint};
use crate::format::partition::{PartitionField, Transform};

/// The engines that must read a table, by what is installed beside this Python.
fn read_back(table: &Path) -> Option<Value> {
    let python = std::env::var_os("LACUS_TEST_PYTHON")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/read_iceberg.py");
    let output = Command::new(python).arg(script).arg(table).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(seen["pyiceberg"]["error"].is_null(), "{}", seen["pyiceberg"]["error"]);
    Some(seen)
}

fn folder(lake: &Lake) -> std::path::PathBuf {
    std::path::PathBuf::from(lake.location.url_of(&lake.dir).strip_prefix("file://").unwrap())
}

/// DuckDB's answer, unless its Iceberg extension cannot be loaded here.
fn duckdb(seen: &Value) -> Option<&Value> {
    let answer = &seen["duckdb"];
    match answer["error"].as_str() {
        None => Some(answer),
        Some(error) => {
            let unavailable = ["Failed to download extension", "No module named"];
            assert!(unavailable.iter().any(|reason| error.contains(reason)), "{error}");
            None
        }
    }
}

/// One column of every type, the last row null.
fn every_type() -> RecordBatch {
    let utc = |values| TimestampMicrosecondArray::from(values).with_timezone("UTC");
    let micros = vec![Some(1_700_000_000_123_456), Some(-1), None];
    let list =
        ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![]), None]);
    let point = StructArray::from(vec![
        (
            Arc::new(Field::new("x", DataType::Float64, true)),
            Arc::new(Float64Array::from(vec![0.5; 3])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("name", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["p"; 3])) as ArrayRef,
        ),
    ]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_value("v");
    [true, true, false].into_iter().for_each(|present| map.append(present).unwrap());
    let uuid = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
        [Some([0x11u8; 16]), Some([0xee; 16]), None].into_iter(),
        16,
    );
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("small", Arc::new(Int32Array::from(vec![Some(-7), Some(8), None]))),
        ("large", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("unsigned", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None]))),
        ("real", Arc::new(Float32Array::from(vec![Some(1.5), Some(f32::NAN), None]))),
        ("double", Arc::new(Float64Array::from(vec![Some(-0.25), Some(1e300), None]))),
        ("price", Arc::new(decimal(vec![Some(-12_345), Some(999), None], 9, 2))),
        ("huge", Arc::new(decimal(vec![Some(10i128.pow(37)), Some(-1), None], 38, 4))),
        ("day", Arc::new(Date32Array::from(vec![Some(19_000), Some(-1), None]))),
        ("clock", Arc::new(Time64MicrosecondArray::from(vec![Some(1), Some(86_399_999_999), None]))),
        ("local", Arc::new(TimestampMicrosecondArray::from(micros.clone()))),
        ("moment", Arc::new(utc(micros))),
        ("text", Arc::new(StringArray::from(vec![Some("ä long, long, long text"), Some(""), None]))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(b"\x00\xff".as_slice()), Some(b""), None]))),
        ("id", Arc::new(uuid.unwrap())),
        ("numbers", Arc::new(list)),
        ("point", Arc::new(point)),
        ("tags", Arc::new(map.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, it)| (name, it, true))).unwrap()
}

fn decimal(values: Vec<Option<i128>>, precision: u8, scale: i8) -> Decimal128Array {
    Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()
}

#[tokio::test]
async fn every_type_is_read_back_by_other_engines() {
    let folder_of_test = tempfile::tempdir().unwrap();
    let lake = Lake::on_disk(folder_of_test.path());
    let rows = every_type();
    let shell = lake.stage(None, vec![create(&rows.schema(), vec![])]).await;
    let file = lake.write(&shell, vec![], &rows).await;
    let table = lake.stage(Some(&shell), vec![Change::Append(vec![file])]).await;
    publish_hint(&lake.location, &lake.dir, &table).await.unwrap();

    let Some(seen) = read_back(&folder(&lake)) else { return };
    let mut readers = vec![&seen["pyiceberg"]];
    readers.extend(duckdb(&seen));
    for reader in readers {
        assert_eq!(reader["rows"], 3, "{reader}");
        let column = |name: &str| &reader["columns"][name];
        assert_eq!(column("small")["sum"], 1);
        assert_eq!(column("unsigned")["sum"].as_str().unwrap(), "18446744073709551615");
        assert_eq!(column("price")["sum"], "-113.46");
        assert_eq!(column("day")["max"], "2022-01-08");
        assert_eq!(column("clock")["max"], "23:59:59.999999");
        assert_eq!(column("local")["max"], "2023-11-14 22:13:20.123456");
        assert_eq!(column("text")["max"], "ä long, long, long text");
        assert_eq!(column("bytes")["max"], "00ff");
        assert_eq!(column("id")["min"], "11111111-1111-1111-1111-111111111111");
        assert_eq!(column("numbers")["first"], json!([1, null]));
        assert_eq!(column("point")["first"], json!({"x": 0.5, "name": "p"}));
        for (name, column) in reader["columns"].as_object().unwrap() {
            assert_eq!(column["nulls"], i32::from(name != "point"), "{name}");
        }
    }
    let pyiceberg = &seen["pyiceberg"];
    assert_eq!(pyiceberg["comment"], "a table of tests");
    let bounds = &pyiceberg["bounds"][0];
    assert_eq!(bounds["large"]["lower_bound"], i64::MIN);
    assert_eq!(bounds["huge"]["upper_bound"], "1000000000000000000000000000000000.0000");
    assert_eq!(bounds["text"]["upper_bound"], "ä long, long, lp");
    assert_eq!(bounds["price"]["null_value_count"], 1);
}

/// One partition field of every transform, on a column whose values make its result plain.
fn partition_fields() -> Vec<(PartitionField, ScalarValue)> {
    use Transform::{Bucket, Day, Hour, Identity, Month, Truncate, Void, Year};
    let utf8 = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let decimal = ScalarValue::Decimal128(Some(-12_345), 9, 2);
    let uuid = ScalarValue::FixedSizeBinary(16, Some(vec![0x11; 16]));
    let local = ScalarValue::TimestampMicrosecond(Some(1_700_000_000_123_456), None);
    let fields = [
        ("small", "small", Identity, ScalarValue::Int32(Some(-7))),
        ("price", "price", Identity, decimal),
        ("id", "id", Identity, uuid),
        ("flag", "flag", Identity, ScalarValue::Boolean(Some(true))),
        ("local", "local", Identity, local),
        ("text", "text start", Truncate(6), utf8("ä long")),
        ("large", "large_bucket", Bucket(16), ScalarValue::Int32(Some(4))),
        ("day", "day_year", Year, ScalarValue::Int32(Some(52))),
        ("day", "day_month", Month, ScalarValue::Int32(Some(624))),
        ("moment", "moment_day", Day, ScalarValue::Int32(Some(19_675))),
        ("moment", "moment_hour", Hour, ScalarValue::Int32(Some(472_222))),
        ("double", "double_void", Void, ScalarValue::Float64(None)),
    ];
    let field = |(source, name, transform, value): (&str, &str, Transform, ScalarValue)| {
        (PartitionField { source: source.to_owned(), name: name.to_owned(), transform }, value)
    };
    fields.into_iter().map(field).collect()
}

#[tokio::test]
async fn every_partition_type_is_read_back_by_other_engines() {
    let folder_of_test = tempfile::tempdir().unwrap();
    let lake = Lake::on_disk(folder_of_test.path());
    let rows = every_type();
    let (fields, values): (Vec<_>, Vec<_>) = partition_fields().into_iter().unzip();
    let shell = lake.stage(None, vec![create(&rows.schema(), fields)]).await;
    let file = lake.write(&shell, values.clone(), &rows.slice(0, 1)).await;
    let nulls = values.iter().map(|value| ScalarValue::try_from(value.data_type()).unwrap()).collect();
    let without = lake.write(&shell, nulls, &rows.slice(2, 1)).await;
    let first = lake.stage(Some(&shell), vec![Change::Append(vec![file.clone(), without])]).await;
    // Rewriting a manifest reads every partition value and writes it again.
    let remove = Removal::Files(vec![file.path.clone()]);
    let again = lake.write(&shell, values, &rows.slice(0, 1)).await;
    let table = lake.stage(Some(&first), vec![Change::Overwrite { add: vec![again], remove }]).await;
    publish_hint(&lake.location, &lake.dir, &table).await.unwrap();

    let Some(seen) = read_back(&folder(&lake)) else { return };
    assert_eq!((&seen["pyiceberg"]["rows"], &seen["pyiceberg"]["files"]), (&json!(2), &json!(2)));
    if let Some(duckdb) = duckdb(&seen) {
        assert_eq!((&duckdb["rows"], &duckdb["files"]), (&json!(2), &json!(2)));
    }
    let partitions = seen["pyiceberg"]["partitions"].as_array().unwrap();
    let tuple = partitions.iter().find(|tuple| !tuple["small"].is_null()).unwrap();
    let wanted = [
        ("small", json!(-7)),
        ("price", json!("-123.45")),
        ("id", json!("11111111-1111-1111-1111-111111111111")),
        ("flag", json!(true)),
        ("local", json!("2023-11-14 22:13:20.123456")),
        ("text start", json!("ä long")),
        ("large_bucket", json!(4)),
        ("day_year", json!(52)),
        ("moment_day", json!("2023-11-14")),
        ("moment_hour", json!(472_222)),
        ("double_void", json!(null)),
    ];
    for (name, value) in wanted {
        assert_eq!(tuple[name], value, "{name} in {tuple}");
    }
}

#[tokio::test]
async fn a_history_of_commits_is_read_back_by_other_engines() {
    let folder_of_test = tempfile::tempdir().unwrap();
    let lake = Lake::on_disk(folder_of_test.path());
    let comment = HashMap::from([(COMMENT_KEY.to_owned(), "a number".to_owned())]);
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false).with_metadata(comment)]);
    let rows = |numbers: Vec<i64>| {
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    };
    let empty = lake.stage(None, vec![create(&schema, vec![])]).await;
    publish_hint(&lake.location, &lake.dir, &empty).await.unwrap();
    let Some(seen) = read_back(&folder(&lake)) else { return };
    assert_eq!(seen["pyiceberg"]["rows"], 0);

    let one = lake.write(&empty, vec![], &rows(vec![1, 2])).await;
    let two = lake.write(&empty, vec![], &rows(vec![10])).await;
    let three = lake.write(&empty, vec![], &rows(vec![100])).await;
    let mut table = lake.stage(Some(&empty), vec![Change::Append(vec![one.clone(), two])]).await;
    let remove = Removal::Files(vec![one.path]);
    table = lake.stage(Some(&table), vec![Change::Overwrite { add: vec![three], remove }]).await;
    publish_hint(&lake.location, &lake.dir, &table).await.unwrap();

    let seen = read_back(&folder(&lake)).unwrap();
    let pyiceberg = &seen["pyiceberg"];
    assert_eq!((&pyiceberg["rows"], &pyiceberg["columns"]["n"]["sum"]), (&json!(2), &json!(110)));
    assert_eq!(
        pyiceberg["schema"][0],
        json!({"id": 1, "name": "n", "type": "long", "required": true, "doc": "a number"})
    );
    assert_eq!(pyiceberg["snapshots"][1]["operation"], "overwrite");
    assert_eq!(pyiceberg["entries"], json!([0, 1, 2]));
    if let Some(duckdb) = duckdb(&seen) {
        assert_eq!((&duckdb["rows"], &duckdb["columns"]["n"]["sum"]), (&json!(2), &json!(110)));
        assert_eq!(duckdb["files"], 2);
    }
}
