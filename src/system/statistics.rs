//! System tables that PostgreSQL's statistics collector fills: rows of tables, connections of databases.

use super::listing::Entry;
use super::rows::{Cell, Rows};
use super::source::{Context, PerRelation};
use crate::catalog::RelationDetail;
use crate::function::oid;

type Names = [(&'static str, Cell); 3];

fn names(entry: &Entry) -> Names {
    [
        ("relid", entry.oid.into()),
        ("schemaname", (&entry.relation.schema).into()),
        ("relname", (&entry.relation.name).into()),
    ]
}

/// `pg_stat_all_tables`: what is known of each table without counting what was done to it.
pub(super) const ALL_TABLES: PerRelation = PerRelation {
    keys: |_, entry| names(entry).into(),
    reads: |_, rows| rows.wants("n_live_tup"),
    rows: |_, _, entry, detail, rows| table(entry, detail, rows),
    ..PerRelation::PLAIN
};

pub(super) const USER_TABLES: PerRelation = PerRelation {
    keys: |_, entry| names(entry).into(),
    reads: |_, rows| rows.wants("n_live_tup"),
    rows: |_, _, entry, detail, rows| {
        if entry.definition.is_none() {
            table(entry, detail, rows);
        }
    },
    ..PerRelation::PLAIN
};

pub(super) const SYSTEM_TABLES: PerRelation = PerRelation {
    keys: |_, entry| names(entry).into(),
    reads: |_, _| false,
    rows: |_, _, entry, detail, rows| {
        if entry.definition.is_some() {
            table(entry, detail, rows);
        }
    },
    ..PerRelation::PLAIN
};

fn table(entry: &Entry, detail: Option<&RelationDetail>, rows: &mut Rows) {
    if !matches!(entry.kind(), 'r' | 'm') {
        return;
    }
    let row_count = detail.and_then(|detail| detail.row_count);
    let live = row_count.map_or(0, |count| i64::try_from(count).unwrap_or(i64::MAX));
    let mut cells: Vec<(&'static str, Cell)> = names(entry).into();
    cells.push(("n_live_tup", live.into()));
    // What nobody counts is 0, as after a reset of the statistics.
    for counted in ["seq_scan", "seq_tup_read", "n_tup_ins", "n_tup_upd", "n_tup_del", "n_tup_hot_upd"] {
        cells.push((counted, 0.into()));
    }
    for counted in ["n_dead_tup", "n_mod_since_analyze", "n_ins_since_vacuum"] {
        cells.push((counted, 0.into()));
    }
    for counted in ["vacuum_count", "autovacuum_count", "analyze_count", "autoanalyze_count"] {
        cells.push((counted, 0.into()));
    }
    rows.push_all(&cells);
}

/// `pg_stat_database`: how many are connected to each database.
pub(super) fn databases(context: &Context, rows: &mut Rows) {
    let sessions = context.session.sessions.list();
    for name in context.browse.catalogs() {
        let connected = sessions.iter().filter(|one| one.catalog == name).count();
        let mut cells: Vec<(&'static str, Cell)> = vec![
            ("datid", oid::of_database(&name).into()),
            ("datname", name.into()),
            ("numbackends", i64::try_from(connected).unwrap_or(i64::MAX).into()),
        ];
        for counted in
            ["xact_commit", "xact_rollback", "blks_read", "blks_hit", "tup_returned", "tup_fetched"]
        {
            cells.push((counted, 0.into()));
        }
        for counted in [
            "tup_inserted",
            "tup_updated",
            "tup_deleted",
            "conflicts",
            "temp_files",
            "temp_bytes",
            "deadlocks",
        ] {
            cells.push((counted, 0.into()));
        }
        rows.push_all(&cells);
    }
}
