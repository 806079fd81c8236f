//! Export: a query's result as files for others, by `COPY (query) TO 'url'`.
//!
//! One file, or a folder of files, Hive folders (`key=value`) included. It is the same write as a
//! table's, but for the formats, the names, and that all files become visible together at the end.

use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::GetExt;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use object_store::path::Path;
use parquet::basic::{Compression, GzipLevel};

use super::file::Encoder;
use super::listing::listing_schema;
use super::parquet::{ParquetEncoder, default_compression};
use super::shelf::RowGroupLimits;
use super::text::{CsvFormat, TextEncoder, TextFormat};
use super::write::{WriteExec, WriteKind, parts_of, row_group_bytes, run_write, unique};
use super::writing::{Layout, Naming};
use crate::error::{Error, Result};
use crate::format::partition::{PartitionField, Transform};
use crate::storage::Location;

/// Files of a folder are ended at this size.
const FILE_BYTES_TARGET: u64 = 256 << 20;
const MEMORY_BYTES: usize = 256 << 20;
/// Rows of text that are encoded and compressed together, by the memory they take.
const TEXT_RUN_BYTES: usize = 4 << 20;

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    pub location: Location,
    /// The file, or the folder under which files are made, a path in the location's store.
    pub target: Path,
    /// Whether `target` is a file. It is replaced if it exists; a folder's files stay beside the new ones.
    pub single_file: bool,
    pub format: ExportFormat,
    /// Columns whose values become Hive folders, and are left out of the files.
    pub partition_by: Vec<String>,
    /// How the names of a folder's files begin, such as the query id.
    pub file_prefix: String,
    /// Memory for rows and encoded bytes that wait; taken from the runtime's pool as it is used.
    pub memory_bytes: usize,
}

/// How the files are written.
#[derive(Debug, Clone)]
pub enum ExportFormat {
    Parquet { compression: Compression },
    Text { format: TextFormat, compression: FileCompressionType },
}

/// What an export has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    pub row_count: u64,
    pub size_bytes: u64,
    pub file_count: usize,
}

/// Runs `input` to its end into files, and then makes them visible.
///
/// After an error, or dropped, nothing becomes visible; if the store fails while several files become
/// visible, those that did are deleted as far as it lets us.
///
/// # Errors
/// [`Error::InvalidParameter`] and [`Error::ColumnNotFound`] for options that do not fit the query, and
/// what the query and the store report.
pub async fn export(
    input: Arc<dyn ExecutionPlan>,
    options: ExportOptions,
    context: Arc<TaskContext>,
) -> Result<Exported> {
    let files = run_write(export_plan(input, options)?, context).await?;
    Ok(Exported {
        row_count: files.iter().map(|file| file.row_count).sum(),
        size_bytes: files.iter().map(|file| file.size_bytes).sum(),
        file_count: files.len(),
    })
}

fn export_plan(input: Arc<dyn ExecutionPlan>, options: ExportOptions) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let fields: Vec<PartitionField> =
        options.partition_by.iter().map(|column| PartitionField::new(column, Transform::Identity)).collect();
    let (kept, files_schema) = without_partitions(&schema, &options.partition_by)?;
    let describe = format!("target={}, partition_by=[{}]", options.target, options.partition_by.join(", "));
    let layout_fields = fields.clone();
    let kind = WriteKind {
        schema,
        fields,
        kept,
        // Others will read these files; nobody asks for their metrics.
        listing: listing_schema(&Schema::empty(), &[])?,
        describe,
        layout: Box::new(move || options.layout(&files_schema, &layout_fields)),
    };
    WriteExec::plan(input, kind)
}

/// Returns the columns that stay in the files, if some do not, and the schema that they make.
fn without_partitions(
    schema: &SchemaRef,
    partition_by: &[String],
) -> Result<(Option<Vec<usize>>, SchemaRef)> {
    if partition_by.is_empty() {
        return Ok((None, Arc::clone(schema)));
    }
    let stays = |column: &usize| !partition_by.contains(schema.field(*column).name());
    let kept: Vec<usize> = (0..schema.fields().len()).filter(stays).collect();
    if kept.is_empty() {
        return Err(Error::InvalidParameter("PARTITION_BY leaves no column for the files".to_owned()));
    }
    let files_schema = Arc::new(schema.project(&kept)?);
    Ok((Some(kept), files_schema))
}

impl ExportOptions {
    /// Reads the options of `COPY (query) TO 'url' (…)`, their names in any case.
    ///
    /// `FORMAT` (`parquet`, `csv` or `json`; else by the URL's extension), `PARTITION_BY` (columns, with
    /// or without parentheses), `COMPRESSION`; for CSV `HEADER`, `DELIMITER`, `QUOTE` and `NULL`. The
    /// URL is a file when its last part has an extension and nothing is partitioned, else a folder.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an unknown option or value, [`Error::PermissionDenied`] when `url`
    /// lies outside of `location`.
    pub fn from_sql(location: Location, url: &str, options: &[(String, String)]) -> Result<Self> {
        let target = location.path_of(url)?;
        let mut sql = SqlOptions::read(options)?;
        let partition_by = sql.take("partition_by").map(|list| names(&list)).unwrap_or_default();
        let file_name = url.rsplit('/').next().unwrap_or_default();
        let format = ExportFormat::from_sql(&mut sql, file_name)?;
        sql.finish()?;
        Ok(Self {
            single_file: partition_by.is_empty() && file_name.trim_start_matches('.').contains('.'),
            location,
            target,
            format,
            partition_by,
            file_prefix: "export".to_owned(),
            memory_bytes: MEMORY_BYTES,
        })
    }

    fn layout(&self, schema: &SchemaRef, fields: &[PartitionField]) -> Result<Layout> {
        let naming = match self.single_file {
            true => Naming::Single(self.target.clone()),
            false => Naming::Generated {
                directory: self.target.clone(),
                fields: fields.to_vec(),
                hive: true,
                prefix: unique(&self.file_prefix),
                extension: self.format.extension(),
            },
        };
        let (encoder, bytes) = match &self.format {
            ExportFormat::Parquet { compression } => {
                (Encoder::Parquet(Arc::new(ParquetEncoder::new(schema, *compression)?)), 64 << 20)
            }
            ExportFormat::Text { format, compression } => {
                let (format, compression) = (format.clone(), *compression);
                (
                    Encoder::Text(TextEncoder { format, compression, schema: Arc::clone(schema) }),
                    TEXT_RUN_BYTES,
                )
            }
        };
        Ok(Layout {
            store: Arc::clone(&self.location.store),
            parts: parts_of(&self.location),
            naming,
            schema: Arc::clone(schema),
            encoder,
            limits: RowGroupLimits { rows: 1 << 20, bytes: row_group_bytes(bytes, self.memory_bytes) },
            file_bytes_target: if self.single_file { u64::MAX } else { FILE_BYTES_TARGET },
            memory_bytes: self.memory_bytes,
            all_at_once: true,
        })
    }
}

impl ExportFormat {
    fn from_sql(sql: &mut SqlOptions, file_name: &str) -> Result<Self> {
        let (extension, archive) = extensions(file_name);
        let named = sql.take("format").map(|name| name.to_ascii_lowercase());
        let compression = sql.take("compression");
        let format = match named.as_deref().or(extension.as_deref()) {
            Some("parquet") => {
                return Ok(Self::Parquet { compression: parquet_compression(compression.as_deref())? });
            }
            Some("csv") => TextFormat::Csv(csv_format(sql, b',')?),
            Some("tsv") => TextFormat::Csv(csv_format(sql, b'\t')?),
            Some("json" | "jsonl" | "ndjson") => TextFormat::Json,
            Some(other) => {
                return Err(Error::InvalidParameter(format!(
                    "unknown format \"{other}\": COPY TO writes parquet, csv and json"
                )));
            }
            None => {
                return Err(Error::InvalidParameter(
                    "COPY TO needs a FORMAT, or a file with an extension".to_owned(),
                ));
            }
        };
        Ok(Self::Text { format, compression: text_compression(compression.or(archive).as_deref())? })
    }

    fn extension(&self) -> String {
        match self {
            Self::Parquet { .. } => "parquet".to_owned(),
            Self::Text { format: TextFormat::Csv(_), compression } => format!("csv{}", compression.get_ext()),
            Self::Text { format: TextFormat::Json, compression } => format!("json{}", compression.get_ext()),
        }
    }
}

/// The options that were not used yet.
struct SqlOptions(Vec<(String, String)>);

impl SqlOptions {
    fn read(options: &[(String, String)]) -> Result<Self> {
        let mut read: Vec<(String, String)> = Vec::with_capacity(options.len());
        for (name, value) in options {
            let name = name.to_ascii_lowercase();
            if read.iter().any(|(known, _)| *known == name) {
                return Err(Error::InvalidParameter(format!("option \"{name}\" is given twice")));
            }
            read.push((name, value.clone()));
        }
        Ok(Self(read))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    fn take_byte(&mut self, name: &str, default: u8) -> Result<u8> {
        match self.take(name).as_deref() {
            None => Ok(default),
            Some("\\t" | "tab") => Ok(b'\t'),
            Some(text) => match text.as_bytes() {
                [byte] => Ok(*byte),
                _ => Err(Error::InvalidParameter(format!(
                    "{name} must be one ASCII character, not \"{text}\""
                ))),
            },
        }
    }

    fn take_bool(&mut self, name: &str, default: bool) -> Result<bool> {
        match self.take(name).map(|text| text.to_ascii_lowercase()).as_deref() {
            None => Ok(default),
            Some("" | "true" | "on" | "1" | "yes") => Ok(true),
            Some("false" | "off" | "0" | "no") => Ok(false),
            Some(text) => {
                Err(Error::InvalidParameter(format!("{name} must be true or false, not \"{text}\"")))
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Error::InvalidParameter(format!("option \"{name}\" does not apply here"))),
        }
    }
}

fn csv_format(sql: &mut SqlOptions, delimiter: u8) -> Result<CsvFormat> {
    let plain = CsvFormat::default();
    Ok(CsvFormat {
        header: sql.take_bool("header", plain.header)?,
        delimiter: sql.take_byte("delimiter", delimiter)?,
        quote: sql.take_byte("quote", plain.quote)?,
        null: sql.take("null").unwrap_or(plain.null),
    })
}

fn parquet_compression(name: Option<&str>) -> Result<Compression> {
    let Some(name) = name else { return Ok(default_compression()) };
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "zstd" => Ok(default_compression()),
        "gzip" => Ok(Compression::GZIP(GzipLevel::default())),
        "none" | "uncompressed" => Ok(Compression::UNCOMPRESSED),
        "lz4" => Ok(Compression::LZ4_RAW),
        other => match Compression::from_str(other) {
            Ok(Compression::LZO | Compression::BROTLI(_)) | Err(_) => {
                Err(Error::InvalidParameter(format!("unknown compression \"{name}\" for Parquet")))
            }
            Ok(compression) => Ok(compression),
        },
    }
}

fn text_compression(name: Option<&str>) -> Result<FileCompressionType> {
    match name.unwrap_or_default().to_ascii_lowercase().as_str() {
        "none" => Ok(FileCompressionType::UNCOMPRESSED),
        other => FileCompressionType::from_str(other)
            .map_err(|_| Error::InvalidParameter(format!("unknown compression \"{other}\" for text"))),
    }
}

/// Returns `csv` and `gz` of `x.csv.gz`.
fn extensions(file_name: &str) -> (Option<String>, Option<String>) {
    let lower = file_name.to_ascii_lowercase();
    let mut parts = lower.rsplit('.');
    let (Some(last), Some(before)) = (parts.next(), parts.next()) else { return (None, None) };
    match last {
        "gz" | "zst" | "bz2" | "xz" if parts.next().is_some() => {
            (Some(before.to_owned()), Some(last.to_owned()))
        }
        _ => (Some(last.to_owned()), None),
    }
}

/// Reads `a, b`, `(a, "b c")` or `a` as names; unquoted ones in lower case, as everywhere in SQL.
fn names(list: &str) -> Vec<String> {
    let inner = list.trim().trim_start_matches('(').trim_end_matches(')');
    let name = |text: &str| match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => text.to_lowercase(),
    };
    inner.split(',').map(str::trim).filter(|text| !text.is_empty()).map(name).collect()
}
