//! Catalogs: names become tables, pinned once per statement.
//!
//! A catalog is one lake, or tables generated in the process. This module knows which catalogs there
//! are, and finds the tables of a lake that its log does not record: declared ones and discovered
//! ones. The log and what a transaction sees of it are below, in [`lake`] and [`transaction`].

pub mod branch;
pub mod declared;
pub mod definition;
pub mod discovery;
pub mod files_function;
pub mod history;
pub mod lake;
pub mod log;
pub mod open;
pub mod state;
pub mod temporary;
pub mod tpch;
pub mod transaction;
pub mod vacuum;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::error::Result;
use crate::format::iceberg::{Analyzed, Rules};

pub use open::{Catalog, Catalogs};

/// The schema that every lake has.
pub const DEFAULT_SCHEMA: &str = discovery::TOP_SCHEMA;

/// What kind of relation a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// Recorded in the lake's log, writable.
    Managed,
    /// Declared by a file or found as a folder of files, read-only.
    External,
    View,
    /// Recorded in the log with its query; SQL only refreshes it.
    Materialized {
        populated: bool,
    },
    /// `pg_catalog`, `information_schema` and `system`.
    System,
}

/// One table or view, as listings show it. Its columns are loaded apart, because that can cost a read.
#[derive(Debug, Clone)]
pub struct Relation {
    pub catalog: String,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    pub comment: Option<String>,
    /// The query of a view, as it was written.
    pub view_sql: Option<String>,
}

/// The columns of a relation, and what a listing of one table adds.
#[derive(Debug, Clone)]
pub struct RelationDetail {
    /// Comments stand in the fields' metadata under the key `comment`.
    pub schema: SchemaRef,
    /// How the table is partitioned, as SQL writes it: `month`, `days(ts)`, `bucket(16, id)`.
    pub partitioned_by: Vec<String>,
    /// Iceberg's properties of the table.
    pub properties: BTreeMap<String, String>,
    /// Row count and bytes, where they are known without reading data.
    pub row_count: Option<u64>,
    pub size_bytes: Option<u64>,
    /// URL under which the files lie; none for generated tables and views.
    pub location: Option<String>,
    /// `parquet`, `csv`, `iceberg`, `tpch`, ….
    pub format: String,
    /// What ANALYZE found out about columns, by their names.
    pub analyzed: BTreeMap<String, Analyzed>,
    /// Defaults and constraints, columns by their field ids.
    pub rules: Rules,
}

/// What one statement sees of all catalogs: a snapshot, the same for every question that it asks.
#[async_trait]
pub trait Browse: std::fmt::Debug + Send + Sync {
    /// Names of the catalogs, sorted.
    fn catalogs(&self) -> Vec<String>;
    /// Schemas of a catalog with their comments, sorted by name; the system schemas are not among them.
    async fn schemas(&self, catalog: &str) -> Result<Vec<(String, Option<String>)>>;
    /// Tables and views of a schema, sorted by name; empty for a schema that does not exist.
    async fn relations(&self, catalog: &str, schema: &str) -> Result<Vec<Arc<Relation>>>;
    /// Columns and figures of one relation; may read a footer or infer a schema.
    async fn detail(&self, relation: &Relation) -> Result<RelationDetail>;
}
