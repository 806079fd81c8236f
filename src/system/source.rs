//! Sources: where the rows of each system table come from.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use super::definition::Definition;
use super::listing::{Entry, Listing};
use super::rows::{Cell, Rows};
use super::{activity, constraints, fixed, indexes, information, procedures, relations, statistics};
use crate::catalog::{Browse, RelationDetail};
use crate::function::{CatalogFacts, SessionFacts};

/// What the rows of one scan are made from.
#[derive(Debug)]
pub(super) struct Context {
    pub browse: Arc<dyn Browse>,
    pub session: Arc<SessionFacts>,
    /// The facts of the statement that the scan belongs to, where it notes what it reads.
    pub facts: Arc<CatalogFacts>,
    pub database: String,
    pub functions: Functions,
}

/// The functions that the session can call.
#[derive(Debug, Default)]
pub(super) struct Functions {
    pub scalar: Vec<Arc<ScalarUDF>>,
    pub aggregate: Vec<Arc<AggregateUDF>>,
    pub window: Vec<Arc<WindowUDF>>,
}

impl Functions {
    pub(super) fn of(state: &dyn Session) -> Self {
        Self {
            scalar: state.scalar_functions().values().cloned().collect(),
            aggregate: state.aggregate_functions().values().cloned().collect(),
            window: state.window_functions().values().cloned().collect(),
        }
    }
}

/// How a table gets its rows.
pub(super) enum Source {
    /// It lists what Lacus does not have.
    Empty,
    /// From the session and the daemon alone.
    Fixed(fn(&Context, &mut Rows)),
    /// From the names of the database.
    Names(fn(&Context, &Listing, &mut Rows)),
    /// One relation after another.
    Relations(PerRelation),
}

/// How a table gets the rows that each relation gives it.
pub(super) struct PerRelation {
    /// Rows that no relation gives.
    pub before: fn(&Listing, &mut Rows),
    /// Which columns are known of a relation's rows before it is read: a filter on them alone is
    /// answered first, and what it drops is never read.
    pub keys: fn(&Listing, &Entry) -> Vec<(&'static str, Cell)>,
    /// A column that counts the columns of a relation, from 1.
    pub ordinal: Option<&'static str>,
    /// What is known of the rows of a relation's indexes, where the table has such.
    pub indexes: Option<IndexKeys>,
    /// Whether these rows need the relations to be read.
    pub reads: fn(&Context, &Rows) -> bool,
    pub rows: fn(&Context, &Listing, &Entry, Option<&RelationDetail>, &mut Rows),
}

impl PerRelation {
    /// No rows at all, of relations that are all read: what most tables differ from in `keys` and `rows`.
    pub const PLAIN: Self = Self {
        before: |_, _| {},
        keys: |_, _| Vec::new(),
        ordinal: None,
        indexes: None,
        reads: |_, _| true,
        rows: |_, _, _, _, _| {},
    };
}

/// What is known of rows about an index before its relation is read.
pub(super) struct IndexKeys {
    /// The column that holds the index's oid.
    pub oid: &'static str,
    /// Columns that are the same for every index.
    pub same: fn() -> Vec<(&'static str, Cell)>,
    /// Whether there are no other rows.
    pub alone: bool,
}

/// Where the rows of a system table come from.
pub(super) fn of(definition: &Definition) -> Source {
    match (definition.schema_name, definition.name) {
        ("pg_catalog", "pg_am") => Source::Fixed(fixed::access_methods),
        ("pg_catalog", "pg_attrdef") => Source::Relations(constraints::DEFAULTS),
        ("pg_catalog", "pg_attribute") => Source::Relations(relations::ATTRIBUTES),
        ("pg_catalog", "pg_class") => Source::Relations(relations::CLASSES),
        ("pg_catalog", "pg_collation") => Source::Fixed(fixed::collations),
        ("pg_catalog", "pg_constraint") => Source::Relations(constraints::CONSTRAINTS),
        ("pg_catalog", "pg_cursors") => Source::Fixed(activity::cursors),
        ("pg_catalog", "pg_database") => Source::Fixed(fixed::databases),
        ("pg_catalog", "pg_description") => Source::Relations(relations::DESCRIPTIONS),
        ("pg_catalog", "pg_index") => Source::Relations(indexes::INDEXES),
        ("pg_catalog", "pg_indexes") => Source::Relations(indexes::INDEX_NAMES),
        ("pg_catalog", "pg_language") => Source::Fixed(fixed::languages),
        ("pg_catalog", "pg_locks") => Source::Fixed(activity::locks),
        ("pg_catalog", "pg_matviews") => Source::Names(relations::materialized_views),
        ("pg_catalog", "pg_namespace") => Source::Names(relations::namespaces),
        ("pg_catalog", "pg_prepared_statements") => Source::Fixed(activity::statements),
        ("pg_catalog", "pg_proc") => Source::Fixed(procedures::rows),
        ("pg_catalog", "pg_authid") => Source::Fixed(fixed::roles),
        ("pg_catalog", "pg_roles") => Source::Fixed(fixed::roles),
        ("pg_catalog", "pg_settings") => Source::Fixed(fixed::settings),
        ("pg_catalog", "pg_stat_activity") => Source::Fixed(activity::sessions),
        ("pg_catalog", "pg_stat_all_tables") => Source::Relations(statistics::ALL_TABLES),
        ("pg_catalog", "pg_stat_database") => Source::Fixed(statistics::databases),
        ("pg_catalog", "pg_stat_sys_tables") => Source::Relations(statistics::SYSTEM_TABLES),
        ("pg_catalog", "pg_stat_user_tables") => Source::Relations(statistics::USER_TABLES),
        ("pg_catalog", "pg_stats") => Source::Relations(relations::STATISTICS),
        ("pg_catalog", "pg_tables") => Source::Names(relations::tables),
        ("pg_catalog", "pg_tablespace") => Source::Fixed(fixed::tablespaces),
        ("pg_catalog", "pg_type") => Source::Fixed(fixed::types),
        ("pg_catalog", "pg_shadow") => Source::Fixed(fixed::users),
        ("pg_catalog", "pg_timezone_names") => Source::Fixed(fixed::time_zones),
        ("pg_catalog", "pg_user") => Source::Fixed(fixed::users),
        ("pg_catalog", "pg_views") => Source::Names(relations::views),
        ("information_schema", "character_sets") => Source::Fixed(information::character_sets),
        ("information_schema", "check_constraints") => Source::Relations(constraints::CHECK_CONSTRAINTS),
        ("information_schema", "collations") => Source::Fixed(information::collations),
        ("information_schema", "columns") => Source::Relations(information::COLUMNS),
        ("information_schema", "constraint_column_usage") => Source::Relations(constraints::USED_COLUMNS),
        ("information_schema", "constraint_table_usage") => Source::Relations(constraints::USED_TABLES),
        ("information_schema", "enabled_roles") => Source::Fixed(information::enabled_roles),
        ("information_schema", "information_schema_catalog_name") => Source::Fixed(information::catalog_name),
        ("information_schema", "key_column_usage") => Source::Relations(constraints::KEY_COLUMNS),
        ("information_schema", "schemata") => Source::Names(information::schemata),
        ("information_schema", "table_constraints") => Source::Relations(constraints::TABLE_CONSTRAINTS),
        ("information_schema", "tables") => Source::Names(information::tables),
        ("information_schema", "views") => Source::Names(information::views),
        _ => Source::Empty,
    }
}
