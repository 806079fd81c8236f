//! The fence: a store that serves the paths of one location and refuses every other.
//!
//! Outside it speaks of `NAME/relative`, where NAME is unique in the process; inside of
//! `root/relative`. This module translates, refuses, and limits the requests under way. Symbolic
//! links are the matter of [`disk`](super::disk), which alone knows them.
//!
//! A request costs one pass over its path. The limit covers a request up to the head of its answer;
//! the body of a GET streams outside of it, so that a reader who pauses starves nobody.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::http;
use crate::error::Error;

/// Serves the paths below `name`, which lie below `root` of the store inside.
#[derive(Clone)]
pub(super) struct Fence {
    names: Arc<Names>,
    store: Arc<dyn ObjectStore>,
    creates: Arc<dyn ObjectStore>,
    permits: Arc<Semaphore>,
}

/// What the same root is called on both sides.
struct Names {
    name: String,
    root: Path,
    /// For messages.
    url: String,
}

impl Fence {
    /// Fences `root` of `store` under `name`, with at most `requests_max` requests under way.
    ///
    /// A put with `PutMode::Create` goes to `creates`, the same store without repeats: a create that is
    /// silently sent twice reports its own first attempt as somebody else's.
    pub fn new(
        name: &str,
        url: &str,
        root: Path,
        store: Arc<dyn ObjectStore>,
        creates: Arc<dyn ObjectStore>,
        requests_max: usize,
    ) -> Self {
        let names = Names { name: name.to_owned(), root, url: url.to_owned() };
        Self {
            names: Arc::new(names),
            store,
            creates,
            permits: Arc::new(Semaphore::new(requests_max.max(1))),
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        permit(Arc::clone(&self.permits)).await
    }

    /// Runs a listing once a place is free, and holds the place until it ends.
    fn listing(
        &self,
        prefix: Option<&Path>,
        list: impl FnOnce(&dyn ObjectStore, &Path) -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = match self.names.inner_prefix(prefix) {
            Ok(prefix) => prefix,
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        let (names, store, permits) =
            (Arc::clone(&self.names), Arc::clone(&self.store), Arc::clone(&self.permits));
        let listed = permit(permits).map(move |permit| {
            let refusals = Arc::clone(&names);
            let listed = list(store.as_ref(), &prefix).map_ok(move |meta| {
                let _held = &permit;
                names.outer_meta(meta)
            });
            listed.map_err(move |error| refusals.understand_listing(error))
        });
        listed.flatten_stream().boxed()
    }
}

async fn permit(permits: Arc<Semaphore>) -> OwnedSemaphorePermit {
    permits.acquire_owned().await.expect("the semaphore is never closed")
}

impl Names {
    /// # Errors
    /// `PermissionDenied` for every path that is not below the location, or tries to leave it.
    fn inner(&self, path: &Path) -> Result<Path> {
        let relative = path.as_ref().strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('/'));
        match relative {
            Some(relative) if !relative.split('/').any(is_dots) => self.join(relative),
            _ => Err(self.refuse(path)),
        }
    }

    /// As [`inner`](Self::inner); the location itself, or nothing, stands for the whole root.
    fn inner_prefix(&self, prefix: Option<&Path>) -> Result<Path> {
        match prefix {
            Some(path) if !path.is_root() && path.as_ref() != self.name => self.inner(path),
            _ => Ok(self.root.clone()),
        }
    }

    fn join(&self, relative: &str) -> Result<Path> {
        match self.root.is_root() {
            true => Ok(Path::parse(relative)?),
            false => Ok(Path::parse(format!("{}/{relative}", self.root))?),
        }
    }

    /// The store inside lists nothing but what lies below its root.
    fn outer(&self, path: &Path) -> Path {
        let relative = path.as_ref().strip_prefix(self.root.as_ref()).unwrap_or(path.as_ref());
        let outer = format!("{}/{}", self.name, relative.trim_start_matches('/'));
        Path::parse(outer).expect("a path and a name make a path")
    }

    fn outer_meta(&self, meta: ObjectMeta) -> ObjectMeta {
        ObjectMeta { location: self.outer(&meta.location), ..meta }
    }

    /// Listings report a refusal, or a bucket that does not exist, as a failure of no kind.
    fn understand_listing(&self, error: object_store::Error) -> object_store::Error {
        let object_store::Error::Generic { source, .. } = &error else { return error };
        let path = self.url.clone();
        match (http::status_in(&source.to_string()), error) {
            (Some(401), object_store::Error::Generic { source, .. }) => {
                object_store::Error::Unauthenticated { path, source }
            }
            (Some(403), object_store::Error::Generic { source, .. }) => {
                object_store::Error::PermissionDenied { path, source }
            }
            (Some(404), object_store::Error::Generic { source, .. }) => {
                object_store::Error::NotFound { path, source }
            }
            (_, error) => error,
        }
    }

    fn refuse(&self, path: &Path) -> object_store::Error {
        let denied = Error::PermissionDenied(format!("\"{path}\" lies outside of \"{}\"", self.url));
        object_store::Error::PermissionDenied { path: path.to_string(), source: Box::new(denied) }
    }
}

/// Whether a path segment means "here" or "one up" to somebody, percent-encoded or not.
fn is_dots(segment: &str) -> bool {
    let bare = segment.len() <= 6 && segment.starts_with(['.', '%']);
    bare && matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// Neither credentials nor what is inside: only what the location is called.
impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence").field("name", &self.names.name).field("url", &self.names.url).finish()
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.url)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Fence {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let inner = self.names.inner(location)?;
        let _permit = self.permit().await;
        match options.mode {
            PutMode::Create => self.creates.put_opts(&inner, payload, options).await,
            _ => self.store.put_opts(&inner, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.names.inner(location)?;
        let _permit = self.permit().await;
        let upload = self.store.put_multipart_opts(&inner, options).await?;
        Ok(Box::new(LimitedUpload { upload, permits: Arc::clone(&self.permits) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let inner = self.names.inner(location)?;
        let _permit = self.permit().await;
        let mut result = self.store.get_opts(&inner, options).await?;
        result.meta.location = location.clone();
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let inner = self.names.inner(location)?;
        let _permit = self.permit().await;
        self.store.get_ranges(&inner, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, outer) = (Arc::clone(&self.names), Arc::clone(&self.names));
        // Outside of the limit: `locations` may be a listing, which waits for a place itself.
        let locations = locations.map(move |path| inner.inner(&path?)).boxed();
        self.store.delete_stream(locations).map_ok(move |path| outer.outer(&path)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, |store, prefix| store.list(Some(prefix)))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.names.inner_prefix(Some(offset)) {
            Ok(offset) => {
                self.listing(prefix, move |store, prefix| store.list_with_offset(Some(prefix), &offset))
            }
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let inner = self.names.inner_prefix(prefix)?;
        let _permit = self.permit().await;
        let listed = self.store.list_with_delimiter(Some(&inner)).await;
        let listed = listed.map_err(|error| self.names.understand_listing(error))?;
        Ok(ListResult {
            common_prefixes: listed.common_prefixes.iter().map(|path| self.names.outer(path)).collect(),
            objects: listed.objects.into_iter().map(|meta| self.names.outer_meta(meta)).collect(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (self.names.inner(from)?, self.names.inner(to)?);
        let _permit = self.permit().await;
        self.store.copy_opts(&from, &to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (self.names.inner(from)?, self.names.inner(to)?);
        let _permit = self.permit().await;
        self.store.rename_opts(&from, &to, options).await
    }
}

/// An upload whose parts share the location's limit.
#[derive(Debug)]
struct LimitedUpload {
    upload: Box<dyn MultipartUpload>,
    permits: Arc<Semaphore>,
}

#[async_trait]
impl MultipartUpload for LimitedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.upload.put_part(data);
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            let _permit = permit(permits).await;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let _permit = permit(Arc::clone(&self.permits)).await;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        let _permit = permit(Arc::clone(&self.permits)).await;
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    fn fenced() -> (Arc<InMemory>, Fence) {
        let store = Arc::new(InMemory::new());
        let fence = Fence::new("store1", "s3://b/lake/", Path::from("lake"), store.clone(), store.clone(), 4);
        (store, fence)
    }

    fn is_refused<T>(result: Result<T>) -> bool {
        matches!(result.map_err(Error::from), Err(Error::PermissionDenied(_)))
    }

    #[tokio::test]
    async fn a_location_sees_its_root_under_its_own_name() {
        let (store, fence) = fenced();
        store.put(&Path::from("lake/a/x"), "1".into()).await.unwrap();
        store.put(&Path::from("lakes/y"), "2".into()).await.unwrap();
        fence.put(&Path::from("store1/b"), "3".into()).await.unwrap();

        let mut seen: Vec<String> =
            fence.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        seen.sort();
        assert_eq!(seen, ["store1/a/x", "store1/b"]);
        let level = fence.list_with_delimiter(Some(&Path::from("store1"))).await.unwrap();
        assert_eq!(level.common_prefixes, [Path::from("store1/a")]);
        assert_eq!(fence.head(&Path::from("store1/b")).await.unwrap().location, Path::from("store1/b"));

        fence.delete(&Path::from("store1/a/x")).await.unwrap();
        assert!(store.head(&Path::from("lake/a/x")).await.is_err());
    }

    #[tokio::test]
    async fn every_operation_refuses_what_lies_outside() {
        let (store, fence) = fenced();
        store.put(&Path::from("other/secret"), "1".into()).await.unwrap();
        fence.put(&Path::from("store1/x"), "1".into()).await.unwrap();
        let inside = Path::from("store1/x");
        for outside in
            ["other/secret", "lake/x", "store10/x", "store1/../other/secret", "store1/a/%2e%2E/x", ""]
        {
            // `parse` takes percent-encoded dots as they are, `from` encodes bare ones.
            let path = Path::parse(outside).unwrap_or_else(|_| Path::from(outside));
            assert!(is_refused(fence.put(&path, "1".into()).await), "{outside}");
            assert!(is_refused(fence.put_multipart(&path).await), "{outside}");
            assert!(is_refused(fence.get(&path).await), "{outside}");
            assert!(is_refused(fence.head(&path).await), "{outside}");
            assert!(is_refused(fence.get_ranges(&path, std::slice::from_ref(&(0..1))).await), "{outside}");
            assert!(is_refused(fence.delete(&path).await), "{outside}");
            assert!(is_refused(fence.copy(&path, &inside).await), "{outside}");
            assert!(is_refused(fence.copy(&inside, &path).await), "{outside}");
            assert!(is_refused(fence.rename(&inside, &path).await), "{outside}");
            if !outside.is_empty() {
                assert!(is_refused(fence.list(Some(&path)).try_collect::<Vec<_>>().await), "{outside}");
                assert!(is_refused(fence.list_with_delimiter(Some(&path)).await), "{outside}");
            }
        }
        assert!(store.head(&Path::from("other/secret")).await.is_ok());
    }

    #[tokio::test]
    async fn requests_beyond_the_limit_wait() {
        let (_, fence) = fenced();
        let held: Vec<_> = futures::future::join_all((0..4).map(|_| fence.permit())).await;
        let path = Path::from("store1/x");
        let put = fence.put(&path, "1".into());
        futures::pin_mut!(put);
        assert!(futures::poll!(&mut put).is_pending());
        drop(held);
        put.await.unwrap();
    }
}
