//! What the manifests of a snapshot say: of themselves, of its files, and of its partitions.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{BinaryArray, RecordBatch};
use datafusion::common::ScalarValue;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};

use super::columns::{Columns, array_of};
use super::shown;
use crate::error::Result;
use crate::format::iceberg::manifest::{Entry, FileEntry};
use crate::format::iceberg::manifest_list::ManifestFile;
use crate::format::iceberg::metadata::{PartitionColumn, TableMetadata};
use crate::format::iceberg::schema::Primitive;
use crate::format::iceberg::{bound, read};
use crate::storage::Location;

/// A live file, with the partition spec that it was written under.
struct Listed {
    spec_id: i32,
    file: Arc<FileEntry>,
}

/// Takes the smaller or the larger bounds of a file.
type Bounds = fn(&FileEntry) -> &Vec<(i32, Vec<u8>)>;

/// A partition value of any spec, by the id of its field.
type Tuple = HashMap<i32, ScalarValue>;

pub(super) async fn manifests(location: &Location, metadata: &TableMetadata) -> Result<RecordBatch> {
    let manifests = listed(location, metadata).await?;
    let mut columns = Columns::default();
    columns.texts("path", manifests.iter().map(|one| shown(location, &one.url)));
    let number = |of: fn(&ManifestFile) -> i64| manifests.iter().map(move |one| Some(of(one)));
    columns.longs("length", number(|one| one.length));
    columns.integers("partition_spec_id", number(|one| one.spec_id.into()));
    columns.longs("added_snapshot_id", number(|one| one.added_snapshot_id));
    columns.integers("added_data_files_count", number(|one| one.added_files));
    columns.longs("added_rows_count", number(|one| one.added_rows));
    columns.integers("existing_data_files_count", number(|one| one.existing_files));
    columns.longs("existing_rows_count", number(|one| one.existing_rows));
    columns.integers("deleted_data_files_count", number(|one| one.deleted_files));
    columns.longs("deleted_rows_count", number(|one| one.deleted_rows));
    columns.finish()
}

pub(super) async fn files(location: &Location, metadata: &TableMetadata) -> Result<RecordBatch> {
    let files = live(location, metadata).await?;
    let all = || files.iter().map(|listed| listed.file.as_ref());
    let mut columns = Columns::default();
    columns.integers("content", all().map(|file| Some(file.content)));
    columns.texts("file_path", all().map(|file| shown(location, &file.url)));
    columns.texts("file_format", all().map(|file| file.format.to_uppercase()));
    columns.integers("spec_id", files.iter().map(|listed| Some(listed.spec_id.into())));
    let tuples = files.iter().map(|listed| tuple(metadata, listed)).collect::<Result<Vec<_>>>()?;
    columns.nested("partition", partition(metadata, &tuples)?);
    columns.longs("record_count", all().map(|file| Some(file.row_count)));
    columns.longs("file_size_in_bytes", all().map(|file| Some(file.size_bytes)));
    columns.number_maps("column_sizes", all().map(|file| &file.column_sizes));
    columns.number_maps("value_counts", all().map(|file| &file.value_counts));
    columns.number_maps("null_value_counts", all().map(|file| &file.null_value_counts));
    columns.number_maps("nan_value_counts", all().map(|file| &file.nan_value_counts));
    columns.bound_maps("lower_bounds", all().map(|file| bounds(metadata, &file.lower_bounds)));
    columns.bound_maps("upper_bounds", all().map(|file| bounds(metadata, &file.upper_bounds)));
    let keys = BinaryArray::from_iter(all().map(|file| file.key_metadata.as_deref()));
    columns.push("key_metadata", Arc::new(keys));
    columns.long_lists("split_offsets", all().map(|file| &file.split_offsets));
    columns.long_lists("equality_ids", all().map(|file| &file.equality_ids));
    columns.integers("sort_order_id", all().map(|file| file.sort_order_id));
    columns.finish()
}

pub(super) async fn partitions(location: &Location, metadata: &TableMetadata) -> Result<RecordBatch> {
    let mut groups: Vec<(Tuple, Vec<Listed>)> = Vec::new();
    let mut known: HashMap<Vec<(i32, ScalarValue)>, usize> = HashMap::new();
    for listed in live(location, metadata).await? {
        let tuple = tuple(metadata, &listed)?;
        let mut key: Vec<_> = tuple.iter().map(|(id, value)| (*id, value.clone())).collect();
        key.sort_by_key(|(id, _)| *id);
        let at = *known.entry(key).or_insert(groups.len());
        if at == groups.len() {
            groups.push((tuple, Vec::new()));
        }
        groups[at].1.push(listed);
    }
    let tuples: Vec<Tuple> = groups.iter().map(|(tuple, _)| tuple.clone()).collect();
    let total = |of: fn(&FileEntry) -> i64| {
        groups.iter().map(move |(_, files)| Some(files.iter().map(|listed| of(&listed.file)).sum()))
    };
    let mut columns = Columns::default();
    columns.nested("partition", partition(metadata, &tuples)?);
    columns.longs("record_count", total(|file| file.row_count));
    columns.longs("file_count", total(|_| 1));
    columns.longs("total_size", total(|file| file.size_bytes));
    columns.nested("data", data(metadata, &groups)?);
    columns.finish()
}

/// Smallest and largest value, nulls and NaNs of every column, partition by partition.
fn data(metadata: &TableMetadata, groups: &[(Tuple, Vec<Listed>)]) -> Result<Columns> {
    let mut data = Columns::default();
    for field in &metadata.current_schema().fields {
        let Some(kind) = field.primitive() else { continue };
        let least = |bounds: Bounds, wanted: Ordering| {
            let of = |(_, files): &(Tuple, Vec<Listed>)| extreme(files, field.id, kind, bounds, wanted);
            array_of(&kind.data_type(), groups.iter().map(of).collect::<Result<Vec<_>>>()?)
        };
        let count = |counts: fn(&FileEntry) -> &Vec<(i32, i64)>| {
            groups.iter().map(move |(_, files)| {
                files.iter().map(|listed| find(counts(&listed.file), field.id).copied()).sum::<Option<i64>>()
            })
        };
        let mut column = Columns::default();
        column.push("min", least(|file| &file.lower_bounds, Ordering::Less)?);
        column.push("max", least(|file| &file.upper_bounds, Ordering::Greater)?);
        column.longs("null_count", count(|file| &file.null_value_counts));
        column.longs("nan_count", count(|file| &file.nan_value_counts));
        data.nested(&field.name, column);
    }
    Ok(data)
}

/// The smallest or largest bound of a column; null where a file with rows has none, unless they are null.
fn extreme(
    files: &[Listed],
    id: i32,
    kind: Primitive,
    bounds: Bounds,
    wanted: Ordering,
) -> Result<ScalarValue> {
    let null = ScalarValue::try_from(&kind.data_type())?;
    let mut found: Option<ScalarValue> = None;
    for Listed { file, .. } in files {
        let Some(value) = find(bounds(file), id).and_then(|bytes| bound::decode(kind, bytes)) else {
            match find(&file.null_value_counts, id) == Some(&file.row_count) {
                true => continue,
                false => return Ok(null),
            }
        };
        if found.as_ref().is_none_or(|found| value.partial_cmp(found) == Some(wanted)) {
            found = Some(value);
        }
    }
    Ok(found.unwrap_or(null))
}

/// The partition values, a column for each field that any spec of the table has.
fn partition(metadata: &TableMetadata, tuples: &[Tuple]) -> Result<Columns> {
    let mut columns = Columns::default();
    for field in partition_fields(metadata)? {
        let data_type = field.kind.data_type();
        let null = ScalarValue::try_from(&data_type)?;
        let values = tuples.iter().map(|tuple| tuple.get(&field.field_id).unwrap_or(&null).clone());
        columns.push(&field.name, array_of(&data_type, values.collect())?);
    }
    Ok(columns)
}

fn partition_fields(metadata: &TableMetadata) -> Result<Vec<PartitionColumn>> {
    let mut fields: Vec<PartitionColumn> = Vec::new();
    for spec in &metadata.partition_specs {
        for field in metadata.partition_columns(spec.spec_id)? {
            if fields.iter().all(|known| known.field_id != field.field_id) {
                fields.push(field);
            }
        }
    }
    Ok(fields)
}

fn tuple(metadata: &TableMetadata, listed: &Listed) -> Result<Tuple> {
    let fields = metadata.partition_columns(listed.spec_id)?;
    let values = listed.file.partition.iter().cloned();
    Ok(fields.iter().map(|field| field.field_id).zip(values).collect())
}

/// Bounds as text, by the id of a column of any schema of the table.
fn bounds(metadata: &TableMetadata, bounds: &[(i32, Vec<u8>)]) -> Vec<(i32, String)> {
    let text = |(id, bytes): &(i32, Vec<u8>)| {
        let kind = metadata.schemas.iter().rev().find_map(|schema| schema.primitive(*id))?;
        Some((*id, bound::decode(kind, bytes)?.to_string()))
    };
    bounds.iter().filter_map(text).collect()
}

async fn listed(location: &Location, metadata: &TableMetadata) -> Result<Arc<Vec<ManifestFile>>> {
    match metadata.current_snapshot() {
        Some(snapshot) => read::manifests(location, snapshot).await,
        None => Ok(Arc::default()),
    }
}

async fn live(location: &Location, metadata: &TableMetadata) -> Result<Vec<Listed>> {
    let manifests = listed(location, metadata).await?;
    // Boxed one by one: a closure over references in a stream is not general enough to be sent.
    let mut reads: Vec<BoxFuture<'_, Result<Vec<Listed>>>> = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.live_files() > 0) {
        reads.push(Box::pin(async move {
            let entries = read::entries(location, metadata, manifest).await?;
            let live = entries.into_iter().filter(Entry::is_live);
            Ok(live.map(|entry| Listed { spec_id: manifest.spec_id, file: entry.file }).collect())
        }));
    }
    let files: Vec<Vec<Listed>> = stream::iter(reads).buffered(read::READS_MAX).try_collect().await?;
    Ok(files.into_iter().flatten().collect())
}

/// The pairs of a file that was read are sorted.
fn find<T>(pairs: &[(i32, T)], id: i32) -> Option<&T> {
    pairs.binary_search_by_key(&id, |(key, _)| *key).ok().map(|at| &pairs[at].1)
}
