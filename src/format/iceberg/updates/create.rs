//! New tables: what a client asks for becomes the first version of a table's metadata.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::{NewSpec, Update, invalid};
use crate::error::{Error, Result};
use crate::format::iceberg::metadata::SortOrder;
use crate::format::iceberg::schema::{Field, Nested, Schema, Type};

/// Leaves room for the ids of columns to come, and of those that the specification reserves.
pub(super) const ID_MAX: i32 = 1 << 30;

/// What `POST …/tables` asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewIcebergTable {
    pub name: String,
    #[serde(default)]
    pub location: Option<String>,
    pub schema: Schema,
    #[serde(default)]
    pub partition_spec: Option<NewSpec>,
    #[serde(default)]
    pub write_order: Option<SortOrder>,
    /// Whether the client commits the table by itself, once it has written its rows.
    #[serde(default)]
    pub stage_create: bool,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// Returns the updates that make the table: its columns get ids of ours, from 1, and partitions and
/// sort order follow them.
///
/// # Errors
/// [`Error::InvalidParameter`] for a definition that contradicts itself.
pub fn begin(table: &NewIcebergTable, uuid: &str) -> Result<Vec<Update>> {
    let mut ids = FreshIds { last: 0, by_old: HashMap::new() };
    let mut schema = table.schema.clone();
    schema.fields = ids.fields(&table.schema.fields)?;
    schema.renumber_identifiers(&ids.by_old).ok_or_else(|| invalid("an identifier field is no column"))?;
    let renumbered = |id: i32| {
        ids.by_old.get(&id).copied().ok_or_else(|| invalid(format!("there is no column with the id {id}")))
    };
    let mut spec = table.partition_spec.clone().unwrap_or_default();
    for field in &mut spec.fields {
        field.source_id = renumbered(field.source_id)?;
        field.field_id = None;
    }
    let mut order = table.write_order.clone().unwrap_or(SortOrder { order_id: 0, fields: Vec::new() });
    for field in &mut order.fields {
        let id = field["source-id"].as_i64().and_then(|id| i32::try_from(id).ok());
        field["source-id"] = Value::from(renumbered(id.unwrap_or(-1))?);
    }
    Ok(vec![
        Update::AssignUuid { uuid: uuid.to_owned() },
        Update::AddSchema { schema },
        Update::SetCurrentSchema { schema_id: -1 },
        Update::AddSpec { spec },
        Update::SetDefaultSpec { spec_id: -1 },
        Update::AddSortOrder { sort_order: order },
        Update::SetDefaultSortOrder { sort_order_id: -1 },
        Update::SetProperties { updates: table.properties.clone() },
    ])
}

/// Refuses a schema in which an id or a name occurs twice, or a column has a default.
pub(super) fn ensure_sound(schema: &Schema) -> Result<()> {
    let mut ids = HashSet::new();
    ensure_distinct(&schema.fields, &mut ids)
}

fn ensure_distinct(fields: &[Field], ids: &mut HashSet<i32>) -> Result<()> {
    let mut names = HashSet::new();
    for field in fields {
        if !names.insert(&field.name) {
            return Err(Error::AlreadyExists { kind: "column", name: field.name.clone() });
        }
        if let Some(default) = field.rest.keys().find(|key| key.ends_with("-default")) {
            let message = format!("column \"{}\" with {default}: Iceberg format version 3", field.name);
            return Err(Error::Unsupported(message));
        }
        take_id(field.id, ids)?;
        ensure_distinct_within(&field.kind, ids)?;
    }
    Ok(())
}

fn ensure_distinct_within(kind: &Type, ids: &mut HashSet<i32>) -> Result<()> {
    match kind {
        Type::Primitive(_) => Ok(()),
        Type::Nested(Nested::Struct { fields }) => ensure_distinct(fields, ids),
        Type::Nested(Nested::List { element_id, element, .. }) => {
            take_id(*element_id, ids)?;
            ensure_distinct_within(element, ids)
        }
        Type::Nested(Nested::Map { key_id, key, value_id, value, .. }) => {
            take_id(*key_id, ids)?;
            take_id(*value_id, ids)?;
            ensure_distinct_within(key, ids)?;
            ensure_distinct_within(value, ids)
        }
    }
}

fn take_id(id: i32, ids: &mut HashSet<i32>) -> Result<()> {
    match (1..=ID_MAX).contains(&id) && ids.insert(id) {
        true => Ok(()),
        false => Err(invalid(format!("the field id {id} is not between 1 and {ID_MAX}, or occurs twice"))),
    }
}

/// Numbers fields from 1: a level's fields first, then theirs.
struct FreshIds {
    last: i32,
    by_old: HashMap<i32, i32>,
}

impl FreshIds {
    fn next(&mut self, old: i32) -> Result<i32> {
        self.last += 1;
        match self.by_old.insert(old, self.last) {
            None => Ok(self.last),
            Some(_) => Err(invalid(format!("the field id {old} occurs twice"))),
        }
    }

    fn fields(&mut self, fields: &[Field]) -> Result<Vec<Field>> {
        let ids = fields.iter().map(|field| self.next(field.id)).collect::<Result<Vec<_>>>()?;
        let numbered = ids.into_iter().zip(fields);
        numbered.map(|(id, field)| Ok(Field { id, kind: self.kind(&field.kind)?, ..field.clone() })).collect()
    }

    fn kind(&mut self, kind: &Type) -> Result<Type> {
        Ok(match kind {
            Type::Primitive(primitive) => Type::Primitive(*primitive),
            Type::Nested(Nested::Struct { fields }) => {
                Type::Nested(Nested::Struct { fields: self.fields(fields)? })
            }
            Type::Nested(Nested::List { element_id, element_required, element }) => {
                let element_id = self.next(*element_id)?;
                let element = Box::new(self.kind(element)?);
                Type::Nested(Nested::List { element_id, element_required: *element_required, element })
            }
            Type::Nested(Nested::Map { key_id, key, value_id, value_required, value }) => {
                let (key_id, value_id) = (self.next(*key_id)?, self.next(*value_id)?);
                Type::Nested(Nested::Map {
                    key_id,
                    key: Box::new(self.kind(key)?),
                    value_id,
                    value_required: *value_required,
                    value: Box::new(self.kind(value)?),
                })
            }
        })
    }
}
