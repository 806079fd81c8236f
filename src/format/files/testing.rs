//! Small lakes for tests: a store that counts its requests, and files to put into it.

use std::fmt::{Display, Formatter};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parquet::arrow::ArrowWriter;

use crate::storage::Location;

/// A store in memory that counts what is asked of it.
#[derive(Debug, Default)]
pub struct Counting {
    inner: InMemory,
    pub gets: AtomicUsize,
    pub lists: AtomicUsize,
}

impl Counting {
    /// Reads and listings since the last time.
    pub fn take(&self) -> (usize, usize) {
        (self.gets.swap(0, Ordering::SeqCst), self.lists.swap(0, Ordering::SeqCst))
    }
}

impl Display for Counting {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, path: &Path, bytes: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, bytes, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A lake in memory, and a session that reads it.
pub struct TestLake {
    pub store: Arc<Counting>,
    pub location: Location,
    pub context: SessionContext,
}

impl Default for TestLake {
    fn default() -> Self {
        let store = Arc::new(Counting::default());
        let config = SessionConfig::new().with_target_partitions(2);
        let context = SessionContext::new_with_config(config);
        let location = location("mem://bucket/", "lake", Arc::clone(&store) as Arc<dyn ObjectStore>);
        context.runtime_env().register_object_store(location.store_url.as_ref(), Arc::clone(&location.store));
        Self { store, location, context }
    }
}

impl TestLake {
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `bytes` at `path` below the root.
    pub async fn put(&self, path: &str, bytes: impl Into<PutPayload>) {
        let path = Path::parse(format!("lake/{path}")).unwrap();
        self.store.put(&path, bytes.into()).await.unwrap();
    }

    /// Puts a Parquet file of these columns at `path`.
    pub async fn put_parquet(&self, path: &str, columns: Vec<(&str, ArrayRef)>) {
        self.put(path, parquet(columns)).await;
    }

    pub fn path(&self, path: &str) -> Path {
        Path::parse(format!("lake/{path}")).unwrap()
    }
}

/// A location whose root is `prefix` of `store`.
pub fn location(url: &str, prefix: &str, store: Arc<dyn ObjectStore>) -> Location {
    Location {
        url: format!("{url}{prefix}/"),
        store,
        store_url: ObjectStoreUrl::parse(url).unwrap(),
        prefix: Path::from(prefix),
    }
}

/// The bytes of a Parquet file.
pub fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, values)| (name, values, true)),
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}
