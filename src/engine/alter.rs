//! ALTER TABLE: what it does to columns, and to the views that stand on them.
//!
//! Columns change by their field ids and no file is touched. A view is a text, so what a change does to
//! views is found by planning those that may read the table, before and after: one that can no longer
//! be planned depends on what was changed.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::logical_expr::TableSource;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::sql::sqlparser::ast;

use super::ddl::{note_skipped, tolerate};
use super::execute::{Outcome, Run};
use super::keys::Added;
use super::layout;
use super::parse;
use super::plan::{FullName, Planner};
use super::rules::{self, Declared, violated};
use super::session::{Session, done};
use super::show::{arrow_type, quoted};
use super::statement::{AlterAction, AlterTable, Modify, Name, RowAction, Statement, When, WhenClause};
use super::weight::weight;
use crate::catalog::log::ViewRecord;
use crate::catalog::transaction::Found;
use crate::catalog::{Browse, RelationKind};
use crate::error::{Error, Result};
use crate::format::iceberg::{Change, Evolution, Place, Rules};

/// Tables that a query names beside those of the catalogs.
pub(super) type NamedTables = Vec<(String, Arc<dyn TableSource>)>;

/// A view that could be planned before a change.
struct Dependent {
    name: FullName,
    record: ViewRecord,
}

impl Session {
    pub(super) async fn alter_table(
        &mut self,
        planner: Planner,
        alter: &AlterTable,
        run: &Run,
    ) -> Result<Outcome> {
        let full = match planner.find(&alter.name).await {
            Err(missing @ (Error::TableNotFound(_) | Error::SchemaNotFound(_))) if alter.if_exists => {
                note_skipped(&planner.facts, &missing);
                return Ok(done("ALTER TABLE"));
            }
            found => found?,
        };
        for action in &alter.actions {
            self.alter_once(&planner, &full, action, run).await?;
        }
        Ok(done("ALTER TABLE"))
    }

    async fn alter_once(
        &mut self,
        planner: &Planner,
        full: &FullName,
        action: &AlterAction,
        run: &Run,
    ) -> Result<()> {
        match action {
            AlterAction::AddColumn { parent, column, if_not_exists, place } => {
                let added = self.add_column(planner, full, (parent, column, place.clone()), run).await;
                let is_there = |error: &Error| matches!(error, Error::AlreadyExists { kind: "column", .. });
                tolerate(added, *if_not_exists, is_there, &planner.facts)
            }
            AlterAction::DropColumn { path, if_exists, cascade } => {
                let dropped = drop_column(planner, full, path, *cascade).await;
                let is_missing = |error: &Error| matches!(error, Error::ColumnNotFound { .. });
                tolerate(dropped, *if_exists, is_missing, &planner.facts)
            }
            AlterAction::RenameColumn { path, to } => {
                let views = views_over(planner, full).await?;
                let change = Evolution::Rename { path: path.clone(), to: to.clone() };
                evolve(planner, full, change).await?;
                if let [from] = path.as_slice() {
                    rename_in_checks(planner, full, from, to).await?;
                }
                rename_in_views(planner, &views, &path.join("."), to).await
            }
            AlterAction::SetType { path, data_type } => {
                let views = views_over(planner, full).await?;
                let to = arrow_type(self.state(), data_type)?;
                evolve(planner, full, Evolution::Widen { path: path.clone(), to }).await?;
                refresh_types(planner, &views).await
            }
            AlterAction::SetNotNull { path, not_null } => {
                self.set_not_null(planner, full, (path, *not_null), run).await
            }
            AlterAction::Move { path, place } => {
                evolve(planner, full, Evolution::Move { path: path.clone(), place: place.clone() }).await
            }
            AlterAction::SetDefault { column, value } => {
                let value = value.iter().map(|value| (column.clone(), value.clone())).collect();
                let declared = Declared { defaults: value, ..Declared::default() };
                self.declare(planner, full, declared, Some(column), run).await
            }
            AlterAction::AddConstraint(constraint) => {
                let mut declared = Declared::default();
                declared.constraint(constraint)?;
                self.declare(planner, full, declared, None, run).await
            }
            AlterAction::DropConstraint { name, if_exists } => {
                let dropped = change_rules(planner, full, |rules, _| {
                    let found = rules.has(name);
                    rules.checks.retain(|check| check.name != *name);
                    rules.keys.retain(|key| key.name != *name);
                    if found { Ok(()) } else { Err(missing_constraint(full, name)) }
                });
                let is_missing = |error: &Error| matches!(error, Error::UndefinedObject(_));
                tolerate(dropped.await, *if_exists, is_missing, &planner.facts)
            }
            AlterAction::Repartition(to) => layout::repartition(planner, full, to).await,
            AlterAction::SetProperties(written) => layout::set_properties(planner, full, written).await,
            AlterAction::RenameConstraint { from, to } => {
                change_rules(planner, full, |rules, _| rename_constraint(rules, full, from, to)).await
            }
        }
    }

    async fn set_not_null(
        &mut self,
        planner: &Planner,
        full: &FullName,
        (path, not_null): (&[String], bool),
        run: &Run,
    ) -> Result<()> {
        match path {
            [column] if not_null => {
                if self.has_rows(planner, full, &format!("{} IS NULL", quoted(column)), run).await? {
                    return Err(Error::contains_nulls(&full.name, column));
                }
            }
            _ if not_null => {}
            _ => refuse_key(planner, full, path).await?,
        }
        let change = Evolution::SetRequired { path: path.to_vec(), required: not_null };
        evolve(planner, full, change).await
    }

    /// Adds what is declared to a table's rules, if its rows hold it. A column without a new default loses
    /// the one that it has.
    async fn declare(
        &mut self,
        planner: &Planner,
        full: &FullName,
        declared: Declared,
        default: Option<&String>,
        run: &Run,
    ) -> Result<()> {
        let transaction = &planner.transaction;
        let target = transaction.target(&full.catalog, &full.schema, &full.name).await?;
        let mut rules = target.rules.clone();
        if let Some(column) = default {
            rules.defaults.remove(&rules::field_id(&target.columns, column)?);
        }
        let (checks, keys) = (rules.checks.len(), rules.keys.len());
        declared.add_to(&mut rules, planner, &full.name, &target.columns).await?;
        for check in &rules.checks[checks..] {
            if self.has_rows(planner, full, &format!("NOT ({})", check.sql), run).await? {
                return Err(Error::CheckViolation { message: violated(&full.name, &check.name), row: None });
            }
        }
        for key in rules.keys[keys..].iter().filter(|key| key.primary) {
            for column in rules::names_of(&target.columns, &key.columns) {
                if self.has_rows(planner, full, &format!("{} IS NULL", quoted(column)), run).await? {
                    return Err(Error::contains_nulls(&full.name, column));
                }
            }
        }
        if rules == target.rules {
            return Ok(());
        }
        transaction.stage(target, Some(Change::SetRules(rules))).await?;
        self.refuse_duplicate_keys(&planner.transaction, full, Added::Anything, run).await
    }

    async fn add_column(
        &mut self,
        planner: &Planner,
        full: &FullName,
        (parent, column, place): (&[String], &ast::ColumnDef, Option<Place>),
        run: &Run,
    ) -> Result<()> {
        let mut declared = Declared::default();
        let nullable = declared.column(column)?;
        let (name, path) = (parse::fold(&column.name), vec![parse::fold(&column.name)]);
        let field: FieldRef = Arc::new(Field::new(&name, arrow_type(self.state(), &column.data_type)?, true));
        let value = declared.defaults.first().map(|(_, value)| value.clone());
        let has_rules = value.is_some() || !declared.checks.is_empty() || !declared.keys.is_empty();
        if !parent.is_empty() && (has_rules || !nullable) {
            let message = "a field within a column has neither defaults nor constraints".to_owned();
            return Err(Error::Unsupported(message));
        }
        evolve(planner, full, Evolution::Add { parent: parent.to_vec(), field, place }).await?;
        if let Some(value) = value
            && self.has_rows(planner, full, "true", run).await?
        {
            self.fill(planner, full, &name, value, run).await?;
        }
        if !nullable {
            if self.has_rows(planner, full, &format!("{} IS NULL", quoted(&name)), run).await? {
                return Err(Error::contains_nulls(&full.name, &name));
            }
            evolve(planner, full, Evolution::SetRequired { path, required: true }).await?;
        }
        self.declare(planner, full, declared, None, run).await
    }

    /// Gives a new column its default in the rows that are there. Their files are written anew, because
    /// other readers of Iceberg's version 2 know of no default.
    async fn fill(
        &mut self,
        planner: &Planner,
        full: &FullName,
        column: &str,
        value: ast::Expr,
        run: &Run,
    ) -> Result<()> {
        let update = Modify {
            word: "UPDATE",
            with: None,
            target: Name {
                catalog: Some(full.catalog.clone()),
                schema: Some(full.schema.clone()),
                name: full.name.clone(),
            },
            alias: None,
            using: Vec::new(),
            condition: None,
            clauses: vec![WhenClause {
                when: When::Matched,
                condition: None,
                action: RowAction::Update(vec![(column.to_owned(), value)]),
            }],
            returning: None,
        };
        let planner = self.planner_in(Arc::clone(&planner.transaction)).await?;
        self.modify(planner, &update, &[], run).await.map(drop)
    }

    /// Whether a row of the table passes a condition.
    pub(super) async fn has_rows(
        &self,
        planner: &Planner,
        full: &FullName,
        condition: &str,
        run: &Run,
    ) -> Result<bool> {
        self.finds(planner, (&name_of(full), Vec::new()), condition, run).await
    }

    /// Whether a row of a relation, that can be one of these `tables`, passes a condition.
    pub(super) async fn finds(
        &self,
        planner: &Planner,
        (from, tables): (&str, NamedTables),
        condition: &str,
        run: &Run,
    ) -> Result<bool> {
        let query = parsed(&format!("SELECT 1 FROM {from} WHERE {condition} LIMIT 1"))?;
        let planner = self.planner_in(Arc::clone(&planner.transaction)).await?;
        let plan: Arc<dyn ExecutionPlan> = run
            .plan(async move {
                let plan = planner.query_with(*query, &[], tables).await?;
                planner.physical(&plan).await
            })
            .await?;
        run.runtime.queries.admit(&run.guard, weight(plan.as_ref())).await?;
        let context = self.task_context();
        let batches = run.on_cpu(async move { Ok(collect(plan, context).await?) }).await?;
        Ok(batches.iter().any(|batch| batch.num_rows() > 0))
    }
}

/// Stages one change to the columns of a table.
async fn evolve(planner: &Planner, full: &FullName, change: Evolution) -> Result<()> {
    let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
    planner.transaction.stage(target, Some(Change::Evolve(change))).await
}

async fn drop_column(planner: &Planner, full: &FullName, path: &[String], cascade: bool) -> Result<()> {
    let views = views_over(planner, full).await?;
    if let [column] = path {
        // As in PostgreSQL, constraints go with a column that they are about.
        change_rules(planner, full, |rules, columns| forget_column(rules, columns, column)).await?;
    }
    evolve(planner, full, Evolution::Drop { path: path.to_vec() }).await?;
    let broken = broken(planner, &views).await?;
    if !cascade && !broken.is_empty() {
        let what = format!("column {} of table {}", path.join("."), full.name);
        return Err(Error::DependentObjects { what });
    }
    for view in broken {
        let FullName { catalog, schema, name } = &view.name;
        planner.transaction.drop_relation(catalog, schema, name, "view").await?;
    }
    Ok(())
}

/// Stages other rules of a table, unless they are the same.
async fn change_rules(
    planner: &Planner,
    full: &FullName,
    change: impl FnOnce(&mut Rules, &Schema) -> Result<()>,
) -> Result<()> {
    let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
    let mut rules = target.rules.clone();
    change(&mut rules, &target.columns)?;
    match rules == target.rules {
        true => Ok(()),
        false => planner.transaction.stage(target, Some(Change::SetRules(rules))).await,
    }
}

fn forget_column(rules: &mut Rules, columns: &Schema, column: &str) -> Result<()> {
    let id = rules::field_id(columns, column)?;
    rules.defaults.remove(&id);
    rules.keys.retain(|key| !key.columns.contains(&id));
    let mut checks = Vec::new();
    for check in rules.checks.drain(..) {
        if !rules::columns_of(&check.sql)?.contains(column) {
            checks.push(check);
        }
    }
    rules.checks = checks;
    Ok(())
}

async fn rename_in_checks(planner: &Planner, full: &FullName, from: &str, to: &str) -> Result<()> {
    change_rules(planner, full, |rules, _| {
        for check in &mut rules.checks {
            if rules::columns_of(&check.sql)?.contains(from) {
                check.sql = rules::renamed(&check.sql, from, to)?;
            }
        }
        Ok(())
    })
    .await
}

/// # Errors
/// [`Error::InvalidDefinition`] for a column of the primary key, which is never null.
async fn refuse_key(planner: &Planner, full: &FullName, path: &[String]) -> Result<()> {
    let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
    let key = target.rules.primary_key().map(|key| rules::names_of(&target.columns, &key.columns));
    match (path, key) {
        ([column], Some(key)) if key.contains(&column.as_str()) => {
            Err(Error::InvalidDefinition(format!("column \"{column}\" is in a primary key")))
        }
        _ => Ok(()),
    }
}

fn rename_constraint(rules: &mut Rules, full: &FullName, from: &str, to: &str) -> Result<()> {
    if rules.has(to) {
        return Err(Error::AlreadyExists { kind: "constraint", name: to.to_owned() });
    }
    let checks = rules.checks.iter_mut().map(|check| &mut check.name);
    let mut names = checks.chain(rules.keys.iter_mut().map(|key| &mut key.name));
    let name = names.find(|name| *name == from).ok_or_else(|| missing_constraint(full, from))?;
    to.clone_into(name);
    Ok(())
}

fn missing_constraint(full: &FullName, name: &str) -> Error {
    Error::UndefinedObject(format!("constraint \"{name}\" of relation \"{}\" does not exist", full.name))
}

/// The views that may read a table, alone or through others, and that can be planned now.
async fn views_over(planner: &Planner, full: &FullName) -> Result<Vec<Dependent>> {
    let transaction = &planner.transaction;
    let mut left = Vec::new();
    for (schema, _) in transaction.schemas(&full.catalog).await? {
        let relations = transaction.relations(&full.catalog, &schema).await?;
        left.extend(relations.into_iter().filter(|relation| relation.kind == RelationKind::View));
    }
    let mut named = vec![full.name.to_lowercase()];
    let mut views = Vec::new();
    loop {
        let before = views.len();
        let (over, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|view| {
            let sql = view.view_sql.as_deref().unwrap_or_default().to_lowercase();
            named.iter().any(|name| sql.contains(name))
        });
        left = others;
        for view in over {
            named.push(view.name.to_lowercase());
            views.push(FullName {
                catalog: view.catalog.clone(),
                schema: view.schema.clone(),
                name: view.name.clone(),
            });
        }
        if views.len() == before {
            break;
        }
    }
    let mut dependents = Vec::new();
    for name in views {
        let found = transaction.relation(&name.catalog, &name.schema, &name.name).await?;
        if let (Some(Found::View(record)), Ok(_)) = (found, columns_of(planner, &name).await) {
            dependents.push(Dependent { name, record });
        }
    }
    Ok(dependents)
}

/// The columns that a relation has when it is planned now.
async fn columns_of(planner: &Planner, name: &FullName) -> Result<Arc<Schema>> {
    let query = parsed(&format!("SELECT * FROM {}", name_of(name)))?;
    Ok(Arc::clone(planner.query(*query, &[]).await?.schema().inner()))
}

/// Those of `views` that cannot be planned any more.
async fn broken<'a>(planner: &Planner, views: &'a [Dependent]) -> Result<Vec<&'a Dependent>> {
    let mut broken = Vec::new();
    for view in views {
        if columns_of(planner, &view.name).await.is_err() {
            broken.push(view);
        }
    }
    Ok(broken)
}

/// Tells the views of a column's new name, which those that read all columns follow.
async fn rename_in_views(planner: &Planner, views: &[Dependent], from: &str, to: &str) -> Result<()> {
    for view in broken(planner, views).await? {
        let mut record = view.record.clone();
        for column in &mut record.columns {
            if column.source.as_deref() == Some(from) {
                column.source = Some(to.to_owned());
            }
        }
        let FullName { catalog, schema, name } = &view.name;
        planner.transaction.put_view(catalog, schema, name, record, true).await?;
    }
    match broken(planner, views).await?.first() {
        None => Ok(()),
        Some(view) => Err(Error::Unsupported(format!(
            "cannot rename column \"{from}\": view \"{}\" names it; drop or replace the view first",
            view.name
        ))),
    }
}

/// Records the types that the columns of `views` have now.
async fn refresh_types(planner: &Planner, views: &[Dependent]) -> Result<()> {
    for view in views {
        let columns = columns_of(planner, &view.name).await?;
        let mut record = view.record.clone();
        for (column, field) in record.columns.iter_mut().zip(columns.fields()) {
            column.data_type = field.data_type().to_string();
        }
        if record != view.record {
            let FullName { catalog, schema, name } = &view.name;
            planner.transaction.put_view(catalog, schema, name, record, true).await?;
        }
    }
    Ok(())
}

/// The query of a text that this module wrote.
pub(super) fn parsed(sql: &str) -> Result<Box<ast::Query>> {
    match parse::parse(sql)?.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(Error::Internal(format!("no query: {sql}"))),
    }
}

/// A relation's full name as SQL needs it.
pub(super) fn name_of(full: &FullName) -> String {
    [&full.catalog, &full.schema, &full.name].map(|part| quoted(part)).join(".")
}
