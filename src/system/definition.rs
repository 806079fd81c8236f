//! Definitions: the relations of `pg_catalog` and `information_schema`, with their columns.
//!
//! They are PostgreSQL 15's own, compiled in as two text files, so that a client finds every column
//! that it asks for. Whether a relation has rows in Lacus is not said here.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef, TimeUnit};

use crate::function::types::PG_TYPE;

/// A relation of a system schema.
#[derive(Debug)]
pub(super) struct Definition {
    pub schema_name: &'static str,
    pub name: &'static str,
    pub oid: i64,
    /// `r` or `v`, as `pg_class.relkind`.
    pub kind: char,
    /// Each field names its PostgreSQL type under [`PG_TYPE`].
    pub schema: SchemaRef,
}

/// The relations of a system schema; none for any other name.
pub(super) fn of_schema(schema: &str) -> &'static [Definition] {
    match schema {
        "pg_catalog" => &PG_CATALOG,
        "information_schema" => &INFORMATION_SCHEMA,
        _ => &[],
    }
}

pub(super) fn find(schema: &str, name: &str) -> Option<&'static Definition> {
    let index = BY_NAME.get(schema)?.get(name)?;
    of_schema(schema).get(*index)
}

static PG_CATALOG: LazyLock<Vec<Definition>> =
    LazyLock::new(|| parse("pg_catalog", include_str!("data/pg_catalog.txt")));
static INFORMATION_SCHEMA: LazyLock<Vec<Definition>> =
    LazyLock::new(|| parse("information_schema", include_str!("data/information_schema.txt")));

static BY_NAME: LazyLock<HashMap<&'static str, HashMap<&'static str, usize>>> = LazyLock::new(|| {
    let indexed =
        |schema| of_schema(schema).iter().enumerate().map(|(index, one)| (one.name, index)).collect();
    ["pg_catalog", "information_schema"].into_iter().map(|schema| (schema, indexed(schema))).collect()
});

fn parse(schema_name: &'static str, text: &'static str) -> Vec<Definition> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| definition(schema_name, line)).collect()
}

fn definition(schema_name: &'static str, line: &'static str) -> Definition {
    let mut words = line.split(' ');
    let mut word = || words.next().expect("name, oid and kind stand at the front of a definition");
    let (name, oid, kind) = (word(), word(), word());
    Definition {
        schema_name,
        name,
        oid: oid.parse().expect("the oid of a definition is a number"),
        kind: if kind == "v" { 'v' } else { 'r' },
        schema: Arc::new(Schema::new(words.map(field).collect::<Vec<_>>())),
    }
}

/// `relname:name!`: a column of type `name`, never null.
fn field(word: &'static str) -> Field {
    let (name, pg_type) = word.split_once(':').expect("a column is written as name:type");
    let (pg_type, nullable) = match pg_type.strip_suffix('!') {
        Some(pg_type) => (pg_type, false),
        None => (pg_type, true),
    };
    Field::new(name, arrow_type(pg_type), nullable)
        .with_metadata([(PG_TYPE.to_owned(), pg_type.to_owned())].into())
}

fn arrow_type(pg_type: &str) -> DataType {
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
    match pg_type {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" | "oid" | "xid" | "regtype" | "regproc" | "regclass" => DataType::Int64,
        "float4" => DataType::Float32,
        "bytea" => DataType::Binary,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "interval" => DataType::Interval(IntervalUnit::MonthDayNano),
        "int2vector" | "_int2" => list(DataType::Int16),
        "oidvector" | "_oid" => list(DataType::Int64),
        "_float4" => list(DataType::Float32),
        "_text" | "_name" | "_char" | "_aclitem" | "_regtype" => list(DataType::Utf8),
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::types;

    #[test]
    fn every_column_has_a_known_type() {
        let all = of_schema("pg_catalog").iter().chain(of_schema("information_schema"));
        for (definition, field) in
            all.flat_map(|one| one.schema.fields().iter().map(move |field| (one, field)))
        {
            let (oid, _) = types::of_field(field);
            let named = &field.metadata()[PG_TYPE];
            assert!(types::oid_of(named) == Some(oid), "{}.{}: {named}", definition.name, field.name());
        }
    }

    #[test]
    fn pg_class_is_that_of_postgres() {
        let pg_class = find("pg_catalog", "pg_class").unwrap();
        assert_eq!((pg_class.oid, pg_class.kind, pg_class.schema.fields().len()), (1259, 'r', 33));
        assert_eq!(find("pg_catalog", "tables").map(|one| one.name), None);
    }
}
