//! Addresses: where each row of a snapshot lies.
//!
//! A row's address is the number of its file among the snapshot's, and its own number within the
//! file. Both are columns of the [`addressed`] snapshot, which a statement that changes rows reads.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue};
use parquet::arrow::RowNumber;

use crate::format::metrics::FileStatistics;
use crate::format::{DataFile, Snapshot};

/// The number of a row's file: an `Int32`, the place among the snapshot's files.
pub const FILE_COLUMN: &str = "$file";
/// The number of a row within its file: an `Int64`, from 0.
pub const ROW_COLUMN: &str = "$row";

/// Returns `snapshot`, of Parquet files, with the two columns of the address behind its own.
pub fn addressed(snapshot: &Snapshot) -> Snapshot {
    let file: FieldRef = Arc::new(Field::new(FILE_COLUMN, DataType::Int32, false));
    let row: FieldRef =
        Arc::new(Field::new(ROW_COLUMN, DataType::Int64, false).with_extension_type(RowNumber));
    let fields: Vec<FieldRef> = snapshot.schema.fields().iter().cloned().chain([file, row]).collect();
    let files = snapshot.files.iter().zip(0..).map(|(file, number)| numbered(file, number));
    let mut partition_columns = snapshot.partition_columns.clone();
    partition_columns.push(FILE_COLUMN.to_owned());
    Snapshot {
        schema: Arc::new(Schema::new_with_metadata(fields, snapshot.schema.metadata().clone())),
        partition_columns,
        numbered: true,
        files: files.collect(),
        ..snapshot.clone()
    }
}

/// Returns those files of an addressed snapshot that `chosen` names, under the numbers they have.
pub fn chosen(addressed: &Snapshot, chosen: &[usize]) -> Snapshot {
    let files = chosen.iter().map(|number| addressed.files[*number].clone());
    Snapshot { files: files.collect(), ..addressed.clone() }
}

fn numbered(file: &DataFile, number: i32) -> DataFile {
    let mut file = file.clone();
    file.partition.push(ScalarValue::from(number));
    file.statistics = file.statistics.map(|known| with_address(known, number));
    file
}

fn with_address(known: FileStatistics, number: i32) -> FileStatistics {
    let constant = Precision::Exact(ScalarValue::from(number));
    let file = ColumnStatistics {
        null_count: Precision::Exact(0),
        min_value: constant.clone(),
        max_value: constant,
        ..ColumnStatistics::new_unknown()
    };
    known.with(file).with(ColumnStatistics::new_unknown())
}
