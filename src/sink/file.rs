//! One file that is being written: what is encoded goes in, an upload comes out.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use parquet::file::writer::SerializedFileWriter;

use super::bounds::{column_metrics, split_offsets};
use super::budget::{Budget, Charge};
use super::parquet::{EncodedRowGroup, ParquetEncoder, encoding_failed};
use super::shelf::RowGroup;
use super::text::TextEncoder;
use super::upload::Upload;
use crate::error::{Error, Result};
use crate::format::WrittenFile;

/// How rows become the bytes of a file.
pub(super) enum Encoder {
    Parquet(Arc<ParquetEncoder>),
    Text(TextEncoder),
}

/// Rows as they will stand in a file.
pub(super) enum Encoded {
    RowGroup(EncodedRowGroup),
    Text { bytes: Bytes, rows: usize },
}

/// Dropped before it is finished, its upload is aborted.
pub(super) struct OpenFile {
    upload: Upload,
    body: Body,
    partition: Arc<[ScalarValue]>,
    rows: u64,
    null_counts: Vec<u64>,
}

enum Body {
    Parquet(Box<SerializedFileWriter<Vec<u8>>>),
    Text,
}

impl Encoder {
    /// Encodes a row group, up to `parallelism` columns of it at a time, and frees its rows.
    pub(super) async fn encode(&self, group: RowGroup, parallelism: usize) -> Result<Encoded> {
        let RowGroup { slices, rows } = group;
        match self {
            Self::Parquet(encoder) => {
                Ok(Encoded::RowGroup(Arc::clone(encoder).encode(slices, rows, parallelism).await?))
            }
            Self::Text(encoder) => Ok(Encoded::Text { bytes: encoder.encode(slices).await?, rows }),
        }
    }
}

impl Encoded {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::RowGroup(group) => group
                .chunks
                .iter()
                .map(|chunk| chunk.close().metadata.compressed_size().max(0) as usize)
                .sum(),
            Self::Text { bytes, .. } => bytes.len(),
        }
    }
}

impl OpenFile {
    pub(super) async fn begin(
        encoder: &Encoder,
        mut upload: Upload,
        partition: Arc<[ScalarValue]>,
        budget: &Arc<Budget>,
    ) -> Result<Self> {
        let body = match encoder {
            Encoder::Parquet(encoder) => Body::Parquet(Box::new(encoder.begin_file()?)),
            Encoder::Text(encoder) => {
                let header = encoder.header().await?;
                let charge = budget.charge(header.len());
                upload.write(header, charge).await?;
                Body::Text
            }
        };
        Ok(Self { upload, body, partition, rows: 0, null_counts: Vec::new() })
    }

    /// Bytes in the file so far.
    pub(super) fn written_bytes(&self) -> u64 {
        self.upload.written_bytes()
    }

    /// Bytes that are held because they are too few to be sent.
    pub(super) fn pending_bytes(&self) -> usize {
        self.upload.pending_bytes()
    }

    pub(super) async fn append(&mut self, encoded: Encoded, mut charge: Charge) -> Result<()> {
        let bytes = match (encoded, &mut self.body) {
            (Encoded::RowGroup(group), Body::Parquet(writer)) => {
                self.rows += group.rows as u64;
                add_up(&mut self.null_counts, &group.null_counts);
                append_row_group(writer, group)?
            }
            (Encoded::Text { bytes, rows }, Body::Text) => {
                self.rows += rows as u64;
                bytes
            }
            _ => return Err(Error::Internal("rows were encoded for another kind of file".to_owned())),
        };
        charge.resize(bytes.len());
        self.upload.write(bytes, charge).await
    }

    /// Ends the file. The upload has all of its bytes, and nobody sees it before it is complete.
    pub(super) async fn finish(
        self,
        encoder: &Encoder,
        schema: &SchemaRef,
        budget: &Arc<Budget>,
    ) -> Result<(WrittenFile, Upload)> {
        let Self { mut upload, body, partition, rows, mut null_counts } = self;
        let mut columns = Vec::new();
        let mut offsets = Vec::new();
        let tail = match (body, encoder) {
            (Body::Parquet(mut writer), _) => {
                let metadata = writer.finish().map_err(encoding_failed)?;
                null_counts.resize(schema.fields().len(), 0);
                columns = column_metrics(&metadata, schema, &null_counts)?;
                offsets = split_offsets(&metadata);
                std::mem::take(writer.inner_mut()).into()
            }
            (Body::Text, Encoder::Text(encoder)) if upload.written_bytes() == 0 => encoder.nothing().await?,
            (Body::Text, _) => Bytes::new(),
        };
        let charge = budget.charge(tail.len());
        upload.write(tail, charge).await?;
        let file = WrittenFile {
            path: upload.path().clone(),
            size_bytes: upload.written_bytes(),
            row_count: rows,
            partition: partition.to_vec(),
            columns,
            split_offsets: offsets,
        };
        Ok((file, upload))
    }
}

fn append_row_group(writer: &mut SerializedFileWriter<Vec<u8>>, group: EncodedRowGroup) -> Result<Bytes> {
    let mut row_group = writer.next_row_group().map_err(encoding_failed)?;
    for chunk in group.chunks {
        chunk.append_to_row_group(&mut row_group).map_err(encoding_failed)?;
    }
    row_group.close().map_err(encoding_failed)?;
    // The writer counts its bytes before this buffer, so what is taken here is not missed there.
    writer.flush()?;
    Ok(std::mem::take(writer.inner_mut()).into())
}

fn add_up(sums: &mut Vec<u64>, counts: &[u64]) {
    sums.resize(counts.len(), 0);
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}
