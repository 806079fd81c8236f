//! Rows: DataRow and CopyData messages, copied together from the cells of their columns.
//!
//! Most values are a few bytes long. Such a value is copied as one block of fixed size, which is two
//! instructions instead of a call, and the row goes on behind the value's real end. The blocks are
//! why the room behind the last row is made larger than the rows.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::DataType;
use bytes::BytesMut;

use super::copy::TextLayout;
use crate::error::Result;
use crate::value::output::{Cells, too_long};
use crate::value::types::{self, Format, oid};

/// Bytes that are copied at once.
const BLOCK: usize = 32;
/// Type byte, length and number of values.
const HEADER_BYTES: usize = 7;
const LENGTH_BYTES: usize = 4;
const NULL_LENGTH: [u8; LENGTH_BYTES] = (-1_i32).to_be_bytes();
/// A string of at most so many bytes lies in its view.
const INLINE_BYTES: usize = 12;

/// How the values of a row lie in its message.
#[derive(Debug)]
pub(super) enum Layout {
    DataRow,
    /// As in a DataRow; a binary copy's tuples are alike.
    Tuple,
    /// A line of a copy in text or csv.
    Text(TextLayout),
}

/// Where the values of one column come from.
pub(super) enum Source<'a> {
    /// Cells, which are copied with their frames, one row after another.
    Cells { bytes: &'a [u8], ends: std::slice::Iter<'a, usize>, start: usize },
    /// Bytes between 32-bit offsets.
    Short { offsets: &'a [i32], data: &'a [u8], nulls: Option<&'a NullBuffer> },
    /// Bytes between 64-bit offsets.
    Long { offsets: &'a [i64], data: &'a [u8], nulls: Option<&'a NullBuffer> },
    /// Bytes in views or in the buffers that they point into.
    View { views: &'a [u128], buffers: &'a [Buffer], nulls: Option<&'a NullBuffer> },
}

impl<'a> Source<'a> {
    /// The cells of a run of rows.
    pub fn of_cells(cells: &'a Cells) -> Self {
        Self::Cells { bytes: cells.bytes(), ends: cells.ends().iter(), start: 0 }
    }

    /// The array itself, if its bytes are sent as they lie.
    pub fn of_bytes(array: &'a ArrayRef, oid: u32, format: Format) -> Option<Self> {
        let binary = format == Format::Binary;
        let text = types::is_text(oid) && !(binary && oid == oid::JSONB) || types::is_reg(oid) && !binary;
        let bytes = binary && oid == oid::BYTEA;
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        match array.data_type() {
            DataType::Utf8 if text => {
                let strings = array.as_string::<i32>();
                Some(Self::Short { offsets: strings.value_offsets(), data: strings.value_data(), nulls })
            }
            DataType::LargeUtf8 if text => {
                let strings = array.as_string::<i64>();
                Some(Self::Long { offsets: strings.value_offsets(), data: strings.value_data(), nulls })
            }
            DataType::Utf8View if text => {
                let strings = array.as_string_view();
                Some(Self::View { views: strings.views(), buffers: strings.data_buffers(), nulls })
            }
            DataType::Binary if bytes => {
                let values = array.as_binary::<i32>();
                Some(Self::Short { offsets: values.value_offsets(), data: values.value_data(), nulls })
            }
            DataType::LargeBinary if bytes => {
                let values = array.as_binary::<i64>();
                Some(Self::Long { offsets: values.value_offsets(), data: values.value_data(), nulls })
            }
            DataType::BinaryView if bytes => {
                let values = array.as_binary_view();
                Some(Self::View { views: values.views(), buffers: values.data_buffers(), nulls })
            }
            _ => None,
        }
    }

    /// The most bytes that `rows` of this column can take, their lengths included.
    fn bytes_max(&self, rows: Range<usize>) -> usize {
        let lengths = rows.len() * LENGTH_BYTES;
        match self {
            Self::Cells { ends, .. } => ends.as_slice().last().copied().unwrap_or_default(),
            Self::Short { offsets, .. } => lengths + (offsets[rows.end] - offsets[rows.start]) as usize,
            Self::Long { offsets, .. } => lengths + (offsets[rows.end] - offsets[rows.start]) as usize,
            Self::View { views, .. } => {
                lengths + views[rows].iter().map(|view| *view as u32 as usize).sum::<usize>()
            }
        }
    }

    /// Copies the value of `row`, the one behind the last, to `out[at..]` with its length; returns
    /// where it ends.
    #[inline]
    fn copy(&mut self, row: usize, out: &mut [u8], at: usize) -> usize {
        match self {
            Self::Cells { bytes, ends, start } => {
                let end = *ends.next().expect("there is a cell for every row");
                let span = std::mem::replace(start, end)..end;
                copy(bytes, span, out, at)
            }
            Self::Short { nulls, .. } | Self::Long { nulls, .. } | Self::View { nulls, .. }
                if nulls.is_some_and(|nulls| nulls.is_null(row)) =>
            {
                put_length(-1, out, at)
            }
            Self::Short { offsets, data, .. } => {
                let span = offsets[row] as usize..offsets[row + 1] as usize;
                let at = put_length(span.len() as i32, out, at);
                copy(data, span, out, at)
            }
            Self::Long { offsets, data, .. } => {
                let span = offsets[row] as usize..offsets[row + 1] as usize;
                let at = put_length(span.len() as i32, out, at);
                copy(data, span, out, at)
            }
            Self::View { views, buffers, .. } => copy_view(views[row], buffers, out, at),
        }
    }
}

impl Source<'_> {
    /// Shows `see` the value of `row`, the one behind the last; nothing for null.
    #[inline]
    fn see(&mut self, row: usize, see: impl FnOnce(Option<&[u8]>)) {
        match self {
            Self::Cells { bytes, ends, start } => {
                let end = *ends.next().expect("there is a cell for every row");
                let cell = &bytes[std::mem::replace(start, end)..end];
                let (length, value) = cell.split_at(LENGTH_BYTES);
                see((length != NULL_LENGTH).then_some(value));
            }
            Self::Short { nulls, .. } | Self::Long { nulls, .. } | Self::View { nulls, .. }
                if nulls.is_some_and(|nulls| nulls.is_null(row)) =>
            {
                see(None);
            }
            Self::Short { offsets, data, .. } => {
                see(Some(&data[offsets[row] as usize..offsets[row + 1] as usize]));
            }
            Self::Long { offsets, data, .. } => {
                see(Some(&data[offsets[row] as usize..offsets[row + 1] as usize]));
            }
            Self::View { views, buffers, .. } => {
                let view = views[row];
                let length = view as u32 as usize;
                if length <= INLINE_BYTES {
                    return see(Some(&view.to_le_bytes()[4..4 + length]));
                }
                let (buffer, offset) = ((view >> 64) as u32 as usize, (view >> 96) as u32 as usize);
                see(Some(&buffers[buffer][offset..offset + length]));
            }
        }
    }
}

/// Appends a line for each of `rows`. After an error, `out` ends with a whole message.
fn lines(sources: &mut [Source], rows: Range<usize>, layout: &TextLayout, out: &mut BytesMut) -> Result<()> {
    let alone = sources.len() == 1;
    let mut line = Vec::new();
    for row in rows {
        line.clear();
        line.extend_from_slice(&[b'd', 0, 0, 0, 0]);
        for (column, source) in sources.iter_mut().enumerate() {
            if column > 0 {
                line.push(layout.delimiter);
            }
            source.see(row, |value| match value {
                Some(value) => layout.put(column, value, alone, &mut line),
                None => line.extend_from_slice(&layout.null),
            });
        }
        line.push(b'\n');
        let length = i32::try_from(line.len() - 1).map_err(|_| too_long())?;
        line[1..5].copy_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&line);
    }
    Ok(())
}

#[inline]
fn put_length(length: i32, out: &mut [u8], at: usize) -> usize {
    out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    at + LENGTH_BYTES
}

/// Copies `from[span]` to `out[at..]`, as a block where both have room for one.
#[inline]
fn copy(from: &[u8], span: Range<usize>, out: &mut [u8], at: usize) -> usize {
    let length = span.len();
    match (from.get(span.start..span.start + BLOCK), out.get_mut(at..at + BLOCK)) {
        (Some(block), Some(room)) if length <= BLOCK => room.copy_from_slice(block),
        _ => out[at..at + length].copy_from_slice(&from[span]),
    }
    at + length
}

#[inline]
fn copy_view(view: u128, buffers: &[Buffer], out: &mut [u8], at: usize) -> usize {
    let length = view as u32 as usize;
    let at = put_length(length as i32, out, at);
    if length <= INLINE_BYTES {
        out[at..at + INLINE_BYTES].copy_from_slice(&view.to_le_bytes()[4..]);
        return at + length;
    }
    let (buffer, offset) = ((view >> 64) as u32 as usize, (view >> 96) as u32 as usize);
    copy(&buffers[buffer], offset..offset + length, out, at)
}

/// Appends one message for each of `rows`. After an error, `out` ends with a whole message.
pub(super) fn assemble(
    mut sources: Vec<Source>,
    rows: Range<usize>,
    layout: &Layout,
    out: &mut BytesMut,
) -> Result<()> {
    let kind = match layout {
        Layout::DataRow => b'D',
        Layout::Tuple => b'd',
        Layout::Text(layout) => return lines(&mut sources, rows, layout, out),
    };
    let values_max = sources.iter().map(|source| source.bytes_max(rows.clone())).sum::<usize>();
    let begin = out.len();
    out.resize(begin + values_max + rows.len() * HEADER_BYTES + BLOCK, 0);
    let filled = fill(&mut sources, rows, kind, &mut out[begin..]);
    out.truncate(begin + filled.0);
    filled.1
}

/// Writes the messages to `room`; returns where the last whole one ends.
fn fill(sources: &mut [Source], rows: Range<usize>, kind: u8, room: &mut [u8]) -> (usize, Result<()>) {
    let count = (sources.len() as i16).to_be_bytes();
    let mut at = 0;
    for row in rows {
        let start = at;
        at += HEADER_BYTES;
        for source in &mut *sources {
            at = source.copy(row, room, at);
        }
        // The type byte does not count.
        let Ok(length) = i32::try_from(at - start - 1) else { return (start, Err(too_long())) };
        room[start] = kind;
        room[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
        room[start + 5..start + HEADER_BYTES].copy_from_slice(&count);
    }
    (at, Ok(()))
}
