//! Restoring: a table as it was, or one that was dropped. Each is a change like any other: what is
//! replaced by it stays in the past.

use std::sync::Arc;

use futures::TryStreamExt;

use super::super::history::AsOf;
use super::super::log::{Dependency, LogEntry, Operation, TableRecord};
use super::super::state::{LakeState, RelationState};
use super::{LakeView, Transaction, change};
use crate::error::{Error, Result};
use crate::format::iceberg::{self, Change, Exchange, RowChange, TableMetadata};

/// Entries of the log that are looked through for a dropped table.
const LOOK_BACK_MAX: u64 = 20_000;

/// What happened to a table's rows, and in which columns.
#[derive(Debug)]
pub struct TableChanges {
    pub schema: arrow::datatypes::SchemaRef,
    pub steps: Vec<RowChange>,
}

impl Transaction {
    /// Gives a table the rows and columns that it had at a snapshot of its own, or at a version of the
    /// lake or a time. Where another table had the name then, that one comes back in its place.
    ///
    /// # Errors
    /// [`Error::TableNotFound`], [`Error::WrongObjectType`], [`Error::InvalidParameter`] when there was no
    /// such table then, [`Error::SnapshotTooOld`] when its files are gone.
    pub async fn restore(&self, catalog: &str, schema: &str, name: &str, as_of: AsOf) -> Result<()> {
        let (view, relation) = self.existing(catalog, schema, name, Some("table")).await?;
        let RelationState::Table(record) = &relation else {
            return Err(Error::Internal(format!("table \"{name}\" is none")));
        };
        let now = self.metadata(&view, record).await?;
        let location = &view.lake.location;
        let exchange = match own_snapshot(&now, as_of) {
            Some(id) => Exchange::whole(location, &now, &now, Some(id)).await?,
            None => {
                let then = view.lake.state_as_of(as_of, &view.base).await?;
                match then.table_by_id(&record.id) {
                    Some((_, _, record)) => {
                        let then = self.past_metadata(&view, record).await?;
                        Exchange::whole(location, &now, &then, None).await?
                    }
                    None => return self.swap_back(view, (schema, name), &relation, &then).await,
                }
            }
        };
        let target = self.target(catalog, schema, name).await?;
        self.stage(target, Some(Change::Exchange(exchange))).await
    }

    /// Puts the table that had the name at `then` in the place of the one that has it now.
    async fn swap_back(
        &self,
        mut view: LakeView,
        (schema, name): (&str, &str),
        now: &RelationState,
        then: &LakeState,
    ) -> Result<()> {
        let never =
            || Error::InvalidParameter(format!("there was no table \"{schema}.{name}\" at that version"));
        let record = then.table(schema, name).ok_or_else(never)?.clone();
        if let Some((schema, name, _)) = view.state.table_by_id(&record.id) {
            let message = format!("the table that had this name then is now called \"{schema}.{name}\"");
            return Err(Error::InvalidParameter(message));
        }
        self.past_metadata(&view, &record).await?;
        view.depend(change::relied(schema, name, now));
        view.add(Operation::Drop { schema: schema.to_owned(), name: name.to_owned() });
        self.put_back(view, schema, name, record)
    }

    /// Brings back the table that was last dropped under a name, of those whose files still exist.
    ///
    /// Costs a GET for each entry of the log since then.
    ///
    /// # Errors
    /// [`Error::TableNotFound`] when none was dropped, [`Error::SnapshotTooOld`] when its files are gone,
    /// [`Error::AlreadyExists`] when the new name is taken.
    pub async fn undrop(
        &self,
        catalog: &str,
        (schema, name): (&str, &str),
        (to_schema, to_name): (&str, &str),
    ) -> Result<()> {
        let mut view = self.writable(catalog, to_schema).await?;
        if view.state.relation(to_schema, to_name).is_some()
            || self.is_open(&view, to_schema, to_name).await?
        {
            return Err(change::exists(to_name));
        }
        let record = self.dropped(&view, schema, name).await?;
        view.depend_for_new(to_schema, to_name, None);
        self.put_back(view, to_schema, to_name, record)
    }

    fn put_back(&self, mut view: LakeView, schema: &str, name: &str, record: TableRecord) -> Result<()> {
        let (schema, name) = (schema.to_owned(), name.to_owned());
        view.depend(Dependency::Gone { schema: schema.clone(), name: name.clone(), id: record.id.clone() });
        view.add(Operation::PutTable { schema, name, table: record });
        self.keep(view)
    }

    /// The table that was last dropped under a name, here or in the log.
    async fn dropped(&self, view: &LakeView, schema: &str, name: &str) -> Result<TableRecord> {
        let mut files_are_gone = false;
        let own = lost(view.base.as_ref().clone(), &view.operations, schema, name);
        if let Some(record) = self.whole(view, own, &mut files_are_gone).await? {
            return Ok(record);
        }
        let newest = view.base.version;
        let lake = &view.lake;
        let mut entries = lake.entries((newest.saturating_sub(LOOK_BACK_MAX) + 1..=newest).rev());
        while !lake.is_temporary()
            && let Some(entry) = entries.try_next().await?
        {
            if !entry.operations.iter().any(|operation| drops(operation, schema, name)) {
                continue;
            }
            let before = self.before(view, &entry).await?;
            let lost = lost(before, &entry.operations, schema, name);
            if let Some(record) = self.whole(view, lost, &mut files_are_gone).await? {
                return Ok(record);
            }
        }
        let full = format!("{schema}.{name}");
        match files_are_gone {
            true => Err(Error::SnapshotTooOld(format!("the files of dropped table \"{full}\" are gone"))),
            false => Err(Error::TableNotFound(full)),
        }
    }

    async fn before(&self, view: &LakeView, entry: &LogEntry) -> Result<LakeState> {
        match entry.version {
            1 => Ok(LakeState::default()),
            version => {
                let state = view.lake.state_as_of(AsOf::Version(version - 1), &view.base).await?;
                Ok(state.as_ref().clone())
            }
        }
    }

    /// The last of `lost` that nobody has brought back and whose metadata can be read.
    async fn whole(
        &self,
        view: &LakeView,
        lost: Vec<TableRecord>,
        files_are_gone: &mut bool,
    ) -> Result<Option<TableRecord>> {
        for record in lost.into_iter().rev() {
            if view.state.table_by_id(&record.id).is_some() {
                continue;
            }
            match self.past_metadata(view, &record).await {
                Ok(_) => return Ok(Some(record)),
                Err(Error::SnapshotTooOld(_)) => *files_are_gone = true,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The metadata of a version that may have been removed.
    async fn past_metadata(&self, view: &LakeView, record: &TableRecord) -> Result<Arc<TableMetadata>> {
        let location = &view.lake.location;
        match iceberg::load(location, &format!("{}{}", location.url, record.metadata)).await {
            Err(Error::FileNotFound(_)) => {
                Err(Error::SnapshotTooOld("the files of that version are gone".to_owned()))
            }
            loaded => loaded,
        }
    }

    /// What happened to the rows of a table after `from`, up to `to`: a snapshot of its own, or a version
    /// of the lake or a time; up to what this transaction sees without.
    ///
    /// # Errors
    /// [`Error::TableNotFound`], [`Error::InvalidParameter`] when it did not exist then, and as
    /// [`iceberg::changes`].
    pub async fn changes(
        &self,
        catalog: &str,
        (schema, name): (&str, &str),
        from: AsOf,
        to: Option<AsOf>,
    ) -> Result<TableChanges> {
        let missing = || Error::TableNotFound(format!("{schema}.{name}"));
        let super::Place::Lake(lake) = self.place(catalog, schema)? else { return Err(missing()) };
        let view = self.view(lake).await?;
        let record = match view.state.relation(schema, name) {
            Some(RelationState::Table(record)) => record,
            Some(_) => return Err(Error::WrongObjectType { name: name.to_owned(), wanted: "table" }),
            None => return Err(missing()),
        };
        let now = self.metadata(&view, record).await?;
        let from = self.snapshot_as_of(&view, record, &now, from).await?;
        let to = match to {
            Some(to) => self.snapshot_as_of(&view, record, &now, to).await?,
            None => now.current_snapshot_id.filter(|_| now.current_snapshot().is_some()),
        };
        let steps = iceberg::changes(&lake.location, &now, from, to).await?;
        let schema = steps.last().map(|step| Arc::clone(&step.added.schema));
        Ok(TableChanges { schema: schema.unwrap_or_else(|| iceberg::arrow_schema(&now)), steps })
    }

    /// The snapshot that a table had at a moment; none when nothing was written to it yet.
    async fn snapshot_as_of(
        &self,
        view: &LakeView,
        record: &TableRecord,
        now: &TableMetadata,
        as_of: AsOf,
    ) -> Result<Option<i64>> {
        if let Some(id) = own_snapshot(now, as_of) {
            return Ok(Some(id));
        }
        let then = view.lake.state_as_of(as_of, &view.base).await?;
        let Some((_, _, then)) = then.table_by_id(&record.id) else {
            let message = "the table that has this name did not exist then".to_owned();
            return Err(Error::InvalidParameter(message));
        };
        let then = self.past_metadata(view, then).await?;
        Ok(then.current_snapshot().map(|snapshot| snapshot.snapshot_id))
    }
}

fn own_snapshot(metadata: &TableMetadata, as_of: AsOf) -> Option<i64> {
    let AsOf::Version(number) = as_of else { return None };
    let id = i64::try_from(number).ok()?;
    metadata.snapshot(id).map(|snapshot| snapshot.snapshot_id)
}

fn drops(operation: &Operation, wanted_schema: &str, wanted: &str) -> bool {
    match operation {
        Operation::Drop { schema, name } => schema == wanted_schema && name == wanted,
        Operation::DropSchema { schema } => schema == wanted_schema,
        _ => false,
    }
}

/// The tables that lose a name by being dropped while `operations` are applied to `state`, in order.
fn lost(mut state: LakeState, operations: &[Operation], schema: &str, name: &str) -> Vec<TableRecord> {
    let mut lost = Vec::new();
    for operation in operations {
        if drops(operation, schema, name) {
            lost.extend(state.table(schema, name).cloned());
        }
        state.change(operation);
    }
    lost
}
