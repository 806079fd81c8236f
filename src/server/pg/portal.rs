//! Portals: a statement with its values, and the rows that it still has to give.
//!
//! Rows are encoded on the query threads into [`Chunk`]s of whole DataRow messages. A portal hands
//! out as many rows as Execute asks for and keeps the rest of a chunk for the next one.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::{Buf, Bytes, BytesMut};
use datafusion::common::ScalarValue;

use super::encode::RowEncoder;
use crate::engine::execute::{RowStream, Rows};
use crate::engine::session::Prepared;
use crate::error::Result;
use crate::value::output::EncodeOptions;
use crate::value::types::Format;

/// DataRow messages of one batch.
#[derive(Debug)]
pub struct Chunk {
    bytes: Bytes,
    rows: usize,
}

impl Chunk {
    /// Whole messages that hold `rows` rows.
    pub fn new(bytes: Bytes, rows: usize) -> Self {
        Self { bytes, rows }
    }
}

/// Rows that are being sent, with what the command tag needs.
#[derive(Debug)]
pub struct Cursor {
    pub tag: &'static str,
    pub stream: RowStream<Chunk>,
    left: Option<Chunk>,
}

/// A bound statement.
#[derive(Debug)]
pub struct Portal {
    pub prepared: Arc<Prepared>,
    pub values: Vec<ScalarValue>,
    pub formats: Vec<Format>,
    pub progress: Progress,
}

/// How far a portal has come.
#[derive(Debug)]
pub enum Progress {
    Ready,
    Running(Box<Cursor>),
    /// All rows are sent, or the command is done; its tag for another Execute.
    Finished(String),
}

impl Cursor {
    /// Starts a query whose rows are encoded in `formats`.
    ///
    /// # Errors
    /// As [`Rows::start`], and for a column that cannot be sent.
    pub async fn start(rows: Rows, formats: &[Format], options: &EncodeOptions) -> Result<Self> {
        let mut encoder = RowEncoder::new(&rows.schema, formats, options)?;
        let encode = move |batch: RecordBatch| {
            let mut bytes = BytesMut::new();
            let rows = batch.num_rows();
            encoder.encode(&batch, 0..rows, &mut bytes)?;
            Ok(Chunk { bytes: bytes.freeze(), rows })
        };
        Self::start_with(rows, encode).await
    }

    /// Starts a query whose batches `encode` turns into messages.
    ///
    /// # Errors
    /// As [`Rows::start`].
    pub async fn start_with(
        rows: Rows,
        encode: impl FnMut(RecordBatch) -> Result<Chunk> + Send + 'static,
    ) -> Result<Self> {
        Ok(Self { tag: rows.tag, stream: rows.start(encode).await?, left: None })
    }

    /// Takes messages of at most `rows_max` rows; none at the end.
    ///
    /// # Errors
    /// What went wrong in the query.
    pub async fn take(&mut self, rows_max: usize) -> Result<Option<(Bytes, usize)>> {
        let chunk = match self.left.take() {
            Some(chunk) => Some(chunk),
            None => self.stream.next().await?,
        };
        let Some(mut chunk) = chunk else { return Ok(None) };
        if chunk.rows <= rows_max {
            return Ok(Some((chunk.bytes, chunk.rows)));
        }
        let end = length_of(&chunk.bytes, rows_max);
        let taken = chunk.bytes.split_to(end);
        chunk.rows -= rows_max;
        self.left = Some(chunk);
        Ok(Some((taken, rows_max)))
    }

    /// The command tag after `rows` rows.
    pub fn tag(&self, rows: usize) -> String {
        match self.tag {
            "SELECT" | "FETCH" | "UPDATE" | "DELETE" | "MERGE" => format!("{} {rows}", self.tag),
            "INSERT" => format!("INSERT 0 {rows}"),
            other => other.to_owned(),
        }
    }
}

/// Bytes that the first `rows` messages take: each is a type byte and a length that counts itself.
fn length_of(messages: &[u8], rows: usize) -> usize {
    let mut end = 0;
    for _ in 0..rows {
        let length = (&messages[end + 1..]).get_u32();
        end += 1 + length as usize;
    }
    end
}

/// Formats of a result's columns as text, where a client has not chosen.
pub fn text_formats(schema: &SchemaRef) -> Vec<Format> {
    same_formats(schema, false)
}

/// One format for all of a result's columns.
pub fn same_formats(schema: &SchemaRef, binary: bool) -> Vec<Format> {
    vec![if binary { Format::Binary } else { Format::Text }; schema.fields().len()]
}
