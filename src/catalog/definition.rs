//! Definitions: `catalog/NAME.toml` says what a catalog is.
//!
//! A definition names a connector and its options. Which store serves a root is decided in
//! `storage`; what lies there, by the other files of this module.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::storage::StoreOptions;

/// What a catalog's file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogDefinition {
    #[serde(default)]
    pub connector: Connector,
    /// Where a lake's files lie: a URL, or a path relative to the folder of the definition.
    pub root: Option<String>,
    /// How the root's store is reached.
    #[serde(default)]
    pub store: StoreOptions,
    pub comment: Option<String>,
    /// Nothing is written, whatever users may do.
    #[serde(default)]
    pub read_only: bool,
    /// The folder in which the definition stands.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// What kind of catalog it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connector {
    /// Files under a root.
    #[default]
    Lake,
    /// The TPC-H tables, generated in the process.
    Tpch,
}

impl CatalogDefinition {
    /// Where the lake's files lie: a URL, or an absolute path.
    pub fn root(&self) -> Option<String> {
        let root = self.root.as_ref()?;
        if root.contains("://") {
            return Some(root.clone());
        }
        Some(self.folder.join(root).to_string_lossy().into_owned())
    }

    /// The folder of this catalog's declared tables.
    pub fn declared_folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn check(&self, file: &Path) -> Result<()> {
        let wrong = |what: &str| Err(Error::Config(format!("{}: {what}", file.display())));
        match (self.connector, &self.root) {
            (Connector::Lake, None) => wrong("a lake needs a \"root\""),
            (Connector::Tpch, Some(_)) => wrong("connector \"tpch\" has no \"root\""),
            _ => Ok(()),
        }
    }
}

/// Reads all definitions of a folder, sorted by name.
///
/// # Errors
/// [`Error::Config`] with file, line and key.
pub fn load(folder: &Path) -> Result<Vec<(String, CatalogDefinition)>> {
    let mut definitions = Vec::new();
    for file in toml_files(folder)? {
        let text = read(&file)?;
        let mut definition: CatalogDefinition =
            toml::from_str(&text).map_err(|error| in_toml(&file, &text, &error))?;
        definition.check(&file)?;
        definition.folder = folder.to_owned();
        definitions.push((stem(&file), definition));
    }
    Ok(definitions)
}

/// The files of a folder that end in `.toml` and do not begin with `_` or `.`, sorted.
pub(super) fn toml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let visible = !stem(&path).starts_with(['_', '.']);
        if visible && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The name that a file gives to what it defines.
pub(super) fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Config(format!("cannot read \"{}\": {error}", path.display()))
}

/// An error of the toml parser in one line: file, line number, key and reason.
pub(super) fn in_toml(file: &Path, text: &str, error: &toml::de::Error) -> Error {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
    let written = text.lines().nth(line).unwrap_or_default();
    let key = match written.split_once('=') {
        Some((key, _)) => format!(" \"{}\":", key.trim()),
        None => String::new(),
    };
    let reason = error.message().lines().next().unwrap_or_default();
    Error::Config(format!("{}, line {}:{key} {reason}", file.display(), line + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn definitions_are_read_by_name() {
        let lake = "root = \"sample/\"\ncomment = \"ours\"\n";
        let cloud = "root = \"s3://bucket/lake/\"\nread_only = true\n";
        let tpch = "connector = \"tpch\"\n";
        let folder =
            folder(&[("lake.toml", lake), ("cloud.toml", cloud), ("tpch.toml", tpch), ("notes.txt", "x")]);
        let found = load(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["cloud", "lake", "tpch"]);
        assert_eq!(found[0].1.root().unwrap(), "s3://bucket/lake/");
        assert_eq!(found[1].1.root().unwrap(), folder.path().join("sample/").to_string_lossy());
        assert_eq!(found[2].1.connector, Connector::Tpch);
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_key() {
        let message = |text: &str| {
            let folder = folder(&[("lake.toml", text)]);
            load(folder.path()).unwrap_err().to_string()
        };
        let unknown = message("# mine\n\nrooot = \"x\"\n");
        assert!(unknown.contains("lake.toml, line 3: \"rooot\": unknown field"), "{unknown}");
        let mistyped = message("root = 7\n");
        assert!(mistyped.contains("line 1: \"root\": invalid type"), "{mistyped}");
        assert!(message("comment = \"x\"").contains("needs a \"root\""));
        assert!(message("connector = \"hive\"").contains("unknown variant"));
        assert!(load(Path::new("no such folder")).is_err());
    }
}
