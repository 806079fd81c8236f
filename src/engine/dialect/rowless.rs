//! Functions in FROM that PostgreSQL has and Lacus answers otherwise.
//!
//! One that reads what a system view shows is that view; one about things that Lacus has none of has
//! PostgreSQL's columns and no row; one that gives a single value stands as a SELECT of that value.

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, SelectItem, SetExpr, TableAlias,
    TableFactor,
};

use super::build::{boolean, call, cast, null, parts};
use super::relations::{argument, has_column, named};
use super::subqueries::empty_query;

/// Functions over what a system view shows.
const VIEWS: [(&str, &str); 7] = [
    ("pg_show_all_settings", "pg_settings"),
    ("pg_stat_get_activity", "pg_stat_activity"),
    ("pg_lock_status", "pg_locks"),
    ("pg_available_extensions", "pg_available_extensions"),
    ("pg_available_extension_versions", "pg_available_extension_versions"),
    ("pg_timezone_abbrevs", "pg_timezone_abbrevs"),
    ("pg_cursor", "pg_cursors"),
];

type Columns = &'static [(&'static str, Kind)];

/// The type of a column without rows.
#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Oid,
    Text,
    Boolean,
}

/// Functions about what Lacus has none of, and the columns of their rows.
const NOTHING: [(&str, Columns); 7] = [
    (
        "aclexplode",
        &[
            ("grantor", Kind::Oid),
            ("grantee", Kind::Oid),
            ("privilege_type", Kind::Text),
            ("is_grantable", Kind::Boolean),
        ],
    ),
    ("ts_token_type", &[("tokid", Kind::Integer), ("alias", Kind::Text), ("description", Kind::Text)]),
    (
        "pg_partition_tree",
        &[
            ("relid", Kind::Oid),
            ("parentrelid", Kind::Oid),
            ("isleaf", Kind::Boolean),
            ("level", Kind::Integer),
        ],
    ),
    ("pg_partition_ancestors", &[("relid", Kind::Oid)]),
    ("pg_options_to_table", &[("option_name", Kind::Text), ("option_value", Kind::Text)]),
    ("pg_prepared_xact", &[("transaction", Kind::Integer), ("gid", Kind::Text)]),
    ("pg_get_publication_tables", &[("relid", Kind::Oid), ("attrs", Kind::Text), ("qual", Kind::Text)]),
];

/// Functions of one value that clients write in FROM.
const VALUES: [&str; 5] =
    ["string_to_array", "parse_ident", "regexp_split_to_array", "current_schemas", "now"];

/// Rewrites a call in FROM, if it is one of these.
pub(super) fn rewrite(factor: &mut TableFactor) {
    let (name, arguments, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => {
            (parts(name), args.args.clone(), alias.take())
        }
        TableFactor::Function { name, args, alias, .. } => (parts(name), args.clone(), alias.take()),
        _ => return,
    };
    let function = name.last().map(String::as_str).unwrap_or_default();
    if let Some((_, view)) = VIEWS.iter().find(|(name, _)| *name == function) {
        let alias = alias.unwrap_or_else(|| named(function));
        let name = ObjectName::from(vec![Ident::new("pg_catalog"), Ident::new(*view)]);
        *factor = table(name, Some(alias));
    } else if let Some((_, columns)) = NOTHING.iter().find(|(name, _)| *name == function) {
        let items = columns.iter().map(|(name, kind)| SelectItem::ExprWithAlias {
            expr: cast(null(), kind.data_type()),
            alias: Ident::new(*name),
        });
        *factor = derived(items.collect(), Some(boolean(false)), alias.unwrap_or_else(|| named(function)));
    } else if VALUES.contains(&function) && !arguments.iter().filter_map(argument).any(has_column) {
        let mut alias = alias.unwrap_or_else(|| named(function));
        let column = alias.columns.pop().map_or_else(|| alias.name.clone(), |column| column.name);
        let arguments = arguments.into_iter().filter_map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        });
        let value = SelectItem::ExprWithAlias { expr: call(function, arguments.collect()), alias: column };
        *factor = derived(vec![value], None, alias);
    } else {
        restore(factor, alias);
    }
}

impl Kind {
    fn data_type(self) -> DataType {
        match self {
            Self::Integer => DataType::Integer(None),
            Self::Oid => DataType::Custom(ObjectName::from(vec![Ident::new("oid")]), vec![]),
            Self::Text => DataType::Text,
            Self::Boolean => DataType::Boolean,
        }
    }
}

fn restore(factor: &mut TableFactor, given: Option<TableAlias>) {
    if let TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } = factor {
        *alias = given;
    }
}

fn derived(items: Vec<SelectItem>, selection: Option<Expr>, alias: TableAlias) -> TableFactor {
    let mut subquery = empty_query();
    if let SetExpr::Select(select) = subquery.body.as_mut() {
        select.projection = items;
        select.selection = selection;
    }
    TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None }
}

fn table(name: ObjectName, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}
