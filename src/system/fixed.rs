//! System tables that say nothing about a lake's tables: roles, types, settings, databases, ….

use super::listing::PG_CATALOG;
use super::rows::{Cell, Rows};
use super::source::Context;
use crate::function::oid::{self, OWNER, OWNER_NAME};
use crate::function::types::{self, PgType};

/// `pg_am` of what keys show as.
pub(super) const AM_BTREE: i64 = 403;
/// `pg_am` of tables that Lacus writes.
pub(super) const AM_ICEBERG: i64 = 9001;
/// `pg_am` of tables that it only reads.
pub(super) const AM_FILES: i64 = 9002;
const UTF8: i64 = 6;
const TABLESPACE_DEFAULT: i64 = 1663;
const TABLESPACE_GLOBAL: i64 = 1664;
pub(super) const LANGUAGE_INTERNAL: i64 = 12;

pub(super) fn access_methods(_: &Context, rows: &mut Rows) {
    for (oid, name, kind) in
        [(AM_BTREE, "btree", 'i'), (AM_ICEBERG, "iceberg", 't'), (AM_FILES, "files", 't')]
    {
        rows.push([("oid", oid.into()), ("amname", name.into()), ("amtype", kind.into())]);
    }
}

pub(super) fn collations(_: &Context, rows: &mut Rows) {
    for (oid, name, provider, collate) in
        [(100, "default", 'd', None), (950, "C", 'c', Some("C")), (951, "POSIX", 'c', Some("POSIX"))]
    {
        rows.push([
            ("oid", oid.into()),
            ("collname", name.into()),
            ("collnamespace", PG_CATALOG.into()),
            ("collowner", OWNER.into()),
            ("collprovider", provider.into()),
            ("collisdeterministic", true.into()),
            ("collencoding", (-1).into()),
            ("collcollate", collate.into()),
            ("collctype", collate.into()),
        ]);
    }
}

pub(super) fn databases(context: &Context, rows: &mut Rows) {
    for name in context.browse.catalogs() {
        rows.push([
            ("oid", oid::of_database(&name).into()),
            ("datname", name.into()),
            ("datdba", OWNER.into()),
            ("encoding", UTF8.into()),
            ("datlocprovider", 'c'.into()),
            ("datallowconn", true.into()),
            ("datconnlimit", (-1).into()),
            ("dattablespace", TABLESPACE_DEFAULT.into()),
            ("datcollate", "C".into()),
            ("datctype", "C".into()),
        ]);
    }
}

pub(super) fn languages(_: &Context, rows: &mut Rows) {
    rows.push([
        ("oid", LANGUAGE_INTERNAL.into()),
        ("lanname", "internal".into()),
        ("lanowner", OWNER.into()),
    ]);
}

/// The owner of everything and, if it is another, the user of this session.
fn role_names(context: &Context) -> Vec<&str> {
    let user = context.session.user.as_str();
    if user == OWNER_NAME { vec![OWNER_NAME] } else { vec![OWNER_NAME, user] }
}

pub(super) fn roles(context: &Context, rows: &mut Rows) {
    for name in role_names(context) {
        let owner = name == OWNER_NAME;
        rows.push([
            ("rolname", name.into()),
            ("rolsuper", owner.into()),
            ("rolinherit", true.into()),
            ("rolcreaterole", owner.into()),
            ("rolcreatedb", owner.into()),
            ("rolcanlogin", true.into()),
            ("rolreplication", false.into()),
            ("rolconnlimit", (-1).into()),
            ("rolpassword", "********".into()),
            ("rolbypassrls", owner.into()),
            ("oid", oid::of_role(name).into()),
        ]);
    }
}

pub(super) fn users(context: &Context, rows: &mut Rows) {
    for name in role_names(context) {
        let owner = name == OWNER_NAME;
        rows.push([
            ("usename", name.into()),
            ("usesysid", oid::of_role(name).into()),
            ("usecreatedb", owner.into()),
            ("usesuper", owner.into()),
            ("userepl", false.into()),
            ("usebypassrls", owner.into()),
            ("passwd", "********".into()),
        ]);
    }
}

pub(super) fn settings(context: &Context, rows: &mut Rows) {
    for one in context.session.settings.all() {
        rows.push([
            ("name", one.name.into()),
            ("setting", one.setting.into()),
            ("unit", one.unit.into()),
            ("category", one.category.into()),
            ("short_desc", one.short_desc.into()),
            ("context", one.context.into()),
            ("vartype", one.vartype.into()),
            ("source", one.source.into()),
            ("enumvals", one.enum_values.map_or(Cell::Null, Cell::Texts)),
            ("boot_val", one.boot_value.into()),
            ("reset_val", one.reset_value.into()),
            ("pending_restart", false.into()),
        ]);
    }
}

pub(super) fn tablespaces(_: &Context, rows: &mut Rows) {
    for (oid, name) in [(TABLESPACE_DEFAULT, "pg_default"), (TABLESPACE_GLOBAL, "pg_global")] {
        rows.push([("oid", oid.into()), ("spcname", name.into()), ("spcowner", OWNER.into())]);
    }
}

/// UTC alone: it is the zone of every timestamp that a lake stores. Others can be set all the same.
pub(super) fn time_zones(_: &Context, rows: &mut Rows) {
    rows.push([
        ("name", "UTC".into()),
        ("abbrev", "UTC".into()),
        ("utc_offset", "0 seconds".into()),
        ("is_dst", false.into()),
    ]);
}

pub(super) fn types(_: &Context, rows: &mut Rows) {
    for one in types::all() {
        base_type(one, rows);
        if one.array != 0 {
            array_type(one, rows);
        }
    }
}

fn base_type(one: &PgType, rows: &mut Rows) {
    rows.push([
        ("oid", one.oid.into()),
        ("typname", one.name.into()),
        ("typnamespace", PG_CATALOG.into()),
        ("typowner", OWNER.into()),
        ("typlen", one.length.into()),
        ("typbyval", one.by_value.into()),
        ("typtype", one.kind.into()),
        ("typcategory", one.category.into()),
        ("typispreferred", one.preferred.into()),
        ("typisdefined", true.into()),
        ("typdelim", ','.into()),
        ("typelem", one.element.into()),
        ("typarray", one.array.into()),
        ("typinput", one.input.into()),
        ("typoutput", one.output.into()),
        ("typreceive", sibling(one.input, "in", "recv").into()),
        ("typsend", sibling(one.output, "out", "send").into()),
        ("typalign", one.align.into()),
        ("typstorage", one.storage.into()),
        ("typtypmod", (-1).into()),
        ("typcollation", one.collation.into()),
    ]);
}

/// `int4in` is to `int4recv` as `int4out` is to `int4send`.
fn sibling(function: &str, ending: &str, other: &str) -> String {
    format!("{}{other}", function.strip_suffix(ending).unwrap_or(function))
}

fn array_type(element: &PgType, rows: &mut Rows) {
    let align = if element.align == "d" { 'd' } else { 'i' };
    rows.push([
        ("oid", element.array.into()),
        ("typname", format!("_{}", element.name).into()),
        ("typnamespace", PG_CATALOG.into()),
        ("typowner", OWNER.into()),
        ("typlen", (-1).into()),
        ("typtype", if element.kind == "p" { 'p' } else { 'b' }.into()),
        ("typcategory", 'A'.into()),
        ("typisdefined", true.into()),
        ("typdelim", ','.into()),
        ("typsubscript", "array_subscript_handler".into()),
        ("typelem", element.oid.into()),
        ("typinput", "array_in".into()),
        ("typoutput", "array_out".into()),
        ("typreceive", "array_recv".into()),
        ("typsend", "array_send".into()),
        ("typanalyze", "array_typanalyze".into()),
        ("typalign", align.into()),
        ("typstorage", 'x'.into()),
        ("typtypmod", (-1).into()),
        ("typcollation", element.collation.into()),
    ]);
}
