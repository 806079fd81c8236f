//! The `information_schema`: the SQL standard's view of the same things.

use arrow::datatypes::Field;

use super::constraints;
use super::listing::{Entry, Listing};
use super::rows::{Cell, Rows};
use super::source::{Context, PerRelation};
use crate::catalog::{RelationDetail, RelationKind};
use crate::function::oid::OWNER_NAME;
use crate::function::types;

pub(super) fn yes_or_no(value: bool) -> Cell {
    if value { "YES" } else { "NO" }.into()
}

pub(super) fn catalog_name(context: &Context, rows: &mut Rows) {
    rows.push([("catalog_name", (&context.database).into())]);
}

pub(super) fn enabled_roles(context: &Context, rows: &mut Rows) {
    rows.push([("role_name", (&context.session.user).into())]);
}

pub(super) fn character_sets(context: &Context, rows: &mut Rows) {
    rows.push([
        ("character_set_name", "UTF8".into()),
        ("character_repertoire", "UCS".into()),
        ("form_of_use", "UTF8".into()),
        ("default_collate_catalog", (&context.database).into()),
        ("default_collate_schema", "pg_catalog".into()),
        ("default_collate_name", "C".into()),
    ]);
}

pub(super) fn collations(context: &Context, rows: &mut Rows) {
    for name in ["default", "C", "POSIX"] {
        rows.push([
            ("collation_catalog", (&context.database).into()),
            ("collation_schema", "pg_catalog".into()),
            ("collation_name", name.into()),
            ("pad_attribute", "NO PAD".into()),
        ]);
    }
}

pub(super) fn schemata(_: &Context, listing: &Listing, rows: &mut Rows) {
    for namespace in &listing.namespaces {
        rows.push([
            ("catalog_name", (&listing.database).into()),
            ("schema_name", (&namespace.name).into()),
            ("schema_owner", OWNER_NAME.into()),
        ]);
    }
}

pub(super) fn tables(_: &Context, listing: &Listing, rows: &mut Rows) {
    for entry in listing.entries.iter().filter(|entry| entry.kind() != 'm') {
        let table_type = match entry.kind() {
            'v' => "VIEW",
            _ if entry.is_temporary() => "LOCAL TEMPORARY",
            _ => "BASE TABLE",
        };
        rows.push([
            ("table_catalog", (&listing.database).into()),
            ("table_schema", (&entry.relation.schema).into()),
            ("table_name", (&entry.relation.name).into()),
            ("table_type", table_type.into()),
            ("is_insertable_into", yes_or_no(is_writable(entry))),
            ("is_typed", yes_or_no(false)),
        ]);
    }
}

fn is_writable(entry: &Entry) -> bool {
    entry.relation.kind == RelationKind::Managed
}

pub(super) fn views(_: &Context, listing: &Listing, rows: &mut Rows) {
    for entry in listing.entries.iter().filter(|entry| entry.kind() == 'v') {
        rows.push([
            ("table_catalog", (&listing.database).into()),
            ("table_schema", (&entry.relation.schema).into()),
            ("table_name", (&entry.relation.name).into()),
            ("view_definition", entry.relation.view_sql.clone().into()),
            ("check_option", "NONE".into()),
            ("is_updatable", yes_or_no(false)),
            ("is_insertable_into", yes_or_no(false)),
            ("is_trigger_updatable", yes_or_no(false)),
            ("is_trigger_deletable", yes_or_no(false)),
            ("is_trigger_insertable_into", yes_or_no(false)),
        ]);
    }
}

pub(super) const COLUMNS: PerRelation = PerRelation {
    keys: |listing, entry| {
        vec![
            ("table_catalog", (&listing.database).into()),
            ("table_schema", (&entry.relation.schema).into()),
            ("table_name", (&entry.relation.name).into()),
        ]
    },
    ordinal: Some("ordinal_position"),
    rows: |_, listing, entry, detail, rows| columns(listing, entry, detail, rows),
    ..PerRelation::PLAIN
};

fn columns(listing: &Listing, entry: &Entry, detail: Option<&RelationDetail>, rows: &mut Rows) {
    let fields = detail.map(|detail| detail.schema.fields().as_ref()).unwrap_or_default();
    let defaults: Vec<(i64, &str)> = detail.into_iter().flat_map(constraints::defaults).collect();
    for (number, field) in (1_i64..).zip(fields) {
        let default = defaults.iter().find(|(at, _)| *at == number).map(|(_, default)| *default);
        column(listing, entry, (number, default), field, rows);
    }
}

fn column(
    listing: &Listing,
    entry: &Entry,
    (number, default): (i64, Option<&str>),
    field: &Field,
    rows: &mut Rows,
) {
    let (oid, modifier) = types::of_field(field);
    let (precision, radix, scale) = numbers(oid, modifier);
    let element = types::all().iter().find(|one| one.array == oid);
    let data_type = if element.is_some() { "ARRAY".to_owned() } else { types::format_type(oid, None) };
    let udt = match (types::by_oid(oid), element) {
        (Some(base), _) => base.name.to_owned(),
        (None, Some(element)) => format!("_{}", element.name),
        (None, None) => data_type.clone(),
    };
    rows.push([
        ("table_catalog", (&listing.database).into()),
        ("table_schema", (&entry.relation.schema).into()),
        ("table_name", (&entry.relation.name).into()),
        ("column_name", field.name().into()),
        ("ordinal_position", number.into()),
        ("column_default", default.into()),
        ("is_nullable", yes_or_no(field.is_nullable())),
        ("data_type", data_type.into()),
        ("character_octet_length", matches!(udt.as_str(), "text" | "varchar").then_some(1 << 30).into()),
        ("numeric_precision", precision.into()),
        ("numeric_precision_radix", radix.into()),
        ("numeric_scale", scale.into()),
        ("datetime_precision", datetime_precision(&udt).into()),
        ("udt_catalog", (&listing.database).into()),
        ("udt_schema", "pg_catalog".into()),
        ("udt_name", udt.into()),
        ("dtd_identifier", number.to_string().into()),
        ("is_self_referencing", yes_or_no(false)),
        ("is_identity", yes_or_no(false)),
        ("identity_cycle", yes_or_no(false)),
        ("is_generated", "NEVER".into()),
        ("is_updatable", yes_or_no(is_writable(entry))),
    ]);
}

/// Precision, its radix, and scale of a number type.
fn numbers(oid: i64, modifier: i64) -> (Option<i64>, Option<i64>, Option<i64>) {
    match types::by_oid(oid).map(|one| one.name) {
        Some("int2") => (Some(16), Some(2), Some(0)),
        Some("int4") => (Some(32), Some(2), Some(0)),
        Some("int8") => (Some(64), Some(2), Some(0)),
        Some("float4") => (Some(24), Some(2), None),
        Some("float8") => (Some(53), Some(2), None),
        Some("numeric") if modifier >= 4 => {
            (Some((modifier - 4) >> 16), Some(10), Some((((modifier - 4) & 0x7ff) ^ 1024) - 1024))
        }
        Some("numeric") => (None, Some(10), None),
        _ => (None, None, None),
    }
}

/// Digits of a second that values keep: microseconds travel on the wire.
fn datetime_precision(udt: &str) -> Option<i64> {
    match udt {
        "date" => Some(0),
        "time" | "timetz" | "timestamp" | "timestamptz" | "interval" => Some(6),
        _ => None,
    }
}
