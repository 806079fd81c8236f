//! Partition columns: what the paths of a table's files say, the same for all of them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use object_store::ObjectMeta;

use super::extension::FileKind;
use super::hive::{PathPartition, partition_type, partition_value, path_partitions};
use super::{FileSet, Partitions};
use crate::error::{Error, Result};
use crate::storage::Location;

/// The partition columns of a table, and their values for each file.
pub struct PartitionColumns {
    pub fields: Vec<FieldRef>,
    /// One entry a file, each with one value a field.
    pub values: Vec<Vec<ScalarValue>>,
}

/// Reads the partition columns from the paths of `objects`.
///
/// A column that CSV files hold themselves stays theirs, because they are read by position; in other
/// formats the path wins.
///
/// # Errors
/// [`Error::InvalidTable`] when the paths disagree, or a value is not of its declared type.
pub fn columns_in_paths(
    location: &Location,
    set: &FileSet,
    objects: &[&ObjectMeta],
    columns: &SchemaRef,
) -> Result<PartitionColumns> {
    let found: Vec<_> =
        objects.iter().map(|object| path_partitions(set.pattern.base(), &object.location)).collect();
    let wanted = match &set.partitions {
        Partitions::Ignored => Vec::new(),
        Partitions::Declared(declared) => declared.clone(),
        Partitions::Discovered => discovered(location, objects, &found)?,
    };
    let positional = set.kind == Some(FileKind::Csv) || objects.first().is_some_and(|object| is_csv(object));
    let wanted: Vec<_> =
        wanted.into_iter().filter(|(name, _)| !positional || columns.index_of(name).is_err()).collect();
    let values = objects
        .iter()
        .zip(&found)
        .map(|(object, found)| {
            wanted.iter().map(|column| value_of(location, object, found, column)).collect()
        })
        .collect::<Result<_>>()?;
    let fields = wanted.into_iter().map(|(name, data_type)| Arc::new(Field::new(name, data_type, true)));
    Ok(PartitionColumns { fields: fields.collect(), values })
}

fn is_csv(object: &ObjectMeta) -> bool {
    let extension = object.location.filename().and_then(super::recognise);
    extension.is_some_and(|extension| extension.kind == FileKind::Csv)
}

/// The keys of all paths, which must be the same, with types that fit their values.
fn discovered(
    location: &Location,
    objects: &[&ObjectMeta],
    found: &[Vec<PathPartition>],
) -> Result<Vec<(String, DataType)>> {
    let Some(first) = found.first() else { return Ok(Vec::new()) };
    let keys = |partitions: &[PathPartition]| {
        partitions.iter().map(|partition| partition.key.clone()).collect::<Vec<_>>()
    };
    let expected = keys(first);
    let stranger = found.iter().position(|partitions| keys(partitions) != expected);
    if let Some(stranger) = stranger {
        let reason = format!(
            "its partition folders ({}) are not those of other files of the table ({})",
            keys(&found[stranger]).join(", "),
            expected.join(", ")
        );
        return Err(invalid(location, objects[stranger], reason));
    }
    if let Some(twice) = (1..expected.len()).find(|index| expected[..*index].contains(&expected[*index])) {
        let reason = format!("partition \"{}\" stands twice in its path", expected[twice]);
        return Err(invalid(location, objects[0], reason));
    }
    let typed = expected.into_iter().enumerate().map(|(index, key)| {
        let values = found.iter().map(|partitions| partitions[index].value.as_deref());
        (key, partition_type(values))
    });
    Ok(typed.collect())
}

fn value_of(
    location: &Location,
    object: &ObjectMeta,
    found: &[PathPartition],
    (name, data_type): &(String, DataType),
) -> Result<ScalarValue> {
    let Some(partition) = found.iter().find(|partition| partition.key == *name) else {
        let reason = format!("its path has no partition folder \"{name}=…\"");
        return Err(invalid(location, object, reason));
    };
    partition_value(partition.value.as_deref(), data_type).ok_or_else(|| {
        let text = partition.value.as_deref().unwrap_or_default();
        let reason = format!("\"{text}\" in its path is not a value of partition column \"{name}\"");
        invalid(location, object, reason)
    })
}

fn invalid(location: &Location, object: &ObjectMeta, reason: String) -> Error {
    Error::InvalidTable { path: location.url_of(&object.location), reason }
}
