//! Storage: a root URL becomes a [`Location`], a fenced object store with its credentials.
//!
//! This module decides which store serves a URL, with what credentials, retries and limits, and that
//! nothing outside of a root is ever touched. What the objects mean is decided in `format`.
//!
//! A request passes the [`fence`] (is the path inside of the root, is a place free among the
//! requests under way), then the store itself: [`disk`] for folders, `object_store` for the rest,
//! whose HTTP runs on the I/O runtime ([`http`]).

mod cloud;
mod disk;
mod fence;
mod http;
mod objects;
mod open;
mod options;
mod profile;
mod s3;
mod scratch;

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::{Error, Result};

pub use objects::PutOutcome;
pub use open::Stores;
pub use options::{SecretRef, StoreOptions};
pub use scratch::{Quota, Scratch};

/// A root under which objects live, and the fenced store that serves it.
#[derive(Debug, Clone)]
pub struct Location {
    /// The root as an absolute URL that ends in `/`, such as `s3://bucket/prefix/` or `file:///srv/lake/`.
    pub url: String,
    /// Serves paths under `prefix` and nothing else.
    pub store: Arc<dyn ObjectStore>,
    /// The name under which `store` is registered with DataFusion's runtime.
    pub store_url: ObjectStoreUrl,
    /// Where the root lies within `store`. It is unique in the process, because DataFusion's caches know
    /// a file by its path alone.
    pub prefix: Path,
}

impl Location {
    /// Returns the path of `relative` below this root.
    pub fn child(&self, relative: &str) -> Path {
        relative
            .split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Returns the absolute URL of the object at `path`, as other engines read it.
    ///
    /// The key stands in it as the store knows it, without percent-encoding.
    pub fn url_of(&self, path: &Path) -> String {
        let relative = path.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(path.as_ref());
        format!("{}{}", self.url, relative.trim_start_matches('/'))
    }

    /// Returns the path of the object at the absolute `url`: the inverse of [`url_of`](Self::url_of).
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] when `url` lies outside of this root.
    pub fn path_of(&self, url: &str) -> Result<Path> {
        let outside = || Error::PermissionDenied(format!("\"{url}\" lies outside of \"{}\"", self.url));
        let relative = match url.strip_prefix(&self.url) {
            Some(rest) => rest,
            None if format!("{url}/") == self.url => "",
            None => return Err(outside()),
        };
        let segments: Vec<&str> = relative.split('/').filter(|part| !part.is_empty()).collect();
        Path::parse(format!("{}/{}", self.prefix, segments.join("/"))).map_err(|_| outside())
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn location() -> Location {
        Location {
            url: "s3://bucket/lake/".to_owned(),
            store: Arc::new(InMemory::new()),
            store_url: ObjectStoreUrl::parse("lacus://store1").unwrap(),
            prefix: Path::from("store1"),
        }
    }

    #[test]
    fn urls_and_paths_are_inverse_even_with_percent_signs_in_keys() {
        let location = location();
        let path = Path::parse("store1/raw/t/day=2013%2F01/a b.parquet").unwrap();
        let url = location.url_of(&path);
        assert_eq!(url, "s3://bucket/lake/raw/t/day=2013%2F01/a b.parquet");
        assert_eq!(location.path_of(&url).unwrap(), path);
        assert_eq!(location.path_of("s3://bucket/lake").unwrap(), location.prefix);
    }

    #[test]
    fn a_url_outside_of_the_root_is_refused() {
        for url in ["s3://bucket/lakes/x", "s3://bucket/lake/../x", "s3://other/lake/x", "/etc/passwd"] {
            let refused = location().path_of(url);
            assert!(matches!(refused, Err(Error::PermissionDenied(_))), "{url}: {refused:?}");
        }
    }
}
