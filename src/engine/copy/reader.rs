//! A reader: bytes from a client become batches of rows.
//!
//! Bytes come in pieces that end anywhere. Errors say where they were met, in PostgreSQL's words:
//! `COPY t, line 7, column n: "x"`.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};

use super::binary;
use super::fields::{Fields, utf8};
use super::lines::{Found, Lines};
use super::options::{CopyFormat, CopyOptions, Header};
use crate::error::{Error, Result};
use crate::value::input::ColumnReader;
use crate::value::output::{DateStyle, TimeZone};

/// Rows, and bytes of rows, of one batch.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 2 << 20;
/// Characters of a line or a value that an error shows.
const SHOWN_MAX: usize = 100;
/// A buffer that grew beyond this for one row is given back.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// What a COPY reads.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The table's name, for errors.
    pub table: String,
    /// The columns that are copied, then one for the number of the line, if that is `numbered`.
    pub schema: SchemaRef,
    pub numbered: bool,
    pub options: CopyOptions,
    pub time_zone: TimeZone,
    pub date_style: DateStyle,
    pub row_bytes_max: usize,
}

/// Reads the rows of one COPY.
#[derive(Debug)]
pub(super) struct CopyReader {
    layout: Layout,
    columns: Vec<Column>,
    input: Vec<u8>,
    /// Where in `input` the rows begin that are not read yet.
    start: usize,
    rows: Rows,
    line: u64,
    /// The lines of the rows of the batch under way.
    numbers: Vec<i64>,
    batch_bytes: usize,
    ended: bool,
}

#[derive(Debug)]
struct Column {
    name: String,
    values: ColumnReader,
    force_null: bool,
    force_not_null: bool,
}

#[derive(Debug)]
enum Rows {
    Lines { lines: Lines, fields: Fields, header: Header },
    Tuples { values: Vec<Option<Range<usize>>>, has_begun: bool },
}

impl CopyReader {
    /// # Errors
    /// [`Error::Planning`] for options about columns that are not copied.
    pub fn new(layout: Layout) -> Result<Self> {
        let width = layout.schema.fields().len() - usize::from(layout.numbered);
        let fields = &layout.schema.fields()[..width];
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let options = &layout.options;
        let force_null = options.force_null.among(&names, "FORCE_NULL")?;
        let force_not_null = options.force_not_null.among(&names, "FORCE_NOT_NULL")?;
        let forced = force_null.into_iter().zip(force_not_null);
        let column = |(field, (force_null, force_not_null)): (&Arc<_>, _)| Column {
            name: arrow::datatypes::Field::name(field).clone(),
            values: ColumnReader::new(field, layout.time_zone, layout.date_style.order),
            force_null,
            force_not_null,
        };
        let columns = fields.iter().zip(forced).map(column).collect();
        let rows = match options.format {
            CopyFormat::Binary | CopyFormat::Arrow => Rows::Tuples { values: Vec::new(), has_begun: false },
            CopyFormat::Text | CopyFormat::Csv => Rows::Lines {
                lines: Lines::new(options),
                fields: Fields::new(options),
                header: options.header,
            },
        };
        let (input, numbers) = (Vec::new(), Vec::new());
        Ok(Self { layout, columns, input, start: 0, rows, line: 0, numbers, batch_bytes: 0, ended: false })
    }

    /// Adds what the client sent.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] for a row that is too long; [`Error::BadCopyFile`] for what follows the
    /// end of the data in binary.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.ended {
            return match &self.rows {
                Rows::Tuples { .. } if !bytes.is_empty() => {
                    Err(self.here(Error::BadCopyFile("received copy data after EOF marker".to_owned())))
                }
                _ => Ok(()),
            };
        }
        self.input.drain(..self.start);
        self.start = 0;
        if self.input.capacity() > KEPT_BYTES_MAX && self.input.len() < KEPT_BYTES_MAX {
            self.input.shrink_to(KEPT_BYTES_MAX);
        }
        let limit = self.layout.row_bytes_max;
        if self.input.len() > limit {
            let message = format!("a row of COPY is longer than the limit of {limit} bytes");
            return Err(self.next_line(Error::LimitExceeded(message)));
        }
        self.input.extend_from_slice(bytes);
        Ok(())
    }

    /// A batch, once it is full; the rows that are left, if these are the `last` bytes.
    ///
    /// # Errors
    /// [`Error::InCopy`] for what is no such row.
    pub fn read(&mut self, last: bool) -> Result<Option<RecordBatch>> {
        while !self.ended && self.row(last)? {
            if self.numbers.len() == BATCH_ROWS || self.batch_bytes >= BATCH_BYTES {
                return self.batch().map(Some);
            }
        }
        match last && !self.numbers.is_empty() {
            true => self.batch().map(Some),
            false => Ok(None),
        }
    }

    fn batch(&mut self) -> Result<RecordBatch> {
        let numbers = std::mem::take(&mut self.numbers);
        self.batch_bytes = 0;
        let mut arrays: Vec<ArrayRef> =
            self.columns.iter_mut().map(|column| column.values.finish()).collect::<Result<_>>()?;
        let rows = numbers.len();
        if self.layout.numbered {
            arrays.push(Arc::new(Int64Array::from(numbers)));
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let schema: &Arc<Schema> = &self.layout.schema;
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
    }

    /// Reads a row; false where there is no whole one.
    fn row(&mut self, last: bool) -> Result<bool> {
        match &self.rows {
            Rows::Lines { .. } => self.next_of_lines(last),
            Rows::Tuples { .. } => self.next_of_tuples(last),
        }
    }

    fn next_of_lines(&mut self, last: bool) -> Result<bool> {
        let Rows::Lines { lines, header, .. } = &mut self.rows else { return Ok(false) };
        let found = lines.find(&self.input[self.start..], last);
        let (length, next, newlines) = match found {
            Ok(Found::Line { length, next, newlines }) => (length, next, newlines),
            Ok(Found::More) => return Ok(false),
            Ok(Found::End) => {
                self.ended = true;
                return Ok(false);
            }
            Err(bad) => return Err(self.next_line(bad)),
        };
        let header = std::mem::replace(header, Header::No);
        let line = self.start..self.start + length;
        self.start += next;
        self.line += 1 + newlines as u64;
        match header {
            Header::No => self.line(line)?,
            Header::Yes => {}
            Header::Match => self.check_header(line)?,
        }
        Ok(true)
    }

    fn line(&mut self, range: Range<usize>) -> Result<()> {
        let (table, number) = (self.layout.table.as_str(), self.line);
        let Rows::Lines { fields, .. } = &mut self.rows else { return Ok(()) };
        let line = utf8(&self.input[range.clone()]).map_err(|bad| at_line(bad, table, number))?;
        let bad_line = |message: String| {
            let place = format!("COPY {table}, line {number}: \"{}\"", shortened(line));
            Err(Error::InCopy { error: Box::new(Error::BadCopyFile(message)), place })
        };
        fields.split(line);
        if fields.count() > self.columns.len() {
            return bad_line("extra data after last expected column".to_owned());
        }
        for (index, column) in self.columns.iter_mut().enumerate() {
            if index >= fields.count() {
                return bad_line(format!("missing data for column \"{}\"", column.name));
            }
            let field = fields.field(line, index).map_err(|bad| at_line(bad, table, number))?;
            let null = self.layout.options.null.as_str();
            let value = match field {
                None if column.force_not_null => Some(null),
                Some(text) if column.force_null && text == null => None,
                field => field,
            };
            let read = match value {
                Some(text) => column.values.push_text(text),
                None => column.values.push_null(),
            };
            read.map_err(|error| at_value(error, table, number, &column.name, value))?;
        }
        self.numbers.push(number as i64);
        self.batch_bytes += range.len();
        Ok(())
    }

    /// # Errors
    /// [`Error::BadCopyFile`] when the first line does not hold the columns' names.
    fn check_header(&mut self, line: Range<usize>) -> Result<()> {
        let (table, number) = (self.layout.table.as_str(), self.line);
        let Rows::Lines { fields, .. } = &mut self.rows else { return Ok(()) };
        let line = utf8(&self.input[line]).map_err(|bad| at_line(bad, table, number))?;
        let mismatch = |message: String| {
            let place = format!("COPY {table}, line {number}: \"{}\"", shortened(line));
            Err(Error::InCopy { error: Box::new(Error::BadCopyFile(message)), place })
        };
        fields.split(line);
        if fields.count() != self.columns.len() {
            let (got, expected) = (fields.count(), self.columns.len());
            return mismatch(format!(
                "wrong number of fields in header line: got {got}, expected {expected}"
            ));
        }
        for (index, column) in self.columns.iter().enumerate() {
            let (got, expected) = (fields.field(line, index)?, column.name.as_str());
            let index = index + 1;
            match got {
                Some(got) if got == expected => {}
                None => {
                    return mismatch(format!(
                        "column name mismatch in header line field {index}: got null value, expected \
                         \"{expected}\""
                    ));
                }
                Some(got) => {
                    return mismatch(format!(
                        "column name mismatch in header line field {index}: got \"{got}\", expected \
                         \"{expected}\""
                    ));
                }
            }
        }
        Ok(())
    }

    fn next_of_tuples(&mut self, last: bool) -> Result<bool> {
        let incomplete = || Error::BadCopyFile("unexpected EOF in COPY data".to_owned());
        let Rows::Tuples { values, has_begun } = &mut self.rows else { return Ok(false) };
        if !*has_begun {
            match binary::header(&self.input[self.start..]) {
                Ok(Some(length)) => {
                    *has_begun = true;
                    self.start += length;
                }
                Ok(None) if last => {
                    let message = "COPY file signature not recognized".to_owned();
                    return Err(Error::BadCopyFile(message));
                }
                Ok(None) => return Ok(false),
                Err(bad) => return Err(bad),
            }
        }
        let input = &self.input[self.start..];
        match binary::tuple(input, self.columns.len(), values) {
            Ok(binary::Found::Tuple(length)) => self.tuple(length).map(|()| true),
            Ok(binary::Found::End) if input.len() > 2 => {
                Err(self.here(Error::BadCopyFile("received copy data after EOF marker".to_owned())))
            }
            Ok(binary::Found::End) => {
                self.ended = true;
                Ok(false)
            }
            Ok(binary::Found::More) if last && !input.is_empty() => Err(self.next_line(incomplete())),
            Ok(binary::Found::More) => Ok(false),
            Err(bad) => Err(self.next_line(bad)),
        }
    }

    fn tuple(&mut self, length: usize) -> Result<()> {
        self.line += 1;
        let Rows::Tuples { values, .. } = &self.rows else { return Ok(()) };
        for (column, value) in self.columns.iter_mut().zip(values) {
            let read = match value {
                Some(range) => {
                    let range = self.start + range.start..self.start + range.end;
                    column.values.push_binary(&self.input[range])
                }
                None => column.values.push_null(),
            };
            read.map_err(|error| {
                let place = format!("COPY {}, line {}, column {}", self.layout.table, self.line, column.name);
                Error::InCopy { error: Box::new(error), place }
            })?;
        }
        self.start += length;
        self.numbers.push(self.line as i64);
        self.batch_bytes += length;
        Ok(())
    }

    fn here(&self, error: Error) -> Error {
        at_line(error, &self.layout.table, self.line)
    }

    /// An error in the line that is not read yet.
    fn next_line(&self, error: Error) -> Error {
        at_line(error, &self.layout.table, self.line + 1)
    }
}

fn at_line(error: Error, table: &str, line: u64) -> Error {
    Error::InCopy { error: Box::new(error), place: place(table, line) }
}

/// Where a line stands.
fn place(table: &str, line: u64) -> String {
    format!("COPY {table}, line {line}")
}

fn at_value(error: Error, table: &str, line: u64, column: &str, value: Option<&str>) -> Error {
    let value = match value {
        Some(text) => format!("\"{}\"", shortened(text)),
        None => "null input".to_owned(),
    };
    let place = format!("COPY {table}, line {line}, column {column}: {value}");
    Error::InCopy { error: Box::new(error), place }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
