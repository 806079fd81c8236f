//! Inference: which columns a set of files has.
//!
//! At most [`INFER_FILES_MAX`] files are looked at, the first, the last and others evenly between, so
//! that the cost is bounded however many there are. CSV files are read by position, so the header
//! line of each must name the same columns in the same order.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::datasource::physical_plan::parquet::{transform_binary_to_string, transform_schema_to_view};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use parquet::arrow::parquet_to_arrow_schema;

use super::extension::{Compression, Extension, FileKind};
use super::footers::{Footers, in_file};
use super::merge::merged;
use super::options::ReadOptions;
use super::recent::Recent;
use super::sample::{HEADER_BYTES, LineEnds, SAMPLE_BYTES, first_lines, in_memory};
use crate::error::{Error, Result};
use crate::storage::Location;

/// Parquet footers that are read for one table's schema.
const INFER_FILES_MAX: usize = 128;
/// Text, Avro and Arrow files that are read for one table's schema.
const SAMPLE_FILES_MAX: usize = 16;
/// Files that are read at once.
const CONCURRENCY: usize = 16;

/// The columns that a set of files holds.
#[derive(Debug, Clone)]
pub struct Inferred {
    pub schema: SchemaRef,
    /// Some CSV files lack the last columns.
    pub ragged: bool,
}

/// Infers schemas, and remembers the header lines of CSV files.
#[derive(Debug)]
pub struct Inference {
    /// Header lines of CSV files, by store, path and version.
    headers: Mutex<Recent<String, Arc<[String]>>>,
}

/// What is to be inferred.
pub struct Question<'a> {
    pub state: &'a dyn Session,
    pub location: &'a Location,
    pub extension: Extension,
    pub options: &'a ReadOptions,
    /// In the order of their paths, none of them empty.
    pub objects: &'a [&'a ObjectMeta],
    /// The columns as a declaration names them.
    pub declared: Option<&'a SchemaRef>,
}

impl Inference {
    /// Remembers up to `headers_max` header lines.
    pub fn new(headers_max: usize) -> Self {
        Self { headers: Mutex::new(Recent::new(headers_max)) }
    }

    /// Finds the columns of the files.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] when a file cannot be read as what it claims to be, and
    /// [`Error::InvalidTable`] when CSV files disagree about their columns.
    pub async fn infer(&self, question: &Question<'_>) -> Result<Inferred> {
        let ragged = self.check_headers(question).await?;
        let schema = match question.declared {
            Some(declared) => Arc::clone(declared),
            None => Arc::new(inferred(question, ragged).await?),
        };
        Ok(Inferred { schema, ragged })
    }

    /// Compares the header lines of CSV files; returns whether some are shorter than others.
    async fn check_headers(&self, question: &Question<'_>) -> Result<bool> {
        let is_csv = question.extension.kind == FileKind::Csv && question.options.has_header();
        if !is_csv || question.objects.len() < 2 && question.declared.is_none() {
            return Ok(false);
        }
        let headers: Vec<_> = futures::stream::iter(question.objects)
            .map(|object| self.header(question, object))
            .boxed()
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let Some(longest) = headers.iter().rev().max_by_key(|header| header.len()) else { return Ok(false) };
        let stranger = headers.iter().position(|header| !longest.starts_with(header));
        if let Some(stranger) = stranger {
            let reason = format!(
                "its header line ({}) differs from that of other files of the table ({})",
                headers[stranger].join(", "),
                longest.join(", ")
            );
            return Err(invalid(question, question.objects[stranger], reason));
        }
        if let Some(declared) = question.declared {
            check_declared(question, declared, longest)?;
        }
        Ok(headers.iter().any(|header| header.len() < longest.len()))
    }

    async fn header(&self, question: &Question<'_>, object: &ObjectMeta) -> Result<Arc<[String]>> {
        let key = version(question.location, object);
        if let Some(known) = self.lock().find(&key) {
            return Ok(known);
        }
        let ends = line_ends(question);
        let compression = question.extension.compression;
        let lines = first_lines(question.location, object, compression, ends, HEADER_BYTES).await?;
        // With comments, the header is not always the first line.
        let head = if question.options.comment.is_some() { lines } else { ends.first_of(&lines) };
        let schema = schema_of(question, object, head, true).await?;
        let header: Arc<[String]> = schema.fields().iter().map(|field| field.name().clone()).collect();
        self.lock().keep(key, Arc::clone(&header), 1);
        Ok(header)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recent<String, Arc<[String]>>> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells this version of this object from all others.
fn version(location: &Location, object: &ObjectMeta) -> String {
    let ObjectMeta { location: path, last_modified, size, e_tag, .. } = object;
    format!("{}/{path} {size} {last_modified} {e_tag:?}", location.store_url.as_str())
}

/// Declared columns may rename those of the header line, but not reorder them.
fn check_declared(question: &Question<'_>, declared: &SchemaRef, header: &[String]) -> Result<()> {
    let names: Vec<_> = declared.fields().iter().map(|field| field.name().to_lowercase()).collect();
    let found: Vec<_> = header.iter().map(|name| name.to_lowercase()).collect();
    if names.len() < found.len() {
        let reason = format!(
            "its header line ({}) names more columns than are declared ({})",
            header.join(", "),
            names.join(", ")
        );
        return Err(invalid(question, question.objects[0], reason));
    }
    let moved = names.iter().zip(&found).find(|(name, found)| name != found && names.contains(found));
    match moved {
        None => Ok(()),
        Some((name, found)) => {
            let reason = format!("column \"{name}\" is declared where the header line has \"{found}\"");
            Err(invalid(question, question.objects[0], reason))
        }
    }
}

async fn inferred(question: &Question<'_>, ragged: bool) -> Result<Schema> {
    match question.extension.kind {
        FileKind::Parquet => parquet(question).await,
        FileKind::Csv | FileKind::Json => text(question, ragged).await,
        FileKind::Avro | FileKind::Arrow => binary(question).await,
    }
}

async fn parquet(question: &Question<'_>) -> Result<Schema> {
    let footers = Footers::new(question.state, question.location);
    let options = question.state.default_table_options().parquet.global;
    let schemas: Vec<_> = futures::stream::iter(spread(question.objects, INFER_FILES_MAX))
        .map(|object| parquet_schema(&footers, question.location, object))
        .boxed()
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let mut schema = merged(schemas);
    if options.binary_as_string {
        schema = transform_binary_to_string(&schema);
    }
    if options.schema_force_view_types {
        schema = transform_schema_to_view(&schema);
    }
    Ok(schema)
}

async fn parquet_schema(footers: &Footers<'_>, location: &Location, object: &ObjectMeta) -> Result<Schema> {
    let footer = footers.footer(object).await?;
    let file = footer.file_metadata();
    parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(|error| in_file(location, object, error))
}

async fn text(question: &Question<'_>, ragged: bool) -> Result<Schema> {
    let schemas: Vec<_> = futures::stream::iter(spread(question.objects, SAMPLE_FILES_MAX))
        .map(|object| async move {
            let compression = question.extension.compression;
            let lines =
                first_lines(question.location, object, compression, line_ends(question), SAMPLE_BYTES);
            let schema = schema_of(question, object, lines.await?, ragged).await?;
            Ok::<_, Error>(if question.extension.kind == FileKind::Csv {
                distinct_names(schema)
            } else {
                schema
            })
        })
        .boxed()
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(text_types(merged(schemas)))
}

/// The schema of some whole lines of `object`.
async fn schema_of(
    question: &Question<'_>,
    object: &ObjectMeta,
    lines: bytes::Bytes,
    ragged: bool,
) -> Result<Schema> {
    let plain = Extension { compression: Compression::None, ..question.extension };
    let format = question.options.file_format(question.state, plain, ragged);
    let (store, sample) = in_memory(lines).await?;
    let schema = format.infer_schema(question.state, &store, &[sample]).await;
    let schema = schema.map_err(|error| bad_text(question, object, error.into()))?;
    Ok(schema.as_ref().clone())
}

async fn binary(question: &Question<'_>) -> Result<Schema> {
    let format = question.options.file_format(question.state, question.extension, false);
    let mut schemas = Vec::new();
    for object in spread(question.objects, SAMPLE_FILES_MAX) {
        let found = match question.extension.kind {
            FileKind::Avro => {
                let (store, head) = in_memory(head_of(question.location, object).await?).await?;
                format.infer_schema(question.state, &store, &[head]).await
            }
            _ => {
                format
                    .infer_schema(question.state, &question.location.store, std::slice::from_ref(object))
                    .await
            }
        };
        let found = found.map_err(|error| corrupt(question, object, error.into()))?;
        schemas.push(found.as_ref().clone());
    }
    Ok(merged(schemas))
}

/// An Avro file names its schema at its beginning.
async fn head_of(location: &Location, object: &ObjectMeta) -> Result<bytes::Bytes> {
    use object_store::ObjectStoreExt;
    let end = object.size.min(4 * SAMPLE_BYTES);
    Ok(location.store.get_range(&object.location, 0..end).await?)
}

/// The first, the last, and others evenly between.
fn spread<'a>(objects: &[&'a ObjectMeta], files_max: usize) -> Vec<&'a ObjectMeta> {
    let last = objects.len().saturating_sub(1);
    if objects.len() <= files_max {
        return objects.to_vec();
    }
    (0..files_max).map(|step| objects[step * last / (files_max - 1)]).collect()
}

fn line_ends(question: &Question<'_>) -> LineEnds {
    let is_csv = question.extension.kind == FileKind::Csv;
    LineEnds { quote: is_csv.then(|| question.options.quote.unwrap_or(b'"')) }
}

/// Text is `Utf8View` everywhere, and a column without a value is text.
fn text_types(schema: Schema) -> Schema {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Null | DataType::Utf8 => Field::new(field.name(), DataType::Utf8View, true).into(),
            _ => Arc::clone(field),
        })
        .collect();
    Schema::new(fields)
}

/// Gives columns without a name, or with that of another, a name of their own.
fn distinct_names(schema: Schema) -> Schema {
    let mut taken = std::collections::HashSet::new();
    let mut fields = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        let trimmed = field.name().trim_start_matches('\u{feff}');
        let base = if trimmed.is_empty() { format!("column_{}", index + 1) } else { trimmed.to_owned() };
        let mut name = base.clone();
        let mut suffix = 1;
        while !taken.insert(name.clone()) {
            name = format!("{base}_{suffix}");
            suffix += 1;
        }
        fields.push(field.as_ref().clone().with_name(name));
    }
    Schema::new(fields)
}

fn invalid(question: &Question<'_>, object: &ObjectMeta, reason: String) -> Error {
    Error::InvalidTable { path: question.location.url_of(&object.location), reason }
}

fn bad_text(question: &Question<'_>, object: &ObjectMeta, error: Error) -> Error {
    match error {
        Error::Cancelled | Error::Storage(_) | Error::PermissionDenied(_) => error,
        other => Error::BadData(format!("{}: {other}", question.location.url_of(&object.location))),
    }
}

fn corrupt(question: &Question<'_>, object: &ObjectMeta, error: Error) -> Error {
    match error {
        Error::Cancelled | Error::PermissionDenied(_) | Error::FileNotFound(_) => error,
        other => {
            Error::CorruptFile { path: question.location.url_of(&object.location), reason: other.to_string() }
        }
    }
}
