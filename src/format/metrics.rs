//! Metrics: what is known of many files' columns, kept a column at a time.
//!
//! A table of a hundred thousand files has a few values for each file and column. As arrays they take a
//! tenth of the memory of one [`Statistics`] a file, which is made only for files that a plan reads, and
//! files are skipped by them without a value being looked at by itself. The files of a manifest share
//! one [`FileColumns`].

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::compute::{concat, nullif, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue, Statistics};

use super::DataFile;
use crate::error::Result;

/// What is known of one file.
#[derive(Debug, Clone)]
pub struct FileStatistics {
    source: Source,
    /// Statistics of columns that a file does not have itself, behind its own.
    more: Arc<[ColumnStatistics]>,
}

#[derive(Debug, Clone)]
enum Source {
    Own(Arc<Statistics>),
    Of(Arc<FileColumns>, usize),
}

impl From<Arc<Statistics>> for FileStatistics {
    fn from(own: Arc<Statistics>) -> Self {
        Self { source: Source::Own(own), more: Arc::default() }
    }
}

impl FileStatistics {
    /// The number of rows.
    pub fn rows(&self) -> Precision<usize> {
        match &self.source {
            Source::Own(own) => own.num_rows,
            Source::Of(columns, file) => Precision::Exact(columns.rows[*file] as usize),
        }
    }

    /// All of it, over the table's columns.
    pub fn get(&self) -> Arc<Statistics> {
        let mut known = match &self.source {
            Source::Own(own) if self.more.is_empty() => return Arc::clone(own),
            Source::Own(own) => own.as_ref().clone(),
            Source::Of(columns, file) => columns.statistics(*file),
        };
        known.column_statistics.extend(self.more.iter().cloned());
        Arc::new(known)
    }

    /// The same with statistics of one more column.
    pub fn with(mut self, column: ColumnStatistics) -> Self {
        self.more = self.more.iter().cloned().chain([column]).collect();
        self
    }
}

/// What is known of the columns of many files.
#[derive(Debug)]
pub struct FileColumns {
    rows: Vec<u64>,
    total_bytes: Known,
    columns: Vec<ColumnOfFiles>,
    sum: OnceLock<Arc<Statistics>>,
}

/// One column, with an element a file.
#[derive(Debug)]
struct ColumnOfFiles {
    least: Known,
    greatest: Known,
    nulls: Known,
    bytes: Known,
}

/// A value a file, null where it is not known.
#[derive(Debug)]
struct Known {
    values: ArrayRef,
    exact: BooleanArray,
}

impl Known {
    fn of(known: impl Iterator<Item = Precision<ScalarValue>>, data_type: &DataType) -> Result<Self> {
        let null = ScalarValue::try_new_null(data_type)?;
        let mut exact = Vec::new();
        let values: Vec<ScalarValue> = known
            .map(|known| {
                exact.push(matches!(known, Precision::Exact(_)));
                let value = known.get_value().filter(|value| value.data_type() == *data_type);
                value.cloned().unwrap_or_else(|| null.clone())
            })
            .collect();
        let values = match values.iter().all(ScalarValue::is_null) {
            true => new_null_array(data_type, values.len()),
            false => ScalarValue::iter_to_array(values)?,
        };
        Ok(Self { values, exact: exact.into() })
    }

    fn numbers<'a>(known: impl Iterator<Item = &'a Precision<usize>>) -> Result<Self> {
        let number = |known: &Precision<usize>| known.map(|number| ScalarValue::from(number as u64));
        Self::of(known.map(number), &DataType::UInt64)
    }

    fn get(&self, file: usize) -> Precision<ScalarValue> {
        match ScalarValue::try_from_array(&self.values, file) {
            Ok(value) if value.is_null() => Precision::Absent,
            Ok(value) if self.exact.value(file) => Precision::Exact(value),
            Ok(value) => Precision::Inexact(value),
            Err(_) => Precision::Absent,
        }
    }

    fn number(&self, file: usize) -> Precision<usize> {
        self.get(file).map(|value| match value {
            ScalarValue::UInt64(Some(number)) => usize::try_from(number).unwrap_or(usize::MAX),
            _ => 0,
        })
    }

    /// The values by which files may be skipped. Of numbers only exact ones, for NaN is left out of
    /// bounds; a text that was cut is still a bound.
    fn bounds(&self) -> Result<ArrayRef> {
        let cut_is_bound = matches!(
            self.values.data_type(),
            DataType::Utf8 | DataType::Utf8View | DataType::Binary | DataType::BinaryView
        );
        let is_unknown = self.values.null_count() == self.values.len();
        match is_unknown || cut_is_bound || self.exact.true_count() == self.exact.len() {
            true => Ok(Arc::clone(&self.values)),
            false => Ok(nullif(&self.values, &arrow::compute::not(&self.exact)?)?),
        }
    }
}

impl FileColumns {
    /// Keeps the statistics of files, whose row counts are exact, over the columns of `schema`.
    ///
    /// # Errors
    /// None for values that are of the columns' types.
    pub fn new(schema: &SchemaRef, files: &[Statistics]) -> Result<Arc<Self>> {
        let columns = schema.fields().iter().enumerate().map(|(at, field)| {
            let column = || files.iter().map(move |file| &file.column_statistics[at]);
            Ok(ColumnOfFiles {
                least: Known::of(column().map(|one| one.min_value.clone()), field.data_type())?,
                greatest: Known::of(column().map(|one| one.max_value.clone()), field.data_type())?,
                nulls: Known::numbers(column().map(|one| &one.null_count))?,
                bytes: Known::numbers(column().map(|one| &one.byte_size))?,
            })
        });
        Ok(Arc::new(Self {
            rows: files.iter().map(|file| file.num_rows.get_value().map_or(0, |rows| *rows as u64)).collect(),
            total_bytes: Known::numbers(files.iter().map(|file| &file.total_byte_size))?,
            columns: columns.collect::<Result<_>>()?,
            sum: OnceLock::new(),
        }))
    }

    /// What is known of the file at this place.
    pub fn file(self: &Arc<Self>, place: usize) -> FileStatistics {
        FileStatistics { source: Source::Of(Arc::clone(self), place), more: Arc::default() }
    }

    /// About the bytes that it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let known =
            |known: &Known| known.values.get_array_memory_size() + known.exact.get_array_memory_size();
        let columns = self.columns.iter();
        let columns = columns
            .map(|one| known(&one.least) + known(&one.greatest) + known(&one.nulls) + known(&one.bytes));
        self.rows.len() * size_of::<u64>() + known(&self.total_bytes) + columns.sum::<usize>()
    }

    fn statistics(&self, file: usize) -> Statistics {
        let column = |column: &ColumnOfFiles| ColumnStatistics {
            null_count: column.nulls.number(file),
            min_value: column.least.get(file),
            max_value: column.greatest.get(file),
            byte_size: column.bytes.number(file),
            ..ColumnStatistics::new_unknown()
        };
        Statistics {
            num_rows: Precision::Exact(self.rows[file] as usize),
            total_byte_size: self.total_bytes.number(file),
            column_statistics: self.columns.iter().map(column).collect(),
        }
    }

    /// The statistics of all files together; put together once.
    fn sum(&self, schema: &SchemaRef) -> Result<Arc<Statistics>> {
        if let Some(sum) = self.sum.get() {
            return Ok(Arc::clone(sum));
        }
        let files: Vec<Statistics> = (0..self.rows.len()).map(|file| self.statistics(file)).collect();
        let sum = Arc::new(Statistics::try_merge_iter(&files, schema)?);
        Ok(Arc::clone(self.sum.get_or_init(|| sum)))
    }
}

/// Files that follow each other and are known in the same way.
enum Run<'a> {
    /// Of these columns, at these places.
    Of(&'a Arc<FileColumns>, Vec<usize>, &'a [DataFile]),
    Alone(&'a DataFile),
}

fn runs(files: &[DataFile]) -> Vec<Run<'_>> {
    let together = |a: &DataFile, b: &DataFile| match (a.shared(), b.shared()) {
        (Some((a, _)), Some((b, _))) => Arc::ptr_eq(a, b),
        _ => false,
    };
    files.chunk_by(together).map(run_of).collect()
}

fn run_of(files: &[DataFile]) -> Run<'_> {
    match files[0].shared() {
        Some((columns, _)) => {
            let places = files.iter().filter_map(DataFile::shared).map(|(_, place)| place);
            Run::Of(columns, places.collect(), files)
        }
        None => Run::Alone(&files[0]),
    }
}

impl DataFile {
    /// The columns that it shares with other files, and its place among them.
    fn shared(&self) -> Option<(&Arc<FileColumns>, usize)> {
        match &self.statistics.as_ref()?.source {
            Source::Of(columns, place) => Some((columns, *place)),
            Source::Own(_) => None,
        }
    }

    fn has_more(&self) -> bool {
        self.statistics.as_ref().is_some_and(|known| !known.more.is_empty())
    }
}

/// The statistics of files together, over a table's columns. Unknown files make counts and bounds unknown.
///
/// # Errors
/// Statistics that do not fit the schema.
pub fn merged(files: &[DataFile], schema: &SchemaRef) -> Result<Statistics> {
    let unknown = Arc::new(Statistics::new_unknown(schema));
    let of =
        |file: &DataFile| file.statistics.as_ref().map_or_else(|| Arc::clone(&unknown), FileStatistics::get);
    let mut parts = Vec::new();
    for run in runs(files) {
        match run {
            Run::Of(columns, places, files) => {
                // Whole manifests, which most queries read, are put together once.
                let is_whole = places.into_iter().eq(0..columns.rows.len());
                match is_whole && !files.iter().any(DataFile::has_more) {
                    true => parts.push(columns.sum(schema)?),
                    false => parts.extend(files.iter().map(of)),
                }
            }
            Run::Alone(file) => parts.push(of(file)),
        }
    }
    Ok(Statistics::try_merge_iter(parts.iter().map(AsRef::as_ref), schema)?)
}

/// The bounds of files, as pruning asks for them.
pub struct Bounds<'a> {
    files: usize,
    schema: &'a SchemaRef,
    runs: Vec<Run<'a>>,
}

impl<'a> Bounds<'a> {
    pub fn of(files: &'a [DataFile], schema: &'a SchemaRef) -> Self {
        Self { files: files.len(), schema, runs: runs(files) }
    }

    /// An array with an element a file, put together from one of each run.
    fn gather(
        &self,
        column: &Column,
        data_type: Option<DataType>,
        shared: impl Fn(&ColumnOfFiles) -> Result<ArrayRef>,
        own: impl Fn(&ColumnStatistics) -> Option<ScalarValue>,
    ) -> Option<ArrayRef> {
        let at = self.schema.index_of(column.name()).ok()?;
        let data_type = data_type.unwrap_or_else(|| self.schema.field(at).data_type().clone());
        let one = |run: &Run<'_>| -> Option<ArrayRef> {
            match run {
                Run::Of(columns, places, _) => match columns.columns.get(at) {
                    Some(column) => picked(&shared(column).ok()?, places),
                    None => Some(new_null_array(&data_type, places.len())),
                },
                Run::Alone(file) => {
                    let known = file.statistics.as_ref().map(FileStatistics::get);
                    let value = known.and_then(|known| own(known.column_statistics.get(at)?));
                    value.map_or_else(|| Some(new_null_array(&data_type, 1)), |value| value.to_array().ok())
                }
            }
        };
        joined(self.runs.iter().map(one).collect::<Option<Vec<_>>>()?)
    }
}

/// The elements at `places`; the whole array, where that is meant.
fn picked(array: &ArrayRef, places: &[usize]) -> Option<ArrayRef> {
    let is_run = places.windows(2).all(|pair| pair[1] == pair[0] + 1);
    match (is_run, places.first()) {
        (true, Some(first)) => Some(array.slice(*first, places.len())),
        _ => {
            let places: UInt64Array = places.iter().map(|place| *place as u64).collect();
            take(array, &places, None).ok()
        }
    }
}

fn joined(arrays: Vec<ArrayRef>) -> Option<ArrayRef> {
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    concat(&arrays).ok()
}

fn exact(known: &Precision<ScalarValue>) -> Option<ScalarValue> {
    match known {
        Precision::Exact(value) => Some(value.clone()),
        Precision::Inexact(_) | Precision::Absent => None,
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.gather(column, None, |column| column.least.bounds(), |column| exact(&column.min_value))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.gather(column, None, |column| column.greatest.bounds(), |column| exact(&column.max_value))
    }

    fn num_containers(&self) -> usize {
        self.files
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let own = |column: &ColumnStatistics| match column.null_count {
            Precision::Exact(nulls) => Some(ScalarValue::from(nulls as u64)),
            Precision::Inexact(_) | Precision::Absent => None,
        };
        self.gather(column, Some(DataType::UInt64), |column| column.nulls.bounds(), own)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let mut counts: Vec<Option<u64>> = Vec::with_capacity(self.files);
        for run in &self.runs {
            match run {
                Run::Of(columns, places, _) => {
                    counts.extend(places.iter().map(|place| Some(columns.rows[*place])))
                }
                Run::Alone(file) => counts.push(file.row_count()),
            }
        }
        Some(Arc::new(UInt64Array::from(counts)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Int64Type, Schema};
    use object_store::path::Path;

    use super::*;

    fn statistics(least: Option<i64>, nulls: usize, exact: bool) -> Statistics {
        let value = |value: i64| match exact {
            true => Precision::Exact(ScalarValue::from(value)),
            false => Precision::Inexact(ScalarValue::from(value)),
        };
        let column = ColumnStatistics {
            min_value: least.map_or(Precision::Absent, value),
            max_value: least.map_or(Precision::Absent, |least| value(least + 9)),
            null_count: Precision::Exact(nulls),
            byte_size: Precision::Exact(80),
            ..ColumnStatistics::new_unknown()
        };
        Statistics {
            num_rows: Precision::Exact(10),
            total_byte_size: Precision::Inexact(80),
            column_statistics: vec![column],
        }
    }

    fn file(statistics: Option<FileStatistics>) -> DataFile {
        let object = object_store::ObjectMeta {
            location: Path::from("x"),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        DataFile { object, partition: Vec::new(), statistics }
    }

    #[test]
    fn what_is_kept_together_is_what_was_known_of_each() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let each = [statistics(Some(0), 1, true), statistics(Some(10), 2, false), statistics(None, 10, true)];
        let columns = FileColumns::new(&schema, &each).unwrap();
        for (place, one) in each.iter().enumerate() {
            assert_eq!(*columns.file(place).get(), *one);
        }
        let alone = FileStatistics::from(Arc::new(statistics(Some(70), 0, true)));
        let files = [file(Some(columns.file(0))), file(Some(columns.file(1))), file(Some(columns.file(2)))];
        let all = merged(&files, &schema).unwrap();
        assert_eq!(all, Statistics::try_merge_iter(&each, &schema).unwrap());
        assert_eq!(merged(&files, &schema).unwrap(), all, "the second time, from what was put together");
        let some = merged(&files[..2], &schema).unwrap();
        assert_eq!(some, Statistics::try_merge_iter(&each[..2], &schema).unwrap());

        let files = [file(Some(columns.file(2))), file(Some(columns.file(0))), file(Some(alone)), file(None)];
        let bounds = Bounds::of(&files, &schema);
        let column = Column::from_name("n");
        let least = bounds.min_values(&column).unwrap();
        let least: Vec<_> = least.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(least, [None, Some(0), Some(70), None]);
        let nulls = bounds.null_counts(&column).unwrap();
        assert_eq!(nulls.as_ref(), &UInt64Array::from(vec![Some(10), Some(1), Some(0), None]));
        let rows = bounds.row_counts().unwrap();
        assert_eq!(rows.as_ref(), &UInt64Array::from(vec![Some(10), Some(10), Some(10), None]));
        assert!(bounds.min_values(&Column::from_name("x")).is_none());
        // An inexact number may hide NaN.
        let least = Bounds::of(&[file(Some(columns.file(1)))], &schema).min_values(&column).unwrap();
        assert_eq!(least.null_count(), 1);
    }
}
