//! COPY TO: a query's result as files for others, under a root that the configuration allows.

use std::str::FromStr;

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use parquet::basic::{Compression, ZstdLevel};

use super::execute::{Outcome, Run};
use super::plan::Planner;
use super::session::Session;
use super::statement::Export;
use crate::error::{Error, Result};
use crate::sink::{CsvFormat, ExportFormat, ExportOptions, TextFormat, export};

/// Memory for rows that wait to be encoded and sent.
const MEMORY_BYTES: usize = 128 << 20;

impl Session {
    pub(super) async fn export(&mut self, planner: Planner, request: &Export, run: &Run) -> Result<Outcome> {
        let (location, target) = self.engine.catalogs.export_target(&planner.database, &request.url)?;
        let choice = Choice::read(&request.options, &request.url)?;
        let single_file =
            !request.url.ends_with('/') && has_extension(&request.url) && choice.partition_by.is_empty();
        let options = ExportOptions {
            location,
            target,
            single_file,
            format: choice.format()?,
            partition_by: choice.partition_by,
            file_prefix: run.guard.id.clone(),
            memory_bytes: MEMORY_BYTES,
        };
        run.runtime.queries.admit(&run.guard).await?;
        let context = self.task_context();
        let query = request.query.clone();
        let exported = run
            .on_cpu(async move {
                let plan = planner.query(*query, &[]).await?;
                export(planner.physical(&plan).await?, options, context).await
            })
            .await?;
        Ok(Outcome::Done(format!("COPY {}", exported.row_count)))
    }
}

/// The options of a COPY, by their names.
#[derive(Debug, Default)]
struct Choice {
    format: String,
    compression: Option<String>,
    partition_by: Vec<String>,
    csv: CsvFormat,
}

impl Choice {
    fn read(options: &[(String, Vec<String>)], url: &str) -> Result<Self> {
        let mut choice = Self { format: format_of(url).to_owned(), ..Self::default() };
        for (name, values) in options {
            let value = values.first().map(String::as_str);
            match (name.as_str(), value) {
                ("format", Some(format)) => choice.format = format.to_lowercase(),
                ("compression", Some(compression)) => choice.compression = Some(compression.to_lowercase()),
                ("partition_by" | "partitioned_by", Some(_)) => choice.partition_by.clone_from(values),
                ("header", _) => choice.csv.header = !matches!(value, Some("false" | "off" | "0")),
                ("delimiter" | "delim" | "sep", Some(text)) => choice.csv.delimiter = byte(name, text)?,
                ("quote", Some(text)) => choice.csv.quote = byte(name, text)?,
                ("null" | "nullstr", Some(text)) => text.clone_into(&mut choice.csv.null),
                _ => {
                    return Err(Error::InvalidParameter(format!(
                        "COPY has no option \"{name}\" of this form"
                    )));
                }
            }
        }
        Ok(choice)
    }

    fn format(&self) -> Result<ExportFormat> {
        let format = match self.format.as_str() {
            "parquet" => return Ok(ExportFormat::Parquet { compression: self.parquet_compression()? }),
            "csv" => TextFormat::Csv(self.csv.clone()),
            "json" => TextFormat::Json,
            other => {
                return Err(Error::InvalidParameter(format!(
                    "COPY format \"{other}\" not recognized; use parquet, csv or json"
                )));
            }
        };
        let compression = match self.compression.as_deref() {
            None | Some("none" | "uncompressed") => FileCompressionType::UNCOMPRESSED,
            Some(name) => FileCompressionType::from_str(name)
                .map_err(|_| Error::InvalidParameter(format!("unknown compression \"{name}\"")))?,
        };
        Ok(ExportFormat::Text { format, compression })
    }

    fn parquet_compression(&self) -> Result<Compression> {
        Ok(match self.compression.as_deref() {
            None | Some("zstd") => Compression::ZSTD(ZstdLevel::default()),
            Some("snappy") => Compression::SNAPPY,
            Some("gzip" | "gz") => Compression::GZIP(parquet::basic::GzipLevel::default()),
            Some("lz4") => Compression::LZ4_RAW,
            Some("none" | "uncompressed") => Compression::UNCOMPRESSED,
            Some(name) => return Err(Error::InvalidParameter(format!("unknown compression \"{name}\""))),
        })
    }
}

fn byte(name: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err(Error::InvalidParameter(format!("COPY {name} must be a single one-byte character"))),
    }
}

fn last_name(url: &str) -> &str {
    url.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn has_extension(url: &str) -> bool {
    last_name(url).contains('.')
}

/// The format that a file's name asks for.
fn format_of(url: &str) -> &'static str {
    let name = last_name(url).to_lowercase();
    let has = |extension: &str| name.split('.').skip(1).any(|part| part == extension);
    match () {
        () if has("csv") || has("tsv") => "csv",
        () if has("json") || has("jsonl") || has("ndjson") => "json",
        () => "parquet",
    }
}
