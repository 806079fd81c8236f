//! Rules: defaults and constraints, from what DDL declares to the plans of statements that write.
//!
//! A default takes the place of a value that is not given; a `CHECK` becomes a column of truth values
//! behind the rows that are written, which the sink's guard looks at. Keys are declared for those who read
//! them, and looked after only when they are `ENFORCED`, as [`keys`](super::keys) does it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, Ident, Query, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::alter::parsed;
use super::parse::fold;
use super::plan::Planner;
use super::write::column_not_found;
use crate::catalog::transaction::TableTarget;
use crate::error::{Error, Result};
use crate::format::iceberg::{self, Check, Key, Rules};
use crate::sink::Guard;

/// What a query calls the rows that a statement writes.
const ROWS: &str = "$rows";

/// What definitions of columns and constraints declare, by the names of the columns.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub defaults: Vec<(String, ast::Expr)>,
    pub checks: Vec<DeclaredCheck>,
    pub keys: Vec<DeclaredKey>,
}

#[derive(Debug)]
pub(super) struct DeclaredCheck {
    pub name: Option<String>,
    /// Of a column's own constraint, for its name.
    pub column: Option<String>,
    pub condition: ast::Expr,
}

#[derive(Debug)]
pub(super) struct DeclaredKey {
    pub name: Option<String>,
    pub primary: bool,
    pub columns: Vec<String>,
    pub enforced: bool,
}

impl Declared {
    /// Notes the options of a column; returns whether it may be null.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names an option that no table has.
    pub fn column(&mut self, column: &ast::ColumnDef) -> Result<bool> {
        let mut nullable = true;
        let name = fold(&column.name);
        for ast::ColumnOptionDef { name: constraint, option } in &column.options {
            let constraint = constraint.as_ref().map(fold);
            match option {
                ast::ColumnOption::Null | ast::ColumnOption::Comment(_) => {}
                ast::ColumnOption::NotNull => nullable = false,
                ast::ColumnOption::Default(value) => self.defaults.push((name.clone(), value.clone())),
                ast::ColumnOption::Check(check) => self.checks.push(DeclaredCheck {
                    name: constraint,
                    column: Some(name.clone()),
                    condition: check.expr.as_ref().clone(),
                }),
                ast::ColumnOption::PrimaryKey(key) => {
                    nullable = false;
                    self.key(constraint, true, vec![name.clone()], key.characteristics.as_ref());
                }
                ast::ColumnOption::Unique(key) => {
                    self.key(constraint, false, vec![name.clone()], key.characteristics.as_ref());
                }
                other => {
                    return Err(Error::Unsupported(format!("column \"{name}\": {other} is not supported")));
                }
            }
        }
        Ok(nullable)
    }

    /// Notes a constraint of a table.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for one that no table has.
    pub fn constraint(&mut self, constraint: &ast::TableConstraint) -> Result<()> {
        match constraint {
            ast::TableConstraint::Check(check) => self.checks.push(DeclaredCheck {
                name: check.name.as_ref().map(fold),
                column: None,
                condition: check.expr.as_ref().clone(),
            }),
            ast::TableConstraint::PrimaryKey(key) => {
                let columns = key_columns(&key.columns)?;
                self.key(key.name.as_ref().map(fold), true, columns, key.characteristics.as_ref());
            }
            ast::TableConstraint::Unique(key) => {
                let columns = key_columns(&key.columns)?;
                self.key(key.name.as_ref().map(fold), false, columns, key.characteristics.as_ref());
            }
            other => return Err(Error::Unsupported(format!("the constraint {other} is not supported"))),
        }
        Ok(())
    }

    fn key(
        &mut self,
        name: Option<String>,
        primary: bool,
        columns: Vec<String>,
        characteristics: Option<&ast::ConstraintCharacteristics>,
    ) {
        let enforced = characteristics.and_then(|one| one.enforced).unwrap_or(false);
        self.keys.push(DeclaredKey { name, primary, columns, enforced });
    }

    /// Whether a primary key names a column, which then is never null.
    pub fn is_key(&self, column: &str) -> bool {
        self.keys.iter().any(|key| key.primary && key.columns.iter().any(|name| name == column))
    }

    /// Adds what is declared to the rules of a table with these columns, which have field ids.
    ///
    /// # Errors
    /// [`Error::ColumnNotFound`], [`Error::DatatypeMismatch`], [`Error::AlreadyExists`] for a name that is
    /// taken, [`Error::InvalidDefinition`] for a second primary key.
    pub async fn add_to(
        self,
        rules: &mut Rules,
        planner: &Planner,
        table: &str,
        columns: &Arc<Schema>,
    ) -> Result<()> {
        for (column, value) in self.defaults {
            let id = field_id(columns, &column)?;
            let field = columns.field_with_name(&column).map_err(Error::from)?;
            refuse_query(&value, "DEFAULT expression")?;
            default_expr(planner, &value.to_string(), field.data_type()).await?;
            rules.defaults.insert(id, value.to_string());
        }
        for check in self.checks {
            let sql = check.condition.to_string();
            refuse_query(&check.condition, "check constraint")?;
            ensure_condition(planner, &sql, columns).await?;
            let stem = [Some(table), check.column.as_deref(), Some("check")];
            let name = named(rules, check.name, &stem)?;
            rules.checks.push(Check { name, sql });
        }
        for key in self.keys {
            if key.primary && rules.primary_key().is_some() {
                let message = format!("multiple primary keys for table \"{table}\" are not allowed");
                return Err(Error::InvalidDefinition(message));
            }
            let ids = key.columns.iter().map(|column| field_id(columns, column)).collect::<Result<_>>()?;
            let parts = key.columns.join("_");
            let stem = match key.primary {
                true => [Some(table), None, Some("pkey")],
                false => [Some(table), Some(parts.as_str()), Some("key")],
            };
            let name = named(rules, key.name, &stem)?;
            rules.keys.push(Key { name, primary: key.primary, columns: ids, enforced: key.enforced });
        }
        Ok(())
    }
}

fn key_columns(columns: &[ast::IndexColumn]) -> Result<Vec<String>> {
    let column = |column: &ast::IndexColumn| match &column.column.expr {
        ast::Expr::Identifier(name) => Ok(fold(name)),
        other => Err(Error::Unsupported(format!("a key is made of columns, not of {other}"))),
    };
    columns.iter().map(column).collect()
}

/// A constraint's name as given, or as PostgreSQL makes one up.
fn named(rules: &Rules, given: Option<String>, stem: &[Option<&str>]) -> Result<String> {
    if let Some(name) = given {
        return match rules.has(&name) {
            true => Err(Error::AlreadyExists { kind: "constraint", name }),
            false => Ok(name),
        };
    }
    let stem = stem.iter().flatten().copied().collect::<Vec<_>>().join("_");
    let numbered = (1..).map(|number| format!("{stem}{number}"));
    let mut names = std::iter::once(stem.clone()).chain(numbered);
    names.find(|name| !rules.has(name)).ok_or(Error::Internal(stem))
}

/// The field id of a column.
pub(super) fn field_id(columns: &Schema, name: &str) -> Result<i32> {
    let field = columns.field_with_name(name).map_err(|_| column_not_found(name, columns))?;
    iceberg::field_id(field).ok_or_else(|| Error::Internal(format!("column \"{name}\" has no id")))
}

/// The names of columns by their ids; one that is gone is left out.
pub(super) fn names_of<'a>(columns: &'a Schema, ids: &[i32]) -> Vec<&'a str> {
    let name = |id: &i32| {
        let has_id = |name: &str| field_id(columns, name).ok() == Some(*id);
        columns.fields().iter().map(|field| field.name().as_str()).find(|name| has_id(name))
    };
    ids.iter().filter_map(name).collect()
}

pub(super) fn refuse_query(expr: &ast::Expr, place: &str) -> Result<()> {
    match finds_query(expr) {
        true => Err(Error::Unsupported(format!("cannot use subquery in {place}"))),
        false => Ok(()),
    }
}

fn finds_query(expr: &ast::Expr) -> bool {
    struct Queries;
    impl VisitorMut for Queries {
        type Break = ();
        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.clone().visit(&mut Queries).is_break()
}

/// Calls `change` for every column that an expression names.
fn visit_columns(expr: &mut ast::Expr, change: impl FnMut(&mut Ident)) {
    struct Columns<F>(F);
    impl<F: FnMut(&mut Ident)> VisitorMut for Columns<F> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            match expr {
                ast::Expr::Identifier(name) => (self.0)(name),
                // What follows is a field within the column.
                ast::Expr::CompoundIdentifier(parts) => parts.iter_mut().take(1).for_each(&mut self.0),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let _ = expr.visit(&mut Columns(change));
}

/// The columns that a condition names.
pub(super) fn columns_of(sql: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    visit_columns(&mut expression(sql)?, |name| {
        names.insert(fold(name));
    });
    Ok(names)
}

/// A condition in which a column has its new name.
pub(super) fn renamed(sql: &str, from: &str, to: &str) -> Result<String> {
    let mut condition = expression(sql)?;
    visit_columns(&mut condition, |name| {
        if fold(name) == from {
            *name = Ident::with_quote('"', to);
        }
    });
    Ok(condition.to_string())
}

pub(super) fn expression(sql: &str) -> Result<ast::Expr> {
    Ok(Parser::new(&PostgreSqlDialect {}).try_with_sql(sql)?.parse_expr()?)
}

/// The default of each column of a table, as SQL.
pub(super) fn defaults_of(target: &TableTarget) -> Result<Vec<Option<ast::Expr>>> {
    let default = |name: &str| match target.rules.defaults.get(&field_id(&target.columns, name)?) {
        Some(sql) => expression(sql).map(Some),
        None => Ok(None),
    };
    target.columns.fields().iter().map(|field| default(field.name())).collect()
}

/// The default of each column of a table, planned, of the column's type.
pub(super) async fn default_exprs(planner: &Planner, target: &TableTarget) -> Result<Vec<Option<Expr>>> {
    let mut exprs = Vec::new();
    for (default, field) in defaults_of(target)?.iter().zip(target.columns.fields()) {
        exprs.push(match default {
            Some(default) => Some(default_expr(planner, &default.to_string(), field.data_type()).await?),
            None => None,
        });
    }
    Ok(exprs)
}

async fn default_expr(planner: &Planner, sql: &str, data_type: &DataType) -> Result<Expr> {
    let plan = planner.query(*parsed(&format!("SELECT {sql} AS d"))?, &[]).await?;
    match &plan {
        LogicalPlan::Projection(projection) => {
            let value = projection.expr[0].clone().unalias();
            Ok(value.cast_to(data_type, projection.input.schema())?)
        }
        _ => Err(Error::InvalidDefinition(format!("{sql} cannot be a default"))),
    }
}

/// A text is a condition over the columns.
async fn ensure_condition(planner: &Planner, sql: &str, columns: &Arc<Schema>) -> Result<()> {
    let rows = datafusion::datasource::empty::EmptyTable::new(Arc::clone(columns));
    let tables = vec![(ROWS.to_owned(), provider_as_source(Arc::new(rows)))];
    let query = parsed(&format!("SELECT ({sql}) AS c FROM \"{ROWS}\""))?;
    let plan = planner.query_with(*query, &[], tables).await?;
    match plan.schema().field(0).data_type() {
        DataType::Boolean | DataType::Null => Ok(()),
        other => {
            Err(Error::DatatypeMismatch(format!("argument of CHECK must be type boolean, not type {other}")))
        }
    }
}

/// Puts behind the rows of a plan what the checks of a table say to them.
pub(super) async fn checked(
    planner: &Planner,
    plan: LogicalPlan,
    target: &TableTarget,
) -> Result<LogicalPlan> {
    if target.rules.checks.is_empty() {
        return Ok(plan);
    }
    let checks = target.rules.checks.iter().enumerate();
    let checks: Vec<String> =
        checks.map(|(at, check)| format!(", ({}) AS \"$check {at}\"", check.sql)).collect();
    let query = parsed(&format!("SELECT *{} FROM \"{ROWS}\"", checks.concat()))?;
    let rows = provider_as_source(Arc::new(ViewTable::new(plan, None)));
    planner.query_with(*query, &[], vec![(ROWS.to_owned(), rows)]).await
}

/// Says that a row that is there, or was to come, fails a condition.
pub(super) fn violated(table: &str, check: &str) -> String {
    format!("check constraint \"{check}\" of relation \"{table}\" is violated by some row")
}

/// What stands before a write to a table.
pub(super) fn guard_of(target: &TableTarget) -> Arc<Guard> {
    Arc::new(Guard {
        table: target.name.clone(),
        columns: Arc::clone(&target.columns),
        checks: target.rules.checks.iter().map(|check| check.name.clone()).collect(),
        line: None,
    })
}
