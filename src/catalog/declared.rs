//! Declared tables: `catalog/NAME/SCHEMA/TABLE.toml` says where files lie and what they mean.
//!
//! Declarations are reviewed like code and are read again when their file changes. They name types
//! where inference would be poor, the words that stand for null, partition columns and comments.

mod types;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::Deserialize;

pub use self::types::sql_type;
use super::definition::{in_toml, read, stem, toml_files, unreadable};
use crate::error::{Error, Result};
use crate::format::files::extension::{Compression, FileKind, recognise};
use crate::format::files::options::{ReadOptions, byte};
use crate::format::files::{FilePattern, FileSet, Partitions};
use crate::storage::Location;

/// A table as its declaration describes it.
#[derive(Debug, Clone)]
pub struct DeclaredTable {
    pub schema: String,
    pub name: String,
    pub comment: Option<String>,
    /// Relative to the lake's root, or an absolute URL below it.
    location: String,
    /// Everything but the pattern.
    set: FileSet,
    /// Comments on columns and partition columns, by name.
    column_comments: HashMap<String, String>,
}

/// The declared tables of one catalog, read again when their files change.
#[derive(Debug)]
pub struct DeclaredTables {
    folder: PathBuf,
    read: Mutex<HashMap<PathBuf, (SystemTime, Arc<DeclaredTable>)>>,
}

/// What a declaration may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    location: String,
    format: Option<FileKind>,
    compression: Option<Compression>,
    file_extension: Option<String>,
    comment: Option<String>,
    #[serde(default, rename = "column")]
    columns: Vec<Column>,
    partitions: Option<Vec<Column>>,
    #[serde(default)]
    options: Options,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
    comment: Option<String>,
    #[serde(default = "yes")]
    nullable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    header: Option<bool>,
    delimiter: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
    comment: Option<String>,
    null: Option<Words>,
    newlines_in_values: Option<bool>,
}

/// One word, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Several(Vec<String>),
}

fn yes() -> bool {
    true
}

impl DeclaredTables {
    /// The tables under `folder`, which need not exist. Nothing is read yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, read: Mutex::default() }
    }

    /// Names of the schemas, sorted.
    ///
    /// # Errors
    /// [`Error::Config`] when the folder cannot be read.
    pub fn schemas(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&self.folder, &error)),
        };
        let mut schemas = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&self.folder, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() && !name.starts_with(['_', '.']) {
                schemas.push(name);
            }
        }
        schemas.sort_unstable();
        Ok(schemas)
    }

    /// Names of the tables of a schema, sorted; empty for a schema without declarations.
    ///
    /// # Errors
    /// [`Error::Config`] when the folder cannot be read.
    pub fn tables(&self, schema: &str) -> Result<Vec<String>> {
        let Some(folder) = self.schema_folder(schema) else { return Ok(Vec::new()) };
        Ok(toml_files(&folder)?.iter().map(|file| stem(file)).collect())
    }

    /// The declaration of a table, read again if its file has changed.
    ///
    /// # Errors
    /// [`Error::Config`] with file, line and key.
    pub fn table(&self, schema: &str, name: &str) -> Result<Option<Arc<DeclaredTable>>> {
        let Some(folder) = self.schema_folder(schema).filter(|_| is_plain(name)) else { return Ok(None) };
        let file = folder.join(format!("{name}.toml"));
        let changed = match std::fs::metadata(&file).and_then(|metadata| metadata.modified()) {
            Ok(changed) => changed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&file, &error)),
        };
        if let Some((known, table)) = self.lock().get(&file)
            && *known == changed
        {
            return Ok(Some(Arc::clone(table)));
        }
        let table = Arc::new(declared(&file, schema, name)?);
        self.lock().insert(file, (changed, Arc::clone(&table)));
        Ok(Some(table))
    }

    fn schema_folder(&self, schema: &str) -> Option<PathBuf> {
        Some(self.folder.join(schema)).filter(|folder| is_plain(schema) && folder.is_dir())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (SystemTime, Arc<DeclaredTable>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name from SQL that is one visible name of a file, and no path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\', '\0']) && !name.starts_with(['_', '.'])
}

impl DeclaredTable {
    /// The files to read, below the root of the table's lake.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] when the location lies outside of the root.
    pub fn file_set(&self, root: &Location) -> Result<FileSet> {
        let pattern = FilePattern::parse(root, &self.location)?;
        Ok(FileSet { pattern, ..self.set.clone() })
    }

    /// The columns of the table with their comments, as listings show them.
    pub fn described(&self, schema: &SchemaRef) -> SchemaRef {
        let fields = schema.fields().iter().map(|field| match self.column_comments.get(field.name()) {
            None => Arc::clone(field),
            Some(comment) => {
                let mut metadata = field.metadata().clone();
                metadata.insert("comment".to_owned(), comment.clone());
                Arc::new(field.as_ref().clone().with_metadata(metadata))
            }
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The format's name, where the declaration or the extension says it.
    pub fn format(&self) -> Option<FileKind> {
        self.set.kind
    }
}

fn declared(file: &Path, schema: &str, name: &str) -> Result<DeclaredTable> {
    let text = read(file)?;
    let declaration: Declaration = toml::from_str(&text).map_err(|error| in_toml(file, &text, &error))?;
    let wrong = |what: String| Error::Config(format!("{}: {what}", file.display()));
    let columns = fields(&declaration.columns).map_err(&wrong)?;
    let partitions = fields(declaration.partitions.as_deref().unwrap_or_default()).map_err(&wrong)?;
    if let Some(twice) =
        partitions.iter().find(|field| columns.iter().any(|other| other.name() == field.name()))
    {
        return Err(wrong(format!("column \"{}\" is declared twice", twice.name())));
    }
    let named = recognise(declaration.location.trim_end_matches('/'));
    let kind = declaration.format.or(named.map(|named| named.kind));
    check_types(kind, &columns).map_err(&wrong)?;
    let options = options(&declaration.options).map_err(|error| wrong(error.to_string()))?;
    let described = declaration.columns.iter().chain(declaration.partitions.iter().flatten());
    let comments = described.filter_map(|column| Some((column.name.clone(), column.comment.clone()?)));
    let typed = |field: Field| (field.name().clone(), field.data_type().clone());
    Ok(DeclaredTable {
        schema: schema.to_owned(),
        name: name.to_owned(),
        comment: declaration.comment,
        column_comments: comments.collect(),
        set: FileSet {
            kind,
            compression: declaration.compression,
            file_extension: declaration.file_extension,
            columns: (!columns.is_empty()).then(|| Arc::new(Schema::new(columns))),
            partitions: match declaration.partitions {
                None => Partitions::Discovered,
                Some(_) => Partitions::Declared(partitions.into_iter().map(typed).collect()),
            },
            options,
            ..FileSet::new(FilePattern::Folder(object_store::path::Path::default()))
        },
        location: declaration.location,
    })
}

fn fields(columns: &[Column]) -> Result<Vec<Field>, String> {
    let mut fields: Vec<Field> = Vec::with_capacity(columns.len());
    for Column { name, sql_type: written, nullable, .. } in columns {
        let data_type = sql_type(written)
            .ok_or_else(|| format!("column \"{name}\" has the unknown type \"{written}\""))?;
        if fields.iter().any(|field| field.name() == name) {
            return Err(format!("column \"{name}\" is declared twice"));
        }
        fields.push(Field::new(name, data_type, *nullable));
    }
    Ok(fields)
}

/// Some types have no text form in CSV.
fn check_types(kind: Option<FileKind>, columns: &[Field]) -> Result<(), String> {
    if kind != Some(FileKind::Csv) {
        return Ok(());
    }
    let unfit = |field: &&Field| {
        field.data_type().is_nested()
            || matches!(field.data_type(), DataType::BinaryView | DataType::Interval(_))
    };
    match columns.iter().find(unfit) {
        None => Ok(()),
        Some(field) => Err(format!("column \"{}\" has a type that CSV files cannot hold", field.name())),
    }
}

fn options(written: &Options) -> Result<ReadOptions> {
    let one = |name: &str, value: &Option<String>| value.as_ref().map(|value| byte(name, value)).transpose();
    Ok(ReadOptions {
        header: written.header,
        delimiter: one("delimiter", &written.delimiter)?,
        quote: one("quote", &written.quote)?,
        escape: one("escape", &written.escape)?,
        comment: one("comment", &written.comment)?,
        nulls: written.null.as_ref().map(|words| match words {
            Words::One(word) => vec![word.clone()],
            Words::Several(words) => words.clone(),
        }),
        newlines_in_values: written.newlines_in_values,
    })
}

#[cfg(test)]
mod tests;
