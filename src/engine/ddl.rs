//! DDL: what names the lake has. Data is written in [`write`](super::write).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::logical_expr::LogicalPlan;

use super::branch;
use super::dialect::display_name;
use super::execute::{Outcome, Rows, Run};
use super::parse::Moment;
use super::plan::Planner;
use super::returning::Returned;
use super::session::{Session, done};
use super::statement::{CommentOn, CreateView, Name, RelationWord, Statement};
use super::write::{column_indices, refuse_duplicates};
use crate::catalog::log::{ViewColumn, ViewRecord};
use crate::catalog::temporary::TEMPORARY_SCHEMA;
use crate::catalog::transaction::Transaction;
use crate::error::{Error, Result};
use crate::format::iceberg::Change;
use crate::function::SessionFacts;

impl Session {
    /// Runs a statement that changes a lake, and commits it unless a transaction block is open.
    pub(super) async fn change(
        &mut self,
        statement: &Statement,
        values: &[datafusion::common::ScalarValue],
        run: Run,
    ) -> Result<Outcome> {
        let (outcome, returned) = self.change_in(statement, values, &run).await?;
        Ok(answer(outcome, returned, run))
    }

    /// Makes a change and commits it, unless a transaction block is open.
    pub(super) async fn change_in(
        &mut self,
        statement: &Statement,
        values: &[datafusion::common::ScalarValue],
        run: &Run,
    ) -> Result<(Outcome, Option<Returned>)> {
        let (transaction, autocommit) = self.transaction();
        let planner = self.planner_in(Arc::clone(&transaction)).await?;
        let mut returned = None;
        let outcome = match statement {
            Statement::CreateTable(create) => self.create_table(planner, create, run).await?,
            Statement::CreateIndex { name, table, columns } => {
                self.create_index(&planner, name.as_deref(), table, columns).await?
            }
            Statement::Alter(alter) => self.alter_table(planner, alter, run).await?,
            Statement::Insert(insert) => {
                let (done, rows) = self.insert(planner, insert, values, run).await?;
                returned = rows;
                done
            }
            Statement::Modify(modify) => {
                let (done, rows) = self.modify(planner, modify, values, run).await?;
                returned = rows;
                done
            }
            Statement::Assert(assert) => match &assert.quarantine {
                Some(into) => Box::pin(self.quarantine(planner, assert, into, run)).await?,
                None => return Err(Error::Internal("an assertion changes nothing".to_owned())),
            },
            Statement::Export(export) => self.export(planner, export, run).await?,
            Statement::Refresh { name, with_data } => self.refresh(planner, name, *with_data, run).await?,
            Statement::CreateView(create) => create_view(planner, create, run).await?,
            _ => change_names(&planner, statement).await?,
        };
        if !autocommit {
            self.note_change(&run.guard.id);
            return Ok((outcome, returned));
        }
        let committed = self.commit(&transaction, run.guard.id.clone()).await;
        // Somebody made it a moment ago: then it exists.
        tolerate(
            committed,
            statement.may_exist(),
            |error| matches!(error, Error::AlreadyExists { .. }),
            &self.facts,
        )?;
        Ok((outcome, returned))
    }
}

impl Session {
    /// Looks at what an index would be made of, and says that none is.
    async fn create_index(
        &mut self,
        planner: &Planner,
        name: Option<&str>,
        table: &Name,
        columns: &[String],
    ) -> Result<Outcome> {
        let full = planner.find(table).await?;
        let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
        column_indices(&target.columns, columns)?;
        let name = name.map(|name| format!(" \"{name}\"")).unwrap_or_default();
        let message = format!("index{name} is not made: files are skipped by the statistics that they hold");
        self.warn("01000", &message);
        Ok(done("CREATE INDEX"))
    }
}

/// The rows that a statement returns, if it returns any; else that it is done.
fn answer(done: Outcome, returned: Option<Returned>, run: Run) -> Outcome {
    match returned {
        None => done,
        Some(Returned { word, schema, batches }) => {
            Outcome::Rows(Rows::of_batches(word, schema, batches, run))
        }
    }
}

/// Statements that read and write no rows.
async fn change_names(planner: &Planner, statement: &Statement) -> Result<Outcome> {
    let transaction = planner.transaction.as_ref();
    let facts = planner.facts.as_ref();
    match statement {
        Statement::CreateSchema { catalog, schema, if_not_exists } => {
            let catalog = catalog.as_ref().unwrap_or(&planner.database);
            transaction.ensure_catalog(catalog)?;
            refuse_system(schema)?;
            refuse_temporary(schema)?;
            if *if_not_exists && transaction.schema_exists(catalog, schema).await? {
                note_skipped(facts, &Error::AlreadyExists { kind: "schema", name: schema.clone() });
            }
            transaction.create_schema(catalog, schema, *if_not_exists).await?;
        }
        Statement::DropSchema { names, if_exists, cascade } => {
            for (catalog, schema) in names {
                let catalog = catalog.as_ref().unwrap_or(&planner.database);
                transaction.ensure_catalog(catalog)?;
                refuse_temporary(schema)?;
                let dropped = transaction.drop_schema(catalog, schema, *cascade).await;
                tolerate(dropped, *if_exists, is_missing, facts)?;
            }
        }
        Statement::Drop { kind, names, if_exists } => {
            for name in names {
                tolerate(drop_one(planner, *kind, name).await, *if_exists, is_missing, facts)?;
            }
        }
        Statement::Truncate { names, if_exists } => {
            for name in names {
                tolerate(truncate(planner, name).await, *if_exists, is_missing, facts)?;
            }
        }
        Statement::Rename { from, to, if_exists, kind } => {
            tolerate(rename(planner, from, None, Some(to), *kind).await, *if_exists, is_missing, facts)?;
        }
        Statement::SetSchema { name, schema, if_exists, kind } => {
            tolerate(rename(planner, name, Some(schema), None, *kind).await, *if_exists, is_missing, facts)?;
        }
        Statement::Restore { name, to, if_exists } => {
            tolerate(restore(planner, name, to).await, *if_exists, is_missing, facts)?;
        }
        Statement::Undrop { name, to } => undrop(planner, name, to.as_deref()).await?,
        Statement::Branch(branch) => branch::change(planner, branch).await?,
        Statement::Comment { on, comment } => comment_on(planner, transaction, on, comment.clone()).await?,
        other => return Err(Error::Unsupported(format!("{} is not supported yet", other.word()))),
    }
    Ok(done(statement.word()))
}

async fn drop_one(planner: &Planner, kind: RelationWord, name: &Name) -> Result<()> {
    let full = planner.find(name).await?;
    refuse_system(&full.schema)?;
    planner.transaction.drop_relation(&full.catalog, &full.schema, &full.name, kind.word()).await
}

async fn truncate(planner: &Planner, name: &Name) -> Result<()> {
    use crate::format::iceberg::Removal;
    let full = planner.find(name).await?;
    let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
    let change = Change::Overwrite { add: Vec::new(), remove: Removal::All };
    planner.transaction.stage(target, Some(change)).await
}

async fn rename(
    planner: &Planner,
    from: &Name,
    to_schema: Option<&String>,
    to_name: Option<&String>,
    kind: RelationWord,
) -> Result<()> {
    let full = planner.find(from).await?;
    let to = (to_schema.unwrap_or(&full.schema).as_str(), to_name.unwrap_or(&full.name).as_str());
    refuse_system(to.0)?;
    // ALTER TABLE takes a view too, as in PostgreSQL.
    let wanted = (kind != RelationWord::Table).then_some(kind.word());
    planner.transaction.rename(&full.catalog, (&full.schema, &full.name), to, wanted).await
}

async fn restore(planner: &Planner, name: &Name, to: &Moment) -> Result<()> {
    let full = planner.find(name).await?;
    refuse_system(&full.schema)?;
    let as_of = planner.moment(to)?;
    planner.transaction.restore(&full.catalog, &full.schema, &full.name, as_of).await
}

async fn undrop(planner: &Planner, name: &Name, to: Option<&str>) -> Result<()> {
    let full = planner.target(name).await?;
    refuse_system(&full.schema)?;
    let to = (full.schema.as_str(), to.unwrap_or(&full.name));
    planner.transaction.undrop(&full.catalog, (&full.schema, &full.name), to).await
}

async fn comment_on(
    planner: &Planner,
    transaction: &Transaction,
    on: &CommentOn,
    comment: Option<String>,
) -> Result<()> {
    match on {
        CommentOn::Schema { catalog, schema } => {
            let catalog = catalog.as_ref().unwrap_or(&planner.database);
            transaction.ensure_catalog(catalog)?;
            refuse_temporary(schema)?;
            transaction.comment(catalog, schema, None, comment).await
        }
        CommentOn::Relation(name) => {
            let full = planner.find(name).await?;
            transaction.comment(&full.catalog, &full.schema, Some(&full.name), comment).await
        }
        CommentOn::Column { table, column } => {
            let full = planner.find(table).await?;
            let target = transaction.stored(&full.catalog, &full.schema, &full.name).await?;
            if target.columns.column_with_name(column).is_none() {
                return Err(Error::ColumnNotFound { name: column.clone(), candidates: Vec::new() });
            }
            let change = Change::SetColumnComment { column: column.clone(), comment };
            transaction.stage(target, Some(change)).await
        }
    }
}

async fn create_view(planner: Planner, create: &CreateView, run: &Run) -> Result<Outcome> {
    let query = create.query.clone();
    let (planner, plan) = run
        .plan(async move {
            let plan = planner.query(*query, &[]).await?;
            Ok((planner, plan))
        })
        .await?;
    // As in PostgreSQL, what stands on a temporary table is temporary.
    let full = match create.temporary || planner.temporary.seen.load(Ordering::Relaxed) {
        true => planner.temporary_target(&create.name)?,
        false => planner.target(&create.name).await?,
    };
    refuse_system(&full.schema)?;
    let record = view_record(&planner, &plan, &create.columns, &create.sql)?;
    let transaction = &planner.transaction;
    let made = transaction.put_view(&full.catalog, &full.schema, &full.name, record, create.or_replace).await;
    let is_there = |error: &Error| matches!(error, Error::AlreadyExists { .. });
    tolerate(made, create.if_not_exists, is_there, &planner.facts)?;
    Ok(done("CREATE VIEW"))
}

/// What the log keeps of a view with this plan and text.
///
/// # Errors
/// [`Error::Syntax`] for more names than columns, [`Error::AlreadyExists`] for a column that comes twice.
pub(super) fn view_record(
    planner: &Planner,
    plan: &LogicalPlan,
    names: &[String],
    sql: &str,
) -> Result<ViewRecord> {
    let fields = plan.schema().fields();
    if names.len() > fields.len() {
        return Err(Error::Syntax {
            message: "CREATE VIEW specifies more column names than columns".to_owned(),
            position: None,
        });
    }
    let named = |(index, field): (usize, &arrow::datatypes::FieldRef)| ViewColumn {
        source: Some(display_name(field.name()).to_owned()),
        name: names.get(index).map_or_else(|| display_name(field.name()).to_owned(), String::clone),
        data_type: field.data_type().to_string(),
    };
    let columns: Vec<ViewColumn> = fields.iter().enumerate().map(named).collect();
    refuse_duplicates(columns.iter().map(|column| column.name.as_str()))?;
    let (sql, search_path) = (sql.to_owned(), planner.search_path.clone());
    Ok(ViewRecord { sql, columns, search_path, comment: None })
}

/// Passes over an error that `IF [NOT] EXISTS` allows, and tells the client.
pub(super) fn tolerate(
    result: Result<()>,
    allowed: bool,
    which: impl Fn(&Error) -> bool,
    facts: &SessionFacts,
) -> Result<()> {
    match result {
        Err(error) if allowed && which(&error) => {
            note_skipped(facts, &error);
            Ok(())
        }
        other => other,
    }
}

/// Tells the client that nothing was done, because it is so already.
pub(super) fn note_skipped(facts: &SessionFacts, error: &Error) {
    let is_there = matches!(error, Error::AlreadyExists { .. });
    let sqlstate = if is_there { error.sqlstate() } else { "00000" };
    facts.note(sqlstate, &format!("{error}, skipping"));
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::TableNotFound(_) | Error::SchemaNotFound(_) | Error::CatalogNotFound(_))
}

/// The schema of temporary tables comes and goes with them.
fn refuse_temporary(schema: &str) -> Result<()> {
    match schema == TEMPORARY_SCHEMA {
        true => Err(Error::PermissionDenied(format!("schema \"{schema}\" belongs to the session"))),
        false => Ok(()),
    }
}

/// The daemon's own schemas hold nothing of the user's, but for temporary tables.
pub(super) fn refuse_system(schema: &str) -> Result<()> {
    if schema.starts_with("pg_") && schema != TEMPORARY_SCHEMA
        || schema == "information_schema"
        || schema == "system"
    {
        return Err(Error::PermissionDenied(format!("schema \"{schema}\" belongs to the daemon")));
    }
    Ok(())
}
