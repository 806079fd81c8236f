//! Iceberg: tables of format version 2, copy-on-write, over Parquet, that other engines read by path.
//!
//! A *table* is a folder of data files, manifests that list them, and one metadata file a version.
//! This module decides what such a version says: which types a table stores, which files it has, and
//! how a change becomes the next version's files. Which version is the current one is decided in the
//! catalog's log; how data files are read and written in `scan` and `sink`.
//!
//! The spec's structs and the Avro manifests are our own, because the `iceberg` crate would bring a
//! second arrow and a second parquet into the build.
//!
//! Reading begins at [`load`] and [`snapshot`], writing at [`stage`].
//!
//! Source: <https://iceberg.apache.org/spec/>

mod analysis;
mod avro;
mod bound;
mod cache;
mod changes;
mod columns;
mod expire;
mod hint;
mod inspect;
mod manifest;
mod manifest_list;
mod metadata;
mod puffin;
mod read;
mod references;
mod rules;
mod schema;
mod stage;
mod statistics;
mod transform;
mod updates;

pub use self::analysis::{Analyzed, ColumnSketch, SKETCH_BYTES, store_analysis};
pub use self::changes::{RowChange, changes};
pub use self::columns::{COMMENT_KEY, arrow_schema, field_id, replacement_schema, storable_schema};
pub use self::expire::Expiry;
pub use self::hint::{hinted_copy, publish_hint};
pub use self::inspect::Inspection;
pub use self::metadata::{PartitionSpec, TableMetadata, TableSnapshot};
pub use self::read::{files_of_other_specs, load, snapshot};
pub use self::references::References;
pub use self::rules::{Check, Key, Rules};
pub use self::schema::{Field, Nested, Primitive, Schema, Type};
pub use self::stage::{
    Change, Definition, Evolution, Exchange, Place, Removal, Staged, added, as_written, ensure_rebasable,
    stage,
};
pub use self::updates::{NewIcebergTable, Requirement, Update, apply_updates, begin as begin_table, verify};

#[cfg(test)]
mod tests;
