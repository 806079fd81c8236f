//! Verification: whether what another engine wrote is what we can read, before a commit names it.
//!
//! Every file that a new snapshot brings along must lie in the table's folder. Manifests may list data
//! files in Parquet only, no deletes; of each new data file the footer is read, because our scans
//! find columns by their field ids and answer counts from what manifests say: its columns must be ones that
//! the table has or had, of types that fit, and its rows as many as the manifest says. Where a column
//! is never null, the footer must say that it is not; other rules of a table need the rows, and are
//! looked at by the engine.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use bytes::Bytes;
use chrono::DateTime;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Repetition;
use parquet::file::metadata::ParquetMetaData;

use super::invalid;
use crate::error::{Error, Result};
use crate::format::files::footers::Footers;
use crate::format::iceberg::columns;
use crate::format::iceberg::manifest::{self, Entry, FileEntry, Status};
use crate::format::iceberg::manifest_list::{self, ManifestFile};
use crate::format::iceberg::metadata::{TableMetadata, TableSnapshot};
use crate::format::iceberg::read::{self, READS_MAX};
use crate::format::iceberg::schema::{Field, Nested, Primitive, Type};
use crate::storage::Location;

/// A manifest or manifest list beyond this is refused.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Data files that one commit may bring along.
const FILES_MAX: usize = 200_000;

/// Checks the files of every snapshot that `draft` has and `base` has not.
///
/// Costs a GET for each manifest list and new manifest, and a ranged GET for each new data file, 16 at
/// once.
///
/// # Errors
/// [`Error::InvalidParameter`] names the file and what is wrong with it, [`Error::Unsupported`] what we
/// cannot read, [`Error::PermissionDenied`] for files outside of the table's folder.
pub async fn verify(
    location: &Location,
    table_dir: &Path,
    base: Option<&TableMetadata>,
    draft: &TableMetadata,
    footers: &Footers<'_>,
) -> Result<()> {
    let table = Table { location, dir: table_dir, draft, footers };
    for snapshot in &draft.snapshots {
        if base.is_none_or(|base| base.snapshot(snapshot.snapshot_id).is_none()) {
            table.verify(snapshot).await?;
        }
    }
    Ok(())
}

struct Table<'a> {
    location: &'a Location,
    dir: &'a Path,
    draft: &'a TableMetadata,
    footers: &'a Footers<'a>,
}

impl Table<'_> {
    async fn verify(&self, snapshot: &TableSnapshot) -> Result<()> {
        let url = &snapshot.manifest_list;
        let listed = manifest_list::read(url, &self.fetch(url).await?).map_err(unreadable)?;
        let parent = match snapshot.parent_snapshot_id.and_then(|id| self.draft.snapshot(id)) {
            Some(parent) => read::manifests(self.location, parent).await?,
            None => Arc::default(),
        };
        let is_of = |list: &[ManifestFile], wanted: &ManifestFile| list.iter().any(|one| one.is(wanted));
        let mut new = Vec::new();
        for one in listed.iter().filter(|one| !is_of(&parent, one)) {
            if one.content != 0 {
                return Err(deletes(&one.url));
            }
            new.extend(self.entries(one).await?);
        }
        let gone: Vec<ManifestFile> = parent.iter().filter(|one| !is_of(&listed, one)).cloned().collect();
        self.verify_files(new, gone).await
    }

    /// The entries of a manifest that a client wrote.
    async fn entries(&self, listed: &ManifestFile) -> Result<Vec<Entry>> {
        let bytes = self.fetch(&listed.url).await?;
        if bytes.len() as i64 != listed.length {
            return Err(invalid(format!("\"{}\" is not as long as its list says", listed.url)));
        }
        let partition = self.draft.partition_columns(listed.spec_id).map_err(unreadable)?;
        let entries = manifest::read(listed, &bytes, &partition).map_err(unreadable)?;
        let count = |status| entries.iter().filter(|entry| entry.status == status).count() as i64;
        let counted = (count(Status::Added), count(Status::Existing));
        if counted != (listed.added_files, listed.existing_files) {
            return Err(invalid(format!("\"{}\" holds other files than its list says", listed.url)));
        }
        Ok(entries)
    }

    /// Checks the live files of new manifests, but for those that were only listed anew.
    async fn verify_files(&self, entries: Vec<Entry>, gone: Vec<ManifestFile>) -> Result<()> {
        let mut known = HashSet::new();
        if entries.iter().any(|entry| entry.status == Status::Existing) {
            for manifest in &gone {
                let before = read::entries(self.location, self.draft, manifest).await?;
                known.extend(before.into_iter().filter(Entry::is_live).map(|entry| entry.file.url.clone()));
            }
        }
        let mut seen = HashSet::new();
        // Boxed one by one: a closure over references in a stream is not general enough to be sent.
        let mut checks: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
        for entry in entries.into_iter().filter(Entry::is_live) {
            let url = entry.file.url.clone();
            if !known.contains(&url) {
                checks.push(Box::pin(self.verify_file(entry.file)));
            }
            if !seen.insert(url.clone()) {
                return Err(invalid(format!("the data file \"{url}\" is listed twice")));
            }
        }
        if checks.len() > FILES_MAX {
            let message = format!("a commit brings along at most {FILES_MAX} data files");
            return Err(Error::LimitExceeded(message));
        }
        stream::iter(checks).buffer_unordered(READS_MAX).try_collect().await
    }

    async fn verify_file(&self, file: Arc<FileEntry>) -> Result<()> {
        let wrong = |reason: String| invalid(format!("the data file \"{}\" {reason}", file.url));
        if file.content != 0 {
            return Err(deletes(&file.url));
        }
        if !file.format.eq_ignore_ascii_case("parquet") {
            return Err(Error::Unsupported(format!("Iceberg data files of format {}", file.format)));
        }
        if file.key_metadata.is_some() {
            return Err(Error::Unsupported("encrypted data files".to_owned()));
        }
        let object = ObjectMeta {
            location: self.inside(&file.url)?,
            // As a scan will name it, so that it finds the footer kept.
            last_modified: DateTime::UNIX_EPOCH,
            size: u64::try_from(file.size_bytes).map_err(|_| wrong("has no size".to_owned()))?,
            e_tag: None,
            version: None,
        };
        if object.size < 12 {
            return Err(wrong("is too short for Parquet".to_owned()));
        }
        let footer = self.footers.footer(&object).await.map_err(|error| match error {
            Error::Storage(_) => error,
            error => wrong(format!("cannot be read as its manifest describes it: {error}")),
        })?;
        let rows = footer.file_metadata().num_rows();
        if rows != file.row_count {
            return Err(wrong(format!("has {rows} rows, and its manifest says {}", file.row_count)));
        }
        let described = footer.file_metadata().schema_descr();
        let found = parquet_to_arrow_schema(described, None).map_err(|error| wrong(error.to_string()))?;
        ensure_columns(self.draft, found.fields()).map_err(wrong)?;
        for field in self.draft.current_schema().fields.iter().filter(|field| field.required) {
            match nulls(&footer, field.id) {
                Some(0) => {}
                Some(_) => {
                    let name = self.dir.filename().unwrap_or_default();
                    return Err(Error::not_null(name, &field.name, None));
                }
                None => {
                    let reason = format!(
                        "does not say how often column \"{}\" is null, which must not be",
                        field.name
                    );
                    return Err(wrong(reason));
                }
            }
        }
        Ok(())
    }

    /// Reads a manifest or a manifest list.
    async fn fetch(&self, url: &str) -> Result<Bytes> {
        let path = self.inside(url)?;
        let found = self.location.store.get(&path).await.map_err(|error| match Error::from(error) {
            Error::FileNotFound(_) => invalid(format!("there is no file \"{url}\"")),
            other => other,
        })?;
        if found.meta.size > MANIFEST_BYTES_MAX {
            let message = format!("\"{url}\" is longer than {MANIFEST_BYTES_MAX} bytes");
            return Err(Error::LimitExceeded(message));
        }
        Ok(found.bytes().await?)
    }

    /// The path of a file in the table's folder.
    fn inside(&self, url: &str) -> Result<Path> {
        let path = self.location.path_of(url)?;
        let below = path.as_ref().strip_prefix(self.dir.as_ref());
        match below.is_some_and(|rest| rest.starts_with('/')) {
            true => Ok(path),
            false => Err(Error::PermissionDenied(format!("\"{url}\" lies outside of the table's folder"))),
        }
    }
}

fn deletes(url: &str) -> Error {
    Error::Unsupported(format!(
        "\"{url}\" holds deletes: Lacus reads tables without delete files and deletion vectors, write copy-on-write"
    ))
}

/// What a client's file holds is the client's matter.
fn unreadable(error: Error) -> Error {
    match error {
        Error::CorruptFile { path, reason } => invalid(format!("\"{path}\" cannot be read: {reason}")),
        other => other,
    }
}

/// Says what keeps a file with these columns from being read as one of the table's.
fn ensure_columns(
    draft: &TableMetadata,
    found: &arrow::datatypes::Fields,
) -> std::result::Result<(), String> {
    let schema = draft.current_schema();
    for column in found {
        let Some(id) = columns::field_id(column) else {
            return Err(format!("gives column \"{}\" no field id", column.name()));
        };
        // A writer may have begun before a column was dropped.
        let earlier = draft.schemas.iter().rev().flat_map(|schema| &schema.fields);
        let Some(field) = schema.fields.iter().chain(earlier).find(|field| field.id == id) else {
            return Err(format!("has a column \"{}\", which the table has not", column.name()));
        };
        if !fits(&field.kind, column.data_type()) {
            let found = column.data_type();
            return Err(format!("has column \"{}\" as {found}, which is not the table's type", field.name));
        }
    }
    let missing = |field: &&Field| {
        field.required && !found.iter().any(|column| columns::field_id(column) == Some(field.id))
    };
    match schema.fields.iter().find(missing) {
        Some(field) => Err(format!("lacks column \"{}\", which is never null", field.name)),
        None => Ok(()),
    }
}

/// How many nulls a file has in the top-level column of this id, where its footer says so.
fn nulls(footer: &ParquetMetaData, id: i32) -> Option<u64> {
    let descriptor = footer.file_metadata().schema_descr();
    let root = descriptor.root_schema().get_fields();
    let at =
        root.iter().position(|field| field.get_basic_info().has_id() && field.get_basic_info().id() == id)?;
    if root[at].get_basic_info().repetition() == Repetition::REQUIRED {
        return Some(0);
    }
    let leaf = (0..descriptor.num_columns()).find(|leaf| descriptor.get_column_root_idx(*leaf) == at)?;
    // Of a nested column, nulls within are counted too.
    let is_plain = root[at].is_primitive();
    let groups = footer.row_groups().iter();
    let counts = groups.map(|group| group.column(leaf).statistics()?.null_count_opt());
    counts.sum::<Option<u64>>().filter(|nulls| is_plain || *nulls == 0)
}

/// Whether values of a file's column are values of the table's, or of a narrower type than it.
fn fits(kind: &Type, found: &DataType) -> bool {
    match (kind, found) {
        (Type::Primitive(wanted), found) => {
            columns::primitive(found).is_some_and(|found| holds(*wanted, found))
        }
        (Type::Nested(Nested::Struct { fields }), DataType::Struct(found)) => found.iter().all(|column| {
            let field = fields.iter().find(|field| columns::field_id(column) == Some(field.id));
            // One that was dropped is not read.
            columns::field_id(column).is_some()
                && field.is_none_or(|field| fits(&field.kind, column.data_type()))
        }),
        (Type::Nested(Nested::List { element, .. }), DataType::List(item)) => fits(element, item.data_type()),
        (Type::Nested(Nested::Map { key, value, .. }), DataType::Map(entries, _)) => {
            let DataType::Struct(pair) = entries.data_type() else { return false };
            pair.len() == 2 && fits(key, pair[0].data_type()) && fits(value, pair[1].data_type())
        }
        _ => false,
    }
}

/// Whether a table's type holds every value of a file's, as Iceberg widens types.
fn holds(wanted: Primitive, found: Primitive) -> bool {
    use Primitive::{Binary, Decimal, Double, Fixed, Float, Int, Long, Uuid};
    match (wanted, found) {
        (Long, Int) | (Double, Float) => true,
        (Decimal { precision, scale }, Decimal { precision: narrow, scale: same }) => {
            scale == same && precision >= narrow
        }
        (Uuid, Fixed(16)) | (Fixed(16), Uuid) | (Binary, Fixed(_)) => true,
        (wanted, found) => wanted == found,
    }
}
