//! Footers: what a Parquet file says about itself, read once and kept.
//!
//! DataFusion's runtime keeps footers within a byte limit, but under the path alone. Two stores may
//! hold different files under one path, so the cache is used through a view that adds the store to
//! the path; the scan opens its files through the same view.

use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::Session;
use datafusion::common::{HashMap, Result as DataFusionResult, TableReference};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::execution::cache::{Cache, CacheEntryInfo};
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use crate::error::{Error, Result};
use crate::storage::Location;

/// Bytes that are read from the end of a file at once; a longer footer costs a second request.
pub const FOOTER_BYTES: usize = 64 * 1024;

/// Reads footers of one location's files, through the runtime's cache.
#[derive(Debug)]
pub struct Footers<'a> {
    location: &'a Location,
    cache: Arc<FileMetadataCache>,
}

impl<'a> Footers<'a> {
    pub fn new(state: &dyn Session, location: &'a Location) -> Self {
        Self { location, cache: footer_cache(state, location) }
    }

    /// Returns the footer of `object`, without its page index.
    ///
    /// Costs nothing where the footer is known, else one ranged GET of [`FOOTER_BYTES`], two where
    /// the footer is longer.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] when the file is cut off, or no Parquet file.
    pub async fn footer(&self, object: &ObjectMeta) -> Result<Arc<ParquetMetaData>> {
        self.forget_replaced(object);
        DFParquetMetadata::new(&self.location.store, object)
            .with_metadata_size_hint(Some(FOOTER_BYTES))
            .with_file_metadata_cache(Some(Arc::clone(&self.cache)))
            .with_page_index_policy(Some(PageIndexPolicy::Skip))
            .fetch_metadata()
            .await
            .map_err(|error| in_file(self.location, object, error))
    }

    /// A file that was replaced within a second by one of the same size differs in its tag alone,
    /// which the cache does not compare.
    fn forget_replaced(&self, object: &ObjectMeta) {
        let known = self.cache.get(&object.location);
        if known.is_some_and(|known| known.meta.e_tag != object.e_tag) {
            self.cache.remove(&object.location);
        }
    }
}

/// The error of reading `object`, with its URL where the file is at fault.
pub fn in_file(location: &Location, object: &ObjectMeta, error: impl Into<Error>) -> Error {
    match error.into() {
        Error::CorruptFile { reason, .. } => {
            Error::CorruptFile { path: location.url_of(&object.location), reason }
        }
        other => other,
    }
}

/// The runtime's cache of footers, as far as it is about this location's store.
pub fn footer_cache(state: &dyn Session, location: &Location) -> Arc<FileMetadataCache> {
    Arc::new(StoreFooters {
        inner: state.runtime_env().cache_manager.get_file_metadata_cache(),
        scope: location.store_url.as_str().to_owned(),
    })
}

/// A view of the runtime's cache that tells stores apart.
struct StoreFooters {
    inner: Arc<FileMetadataCache>,
    scope: String,
}

impl StoreFooters {
    fn scoped(&self, path: &Path) -> Path {
        Path::from(format!("{}/{path}", self.scope))
    }
}

impl Cache<Path, CachedFileMetadataEntry> for StoreFooters {
    fn get(&self, path: &Path) -> Option<CachedFileMetadataEntry> {
        self.inner.get(&self.scoped(path))
    }

    fn put(&self, path: &Path, entry: CachedFileMetadataEntry) -> Option<CachedFileMetadataEntry> {
        self.inner.put(&self.scoped(path), entry)
    }

    fn remove(&self, path: &Path) -> Option<CachedFileMetadataEntry> {
        self.inner.remove(&self.scoped(path))
    }

    fn contains_key(&self, path: &Path) -> bool {
        self.inner.contains_key(&self.scoped(path))
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn clear(&self) {
        self.inner.clear();
    }

    fn name(&self) -> String {
        self.inner.name()
    }

    fn cache_limit(&self) -> usize {
        self.inner.cache_limit()
    }

    fn update_cache_limit(&self, limit: usize) {
        self.inner.update_cache_limit(limit);
    }

    fn cache_ttl(&self) -> Option<Duration> {
        self.inner.cache_ttl()
    }

    fn update_cache_ttl(&self, ttl: Option<Duration>) {
        self.inner.update_cache_ttl(ttl);
    }

    fn drop_table_entries(&self, table: &TableReference) -> DataFusionResult<()> {
        self.inner.drop_table_entries(table)
    }

    fn list_entries(&self) -> HashMap<Path, CacheEntryInfo<CachedFileMetadataEntry>> {
        self.inner.list_entries()
    }
}
