//! Definitions: how `CREATE`, `CREATE OR REPLACE` and comments change a table's metadata.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Definition;
use crate::error::{Error, Result};
use crate::format::iceberg::columns::{replacement, with_fresh_ids};
use crate::format::iceberg::metadata::{
    COMMENT_PROPERTY, PARTITION_ID_BEFORE_FIRST, PartitionSpec, SortOrder, SpecField, TableMetadata,
};
use crate::format::iceberg::rules::Rules;
use crate::format::iceberg::schema::{Primitive, Schema};
use crate::format::partition::{PartitionField, Transform};

/// What every table tells other writers about how we write.
const PROPERTIES: [(&str, &str); 4] = [
    ("write.parquet.compression-codec", "zstd"),
    ("write.delete.mode", "copy-on-write"),
    ("write.update.mode", "copy-on-write"),
    ("write.merge.mode", "copy-on-write"),
];

/// Returns a table without rows, in the folder at `url`.
pub(super) fn create(url: &str, definition: &Definition) -> Result<TableMetadata> {
    let schema = with_fresh_ids(&definition.schema, 0)?;
    let last_partition_id = PARTITION_ID_BEFORE_FIRST;
    let fields = spec_fields(&definition.partition, &schema, &[], last_partition_id)?;
    Ok(TableMetadata {
        table_uuid: Uuid::new_v4().to_string(),
        last_column_id: schema.highest_id(),
        schemas: vec![schema],
        current_schema_id: 0,
        last_partition_id: fields.last().map_or(last_partition_id, |field| field.field_id),
        partition_specs: vec![PartitionSpec { spec_id: 0, fields }],
        default_spec_id: 0,
        properties: properties(definition),
        ..blank(url)
    })
}

/// A table before its first schema, in the folder at `url`.
pub(in super::super) fn blank(url: &str) -> TableMetadata {
    TableMetadata {
        format_version: 2,
        table_uuid: String::new(),
        location: url.to_owned(),
        last_sequence_number: 0,
        last_updated_ms: 0,
        last_column_id: 0,
        schemas: Vec::new(),
        current_schema_id: -1,
        partition_specs: Vec::new(),
        default_spec_id: -1,
        last_partition_id: PARTITION_ID_BEFORE_FIRST,
        properties: PROPERTIES.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        current_snapshot_id: None,
        snapshots: Vec::new(),
        snapshot_log: Vec::new(),
        metadata_log: Vec::new(),
        sort_orders: vec![SortOrder { order_id: 0, fields: Vec::new() }],
        default_sort_order_id: 0,
        refs: BTreeMap::new(),
        rest: serde_json::Map::new(),
        url: String::new(),
    }
}

/// Gives `draft` the columns, partitions and properties of `definition`; ids are never used again.
pub(super) fn replace(draft: &mut TableMetadata, definition: &Definition) -> Result<()> {
    let schema = replacement(draft, &definition.schema)?;
    let fields =
        spec_fields(&definition.partition, &schema, &draft.partition_specs, draft.last_partition_id)?;
    set_schema(draft, schema);
    set_spec(draft, fields);
    draft.properties = properties(definition);
    if draft.default_sort_order_id != 0 {
        draft.default_sort_order_id = 0;
        if draft.sort_orders.iter().all(|order| order.order_id != 0) {
            draft.sort_orders.push(SortOrder { order_id: 0, fields: Vec::new() });
        }
    }
    Ok(())
}

/// Partitions by `partition` the files that are written from now on; the others keep their spec.
pub(super) fn repartition(draft: &mut TableMetadata, partition: &[PartitionField]) -> Result<()> {
    let known = &draft.partition_specs;
    let fields = spec_fields(partition, draft.current_schema(), known, draft.last_partition_id)?;
    set_spec(draft, fields);
    Ok(())
}

/// Gives a column a comment, or takes it away.
pub(super) fn set_column_comment(
    draft: &mut TableMetadata,
    column: &str,
    comment: Option<String>,
) -> Result<()> {
    let mut schema = draft.current_schema().clone();
    let names = || draft.current_schema().fields.iter().map(|field| field.name.clone()).collect();
    let not_found = || Error::ColumnNotFound { name: column.to_owned(), candidates: names() };
    let field = schema.fields.iter_mut().find(|field| field.name == column).ok_or_else(not_found)?;
    field.doc = comment;
    set_schema(draft, schema);
    Ok(())
}

/// Gives the table other rules; a primary key becomes the schema's identifier.
pub(super) fn set_rules(draft: &mut TableMetadata, rules: &Rules) -> Result<()> {
    let mut schema = draft.current_schema().clone();
    let key = rules.primary_key().map(|key| key.columns.as_slice()).unwrap_or_default();
    for field in schema.fields.iter_mut().filter(|field| key.contains(&field.id)) {
        field.required = true;
    }
    // Iceberg identifies no row by a number that may be NaN.
    let may_identify = |id: &i32| {
        let kind = schema.primitive(*id);
        kind.is_some_and(|kind| !matches!(kind, Primitive::Float | Primitive::Double))
    };
    let identifier = if key.iter().all(may_identify) { key } else { &[] };
    schema.set_identifier_ids(identifier);
    set_schema(draft, schema);
    draft.set_rules(rules)
}

fn properties(definition: &Definition) -> BTreeMap<String, String> {
    let ours = PROPERTIES.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let comment = definition.comment.clone().map(|comment| (COMMENT_PROPERTY.to_owned(), comment));
    ours.into_iter().chain(definition.properties.clone()).chain(comment).collect()
}

/// Makes `schema` the current one: an earlier schema of the same columns, or a new one.
pub(super) fn set_schema(draft: &mut TableMetadata, mut schema: Schema) {
    if let Some(same) = draft.schemas.iter().find(|earlier| earlier.same_as(&schema)) {
        draft.current_schema_id = same.schema_id;
        return;
    }
    schema.schema_id = 1 + draft.schemas.iter().map(|schema| schema.schema_id).max().unwrap_or(-1);
    draft.current_schema_id = schema.schema_id;
    draft.last_column_id = draft.last_column_id.max(schema.highest_id());
    draft.schemas.push(schema);
}

/// Makes a spec of `fields` the default: an earlier one that is the same but for its ids, or a new one.
fn set_spec(draft: &mut TableMetadata, fields: Vec<SpecField>) {
    let alike = |earlier: &SpecField, field: &SpecField| {
        (earlier.source_id, &earlier.name, earlier.transform)
            == (field.source_id, &field.name, field.transform)
    };
    let same = draft.partition_specs.iter().find(|spec| {
        spec.fields.len() == fields.len() && spec.fields.iter().zip(&fields).all(|(a, b)| alike(a, b))
    });
    if let Some(same) = same {
        draft.default_spec_id = same.spec_id;
        return;
    }
    let spec_id = 1 + draft.partition_specs.iter().map(|spec| spec.spec_id).max().unwrap_or(-1);
    draft.last_partition_id =
        fields.iter().fold(draft.last_partition_id, |last, field| last.max(field.field_id));
    draft.default_spec_id = spec_id;
    draft.partition_specs.push(PartitionSpec { spec_id, fields });
}

/// Returns the spec fields of `partition` over `schema`. One that an earlier spec has too keeps its id and
/// its name; the ids of others follow `last_id`.
fn spec_fields(
    partition: &[PartitionField],
    schema: &Schema,
    known: &[PartitionSpec],
    last_id: i32,
) -> Result<Vec<SpecField>> {
    let mut fields: Vec<SpecField> = Vec::with_capacity(partition.len());
    let mut last_id = last_id;
    for wanted in partition {
        let mut field = spec_field(wanted, schema, last_id + 1)?;
        let is_named = wanted.name != PartitionField::new(&wanted.source, wanted.transform).name;
        let mut earlier = known.iter().rev().flat_map(|spec| &spec.fields);
        let same = |one: &&SpecField| (one.source_id, one.transform) == (field.source_id, field.transform);
        match earlier.find(|one| same(one) && (!is_named || one.name == field.name)) {
            Some(same) => field = same.clone(),
            None => {
                last_id += 1;
                rename_if_taken(&mut field, known, is_named)?;
            }
        }
        if fields.iter().any(|other| other.name == field.name) {
            let message = format!("partition field \"{}\" is named twice", field.name);
            return Err(Error::InvalidParameter(message));
        }
        fields.push(field);
    }
    Ok(fields)
}

/// Readers show the values of all specs side by side, so a name stands for one field for ever.
fn rename_if_taken(field: &mut SpecField, known: &[PartitionSpec], is_named: bool) -> Result<()> {
    let taken = |name: &str| known.iter().flat_map(|spec| &spec.fields).any(|one| one.name == name);
    if !taken(&field.name) {
        return Ok(());
    }
    // A file's path, and other engines, find an unchanged value under the name of its column.
    if is_named || field.transform == Transform::Identity {
        let message = format!("\"{}\" is the name of another partition of this table", field.name);
        return Err(Error::InvalidParameter(message));
    }
    let width = match field.transform {
        Transform::Bucket(width) | Transform::Truncate(width) => format!("{}_{width}", field.name),
        _ => field.name.clone(),
    };
    field.name = if taken(&width) { format!("{}_{}", field.name, field.field_id) } else { width };
    Ok(())
}

fn spec_field(field: &PartitionField, schema: &Schema, field_id: i32) -> Result<SpecField> {
    let PartitionField { source, name, transform } = field;
    let names = || schema.fields.iter().map(|field| field.name.clone()).collect();
    let not_found = || Error::ColumnNotFound { name: source.clone(), candidates: names() };
    let column = schema.field(source).ok_or_else(not_found)?;
    if column.primitive().and_then(|kind| transform.result(kind)).is_none() {
        let message = format!("column \"{source}\" cannot be partitioned by {transform}: its type has none");
        return Err(Error::DatatypeMismatch(message));
    }
    let is_the_column = name == source && *transform == Transform::Identity;
    if schema.field(name).is_some() && !is_the_column {
        let message = format!("partition field \"{name}\" has the name of a column");
        return Err(Error::InvalidParameter(message));
    }
    Ok(SpecField { source_id: column.id, field_id, name: name.clone(), transform: *transform })
}
