//! Text: rows as CSV or as JSON lines.
//!
//! Each run of rows is encoded and compressed by itself. The compressed formats allow that: a gzip,
//! bzip2, xz or zstd file may be several, one after the other.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::csv::{QuoteStyle, WriterBuilder as CsvWriterBuilder};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::json::writer::{LineDelimited, WriterBuilder as JsonWriterBuilder};
use bytes::Bytes;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::{StreamExt, TryStreamExt, stream};

use super::rows::Slice;
use crate::error::Result;

/// How text files are written.
#[derive(Debug, Clone)]
pub enum TextFormat {
    Csv(CsvFormat),
    /// One object a line; nulls are left out.
    Json,
}

/// How values stand in a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvFormat {
    pub header: bool,
    pub delimiter: u8,
    pub quote: u8,
    /// What stands for null.
    pub null: String,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self { header: true, delimiter: b',', quote: b'"', null: String::new() }
    }
}

/// Encodes rows of one schema as text.
pub(super) struct TextEncoder {
    pub format: TextFormat,
    pub compression: FileCompressionType,
    pub schema: SchemaRef,
}

impl TextEncoder {
    /// Returns what stands before the first row of a file: a CSV header, or nothing.
    pub(super) async fn header(&self) -> Result<Bytes> {
        match &self.format {
            TextFormat::Csv(csv) if csv.header => {
                let empty = RecordBatch::new_empty(Arc::clone(&self.schema));
                self.compress(self.csv(csv, &[empty], true)?).await
            }
            _ => Ok(Bytes::new()),
        }
    }

    /// Returns a file without rows: no bytes, or an archive of no bytes.
    pub(super) async fn nothing(&self) -> Result<Bytes> {
        self.compress(Vec::new()).await
    }

    pub(super) async fn encode(&self, slices: Vec<Slice>) -> Result<Bytes> {
        let batches = slices.into_iter().map(|slice| batch(&self.schema, slice));
        let batches: Vec<RecordBatch> = batches.collect::<Result<_>>()?;
        let text = match &self.format {
            TextFormat::Csv(csv) => self.csv(csv, &batches, false)?,
            TextFormat::Json => json(&batches)?,
        };
        self.compress(text).await
    }

    fn csv(&self, csv: &CsvFormat, batches: &[RecordBatch], header: bool) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut writer = CsvWriterBuilder::new()
            .with_header(header)
            .with_delimiter(csv.delimiter)
            .with_quote(csv.quote)
            .with_quote_style(QuoteStyle::Necessary)
            .with_null(csv.null.clone())
            .build(&mut text);
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        drop(writer);
        Ok(text)
    }

    async fn compress(&self, text: Vec<u8>) -> Result<Bytes> {
        if !self.compression.is_compressed() {
            return Ok(text.into());
        }
        let whole = stream::once(async move { Ok(Bytes::from(text)) }).boxed();
        let compressed: Vec<Bytes> =
            self.compression.convert_to_compress_stream(whole)?.try_collect().await?;
        Ok(compressed.concat().into())
    }
}

/// Names the columns as the query does; their types may be plainer than the query's.
fn batch(schema: &SchemaRef, slice: Slice) -> Result<RecordBatch> {
    let fields = schema.fields().iter().zip(&slice.columns);
    let fields: Vec<Field> =
        fields.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(slice.rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), slice.columns, &options)?)
}

fn json(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut writer = JsonWriterBuilder::new().build::<_, LineDelimited>(&mut text);
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    drop(writer);
    Ok(text)
}
