//! Transactions: what one statement, or one BEGIN block, sees of all lakes, and what it changes.
//!
//! Every lake is pinned at the version that it had when the transaction first asked for it; so are
//! the files of open tables. Changes go into an overlay that only the transaction sees. A commit puts
//! the operations of the overlay into the lake's log, alone or beside those of others that commit at
//! the same moment ([`group`]), and fails where something that the transaction relied upon is gone.
//! A serializable transaction relies upon whatever it read.

mod branch;
mod browse;
mod change;
mod commit;
mod foreign;
mod group;
mod inspect;
mod past;
mod reads;
mod restore;
mod usage;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::TableProvider;

use super::files_function::FilesCall;
use super::lake::Lake;
use super::log::{Dependency, Operation, TableRecord, ViewRecord};
use super::state::{LakeState, RelationState};
use super::temporary::{OnCommit, TEMPORARY_SCHEMA, Temporary};
use super::{Catalog, Catalogs, tpch};
use crate::error::{Error, Result};
use crate::format::iceberg::{self, Change, TableMetadata};
use crate::scan::FilesTable;

pub use change::{NewTable, TableTarget};
pub use foreign::TableCommit;
pub(super) use group::Queue;
pub use restore::TableChanges;
pub use usage::TableUse;

/// One transaction over all catalogs, of which it may change one.
#[derive(Debug)]
pub struct Transaction {
    catalogs: Arc<Catalogs>,
    user: String,
    temporary: Arc<Temporary>,
    views: Mutex<HashMap<String, LakeView>>,
    /// The moment that it sees, if that is not now.
    moment: Mutex<Option<past::Moment>>,
    /// The branch that is seen in the place of a catalog: the catalog's name, and the branch's.
    branch: Mutex<Option<(String, String)>>,
    /// Open tables as they were first seen.
    pinned: Mutex<HashMap<(String, String, String), Arc<FilesTable>>>,
    /// Whether a commit checks what was read.
    checks_reads: AtomicBool,
    /// What was read, by lake. A rollback to a savepoint keeps it: the client has seen it.
    reads: Mutex<Vec<(String, Dependency)>>,
    /// The relations that its queries have read, for those who ask.
    used: Mutex<BTreeSet<usage::Used>>,
}

/// What a transaction had changed at some moment, for going back to it.
#[derive(Debug, Clone)]
pub struct Overlay {
    views: HashMap<String, LakeView>,
}

/// A relation that was found by its name.
#[derive(Debug, Clone)]
pub enum Found {
    Table(Arc<dyn TableProvider>),
    View(ViewRecord),
}

/// One lake as a transaction sees it.
#[derive(Debug, Clone)]
struct LakeView {
    lake: Arc<Lake>,
    base: Arc<LakeState>,
    /// `base` with the transaction's own operations.
    state: Arc<LakeState>,
    operations: Vec<Operation>,
    dependencies: Vec<Dependency>,
    /// Tables that this transaction wrote, by their id.
    written: HashMap<String, Written>,
}

/// What a transaction did to one table.
#[derive(Debug, Clone)]
struct Written {
    /// The version that the changes stand on; none for a table that this transaction made.
    base: Option<String>,
    metadata: Arc<TableMetadata>,
    changes: Vec<Change>,
}

impl Transaction {
    /// Begins a transaction; nothing is read until something is asked for.
    pub fn begin(catalogs: Arc<Catalogs>, user: String, temporary: Arc<Temporary>) -> Self {
        Self {
            catalogs,
            user,
            temporary,
            views: Mutex::default(),
            moment: Mutex::default(),
            branch: Mutex::default(),
            pinned: Mutex::default(),
            checks_reads: AtomicBool::new(false),
            reads: Mutex::default(),
            used: Mutex::default(),
        }
    }

    /// A copy of what this transaction has changed so far.
    pub fn overlay(&self) -> Overlay {
        Overlay { views: lock(&self.views).clone() }
    }

    /// Undoes what was changed since `overlay` was taken; the snapshot stays.
    pub fn go_back(&self, overlay: &Overlay) {
        for (name, view) in lock(&self.views).iter_mut() {
            *view = match overlay.views.get(name) {
                Some(then) => then.clone(),
                None => LakeView::unchanged(Arc::clone(&view.lake), Arc::clone(&view.base)),
            };
        }
    }

    /// Whether there is anything to commit.
    pub fn has_changes(&self) -> bool {
        lock(&self.views).values().any(|view| !view.operations.is_empty())
    }

    /// # Errors
    /// [`Error::CatalogNotFound`].
    pub fn ensure_catalog(&self, catalog: &str) -> Result<()> {
        self.catalogs.ensure(catalog)
    }

    /// Finds a table or view; open tables are listed, unless this transaction did so before.
    ///
    /// # Errors
    /// What the store answers, and what is wrong with the table's files.
    pub async fn relation(&self, catalog: &str, schema: &str, name: &str) -> Result<Option<Found>> {
        let lake = match self.place(catalog, schema)? {
            Place::Lake(lake) => lake,
            Place::Tpch => return Ok(tpch::named(schema, name).map(Found::Table)),
            Place::Nowhere => return Ok(None),
        };
        let view = self.view(lake).await?;
        match view.state.relation(schema, name) {
            Some(RelationState::View(view)) => return Ok(Some(Found::View(view.clone()))),
            Some(RelationState::Table(table)) => {
                if table.materialized.as_ref().is_some_and(|view| !view.populated) {
                    return Err(Error::NotPopulated(name.to_owned()));
                }
                return Ok(Some(Found::Table(self.managed(&view, table).await?)));
            }
            None => {}
        }
        if let Some(rows) = self.inspected(&view, schema, name).await? {
            return Ok(Some(Found::Table(rows)));
        }
        Ok(self.open(lake, schema, name).await?.map(|table| Found::Table(table)))
    }

    /// Whether there is a table or view of this name. Of a managed table nothing is read.
    ///
    /// # Errors
    /// As [`relation`](Self::relation).
    pub async fn has_relation(&self, catalog: &str, schema: &str, name: &str) -> Result<bool> {
        if let Place::Lake(lake) = self.place(catalog, schema)?
            && self.view(lake).await?.state.relation(schema, name).is_some()
        {
            return Ok(true);
        }
        Ok(self.relation(catalog, schema, name).await?.is_some())
    }

    /// Where the relations of a schema are recorded.
    fn place(&self, catalog: &str, schema: &str) -> Result<Place<'_>> {
        if schema == TEMPORARY_SCHEMA {
            return Ok(self.temporary.lake().map_or(Place::Nowhere, Place::Lake));
        }
        Ok(match self.catalogs.find(catalog)? {
            Catalog::Tpch => Place::Tpch,
            Catalog::Lake(lake) => Place::Lake(lake),
        })
    }

    /// Whether the session has, or had, temporary tables.
    pub fn may_see_temporary(&self) -> bool {
        self.temporary.lake().is_some()
    }

    /// An open table, listed once in the life of the transaction.
    async fn open(&self, lake: &Lake, schema: &str, name: &str) -> Result<Option<Arc<FilesTable>>> {
        if lake.is_temporary() {
            return Ok(None);
        }
        let key = (lake.name.clone(), schema.to_owned(), name.to_owned());
        if let Some(pinned) = lock(&self.pinned).get(&key) {
            return Ok(Some(Arc::clone(pinned)));
        }
        let Some(set) = self.catalogs.open_table(lake, schema, name).await? else { return Ok(None) };
        if self.is_past() {
            let name = format!("{schema}.{name}");
            let message = format!("table \"{name}\" is made of open files, which have no past");
            return Err(Error::Unsupported(message));
        }
        let snapshot = self.catalogs.files.snapshot(&self.catalogs.state, &lake.location, &set).await?;
        let table = Arc::new(FilesTable::new(Arc::new(snapshot)));
        Ok(Some(Arc::clone(lock(&self.pinned).entry(key).or_insert(table))))
    }

    /// The files that a query names by URL.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] for files that lie under no root, and what is wrong with them.
    pub async fn files(&self, database: &str, call: &FilesCall<'_>) -> Result<Arc<dyn TableProvider>> {
        let snapshot = self.catalogs.read_files(database, call).await?;
        Ok(Arc::new(FilesTable::new(Arc::new(snapshot))))
    }

    /// Whether a schema exists: made, declared, or as a folder.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn schema_exists(&self, catalog: &str, schema: &str) -> Result<bool> {
        if schema == TEMPORARY_SCHEMA {
            return Ok(true);
        }
        let lake = match self.catalogs.find(catalog)? {
            Catalog::Tpch => return Ok(tpch::scale_factor(schema).is_some()),
            Catalog::Lake(lake) => lake,
        };
        if schema == super::DEFAULT_SCHEMA || self.view(lake).await?.state.schemas.contains_key(schema) {
            return Ok(true);
        }
        Ok(self.catalogs.open_schemas(lake).await?.iter().any(|open| open == schema))
    }

    /// The table behind a record, at the record's version.
    async fn managed(&self, view: &LakeView, table: &TableRecord) -> Result<Arc<dyn TableProvider>> {
        let location = &view.lake.location;
        let metadata = self.metadata(view, table).await?;
        let snapshot = iceberg::snapshot(location, &metadata, None).await?;
        Ok(Arc::new(FilesTable::new(Arc::new(snapshot))))
    }

    async fn metadata(&self, view: &LakeView, table: &TableRecord) -> Result<Arc<TableMetadata>> {
        if let Some(written) = view.written.get(&table.id) {
            return Ok(Arc::clone(&written.metadata));
        }
        let location = &view.lake.location;
        let loaded = iceberg::load(location, &format!("{}{}", location.url, table.metadata)).await;
        match loaded {
            Err(Error::FileNotFound(_)) if self.is_past() => Err(Error::SnapshotTooOld(format!(
                "the files of a table at version {} of catalog \"{}\" are gone",
                view.base.version, view.lake.name
            ))),
            loaded => loaded,
        }
    }

    /// The transaction's view of a lake; the first question pins it.
    async fn view(&self, lake: &Arc<Lake>) -> Result<LakeView> {
        if let Some(view) = lock(&self.views).get(&lake.name) {
            return Ok(view.clone());
        }
        let lake = self.on_branch(lake).await?;
        let base = self.base_of(&lake, lake.refresh().await?).await?;
        let fresh = LakeView::unchanged(Arc::clone(&lake), base);
        Ok(lock(&self.views).entry(lake.name.clone()).or_insert(fresh).clone())
    }

    /// The lake of a schema that may be changed.
    async fn writable(&self, catalog: &str, schema: &str) -> Result<LakeView> {
        if schema == TEMPORARY_SCHEMA {
            return self.view(self.temporary.lake_or_make()?).await;
        }
        let Catalog::Lake(lake) = self.catalogs.find(catalog)? else {
            return Err(Error::ReadOnly(format!("catalog \"{catalog}\" is read-only")));
        };
        let is_another = |view: &LakeView| {
            view.lake.name != lake.name && !view.lake.is_temporary() && !view.operations.is_empty()
        };
        if lock(&self.views).values().any(is_another) {
            let message = "a transaction can change one catalog only".to_owned();
            return Err(Error::Unsupported(message));
        }
        self.refuse_past(catalog)?;
        lake.ensure_writable().await?;
        self.view(lake).await
    }

    /// Whether open files have a name in a lake.
    async fn is_open(&self, view: &LakeView, schema: &str, name: &str) -> Result<bool> {
        if view.lake.is_temporary() {
            return Ok(false);
        }
        Ok(self.catalogs.open_table(&view.lake, schema, name).await?.is_some())
    }
}

/// Where the relations of a schema are.
enum Place<'a> {
    Lake(&'a Arc<Lake>),
    Tpch,
    /// In the temporary tables of a session that has none.
    Nowhere,
}

impl LakeView {
    fn unchanged(lake: Arc<Lake>, base: Arc<LakeState>) -> Self {
        Self {
            lake,
            state: Arc::clone(&base),
            base,
            operations: Vec::new(),
            dependencies: Vec::new(),
            written: HashMap::new(),
        }
    }
}

/// A panic under these locks leaves whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
