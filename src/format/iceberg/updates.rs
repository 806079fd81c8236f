//! Updates: a change to a table in the words of Iceberg's REST catalog, as other engines send it.
//!
//! A client writes data files, manifests and a manifest list by itself, and then sends *requirements*,
//! what it relied upon, and *updates*, what becomes of the table's metadata. This module decides what
//! they mean and which of them we take; the metadata file is always written by us. What a client's
//! files must be like is decided in [`verify`], what a new table looks like in [`create`], which other
//! columns and partitions a table can get in [`evolve`].
//!
//! Source: <https://github.com/apache/iceberg/blob/main/open-api/rest-catalog-open-api.yaml>

mod create;
mod evolve;
mod snapshots;
mod verify;

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

pub use self::create::{NewIcebergTable, begin};
pub use self::verify::verify;
use super::metadata::{
    MAIN, PARTITION_ID_BEFORE_FIRST, PartitionSpec, Reference, SortOrder, SpecField, TableMetadata,
    TableSnapshot,
};
use super::rules;
use super::schema::Schema;
use super::stage::blank;
use super::transform;
use crate::error::{Error, Result};
use crate::format::partition::Transform;

/// Stands for what the same commit added last.
const LAST_ADDED: i32 = -1;
/// Properties that say how a writer deletes rows; we read tables without delete files only.
const DELETE_MODES: [&str; 3] = ["write.delete.mode", "write.update.mode", "write.merge.mode"];
/// Code points of text that a bound must keep at least, as a shorter one is taken for exact.
const BOUND_LENGTH: u32 = 16;

/// What a client relied upon.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Requirement {
    AssertCreate,
    #[serde(rename = "assert-table-uuid")]
    AssertTableUuid {
        uuid: String,
    },
    /// A branch or tag is at this snapshot; with none, it does not exist.
    AssertRefSnapshotId {
        #[serde(rename = "ref")]
        reference: String,
        #[serde(default)]
        snapshot_id: Option<i64>,
    },
    AssertLastAssignedFieldId {
        last_assigned_field_id: i32,
    },
    AssertCurrentSchemaId {
        current_schema_id: i32,
    },
    AssertLastAssignedPartitionId {
        #[serde(default)]
        last_assigned_partition_id: Option<i32>,
    },
    AssertDefaultSpecId {
        default_spec_id: i32,
    },
    AssertDefaultSortOrderId {
        default_sort_order_id: i32,
    },
}

/// What becomes of a table's metadata.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Update {
    AssignUuid {
        uuid: String,
    },
    UpgradeFormatVersion {
        format_version: u8,
    },
    AddSchema {
        schema: Schema,
    },
    SetCurrentSchema {
        schema_id: i32,
    },
    AddSpec {
        spec: NewSpec,
    },
    SetDefaultSpec {
        spec_id: i32,
    },
    AddSortOrder {
        sort_order: SortOrder,
    },
    SetDefaultSortOrder {
        sort_order_id: i32,
    },
    AddSnapshot {
        snapshot: TableSnapshot,
    },
    SetSnapshotRef {
        ref_name: String,
        #[serde(flatten)]
        reference: Reference,
    },
    RemoveSnapshots {
        snapshot_ids: Vec<i64>,
    },
    RemoveSnapshotRef {
        ref_name: String,
    },
    SetLocation {
        location: String,
    },
    SetProperties {
        updates: BTreeMap<String, String>,
    },
    RemoveProperties {
        removals: Vec<String>,
    },
    SetStatistics {
        statistics: Value,
    },
    RemoveStatistics {
        snapshot_id: i64,
    },
    SetPartitionStatistics {
        partition_statistics: Value,
    },
    RemovePartitionStatistics {
        snapshot_id: i64,
    },
    RemoveSchemas {
        schema_ids: Vec<i32>,
    },
}

/// A partition spec whose ids may be left to us.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewSpec {
    pub fields: Vec<NewSpecField>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewSpecField {
    pub source_id: i32,
    #[serde(default)]
    pub field_id: Option<i32>,
    pub name: String,
    #[serde(with = "transform")]
    pub transform: Transform,
}

impl Requirement {
    /// Checks this against a table's newest version, `None` where there is no table.
    ///
    /// # Errors
    /// [`Error::CommitConflict`] when it does not hold, [`Error::TableNotFound`] when it is about a table
    /// that is not there, [`Error::AlreadyExists`] for one that should not be.
    pub fn check(&self, current: Option<&TableMetadata>, name: &str) -> Result<()> {
        let Some(current) = current else {
            return match self {
                Self::AssertCreate => Ok(()),
                // A branch without a snapshot is what a table that does not exist has, too.
                Self::AssertRefSnapshotId { snapshot_id: None, .. } => Ok(()),
                _ => Err(Error::TableNotFound(name.to_owned())),
            };
        };
        let holds = match self {
            Self::AssertCreate => {
                return Err(Error::AlreadyExists { kind: "table", name: name.to_owned() });
            }
            Self::AssertTableUuid { uuid } => same_uuid(uuid, &current.table_uuid),
            Self::AssertRefSnapshotId { reference, snapshot_id } => {
                *snapshot_id == snapshots::of_reference(current, reference)
            }
            Self::AssertLastAssignedFieldId { last_assigned_field_id: id } => *id == current.last_column_id,
            Self::AssertCurrentSchemaId { current_schema_id: id } => *id == current.current_schema_id,
            Self::AssertLastAssignedPartitionId { last_assigned_partition_id: id } => {
                id.unwrap_or(PARTITION_ID_BEFORE_FIRST) == current.last_partition_id
            }
            Self::AssertDefaultSpecId { default_spec_id: id } => *id == current.default_spec_id,
            Self::AssertDefaultSortOrderId { default_sort_order_id: id } => {
                *id == current.default_sort_order_id
            }
        };
        if holds { Ok(()) } else { Err(Error::table_conflict(name)) }
    }
}

fn same_uuid(one: &str, other: &str) -> bool {
    match (uuid::Uuid::parse_str(one), uuid::Uuid::parse_str(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Returns the version of a table that follows `base` by `updates`, in their order; with no base, a new
/// table in the folder at `table_url`. Nothing is read or written.
///
/// # Errors
/// [`Error::InvalidParameter`] for what contradicts itself or the table, [`Error::Unsupported`] for what
/// the specification allows and we do not take, [`Error::CommitConflict`] for a snapshot that does not
/// follow the table's last one.
pub fn apply_updates(
    base: Option<&TableMetadata>,
    table_url: &str,
    updates: &[Update],
) -> Result<TableMetadata> {
    let mut draft = Draft {
        metadata: base.cloned().unwrap_or_else(|| blank(table_url)),
        is_new: base.is_none(),
        added_schema: None,
        added_spec: None,
        added_order: None,
        added_snapshots: HashSet::new(),
    };
    for update in updates {
        draft.apply(update)?;
    }
    let mut metadata = draft.metadata;
    metadata.check().map_err(invalid)?;
    let sources = |spec: &PartitionSpec| {
        spec.fields.iter().all(|field| metadata.current_schema().primitive(field.source_id).is_some())
    };
    if !sources(metadata.default_spec()) {
        return Err(invalid("the default partition spec names a column that the table does not have"));
    }
    if let Some(base) = base {
        ensure_unruled(base, updates)?;
        evolve::ensure_follows(base, &mut metadata)?;
    }
    Ok(metadata)
}

/// A version in the making.
struct Draft {
    metadata: TableMetadata,
    is_new: bool,
    added_schema: Option<i32>,
    added_spec: Option<i32>,
    added_order: Option<i32>,
    added_snapshots: HashSet<i64>,
}

impl Draft {
    fn apply(&mut self, update: &Update) -> Result<()> {
        match update {
            Update::AssignUuid { uuid } => self.assign_uuid(uuid)?,
            Update::UpgradeFormatVersion { format_version: 2 } => {}
            Update::UpgradeFormatVersion { format_version } => {
                let message = format!("Iceberg tables of format version {format_version}, only 2");
                return Err(Error::Unsupported(message));
            }
            Update::AddSchema { schema } => self.add_schema(schema)?,
            Update::SetCurrentSchema { schema_id } => {
                let id = chosen(*schema_id, self.added_schema, "schema")?;
                self.metadata.schema(id).ok_or_else(|| invalid(format!("there is no schema {id}")))?;
                self.metadata.current_schema_id = id;
            }
            Update::AddSpec { spec } => self.add_spec(spec)?,
            Update::SetDefaultSpec { spec_id } => {
                let id = chosen(*spec_id, self.added_spec, "partition spec")?;
                self.metadata.spec(id).ok_or_else(|| invalid(format!("there is no partition spec {id}")))?;
                self.metadata.default_spec_id = id;
            }
            Update::AddSortOrder { sort_order } => self.add_sort_order(sort_order),
            Update::SetDefaultSortOrder { sort_order_id } => {
                let id = chosen(*sort_order_id, self.added_order, "sort order")?;
                if self.metadata.sort_orders.iter().all(|order| order.order_id != id) {
                    return Err(invalid(format!("there is no sort order {id}")));
                }
                self.metadata.default_sort_order_id = id;
            }
            Update::SetLocation { location } => {
                if location.trim_end_matches('/') != self.metadata.location {
                    let message = format!("a table cannot leave its folder \"{}\"", self.metadata.location);
                    return Err(Error::Unsupported(message));
                }
            }
            Update::SetProperties { updates } => set_properties(&mut self.metadata, updates)?,
            Update::RemoveProperties { removals } => {
                removals.iter().try_for_each(|name| ensure_not_ours(name))?;
                self.metadata.properties.retain(|name, _| !removals.contains(name));
            }
            Update::RemoveSchemas { schema_ids } => {
                if schema_ids.contains(&self.metadata.current_schema_id) {
                    return Err(invalid("the current schema cannot be removed"));
                }
                self.metadata.schemas.retain(|schema| !schema_ids.contains(&schema.schema_id));
            }
            snapshots => self.apply_to_snapshots(snapshots)?,
        }
        Ok(())
    }

    fn assign_uuid(&mut self, uuid: &str) -> Result<()> {
        let parsed = uuid::Uuid::parse_str(uuid).map_err(|_| invalid(format!("\"{uuid}\" is no UUID")))?;
        if !self.is_new && !same_uuid(uuid, &self.metadata.table_uuid) {
            return Err(invalid("a table cannot get another UUID"));
        }
        self.metadata.table_uuid = parsed.to_string();
        Ok(())
    }

    /// A schema that the table knows already keeps its id.
    fn add_schema(&mut self, schema: &Schema) -> Result<()> {
        create::ensure_sound(schema)?;
        let metadata = &mut self.metadata;
        if let Some(same) = metadata.schemas.iter().find(|known| known.same_as(schema)) {
            self.added_schema = Some(same.schema_id);
            return Ok(());
        }
        let mut schema = schema.clone();
        schema.schema_id = 1 + metadata.schemas.iter().map(|known| known.schema_id).max().unwrap_or(-1);
        metadata.last_column_id = metadata.last_column_id.max(schema.highest_id());
        self.added_schema = Some(schema.schema_id);
        metadata.schemas.push(schema);
        Ok(())
    }

    /// A spec that the table knows already keeps its ids.
    fn add_spec(&mut self, spec: &NewSpec) -> Result<()> {
        let metadata = &mut self.metadata;
        let mut last_id = metadata.last_partition_id;
        let known = |field: &NewSpecField| {
            let mut fields = metadata.partition_specs.iter().flat_map(|spec| &spec.fields);
            fields.find(|one| (one.source_id, one.transform) == (field.source_id, field.transform))
        };
        let mut fields = Vec::with_capacity(spec.fields.len());
        for field in &spec.fields {
            let known_id = known(field).map(|known| known.field_id);
            let field_id = field.field_id.or(known_id).unwrap_or(last_id + 1);
            if !(0..=create::ID_MAX).contains(&field_id) {
                return Err(invalid(format!("the partition field id {field_id} is out of range")));
            }
            last_id = last_id.max(field_id);
            let NewSpecField { source_id, name, transform, .. } = field.clone();
            fields.push(SpecField { source_id, field_id, name, transform });
        }
        let ids: HashSet<i32> = fields.iter().map(|field| field.field_id).collect();
        let names: HashSet<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        if ids.len() < fields.len() || names.len() < fields.len() {
            return Err(invalid("a partition spec holds an id or a name twice"));
        }
        if let Some(same) = metadata.partition_specs.iter().find(|known| known.fields == fields) {
            self.added_spec = Some(same.spec_id);
            return Ok(());
        }
        let spec_id = 1 + metadata.partition_specs.iter().map(|known| known.spec_id).max().unwrap_or(-1);
        let spec = PartitionSpec { spec_id, fields };
        evolve::ensure_distinct_fields(&metadata.partition_specs, &spec)?;
        metadata.last_partition_id = last_id;
        metadata.partition_specs.push(spec);
        self.added_spec = Some(spec_id);
        Ok(())
    }

    fn add_sort_order(&mut self, order: &SortOrder) {
        let orders = &mut self.metadata.sort_orders;
        if let Some(same) = orders.iter().find(|known| known.fields == order.fields) {
            self.added_order = Some(same.order_id);
            return;
        }
        // 0 is the order of what is not sorted.
        let first = i32::from(!order.fields.is_empty());
        let order_id = orders.iter().map(|known| known.order_id + 1).max().unwrap_or(first).max(first);
        self.added_order = Some(order_id);
        orders.push(SortOrder { order_id, fields: order.fields.clone() });
    }
}

fn chosen(id: i32, added: Option<i32>, what: &str) -> Result<i32> {
    match id {
        LAST_ADDED => added.ok_or_else(|| invalid(format!("no {what} was added"))),
        id => Ok(id),
    }
}

/// Sets properties, but for those that would make writers do what we cannot read.
fn set_properties(metadata: &mut TableMetadata, updates: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in updates {
        ensure_not_ours(name)?;
        if DELETE_MODES.contains(&name.as_str()) && value != "copy-on-write" {
            let message = format!("{name} = {value}: Lacus reads tables without delete files only");
            return Err(Error::Unsupported(message));
        }
        let short = value.strip_prefix("truncate(").and_then(|rest| rest.strip_suffix(')')?.parse().ok());
        if name.starts_with("write.metadata.metrics.") && short.is_some_and(|kept: u32| kept < BOUND_LENGTH) {
            let message = format!("{name} = {value}: bounds of less than {BOUND_LENGTH} characters");
            return Err(Error::Unsupported(message));
        }
        match (name.as_str(), value.as_str()) {
            // No property, but how clients ask for a version of the format.
            ("format-version", "2") => {}
            ("format-version", other) => {
                let message = format!("Iceberg tables of format version {other}, only 2");
                return Err(Error::Unsupported(message));
            }
            _ => drop(metadata.properties.insert(name.clone(), value.clone())),
        }
    }
    Ok(())
}

/// Refuses to change the rules of a table: what they say was checked when SQL made them.
fn ensure_not_ours(name: &str) -> Result<()> {
    match name == rules::PROPERTY {
        true => Err(Error::Unsupported(format!("the property {name} is changed by ALTER TABLE only"))),
        false => Ok(()),
    }
}

/// Refuses to go back to rows that nobody looked at under the table's present rules.
fn ensure_unruled(base: &TableMetadata, updates: &[Update]) -> Result<()> {
    let added = |id: i64| {
        updates
            .iter()
            .any(|update| matches!(update, Update::AddSnapshot { snapshot } if snapshot.snapshot_id == id))
    };
    let goes_back = updates.iter().any(|update| match update {
        Update::SetSnapshotRef { ref_name, reference } if ref_name == MAIN => {
            Some(reference.snapshot_id) != base.current_snapshot_id && !added(reference.snapshot_id)
        }
        _ => false,
    });
    let rules = base.rules()?;
    match goes_back && (!rules.checks.is_empty() || rules.enforced().next().is_some()) {
        true => {
            let message = "a table with CHECK constraints or enforced keys is restored by ALTER TABLE only";
            Err(Error::Unsupported(message.to_owned()))
        }
        false => Ok(()),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::InvalidParameter(message.into())
}

#[cfg(test)]
mod tests;
