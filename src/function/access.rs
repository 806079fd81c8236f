//! Questions about privileges.
//!
//! Lacus has no grants yet: whoever is connected may use everything that can be named, and the
//! functions say so. What a relation itself refuses (a discovered table is read-only) is no matter
//! of privileges, in PostgreSQL neither.

use arrow::datatypes::DataType;

use super::row::RowFunction;

const GRANTED: [&str; 11] = [
    "has_any_column_privilege",
    "has_column_privilege",
    "has_database_privilege",
    "has_foreign_data_wrapper_privilege",
    "has_function_privilege",
    "has_language_privilege",
    "has_schema_privilege",
    "has_sequence_privilege",
    "has_server_privilege",
    "has_table_privilege",
    "has_type_privilege",
];

pub(super) fn functions() -> Vec<RowFunction> {
    let yes = |name| RowFunction::new(name, 2..=4, DataType::Boolean, |_| Ok(true.into()));
    let mut all: Vec<RowFunction> = GRANTED.into_iter().map(yes).collect();
    all.push(yes("has_tablespace_privilege"));
    all.push(yes("pg_has_role"));
    all.push(RowFunction::new("row_security_active", 1..=1, DataType::Boolean, |_| Ok(false.into())));
    all
}
