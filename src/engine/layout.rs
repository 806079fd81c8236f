//! Layout: by what a table's files are partitioned, and the properties that say how they are written.
//!
//! Both are changed in the table's metadata alone. Files that are there keep the partition spec that they
//! were written under, by which they are read and skipped as before; OPTIMIZE writes them anew under the
//! present one. Only properties that Lacus heeds can be set by SQL, under Iceberg's names.

use std::collections::BTreeMap;

use super::plan::{FullName, Planner};
use super::statement::{NamedPartition, PartitionExpr, Repartition};
use super::write::partitions;
use crate::catalog::transaction::TableTarget;
use crate::config::Size;
use crate::error::{Error, Result};
use crate::format::iceberg::Change;
use crate::format::partition::{PartitionField, Transform};

/// The property of the size at which a file is ended and the next begun.
const TARGET_FILE_SIZE: &str = "write.target-file-size-bytes";
const SNAPSHOT_AGE: &str = "history.expire.max-snapshot-age-ms";
const SNAPSHOTS_KEPT: &str = "history.expire.min-snapshots-to-keep";
/// The properties that SQL can set.
const PROPERTIES: [&str; 3] = [TARGET_FILE_SIZE, SNAPSHOT_AGE, SNAPSHOTS_KEPT];
/// What a file's target size may be: smaller ones cost more to find than to read.
const FILE_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(16 << 30);

/// Stages another partitioning of a table.
///
/// # Errors
/// [`Error::ColumnNotFound`], [`Error::UndefinedObject`] for a partition that there is not,
/// [`Error::AlreadyExists`] for one that there is.
pub(super) async fn repartition(planner: &Planner, full: &FullName, to: &Repartition) -> Result<()> {
    let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
    let mut fields = target.partition.clone();
    match to {
        Repartition::By(written) => fields = partitions(written, &target.columns)?,
        Repartition::Add(added) => fields.push(named(added, &target, &fields)?),
        Repartition::Drop(dropped) => drop(fields.remove(place_of(dropped, &fields, full)?)),
        Repartition::Replace(from, to) => {
            let at = place_of(from, &fields, full)?;
            fields.remove(at);
            fields.insert(at, named(to, &target, &fields)?);
        }
    }
    match fields == target.partition {
        true => Ok(()),
        false => planner.transaction.stage(target, Some(Change::Repartition(fields))).await,
    }
}

fn named(wanted: &NamedPartition, target: &TableTarget, others: &[PartitionField]) -> Result<PartitionField> {
    let mut made = partitions(std::slice::from_ref(&wanted.expr), &target.columns)?;
    let mut field = made.pop().ok_or_else(|| Error::Internal("a partition got lost".to_owned()))?;
    if others.iter().any(|one| is_same(one, &field)) {
        return Err(Error::AlreadyExists { kind: "partition field", name: field.name });
    }
    field.name = wanted.name.clone().unwrap_or(field.name);
    Ok(field)
}

/// A partition is named by what it is made of, or by its own name.
fn place_of(wanted: &PartitionExpr, fields: &[PartitionField], full: &FullName) -> Result<usize> {
    let field = wanted.field()?;
    let by_name = |one: &PartitionField| wanted.function.is_none() && one.name == wanted.column;
    let found = fields.iter().position(|one| is_same(one, &field));
    found.or_else(|| fields.iter().position(by_name)).ok_or_else(|| {
        let name = &field.name;
        Error::UndefinedObject(format!(
            "partition field \"{name}\" of relation \"{}\" does not exist",
            full.name
        ))
    })
}

fn is_same(one: &PartitionField, other: &PartitionField) -> bool {
    (&one.source, one.transform) == (&other.source, other.transform)
}

impl PartitionExpr {
    /// The partition field that this stands for.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a function that is none.
    pub(super) fn field(&self) -> Result<PartitionField> {
        let column = self.column.as_str();
        let number = self.argument.map(|number| number.to_string());
        match &self.function {
            None => Ok(PartitionField::new(column, Transform::Identity)),
            Some(function) => {
                let args: Vec<&str> = number.as_deref().into_iter().chain([column]).collect();
                Transform::parse_sql(function, &args)
            }
        }
    }
}

/// Stages other properties of a table.
///
/// # Errors
/// [`Error::InvalidParameter`] for a property that there is not, or a value that it cannot have.
pub(super) async fn set_properties(
    planner: &Planner,
    full: &FullName,
    written: &[(String, Option<String>)],
) -> Result<()> {
    let mut changed = BTreeMap::new();
    for (name, value) in written {
        if !PROPERTIES.contains(&name.as_str()) {
            return Err(unknown(name));
        }
        let value = value.as_ref().map(|value| property(name, value)).transpose()?;
        changed.insert(name.clone(), value);
    }
    let target = planner.transaction.target(&full.catalog, &full.schema, &full.name).await?;
    planner.transaction.stage(target, Some(Change::SetProperties(changed))).await
}

/// The properties of a new table.
///
/// # Errors
/// As [`set_properties`].
pub(super) fn properties(written: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    written.iter().map(|(name, value)| Ok((name.clone(), property(name, value)?))).collect()
}

/// The value as Iceberg's engines read it.
fn property(name: &str, value: &str) -> Result<String> {
    let invalid = |wanted: &str| {
        Error::InvalidParameter(format!(
            "invalid value for parameter \"{name}\": \"{value}\" is not {wanted}"
        ))
    };
    match name {
        TARGET_FILE_SIZE => {
            let size: Size = value.parse().map_err(|_| invalid("a size such as 64MB"))?;
            match FILE_BYTES.contains(&size.0) {
                true => Ok(size.0.to_string()),
                false => Err(invalid("between 64KiB and 16GiB")),
            }
        }
        SNAPSHOT_AGE => match value.parse::<u64>().is_ok_and(|age| i64::try_from(age).is_ok()) {
            true => Ok(value.to_owned()),
            false => Err(invalid("a number of milliseconds")),
        },
        SNAPSHOTS_KEPT => match value.parse::<u32>().is_ok_and(|kept| kept > 0) {
            true => Ok(value.to_owned()),
            false => Err(invalid("a number of snapshots")),
        },
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Error {
    Error::InvalidParameter(format!("unrecognized parameter \"{name}\"; there are {}", PROPERTIES.join(", ")))
}

/// The size at which files of a table are ended, where it says so.
pub(super) fn target_file_bytes(properties: &BTreeMap<String, String>) -> Option<u64> {
    properties.get(TARGET_FILE_SIZE)?.parse().ok().filter(|bytes| FILE_BYTES.contains(bytes))
}

/// What of a table's properties SQL can set, as SQL writes it.
pub(super) fn shown(properties: &BTreeMap<String, String>) -> Vec<String> {
    let known = properties.iter().filter(|(name, _)| PROPERTIES.contains(&name.as_str()));
    known.map(|(name, value)| format!("\"{name}\" = '{}'", value.replace('\'', "''"))).collect()
}
