//! COPY's rows: record batches to CopyData messages, one a row, or one an Arrow message.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use bytes::{BufMut, Bytes, BytesMut};

use super::RowEncoder;
use super::row::Layout;
use crate::engine::copy::SIGNATURE;
use crate::engine::copy::options::{CopyFormat, CopyOptions, Header};
use crate::engine::dialect::display_name;
use crate::error::{Error, Result};
use crate::server::pg::portal::Chunk;
use crate::value::output::{EncodeOptions, too_long};
use crate::value::types::{Format, PgType, oid, pg_type};

const MESSAGE_HEADER_BYTES: usize = 5;
/// What a binary copy ends with: a tuple of -1 values.
const TRAILER: [u8; 2] = [0xff, 0xff];

/// Turns the batches of one result into COPY's messages.
pub enum CopyEncoder {
    Rows {
        encoder: RowEncoder,
        /// The first line, as a whole message.
        head: Bytes,
        /// What the first row's message begins with.
        before: Vec<u8>,
    },
    Arrow {
        writer: StreamWriter<Vec<u8>>,
        schema: SchemaRef,
    },
}

/// What stands behind the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Nothing,
    BinaryTrailer,
    ArrowEnd,
}

/// How a row is laid out as text: what separates its values, and what is done to them.
#[derive(Debug, Clone)]
pub struct TextLayout {
    pub delimiter: u8,
    pub null: Vec<u8>,
    /// Of csv.
    pub quotes: Option<Quotes>,
    /// For each column, whether none of its values can need an escape or quotes.
    pub plain: Vec<bool>,
}

#[derive(Debug, Clone)]
pub struct Quotes {
    pub quote: u8,
    pub escape: u8,
    /// For each column, whether all its values are quoted.
    pub forced: Vec<bool>,
}

impl CopyEncoder {
    /// # Errors
    /// As [`RowEncoder::new`]; [`Error::Planning`] for an option about a column that is not copied.
    pub fn new(schema: &SchemaRef, options: &CopyOptions, values: &EncodeOptions) -> Result<Self> {
        let columns = schema.fields().len();
        let text = || vec![Format::Text; columns];
        match options.format {
            CopyFormat::Arrow => {
                let schema = Arc::new(interchanged(schema));
                let writer = StreamWriter::try_new(Vec::new(), &schema)?;
                Ok(Self::Arrow { writer, schema })
            }
            CopyFormat::Binary => {
                let encoder = RowEncoder::new(schema, &vec![Format::Binary; columns], values)?;
                let encoder = encoder.laid_out(Layout::Tuple);
                Ok(Self::Rows { encoder, head: Bytes::new(), before: binary_head() })
            }
            CopyFormat::Text | CopyFormat::Csv => {
                let layout = TextLayout::new(schema, options)?;
                let head = match options.header {
                    Header::No => Bytes::new(),
                    Header::Yes | Header::Match => layout.header(schema)?,
                };
                let encoder = RowEncoder::new(schema, &text(), values)?.laid_out(Layout::Text(layout));
                Ok(Self::Rows { encoder, head, before: Vec::new() })
            }
        }
    }

    /// What comes before the rows, as whole messages.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`].
    pub fn head(&mut self) -> Result<Bytes> {
        match self {
            Self::Rows { head, .. } => Ok(std::mem::take(head)),
            Self::Arrow { writer, .. } => taken(writer),
        }
    }

    /// What comes behind the rows.
    pub fn end(&self) -> End {
        match self {
            Self::Arrow { .. } => End::ArrowEnd,
            Self::Rows { before, .. } if !before.is_empty() => End::BinaryTrailer,
            Self::Rows { .. } => End::Nothing,
        }
    }

    /// Encodes a batch as whole messages.
    ///
    /// # Errors
    /// As [`RowEncoder::encode`].
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Chunk> {
        let rows = batch.num_rows();
        match self {
            Self::Rows { encoder, before, .. } => {
                let mut bytes = BytesMut::new();
                encoder.encode(batch, 0..rows, &mut bytes)?;
                if rows > 0 && !before.is_empty() {
                    bytes = with_prefix(&std::mem::take(before), &bytes)?;
                }
                Ok(Chunk::new(bytes.freeze(), rows))
            }
            Self::Arrow { writer, schema } => {
                let columns = batch.columns().iter().zip(schema.fields());
                let columns = columns.map(|(column, field)| Ok(cast(column, field.data_type())?));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
                writer.write(&RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)?;
                Ok(Chunk::new(taken(writer)?, rows))
            }
        }
    }
}

impl End {
    /// The last messages, when `rows` rows were sent.
    pub fn after(self, rows: usize) -> Bytes {
        let body = match self {
            Self::Nothing => return Bytes::new(),
            Self::BinaryTrailer if rows == 0 => [binary_head(), TRAILER.to_vec()].concat(),
            Self::BinaryTrailer => TRAILER.to_vec(),
            // A continuation and a length of nothing.
            Self::ArrowEnd => vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        };
        let mut message = BytesMut::with_capacity(MESSAGE_HEADER_BYTES + body.len());
        put_message(&body, &mut message);
        message.freeze()
    }
}

impl TextLayout {
    fn new(schema: &Schema, options: &CopyOptions) -> Result<Self> {
        let names: Vec<&str> = schema.fields().iter().map(|field| display_name(field.name())).collect();
        let quotes = match options.format {
            CopyFormat::Csv => Some(Quotes {
                quote: options.quote,
                escape: options.escape,
                forced: options.force_quote.among(&names, "FORCE_QUOTE")?,
            }),
            _ => None,
        };
        let quote = quotes.as_ref().map(|quotes| quotes.quote);
        let null = options.null.clone().into_bytes();
        // Numbers and moments are made of these.
        let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.: ".contains(byte);
        let clear = !is_usual(&options.delimiter)
            && !quote.is_some_and(|quote| is_usual(&quote))
            && (null.is_empty() || !null.iter().all(is_usual));
        let plain = |field: &Arc<Field>| clear && is_number_or_moment(pg_type(field));
        let plain = schema.fields().iter().map(plain).collect();
        Ok(Self { delimiter: options.delimiter, null, quotes, plain })
    }

    /// The line of the columns' names, as a message.
    fn header(&self, schema: &Schema) -> Result<Bytes> {
        let mut line = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                line.push(self.delimiter);
            }
            let name = display_name(field.name()).as_bytes();
            match &self.quotes {
                Some(quotes) => {
                    let quotes = Quotes { forced: Vec::new(), ..quotes.clone() };
                    let names = Self { quotes: Some(quotes), plain: Vec::new(), ..self.clone() };
                    names.put(index, name, schema.fields().len() == 1, &mut line);
                }
                None => escape(name, self.delimiter, &mut line),
            }
        }
        line.push(b'\n');
        let mut message = BytesMut::with_capacity(MESSAGE_HEADER_BYTES + line.len());
        i32::try_from(line.len() + 4).map_err(|_| too_long())?;
        put_message(&line, &mut message);
        Ok(message.freeze())
    }

    /// Appends the value of a column.
    #[inline]
    pub fn put(&self, column: usize, value: &[u8], alone: bool, out: &mut Vec<u8>) {
        let Some(quotes) = &self.quotes else {
            match self.plain.get(column) {
                Some(true) => out.extend_from_slice(value),
                _ => escape(value, self.delimiter, out),
            }
            return;
        };
        let forced = quotes.forced.get(column) == Some(&true);
        if self.plain.get(column) == Some(&true) && !forced {
            out.extend_from_slice(value);
            return;
        }
        let special =
            |byte: &u8| *byte == self.delimiter || *byte == quotes.quote || matches!(byte, b'\n' | b'\r');
        // A line `\.` would end the data.
        if forced || value == self.null || alone && value == b"\\." || value.iter().any(special) {
            quoted(value, quotes, out);
        } else {
            out.extend_from_slice(value);
        }
    }
}

fn quoted(value: &[u8], quotes: &Quotes, out: &mut Vec<u8>) {
    out.push(quotes.quote);
    let mut copied = 0;
    for (at, byte) in value.iter().enumerate() {
        if *byte == quotes.quote || *byte == quotes.escape {
            out.extend_from_slice(&value[copied..at]);
            out.push(quotes.escape);
            copied = at;
        }
    }
    out.extend_from_slice(&value[copied..]);
    out.push(quotes.quote);
}

/// Appends a value with what would be taken for more than itself behind a backslash.
fn escape(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let mut copied = 0;
    for (at, byte) in value.iter().enumerate() {
        let letter = match *byte {
            8 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            11 => b'v',
            12 => b'f',
            b'\r' => b'r',
            other if other == b'\\' || other == delimiter => other,
            _ => continue,
        };
        out.extend_from_slice(&value[copied..at]);
        out.extend_from_slice(&[b'\\', letter]);
        copied = at + 1;
    }
    out.extend_from_slice(&value[copied..]);
}

fn is_number_or_moment(found: PgType) -> bool {
    matches!(
        found.oid,
        oid::BOOL
            | oid::INT2
            | oid::INT4
            | oid::INT8
            | oid::FLOAT4
            | oid::FLOAT8
            | oid::NUMERIC
            | oid::OID
            | oid::UUID
            | oid::TIME
    )
}

/// The columns as other programs know them: under the names that they have in a result, and no views,
/// which not all can read.
fn interchanged(schema: &Schema) -> Schema {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        Field::new(display_name(field.name()), data_type, field.is_nullable())
            .with_metadata(field.metadata().clone())
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

/// What an Arrow writer has written since the last time, as a message.
fn taken(writer: &mut StreamWriter<Vec<u8>>) -> Result<Bytes> {
    writer.flush()?;
    let body = std::mem::take(writer.get_mut());
    i32::try_from(body.len() + 4).map_err(|_| too_long())?;
    let mut message = BytesMut::with_capacity(MESSAGE_HEADER_BYTES + body.len());
    if !body.is_empty() {
        put_message(&body, &mut message);
    }
    Ok(message.freeze())
}

fn binary_head() -> Vec<u8> {
    let mut head = SIGNATURE.to_vec();
    // Neither flags nor an extension.
    head.extend_from_slice(&[0; 8]);
    head
}

/// Messages of which the first begins with `prefix`: clients look for the head in the first row's.
fn with_prefix(prefix: &[u8], messages: &[u8]) -> Result<BytesMut> {
    let (header, rest) = messages.split_at(MESSAGE_HEADER_BYTES);
    let wrong = || Error::Internal("a row is a message".to_owned());
    let length = header.last_chunk::<4>().ok_or_else(wrong)?;
    let length = i32::from_be_bytes(*length).checked_add(prefix.len() as i32).ok_or_else(too_long)?;
    let mut out = BytesMut::with_capacity(messages.len() + prefix.len());
    out.put_u8(b'd');
    out.put_i32(length);
    out.put_slice(prefix);
    out.put_slice(rest);
    Ok(out)
}

fn put_message(body: &[u8], out: &mut BytesMut) {
    out.put_u8(b'd');
    out.put_i32(body.len() as i32 + 4);
    out.put_slice(body);
}
