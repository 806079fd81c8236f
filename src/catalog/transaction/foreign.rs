//! Foreign changes: what other engines do to a lake's tables through the Iceberg REST catalog.
//!
//! They go into the same overlay and the same log as what SQL does. A table is changed on the version
//! that it has in this transaction, and on no other: when another transaction is first, the commit
//! fails, and whoever called holds the client's requirements against the newest version.

use std::sync::Arc;

use super::super::log::{Dependency, Operation, TableRecord};
use super::{LakeView, Place, Transaction, Written, change};
use crate::error::{Error, Result};
use crate::format::files::footers::Footers;
use crate::format::iceberg::{self, Change, NewIcebergTable, Requirement, TableMetadata, Update};

/// What a client asks to be made of one table.
#[derive(Debug, Clone, Default)]
pub struct TableCommit {
    pub requirements: Vec<Requirement>,
    pub updates: Vec<Update>,
}

impl Transaction {
    /// The metadata of a managed table, as this transaction sees it.
    ///
    /// # Errors
    /// [`Error::TableNotFound`], for views and open tables too; they are no Iceberg tables.
    pub async fn iceberg_table(&self, catalog: &str, schema: &str, name: &str) -> Result<Arc<TableMetadata>> {
        let missing = || Error::TableNotFound(format!("{schema}.{name}"));
        let Place::Lake(lake) = self.place(catalog, schema)? else { return Err(missing()) };
        let view = self.view(lake).await?;
        let record = view.state.table(schema, name).ok_or_else(missing)?;
        self.metadata(&view, record).await
    }

    /// Prepares a new table and names its folder; nobody else sees it.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::SchemaNotFound`], and what is wrong with the definition.
    pub async fn prepare_iceberg_table(
        &self,
        catalog: &str,
        schema: &str,
        table: &NewIcebergTable,
    ) -> Result<(TableMetadata, Vec<Update>)> {
        let view = self.writable(catalog, schema).await?;
        self.ensure_free(&view, catalog, schema, &table.name).await?;
        let id = uuid::Uuid::new_v4().to_string();
        let location = &view.lake.location;
        let url = format!("{}{}", location.url, change::directory(schema, &table.name, &id));
        if table.location.as_ref().is_some_and(|wanted| wanted.trim_end_matches('/') != url) {
            let message = "a location of its own for a table: Lacus names the folder".to_owned();
            return Err(Error::Unsupported(message));
        }
        let mut updates = iceberg::begin_table(table, &id)?;
        updates.push(Update::SetLocation { location: url.clone() });
        let metadata = iceberg::apply_updates(None, &url, &updates)?;
        if table.stage_create {
            // DuckDB makes no folders on a local disk; a file does, wherever it lies.
            let draft = location.path_of(&format!("{url}/metadata/{id}.draft.json"))?;
            let json = serde_json::to_vec(&metadata).map_err(|error| Error::Internal(error.to_string()))?;
            location.put(&draft, json.into()).await?;
        }
        Ok((metadata, updates))
    }

    /// Changes a table, or makes one where the client asserts that there is none.
    ///
    /// The files that the updates name must be there; see [`verify`](iceberg::verify) for the cost.
    ///
    /// # Errors
    /// [`Error::CommitConflict`] when a requirement does not hold, [`Error::TableNotFound`],
    /// [`Error::AlreadyExists`], [`Error::ReadOnly`], and what is wrong with updates and files.
    pub async fn update_iceberg_table(
        &self,
        catalog: &str,
        schema: &str,
        name: &str,
        commit: TableCommit,
    ) -> Result<Arc<TableMetadata>> {
        let mut view = self.writable(catalog, schema).await?;
        let record = view.state.table(schema, name).cloned();
        let base = match &record {
            Some(record) => Some(self.metadata(&view, record).await?),
            None => None,
        };
        for requirement in &commit.requirements {
            requirement.check(base.as_deref(), name)?;
        }
        let mut record = match record {
            Some(record) if record.materialized.is_some() => {
                let message = format!("cannot change materialized view \"{name}\"");
                return Err(Error::Unsupported(message));
            }
            Some(record) => {
                view.depend(Dependency::Table {
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                    id: record.id.clone(),
                    metadata: Some(record.metadata.clone()),
                });
                record
            }
            None if commit.requirements.contains(&Requirement::AssertCreate) => {
                self.ensure_free(&view, catalog, schema, name).await?;
                view.depend_for_new(schema, name, None);
                new_record(&view, schema, name, &commit.updates)?
            }
            None => return Err(Error::TableNotFound(format!("{schema}.{name}"))),
        };
        let metadata = self.stage_updates(&mut view, &mut record, base, commit.updates).await?;
        let (schema, name) = (schema.to_owned(), name.to_owned());
        view.add(Operation::PutTable { schema, name, table: record });
        self.keep(view)?;
        Ok(metadata)
    }

    /// Verifies and stores the version that `updates` make of a table.
    async fn stage_updates(
        &self,
        view: &mut LakeView,
        record: &mut TableRecord,
        base: Option<Arc<TableMetadata>>,
        updates: Vec<Update>,
    ) -> Result<Arc<TableMetadata>> {
        let location = view.lake.location.clone();
        let directory = location.child(&record.directory);
        let url = format!("{}{}", location.url, record.directory);
        let draft = iceberg::apply_updates(base.as_deref(), &url, &updates)?;
        let footers = Footers::new(&self.catalogs.state, &location);
        iceberg::verify(&location, &directory, base.as_deref(), &draft, &footers).await?;
        let changes = vec![Change::Updates(updates)];
        let staged = iceberg::stage(&location, &directory, base.as_deref(), changes.clone()).await?;
        let written = view.written.entry(record.id.clone()).or_insert_with(|| Written {
            base: base.is_some().then(|| record.metadata.clone()),
            metadata: Arc::clone(&staged.metadata),
            changes: Vec::new(),
        });
        written.changes.extend(changes);
        written.metadata = Arc::clone(&staged.metadata);
        record.advance(change::relative(&location, &staged.metadata_url)?, false);
        if base.is_none_or(|base| base.comment() != staged.metadata.comment()) {
            record.comment = staged.metadata.comment().map(str::to_owned);
        }
        Ok(staged.metadata)
    }

    async fn ensure_free(&self, view: &LakeView, catalog: &str, schema: &str, name: &str) -> Result<()> {
        if !self.schema_exists(catalog, schema).await? {
            return Err(Error::SchemaNotFound(schema.to_owned()));
        }
        let taken = view.state.relation(schema, name).is_some() || self.is_open(view, schema, name).await?;
        if taken { Err(change::exists(name)) } else { Ok(()) }
    }
}

/// The record of a table that a client prepared, in the folder that was named to it then.
fn new_record(view: &LakeView, schema: &str, name: &str, updates: &[Update]) -> Result<TableRecord> {
    let id = updates.iter().rev().find_map(|update| match update {
        Update::AssignUuid { uuid } => uuid::Uuid::parse_str(uuid).ok(),
        _ => None,
    });
    let missing = || Error::InvalidParameter("a new table needs a UUID".to_owned());
    let id = id.ok_or_else(missing)?.to_string();
    let directory = change::directory(schema, name, &id);
    if view.state.tables().any(|(_, _, table)| table.directory == directory || table.id == id) {
        return Err(Error::AlreadyExists { kind: "table", name: id });
    }
    Ok(TableRecord { id, directory, metadata: String::new(), comment: None, rows: None, materialized: None })
}
