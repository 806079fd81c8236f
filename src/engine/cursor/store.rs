//! A store of rows: what a cursor may have to give again, or after its transaction.
//!
//! Batches are kept in memory up to [`MEMORY_BYTES`] and in a spill file beyond, counted against the
//! limit of spilled data. Any row is found by its number.

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::spill_file::SpillFile;

use crate::error::{Error, Result};

/// What a store holds in memory at most, beside the batch that was read last.
const MEMORY_BYTES: usize = 256 << 10;

/// Rows by their number, counted from 0.
pub(super) struct RowStore {
    disk: Arc<DiskManager>,
    pieces: Vec<Piece>,
    rows: u64,
    memory_bytes: usize,
    spill: Option<Spill>,
    /// The batch of the file that was read last, by its piece.
    last: Option<(usize, RecordBatch)>,
}

/// One batch, and the number of its first row.
struct Piece {
    first: u64,
    place: Place,
}

enum Place {
    Memory(RecordBatch),
    File { at: u64, bytes: usize },
}

struct Spill {
    file: Arc<dyn SpillFile>,
    bytes: u64,
}

impl fmt::Debug for RowStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStore").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl RowStore {
    pub(super) fn new(disk: Arc<DiskManager>) -> Self {
        Self { disk, pieces: Vec::new(), rows: 0, memory_bytes: 0, spill: None, last: None }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// [`Error::DiskFull`] when the limit of spilled data is reached.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (first, rows) = (self.rows, batch.num_rows() as u64);
        let bytes = batch.get_array_memory_size();
        let place = match self.memory_bytes + bytes <= MEMORY_BYTES {
            true => {
                self.memory_bytes += bytes;
                Place::Memory(batch)
            }
            false => self.spill(&batch)?,
        };
        self.pieces.push(Piece { first, place });
        self.rows += rows;
        Ok(())
    }

    /// The rows from `row` on, at most `rows_max` and no more than lie together; none behind the last.
    ///
    /// # Errors
    /// What the spill file answers.
    pub(super) fn read(&mut self, row: u64, rows_max: usize) -> Result<Option<RecordBatch>> {
        if row >= self.rows {
            return Ok(None);
        }
        let (batch, first) = self.piece_of(row)?;
        let from = (row - first) as usize;
        Ok(Some(batch.slice(from, (batch.num_rows() - from).min(rows_max))))
    }

    /// The rows before `row`, the nearest last, at most `rows_max`; none before the first.
    ///
    /// # Errors
    /// What the spill file answers.
    pub(super) fn read_before(&mut self, row: u64, rows_max: usize) -> Result<Option<RecordBatch>> {
        let Some(nearest) = row.min(self.rows).checked_sub(1) else { return Ok(None) };
        let (batch, first) = self.piece_of(nearest)?;
        let end = (nearest - first) as usize + 1;
        let count = end.min(rows_max);
        Ok(Some(batch.slice(end - count, count)))
    }

    fn piece_of(&mut self, row: u64) -> Result<(RecordBatch, u64)> {
        let index = self.pieces.partition_point(|piece| piece.first <= row) - 1;
        let Piece { first, place } = &self.pieces[index];
        let (at, bytes) = match place {
            Place::Memory(batch) => return Ok((batch.clone(), *first)),
            Place::File { at, bytes } => (*at, *bytes),
        };
        if let Some((_, batch)) = self.last.as_ref().filter(|(read, _)| *read == index) {
            return Ok((batch.clone(), *first));
        }
        let (first, batch) = (*first, self.read_file(at, bytes)?);
        self.last = Some((index, batch.clone()));
        Ok((batch, first))
    }

    fn spill(&mut self, batch: &RecordBatch) -> Result<Place> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(batch)?;
        let encoded = writer.into_inner()?;
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill { file: self.disk.create_tmp_file("rows of a cursor")?, bytes: 0 }),
        };
        let full = |error: std::io::Error| Error::DiskFull(format!("the rows of a cursor: {error}"));
        let mut out = spill.file.open_writer()?;
        out.write_all(&encoded).and_then(|()| out.flush()).map_err(full)?;
        let place = Place::File { at: spill.bytes, bytes: encoded.len() };
        spill.bytes += encoded.len() as u64;
        Ok(place)
    }

    fn read_file(&self, at: u64, bytes: usize) -> Result<RecordBatch> {
        let gone = || Error::Internal("the spilled rows of a cursor are gone".to_owned());
        let path = self.spill.as_ref().and_then(|spill| spill.file.path()).ok_or_else(gone)?;
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        let mut encoded = vec![0; bytes];
        file.read_exact(&mut encoded)?;
        StreamReader::try_new(Cursor::new(encoded), None)?.next().ok_or_else(gone)?.map_err(Error::from)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use datafusion::execution::disk_manager::DiskManagerBuilder;

    use super::*;

    fn batch(numbers: std::ops::Range<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(numbers)) as _)]).unwrap()
    }

    fn numbers(batch: Option<RecordBatch>) -> Vec<i64> {
        batch.map_or_else(Vec::new, |batch| batch["n"].as_primitive::<Int64Type>().values().to_vec())
    }

    #[test]
    fn rows_are_found_in_memory_and_in_the_file() {
        let disk = Arc::new(DiskManagerBuilder::default().build().unwrap());
        let mut store = RowStore::new(Arc::clone(&disk));
        for start in (0..100_000).step_by(10_000) {
            store.push(batch(start..start + 10_000)).unwrap();
        }
        assert!(disk.used_disk_space() > 400_000, "most of it lies in the file");
        assert_eq!(numbers(store.read(9_999, 5).unwrap()), [9_999], "no more than lie together");
        assert_eq!(numbers(store.read(95_000, 3).unwrap()), [95_000, 95_001, 95_002]);
        assert_eq!(numbers(store.read_before(95_000, 2).unwrap()), [94_998, 94_999]);
        assert_eq!(numbers(store.read_before(10_001, 9).unwrap()), [10_000]);
        assert!(store.read(100_000, 1).unwrap().is_none() && store.read_before(0, 1).unwrap().is_none());
        drop(store);
        assert_eq!(disk.used_disk_space(), 0);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let disk = DiskManagerBuilder::default().with_max_temp_directory_size(10_000).build().unwrap();
        let mut store = RowStore::new(Arc::new(disk));
        let filled = (0..10).try_for_each(|_| store.push(batch(0..10_000)));
        assert_eq!(filled.unwrap_err().sqlstate(), "53100");
    }
}
