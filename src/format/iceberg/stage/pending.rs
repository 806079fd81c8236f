//! Pending: the files that the changes of one call add and remove, folded into one.

use std::collections::HashSet;

use datafusion::common::ScalarValue;
use object_store::path::Path;

use super::Removal;
use super::exchange::{Adopted, Exchange, Partition};
use crate::error::{Error, Result};
use crate::format::WrittenFile;
use crate::format::iceberg::bound;
use crate::format::iceberg::manifest::Entry;
use crate::format::iceberg::metadata::TableMetadata;

/// A file to add, its partition values canonical, and what it was written as.
#[derive(Debug)]
pub(super) struct Added {
    pub file: WrittenFile,
    pub schema_id: i32,
    pub spec_id: i32,
}

/// What becomes of a table's files.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub add: Vec<Added>,
    /// Files to add as they are in another version.
    pub adopt: Vec<Adopted>,
    all: bool,
    /// Partitions of the base to remove, by the spec that they are of.
    partitions: HashSet<(i32, Vec<ScalarValue>)>,
    /// Files of the base to remove; each must be there.
    pub files: HashSet<Path>,
    /// Partitions that an exchange replaces; who adds to one meanwhile is in the way.
    emptied: HashSet<Partition>,
    /// Whether the table has other rows afterwards, and whether some only moved.
    changes_rows: bool,
    moves_rows: bool,
}

impl Pending {
    /// Adds files that were written with the schema and the partition spec of these ids.
    pub fn append(
        &mut self,
        draft: &TableMetadata,
        files: Vec<WrittenFile>,
        written_as: (i32, i32),
    ) -> Result<()> {
        self.changes_rows = true;
        self.add_files(draft, files, written_as)
    }

    fn add_files(
        &mut self,
        draft: &TableMetadata,
        files: Vec<WrittenFile>,
        (schema_id, spec_id): (i32, i32),
    ) -> Result<()> {
        let columns = draft.partition_columns(spec_id)?;
        let width = draft.schema(schema_id).map(|schema| schema.fields.len());
        for mut file in files {
            if file.partition.len() != columns.len() || Some(file.columns.len()) != width {
                let message = format!("file \"{}\" was written for another table", file.path);
                return Err(Error::Internal(message));
            }
            for (value, column) in file.partition.iter_mut().zip(&columns) {
                *value = bound::canonical(column.kind, value)?;
            }
            self.add.push(Added { file, schema_id, spec_id });
        }
        Ok(())
    }

    pub fn overwrite(&mut self, draft: &TableMetadata, add: Vec<WrittenFile>, remove: Removal) -> Result<()> {
        self.changes_rows = true;
        let mut new = Self::default();
        new.append(draft, add, (draft.current_schema_id, draft.default_spec_id))?;
        match remove {
            Removal::All => self.remove_all(),
            Removal::Partitions if draft.default_spec().fields.is_empty() => self.remove_all(),
            Removal::Partitions => {
                let place = |added: &Added| (added.spec_id, added.file.partition.clone());
                let touched: HashSet<_> = new.add.iter().map(place).collect();
                self.add.retain(|added| !touched.contains(&place(added)));
                let is_touched = |one: &Adopted| touched.contains(&(one.spec_id, one.file.partition.clone()));
                self.adopt.retain(|one| !is_touched(one));
                self.partitions.extend(touched);
            }
            Removal::Files(paths) => paths.into_iter().for_each(|path| self.remove_file(path)),
        }
        self.add.append(&mut new.add);
        Ok(())
    }

    /// Takes over files from another version, and its schema where that is asked for.
    pub fn exchange(&mut self, draft: &mut TableMetadata, exchange: Exchange) -> Result<()> {
        self.changes_rows = true;
        let Exchange { add, remove, emptied, schema_id, .. } = exchange;
        if let Some(unknown) = add.iter().find(|one| draft.spec(one.spec_id).is_none()) {
            let message = format!("file \"{}\" has a partition spec that the table lacks", unknown.path);
            return Err(Error::Internal(message));
        }
        remove.into_iter().for_each(|path| self.remove_file(path));
        self.adopt.extend(add);
        self.emptied.extend(emptied);
        draft.current_schema_id = schema_id.unwrap_or(draft.current_schema_id);
        Ok(())
    }

    /// Puts files in the place of others that hold the same rows.
    pub fn compact(&mut self, draft: &TableMetadata, add: Vec<WrittenFile>, remove: Vec<Path>) -> Result<()> {
        self.moves_rows = true;
        remove.into_iter().for_each(|path| self.remove_file(path));
        self.add_files(draft, add, (draft.current_schema_id, draft.default_spec_id))
    }

    /// Whether the table has the same rows afterwards, in other files.
    pub fn only_moves_rows(&self) -> bool {
        self.moves_rows && !self.changes_rows
    }

    /// Removes whatever is in the table, or was about to be.
    pub fn remove_all(&mut self) {
        self.changes_rows = true;
        self.add.clear();
        self.adopt.clear();
        self.all = true;
    }

    fn remove_file(&mut self, path: Path) {
        let before = self.add.len() + self.adopt.len();
        self.add.retain(|added| added.file.path != path);
        self.adopt.retain(|one| one.path != path);
        if self.add.len() + self.adopt.len() == before {
            self.files.insert(path);
        }
    }

    /// Whether files of the base may have to go.
    pub fn removes(&self) -> bool {
        self.all || !self.partitions.is_empty() || !self.files.is_empty()
    }

    /// Whether the file of `entry`, which lies at `path` and in a partition of spec `spec_id`, goes.
    pub fn takes(&self, spec_id: i32, entry: &Entry, path: &Path) -> bool {
        self.all
            || self.files.contains(path)
            || !self.partitions.is_empty()
                && self.partitions.contains(&(spec_id, entry.file.partition.clone()))
    }

    /// Whether partitions are replaced and a file of spec `spec_id` is in the way, because rows of it may
    /// lie in one of them.
    pub fn crosses(&self, spec_id: i32) -> bool {
        !self.partitions.is_empty() && self.partitions.iter().all(|(own, _)| *own != spec_id)
    }

    /// Whether whole partitions are replaced, whatever is in them.
    pub fn replaces_partitions(&self) -> bool {
        self.all || !self.partitions.is_empty()
    }

    /// Whether the file of `entry` lies in a partition that an exchange replaces.
    pub fn empties(&self, spec_id: i32, entry: &Entry) -> bool {
        !self.emptied.is_empty() && self.emptied.contains(&(spec_id, entry.file.partition.clone()))
    }
}
