//! Storage: a root URL becomes a [`Location`], a fenced object store with its credentials.
//!
//! This module decides which store serves a URL, with what credentials, retries and limits, and that
//! nothing outside of a root is ever touched. What the objects mean is decided in `format`.

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::{Error, Result};

/// A root under which objects live, and the fenced store that serves it.
#[derive(Debug, Clone)]
pub struct Location {
    /// The root as an absolute URL that ends in `/`, such as `s3://bucket/prefix/` or `file:///srv/lake/`.
    pub url: String,
    /// Serves paths under `prefix` and nothing else.
    pub store: Arc<dyn ObjectStore>,
    /// The name under which `store` is registered with DataFusion's runtime.
    pub store_url: ObjectStoreUrl,
    /// Where the root lies within `store`.
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
    pub fn url_of(&self, path: &Path) -> String {
        let relative = path.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(path.as_ref());
        format!("{}{}", self.url, relative.trim_start_matches('/'))
    }

    /// Returns the path of the object at the absolute `url`.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] when `url` lies outside of this root.
    pub fn path_of(&self, url: &str) -> Result<Path> {
        let relative =
            url.strip_prefix(&self.url).filter(|rest| !rest.split('/').any(|part| part == "..")).ok_or_else(
                || Error::PermissionDenied(format!("\"{url}\" lies outside of \"{}\"", self.url)),
            )?;
        Ok(self.child(relative))
    }
}

/// How to reach a store.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreOptions {}
