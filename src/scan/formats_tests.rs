//! One table in every format, read from a local disk.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::common::ScalarValue;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::error::Error;
use crate::format::files::extension::Compression;
use crate::format::files::listing::ListingLimits;
use crate::format::files::options::ReadOptions;
use crate::format::files::testing::{location, parquet};
use crate::format::files::{FilePattern, FileSet, OpenFiles};
use crate::scan::FilesTable;
use crate::storage::Location;

struct Disk {
    _folder: tempfile::TempDir,
    root: Location,
    context: SessionContext,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let root = location("disk://lake/", "", Arc::new(store));
        let root = Location { url: "disk://lake/".to_owned(), ..root };
        let mut config = SessionConfig::new().with_target_partitions(3);
        config.options_mut().optimizer.repartition_file_min_size = 64;
        let context = SessionContext::new_with_config(config);
        context.runtime_env().register_object_store(root.store_url.as_ref(), Arc::clone(&root.store));
        Self { _folder: folder, root, context }
    }

    async fn put(&self, path: &str, bytes: impl Into<PutPayload>) {
        self.root.store.put(&Path::parse(path).unwrap(), bytes.into()).await.unwrap();
    }

    async fn table(&self, set: &FileSet) -> Result<(), Error> {
        let files = OpenFiles::new(ListingLimits::default());
        let snapshot = files.snapshot(&self.context.state(), &self.root, set).await?;
        self.context.deregister_table("t").unwrap();
        self.context.register_table("t", Arc::new(FilesTable::new(Arc::new(snapshot)))).unwrap();
        Ok(())
    }

    fn set(&self, path: &str) -> FileSet {
        FileSet::new(FilePattern::parse(&self.root, path).unwrap())
    }

    async fn value(&self, sql: &str) -> Result<String, Error> {
        let batches = self.context.sql(sql).await?.collect().await?;
        let batch = batches.iter().find(|batch| batch.num_rows() > 0).expect("there is a row");
        Ok(ScalarValue::try_from_array(batch.column(0), 0)?.to_string())
    }
}

fn columns() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec![Some("a"), None, Some("c,\n\"d\"")]))),
        ("price", Arc::new(Float64Array::from(vec![Some(0.5), Some(1.5), None]))),
        ("open", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ]
}

fn batch() -> RecordBatch {
    let columns = columns().into_iter().map(|(name, values)| (name, values, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

const CSV: &str = "id,name,price,open\n1,a,0.5,true\n2,,1.5,false\n3,\"c,\n\"\"d\"\"\",,true\n";
const JSON: &str = r#"{"id": 1, "name": "a", "price": 0.5, "open": true}
{"id": 2, "price": 1.5, "open": false}
{"id": 3, "name": "c,\n\"d\"", "open": true}
"#;

fn avro() -> Vec<u8> {
    let batch = batch();
    let schema = batch.schema().as_ref().clone();
    let mut writer = arrow_avro::writer::AvroWriter::new(Vec::new(), schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner()
}

fn arrow_file() -> Vec<u8> {
    let batch = batch();
    let mut bytes = Vec::new();
    let mut writer = arrow::ipc::writer::FileWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

async fn compressed(text: &'static str, compression: Compression) -> Vec<u8> {
    let kind = FileCompressionType::from(CompressionTypeVariant::from(compression));
    let bytes = futures::stream::iter([Ok(bytes::Bytes::from_static(text.as_bytes()))]).boxed();
    kind.convert_to_compress_stream(bytes).unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
}

#[tokio::test]
async fn every_format_holds_the_same_table() {
    let disk = Disk::new();
    disk.put("t/parquet/a.parquet", parquet(columns())).await;
    disk.put("t/avro/a.avro", avro()).await;
    disk.put("t/arrow/a.arrow", arrow_file()).await;
    disk.put("t/feather/a.feather", arrow_file()).await;
    disk.put("t/tsv/a.tsv", CSV.replace("c,", "c;").replace(',', "\t").replace("c;", "c,")).await;
    let texts = [("csv", CSV), ("jsonl", JSON)];
    let kinds = [
        ("", Compression::None),
        (".gz", Compression::Gzip),
        (".zst", Compression::Zstd),
        (".bz2", Compression::Bzip2),
        (".xz", Compression::Xz),
    ];
    let mut tables =
        vec!["parquet", "avro", "arrow", "feather", "tsv"].into_iter().map(str::to_owned).collect::<Vec<_>>();
    for (extension, text) in texts {
        for (suffix, compression) in kinds {
            let name = format!("{extension}{suffix}");
            disk.put(&format!("t/{name}/a.{name}"), compressed(text, compression).await).await;
            tables.push(name);
        }
    }
    for table in tables {
        disk.table(&disk.set(&format!("t/{table}"))).await.unwrap();
        for (sql, expected) in [
            ("SELECT count(*) FROM t", "3"),
            ("SELECT sum(id) FROM t WHERE open", "4"),
            ("SELECT count(name) FROM t", "2"),
            ("SELECT name FROM t WHERE id = 3", "c,\n\"d\""),
            ("SELECT sum(price) FROM t", "2"),
            ("SELECT arrow_typeof(id) FROM t LIMIT 1", "Int64"),
        ] {
            assert_eq!(disk.value(sql).await.unwrap(), expected, "{table}: {sql}");
        }
    }
}

#[tokio::test]
async fn one_csv_file_is_read_by_several_threads_when_its_rows_are_lines() {
    let disk = Disk::new();
    let mut text = "n,word\n".to_owned();
    for row in 0..1000 {
        text.push_str(&format!("{row},{}\n", "x".repeat(row % 17)));
    }
    disk.put("big.csv", text).await;
    let mut set = disk.set("big.csv");
    for (newlines, partitions) in [(None, "1 group"), (Some(false), "3 groups")] {
        set.options = ReadOptions { newlines_in_values: newlines, ..ReadOptions::default() };
        disk.table(&set).await.unwrap();
        let plan = disk.context.sql("SELECT n FROM t WHERE n >= 0").await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
        assert!(shown.contains(partitions), "{shown}");
        assert_eq!(disk.value("SELECT sum(n) FROM t WHERE n >= 0").await.unwrap(), "499500");
        assert_eq!(disk.value("SELECT count(*) FROM t").await.unwrap(), "1000");
    }
}

#[tokio::test]
async fn a_bad_row_is_named_with_its_file_and_line() {
    let disk = Disk::new();
    let declared = |kind| {
        let field = arrow::datatypes::Field::new("n", kind, true);
        let schema = arrow::datatypes::Schema::new(vec![field]);
        FileSet { columns: Some(Arc::new(schema)), ..disk.set("rows/") }
    };
    disk.put("rows/a.csv", "n\n1\n").await;
    disk.put("rows/b.csv", "n\n2\nthree\n").await;
    disk.table(&declared(arrow::datatypes::DataType::Int32)).await.unwrap();
    let error = disk.value("SELECT sum(n) FROM t").await.unwrap_err();
    assert_eq!(error.sqlstate(), "22P04");
    let message = error.to_string();
    assert!(
        message.contains("rows/b.csv") && message.contains("'three'") && message.contains("line"),
        "{message}"
    );
    disk.put("rows/b.csv", "n\n2,3\n").await;
    let error = disk.value("SELECT sum(n) FROM t").await.unwrap_err();
    assert_eq!(error.sqlstate(), "22P04", "{error}");
}
