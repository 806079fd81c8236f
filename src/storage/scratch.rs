//! Scratch: a folder for what need not outlive its owner, as a [`Location`] of its own.
//!
//! What lies there is counted against a quota that all such folders and the spill files share, is
//! written without flushes, and is gone with the folder when the owner is dropped.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult, UploadPart,
};
use tokio::runtime::Handle;

use super::Location;
use super::fence::Fence;
use crate::error::{Error, Result};

/// Requests under way at once in one folder.
const REQUESTS_MAX: usize = 64;

/// How many bytes all scratch folders may hold, beside what queries spill.
#[derive(Debug)]
pub struct Quota {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    spill: Arc<DiskManager>,
}

impl Quota {
    /// A quota of `limit_bytes` for scratch folders and the files of `spill` together.
    pub fn new(limit_bytes: u64, spill: Arc<DiskManager>) -> Self {
        Self { limit_bytes, used_bytes: AtomicU64::new(0), spill }
    }

    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> StoreResult<()> {
        let before = self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes + self.spill.used_disk_space() <= self.limit_bytes {
            return Ok(());
        }
        self.give_back(bytes);
        let reason =
            format!("temporary tables and spilled data reach the limit of {} bytes", self.limit_bytes);
        let source = Box::new(Error::DiskFull(reason));
        Err(object_store::Error::Generic { store: "scratch", source })
    }

    fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    pub location: Location,
    folder: PathBuf,
    books: Arc<Books>,
    env: Arc<RuntimeEnv>,
    io: Handle,
}

impl Scratch {
    /// Makes a folder of its own below `parent`, and registers its store with `env`.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Storage`] when the folder cannot be made.
    pub fn make(
        parent: &std::path::Path,
        quota: Arc<Quota>,
        env: Arc<RuntimeEnv>,
        io: Handle,
    ) -> Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("scratch{}", MADE.fetch_add(1, Ordering::Relaxed) + 1);
        let folder = parent.join(&name);
        std::fs::create_dir_all(&folder)?;
        let folder = std::fs::canonicalize(folder)?;
        let files = LocalFileSystem::new_with_prefix(&folder)?.with_automatic_cleanup(true);
        let books = Arc::new(Books { quota, sizes: Mutex::default() });
        let counted = Arc::new(Counted { files, books: Arc::clone(&books) });
        let url = format!("file://{}/", folder.display());
        let fence =
            Fence::new(&name, &url, Path::ROOT, Arc::clone(&counted) as _, counted as _, REQUESTS_MAX);
        let store: Arc<dyn ObjectStore> = Arc::new(fence);
        let store_url = ObjectStoreUrl::parse(format!("lacus://{name}"))?;
        env.register_object_store(store_url.as_ref(), Arc::clone(&store));
        let location = Location { url, store, store_url, prefix: Path::from(name) };
        Ok(Self { location, folder, books, env, io })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may be unknown already when the runtime comes down.
        self.env.deregister_object_store(self.location.store_url.as_ref()).ok();
        let held: u64 = self.books.lock().drain().map(|(_, bytes)| bytes).sum();
        self.books.quota.give_back(held);
        let folder = self.folder.clone();
        self.io.spawn_blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "temporary files stay behind");
            }
        });
    }
}

/// What one folder holds.
#[derive(Debug)]
struct Books {
    quota: Arc<Quota>,
    sizes: Mutex<HashMap<Path, u64>>,
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, HashMap<Path, u64>> {
        // A panic under this lock leaves whole entries behind.
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the object at `path` has `bytes`, which were taken from the quota.
    fn keep(&self, path: &Path, bytes: u64) {
        if let Some(before) = self.lock().insert(path.clone(), bytes) {
            self.quota.give_back(before);
        }
    }

    fn forget(&self, path: &Path) {
        if let Some(bytes) = self.lock().remove(path) {
            self.quota.give_back(bytes);
        }
    }
}

/// A folder as a store that counts what it holds.
#[derive(Debug)]
struct Counted {
    files: LocalFileSystem,
    books: Arc<Books>,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let bytes = payload.content_length() as u64;
        self.books.quota.take(bytes)?;
        let put = self.files.put_opts(location, payload, options).await;
        match &put {
            Ok(_) => self.books.keep(location, bytes),
            Err(_) => self.books.quota.give_back(bytes),
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let upload = self.files.put_multipart_opts(location, options).await?;
        let (path, books) = (location.clone(), Arc::clone(&self.books));
        Ok(Box::new(CountedUpload { upload, path, books, bytes: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let books = Arc::clone(&self.books);
        let deleted = self.files.delete_stream(locations);
        deleted
            .inspect(move |deleted| {
                if let Ok(path) = deleted {
                    books.forget(path);
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> StoreResult<()> {
        let (operation, implementer) = ("copy".to_owned(), "scratch".to_owned());
        Err(object_store::Error::NotImplemented { operation, implementer })
    }
}

/// An upload whose bytes are counted as they come.
#[derive(Debug)]
struct CountedUpload {
    upload: Box<dyn MultipartUpload>,
    path: Path,
    books: Arc<Books>,
    /// Taken from the quota, and not the object's yet.
    bytes: u64,
}

#[async_trait]
impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let bytes = data.content_length() as u64;
        if let Err(full) = self.books.quota.take(bytes) {
            return Box::pin(std::future::ready(Err(full)));
        }
        self.bytes += bytes;
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let done = self.upload.complete().await?;
        self.books.keep(&self.path, std::mem::take(&mut self.bytes));
        Ok(done)
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.upload.abort().await
    }
}

impl Drop for CountedUpload {
    fn drop(&mut self) {
        self.books.quota.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::disk_manager::DiskManagerBuilder;
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn a_folder_keeps_within_its_quota_and_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let spill = Arc::new(DiskManagerBuilder::default().build().unwrap());
        let quota = Arc::new(Quota::new(100, spill));
        let env = Arc::new(RuntimeEnv::default());
        let make = || Scratch::make(parent.path(), Arc::clone(&quota), Arc::clone(&env), Handle::current());
        let (one, other) = (make().unwrap(), make().unwrap());
        let store = &one.location.store;
        store.put(&one.location.child("a/x"), vec![0; 60].into()).await.unwrap();
        let path = other.location.child("y");
        let full = other.location.store.put(&path, vec![0; 60].into()).await.unwrap_err();
        assert_eq!(Error::from(full).sqlstate(), "53100");
        let mut upload = other.location.store.put_multipart(&path).await.unwrap();
        upload.put_part(vec![0; 30].into()).await.unwrap();
        assert!(upload.put_part(vec![0; 30].into()).await.is_err());
        assert_eq!(quota.used_bytes(), 90);
        drop(upload);
        assert_eq!(quota.used_bytes(), 60);
        store.put(&one.location.child("a/x"), vec![0; 20].into()).await.unwrap();
        store.put(&one.location.child("b"), vec![0; 10].into()).await.unwrap();
        store.delete(&one.location.child("b")).await.unwrap();
        assert_eq!(quota.used_bytes(), 20);
        let registered = env.object_store(&one.location.store_url).unwrap();
        assert_eq!(registered.get(&one.location.child("a/x")).await.unwrap().meta.size, 20);
        let (folder, url) = (one.folder.clone(), one.location.store_url.clone());
        drop(one);
        assert_eq!(quota.used_bytes(), 0);
        assert!(env.object_store(&url).is_err());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while folder.exists() && std::time::Instant::now() < deadline {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(!folder.exists());
    }
}
