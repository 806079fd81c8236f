//! Usage: which tables a transaction has read and written so far, and at which versions.
//!
//! A version names a table's rows and columns: of a managed table it is the metadata file that upkeep
//! leaves as it is, of a view a digest of its query, of open files a digest of their listing. Two
//! transactions that see one version of a table see the same rows.

use std::collections::BTreeSet;

use ring::digest::{Context, SHA256};

use super::super::log::Operation;
use super::super::state::{LakeState, RelationState};
use super::{LakeView, Place, TEMPORARY_SCHEMA, Transaction, Written, lock};
use crate::error::Result;
use crate::format::Snapshot;
use crate::format::iceberg::Change;

/// How much of a digest is shown.
const DIGEST_BYTES: usize = 16;

/// A relation's catalog, schema and name; of a schema or a branch without a name.
pub(super) type Used = (String, String, String);

/// What a transaction did with one table or view; with a schema, where the name is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableUse {
    pub catalog: String,
    pub schema: String,
    pub name: String,
    pub read: bool,
    pub written: bool,
    /// The version that the transaction found; none for what it made itself.
    pub before: Option<String>,
    /// The version that it sees now; none for what it dropped.
    pub version: Option<String>,
    /// Rows and bytes of the files that it added.
    pub rows_added: u64,
    pub bytes_added: u64,
}

impl Transaction {
    /// Notes that a query reads a relation that is there.
    pub fn note_use(&self, catalog: &str, schema: &str, name: &str) {
        if schema != TEMPORARY_SCHEMA {
            lock(&self.used).insert((catalog.to_owned(), schema.to_owned(), name.to_owned()));
        }
    }

    /// What the transaction has read and written, sorted by name; temporary tables are left out.
    ///
    /// # Errors
    /// What the store answers where open files are listed for the first time.
    pub async fn uses(&self) -> Result<Vec<TableUse>> {
        let read = lock(&self.used).clone();
        let views: Vec<LakeView> = lock(&self.views).values().cloned().collect();
        let written: BTreeSet<Used> = views
            .iter()
            .filter(|view| !view.lake.is_temporary())
            .flat_map(|view| {
                view.operations.iter().flat_map(|operation| names_of(&view.lake.name, operation))
            })
            .collect();
        let mut uses = Vec::new();
        for used in read.union(&written) {
            let mut one = self.used_as(used).await?;
            (one.read, one.written) = (read.contains(used), written.contains(used));
            uses.push(one);
        }
        Ok(uses)
    }

    async fn used_as(&self, (catalog, schema, name): &Used) -> Result<TableUse> {
        let mut found = TableUse {
            catalog: catalog.clone(),
            schema: schema.clone(),
            name: name.clone(),
            read: false,
            written: false,
            before: None,
            version: None,
            rows_added: 0,
            bytes_added: 0,
        };
        let lake = match self.place(catalog, schema)? {
            Place::Lake(_) if name.is_empty() => return Ok(found),
            Place::Lake(lake) => lake,
            Place::Tpch => {
                let generated = Some("generated".to_owned());
                (found.before, found.version) = (generated.clone(), generated);
                return Ok(found);
            }
            Place::Nowhere => return Ok(found),
        };
        let view = self.view(lake).await?;
        found.before = version_in(&view.base, schema, name);
        found.version = version_in(&view.state, schema, name);
        if let Some(written) = view.state.table(schema, name).and_then(|table| view.written.get(&table.id)) {
            (found.rows_added, found.bytes_added) = added(written);
        }
        if found.before.is_none()
            && found.version.is_none()
            && let Some(table) = self.open(lake, schema, name).await?
        {
            let version = Some(version_of_files(table.snapshot()));
            (found.before, found.version) = (version.clone(), version);
        }
        Ok(found)
    }
}

/// The relations whose names or rows an operation changes.
fn names_of(catalog: &str, operation: &Operation) -> Vec<Used> {
    let named = |schema: &str, name: &str| (catalog.to_owned(), schema.to_owned(), name.to_owned());
    match operation {
        Operation::PutTable { schema, name, .. }
        | Operation::PutView { schema, name, .. }
        | Operation::Drop { schema, name } => vec![named(schema, name)],
        Operation::Rename { schema, name, to_schema, to_name } => {
            vec![named(schema, name), named(to_schema, to_name)]
        }
        Operation::CreateSchema { schema, .. }
        | Operation::DropSchema { schema }
        | Operation::Comment { schema, .. } => vec![named(schema, "")],
        Operation::PutBranch { .. } | Operation::DropBranch { .. } | Operation::Seal | Operation::Unseal => {
            vec![named("", "")]
        }
    }
}

fn version_in(state: &LakeState, schema: &str, name: &str) -> Option<String> {
    Some(match state.relation(schema, name)? {
        RelationState::Table(table) => table.rows_version().to_owned(),
        RelationState::View(view) => {
            let mut digest = Context::new(&SHA256);
            digest.update(view.sql.as_bytes());
            view.search_path.iter().for_each(|schema| digest.update(schema.as_bytes()));
            hex(digest)
        }
    })
}

/// Names exactly these files: a file that is written anew has another time, or another tag.
fn version_of_files(snapshot: &Snapshot) -> String {
    let mut digest = Context::new(&SHA256);
    for file in snapshot.files.iter() {
        let object = &file.object;
        digest.update(object.location.as_ref().as_bytes());
        digest.update(&object.size.to_le_bytes());
        digest.update(&object.last_modified.timestamp_micros().to_le_bytes());
        digest.update(object.e_tag.as_deref().unwrap_or_default().as_bytes());
    }
    hex(digest)
}

fn hex(digest: Context) -> String {
    digest.finish().as_ref()[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn added(written: &Written) -> (u64, u64) {
    let files = written.changes.iter().flat_map(|change| match change {
        Change::Append(add) | Change::Overwrite { add, .. } => add.as_slice(),
        _ => &[],
    });
    files.fold((0, 0), |(rows, bytes), file| (rows + file.row_count, bytes + file.size_bytes))
}
