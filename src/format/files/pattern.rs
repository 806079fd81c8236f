//! Patterns: where the files of a table lie, as people write it.
//!
//! A pattern is never percent-decoded and never normalised: what is not plainly below a root is
//! refused, so that no spelling of `..` leads out of it. Symbolic links are the store's matter.

use object_store::path::Path;

use super::hive::percent_decoded;
use crate::error::{Error, Result};
use crate::storage::Location;

/// Where the files of a table lie, within the store of a location.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FilePattern {
    /// Everything below a folder.
    Folder(Path),
    /// One object; a folder, where there is no such object.
    File(Path),
    /// The objects below `base` whose path from there matches `pattern`: `*` and `?` stay within one
    /// name, `**` spans folders, `[ab]` is one of these.
    Glob { base: Path, pattern: String },
}

impl FilePattern {
    /// Reads a path relative to `root`, or an absolute URL or path below it. A path that ends in `/`
    /// is a folder.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] when it lies outside of the root, or may do so.
    pub fn parse(root: &Location, text: &str) -> Result<Self> {
        let relative = relative_to(root, text).ok_or_else(|| outside(root, text))?;
        let parts: Vec<_> = relative.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| !is_honest(part)) {
            return Err(outside(root, text));
        }
        let wild = parts.iter().position(|part| part.contains(['*', '?', '[']));
        let path = |parts: &[&str]| path_below(root, parts).ok_or_else(|| outside(root, text));
        match wild {
            Some(at) => Ok(Self::Glob { base: path(&parts[..at])?, pattern: parts[at..].join("/") }),
            None if relative.ends_with('/') || parts.is_empty() => Ok(Self::Folder(path(&parts)?)),
            None => Ok(Self::File(path(&parts)?)),
        }
    }

    /// The folder, or the file, below which all files of the table lie.
    pub fn base(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::File(path) | Self::Glob { base: path, .. } => path,
        }
    }

    /// Whether the pattern itself says which files are meant, rather than a folder that may hold others.
    pub fn names(&self, path: &Path) -> bool {
        match self {
            Self::Folder(_) => false,
            Self::File(file) => file == path,
            Self::Glob { .. } => true,
        }
    }
}

/// The part of `text` below the root; `None` where it is elsewhere.
fn relative_to<'a>(root: &Location, text: &'a str) -> Option<&'a str> {
    if text.contains("://") {
        return below(text, &root.url);
    }
    match text.starts_with('/') {
        true => below(text, root.url.strip_prefix("file://")?),
        false => Some(text),
    }
}

fn below<'a>(text: &'a str, root: &str) -> Option<&'a str> {
    if text == root.trim_end_matches('/') {
        return Some("/");
    }
    text.strip_prefix(root).map(|relative| if relative.is_empty() { "/" } else { relative })
}

/// A name that no store can take for a way up, or for several names.
fn is_honest(part: &str) -> bool {
    let mut name = part.to_owned();
    loop {
        if matches!(name.as_str(), "." | "..")
            || name.contains(['/', '\\'])
            || name.contains(char::is_control)
        {
            return false;
        }
        let decoded = percent_decoded(&name);
        if decoded == name {
            return true;
        }
        name = decoded;
    }
}

fn path_below(root: &Location, parts: &[&str]) -> Option<Path> {
    Path::parse(format!("{}/{}", root.prefix, parts.join("/"))).ok()
}

fn outside(root: &Location, text: &str) -> Error {
    Error::PermissionDenied(format!("\"{text}\" does not lie under \"{}\"", root.url))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::format::files::testing::location;

    fn parse(text: &str) -> Result<FilePattern> {
        FilePattern::parse(&location("s3://bucket/", "lake", Arc::new(InMemory::new())), text)
    }

    #[test]
    fn paths_and_urls_below_the_root_are_patterns() {
        let path = |text: &str| Path::parse(text).unwrap();
        assert_eq!(parse("raw/t/").unwrap(), FilePattern::Folder(path("lake/raw/t")));
        assert_eq!(parse("s3://bucket/lake/a.csv").unwrap(), FilePattern::File(path("lake/a.csv")));
        assert_eq!(parse("s3://bucket/lake").unwrap(), FilePattern::Folder(path("lake")));
        assert_eq!(parse("a%20b+c.csv").unwrap(), FilePattern::File(path("lake/a%20b+c.csv")));
        let glob = FilePattern::Glob { base: path("lake/raw"), pattern: "*/x=[12]/*.csv".to_owned() };
        assert_eq!(parse("raw/*/x=[12]/*.csv").unwrap(), glob);
    }

    #[test]
    fn no_spelling_leads_out_of_the_root() {
        let attempts = [
            "../secret.csv",
            "raw/../../secret.csv",
            "raw/%2e%2e/%2E./secret.csv",
            "raw/%252e%252e/x",
            "raw/..%2f..%2fx",
            "raw/..\\..\\x",
            "raw/./x",
            "raw/x\0.csv",
            "/etc/passwd",
            "file:///etc/passwd",
            "s3://bucket/lakeside/x.csv",
            "s3://bucket/other/x.csv",
            "s3://bucket/lake/../other/x.csv",
            "s3://other/lake/x.csv",
            "S3://bucket/lake/x.csv",
            "http://169.254.169.254/latest",
            "s3://bucket/lake/*/../../x",
        ];
        for attempt in attempts {
            let error = parse(attempt).unwrap_err();
            assert_eq!(error.sqlstate(), "42501", "{attempt}: {error}");
        }
    }

    #[test]
    fn absolute_paths_are_paths_of_a_local_root() {
        let local = location("file:///", "srv/lake", Arc::new(InMemory::new()));
        assert!(FilePattern::parse(&local, "/srv/lake/raw/a.csv").is_ok());
        assert!(FilePattern::parse(&local, "file:///srv/lake/raw/a.csv").is_ok());
        assert!(FilePattern::parse(&local, "/srv/lakes/raw/a.csv").is_err());
        assert!(FilePattern::parse(&local, "/srv/lake/../x.csv").is_err());
    }
}
