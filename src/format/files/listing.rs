//! Listings: which objects lie under a prefix, remembered for a bounded time.
//!
//! A statement that pins a snapshot sees one listing. How old that listing may be is `ttl`; how much
//! is remembered, and how long one listing may get, is counted in objects. Statements that ask for
//! the same prefix at the same time share one request.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use tokio::sync::OnceCell;

use super::recent::Recent;
use crate::error::{Error, Result};
use crate::storage::Location;

/// How listings are remembered.
#[derive(Debug, Clone, Copy)]
pub struct ListingLimits {
    /// How old a listing may be that a statement sees; zero lists for every statement.
    pub ttl: Duration,
    /// Objects that all remembered listings may hold together; one takes about 200 bytes.
    pub objects_max: usize,
    /// Objects that one table may have.
    pub table_objects_max: usize,
}

impl Default for ListingLimits {
    fn default() -> Self {
        Self { ttl: Duration::from_millis(1000), objects_max: 250_000, table_objects_max: 1_000_000 }
    }
}

/// The objects under a prefix at one moment, sorted by path.
#[derive(Debug, Clone)]
pub struct Listing {
    pub objects: Arc<[ObjectMeta]>,
    /// The folders right below the prefix, sorted; empty for a listing of all levels.
    pub folders: Arc<[Path]>,
    /// Equal for two listings of the same objects in the same versions.
    pub identity: u64,
}

/// Lists stores, and remembers what it saw for a bounded time.
#[derive(Debug)]
pub struct Listings {
    limits: ListingLimits,
    recent: Mutex<Recent<Key, Arc<Pending>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Depth {
    /// One object by its path, or, where there is none, everything below it.
    Object,
    /// What lies right below the prefix.
    Level,
    /// Everything below the prefix.
    Tree,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    store: String,
    path: Path,
    depth: Depth,
}

/// A listing that somebody asked for at `started`, and that may still be under way.
#[derive(Debug)]
struct Pending {
    started: Instant,
    listing: OnceCell<Listing>,
}

impl Listings {
    pub fn new(limits: ListingLimits) -> Self {
        Self { limits, recent: Mutex::new(Recent::new(limits.objects_max)) }
    }

    /// Lists everything below `prefix`, on all levels.
    pub async fn tree(&self, location: &Location, prefix: &Path) -> Result<Listing> {
        self.list(location, prefix, Depth::Tree).await
    }

    /// Lists what lies right below `prefix`: one request a thousand entries.
    pub async fn level(&self, location: &Location, prefix: &Path) -> Result<Listing> {
        self.list(location, prefix, Depth::Level).await
    }

    /// Finds the object at `path`, or everything below it where `path` turns out to be a folder.
    pub async fn object(&self, location: &Location, path: &Path) -> Result<Listing> {
        self.list(location, path, Depth::Object).await
    }

    async fn list(&self, location: &Location, path: &Path, depth: Depth) -> Result<Listing> {
        let key = Key { store: location.store_url.as_str().to_owned(), path: path.clone(), depth };
        let pending = self.pending(&key);
        let fresh = || async { self.request(location, path, depth).await };
        let listing = pending.listing.get_or_try_init(fresh).await?.clone();
        let weight = 1 + listing.objects.len() + listing.folders.len();
        self.lock().keep(key, pending, weight);
        Ok(listing)
    }

    fn pending(&self, key: &Key) -> Arc<Pending> {
        let mut recent = self.lock();
        match recent.find(key) {
            Some(known) if known.started.elapsed() < self.limits.ttl => known,
            _ => {
                let pending = Arc::new(Pending { started: Instant::now(), listing: OnceCell::new() });
                recent.keep(key.clone(), Arc::clone(&pending), 1);
                pending
            }
        }
    }

    async fn request(&self, location: &Location, path: &Path, depth: Depth) -> Result<Listing> {
        match depth {
            Depth::Tree => self.request_tree(location, path).await,
            Depth::Level => request_level(location, path).await,
            Depth::Object => match location.store.head(path).await {
                Ok(object) => Ok(Listing::new(vec![object], Vec::new())),
                Err(object_store::Error::NotFound { .. }) => self.request_tree(location, path).await,
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn request_tree(&self, location: &Location, path: &Path) -> Result<Listing> {
        let mut stream = location.store.list(Some(path));
        let mut objects = Vec::new();
        while let Some(object) = stream.try_next().await? {
            if objects.len() >= self.limits.table_objects_max {
                let url = location.url_of(path);
                let limit = self.limits.table_objects_max;
                return Err(Error::LimitExceeded(format!("more than {limit} objects lie under \"{url}\"")));
            }
            objects.push(object);
        }
        Ok(Listing::new(objects, Vec::new()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recent<Key, Arc<Pending>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listing {
    fn new(mut objects: Vec<ObjectMeta>, mut folders: Vec<Path>) -> Self {
        objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        folders.sort_unstable();
        let mut hasher = DefaultHasher::new();
        for object in &objects {
            (object.location.as_ref(), object.size, object.last_modified, &object.e_tag).hash(&mut hasher);
        }
        Self { objects: objects.into(), folders: folders.into(), identity: hasher.finish() }
    }
}

async fn request_level(location: &Location, path: &Path) -> Result<Listing> {
    let found = location.store.list_with_delimiter(Some(path)).await?;
    Ok(Listing::new(found.objects, found.common_prefixes))
}
