//! System tables about indexes: how PostgreSQL's clients find the keys of a table.
//!
//! Lacus keeps no index. A declared key shows as one, because that is where drivers look for primary
//! keys: a relation of kind `i` in `pg_class`, a row of `pg_index`, its columns in `pg_attribute`.

use super::constraints::columns_of;
use super::fixed::AM_BTREE;
use super::listing::Entry;
use super::rows::{Cell, Rows};
use super::source::{Context, IndexKeys, PerRelation};
use crate::catalog::{RelationDetail, RelationKind};
use crate::format::iceberg::Key;
use crate::function::oid::{self, OWNER};
use crate::function::{IndexName, quote_ident, types};

/// A declared key as an index.
pub(super) struct Index<'a> {
    pub oid: i64,
    pub key: &'a Key,
    /// The key's columns, with their places in the table counted from 1.
    pub columns: Vec<(i64, &'a str)>,
}

/// The indexes of a relation.
pub(super) fn of<'a>(entry: &Entry, detail: &'a RelationDetail) -> impl Iterator<Item = Index<'a>> {
    let relation = entry.oid;
    detail.rules.keys.iter().enumerate().filter_map(move |(place, key)| {
        Some(Index { oid: oid::of_index(relation, place)?, key, columns: columns_of(key, detail) })
    })
}

/// The oids that indexes of a relation may have, known before it is read.
pub(super) fn candidates(entry: &Entry) -> impl Iterator<Item = i64> {
    let may_have_keys = entry.relation.kind == RelationKind::Managed;
    let places = if may_have_keys { 0..oid::INDEXES_MAX as usize } else { 0..0 };
    let relation = entry.oid;
    places.filter_map(move |place| oid::of_index(relation, place))
}

impl Index<'_> {
    /// The statement that would make the index.
    fn definition(&self, entry: &Entry) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(_, name)| quote_ident(name)).collect();
        format!(
            "CREATE UNIQUE INDEX {} ON {}.{} USING btree ({})",
            quote_ident(&self.key.name),
            quote_ident(&entry.relation.schema),
            quote_ident(&entry.relation.name),
            columns.join(", ")
        )
    }

    /// Tells functions what they may be asked of the index.
    pub(super) fn note(&self, context: &Context, entry: &Entry) {
        context.facts.note_index(
            self.oid,
            IndexName {
                schema: entry.relation.schema.clone(),
                name: self.key.name.clone(),
                definition: self.definition(entry),
                columns: self.columns.iter().map(|(_, name)| quote_ident(name)).collect(),
            },
        );
    }
}

/// What is known of every index's row in `pg_class`.
fn class_key() -> Vec<(&'static str, Cell)> {
    vec![("relkind", 'i'.into()), ("relowner", OWNER.into()), ("relam", AM_BTREE.into())]
}

pub(super) const CLASS_KEYS: IndexKeys = IndexKeys { oid: "oid", same: class_key, alone: false };

/// Rows of `pg_class`.
pub(super) fn classes(context: &Context, entry: &Entry, detail: &RelationDetail, rows: &mut Rows) {
    for index in of(entry, detail) {
        index.note(context, entry);
        let mut cells = class_key();
        cells.extend([
            ("oid", index.oid.into()),
            ("relname", (&index.key.name).into()),
            ("relnamespace", entry.namespace.into()),
            ("relnatts", (index.columns.len() as i64).into()),
            ("relpersistence", if entry.is_temporary() { 't' } else { 'p' }.into()),
            ("reltuples", detail.row_count.map_or(-1.0, |rows| rows as f32).into()),
            ("relispopulated", true.into()),
            ("relreplident", 'n'.into()),
        ]);
        rows.push_all(&cells);
    }
}

pub(super) const ATTRIBUTE_KEYS: IndexKeys = IndexKeys { oid: "attrelid", same: Vec::new, alone: false };

pub(super) const INDEXES: PerRelation = PerRelation {
    keys: |_, entry| vec![("indrelid", entry.oid.into())],
    indexes: Some(IndexKeys { oid: "indexrelid", same: Vec::new, alone: true }),
    rows: |context, _, entry, detail, rows| {
        for index in detail.into_iter().flat_map(|detail| of(entry, detail)) {
            index.note(context, entry);
            push(entry, &index, detail.map(|detail| detail.schema.fields()), rows);
        }
    },
    ..PerRelation::PLAIN
};

fn push(entry: &Entry, index: &Index<'_>, fields: Option<&arrow::datatypes::Fields>, rows: &mut Rows) {
    let places: Vec<i64> = index.columns.iter().map(|(place, _)| *place).collect();
    let collation = |place: &i64| {
        let field = fields.and_then(|fields| fields.get(usize::try_from(place - 1).ok()?));
        field.map_or(0, |field| types::by_oid(types::of_field(field).0).map_or(0, |base| base.collation))
    };
    let none = vec![0; places.len()];
    rows.push([
        ("indexrelid", index.oid.into()),
        ("indrelid", entry.oid.into()),
        ("indnatts", (places.len() as i64).into()),
        ("indnkeyatts", (places.len() as i64).into()),
        ("indisunique", true.into()),
        ("indisprimary", index.key.primary.into()),
        ("indimmediate", true.into()),
        ("indisvalid", true.into()),
        ("indisready", true.into()),
        ("indislive", true.into()),
        ("indcollation", Cell::Ints(places.iter().map(collation).collect())),
        ("indclass", Cell::Ints(none.clone())),
        ("indoption", Cell::Ints(none)),
        ("indkey", Cell::Ints(places)),
    ]);
}

/// The view `pg_indexes`.
pub(super) const INDEX_NAMES: PerRelation = PerRelation {
    keys: |_, entry| {
        vec![("schemaname", (&entry.relation.schema).into()), ("tablename", (&entry.relation.name).into())]
    },
    rows: |_, _, entry, detail, rows| {
        for index in detail.into_iter().flat_map(|detail| of(entry, detail)) {
            rows.push([
                ("schemaname", (&entry.relation.schema).into()),
                ("tablename", (&entry.relation.name).into()),
                ("indexname", (&index.key.name).into()),
                ("indexdef", index.definition(entry).into()),
            ]);
        }
    },
    ..PerRelation::PLAIN
};
