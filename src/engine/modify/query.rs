//! The query behind a statement that changes rows.
//!
//! It gives a row for each change: the number of the WHEN clause that it falls under, its address (null
//! for a new row), and the value of every column of the table. A row that no clause fits has a null in
//! place of the number.

use arrow::datatypes::{DataType, Schema};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CaseWhen, CastKind, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select,
    SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::dialect::change_outside_queries;
use crate::engine::plan::placeholder;
use crate::engine::statement::{Modify, RowAction, When, WhenClause};
use crate::engine::write::{column_not_found, is_default, refuse_duplicates};
use crate::error::{Error, Result};
use crate::scan::address::{FILE_COLUMN, ROW_COLUMN};

/// What the query calls the target's rows with their addresses.
pub const TARGET: &str = "$target";
/// Is true in rows that have a row of the source.
const SOURCE_COLUMN: &str = "$source";
const CLAUSE_COLUMN: &str = "$clause";

/// The words that call a function without parentheses; no bare column has such a name.
const CALLS: [&str; 6] =
    ["current_schema", "current_role", "current_catalog", "current_user", "session_user", "user"];

/// A MERGE whose WHEN clauses name the columns of the one row that they have in full: a new row is made
/// of the source's, and a row that the source lacks has the target's alone.
fn one_sided(modify: &Modify, alias: &Ident) -> Vec<WhenClause> {
    let mut clauses = modify.clauses.clone();
    let source = modify.using.first().and_then(|source| name_of_source(&source.relation));
    for clause in clauses.iter_mut().filter(|_| modify.word == "MERGE") {
        let side = match clause.when {
            When::Matched => continue,
            When::NotMatched => source,
            When::NotMatchedBySource => Some(alias),
        };
        let Some(side) = side else { continue };
        let values: Vec<&mut Expr> = match &mut clause.action {
            RowAction::Insert { values, .. } => values.iter_mut().collect(),
            RowAction::Update(assigned) => assigned.iter_mut().map(|(_, value)| value).collect(),
            RowAction::Delete | RowAction::Nothing | RowAction::Refuse => Vec::new(),
        };
        for expr in clause.condition.iter_mut().chain(values).filter(|expr| !is_default(expr)) {
            qualify(expr, side);
        }
    }
    clauses
}

/// Puts the name of a relation before every bare column outside of subqueries.
fn qualify(expr: &mut Expr, side: &Ident) {
    change_outside_queries(expr, |expr| {
        if let Expr::Identifier(name) = expr
            && (name.quote_style.is_some() || !CALLS.contains(&name.value.to_ascii_lowercase().as_str()))
        {
            *expr = Expr::CompoundIdentifier(vec![side.clone(), name.clone()]);
        }
    });
}

/// Builds the query for a table with these columns, and their defaults.
///
/// # Errors
/// [`Error::ColumnNotFound`] for an assigned column, [`Error::AlreadyExists`] and [`Error::Syntax`] for
/// columns that are named twice and values that do not fit the columns.
pub fn changes(modify: &Modify, columns: &Schema, defaults: &[Option<Expr>]) -> Result<Query> {
    modify.clauses.iter().try_for_each(|clause| check(clause, columns))?;
    let alias = alias_of(modify);
    let clauses = &one_sided(modify, &alias);
    let numbers = (0..clauses.len()).map(|number| Some(number_of(number)));
    let mut projection = vec![
        named(case(clauses, &alias, numbers.collect()), CLAUSE_COLUMN),
        named(qualified(&alias, FILE_COLUMN), FILE_COLUMN),
        named(qualified(&alias, ROW_COLUMN), ROW_COLUMN),
    ];
    for (index, field) in columns.fields().iter().enumerate() {
        let default = || defaults[index].clone().unwrap_or_else(null);
        let values = clauses.iter().map(|clause| value_of(clause, (index, field.name()), &alias, default));
        projection.push(named(case(clauses, &alias, values.collect()), field.name()));
    }
    let (from, selection) = from_of(modify, &alias)?;
    let mut query = template("SELECT 1")?;
    let select = select_of(&mut query)?;
    *select = Select { projection, from, selection, ..select.clone() };
    query.with.clone_from(&modify.with);
    Ok(query)
}

/// Gives parameters that are the whole of an assigned value the column's type.
pub fn assigned_types(modify: &Modify, columns: &Schema, types: &mut Vec<Option<DataType>>) {
    let mut note = |column: &str, value: &Expr| {
        if let (Some(number), Ok(field)) = (placeholder(value), columns.field_with_name(column)) {
            types.resize(types.len().max(number), None);
            types[number - 1].get_or_insert_with(|| field.data_type().clone());
        }
    };
    for clause in &modify.clauses {
        match &clause.action {
            RowAction::Update(assigned) => assigned.iter().for_each(|(column, value)| note(column, value)),
            RowAction::Insert { columns: names, values } if names.is_empty() => {
                columns.fields().iter().zip(values).for_each(|(field, value)| note(field.name(), value));
            }
            RowAction::Insert { columns: names, values } => {
                names.iter().zip(values).for_each(|(column, value)| note(column, value));
            }
            RowAction::Delete | RowAction::Nothing | RowAction::Refuse => {}
        }
    }
}

/// Checks the columns that a clause names.
fn check(clause: &WhenClause, columns: &Schema) -> Result<()> {
    let names: Vec<&str> = match &clause.action {
        RowAction::Update(assigned) => assigned.iter().map(|(column, _)| column.as_str()).collect(),
        RowAction::Insert { columns, .. } => columns.iter().map(String::as_str).collect(),
        RowAction::Delete | RowAction::Nothing | RowAction::Refuse => return Ok(()),
    };
    if let Some(missing) = names.iter().find(|name| columns.column_with_name(name).is_none()) {
        return Err(column_not_found(missing, columns));
    }
    let repeated = refuse_duplicates(names.iter().copied());
    match (&clause.action, repeated) {
        (RowAction::Update(_), Err(Error::AlreadyExists { name, .. })) => {
            Err(syntax(format!("multiple assignments to same column \"{name}\"")))
        }
        (RowAction::Insert { values, .. }, Ok(())) => match (values.len(), names.len()) {
            (0, _) => Ok(()),
            (given, 0) if given > columns.fields().len() => Err(more("expressions than target columns")),
            (_, 0) => Ok(()),
            (given, wanted) if given > wanted => Err(more("expressions than target columns")),
            (given, wanted) if given < wanted => Err(more("target columns than expressions")),
            _ => Ok(()),
        },
        (_, repeated) => repeated,
    }
}

fn more(what: &str) -> Error {
    syntax(format!("INSERT has more {what}"))
}

fn syntax(message: String) -> Error {
    Error::Syntax { message, position: None }
}

/// What a column becomes under a clause; none where that does not matter.
fn value_of(
    clause: &WhenClause,
    (index, name): (usize, &str),
    alias: &Ident,
    default: impl Fn() -> Expr,
) -> Option<Expr> {
    let given = |value: &Expr| if is_default(value) { default() } else { value.clone() };
    match &clause.action {
        RowAction::Update(assigned) => {
            let value = assigned.iter().find(|(column, _)| column == name).map(|(_, value)| value);
            Some(value.map_or_else(|| qualified(alias, name), given))
        }
        RowAction::Insert { columns, values } => {
            let at = match columns.is_empty() {
                true => Some(index),
                false => columns.iter().position(|column| column == name),
            };
            Some(at.and_then(|at| values.get(at)).map_or_else(&default, given))
        }
        RowAction::Delete | RowAction::Nothing | RowAction::Refuse => None,
    }
}

/// `CASE WHEN <the first clause that fits> THEN <its value> …`; the value alone where there is no choice.
fn case(clauses: &[WhenClause], alias: &Ident, values: Vec<Option<Expr>>) -> Expr {
    if let [WhenClause { when: When::Matched, condition: None, .. }] = clauses {
        return values.into_iter().next().flatten().unwrap_or_else(null);
    }
    if values.iter().all(Option::is_none) {
        return null();
    }
    let conditions = clauses.iter().zip(values).map(|(clause, value)| CaseWhen {
        condition: fits(clause, alias),
        result: value.unwrap_or_else(null),
    });
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: conditions.collect(),
        else_result: None,
    }
}

/// Whether a joined row falls under a clause.
fn fits(clause: &WhenClause, alias: &Ident) -> Expr {
    let target_row = || Box::new(qualified(alias, ROW_COLUMN));
    let source_row = || Box::new(Expr::Identifier(quoted(SOURCE_COLUMN)));
    let matched = match clause.when {
        When::Matched => and(Expr::IsNotNull(target_row()), Expr::IsNotNull(source_row())),
        When::NotMatched => Expr::IsNull(target_row()),
        When::NotMatchedBySource => Expr::IsNull(source_row()),
    };
    match &clause.condition {
        Some(condition) => and(matched, Expr::Nested(Box::new(condition.clone()))),
        None => matched,
    }
}

/// FROM and WHERE of the query.
fn from_of(modify: &Modify, alias: &Ident) -> Result<(Vec<TableWithJoins>, Option<Expr>)> {
    let target = alone(target_factor(alias)?);
    if modify.word != "MERGE" {
        let from = std::iter::once(target).chain(modify.using.iter().cloned());
        return Ok((from.collect(), modify.condition.clone()));
    }
    let has = |when: When| modify.clauses.iter().any(|clause| clause.when == when);
    let on = JoinConstraint::On(modify.condition.clone().unwrap_or_else(null));
    let join_operator = match (has(When::NotMatched), has(When::NotMatchedBySource)) {
        (false, false) => JoinOperator::Inner(on),
        (true, false) => JoinOperator::LeftOuter(on),
        (false, true) => JoinOperator::RightOuter(on),
        (true, true) => JoinOperator::FullOuter(on),
    };
    let source = modify.using.first().map(|source| source.relation.clone());
    let source = source.ok_or_else(|| Error::Internal("MERGE without a source".to_owned()))?;
    let join = Join { relation: target.relation, global: false, join_operator };
    Ok((vec![TableWithJoins { relation: with_mark(source)?, joins: vec![join] }], None))
}

/// The source of a MERGE with a column that tells its rows from those that an outer join makes up.
fn with_mark(source: TableFactor) -> Result<TableFactor> {
    let alias = name_of_source(&source).map(called);
    let mut subquery = template(&format!("SELECT *, true AS \"{SOURCE_COLUMN}\""))?;
    select_of(&mut subquery)?.from = vec![alone(source)];
    Ok(TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias, sample: None })
}

/// What the statement calls the source of a MERGE.
fn name_of_source(source: &TableFactor) -> Option<&Ident> {
    match source {
        TableFactor::Table { name, alias: None, .. } => name.0.last().and_then(|part| part.as_ident()),
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. } => alias.as_ref().map(|alias| &alias.name),
        _ => None,
    }
}

fn target_factor(alias: &Ident) -> Result<TableFactor> {
    let mut query = template(&format!("SELECT 1 FROM \"{TARGET}\""))?;
    let mut relation = select_of(&mut query)?.from.remove(0).relation;
    if let TableFactor::Table { alias: own, .. } = &mut relation {
        *own = Some(called(alias));
    }
    Ok(relation)
}

/// A query to be filled in: its structs have more parts than this module wants to know.
fn template(sql: &str) -> Result<Query> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql)?;
    Ok(*parser.parse_query()?)
}

fn select_of(query: &mut Query) -> Result<&mut Select> {
    match query.body.as_mut() {
        SetExpr::Select(select) => Ok(select),
        _ => Err(Error::Internal("a SELECT is parsed as something else".to_owned())),
    }
}

/// What the statement calls the target.
fn alias_of(modify: &Modify) -> Ident {
    modify.alias.clone().unwrap_or_else(|| quoted(&modify.target.name))
}

fn alone(relation: TableFactor) -> TableWithJoins {
    TableWithJoins { relation, joins: Vec::new() }
}

fn called(name: &Ident) -> TableAlias {
    TableAlias { explicit: true, name: name.clone(), columns: Vec::new(), at: None }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

fn qualified(table: &Ident, column: &str) -> Expr {
    Expr::CompoundIdentifier(vec![table.clone(), quoted(column)])
}

fn named(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: quoted(name) }
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

fn null() -> Expr {
    Expr::value(Value::Null)
}

/// A bigint, which a bare number as a column would not be.
fn number_of(number: usize) -> Expr {
    let expr = Box::new(Expr::value(Value::Number(number.to_string(), false)));
    Expr::Cast {
        kind: CastKind::Cast,
        expr,
        data_type: ast::DataType::BigInt(None),
        array: false,
        format: None,
    }
}
