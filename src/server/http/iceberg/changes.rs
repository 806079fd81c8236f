//! Changes: what a client asks to be done to a lake, each request one transaction.
//!
//! A change is made on the newest version of the lake, and committed through its log. When another
//! transaction is first, it is made again on the version that this left, as long as the client's own
//! requirements still hold there: they say what is a conflict, the race for a slot does not.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::reads::{ensure_own, properties};
use super::reply::Reply;
use super::{Call, RestCatalog, unknown};
use crate::catalog::transaction::{TableCommit, Transaction};
use crate::engine::foreign::ensure_rules;
use crate::error::{Error, Result};
use crate::format::iceberg::{NewIcebergTable, Requirement, Update};
use crate::telemetry::Metrics;

/// Transactions that may come before a change does.
const ATTEMPTS_MAX: u32 = 20;
/// Namespace properties that are the catalog's own words for something.
const COMMENT: &str = "comment";
/// Spark names who makes a namespace; the log knows it already.
const OWNER: &str = "owner";

/// What is to be done.
pub(super) enum Change {
    CreateSchema {
        schema: String,
        comment: Option<String>,
    },
    DropSchema(String),
    /// A comment is left alone, taken away or set.
    SetComment {
        schema: String,
        comment: Option<Option<String>>,
        missing: Vec<String>,
    },
    DropTable {
        schema: String,
        table: String,
    },
    Rename {
        from: (String, String),
        to: (String, String),
    },
    /// The first is what the client is shown afterwards, where it made or changed one table.
    Commit {
        tables: Vec<(String, String, TableCommit)>,
        shows: bool,
    },
}

/// What became of a new table.
pub(super) enum Created {
    /// The client commits it by itself.
    Staged(Reply),
    Change(Change),
}

#[derive(Deserialize)]
struct NewNamespace {
    namespace: Vec<String>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct NamespaceUpdate {
    #[serde(default)]
    removals: Vec<String>,
    #[serde(default)]
    updates: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Identifier {
    namespace: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct Renaming {
    source: Identifier,
    destination: Identifier,
}

#[derive(Deserialize)]
struct TableRequest {
    #[serde(default)]
    identifier: Option<Identifier>,
    #[serde(default)]
    requirements: Vec<Requirement>,
    #[serde(default)]
    updates: Vec<Update>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct TransactionRequest {
    table_changes: Vec<TableRequest>,
}

impl Identifier {
    fn parts(self) -> Result<(String, String)> {
        Ok((single(self.namespace)?, self.name))
    }
}

/// The schema that a namespace of one level is.
fn single(namespace: Vec<String>) -> Result<String> {
    match <[String; 1]>::try_from(namespace) {
        Ok([schema]) if !schema.is_empty() => Ok(schema),
        Ok(_) => Err(Error::InvalidParameter("a namespace needs a name".to_owned())),
        Err(levels) => Err(Error::SchemaNotFound(levels.join("."))),
    }
}

impl Change {
    /// What a request asks for, its path without the catalog being `path`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what this catalog has not, [`Error::InvalidParameter`].
    pub fn of(call: &Call, path: &[&str]) -> Result<Self> {
        match (call.method.as_str(), path) {
            ("POST", ["namespaces"]) => new_namespace(call.json()?),
            ("DELETE", ["namespaces", schema]) => Ok(Self::DropSchema((*schema).to_owned())),
            ("POST", ["namespaces", schema, "properties"]) => namespace_update(schema, call.json()?),
            ("DELETE", ["namespaces", schema, "tables", table]) => {
                Ok(Self::DropTable { schema: (*schema).to_owned(), table: (*table).to_owned() })
            }
            ("POST", ["namespaces", schema, "tables", table]) => {
                let request: TableRequest = call.json()?;
                let commit = TableCommit { requirements: request.requirements, updates: request.updates };
                let tables = vec![((*schema).to_owned(), (*table).to_owned(), commit)];
                Ok(Self::Commit { tables, shows: true })
            }
            ("POST", ["tables", "rename"]) => {
                let request: Renaming = call.json()?;
                Ok(Self::Rename { from: request.source.parts()?, to: request.destination.parts()? })
            }
            ("POST", ["transactions", "commit"]) => several(call.json()?),
            _ => Err(unknown(call)),
        }
    }

    /// Makes the change in `transaction`, for `user`; returns what the client is answered if it is committed.
    async fn make(
        &self,
        rest: &RestCatalog,
        transaction: &Arc<Transaction>,
        who: (&str, &str),
    ) -> Result<Reply> {
        let (user, catalog) = who;
        match self {
            Self::CreateSchema { schema, comment } => {
                transaction.create_schema(catalog, schema, false).await?;
                if comment.is_some() {
                    transaction.comment(catalog, schema, None, comment.clone()).await?;
                }
                let properties = comment.iter().map(|comment| (COMMENT, comment)).collect::<BTreeMap<_, _>>();
                Ok(Reply::Json(json!({"namespace": [schema], "properties": properties})))
            }
            Self::DropSchema(schema) => {
                transaction.drop_schema(catalog, schema, false).await?;
                Ok(Reply::Empty)
            }
            Self::SetComment { schema, comment, missing } => {
                let known = properties(transaction, catalog, schema).await?.contains_key(COMMENT);
                let mut answer = json!({"updated": [], "removed": [], "missing": missing.clone()});
                match comment {
                    None => return Ok(Reply::Json(answer)),
                    Some(Some(_)) => answer["updated"] = json!([COMMENT]),
                    Some(None) if known => answer["removed"] = json!([COMMENT]),
                    Some(None) => {
                        answer["missing"] = missing.iter().map(String::as_str).chain([COMMENT]).collect();
                        return Ok(Reply::Json(answer));
                    }
                }
                transaction.comment(catalog, schema, None, comment.clone().flatten()).await?;
                Ok(Reply::Json(answer))
            }
            Self::DropTable { schema, table } => {
                transaction.iceberg_table(catalog, schema, table).await?;
                transaction.drop_relation(catalog, schema, table, "table").await?;
                Ok(Reply::Empty)
            }
            Self::Rename { from, to } => {
                transaction.iceberg_table(catalog, &from.0, &from.1).await?;
                transaction.rename(catalog, (&from.0, &from.1), (&to.0, &to.1), Some("table")).await?;
                Ok(Reply::Empty)
            }
            Self::Commit { tables, shows } => {
                let mut shown = None;
                for (schema, table, commit) in tables {
                    let name = (catalog, schema.as_str(), table.as_str());
                    let before = match transaction.iceberg_table(catalog, schema, table).await {
                        Ok(before) => Some(before),
                        Err(Error::TableNotFound(_) | Error::SchemaNotFound(_)) => None,
                        Err(error) => return Err(error),
                    };
                    let made =
                        transaction.update_iceberg_table(catalog, schema, table, commit.clone()).await?;
                    if let Some(before) = before {
                        ensure_rules(&rest.engine, user, transaction, name, &before).await?;
                    }
                    shown.get_or_insert(made);
                }
                match shown.filter(|_| *shows) {
                    Some(metadata) => Reply::table(&metadata, false),
                    None => Ok(Reply::Empty),
                }
            }
        }
    }

    /// Refuses what is the daemon's, or a session's.
    fn ensure_allowed(&self) -> Result<()> {
        let schemas: Vec<&str> = match self {
            Self::CreateSchema { schema, .. } | Self::DropSchema(schema) => vec![schema],
            Self::SetComment { schema, .. } | Self::DropTable { schema, .. } => vec![schema],
            Self::Rename { from, to } => vec![&from.0, &to.0],
            Self::Commit { tables, .. } => tables.iter().map(|(schema, ..)| schema.as_str()).collect(),
        };
        for schema in schemas {
            ensure_own(schema)?;
            if schema.starts_with("pg_") || schema == "information_schema" || schema == "system" {
                return Err(Error::PermissionDenied(format!("schema \"{schema}\" belongs to the daemon")));
            }
        }
        Ok(())
    }
}

impl RestCatalog {
    /// Prepares a new table: for the client to commit it, or to be committed at once.
    pub(super) async fn create(
        &self,
        transaction: &Transaction,
        catalog: &str,
        schema: &str,
        table: NewIcebergTable,
    ) -> Result<Created> {
        ensure_own(schema)?;
        let (metadata, updates) = transaction.prepare_iceberg_table(catalog, schema, &table).await?;
        if table.stage_create {
            return Reply::table(&metadata, true).map(Created::Staged);
        }
        let commit = TableCommit { requirements: vec![Requirement::AssertCreate], updates };
        let tables = vec![(schema.to_owned(), table.name, commit)];
        Ok(Created::Change(Change::Commit { tables, shows: true }))
    }

    /// Makes a change and commits it, again where another transaction was first.
    pub(super) async fn change(
        &self,
        call: &Call,
        catalog: &str,
        change: &Change,
        query: &str,
    ) -> Result<Reply> {
        change.ensure_allowed()?;
        let metrics = &self.engine.runtime.metrics;
        let mut attempt = 1;
        loop {
            let transaction = self.begin(call);
            let reply = change.make(self, &transaction, (call.identity.user(), catalog)).await?;
            match commit(transaction, query).await {
                Ok(true) => Metrics::add(&metrics.commits_total, 1),
                Ok(false) => {}
                Err(Error::CommitConflict { .. }) if attempt < ATTEMPTS_MAX => {
                    Metrics::add(&metrics.commit_conflicts_total, 1);
                    attempt += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            return Ok(reply);
        }
    }
}

/// Commits in a task of its own, which goes on when the client is gone.
async fn commit(transaction: Arc<Transaction>, query: &str) -> Result<bool> {
    if !transaction.has_changes() {
        return Ok(false);
    }
    let query = query.to_owned();
    let committed = tokio::spawn(async move { transaction.commit(&query).await });
    committed.await.map_err(crate::runtime::cpu::from_join)?
}

fn new_namespace(request: NewNamespace) -> Result<Change> {
    let mut properties = request.properties;
    let comment = properties.remove(COMMENT);
    properties.remove(OWNER);
    refuse(properties.keys())?;
    Ok(Change::CreateSchema { schema: single(request.namespace)?, comment })
}

fn namespace_update(schema: &str, request: NamespaceUpdate) -> Result<Change> {
    let mut updates = request.updates;
    let comment = updates.remove(COMMENT);
    let removes = request.removals.iter().any(|name| name == COMMENT);
    if removes && comment.is_some() {
        let message = "\"comment\" cannot be set and removed at once".to_owned();
        return Err(Error::InvalidParameter(message));
    }
    refuse(updates.keys())?;
    let missing = request.removals.into_iter().filter(|name| name != COMMENT).collect();
    let comment = if removes { Some(None) } else { comment.map(Some) };
    Ok(Change::SetComment { schema: schema.to_owned(), comment, missing })
}

fn refuse<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    match names.next() {
        None => Ok(()),
        Some(name) => {
            Err(Error::Unsupported(format!("a namespace keeps a comment, and no property \"{name}\"")))
        }
    }
}

fn several(request: TransactionRequest) -> Result<Change> {
    let mut tables = Vec::with_capacity(request.table_changes.len());
    let mut named = HashSet::new();
    for TableRequest { identifier, requirements, updates } in request.table_changes {
        let missing = || Error::InvalidParameter("a change names no table".to_owned());
        let (schema, table) = identifier.ok_or_else(missing)?.parts()?;
        if !named.insert((schema.clone(), table.clone())) {
            let message = format!("table \"{schema}.{table}\" is changed twice in one transaction");
            return Err(Error::InvalidParameter(message));
        }
        tables.push((schema, table, TableCommit { requirements, updates }));
    }
    Ok(Change::Commit { tables, shows: false })
}
