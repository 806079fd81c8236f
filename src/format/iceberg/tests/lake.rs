//! A lake for tests: a store, and Parquet files with true metrics in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use crate::format::iceberg::{Change, Definition, TableMetadata, arrow_schema, stage};
use crate::format::partition::PartitionField;
use crate::format::{ColumnMetrics, WrittenFile};
use crate::storage::Location;

/// A location and a table's folder in it.
pub struct Lake {
    pub location: Location,
    pub dir: Path,
}

impl Lake {
    pub fn in_memory() -> Self {
        // The URL takes part in what is cached, so every test has its own.
        let url = format!("memory://{}/", Uuid::new_v4());
        Self::new(url, Arc::new(InMemory::new()), Path::default())
    }

    pub fn on_disk(root: &std::path::Path) -> Self {
        let store = object_store::local::LocalFileSystem::new();
        let prefix = Path::from_absolute_path(root).unwrap();
        Self::new(format!("file://{}/", root.display()), Arc::new(store), prefix)
    }

    fn new(url: String, store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        let store_url = ObjectStoreUrl::parse("test://lake").unwrap();
        let location = Location { url, store, store_url, prefix };
        let dir = location.child("_lacus/tables/mart.t-1a2b3c4d");
        Self { location, dir }
    }

    pub async fn stage(&self, base: Option<&TableMetadata>, changes: Vec<Change>) -> Arc<TableMetadata> {
        let staged = stage(&self.location, &self.dir, base, changes).await.unwrap();
        assert_eq!(staged.metadata_url, staged.metadata.url);
        staged.metadata
    }

    /// Stores `batch` as one file of the table that `metadata` describes.
    pub async fn write(
        &self,
        metadata: &TableMetadata,
        partition: Vec<ScalarValue>,
        batch: &RecordBatch,
    ) -> WrittenFile {
        let schema = arrow_schema(metadata);
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| arrow::compute::cast(column, field.data_type()).unwrap())
            .collect();
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(zstd).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let footer = writer.close().unwrap();
        let name = format!("{}.parquet", Uuid::new_v4());
        let path = self.dir.clone().join("data").join(name);
        let size_bytes = bytes.len() as u64;
        self.location.store.put(&path, bytes.into()).await.unwrap();
        WrittenFile {
            path,
            size_bytes,
            row_count: batch.num_rows() as u64,
            partition,
            columns: batch.columns().iter().zip(0..).map(|(it, at)| metrics(it, at, &footer)).collect(),
            split_offsets: footer
                .row_groups()
                .iter()
                .map(|group| group.column(0).byte_range().0 as i64)
                .collect(),
        }
    }

    /// All names in the table's metadata folder that end so.
    pub async fn names(&self, suffix: &str) -> Vec<String> {
        use futures::TryStreamExt;
        let folder = self.dir.clone().join("metadata");
        let objects: Vec<_> = self.location.store.list(Some(&folder)).try_collect().await.unwrap();
        let names = objects.iter().map(|object| object.location.filename().unwrap().to_owned());
        names.filter(|name| name.ends_with(suffix)).collect()
    }
}

fn metrics(column: &dyn Array, at: usize, footer: &ParquetMetaData) -> ColumnMetrics {
    let values = (0..column.len()).map(|row| ScalarValue::try_from_array(column, row).unwrap());
    let values: Vec<_> = values.filter(|value| !value.is_null()).collect();
    let comparable =
        !matches!(column.data_type(), DataType::Struct(_) | DataType::List(_) | DataType::Map(..));
    let order = |a: &&ScalarValue, b: &&ScalarValue| a.partial_cmp(b).unwrap();
    ColumnMetrics {
        size_bytes: match footer.row_group(0).num_columns() > at && comparable {
            true => footer.row_group(0).column(at).compressed_size() as u64,
            false => 0,
        },
        value_count: column.len() as u64,
        null_count: column.null_count() as u64,
        lower: comparable.then(|| values.iter().min_by(order).cloned()).flatten(),
        upper: comparable.then(|| values.iter().max_by(order).cloned()).flatten(),
    }
}

pub fn create(schema: &Schema, partition: Vec<PartitionField>) -> Change {
    Change::Create(Definition {
        schema: Arc::new(schema.clone()),
        partition,
        properties: BTreeMap::new(),
        comment: Some("a table of tests".to_owned()),
    })
}
