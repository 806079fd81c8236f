//! Cells: the encoded values of one column for a run of rows.
//!
//! A value lies in the buffer as it will lie in a DataRow: four bytes of length (-1 for null), then
//! its bytes. This module keeps the frame; what stands in it is decided by the writers.

use arrow::buffer::NullBuffer;

use crate::error::{Error, Result};

/// A buffer that grew beyond this for one run of rows is given back before the next.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Rows for which room is made at once.
const ROOM_ROWS: usize = 256;
const LENGTH_BYTES: usize = 4;
const NULL_LENGTH: [u8; LENGTH_BYTES] = (-1_i32).to_be_bytes();

#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// The cells, and behind them what is left of room that was made for values.
    bytes: Vec<u8>,
    /// Where each cell ends in `bytes`.
    ends: Vec<usize>,
}

impl Cells {
    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.ends.clear();
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The buffer in which the cells lie one after another, with their frames.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each cell ends in [`Self::bytes`]; the first begins at 0.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// Where the last cell ends.
    fn used(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Where the cells `rows` lie in [`Self::bytes`].
    #[inline]
    pub fn span(&self, rows: std::ops::Range<usize>) -> std::ops::Range<usize> {
        self.start(rows.start)..self.start(rows.end)
    }

    #[inline]
    fn start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// The bytes of one value without its frame, `None` for null.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let (length, value) = self.bytes[self.span(row..row + 1)].split_at(LENGTH_BYTES);
        (length != NULL_LENGTH).then_some(value)
    }

    pub fn push_null(&mut self) {
        self.bytes.truncate(self.used());
        self.bytes.extend_from_slice(&NULL_LENGTH);
        self.ends.push(self.bytes.len());
    }

    /// Appends one cell, whose bytes `write` appends to the buffer.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let start = self.used() + LENGTH_BYTES;
        self.bytes.truncate(start - LENGTH_BYTES);
        self.bytes.extend_from_slice(&NULL_LENGTH);
        write(&mut self.bytes)?;
        let length = i32::try_from(self.bytes.len() - start).map_err(|_| too_long())?;
        self.bytes[start - LENGTH_BYTES..start].copy_from_slice(&length.to_be_bytes());
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Appends a cell for each of `rows`: null where `nulls` says so, else what `write` appends.
    #[inline]
    pub fn fill(
        &mut self,
        rows: std::ops::Range<usize>,
        nulls: Option<&NullBuffer>,
        mut write: impl FnMut(&mut Vec<u8>, usize) -> Result<()>,
    ) -> Result<()> {
        self.ends.reserve(rows.len());
        match nulls.filter(|nulls| nulls.null_count() > 0) {
            None => {
                for row in rows {
                    self.push(|out| write(out, row))?;
                }
            }
            Some(nulls) => {
                for row in rows {
                    if nulls.is_null(row) {
                        self.push_null();
                    } else {
                        self.push(|out| write(out, row))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The same for values of at most `N` bytes. `write` has room for them, leaves them at its start
    /// and returns their length; so no value has to ask the buffer to grow.
    #[inline]
    pub fn fill_short<const N: usize>(
        &mut self,
        rows: std::ops::Range<usize>,
        nulls: Option<&NullBuffer>,
        mut write: impl FnMut(&mut [u8; N], usize) -> Result<usize>,
    ) -> Result<()> {
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        for start in rows.clone().step_by(ROOM_ROWS) {
            let end = rows.end.min(start + ROOM_ROWS);
            let mut at = self.used();
            let room_end = at + (end - start) * (LENGTH_BYTES + N);
            if self.bytes.len() < room_end {
                self.bytes.resize(room_end, 0);
            }
            let bytes = self.bytes.as_mut_slice();
            for row in start..end {
                let (length, room) =
                    bytes[at..].split_first_chunk_mut().expect("there is room for every row's length");
                let room = room.first_chunk_mut().expect("there is room for every row's value");
                at += LENGTH_BYTES;
                if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                    *length = NULL_LENGTH;
                } else {
                    let written = write(room, row)?;
                    *length = (written as i32).to_be_bytes();
                    at += written;
                }
                self.ends.push(at);
            }
        }
        Ok(())
    }
}

/// Writes what `put` appends to the start of `room`, for values too rare to have a way of their own.
pub(super) fn spill(room: &mut [u8], put: impl FnOnce(&mut Vec<u8>)) -> usize {
    let mut value = Vec::with_capacity(room.len());
    put(&mut value);
    room[..value.len()].copy_from_slice(&value);
    value.len()
}

pub(crate) fn too_long() -> Error {
    Error::LimitExceeded("a row or value is longer than the protocol's 2 GiB".to_owned())
}
