//! Changes: what DDL and writes do to a transaction's overlay.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use object_store::path::Path;

use super::super::log::{Dependency, MaterializedRecord, Operation, TableRecord, ViewRecord};
use super::super::state::RelationState;
use super::{LakeView, OnCommit, TEMPORARY_SCHEMA, Transaction, Written, lock};
use crate::error::{Error, Result};
use crate::format::iceberg::{self, Change, Definition, Expiry, Rules, TableMetadata};
use crate::format::partition::PartitionField;
use crate::storage::Location;

/// A table that is to be made.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Columns of any type that can be stored.
    pub schema: SchemaRef,
    pub partition: Vec<PartitionField>,
    pub comment: Option<String>,
    pub properties: BTreeMap<String, String>,
    pub materialized: Option<Box<MaterializedRecord>>,
    /// Of a temporary table.
    pub on_commit: OnCommit,
}

/// A managed table that a statement writes.
#[derive(Debug, Clone)]
pub struct TableTarget {
    pub catalog: String,
    pub schema: String,
    pub name: String,
    pub location: Location,
    /// Where its data files go.
    pub data: Path,
    /// The columns of its files, with field ids.
    pub columns: SchemaRef,
    pub partition: Vec<PartitionField>,
    pub properties: BTreeMap<String, String>,
    /// Defaults and constraints; those of a new table are given before it is staged.
    pub rules: Rules,
    record: TableRecord,
    /// The change that makes the table, where it is new.
    create: Option<Box<Change>>,
    replaces: bool,
}

impl TableTarget {
    /// What a materialized view is made of; none for a table.
    pub fn materialized(&self) -> Option<&MaterializedRecord> {
        self.record.materialized.as_deref()
    }

    /// Says whether a materialized view has the rows of its query from now on.
    pub fn populate(&mut self, populated: bool) {
        if let Some(materialized) = &mut self.record.materialized {
            materialized.populated = populated;
        }
    }
}

impl Transaction {
    /// Makes a schema; nothing is done for one that exists when it `may_exist`.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`].
    pub async fn create_schema(&self, catalog: &str, schema: &str, may_exist: bool) -> Result<()> {
        let mut view = self.writable(catalog, schema).await?;
        match self.schema_exists(catalog, schema).await? {
            true if may_exist => return Ok(()),
            true => return Err(Error::AlreadyExists { kind: "schema", name: schema.to_owned() }),
            false => {}
        }
        if !may_exist {
            view.depend(Dependency::AbsentSchema { schema: schema.to_owned() });
        }
        view.add(Operation::CreateSchema { schema: schema.to_owned(), comment: None });
        self.keep(view)
    }

    /// Drops a schema that `CREATE SCHEMA` made, with everything in it when `cascade`.
    ///
    /// # Errors
    /// [`Error::SchemaNotFound`], [`Error::DependentObjects`], [`Error::WrongObjectType`] for a folder.
    pub async fn drop_schema(&self, catalog: &str, schema: &str, cascade: bool) -> Result<()> {
        let mut view = self.writable(catalog, schema).await?;
        let Some(state) = view.state.schemas.get(schema).cloned() else {
            return match self.schema_exists(catalog, schema).await? {
                true => {
                    Err(Error::WrongObjectType { name: schema.to_owned(), wanted: "schema that SQL made" })
                }
                false => Err(Error::SchemaNotFound(schema.to_owned())),
            };
        };
        if !cascade && !state.relations.is_empty() {
            return Err(Error::DependentObjects { what: format!("schema {schema}") });
        }
        if state.created {
            view.depend(Dependency::Schema { schema: schema.to_owned() });
        }
        for (name, relation) in &state.relations {
            view.depend(relied(schema, name, relation));
        }
        if let Some(known) = view.base.schemas.get(schema) {
            let names = known.relations.keys().cloned().collect();
            view.depend(Dependency::SchemaHolds { schema: schema.to_owned(), names });
        }
        view.add(Operation::DropSchema { schema: schema.to_owned() });
        self.keep(view)
    }

    /// Names a new table and its folder; it is made when its rows are written.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] unless `or_replace`, [`Error::WrongObjectType`] for a view.
    pub async fn new_table(
        &self,
        catalog: &str,
        schema: &str,
        name: &str,
        table: NewTable,
        or_replace: bool,
    ) -> Result<TableTarget> {
        let mut view = self.writable(catalog, schema).await?;
        let existing = view.state.relation(schema, name).cloned();
        match &existing {
            Some(relation) if or_replace && relation.word() == "table" => {}
            Some(_) if or_replace => {
                return Err(Error::WrongObjectType { name: name.to_owned(), wanted: "table" });
            }
            Some(_) => return Err(exists(name)),
            None if self.is_open(&view, schema, name).await? => {
                return Err(exists(name));
            }
            None => {}
        }
        let record = match &existing {
            Some(RelationState::Table(old)) => {
                TableRecord { comment: table.comment.clone(), ..fresh(schema, name, old.comment.clone()) }
            }
            _ => fresh(schema, name, table.comment.clone()),
        };
        let record = TableRecord { materialized: table.materialized, ..record };
        if view.lake.is_temporary() {
            self.temporary.note(&record, table.on_commit);
        }
        view.depend_for_new(schema, name, existing.as_ref());
        let location = view.lake.location.clone();
        let directory = location.child(&record.directory);
        let columns = Arc::new(iceberg::storable_schema(&table.schema)?);
        let create = Change::Create(Definition {
            schema: table.schema,
            partition: table.partition.clone(),
            properties: table.properties.clone(),
            comment: table.comment,
        });
        self.keep(view)?;
        Ok(TableTarget {
            catalog: catalog.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            location,
            data: directory.join("data"),
            columns,
            partition: table.partition,
            properties: table.properties,
            rules: Rules::default(),
            record,
            create: Some(Box::new(create)),
            replaces: existing.is_some(),
        })
    }

    /// The managed table of this name, to be written.
    ///
    /// # Errors
    /// [`Error::TableNotFound`], [`Error::WrongObjectType`] for views of both kinds, [`Error::ReadOnly`]
    /// for open tables.
    pub async fn target(&self, catalog: &str, schema: &str, name: &str) -> Result<TableTarget> {
        let target = self.stored(catalog, schema, name).await?;
        match target.record.materialized {
            Some(_) => Err(Error::WrongObjectType { name: name.to_owned(), wanted: "table" }),
            None => Ok(target),
        }
    }

    /// The managed table or materialized view of this name, for what leaves its rows as they are, or
    /// makes them anew.
    ///
    /// # Errors
    /// As [`target`](Self::target), but for materialized views.
    pub async fn stored(&self, catalog: &str, schema: &str, name: &str) -> Result<TableTarget> {
        let view = self.writable(catalog, schema).await?;
        let record = match view.state.relation(schema, name) {
            Some(RelationState::Table(record)) => record.clone(),
            Some(RelationState::View(_)) => {
                return Err(Error::WrongObjectType { name: name.to_owned(), wanted: "table" });
            }
            None if self.is_open(&view, schema, name).await? => {
                return Err(Error::ReadOnly(format!(
                    "table \"{name}\" is made of open files, which SQL only reads"
                )));
            }
            None => return Err(Error::TableNotFound(format!("{schema}.{name}"))),
        };
        let metadata = self.metadata(&view, &record).await?;
        let location = view.lake.location.clone();
        Ok(TableTarget {
            catalog: catalog.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            data: location.child(&record.directory).join("data"),
            columns: iceberg::arrow_schema(&metadata),
            partition: metadata.partition_fields(),
            properties: metadata.properties.clone(),
            rules: metadata.rules()?,
            location,
            record,
            create: None,
            replaces: false,
        })
    }

    /// Stages `change` to a table, so that this transaction sees it.
    ///
    /// Costs the PUTs of a manifest, a manifest list and a metadata file; nothing is visible to others.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn stage(&self, target: TableTarget, change: Option<Change>) -> Result<()> {
        let TableTarget { catalog, schema, name, location, mut record, create, replaces, rules, .. } = target;
        let mut view = self.writable(&catalog, &schema).await?;
        let own = create.is_some() && !rules.is_empty();
        let own = own.then(|| Change::SetRules(rules.clone()));
        let create = create.map(|create| *create);
        let changes: Vec<Change> = create.into_iter().chain(own).chain(change).collect();
        let is_new = matches!(changes.first(), Some(Change::Create(_)));
        let is_upkeep = !is_new && changes.iter().all(Change::is_upkeep);
        let base = if is_new { None } else { Some(self.metadata(&view, &record).await?) };
        let staged =
            iceberg::stage(&location, &location.child(&record.directory), base.as_deref(), changes.clone())
                .await?;
        if !is_new {
            view.depend(Dependency::Table {
                schema: schema.clone(),
                name: name.clone(),
                id: record.id.clone(),
                metadata: None,
            });
            if !is_upkeep && rules.enforced().next().is_some() {
                view.depend_on_version(&record.id);
            }
        }
        // A table that this transaction brought back is its own, as a new one is.
        let is_own = is_new || view.base.table_by_id(&record.id).is_none();
        let written = view.written.entry(record.id.clone()).or_insert_with(|| Written {
            base: (!is_own).then(|| record.metadata.clone()),
            metadata: Arc::clone(&staged.metadata),
            changes: Vec::new(),
        });
        written.changes.extend(changes);
        written.metadata = Arc::clone(&staged.metadata);
        record.advance(relative(&location, &staged.metadata_url)?, is_upkeep);
        if replaces {
            view.add(Operation::Drop { schema: schema.clone(), name: name.clone() });
        }
        view.add(Operation::PutTable { schema, name, table: record });
        self.keep(view)
    }

    /// A table's metadata, as this transaction sees it.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn metadata_of(&self, target: &TableTarget) -> Result<Arc<TableMetadata>> {
        let view = self.writable(&target.catalog, &target.schema).await?;
        self.metadata(&view, &target.record).await
    }

    /// The paths of a table's files that are partitioned in another way than new ones.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn files_of_other_specs(&self, target: &TableTarget) -> Result<HashSet<Path>> {
        let metadata = self.metadata_of(target).await?;
        iceberg::files_of_other_specs(&target.location, &metadata).await
    }

    /// Lets a table's snapshots go that are no longer kept; returns how many.
    ///
    /// # Errors
    /// As [`Transaction::target`] and [`Transaction::stage`].
    pub async fn expire(&self, catalog: &str, schema: &str, name: &str, expiry: Expiry) -> Result<usize> {
        let target = self.stored(catalog, schema, name).await?;
        let count = expiry.count(self.metadata_of(&target).await?.as_ref());
        if count > 0 {
            self.stage(target, Some(Change::Expire(expiry))).await?;
        }
        Ok(count)
    }

    /// Drops a table or a view.
    ///
    /// # Errors
    /// [`Error::TableNotFound`], [`Error::WrongObjectType`] when it is the other of the two.
    pub async fn drop_relation(
        &self,
        catalog: &str,
        schema: &str,
        name: &str,
        wanted: &'static str,
    ) -> Result<()> {
        let (mut view, relation) = self.existing(catalog, schema, name, Some(wanted)).await?;
        view.depend(relied(schema, name, &relation));
        view.add(Operation::Drop { schema: schema.to_owned(), name: name.to_owned() });
        self.keep(view)
    }

    /// Renames a table or view, or moves it to another schema.
    ///
    /// # Errors
    /// [`Error::TableNotFound`], [`Error::WrongObjectType`], [`Error::AlreadyExists`].
    pub async fn rename(
        &self,
        catalog: &str,
        (schema, name): (&str, &str),
        (to_schema, to_name): (&str, &str),
        wanted: Option<&'static str>,
    ) -> Result<()> {
        if (schema == TEMPORARY_SCHEMA) != (to_schema == TEMPORARY_SCHEMA) {
            let message = "cannot move objects into or out of temporary schemas".to_owned();
            return Err(Error::Unsupported(message));
        }
        let (mut view, relation) = self.existing(catalog, schema, name, wanted).await?;
        if !self.schema_exists(catalog, to_schema).await? {
            return Err(Error::SchemaNotFound(to_schema.to_owned()));
        }
        let taken = view.state.relation(to_schema, to_name).is_some()
            || self.is_open(&view, to_schema, to_name).await?;
        if taken {
            return Err(exists(to_name));
        }
        view.depend(relied(schema, name, &relation));
        view.depend_for_new(to_schema, to_name, None);
        view.add(Operation::Rename {
            schema: schema.to_owned(),
            name: name.to_owned(),
            to_schema: to_schema.to_owned(),
            to_name: to_name.to_owned(),
        });
        self.keep(view)
    }

    /// Makes a view, or replaces one.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::WrongObjectType`] when a table has the name.
    pub async fn put_view(
        &self,
        catalog: &str,
        schema: &str,
        name: &str,
        record: ViewRecord,
        or_replace: bool,
    ) -> Result<()> {
        let mut view = self.writable(catalog, schema).await?;
        let existing = view.state.relation(schema, name).cloned();
        match &existing {
            Some(RelationState::View(_)) if or_replace => {}
            Some(RelationState::Table(_)) if or_replace => {
                return Err(Error::WrongObjectType { name: name.to_owned(), wanted: "view" });
            }
            Some(_) => return Err(exists(name)),
            None if self.is_open(&view, schema, name).await? => {
                return Err(exists(name));
            }
            None => {}
        }
        view.depend_for_new(schema, name, existing.as_ref());
        view.add(Operation::PutView { schema: schema.to_owned(), name: name.to_owned(), view: record });
        self.keep(view)
    }

    /// Drops all temporary tables and views.
    ///
    /// # Errors
    /// None that a lake without a log could cause.
    pub async fn drop_temporary(&self) -> Result<()> {
        let Some(lake) = self.temporary.lake() else { return Ok(()) };
        let mut view = self.view(lake).await?;
        let schema = TEMPORARY_SCHEMA.to_owned();
        if view.state.schemas.contains_key(TEMPORARY_SCHEMA) {
            view.add(Operation::DropSchema { schema });
        }
        self.keep(view)
    }

    /// Comments on a relation, or on a schema when `name` is none.
    ///
    /// # Errors
    /// [`Error::TableNotFound`], [`Error::SchemaNotFound`].
    pub async fn comment(
        &self,
        catalog: &str,
        schema: &str,
        name: Option<&str>,
        comment: Option<String>,
    ) -> Result<()> {
        let mut view = match name {
            Some(name) => {
                let (mut view, relation) = self.existing(catalog, schema, name, None).await?;
                view.depend(relied(schema, name, &relation));
                view
            }
            None if self.schema_exists(catalog, schema).await? => self.writable(catalog, schema).await?,
            None => return Err(Error::SchemaNotFound(schema.to_owned())),
        };
        view.add(Operation::Comment { schema: schema.to_owned(), name: name.map(str::to_owned), comment });
        self.keep(view)
    }

    /// A relation of the log, of the wanted kind.
    pub(super) async fn existing(
        &self,
        catalog: &str,
        schema: &str,
        name: &str,
        wanted: Option<&'static str>,
    ) -> Result<(LakeView, RelationState)> {
        let view = self.writable(catalog, schema).await?;
        let Some(relation) = view.state.relation(schema, name).cloned() else {
            return match self.is_open(&view, schema, name).await? {
                true => Err(Error::ReadOnly(format!(
                    "table \"{name}\" is made of open files, which SQL only reads"
                ))),
                false => Err(Error::TableNotFound(format!("{schema}.{name}"))),
            };
        };
        match wanted.filter(|wanted| *wanted != relation.word()) {
            Some(wanted) => Err(Error::WrongObjectType { name: name.to_owned(), wanted }),
            None => Ok((view, relation)),
        }
    }

    /// Makes a changed view the transaction's own.
    pub(super) fn keep(&self, view: LakeView) -> Result<()> {
        lock(&self.views).insert(view.lake.name.clone(), view);
        Ok(())
    }
}

impl LakeView {
    pub(super) fn add(&mut self, operation: Operation) {
        Arc::make_mut(&mut self.state).change(&operation);
        self.operations.push(operation);
    }

    /// Notes what the transaction relies upon, where that is not its own work.
    pub(super) fn depend(&mut self, dependency: Dependency) {
        let own = match &dependency {
            Dependency::Schema { schema } => {
                !self.base.schemas.get(schema).is_some_and(|schema| schema.created)
            }
            Dependency::AbsentSchema { schema } => self.base.has_schema(schema),
            Dependency::SchemaHolds { .. } => false,
            Dependency::Absent { schema, name } => self.base.relation(schema, name).is_some(),
            Dependency::Table { schema, name, id, .. } => {
                self.base.table(schema, name).is_none_or(|table| table.id != *id)
            }
            Dependency::Branch { .. } | Dependency::AbsentBranch { .. } => false,
            Dependency::Gone { id, .. } => self.base.table_by_id(id).is_some(),
            Dependency::View { schema, name, .. } => self.base.relation(schema, name).is_none(),
        };
        if !own && !self.dependencies.contains(&dependency) {
            self.dependencies.push(dependency);
        }
    }

    /// Relies upon the rows of a table, among which no key may come twice.
    fn depend_on_version(&mut self, id: &str) {
        let known = self.base.table_by_id(id).map(|(schema, name, table)| Dependency::Table {
            schema: schema.to_owned(),
            name: name.to_owned(),
            id: table.id.clone(),
            metadata: Some(table.rows_version().to_owned()),
        });
        known.into_iter().for_each(|dependency| self.depend(dependency));
    }

    /// What a new relation needs: its schema, and a free name or the one that it replaces.
    pub(super) fn depend_for_new(&mut self, schema: &str, name: &str, existing: Option<&RelationState>) {
        self.depend(Dependency::Schema { schema: schema.to_owned() });
        self.depend(match existing {
            Some(relation) => relied(schema, name, relation),
            None => Dependency::Absent { schema: schema.to_owned(), name: name.to_owned() },
        });
    }
}

/// A record with a new id and folder.
fn fresh(schema: &str, name: &str, comment: Option<String>) -> TableRecord {
    let id = uuid::Uuid::new_v4().to_string();
    let directory = directory(schema, name, &id);
    TableRecord { id, directory, metadata: String::new(), comment, rows: None, materialized: None }
}

/// The folder of a table that is made under this name.
pub(super) fn directory(schema: &str, name: &str, id: &str) -> String {
    let safe = |text: &str| {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect::<String>()
    };
    format!("_lacus/tables/{}.{}-{}", safe(schema), safe(name), &id[..8])
}

/// The dependency on a relation that exists, at whichever version.
pub(super) fn relied(schema: &str, name: &str, relation: &RelationState) -> Dependency {
    let (schema, name) = (schema.to_owned(), name.to_owned());
    match relation {
        RelationState::Table(table) => {
            Dependency::Table { schema, name, id: table.id.clone(), metadata: None }
        }
        RelationState::View(_) => Dependency::View { schema, name, sql: None },
    }
}

/// The path of a metadata file as the log holds it: relative to the root.
pub(super) fn relative(location: &Location, url: &str) -> Result<String> {
    let path = url.strip_prefix(&location.url);
    path.map(str::to_owned).ok_or_else(|| Error::Internal(format!("\"{url}\" lies outside of the lake")))
}

pub(super) fn exists(name: &str) -> Error {
    Error::AlreadyExists { kind: "relation", name: name.to_owned() }
}
