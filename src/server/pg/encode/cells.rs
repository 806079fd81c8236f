//! Cells: the encoded values of one column for a run of rows.
//!
//! A value lies in the buffer as it will lie in a DataRow: four bytes of length (-1 for null), then
//! its bytes. This module keeps the frame; what stands in it is decided by the writers.

use arrow::buffer::NullBuffer;

use crate::error::{Error, Result};

/// A buffer that grew beyond this for one run of rows is given back before the next.
const KEPT_BYTES_MAX: usize = 4 << 20;
const LENGTH_BYTES: usize = 4;
const NULL_LENGTH: [u8; LENGTH_BYTES] = (-1_i32).to_be_bytes();

#[derive(Debug, Default)]
pub(super) struct Cells {
    bytes: Vec<u8>,
    /// Where each cell ends in `bytes`.
    ends: Vec<usize>,
}

impl Cells {
    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.ends.clear();
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// All cells one after another, with their frames.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
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

    #[inline]
    pub fn push_null(&mut self) {
        self.bytes.extend_from_slice(&NULL_LENGTH);
        self.ends.push(self.bytes.len());
    }

    /// Appends one cell, whose bytes `write` appends to the buffer.
    #[inline]
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let start = self.bytes.len() + LENGTH_BYTES;
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
}

pub(super) fn too_long() -> Error {
    Error::LimitExceeded("a row or value is longer than the protocol's 2 GiB".to_owned())
}
