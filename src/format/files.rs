//! Open files: a folder, a file or a pattern of data files as one table.
//!
//! A [`FileSet`] says what to read; [`OpenFiles`] lists it, finds out how its bytes are to be read and
//! which columns it has, and answers with a [`Snapshot`]. Names that begin with `_` or `.` are not
//! data, on any level below the table. Which of the files a query reads is decided in `scan`.

mod csv;
pub mod extension;
pub mod footers;
pub mod hive;
mod infer;
mod lines;
pub mod listing;
mod merge;
pub mod options;
mod partitions;
mod pattern;
mod recent;
mod sample;
pub mod statistics;
#[cfg(test)]
pub mod testing;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use object_store::ObjectMeta;

use self::extension::{Compression, Extension, FileKind, is_hidden, recognise};
use self::infer::{Inference, Inferred, Question};
use self::listing::{Listing, ListingLimits, Listings};
use self::options::ReadOptions;
use self::partitions::{PartitionColumns, columns_in_paths};
pub use self::pattern::FilePattern;
use self::recent::Recent;
use super::{DataFile, Snapshot};
use crate::error::{Error, Result};
use crate::storage::Location;

/// Tables whose columns are remembered.
const LAYOUTS_MAX: usize = 4096;
/// CSV files whose header lines are remembered.
const HEADERS_MAX: usize = 50_000;

/// Where partition columns come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Partitions {
    /// From `key=value` folders, with types that fit all values.
    #[default]
    Discovered,
    /// From `key=value` folders of these names, as these types.
    Declared(Vec<(String, DataType)>),
    /// Folders are only folders.
    Ignored,
}

/// What to read as one table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileSet {
    pub pattern: FilePattern,
    /// From the extensions of the files, where it is not given.
    pub kind: Option<FileKind>,
    /// From the extensions of the files, where it is not given.
    pub compression: Option<Compression>,
    /// Reads only files whose names end like this; an empty text reads all.
    pub file_extension: Option<String>,
    /// The columns of the files, without partition columns; inferred, where they are not given.
    pub columns: Option<SchemaRef>,
    pub partitions: Partitions,
    pub options: ReadOptions,
}

impl FileSet {
    /// All that can be found out is to be found out.
    pub fn new(pattern: FilePattern) -> Self {
        Self {
            pattern,
            kind: None,
            compression: None,
            file_extension: None,
            columns: None,
            partitions: Partitions::default(),
            options: ReadOptions::default(),
        }
    }
}

/// Reads folders of files as tables, and remembers listings and columns. One serves all sessions.
#[derive(Debug)]
pub struct OpenFiles {
    pub listings: Listings,
    inference: Inference,
    layouts: Mutex<Recent<LayoutKey, Layout>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LayoutKey {
    store: String,
    set: FileSet,
    /// Settings that change how files are read.
    settings: (bool, bool),
}

/// What was found out about a set of files, as long as its listing stays the same.
#[derive(Debug, Clone)]
struct Layout {
    listing: u64,
    inferred: Inferred,
}

/// The files of a set, and what their names say.
struct Selection<'a> {
    extension: Extension,
    objects: Vec<&'a ObjectMeta>,
}

impl OpenFiles {
    pub fn new(limits: ListingLimits) -> Self {
        Self {
            listings: Listings::new(limits),
            inference: Inference::new(HEADERS_MAX),
            layouts: Mutex::new(Recent::new(LAYOUTS_MAX)),
        }
    }

    /// Pins the files of `set` as they are now.
    ///
    /// Costs one listing, unless it is younger than the limit; and the reads of inference, unless the
    /// listing is what it was the last time.
    ///
    /// # Errors
    /// [`Error::FileNotFound`] when there is no file and no declared column; [`Error::InvalidTable`]
    /// when the files are no one table; [`Error::CorruptFile`] when one cannot be read.
    pub async fn snapshot(
        &self,
        state: &dyn Session,
        location: &Location,
        set: &FileSet,
    ) -> Result<Snapshot> {
        let listing = self.list(location, set).await?;
        let Some(mut selection) = select(location, set, &listing)? else {
            return empty(state, location, set);
        };
        drop_empty(location, &mut selection)?;
        let layout = self.layout(state, location, set, &listing, &selection).await?;
        let partitions = columns_in_paths(location, set, &selection.objects, &layout.schema)?;
        Ok(assembled(state, location, set, selection, layout, partitions))
    }

    async fn list(&self, location: &Location, set: &FileSet) -> Result<Listing> {
        match &set.pattern {
            FilePattern::Folder(path) => self.listings.tree(location, path).await,
            FilePattern::File(path) => self.listings.object(location, path).await,
            FilePattern::Glob { base, .. } => self.listings.tree(location, base).await,
        }
    }

    async fn layout(
        &self,
        state: &dyn Session,
        location: &Location,
        set: &FileSet,
        listing: &Listing,
        selection: &Selection<'_>,
    ) -> Result<Inferred> {
        let parquet = &state.config_options().execution.parquet;
        let settings = (parquet.schema_force_view_types, parquet.binary_as_string);
        let key = LayoutKey { store: location.store_url.as_str().to_owned(), set: set.clone(), settings };
        let known = self.lock().find(&key);
        if let Some(known) = known.filter(|known| known.listing == listing.identity) {
            return Ok(known.inferred);
        }
        let question = Question {
            state,
            location,
            extension: selection.extension,
            options: &set.options,
            objects: &selection.objects,
            declared: set.columns.as_ref(),
        };
        let inferred = self.inference.infer(&question).await?;
        self.lock().keep(key, Layout { listing: listing.identity, inferred: inferred.clone() }, 1);
        Ok(inferred)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recent<LayoutKey, Layout>> {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Picks the data files of a listing; `None` where there is none.
fn select<'a>(location: &Location, set: &FileSet, listing: &'a Listing) -> Result<Option<Selection<'a>>> {
    let mut first: Option<(Extension, &ObjectMeta)> = None;
    let mut objects = Vec::new();
    let glob = match &set.pattern {
        FilePattern::Glob { pattern, .. } => Some(compiled(pattern)?),
        FilePattern::Folder(_) | FilePattern::File(_) => None,
    };
    for object in listing.objects.iter().filter(|object| is_wanted(set, glob.as_ref(), object)) {
        let Some(extension) = extension_of(set, object) else { continue };
        match first {
            None => first = Some((extension, object)),
            Some((known, _)) if known == extension => {}
            Some((known, other)) => return Err(mixed(location, set, (known, other), (extension, object))),
        }
        objects.push(object);
    }
    Ok(first.map(|(extension, _)| Selection { extension, objects }))
}

fn is_wanted(set: &FileSet, glob: Option<&glob::Pattern>, object: &ObjectMeta) -> bool {
    let Some(mut below) = object.location.prefix_match(set.pattern.base()) else { return false };
    if below.any(|part| is_hidden(part.as_ref())) {
        return false;
    }
    let name = object.location.filename().unwrap_or_default();
    if set.file_extension.as_ref().is_some_and(|end| !name.ends_with(end.as_str())) {
        return false;
    }
    glob.is_none_or(|glob| {
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::default() };
        let relative = &object.location.as_ref()[set.pattern.base().as_ref().len()..];
        glob.matches_with(relative.trim_start_matches('/'), options)
    })
}

fn compiled(pattern: &str) -> Result<glob::Pattern> {
    glob::Pattern::new(pattern)
        .map_err(|error| Error::InvalidParameter(format!("bad file pattern \"{pattern}\": {}", error.msg)))
}

/// How the bytes of a file are to be read; `None` where it is no data file of this set.
fn extension_of(set: &FileSet, object: &ObjectMeta) -> Option<Extension> {
    let named = object.location.filename().and_then(recognise);
    let chosen_by_name = set.file_extension.is_some() || set.pattern.names(&object.location);
    let kind = match (set.kind, named) {
        (None, named) => named?.kind,
        (Some(wanted), Some(named)) if named.kind == wanted => wanted,
        (Some(wanted), _) if chosen_by_name => wanted,
        (Some(_), _) => return None,
    };
    let named = named.filter(|named| named.kind == kind);
    Some(Extension {
        kind,
        compression: set.compression.or(named.map(|named| named.compression)).unwrap_or_default(),
        tabs: named.is_some_and(|named| named.tabs),
    })
}

fn mixed(
    location: &Location,
    set: &FileSet,
    (known, known_file): (Extension, &ObjectMeta),
    (other, other_file): (Extension, &ObjectMeta),
) -> Error {
    let words = |extension: Extension| match extension.compression {
        Compression::None if extension.tabs => "tsv".to_owned(),
        Compression::None => extension.kind.name().to_owned(),
        compression => format!("{} ({})", extension.kind.name(), compression.name()),
    };
    let name = |file: &ObjectMeta| file.location.filename().unwrap_or_default().to_owned();
    let reason = format!(
        "it holds files of different formats, {} (\"{}\") and {} (\"{}\")",
        words(known),
        name(known_file),
        words(other),
        name(other_file)
    );
    Error::InvalidTable { path: location.url_of(set.pattern.base()), reason }
}

/// A text file of no bytes has no rows; any other format begins with something.
fn drop_empty(location: &Location, selection: &mut Selection<'_>) -> Result<()> {
    if selection.extension.kind.is_text() {
        selection.objects.retain(|object| object.size > 0);
        return Ok(());
    }
    match selection.objects.iter().find(|object| object.size == 0) {
        None => Ok(()),
        Some(object) => Err(Error::CorruptFile {
            path: location.url_of(&object.location),
            reason: "it is empty".to_owned(),
        }),
    }
}

/// A declared table without files has no rows; without declared columns there is nothing to show.
fn empty(state: &dyn Session, location: &Location, set: &FileSet) -> Result<Snapshot> {
    let (Some(columns), Some(kind)) = (&set.columns, set.kind) else {
        return Err(Error::FileNotFound(location.url_of(set.pattern.base())));
    };
    let extension = Extension { kind, compression: set.compression.unwrap_or_default(), tabs: false };
    let selection = Selection { extension, objects: Vec::new() };
    let layout = Inferred { schema: Arc::clone(columns), ragged: false };
    let partitions = columns_in_paths(location, set, &[], columns)?;
    Ok(assembled(state, location, set, selection, layout, partitions))
}

fn assembled(
    state: &dyn Session,
    location: &Location,
    set: &FileSet,
    selection: Selection<'_>,
    layout: Inferred,
    partitions: PartitionColumns,
) -> Snapshot {
    let taken = |name: &str| partitions.fields.iter().any(|field| field.name() == name);
    let columns = layout.schema.fields().iter().filter(|field| !taken(field.name())).cloned();
    let fields: Vec<_> = columns.chain(partitions.fields.iter().cloned()).collect();
    let files = selection.objects.iter().zip(partitions.values).map(|(object, partition)| DataFile {
        object: ObjectMeta::clone(object),
        partition,
        statistics: None,
    });
    Snapshot {
        schema: Arc::new(Schema::new(fields)),
        partition_columns: partitions.fields.iter().map(|field: &Arc<Field>| field.name().clone()).collect(),
        numbered: false,
        distinct: Arc::default(),
        by_field_id: false,
        files: files.collect(),
        file_format: set.options.file_format(state, selection.extension, layout.ragged),
        location: location.clone(),
    }
}

#[cfg(test)]
mod tests;
