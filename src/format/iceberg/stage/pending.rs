//! Pending: the files that the changes of one call add and remove, folded into one.

use std::collections::HashSet;

use datafusion::common::ScalarValue;
use object_store::path::Path;

use super::Removal;
use crate::error::{Error, Result};
use crate::format::WrittenFile;
use crate::format::iceberg::bound;
use crate::format::iceberg::manifest::Entry;
use crate::format::iceberg::metadata::TableMetadata;

/// What becomes of a table's files.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Files to add, their partition values canonical.
    pub add: Vec<WrittenFile>,
    all: bool,
    partitions: HashSet<Vec<ScalarValue>>,
    /// Files of the base to remove; each must be there.
    pub files: HashSet<Path>,
}

impl Pending {
    pub fn append(&mut self, draft: &TableMetadata, files: Vec<WrittenFile>) -> Result<()> {
        let columns = draft.partition_columns(draft.default_spec_id)?;
        for mut file in files {
            if file.partition.len() != columns.len()
                || file.columns.len() != draft.current_schema().fields.len()
            {
                let message = format!("file \"{}\" was written for another table", file.path);
                return Err(Error::Internal(message));
            }
            for (value, column) in file.partition.iter_mut().zip(&columns) {
                *value = bound::canonical(column.kind, value)?;
            }
            self.add.push(file);
        }
        Ok(())
    }

    pub fn overwrite(&mut self, draft: &TableMetadata, add: Vec<WrittenFile>, remove: Removal) -> Result<()> {
        let mut new = Self::default();
        new.append(draft, add)?;
        match remove {
            Removal::All => self.remove_all(),
            Removal::Partitions if draft.default_spec().fields.is_empty() => self.remove_all(),
            Removal::Partitions => {
                let touched: HashSet<_> = new.add.iter().map(|file| file.partition.clone()).collect();
                self.add.retain(|file| !touched.contains(&file.partition));
                self.partitions.extend(touched);
            }
            Removal::Files(paths) => paths.into_iter().for_each(|path| self.remove_file(path)),
        }
        self.add.append(&mut new.add);
        Ok(())
    }

    /// Removes whatever is in the table, or was about to be.
    pub fn remove_all(&mut self) {
        self.add.clear();
        self.all = true;
    }

    fn remove_file(&mut self, path: Path) {
        let before = self.add.len();
        self.add.retain(|file| file.path != path);
        if self.add.len() == before {
            self.files.insert(path);
        }
    }

    /// Whether files of the base may have to go.
    pub fn removes(&self) -> bool {
        self.all || !self.partitions.is_empty() || !self.files.is_empty()
    }

    /// Whether the file of `entry`, which lies at `path` and in a partition of spec `spec_id`, goes.
    pub fn takes(&self, draft: &TableMetadata, spec_id: i32, entry: &Entry, path: &Path) -> bool {
        self.all
            || self.files.contains(path)
            || spec_id == draft.default_spec_id && self.partitions.contains(&entry.file.partition)
    }
}
