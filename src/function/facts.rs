//! Catalog facts: what functions may know about the tables of the session's database.
//!
//! A [`CatalogFacts`] belongs to one statement. Names and comments are in it from the start; what
//! costs a read (comments on columns, sizes) is noted by the scans of `pg_class` and `pg_attribute`
//! while the statement runs, so that `col_description(a.attrelid, a.attnum)` finds what the scan
//! that produced `attrelid` has loaded, and nothing is loaded for tables that no row is about.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A schema and its comment.
#[derive(Debug, Clone)]
pub struct Namespace {
    pub oid: i64,
    pub name: String,
    pub comment: Option<String>,
}

/// What a function can say about a table or view without reading anything.
#[derive(Debug, Clone)]
pub struct RelationName {
    pub oid: i64,
    pub schema: String,
    pub name: String,
    /// `pg_class.relkind`: `r` for tables, `v` for views.
    pub kind: char,
    pub comment: Option<String>,
    pub view_sql: Option<String>,
}

/// An index, as the scan that listed it noted it.
#[derive(Debug, Clone)]
pub struct IndexName {
    pub schema: String,
    pub name: String,
    /// The statement that would make it.
    pub definition: String,
    /// Its columns, quoted where need be.
    pub columns: Vec<String>,
}

/// A function that can be called, with its types as text.
#[derive(Debug, Clone)]
pub struct FunctionName {
    pub name: String,
    pub result: String,
    pub arguments: String,
}

/// What a scan has read about a relation.
#[derive(Debug, Clone, Default)]
struct Figures {
    size_bytes: Option<u64>,
    column_comments: Vec<Option<String>>,
}

/// The relations that a statement can name, by oid and by name.
#[derive(Debug, Default)]
pub struct CatalogFacts {
    namespaces: Vec<Namespace>,
    relations: Vec<RelationName>,
    by_oid: HashMap<i64, usize>,
    by_name: HashMap<String, Vec<usize>>,
    figures: Mutex<HashMap<i64, Figures>>,
    functions: Mutex<HashMap<i64, FunctionName>>,
    constraints: Mutex<HashMap<i64, String>>,
    indexes: Mutex<HashMap<i64, IndexName>>,
    /// Set when the statement asks for sizes, so that a scan of `pg_class` loads them.
    pub sizes_wanted: bool,
}

impl CatalogFacts {
    pub fn new(namespaces: Vec<Namespace>, relations: Vec<RelationName>, sizes_wanted: bool) -> Self {
        let by_oid = relations.iter().enumerate().map(|(index, relation)| (relation.oid, index)).collect();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, relation) in relations.iter().enumerate() {
            by_name.entry(relation.name.clone()).or_default().push(index);
        }
        Self { namespaces, relations, by_oid, by_name, sizes_wanted, ..Self::default() }
    }

    pub fn namespace(&self, oid: i64) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.oid == oid)
    }

    /// Those of `path` that there are; all of them where no names were asked for.
    pub fn existing(&self, mut path: Vec<String>) -> Vec<String> {
        if !self.namespaces.is_empty() {
            path.retain(|schema| schema == "pg_temp" || self.namespace_named(schema).is_some());
        }
        path
    }

    pub fn namespace_named(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.name == name)
    }

    pub fn relation(&self, oid: i64) -> Option<&RelationName> {
        self.by_oid.get(&oid).map(|&index| &self.relations[index])
    }

    /// The relation that `name` means: in `schema`, or in the first schema of `path` that has one.
    pub fn resolve(&self, schema: Option<&str>, name: &str, path: &[String]) -> Option<&RelationName> {
        let candidates = || self.by_name.get(name).into_iter().flatten().map(|&index| &self.relations[index]);
        match schema {
            Some(schema) => candidates().find(|relation| relation.schema == schema),
            None => path.iter().find_map(|schema| candidates().find(|relation| &relation.schema == schema)),
        }
    }

    /// Keeps the size that a scan read.
    pub fn note_size(&self, oid: i64, size_bytes: Option<u64>) {
        lock(&self.figures).entry(oid).or_default().size_bytes = size_bytes;
    }

    /// Keeps the comments that a scan read, in the order of the columns.
    pub fn note_column_comments(&self, oid: i64, comments: Vec<Option<String>>) {
        lock(&self.figures).entry(oid).or_default().column_comments = comments;
    }

    /// Keeps a function, as `pg_proc` lists it.
    pub fn note_function(&self, oid: i64, function: FunctionName) {
        lock(&self.functions).insert(oid, function);
    }

    /// Keeps the definition of a constraint, as `pg_constraint` listed it.
    pub fn note_constraint(&self, oid: i64, definition: String) {
        lock(&self.constraints).insert(oid, definition);
    }

    /// Keeps what a scan listed of an index.
    pub fn note_index(&self, oid: i64, index: IndexName) {
        lock(&self.indexes).insert(oid, index);
    }

    pub fn index(&self, oid: i64) -> Option<IndexName> {
        lock(&self.indexes).get(&oid).cloned()
    }

    pub fn constraint(&self, oid: i64) -> Option<String> {
        lock(&self.constraints).get(&oid).cloned()
    }

    pub fn size_bytes(&self, oid: i64) -> Option<u64> {
        lock(&self.figures).get(&oid).and_then(|figures| figures.size_bytes)
    }

    /// The comment on a column, counted from 1.
    pub fn column_comment(&self, oid: i64, column: i64) -> Option<String> {
        let index = usize::try_from(column).ok()?.checked_sub(1)?;
        lock(&self.figures).get(&oid)?.column_comments.get(index)?.clone()
    }

    pub fn function(&self, oid: i64) -> Option<FunctionName> {
        lock(&self.functions).get(&oid).cloned()
    }

    /// The oids of the functions of a name, with their arguments as text.
    pub fn functions_named(&self, name: &str) -> Vec<(i64, String)> {
        let functions = lock(&self.functions);
        let named = functions.iter().filter(|(_, function)| function.name == name);
        named.map(|(oid, function)| (*oid, function.arguments.clone())).collect()
    }
}

/// A panic under these locks leaves whole entries behind, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
