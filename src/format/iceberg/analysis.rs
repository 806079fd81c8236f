//! Analysis: what is known of columns beyond the manifests, in a Puffin file that the metadata names.
//!
//! For each column there is a theta sketch of its values, from which the number of distinct ones is
//! estimated (within 3 %, mostly). Sketches of several readers are put together, and others read and
//! join them too. What else `ANALYZE` counted stands in the blob's properties.
//!
//! Source: <https://iceberg.apache.org/puffin-spec/#apache-datasketches-theta-v1-blob-type>

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datasketches::hash::value::raw_bytes;
use datasketches::theta::{CompactThetaSketch, ThetaSketch, ThetaSketchBuilder, ThetaUnionBuilder};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::{Value, json};
use uuid::Uuid;

use super::metadata::{TableMetadata, TableSnapshot};
use super::puffin::{self, Blob};
use super::stage::metadata_path;
use super::{Change, bound};
use crate::error::{Error, Result};
use crate::storage::Location;

const THETA: &str = "apache-datasketches-theta-v1";
/// The number of distinct values, as Iceberg names it; ours beside it.
const DISTINCT: &str = "ndv";
const NULL_FRACTION: &str = "lacus.null-fraction";
const AVERAGE_BYTES: &str = "lacus.average-bytes";
/// The binary logarithm of the hashes that a sketch keeps: Iceberg's and DataSketches' own choice.
const LOG_ENTRIES: u8 = 12;
/// About the most that a sketch takes in memory: a table twice as large as what it keeps.
pub const SKETCH_BYTES: usize = 32 << LOG_ENTRIES;

/// What was counted of one column, by one reader or several.
#[derive(Debug)]
pub struct ColumnSketch {
    sketch: ThetaSketch,
    rows: u64,
    nulls: u64,
    /// Of values that are no null, in the form that is hashed.
    bytes: u64,
}

/// What is known of a column since `ANALYZE`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Analyzed {
    pub distinct: u64,
    pub null_fraction: Option<f64>,
    pub average_bytes: Option<f64>,
}

impl ColumnSketch {
    /// # Errors
    /// None that these options could cause.
    pub fn new() -> Result<Self> {
        let sketch = ThetaSketchBuilder::default().lg_k(LOG_ENTRIES).build().map_err(unsketched)?;
        Ok(Self { sketch, rows: 0, nulls: 0, bytes: 0 })
    }

    /// Whether columns of this type can be sketched.
    pub fn takes(data_type: &DataType) -> bool {
        use DataType::{Binary, BinaryView, Boolean, Date32, Decimal128, FixedSizeBinary, Float32, Float64};
        use DataType::{Int32, Int64, Time64, Timestamp, Utf8, Utf8View};
        matches!(
            data_type,
            Boolean
                | Int32
                | Int64
                | Float32
                | Float64
                | Date32
                | Decimal128(..)
                | Utf8
                | Utf8View
                | Binary
                | BinaryView
                | FixedSizeBinary(_)
                | Time64(TimeUnit::Microsecond)
                | Timestamp(TimeUnit::Microsecond, _)
        )
    }

    /// Takes the values of a column in, each in Iceberg's single-value serialization.
    ///
    /// # Errors
    /// [`Error::Internal`] for a type that it does not take.
    pub fn add(&mut self, column: &dyn Array) -> Result<()> {
        self.rows += column.len() as u64;
        self.nulls += column.null_count() as u64;
        macro_rules! numbers {
            ($kind:ty) => {
                column.as_primitive::<$kind>().iter().flatten().for_each(|it| self.value(&it.to_le_bytes()))
            };
        }
        match column.data_type() {
            DataType::Boolean => {
                column.as_boolean().iter().flatten().for_each(|it| self.value(&[u8::from(it)]));
            }
            DataType::Int32 => numbers!(Int32Type),
            DataType::Int64 => numbers!(Int64Type),
            DataType::Float32 => numbers!(Float32Type),
            DataType::Float64 => numbers!(Float64Type),
            DataType::Date32 => numbers!(Date32Type),
            DataType::Time64(TimeUnit::Microsecond) => numbers!(Time64MicrosecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => numbers!(TimestampMicrosecondType),
            DataType::Decimal128(..) => {
                let decimals = column.as_primitive::<Decimal128Type>().iter().flatten();
                decimals.for_each(|it| self.value(&bound::shortest(it)));
            }
            DataType::Utf8 => {
                column.as_string::<i32>().iter().flatten().for_each(|it| self.value(it.as_bytes()))
            }
            DataType::Utf8View => {
                column.as_string_view().iter().flatten().for_each(|it| self.value(it.as_bytes()))
            }
            DataType::Binary => column.as_binary::<i32>().iter().flatten().for_each(|it| self.value(it)),
            DataType::BinaryView => column.as_binary_view().iter().flatten().for_each(|it| self.value(it)),
            DataType::FixedSizeBinary(_) => {
                column.as_fixed_size_binary().iter().flatten().for_each(|it| self.value(it));
            }
            other => return Err(Error::Internal(format!("there are no sketches of {other}"))),
        }
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        // As DataSketches does everywhere: the empty text is no value.
        if !bytes.is_empty() {
            self.sketch.update(raw_bytes::from_slice(bytes));
        }
    }

    fn estimate(sketch: &CompactThetaSketch) -> u64 {
        sketch.estimate().round() as u64
    }
}

/// Puts together what several readers of a table counted, column by column.
fn united(parts: &[ColumnSketch]) -> Result<(CompactThetaSketch, BTreeMap<String, String>)> {
    let mut union = ThetaUnionBuilder::default().lg_k(LOG_ENTRIES).build().map_err(unsketched)?;
    let (mut rows, mut nulls, mut bytes) = (0, 0, 0);
    for part in parts {
        union.update(&part.sketch).map_err(unsketched)?;
        (rows, nulls, bytes) = (rows + part.rows, nulls + part.nulls, bytes + part.bytes);
    }
    let sketch = union.to_sketch(true);
    let share = |of: u64, all: u64| of as f64 / all.max(1) as f64;
    let properties = [
        (DISTINCT, ColumnSketch::estimate(&sketch).to_string()),
        (NULL_FRACTION, share(nulls, rows).to_string()),
        (AVERAGE_BYTES, share(bytes, rows - nulls).to_string()),
    ];
    Ok((sketch, properties.map(|(name, value)| (name.to_owned(), value)).into()))
}

/// Stores what was counted of columns, by their ids, in the current snapshot of a table; returns the
/// change that names it. What was known of other columns of the snapshot is kept.
///
/// Costs a PUT, and a GET where the snapshot was analyzed before.
///
/// # Errors
/// What the store answers.
pub async fn store_analysis(
    location: &Location,
    metadata: &TableMetadata,
    columns: BTreeMap<i32, Vec<ColumnSketch>>,
) -> Result<Option<Change>> {
    let Some(snapshot) = metadata.current_snapshot() else { return Ok(None) };
    let mut blobs = earlier_blobs(location, metadata, snapshot).await?;
    blobs.retain(|blob| !blob.fields.iter().any(|id| columns.contains_key(id)));
    for (id, parts) in &columns {
        let (sketch, properties) = united(parts)?;
        blobs.push(Blob {
            kind: THETA.to_owned(),
            fields: vec![*id],
            snapshot_id: snapshot.snapshot_id,
            sequence_number: snapshot.sequence_number,
            properties,
            bytes: sketch.serialize(),
        });
    }
    let file = puffin::write(&blobs)?;
    let folder: Path = location.path_of(&metadata.location)?;
    let path = metadata_path(&folder, &format!("{}-{}.stats", snapshot.snapshot_id, Uuid::new_v4()));
    let bytes = file.bytes.len();
    location.store.put(&path, PutPayload::from(file.bytes)).await?;
    let entry = |blob: &Blob| {
        json!({
            "type": blob.kind, "snapshot-id": blob.snapshot_id, "sequence-number": blob.sequence_number,
            "fields": blob.fields, "properties": blob.properties,
        })
    };
    Ok(Some(Change::SetStatistics(json!({
        "snapshot-id": snapshot.snapshot_id,
        "statistics-path": location.url_of(&path),
        "file-size-in-bytes": bytes,
        "file-footer-size-in-bytes": file.footer_bytes,
        "blob-metadata": blobs.iter().map(entry).collect::<Vec<_>>(),
    }))))
}

async fn earlier_blobs(
    location: &Location,
    metadata: &TableMetadata,
    snapshot: &TableSnapshot,
) -> Result<Vec<Blob>> {
    let files = metadata.statistics_files();
    let file = files.iter().find(|file| file["snapshot-id"].as_i64() == Some(snapshot.snapshot_id));
    let Some(url) = file.and_then(|file| file["statistics-path"].as_str()) else { return Ok(Vec::new()) };
    match location.read(&location.path_of(url)?).await? {
        Some(bytes) => puffin::read(url, &bytes),
        None => Ok(Vec::new()),
    }
}

/// Names a statistics file in `draft`, unless its snapshot is gone.
pub(super) fn set_statistics(draft: &mut TableMetadata, file: Value) {
    let id = file["snapshot-id"].as_i64();
    if id.is_none_or(|id| draft.snapshot(id).is_none()) {
        return;
    }
    let files = draft.rest.entry("statistics").or_insert_with(|| json!([]));
    if let Value::Array(files) = files {
        files.retain(|known| known["snapshot-id"].as_i64() != id);
        files.push(file);
    }
}

impl TableMetadata {
    fn statistics_files(&self) -> &[Value] {
        match self.rest.get("statistics") {
            Some(Value::Array(files)) => files,
            _ => &[],
        }
    }

    /// What is known of the columns of the current schema since they were analyzed last, by id; of
    /// whoever analyzed them.
    pub fn analyzed(&self) -> BTreeMap<i32, Analyzed> {
        let mut known: BTreeMap<i32, (i64, Analyzed)> = BTreeMap::new();
        let blobs =
            self.statistics_files().iter().filter_map(|file| file["blob-metadata"].as_array()).flatten();
        for blob in blobs.filter(|blob| blob["type"] == THETA) {
            let property = |name: &str| blob["properties"][name].as_str();
            let (Some([id]), Some(distinct)) = (
                blob["fields"].as_array().map(Vec::as_slice),
                property(DISTINCT).and_then(|text| text.parse().ok()),
            ) else {
                continue;
            };
            let number = |name: &str| property(name).and_then(|text| text.parse().ok());
            let (null_fraction, average_bytes) = (number(NULL_FRACTION), number(AVERAGE_BYTES));
            let analyzed = Analyzed { distinct, null_fraction, average_bytes };
            let age = blob["sequence-number"].as_i64().unwrap_or(0);
            let Some(id) = id.as_i64().and_then(|id| i32::try_from(id).ok()) else { continue };
            match known.get(&id) {
                Some((newer, _)) if *newer > age => {}
                _ => drop(known.insert(id, (age, analyzed))),
            }
        }
        known.into_iter().map(|(id, (_, analyzed))| (id, analyzed)).collect()
    }

    /// The same by the names that columns have now.
    pub fn analyzed_columns(&self) -> BTreeMap<String, Analyzed> {
        let analyzed = self.analyzed();
        let named = |field: &super::Field| Some((field.name.clone(), *analyzed.get(&field.id)?));
        self.current_schema().fields.iter().filter_map(named).collect()
    }
}

fn unsketched(error: datasketches::error::Error) -> Error {
    Error::Internal(format!("a sketch: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringViewArray};

    use super::*;

    fn sketched(column: ArrayRef) -> ColumnSketch {
        let mut sketch = ColumnSketch::new().unwrap();
        sketch.add(column.as_ref()).unwrap();
        sketch
    }

    fn hex(sketch: &ColumnSketch) -> String {
        sketch.sketch.compact(true).serialize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What DataSketches for C++ 5.2 makes of the same bytes: `update_theta_sketch(12)`, `compact()`.
    #[test]
    fn sketches_are_those_of_datasketches() {
        let numbers =
            sketched(Arc::new(Int64Array::from(vec![Some(1), Some(-5), None, Some(1), Some(1 << 40)])));
        assert_eq!(hex(&numbers), HEX_NUMBERS);
        let texts = sketched(Arc::new(StringViewArray::from(vec!["iceberg", "", "ä", "iceberg"])));
        assert_eq!(hex(&texts), HEX_TEXTS);
        let floats = sketched(Arc::new(Float64Array::from(vec![1.5, -2.25, 1.5])));
        assert_eq!(hex(&floats), HEX_FLOATS);
    }

    const HEX_NUMBERS: &str =
        "02030300001acc93030000000000000015f97dcbbd86a10524e16b43daa6c83e20faabe577529361";
    const HEX_TEXTS: &str = "02030300001acc93020000000000000019e1926a76422e03cfea97d298d26b7d";
    const HEX_FLOATS: &str = "02030300001acc930200000000000000114115368e63790f85a61f5019da0765";

    #[test]
    fn many_values_are_estimated_and_readers_are_put_together() {
        let half = |from: i64| {
            sketched(Arc::new((from..from + 60_000).map(Some).chain([None]).collect::<Int64Array>()))
        };
        let (sketch, properties) = united(&[half(0), half(40_000)]).unwrap();
        let distinct = ColumnSketch::estimate(&sketch);
        assert!((97_000..=103_000).contains(&distinct), "{distinct}");
        assert_eq!(properties[DISTINCT], distinct.to_string());
        assert_eq!(properties[AVERAGE_BYTES], "8");
        assert_eq!(properties[NULL_FRACTION], (2.0 / 120_002.0).to_string());
    }
}
