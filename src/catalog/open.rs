//! The catalogs of this process, and the open tables of its lakes: declared, or found as files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::context::SessionState;

use super::declared::DeclaredTables;
use super::definition::{self, CatalogDefinition, Connector};
use super::files_function::{self, FilesCall, Readable};
use super::lake::Lake;
use super::{Relation, RelationDetail, discovery};
use crate::config::{Config, Source};
use crate::error::{Error, Result};
use crate::format::Snapshot;
use crate::format::files::listing::ListingLimits;
use crate::format::files::{FilePattern, FileSet, OpenFiles};
use crate::format::iceberg::Rules;
use crate::runtime::Runtime;
use crate::scan::FilesTable;
use crate::storage::{Location, Stores};

/// The catalog that a root without a definition becomes.
const ROOT_CATALOG: &str = "lake";

/// One catalog.
#[derive(Debug)]
pub enum Catalog {
    Lake(Arc<Lake>),
    Tpch,
}

/// All catalogs, and where SQL may read and write files.
#[derive(Debug)]
pub struct Catalogs {
    entries: BTreeMap<String, Catalog>,
    declared: BTreeMap<String, DeclaredTables>,
    /// Roots of the lakes, then the locations that the configuration allows.
    locations: Vec<Location>,
    pub files: OpenFiles,
    commit_group_max: usize,
    /// What schemas are inferred with.
    pub state: SessionState,
}

impl Catalogs {
    /// Reads the catalogs' definitions and opens their roots. No store is asked for anything yet.
    ///
    /// # Errors
    /// [`Error::Config`] with file, line and key.
    pub fn load(config: &Config, runtime: &Runtime, state: SessionState) -> Result<Self> {
        let stores = Stores::new(runtime.io.clone(), config.requests_max);
        let limits = ListingLimits { ttl: config.listing_ttl, ..ListingLimits::default() };
        let mut catalogs = Self {
            entries: BTreeMap::new(),
            declared: BTreeMap::new(),
            locations: Vec::new(),
            files: OpenFiles::new(limits),
            commit_group_max: config.commit_group_max,
            state,
        };
        let here = std::env::current_dir()?;
        match &config.source {
            Source::Root(root) => {
                let location = stores.open(root, &here, &Default::default(), &runtime.env)?;
                catalogs.add_lake(ROOT_CATALOG, location, None, None, false);
            }
            Source::Directory(folder) => {
                for (name, definition) in definitions(&here.join(folder))? {
                    catalogs.add(&name, &definition, &stores, runtime)?;
                }
            }
        }
        for allowed in &config.locations {
            let location = stores.open(&allowed.root, &here, &allowed.store, &runtime.env)?;
            catalogs.locations.push(location);
        }
        Ok(catalogs)
    }

    fn add(
        &mut self,
        name: &str,
        definition: &CatalogDefinition,
        stores: &Stores,
        runtime: &Runtime,
    ) -> Result<()> {
        let Some(root) = definition.root().filter(|_| definition.connector == Connector::Lake) else {
            self.entries.insert(name.to_owned(), Catalog::Tpch);
            return Ok(());
        };
        let location = stores.open(&root, &definition.folder, &definition.store, &runtime.env)?;
        let declared = Some(definition.declared_folder(name));
        self.add_lake(name, location, definition.comment.clone(), declared, definition.read_only);
        Ok(())
    }

    fn add_lake(
        &mut self,
        name: &str,
        location: Location,
        comment: Option<String>,
        declared: Option<PathBuf>,
        read_only: bool,
    ) {
        self.locations.push(location.clone());
        if let Some(folder) = declared {
            self.declared.insert(name.to_owned(), DeclaredTables::new(folder));
        }
        let lake = Lake::new(name.to_owned(), location, comment, read_only, self.commit_group_max);
        self.entries.insert(name.to_owned(), Catalog::Lake(Arc::new(lake)));
    }

    /// What a message for a client leaves out: where the roots lie on the daemon's own disk.
    ///
    /// Each as URL and as path, with a `/` at its end, the longer ones first.
    pub fn local_roots(&self) -> Vec<String> {
        let mut roots = Vec::new();
        for folder in self.locations.iter().filter_map(|location| location.url.strip_prefix("file://")) {
            roots.push(format!("file://{folder}"));
            let real = std::fs::canonicalize(folder).ok().and_then(|real| real.to_str().map(str::to_owned));
            roots.extend(real.map(|real| format!("{real}/")));
            roots.push(folder.to_owned());
        }
        roots.retain(|root| !matches!(root.as_str(), "/" | "//" | "file:///"));
        roots.sort_by_key(|root| std::cmp::Reverse(root.len()));
        roots
    }

    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// # Errors
    /// [`Error::CatalogNotFound`].
    pub fn find(&self, name: &str) -> Result<&Catalog> {
        self.entries.get(name).ok_or_else(|| Error::CatalogNotFound(name.to_owned()))
    }

    /// # Errors
    /// [`Error::CatalogNotFound`].
    pub fn ensure(&self, name: &str) -> Result<()> {
        self.find(name).map(drop)
    }

    /// The lakes, by name.
    pub fn lakes(&self) -> impl Iterator<Item = &Arc<Lake>> {
        self.entries.values().filter_map(|catalog| match catalog {
            Catalog::Lake(lake) => Some(lake),
            Catalog::Tpch => None,
        })
    }

    /// Names of the schemas that files make: folders, and declarations.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn open_schemas(&self, lake: &Lake) -> Result<Vec<String>> {
        let mut schemas = discovery::schemas(&self.files, &lake.location).await?;
        if let Some(declared) = self.declared.get(&lake.name) {
            schemas.extend(declared.schemas()?);
        }
        schemas.sort_unstable();
        schemas.dedup();
        Ok(schemas)
    }

    /// Open tables of a schema with their comments, sorted; a declaration wins over what is found.
    ///
    /// # Errors
    /// What the store answers, and what is wrong with a declaration.
    pub async fn open_tables(&self, lake: &Lake, schema: &str) -> Result<Vec<(String, Option<String>)>> {
        let found = discovery::tables(&self.files, &lake.location, schema).await?;
        let mut tables: BTreeMap<String, Option<String>> =
            found.into_iter().map(|table| (table.name, None)).collect();
        if let Some(declared) = self.declared.get(&lake.name) {
            for name in declared.tables(schema)? {
                let comment = declared.table(schema, &name)?.and_then(|table| table.comment.clone());
                tables.insert(name, comment);
            }
        }
        Ok(tables.into_iter().collect())
    }

    /// The files of one open table; none when there is no such table.
    ///
    /// # Errors
    /// What the store answers, and what is wrong with a declaration.
    pub async fn open_table(&self, lake: &Lake, schema: &str, name: &str) -> Result<Option<FileSet>> {
        if let Some(declared) = self.declared.get(&lake.name)
            && let Some(table) = declared.table(schema, name)?
        {
            return table.file_set(&lake.location).map(Some);
        }
        match discovery::table(&self.files, &lake.location, schema, name).await? {
            Some(table) => table.file_set(&lake.location).map(Some),
            None => Ok(None),
        }
    }

    /// What a listing shows of an open table.
    ///
    /// # Errors
    /// What is wrong with a declaration.
    pub fn open_detail(
        &self,
        lake: &Lake,
        relation: &Relation,
        table: &FilesTable,
    ) -> Result<RelationDetail> {
        let snapshot = table.snapshot();
        let declared = match self.declared.get(&lake.name) {
            Some(declared) => declared.table(&relation.schema, &relation.name)?,
            None => None,
        };
        let schema = match &declared {
            Some(declared) => declared.described(&snapshot.schema),
            None => Arc::clone(&snapshot.schema),
        };
        Ok(RelationDetail {
            schema,
            partitioned_by: snapshot.partition_columns.clone(),
            properties: BTreeMap::new(),
            row_count: table
                .statistics()
                .and_then(|known| known.num_rows.get_value().map(|rows| *rows as u64)),
            size_bytes: Some(snapshot.files.iter().map(|file| file.object.size).sum()),
            location: Some(snapshot.location.url.clone()),
            format: snapshot.file_format.get_ext(),
            analyzed: BTreeMap::new(),
            rules: Rules::default(),
        })
    }

    /// Pins the files that a query names by URL.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] for files that lie under no root.
    pub async fn read_files(&self, database: &str, call: &FilesCall<'_>) -> Result<Snapshot> {
        let (location, pattern) = files_function::resolve(self.readable(database), call.path)?;
        refuse_log(location, pattern.base())?;
        files_function::snapshot(&self.state, &self.files, self.readable(database), call).await
    }

    /// Where a COPY TO writes.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] for a URL under no root, and for a lake's own folder;
    /// [`Error::ReadOnly`].
    pub fn export_target(&self, database: &str, url: &str) -> Result<(Location, object_store::path::Path)> {
        let (location, pattern) = files_function::resolve(self.readable(database), url)?;
        let path = match pattern {
            FilePattern::Folder(path) | FilePattern::File(path) => path,
            FilePattern::Glob { .. } => {
                return Err(Error::InvalidParameter(
                    "COPY TO writes one file or folder, not a pattern".to_owned(),
                ));
            }
        };
        refuse_log(location, &path)?;
        for lake in self.lakes().filter(|lake| lake.location.url == location.url) {
            lake.refuse_read_only()?;
        }
        Ok((location.clone(), path))
    }

    fn readable<'a>(&'a self, database: &str) -> Readable<'a> {
        let root = match self.entries.get(database) {
            Some(Catalog::Lake(lake)) => Some(&lake.location),
            _ => None,
        };
        Readable { root, locations: &self.locations }
    }
}

/// What lies under `_lacus` is the log's and the managed tables', whoever names it.
fn refuse_log(location: &Location, path: &object_store::path::Path) -> Result<()> {
    let below = path.as_ref().strip_prefix(location.prefix.as_ref()).unwrap_or(path.as_ref());
    match below.split('/').any(|part| part == "_lacus") {
        true => Err(Error::PermissionDenied("\"_lacus\" belongs to the lake's log".to_owned())),
        false => Ok(()),
    }
}

fn definitions(folder: &Path) -> Result<Vec<(String, CatalogDefinition)>> {
    if !folder.is_dir() {
        return Err(Error::Config(format!(
            "there is no folder \"{}\": name a folder of catalogs, a folder of data, or a URL such as s3://bucket/prefix/",
            folder.display()
        )));
    }
    let found = definition::load(folder)?;
    match found.is_empty() {
        true => Err(Error::Config(format!("the folder \"{}\" holds no NAME.toml", folder.display()))),
        false => Ok(found),
    }
}
