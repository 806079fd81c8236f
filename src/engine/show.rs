//! SHOW and DESCRIBE: Presto's listings as queries over the system catalogs, and settings.

mod stats;

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{ColumnarValue, ExprSchemable};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;

use super::execute::{Outcome, Rows, Run};
use super::layout;
use super::parse;
use super::plan::{FullName, Planner};
use super::semantics::Semantics;
use super::session::Session;
use super::settings::SETTINGS;
use super::statement::{Branch, Show, Statement};
use crate::catalog::transaction::Found;
use crate::catalog::{Browse, Relation, RelationDetail, RelationKind};
use crate::error::{Error, Result};
use crate::format::iceberg::{Rules, field_id};
use crate::function::types;
use crate::system::SCHEMAS as SYSTEM_SCHEMAS;

pub use self::stats::stats;

/// The query that a statement stands for: itself, or a listing's.
///
/// # Errors
/// None that a listing can cause.
pub fn query_of(statement: &Statement, database: &str) -> Result<Option<Box<ast::Query>>> {
    let sql = match statement {
        Statement::Query(query) => return Ok(Some(query.clone())),
        Statement::Show(show) => match listing(show, database) {
            Some(sql) => sql,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    match parse::parse(&sql)?.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(Some(query)),
        _ => Err(Error::Internal(format!("a listing is no query: {sql}"))),
    }
}

/// Refuses to list what is in a schema that does not exist: an empty answer would say that it is empty.
///
/// # Errors
/// [`Error::SchemaNotFound`], [`Error::CatalogNotFound`].
pub async fn ensure_schema(planner: &Planner, statement: &Statement) -> Result<()> {
    let Statement::Show(Show::Tables { from: Some((catalog, schema)), .. }) = statement else {
        return Ok(());
    };
    let catalog = catalog.as_deref().unwrap_or(&planner.database);
    planner.transaction.ensure_catalog(catalog)?;
    let is_system = SYSTEM_SCHEMAS.contains(&schema.as_str());
    if is_system || planner.transaction.schema_exists(catalog, schema).await? {
        return Ok(());
    }
    Err(Error::SchemaNotFound(schema.clone()))
}

fn listing(show: &Show, database: &str) -> Option<String> {
    let like = |column: &str, like: &Option<String>| match like {
        Some(pattern) => format!("{column} LIKE {}", literal(pattern)),
        None => "true".to_owned(),
    };
    Some(match show {
        Show::Catalogs { like: pattern } => format!(
            "SELECT datname AS \"Catalog\" FROM pg_catalog.pg_database WHERE {} ORDER BY 1",
            like("datname", pattern)
        ),
        Show::Schemas { catalog, like: pattern } => format!(
            "SELECT schema_name AS \"Schema\" FROM {}.information_schema.schemata WHERE {} ORDER BY 1",
            quoted(catalog.as_deref().unwrap_or(database)),
            like("schema_name", pattern)
        ),
        Show::Tables { from: Some((catalog, schema)), like: pattern } => format!(
            "SELECT table_name AS \"Table\" FROM {}.information_schema.tables WHERE table_schema = {} AND {} ORDER BY 1",
            quoted(catalog.as_deref().unwrap_or(database)),
            literal(schema),
            like("table_name", pattern)
        ),
        Show::Tables { from: None, like: pattern } => format!(
            "SELECT table_schema AS \"Schema\", table_name AS \"Table\" FROM information_schema.tables \
             WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND {} ORDER BY 1, 2",
            like("table_name", pattern)
        ),
        Show::Functions { like: pattern } => format!(
            "SELECT DISTINCT proname AS \"Function\" FROM pg_catalog.pg_proc WHERE {} ORDER BY 1",
            like("proname", pattern)
        ),
        Show::Columns { .. } | Show::CreateTable { .. } | Show::Stats { .. } => return None,
    })
}

/// The columns of a command that answers with rows.
pub fn schema_of(statement: &Statement) -> Option<SchemaRef> {
    match statement {
        Statement::Explain(request) => Some(super::explain::schema(request)),
        Statement::ShowSetting(Some(name)) => Some(columns(&[name])),
        Statement::ShowSetting(None) => Some(columns(&["name", "setting", "description"])),
        Statement::Branch(Branch::Show) => Some(super::branch::schema()),
        Statement::Show(Show::CreateTable { .. }) => Some(columns(&["Create Table"])),
        Statement::Show(Show::Columns { .. }) => Some(columns(&COLUMN_HEADINGS)),
        Statement::Show(Show::Stats { .. }) => Some(stats::schema()),
        Statement::Upkeep(upkeep) => upkeep.schema(),
        _ => None,
    }
}

const COLUMN_HEADINGS: [&str; 4] = ["Column", "Type", "Extra", "Comment"];

/// `SHOW name` and `SHOW ALL`.
///
/// # Errors
/// [`Error::UnknownSetting`].
pub fn setting(session: &Session, name: Option<&str>, run: Run) -> Result<Outcome> {
    let Some(name) = name else {
        let row = |setting: &super::settings::Setting| {
            vec![setting.name.to_owned(), session.settings.text(setting.name), setting.description.to_owned()]
        };
        return rows(&["name", "setting", "description"], SETTINGS.iter().map(row).collect(), run);
    };
    rows(&[name], vec![vec![session.settings.show(name)?]], run)
}

/// `SHOW CREATE TABLE`, and the columns of one relation.
///
/// # Errors
/// [`Error::TableNotFound`].
pub async fn create_table(session: &mut Session, request: &Show, run: Run) -> Result<Outcome> {
    let (Show::CreateTable { table } | Show::Columns { table }) = request else {
        return Err(Error::Internal("a listing reached the wrong place".to_owned()));
    };
    let planner = session.planner().await?;
    let full = planner.find(table).await?;
    let relation = relation_of(planner.transaction.as_ref(), &full).await?;
    if relation.kind == RelationKind::System {
        let found = planner.provider(table).await?;
        let Found::Table(provider) = found else { return Err(Error::TableNotFound(table.to_string())) };
        return described(&provider.schema(), &[], run);
    }
    let detail = planner.transaction.detail(&relation).await?;
    if matches!(request, Show::Columns { .. }) {
        return described(&detail.schema, &detail.partitioned_by, run);
    }
    let name = format!("{}.{}", quoted(&full.schema), quoted(&full.name));
    let text = match &relation.view_sql {
        Some(sql) => {
            let is_view = relation.kind == RelationKind::View;
            format!("CREATE {} {name} AS\n{sql}", if is_view { "VIEW" } else { "MATERIALIZED VIEW" })
        }
        None => {
            let mut lines: Vec<String> =
                detail.schema.fields().iter().map(|field| column_line(field, &detail.rules)).collect();
            lines.extend(constraint_lines(&detail));
            let mut text = format!("CREATE TABLE {name} (\n{}\n)", lines.join(",\n"));
            if !detail.partitioned_by.is_empty() {
                text.push_str(&format!("\nPARTITIONED BY ({})", detail.partitioned_by.join(", ")));
            }
            let properties = layout::shown(&detail.properties);
            if !properties.is_empty() {
                text.push_str(&format!("\nWITH ({})", properties.join(", ")));
            }
            if let Some(comment) = &relation.comment {
                text.push_str(&format!("\nCOMMENT {}", literal(comment)));
            }
            text
        }
    };
    rows(&["Create Table"], vec![vec![text]], run)
}

fn column_line(field: &Field, rules: &Rules) -> String {
    let default = field_id(field).and_then(|id| rules.defaults.get(&id));
    let default = default.map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
    let null = if field.is_nullable() { "" } else { " NOT NULL" };
    format!("    {} {}{null}{default}", quoted(field.name()), sql_name(field))
}

fn constraint_lines(detail: &RelationDetail) -> Vec<String> {
    let rules = &detail.rules;
    let checks = rules.checks.iter().map(|check| (&check.name, format!("CHECK ({})", check.sql)));
    let keys = rules.keys.iter().map(|key| {
        let names = super::rules::names_of(&detail.schema, &key.columns);
        let names: Vec<String> = names.into_iter().map(quoted).collect();
        let kind = if key.primary { "PRIMARY KEY" } else { "UNIQUE" };
        let enforced = if key.enforced { " ENFORCED" } else { "" };
        (&key.name, format!("{kind} ({}){enforced}", names.join(", ")))
    });
    let line = |(name, text): (&String, String)| format!("    CONSTRAINT {} {text}", quoted(name));
    checks.chain(keys).map(line).collect()
}

fn described(schema: &Schema, partitioned_by: &[String], run: Run) -> Result<Outcome> {
    let row = |field: &Arc<Field>| {
        let partition = partitioned_by.iter().any(|column| column == field.name());
        let comment = field.metadata().get("comment").cloned().unwrap_or_default();
        vec![
            field.name().clone(),
            sql_name(field),
            if partition { "partition key" } else { "" }.to_owned(),
            comment,
        ]
    };
    rows(&COLUMN_HEADINGS, schema.fields().iter().map(row).collect(), run)
}

async fn relation_of(browse: &dyn Browse, full: &FullName) -> Result<Arc<Relation>> {
    let relations = browse.relations(&full.catalog, &full.schema).await?;
    let found = relations.into_iter().find(|relation| relation.name == full.name);
    Ok(found.unwrap_or_else(|| {
        Arc::new(Relation {
            catalog: full.catalog.clone(),
            schema: full.schema.clone(),
            name: full.name.clone(),
            kind: RelationKind::System,
            comment: None,
            view_sql: None,
        })
    }))
}

/// The Arrow type of an SQL type's name.
///
/// # Errors
/// [`Error::Unsupported`] for a type that there is not.
pub fn arrow_type(state: &SessionState, ty: &ast::DataType) -> Result<DataType> {
    if matches!(ty, ast::DataType::Uuid) {
        return Ok(DataType::FixedSizeBinary(16));
    }
    if matches!(ty, ast::DataType::JSON | ast::DataType::JSONB) {
        return Ok(DataType::Utf8);
    }
    let tables = super::plan::no_tables(state);
    let planner = SqlToRel::new_with_options(&tables, ParserOptions::new());
    let ident = ast::Ident::new("c");
    let column = ast::ColumnDef { name: ident, data_type: ty.clone(), options: Vec::new() };
    Ok(planner.build_schema(vec![column])?.field(0).data_type().clone())
}

/// The value of a constant expression, as EXECUTE's parameters are.
///
/// # Errors
/// What is wrong with the expression.
pub fn constant(state: &SessionState, expr: &ast::Expr, ty: &DataType) -> Result<ScalarValue> {
    let tables = super::plan::no_tables(state);
    let planner = SqlToRel::new_with_options(&tables, ParserOptions::new());
    let none = DFSchema::empty();
    let mut expr =
        planner.sql_to_expr(expr.clone(), &none, &mut PlannerContext::new())?.cast_to(ty, &none)?;
    if let Some(semantics) = state.config().get_extension::<Semantics>() {
        expr = semantics.apply(expr, &none, state.config_options())?;
    }
    let physical = state.create_physical_expr(expr, &none)?;
    let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match physical.evaluate(&batch)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(_) => Err(Error::InvalidParameter("a parameter must be a constant".to_owned())),
    }
}

/// The SQL name of a column's type.
pub(super) fn sql_name(field: &Field) -> String {
    let (oid, modifier) = types::of_field(field);
    types::format_type(oid, Some(modifier))
}

fn columns(names: &[&str]) -> SchemaRef {
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    Arc::new(Schema::new(fields))
}

/// An answer of text rows.
fn rows(names: &[&str], rows: Vec<Vec<String>>, run: Run) -> Result<Outcome> {
    let column = |index: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row: &Vec<String>| row[index].as_str())))
    };
    let batch = RecordBatch::try_new(columns(names), (0..names.len()).map(column).collect())?;
    Ok(Outcome::Rows(Rows::of_batch("SHOW", batch, run)))
}

/// A text as an SQL literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL needs it: quoted unless it is plain.
pub fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
