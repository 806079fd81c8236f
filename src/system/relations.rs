//! System tables about schemas, relations and columns.

use arrow::datatypes::Field;

use super::constraints;
use super::fixed::{AM_FILES, AM_ICEBERG};
use super::indexes;
use super::listing::{Entry, Listing};
use super::rows::{Cell, Rows};
use super::source::{Context, PerRelation};
use crate::catalog::{RelationDetail, RelationKind};
use crate::function::oid::{OWNER, OWNER_NAME};
use crate::function::types;

const PG_CLASS: i64 = 1259;
const PG_NAMESPACE: i64 = 2615;

/// Key of a field's metadata that holds the column's comment.
const COMMENT: &str = "comment";

pub(super) const CLASSES: PerRelation = PerRelation {
    keys: |_, entry| class_key(entry).into(),
    indexes: Some(indexes::CLASS_KEYS),
    reads: |context, rows| {
        let figures = ["relpages", "reltuples", "relnatts", "relchecks", "relhasindex", "reloptions"];
        context.facts.sizes_wanted || figures.iter().any(|column| rows.wants(column))
    },
    rows: class,
    ..PerRelation::PLAIN
};

fn class_key(entry: &Entry) -> [(&'static str, Cell); 5] {
    [
        ("oid", entry.oid.into()),
        ("relname", (&entry.relation.name).into()),
        ("relnamespace", entry.namespace.into()),
        ("relkind", entry.kind().into()),
        ("relowner", OWNER.into()),
    ]
}

fn class(context: &Context, _: &Listing, entry: &Entry, detail: Option<&RelationDetail>, rows: &mut Rows) {
    if context.facts.sizes_wanted {
        context.facts.note_size(entry.oid, detail.and_then(|detail| detail.size_bytes));
    }
    if let Some(detail) = detail {
        indexes::classes(context, entry, detail, rows);
    }
    let row_count = detail.and_then(|detail| detail.row_count);
    let size_bytes = detail.and_then(|detail| detail.size_bytes);
    let [oid, name, namespace, kind, owner] = class_key(entry);
    rows.push([
        oid,
        name,
        namespace,
        kind,
        owner,
        ("relam", access_method(entry).into()),
        ("relpages", size_bytes.map(pages).into()),
        // As for a table that was never analyzed.
        ("reltuples", row_count.map_or(-1.0, |rows| rows as f32).into()),
        ("relhasindex", detail.is_some_and(|detail| !detail.rules.keys.is_empty()).into()),
        ("relpersistence", if entry.is_temporary() { 't' } else { 'p' }.into()),
        ("relnatts", detail.map(|detail| detail.schema.fields().len() as i64).into()),
        ("relchecks", detail.map_or(0, |detail| detail.rules.checks.len() as i64).into()),
        // PostgreSQL keeps a view's query as a rule; psql prints the definition where there is one.
        ("relhasrules", matches!(entry.kind(), 'v' | 'm').into()),
        ("relispopulated", (entry.relation.kind != RelationKind::Materialized { populated: false }).into()),
        ("relreplident", if entry.definition.is_some() { 'n' } else { 'd' }.into()),
        ("reloptions", detail.map_or(Cell::Null, |detail| options(entry, detail))),
    ]);
}

fn access_method(entry: &Entry) -> i64 {
    match entry.relation.kind {
        RelationKind::Managed | RelationKind::Materialized { .. } => AM_ICEBERG,
        RelationKind::External => AM_FILES,
        RelationKind::View | RelationKind::System => 0,
    }
}

/// Pages of 8 KiB, as a planner of a client would count them.
fn pages(size_bytes: u64) -> i64 {
    i64::from(i32::try_from(size_bytes.div_ceil(8192)).unwrap_or(i32::MAX))
}

/// What psql prints under "Options" of `\d+`: where and how the table is stored.
fn options(entry: &Entry, detail: &RelationDetail) -> Cell {
    if !matches!(entry.kind(), 'r' | 'm') || entry.definition.is_some() {
        return Cell::Null;
    }
    let mut options = vec![format!("format={}", detail.format)];
    options.extend(detail.location.iter().map(|location| format!("location={location}")));
    if !detail.partitioned_by.is_empty() {
        options.push(format!("partitioned_by={}", detail.partitioned_by.join(", ")));
    }
    Cell::Texts(options)
}

pub(super) const ATTRIBUTES: PerRelation = PerRelation {
    keys: |_, entry| vec![("attrelid", entry.oid.into())],
    ordinal: Some("attnum"),
    indexes: Some(indexes::ATTRIBUTE_KEYS),
    rows: attributes,
    ..PerRelation::PLAIN
};

fn attributes(
    context: &Context,
    _: &Listing,
    entry: &Entry,
    detail: Option<&RelationDetail>,
    rows: &mut Rows,
) {
    let fields = detail.map(|detail| detail.schema.fields().as_ref()).unwrap_or_default();
    context.facts.note_column_comments(entry.oid, fields.iter().map(|field| comment(field)).collect());
    let defaults: Vec<i64> = detail.into_iter().flat_map(constraints::defaults).map(|(at, _)| at).collect();
    for (number, field) in (1_i64..).zip(fields) {
        attribute(entry.oid, (number, defaults.contains(&number)), field, rows);
    }
    for index in detail.into_iter().flat_map(|detail| indexes::of(entry, detail)) {
        index.note(context, entry);
        for (number, (place, _)) in (1_i64..).zip(&index.columns) {
            if let Some(field) = usize::try_from(place - 1).ok().and_then(|at| fields.get(at)) {
                let field = field.as_ref().clone().with_nullable(true);
                attribute(index.oid, (number, false), &field, rows);
            }
        }
    }
}

fn attribute(relation: i64, (number, has_default): (i64, bool), field: &Field, rows: &mut Rows) {
    let (oid, modifier) = types::of_field(field);
    let base = types::by_oid(oid);
    rows.push([
        ("attrelid", relation.into()),
        ("attname", field.name().into()),
        ("atttypid", oid.into()),
        ("attstattarget", (-1).into()),
        ("attlen", base.map_or(-1, |base| base.length).into()),
        ("attnum", number.into()),
        ("attndims", i64::from(base.is_none()).into()),
        ("attcacheoff", (-1).into()),
        ("atttypmod", modifier.into()),
        ("attbyval", base.is_some_and(|base| base.by_value).into()),
        ("attalign", base.map_or("i", |base| base.align).into()),
        ("attstorage", base.map_or("x", |base| base.storage).into()),
        ("attnotnull", (!field.is_nullable()).into()),
        ("atthasdef", has_default.into()),
        ("attislocal", true.into()),
        ("attcollation", base.map_or(0, |base| base.collation).into()),
    ]);
}

fn comment(field: &Field) -> Option<String> {
    field.metadata().get(COMMENT).cloned()
}

/// Rows of columns that were analyzed; PostgreSQL's lists of common values are not kept.
pub(super) const STATISTICS: PerRelation = PerRelation {
    keys: |_, entry| {
        vec![("schemaname", (&entry.relation.schema).into()), ("tablename", (&entry.relation.name).into())]
    },
    rows: |_, _, entry, detail, rows| {
        for (column, known) in detail.iter().flat_map(|detail| &detail.analyzed) {
            let row_count = detail.and_then(|detail| detail.row_count);
            rows.push([
                ("schemaname", (&entry.relation.schema).into()),
                ("tablename", (&entry.relation.name).into()),
                ("attname", column.into()),
                ("inherited", false.into()),
                ("null_frac", known.null_fraction.map(|share| share as f32).into()),
                ("avg_width", known.average_bytes.map(|bytes| bytes.round() as i64).into()),
                ("n_distinct", distinct(known.distinct, row_count).into()),
            ]);
        }
    },
    ..PerRelation::PLAIN
};

/// The number of distinct values as PostgreSQL keeps it: a share of the rows, negative, when it grows
/// with them.
fn distinct(distinct: u64, row_count: Option<u64>) -> f32 {
    match row_count {
        Some(rows) if distinct as f64 > rows as f64 * 0.1 => -(distinct as f32 / rows as f32).min(1.0),
        _ => distinct as f32,
    }
}

pub(super) const DESCRIPTIONS: PerRelation = PerRelation {
    before: |listing, rows| {
        for namespace in &listing.namespaces {
            describe(namespace.oid, PG_NAMESPACE, 0, namespace.comment.as_deref(), rows);
        }
        for entry in &listing.entries {
            describe(entry.oid, PG_CLASS, 0, entry.relation.comment.as_deref(), rows);
        }
    },
    keys: |_, entry| vec![("objoid", entry.oid.into()), ("classoid", PG_CLASS.into())],
    ordinal: Some("objsubid"),
    rows: |_, _, entry, detail, rows| {
        let fields = detail.map(|detail| detail.schema.fields().as_ref()).unwrap_or_default();
        for (number, field) in (1_i64..).zip(fields) {
            describe(entry.oid, PG_CLASS, number, comment(field).as_deref(), rows);
        }
    },
    ..PerRelation::PLAIN
};

fn describe(object: i64, class: i64, column: i64, comment: Option<&str>, rows: &mut Rows) {
    if let Some(comment) = comment {
        rows.push([
            ("objoid", object.into()),
            ("classoid", class.into()),
            ("objsubid", column.into()),
            ("description", comment.into()),
        ]);
    }
}

pub(super) fn namespaces(_: &Context, listing: &Listing, rows: &mut Rows) {
    for namespace in &listing.namespaces {
        rows.push([
            ("oid", namespace.oid.into()),
            ("nspname", (&namespace.name).into()),
            ("nspowner", OWNER.into()),
        ]);
    }
}

pub(super) fn tables(_: &Context, listing: &Listing, rows: &mut Rows) {
    for entry in listing.entries.iter().filter(|entry| entry.kind() == 'r') {
        rows.push([
            ("schemaname", (&entry.relation.schema).into()),
            ("tablename", (&entry.relation.name).into()),
            ("tableowner", OWNER_NAME.into()),
            ("hasindexes", false.into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ]);
    }
}

pub(super) fn views(_: &Context, listing: &Listing, rows: &mut Rows) {
    for entry in listing.entries.iter().filter(|entry| entry.kind() == 'v') {
        rows.push([
            ("schemaname", (&entry.relation.schema).into()),
            ("viewname", (&entry.relation.name).into()),
            ("viewowner", OWNER_NAME.into()),
            ("definition", entry.relation.view_sql.clone().into()),
        ]);
    }
}

pub(super) fn materialized_views(_: &Context, listing: &Listing, rows: &mut Rows) {
    for entry in &listing.entries {
        let RelationKind::Materialized { populated } = entry.relation.kind else { continue };
        rows.push([
            ("schemaname", (&entry.relation.schema).into()),
            ("matviewname", (&entry.relation.name).into()),
            ("matviewowner", OWNER_NAME.into()),
            ("hasindexes", false.into()),
            ("ispopulated", populated.into()),
            ("definition", entry.relation.view_sql.clone().into()),
        ]);
    }
}
