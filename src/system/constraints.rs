//! System tables about defaults and constraints.

use super::information::yes_or_no;
use super::listing::{Entry, Listing};
use super::rows::{Cell, Rows};
use super::source::{Context, PerRelation};
use crate::catalog::RelationDetail;
use crate::format::iceberg::{Check, Key, field_id};
use crate::function::oid;
use crate::function::quote_ident;

/// A constraint of a relation.
enum Constraint<'a> {
    Check(&'a Check),
    Key(&'a Key),
}

impl Constraint<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Check(check) => &check.name,
            Self::Key(key) => &key.name,
        }
    }

    /// `pg_constraint.contype`.
    fn letter(&self) -> char {
        match self {
            Self::Check(_) => 'c',
            Self::Key(key) if key.primary => 'p',
            Self::Key(_) => 'u',
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Check(_) => "CHECK",
            Self::Key(key) if key.primary => "PRIMARY KEY",
            Self::Key(_) => "UNIQUE",
        }
    }

    fn is_enforced(&self) -> bool {
        match self {
            Self::Check(_) => true,
            Self::Key(key) => key.enforced,
        }
    }

    fn definition(&self, detail: &RelationDetail) -> String {
        match self {
            Self::Check(check) => format!("CHECK ({})", check.sql),
            Self::Key(key) => {
                let names: Vec<String> =
                    columns_of(key, detail).into_iter().map(|(_, name)| quote_ident(name)).collect();
                format!("{} ({})", self.kind(), names.join(", "))
            }
        }
    }
}

fn constraints(detail: &RelationDetail) -> impl Iterator<Item = Constraint<'_>> {
    let checks = detail.rules.checks.iter().map(Constraint::Check);
    checks.chain(detail.rules.keys.iter().map(Constraint::Key))
}

/// The columns of a key, with their places counted from 1.
pub(super) fn columns_of<'a>(key: &Key, detail: &'a RelationDetail) -> Vec<(i64, &'a str)> {
    let columns = || (1_i64..).zip(detail.schema.fields());
    let find = |id: &i32| columns().find(|(_, field)| field_id(field) == Some(*id));
    key.columns.iter().filter_map(find).map(|(place, field)| (place, field.name().as_str())).collect()
}

/// The default of each column of a relation that has one: its place, counted from 1, and the expression.
pub(super) fn defaults(detail: &RelationDetail) -> impl Iterator<Item = (i64, &str)> {
    let columns = (1_i64..).zip(detail.schema.fields());
    columns.filter_map(|(place, field)| {
        let default = detail.rules.defaults.get(&field_id(field)?)?;
        Some((place, default.as_str()))
    })
}

pub(super) const DEFAULTS: PerRelation = PerRelation {
    keys: |_, entry| vec![("adrelid", entry.oid.into())],
    rows: |_, listing, entry, detail, rows| {
        for (place, default) in detail.into_iter().flat_map(defaults) {
            let number = place.to_string();
            rows.push([
                ("oid", oid::hashed(&path(listing, entry, "default", &number)).into()),
                ("adrelid", entry.oid.into()),
                ("adnum", place.into()),
                ("adbin", default.into()),
            ]);
        }
    },
    ..PerRelation::PLAIN
};

pub(super) const CONSTRAINTS: PerRelation = PerRelation {
    keys: |_, entry| vec![("conrelid", entry.oid.into()), ("connamespace", entry.namespace.into())],
    rows: |context, listing, entry, detail, rows| {
        let Some(detail) = detail else { return };
        for constraint in constraints(detail) {
            push(context, listing, (entry, detail), &constraint, rows);
        }
    },
    ..PerRelation::PLAIN
};

fn push(
    context: &Context,
    listing: &Listing,
    (entry, detail): (&Entry, &RelationDetail),
    constraint: &Constraint,
    rows: &mut Rows,
) {
    let oid = oid::hashed(&path(listing, entry, "constraint", constraint.name()));
    context.facts.note_constraint(oid, constraint.definition(detail));
    let (columns, condition) = match constraint {
        Constraint::Key(key) => {
            let places = columns_of(key, detail).into_iter().map(|(place, _)| place).collect();
            (Cell::Ints(places), Cell::Null)
        }
        Constraint::Check(check) => (Cell::Null, (&check.sql).into()),
    };
    let index = match constraint {
        Constraint::Key(key) => {
            let place = detail.rules.keys.iter().position(|one| one.name == key.name);
            place.and_then(|place| oid::of_index(entry.oid, place)).unwrap_or(0)
        }
        Constraint::Check(_) => 0,
    };
    rows.push([
        ("conindid", index.into()),
        ("oid", oid.into()),
        ("conname", constraint.name().into()),
        ("connamespace", entry.namespace.into()),
        ("contype", constraint.letter().into()),
        ("convalidated", constraint.is_enforced().into()),
        ("conrelid", entry.oid.into()),
        ("conislocal", true.into()),
        ("conkey", columns),
        ("conbin", condition),
    ]);
}

fn path<'a>(listing: &'a Listing, entry: &'a Entry, kind: &'a str, name: &'a str) -> [&'a str; 5] {
    [kind, &listing.database, &entry.relation.schema, &entry.relation.name, name]
}

/// What the views of the standard say of every constraint.
fn named(listing: &Listing, entry: &Entry, constraint: &Constraint) -> [(&'static str, Cell); 3] {
    [
        ("constraint_catalog", (&listing.database).into()),
        ("constraint_schema", (&entry.relation.schema).into()),
        ("constraint_name", constraint.name().into()),
    ]
}

fn of_table(listing: &Listing, entry: &Entry) -> [(&'static str, Cell); 3] {
    [
        ("table_catalog", (&listing.database).into()),
        ("table_schema", (&entry.relation.schema).into()),
        ("table_name", (&entry.relation.name).into()),
    ]
}

pub(super) const TABLE_CONSTRAINTS: PerRelation = PerRelation {
    keys: |listing, entry| of_table(listing, entry).into(),
    rows: |_, listing, entry, detail, rows| {
        for constraint in detail.into_iter().flat_map(constraints) {
            let mut cells: Vec<_> = of_table(listing, entry).into();
            cells.extend(named(listing, entry, &constraint));
            cells.extend([
                ("constraint_type", constraint.kind().into()),
                ("is_deferrable", yes_or_no(false)),
                ("initially_deferred", yes_or_no(false)),
                ("enforced", yes_or_no(constraint.is_enforced())),
            ]);
            rows.push_all(&cells);
        }
    },
    ..PerRelation::PLAIN
};

pub(super) const KEY_COLUMNS: PerRelation = PerRelation {
    keys: |listing, entry| of_table(listing, entry).into(),
    rows: |_, listing, entry, detail, rows| {
        let Some(detail) = detail else { return };
        for key in &detail.rules.keys {
            for (place, (_, column)) in (1_i64..).zip(columns_of(key, detail)) {
                let mut cells: Vec<_> = of_table(listing, entry).into();
                cells.extend(named(listing, entry, &Constraint::Key(key)));
                cells.extend([("column_name", column.into()), ("ordinal_position", place.into())]);
                rows.push_all(&cells);
            }
        }
    },
    ..PerRelation::PLAIN
};

/// Columns that keys are made of.
pub(super) const USED_COLUMNS: PerRelation = PerRelation {
    keys: |listing, entry| of_table(listing, entry).into(),
    rows: |_, listing, entry, detail, rows| {
        let Some(detail) = detail else { return };
        for key in &detail.rules.keys {
            for (_, column) in columns_of(key, detail) {
                let mut cells: Vec<_> = of_table(listing, entry).into();
                cells.extend(named(listing, entry, &Constraint::Key(key)));
                cells.push(("column_name", column.into()));
                rows.push_all(&cells);
            }
        }
    },
    ..PerRelation::PLAIN
};

/// Tables that keys belong to.
pub(super) const USED_TABLES: PerRelation = PerRelation {
    keys: |listing, entry| of_table(listing, entry).into(),
    rows: |_, listing, entry, detail, rows| {
        for key in detail.into_iter().flat_map(|detail| &detail.rules.keys) {
            let mut cells: Vec<_> = of_table(listing, entry).into();
            cells.extend(named(listing, entry, &Constraint::Key(key)));
            rows.push_all(&cells);
        }
    },
    ..PerRelation::PLAIN
};

pub(super) const CHECK_CONSTRAINTS: PerRelation = PerRelation {
    keys: |listing, entry| {
        vec![
            ("constraint_catalog", (&listing.database).into()),
            ("constraint_schema", (&entry.relation.schema).into()),
        ]
    },
    rows: |_, listing, entry, detail, rows| {
        for check in detail.into_iter().flat_map(|detail| &detail.rules.checks) {
            let mut cells: Vec<_> = named(listing, entry, &Constraint::Check(check)).into();
            cells.push(("check_clause", (&check.sql).into()));
            rows.push_all(&cells);
        }
    },
    ..PerRelation::PLAIN
};
