//! Functions that answer about things in the catalog: visibility, comments, definitions, sizes, names.
//!
//! They look into the [`CatalogFacts`] of the running statement.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};

use super::row::{RowFunction, Values, utf8};
use super::text::quote_ident;
use super::{CatalogFacts, FunctionName, RelationName, SessionFacts, oid};
use crate::error::Error;

/// Functions that need the facts of the statement about names. The others of this module do not.
pub const ABOUT_NAMES: [&str; 12] = [
    "current_schema",
    "current_schemas",
    "pg_table_is_visible",
    "obj_description",
    "col_description",
    "pg_get_viewdef",
    "to_regclass",
    "to_regnamespace",
    "regclassin",
    "regclassout",
    "regnamespacein",
    "regnamespaceout",
];

/// Functions that need the sizes of relations.
pub const ABOUT_SIZES: [&str; 3] = ["pg_relation_size", "pg_table_size", "pg_total_relation_size"];

pub(super) fn functions(facts: &Arc<SessionFacts>) -> Vec<RowFunction> {
    [visibility(facts), comments(facts), definitions(facts), sizes(facts), names(facts)]
        .into_iter()
        .flatten()
        .collect()
}

/// A function of the facts and the values of one row.
pub(super) fn with<F>(
    session: &Arc<SessionFacts>,
    name: &'static str,
    count: std::ops::RangeInclusive<usize>,
    returns: DataType,
    body: F,
) -> RowFunction
where
    F: Fn(&SessionFacts, &Values<'_>) -> Result<ScalarValue> + Send + Sync + 'static,
{
    let session = Arc::clone(session);
    RowFunction::new(name, count, returns, move |values| body(&session, values))
}

pub(super) fn or_null(text: Option<impl Into<String>>) -> Result<ScalarValue> {
    Ok(text.map_or(ScalarValue::Null, utf8))
}

fn visibility(session: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let table = with(session, "pg_table_is_visible", 1..=1, DataType::Boolean, |session, values| {
        let catalog = session.catalog();
        let Some(oid) = values.integer(0) else { return Ok(ScalarValue::Null) };
        let Some(relation) = catalog.relation(oid) else {
            // An index is found where its table's schema is searched.
            let table = oid::of_indexed(oid).and_then(|table| catalog.relation(table));
            return Ok(table
                .map_or(ScalarValue::Null, |table| session.effective_path().contains(&table.schema).into()));
        };
        let found = catalog.resolve(None, &relation.name, &session.effective_path());
        Ok(found.is_some_and(|found| found.oid == relation.oid).into())
    });
    // Types, functions and the rest live in pg_catalog alone, which every path includes.
    let built_in = [
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_function_is_visible",
        "pg_opclass_is_visible",
        "pg_operator_is_visible",
        "pg_opfamily_is_visible",
        "pg_statistics_obj_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
        "pg_type_is_visible",
    ];
    let mut all = vec![table];
    all.extend(built_in.map(|name| RowFunction::new(name, 1..=1, DataType::Boolean, |_| Ok(true.into()))));
    for name in ["pg_relation_is_publishable", "pg_is_other_temp_schema"] {
        all.push(RowFunction::new(name, 1..=1, DataType::Boolean, |_| Ok(false.into())));
    }
    all
}

fn comments(session: &Arc<SessionFacts>) -> Vec<RowFunction> {
    vec![
        with(session, "obj_description", 1..=2, DataType::Utf8, |session, values| {
            let (oid, of) = (values.integer(0).unwrap_or_default(), values.text(1));
            let catalog = session.catalog();
            let relation = || catalog.relation(oid).and_then(|relation| relation.comment.clone());
            let schema = || catalog.namespace(oid).and_then(|namespace| namespace.comment.clone());
            or_null(match of.as_deref() {
                Some("pg_class") => relation(),
                Some("pg_namespace") => schema(),
                Some(_) => None,
                None => relation().or_else(schema),
            })
        }),
        with(session, "col_description", 2..=2, DataType::Utf8, |session, values| {
            let (oid, column) =
                (values.integer(0).unwrap_or_default(), values.integer(1).unwrap_or_default());
            or_null(session.catalog().column_comment(oid, column))
        }),
        RowFunction::new("shobj_description", 2..=2, DataType::Utf8, |_| Ok(ScalarValue::Null)),
    ]
}

fn definitions(session: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let view = with(session, "pg_get_viewdef", 1..=2, DataType::Utf8, |session, values| {
        let catalog = session.catalog();
        or_null(relation(session, &catalog, values)?.and_then(|found| found.view_sql.clone()).map(closed))
    });
    let function = |name, pick: fn(FunctionName) -> String| {
        with(session, name, 1..=1, DataType::Utf8, move |session, values| {
            or_null(values.integer(0).and_then(|oid| session.catalog().function(oid)).map(pick))
        })
    };
    let constraint = with(session, "pg_get_constraintdef", 1..=2, DataType::Utf8, |session, values| {
        or_null(values.integer(0).and_then(|oid| session.catalog().constraint(oid)))
    });
    let index = with(session, "pg_get_indexdef", 1..=3, DataType::Utf8, |session, values| {
        let index = values.integer(0).and_then(|oid| session.catalog().index(oid));
        or_null(match values.integer(1).and_then(|column| usize::try_from(column).ok()) {
            None | Some(0) => index.map(|index| index.definition),
            Some(column) => index.and_then(|index| index.columns.get(column - 1).cloned()),
        })
    });
    let mut all = vec![
        view,
        constraint,
        index,
        function("pg_get_functiondef", function_definition),
        function("pg_get_function_result", |one| one.result),
        function("pg_get_function_arguments", |one| one.arguments),
        function("pg_get_function_identity_arguments", |one| one.arguments),
        // The trees of PostgreSQL are text here to begin with.
        RowFunction::new("pg_get_expr", 2..=3, DataType::Utf8, |values| or_null(values.text(0))),
    ];
    // Of things that Lacus does not have: whatever the oid, there is nothing under it.
    let absent = [
        "pg_get_function_sqlbody",
        "pg_get_partkeydef",
        "pg_get_ruledef",
        "pg_get_serial_sequence",
        "pg_get_statisticsobjdef",
        "pg_get_statisticsobjdef_columns",
        "pg_get_triggerdef",
        "pg_tablespace_location",
    ];
    all.extend(absent.map(|name| RowFunction::new(name, 1..=3, DataType::Utf8, |_| Ok(ScalarValue::Null))));
    all
}

fn function_definition(one: FunctionName) -> String {
    let FunctionName { name, result, arguments } = one;
    let name_in_full = quote_ident(&name);
    format!(
        "CREATE OR REPLACE FUNCTION pg_catalog.{name_in_full}({arguments})\n RETURNS {result}\n LANGUAGE internal\n \
         STABLE PARALLEL SAFE\nAS $function${name}$function$\n"
    )
}

/// PostgreSQL ends a view's query with a semicolon; psql prints it as it is.
fn closed(query: String) -> String {
    format!(" {};", query.trim().trim_end_matches(';'))
}

fn sizes(session: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let size = |name| {
        with(session, name, 1..=2, DataType::Int64, |session, values| {
            let catalog = session.catalog();
            if values
                .integer(0)
                .is_some_and(|oid| catalog.relation(oid).is_none() && oid::of_indexed(oid).is_some())
            {
                return Ok(0_i64.into());
            }
            let found = relation(session, &catalog, values)?;
            let bytes = found.and_then(|found| catalog.size_bytes(found.oid));
            Ok(ScalarValue::Int64(bytes.and_then(|bytes| i64::try_from(bytes).ok())))
        })
    };
    let unknown = |name| RowFunction::new(name, 1..=1, DataType::Int64, |_| Ok(ScalarValue::Null));
    vec![
        size("pg_relation_size"),
        size("pg_table_size"),
        size("pg_total_relation_size"),
        RowFunction::new("pg_indexes_size", 1..=1, DataType::Int64, |_| Ok(0_i64.into())),
        unknown("pg_database_size"),
        unknown("pg_tablespace_size"),
    ]
}

/// The relation that the first argument means, as oid or as name; none if an oid leads nowhere.
fn relation<'a>(
    session: &SessionFacts,
    catalog: &'a CatalogFacts,
    values: &Values<'_>,
) -> Result<Option<&'a RelationName>> {
    match values.integer(0) {
        Some(oid) => Ok(catalog.relation(oid)),
        None => named_relation(session, catalog, &values.text(0).unwrap_or_default()).map(Some),
    }
}

fn named_relation<'a>(
    session: &SessionFacts,
    catalog: &'a CatalogFacts,
    name: &str,
) -> Result<&'a RelationName> {
    find_relation(session, catalog, name).ok_or_else(|| Error::TableNotFound(name.to_owned()).into())
}

/// Looks a written name up: `t`, `schema.t`, `catalog.schema.t` with this database's catalog.
pub(super) fn find_relation<'a>(
    session: &SessionFacts,
    catalog: &'a CatalogFacts,
    name: &str,
) -> Option<&'a RelationName> {
    let parts = name_parts(name);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        [table] => catalog.resolve(None, table, &session.effective_path()),
        [schema, table] => catalog.resolve(Some(schema), table, &[]),
        [database, schema, table] if *database == session.database => {
            catalog.resolve(Some(schema), table, &[])
        }
        _ => None,
    }
}

/// Splits a name at its dots: quoted parts are kept as they are, others folded to lower case.
pub fn name_parts(name: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (vec![], String::new(), false);
    let mut characters = name.trim().chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => part.extend(characters.next()),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            blank if !quoted && blank.is_whitespace() => {}
            other if quoted => part.push(other),
            other => part.extend(other.to_lowercase()),
        }
    }
    parts.push(part);
    parts
}

fn names(session: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let user = with(session, "pg_get_userbyid", 1..=1, DataType::Utf8, |session, values| {
        let name = |oid| role_name(session, oid).unwrap_or_else(|| format!("unknown (OID={oid})"));
        or_null(values.integer(0).map(name))
    });
    vec![user.typed("name")]
}

/// A relation's name as it must be written under the search path of the session.
pub(super) fn relation_text(session: &SessionFacts, oid: i64) -> String {
    let catalog = session.catalog();
    let Some(relation) = catalog.relation(oid) else {
        return match catalog.index(oid) {
            Some(index) if session.effective_path().contains(&index.schema) => quote_ident(&index.name),
            Some(index) => format!("{}.{}", quote_ident(&index.schema), quote_ident(&index.name)),
            None if oid == 0 => "-".to_owned(),
            None => oid.to_string(),
        };
    };
    let visible = catalog.resolve(None, &relation.name, &session.effective_path());
    match visible.is_some_and(|found| found.oid == oid) {
        true => quote_ident(&relation.name),
        false => format!("{}.{}", quote_ident(&relation.schema), quote_ident(&relation.name)),
    }
}

pub(super) fn role_name(session: &SessionFacts, oid: i64) -> Option<String> {
    if oid == oid::OWNER {
        return Some(oid::OWNER_NAME.to_owned());
    }
    (oid == oid::of_role(&session.user)).then(|| session.user.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_splits_at_its_dots() {
        assert_eq!(name_parts("Raw.Flights"), ["raw", "flights"]);
        assert_eq!(name_parts("\"raw\" . \"flights\""), ["raw", "flights"]);
        assert_eq!(name_parts("\"Raw\".\"a.b\"\"c\""), ["Raw", "a.b\"c"]);
    }
}
