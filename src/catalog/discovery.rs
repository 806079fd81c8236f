//! Discovery: folders and files under a root are schemas and tables, without a declaration.
//!
//! `ROOT/SCHEMA/TABLE/` and `ROOT/SCHEMA/TABLE.EXT` are tables of a schema. What lies at the top
//! without a schema, a file or a folder that is one table, is in schema `public`. A folder is one
//! table rather than a schema when it holds `key=value` folders, or when all its files are named like
//! parts: `part-0.parquet`, `data_1.csv`, `000001.parquet`, or `trips-2024.csv` in a folder `trips`.
//!
//! Costs one listing of one level for the root, for each folder at the top, and for a schema that is
//! looked into; all of them remembered as long as any listing. Never lists a whole store.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use crate::error::{Error, Result};
use crate::format::files::extension::{is_hidden, recognise, table_name};
use crate::format::files::hive::is_partition_folder;
use crate::format::files::listing::Listing;
use crate::format::files::{FilePattern, FileSet, OpenFiles};
use crate::storage::Location;

/// The schema of tables that lie right under the root.
pub const TOP_SCHEMA: &str = "public";
/// Folders that are looked into at once.
const CONCURRENCY: usize = 16;
/// Words that name parts of a table in file names.
const PART_WORDS: [&str; 14] = [
    "part",
    "parts",
    "data",
    "file",
    "chunk",
    "split",
    "batch",
    "rows",
    "snappy",
    "zstd",
    "gzip",
    "lz4",
    "gz",
    "uncompressed",
];

/// A table that was found by its name in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredTable {
    pub name: String,
    pub pattern: FilePattern,
    /// Another file that makes a table of the same name; neither can be read by it.
    pub rival: Option<FilePattern>,
}

impl DiscoveredTable {
    /// The files to read.
    ///
    /// # Errors
    /// [`Error::InvalidTable`] when two files claim the name.
    pub fn file_set(&self, root: &Location) -> Result<FileSet> {
        match &self.rival {
            None => Ok(FileSet::new(self.pattern.clone())),
            Some(rival) => Err(Error::InvalidTable {
                path: root.url_of(self.pattern.base()),
                reason: format!("\"{}\" has the same name", root.url_of(rival.base())),
            }),
        }
    }
}

/// Names of the schemas under a root, sorted.
pub async fn schemas(files: &OpenFiles, root: &Location) -> Result<Vec<String>> {
    let top = files.listings.level(root, &root.prefix).await?;
    let mut schemas = Vec::new();
    let mut has_tables = top.objects.iter().any(|object| is_table_file(&object.location));
    for (folder, is_table) in classified(files, root, &top).await? {
        match folder.filename() {
            Some(name) if !is_table => schemas.push(name.to_owned()),
            _ => has_tables = true,
        }
    }
    if has_tables && !schemas.iter().any(|schema| schema == TOP_SCHEMA) {
        schemas.push(TOP_SCHEMA.to_owned());
    }
    schemas.sort_unstable();
    Ok(schemas)
}

/// The tables of a schema, sorted by name; empty for a schema that does not exist.
pub async fn tables(files: &OpenFiles, root: &Location, schema: &str) -> Result<Vec<DiscoveredTable>> {
    let mut found = Found::default();
    if schema == TOP_SCHEMA {
        let top = files.listings.level(root, &root.prefix).await?;
        for (folder, is_table) in classified(files, root, &top).await? {
            if is_table {
                found.folder(&folder);
            }
        }
        found.files(&top);
    }
    if let Some(folder) = schema_folder(root, schema)
        && !is_hidden(schema)
    {
        let level = files.listings.level(root, &folder).await?;
        if !is_one_table(&folder, &level) {
            level.folders.iter().filter(|folder| is_visible(folder)).for_each(|folder| found.folder(folder));
            found.files(&level);
        }
    }
    Ok(found.tables.into_values().collect())
}

/// One table by its name.
pub async fn table(
    files: &OpenFiles,
    root: &Location,
    schema: &str,
    name: &str,
) -> Result<Option<DiscoveredTable>> {
    Ok(tables(files, root, schema).await?.into_iter().find(|table| table.name == name))
}

/// Tables by name; a folder wins over a file, two files rival each other.
#[derive(Default)]
struct Found {
    tables: BTreeMap<String, DiscoveredTable>,
}

impl Found {
    fn folder(&mut self, path: &Path) {
        let name = path.filename().unwrap_or_default().to_owned();
        let pattern = FilePattern::Folder(path.clone());
        self.tables.insert(name.clone(), DiscoveredTable { name, pattern, rival: None });
    }

    fn files(&mut self, level: &Listing) {
        for object in level.objects.iter().filter(|object| is_table_file(&object.location)) {
            let pattern = FilePattern::File(object.location.clone());
            let Some(name) = object.location.filename().and_then(table_name) else { continue };
            match self.tables.get_mut(name) {
                None => {
                    let table = DiscoveredTable { name: name.to_owned(), pattern, rival: None };
                    self.tables.insert(name.to_owned(), table);
                }
                Some(known) if matches!(known.pattern, FilePattern::File(_)) => known.rival = Some(pattern),
                Some(_) => {}
            }
        }
    }
}

/// The visible folders at the top, and whether each is one table.
async fn classified(files: &OpenFiles, root: &Location, top: &Listing) -> Result<Vec<(Path, bool)>> {
    futures::stream::iter(top.folders.iter().filter(|folder| is_visible(folder)).cloned())
        .map(|folder| async move {
            let level = files.listings.level(root, &folder).await?;
            let is_table = is_one_table(&folder, &level);
            Ok((folder, is_table))
        })
        .boxed()
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

fn is_one_table(folder: &Path, level: &Listing) -> bool {
    let names = |paths: &mut dyn Iterator<Item = &Path>| -> Vec<String> {
        paths.filter(|path| is_visible(path)).filter_map(|path| path.filename()).map(str::to_owned).collect()
    };
    let folders = names(&mut level.folders.iter());
    if folders.iter().any(|name| is_partition_folder(name)) {
        return true;
    }
    let files = names(&mut level.objects.iter().map(|object| &object.location));
    let data: Vec<_> = files.iter().filter(|name| recognise(name).is_some()).collect();
    let own_name = folder.filename().unwrap_or_default().to_lowercase();
    !data.is_empty() && data.iter().all(|name| is_part(name, &own_name))
}

/// Whether a file is named like a part of a table, rather than like a table.
fn is_part(file_name: &str, folder_name: &str) -> bool {
    let stem = table_name(file_name).unwrap_or_default().to_lowercase();
    let own_words: Vec<_> = words(folder_name).collect();
    words(&stem).all(|word| {
        word.contains(|character: char| character.is_ascii_digit())
            || PART_WORDS.contains(&word)
            || own_words.contains(&word)
            || is_hex(word)
    })
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// A group of a UUID may have no digit.
fn is_hex(word: &str) -> bool {
    matches!(word.len(), 4 | 8 | 12) && word.chars().all(|character| character.is_ascii_hexdigit())
}

fn is_table_file(path: &Path) -> bool {
    is_visible(path) && path.filename().is_some_and(|name| recognise(name).is_some())
}

fn is_visible(path: &Path) -> bool {
    path.filename().is_some_and(|name| !is_hidden(name))
}

/// A schema's name is one name, not a path.
fn schema_folder(root: &Location, schema: &str) -> Option<Path> {
    let pattern = FilePattern::parse(root, &format!("{schema}/")).ok()?;
    match pattern {
        FilePattern::Folder(path) if path.filename() == Some(schema) && !schema.contains('/') => Some(path),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::format::files::listing::ListingLimits;
    use crate::format::files::testing::TestLake;

    async fn names(lake: &TestLake, files: &OpenFiles, schema: &str) -> Vec<String> {
        let tables = tables(files, &lake.location, schema).await.unwrap();
        tables.into_iter().map(|table| table.name).collect()
    }

    #[tokio::test]
    async fn folders_and_files_are_schemas_and_tables() {
        let lake = TestLake::new();
        for path in [
            "raw/airlines.csv",
            "raw/weather.csv.gz",
            "raw/flights/month=01/part-0.parquet",
            "raw/_staging/x.parquet",
            "raw/.hidden.csv",
            "raw/README.md",
            "mart/delays/a.parquet",
            "_lacus/log/0.json",
            "loose.parquet",
            "notes.txt",
            "trips/trips-2024.csv",
            "trips/trips-2025.csv",
            "events/day=1/x.json",
            "spark/part-00000-8f2b6c1d-abcd-4c53-9f0e-0123456789ab-c000.snappy.parquet",
        ] {
            lake.put(path, "x").await;
        }
        let files = OpenFiles::new(ListingLimits::default());
        assert_eq!(schemas(&files, &lake.location).await.unwrap(), ["mart", "public", "raw"]);
        assert_eq!(names(&lake, &files, "raw").await, ["airlines", "flights", "weather"]);
        assert_eq!(names(&lake, &files, "public").await, ["events", "loose", "spark", "trips"]);
        for schema in ["trips", "_lacus", "none", "..", "raw/flights", "", "*"] {
            assert_eq!(names(&lake, &files, schema).await, Vec::<String>::new(), "{schema}");
        }
        let flights = table(&files, &lake.location, "raw", "flights").await.unwrap().unwrap();
        assert_eq!(flights.pattern, FilePattern::Folder(lake.path("raw/flights")));
    }

    #[tokio::test]
    async fn looking_into_a_schema_lists_one_level() {
        let lake = TestLake::new();
        for file in 0..50 {
            lake.put(&format!("raw/t/day={file}/part-0.parquet"), "x").await;
        }
        let files =
            OpenFiles::new(ListingLimits { ttl: Duration::from_secs(60), ..ListingLimits::default() });
        assert_eq!(names(&lake, &files, "raw").await, ["t"]);
        assert_eq!(lake.store.take(), (0, 1));
        assert_eq!(schemas(&files, &lake.location).await.unwrap(), ["raw"]);
        assert_eq!(lake.store.take(), (0, 1), "the root; the schema is remembered");
    }

    #[tokio::test]
    async fn two_files_of_one_name_are_no_table() {
        let lake = TestLake::new();
        lake.put("raw/trips.csv", "x").await;
        lake.put("raw/trips.parquet", "x").await;
        let files = OpenFiles::new(ListingLimits::default());
        let found = table(&files, &lake.location, "raw", "trips").await.unwrap().unwrap();
        assert_eq!(found.file_set(&lake.location).unwrap_err().sqlstate(), "42P16");
        lake.put("raw/trips/part-0.csv", "x").await;
        let fresh = OpenFiles::new(ListingLimits::default());
        let found = table(&fresh, &lake.location, "raw", "trips").await.unwrap().unwrap();
        assert!(found.file_set(&lake.location).is_ok());
    }
}
