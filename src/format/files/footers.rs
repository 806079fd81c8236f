//! Footers: what a Parquet file says about itself, read once and kept.
//!
//! DataFusion's runtime keeps footers within a byte limit, but under the path alone. Two stores may
//! hold different files under one path, so the cache is used through a view that adds the store to
//! the path; the scan opens its files through the same view.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::common::{HashMap, Result as DataFusionResult, TableReference};
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::execution::cache::{Cache, CacheEntryInfo};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{FooterTail, ParquetMetaData, ParquetMetaDataReader};

use crate::error::{Error, Result};
use crate::storage::Location;

/// Bytes that are read from the end of a file at once; a longer footer costs a second request.
pub const FOOTER_BYTES: u64 = 64 * 1024;

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
        if let Some(known) = self.known(object) {
            return Ok(known);
        }
        let footer = self.read(object).await.map_err(|error| in_file(self.location, object, error))?;
        let footer = Arc::new(footer);
        let entry = Arc::new(CachedParquetMetaData::new(Arc::clone(&footer)));
        self.cache.put(&object.location, CachedFileMetadataEntry::new(object.clone(), entry));
        Ok(footer)
    }

    fn known(&self, object: &ObjectMeta) -> Option<Arc<ParquetMetaData>> {
        self.forget_replaced(object);
        let known = self.cache.get(&object.location).filter(|known| known.is_valid_for(object))?;
        let parquet = known.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?;
        Some(Arc::clone(parquet.parquet_metadata()))
    }

    /// Checks the length that the tail claims, which parquet's own reader subtracts unchecked.
    async fn read(&self, object: &ObjectMeta) -> Result<ParquetMetaData> {
        let tail_bytes = FOOTER_BYTES.min(object.size);
        let tail = self.range(object, object.size - tail_bytes..object.size).await?;
        let last = tail.last_chunk().ok_or_else(|| corrupt("it is shorter than 8 bytes"))?;
        let claimed = FooterTail::try_new(last)?;
        let length = claimed.metadata_length() as u64;
        if claimed.is_encrypted_footer() {
            return Err(Error::Unsupported("encrypted Parquet files".to_owned()));
        }
        let end = object.size - FOOTER_SIZE as u64;
        let begin =
            end.checked_sub(length).ok_or_else(|| corrupt("its footer claims to be longer than the file"))?;
        let footer = match begin.checked_sub(object.size - tail_bytes) {
            Some(skip) => {
                tail.slice(usize::try_from(skip).expect("within the tail")..tail.len() - FOOTER_SIZE)
            }
            None => self.range(object, begin..end).await?,
        };
        Ok(ParquetMetaDataReader::decode_metadata(&footer)?)
    }

    async fn range(&self, object: &ObjectMeta, range: std::ops::Range<u64>) -> Result<Bytes> {
        Ok(self.location.store.get_range(&object.location, range).await?)
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

fn corrupt(reason: &str) -> Error {
    Error::CorruptFile { path: "unknown".to_owned(), reason: reason.to_owned() }
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
