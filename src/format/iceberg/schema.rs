//! Schemas: the columns of an Iceberg table and their types, as they stand in its metadata.
//!
//! Source: <https://iceberg.apache.org/spec/#schemas-and-data-types>

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The key of a schema that names the columns that tell one row from another.
const IDENTIFIER_KEY: &str = "identifier-field-ids";

/// The columns of a table at some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Schema {
    #[serde(rename = "type")]
    tag: StructTag,
    #[serde(default)]
    pub schema_id: i32,
    pub fields: Vec<Field>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StructTag {
    Struct,
}

/// A column, or a field of a struct. Known by its id for ever, whatever its name becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    pub id: i32,
    pub name: String,
    /// Never null.
    pub required: bool,
    #[serde(rename = "type")]
    pub kind: Type,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Type {
    Primitive(Primitive),
    Nested(Nested),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "kebab-case")]
pub enum Nested {
    Struct { fields: Vec<Field> },
    List { element_id: i32, element_required: bool, element: Box<Type> },
    Map { key_id: i32, key: Box<Type>, value_id: i32, value_required: bool, value: Box<Type> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Primitive {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Date,
    Time,
    /// Microseconds, without and with a time zone.
    Timestamp,
    TimestampTz,
    String,
    Uuid,
    Fixed(u32),
    Binary,
}

impl Schema {
    pub fn new(fields: Vec<Field>) -> Self {
        Self { tag: StructTag::Struct, schema_id: 0, fields, rest: Map::new() }
    }

    /// Returns the top-level column of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns the primitive type of the field with this id, top-level or within structs.
    pub fn primitive(&self, id: i32) -> Option<Primitive> {
        primitive_of(&self.fields, id)
    }

    /// Whether it says the same as another, whatever the numbers of both.
    pub fn same_as(&self, other: &Self) -> bool {
        self.fields == other.fields && self.rest == other.rest
    }

    /// Gives the columns that identify a row their new ids; `None` where one has none.
    pub(super) fn renumber_identifiers(&mut self, ids: &HashMap<i32, i32>) -> Option<()> {
        if let Some(Value::Array(identifiers)) = self.rest.get_mut(IDENTIFIER_KEY) {
            for identifier in identifiers {
                let old = i32::try_from(identifier.as_i64()?).ok()?;
                *identifier = Value::from(*ids.get(&old)?);
            }
        }
        Some(())
    }

    /// Returns the ids of the columns that tell one row from another, where that is declared.
    fn identifier_ids(&self) -> Vec<i32> {
        let ids = self.rest.get(IDENTIFIER_KEY).and_then(Value::as_array);
        let ids = ids.into_iter().flatten().filter_map(Value::as_i64);
        ids.filter_map(|id| i32::try_from(id).ok()).collect()
    }

    /// Declares the columns that tell one row from another.
    pub(super) fn set_identifier_ids(&mut self, ids: &[i32]) {
        match ids.is_empty() {
            true => self.rest.remove(IDENTIFIER_KEY),
            false => self.rest.insert(IDENTIFIER_KEY.to_owned(), ids.into()),
        };
    }

    /// Takes the declaration back if a column of this id is part of it.
    pub(super) fn forget_identifier(&mut self, id: i32) {
        if self.identifier_ids().contains(&id) {
            self.set_identifier_ids(&[]);
        }
    }

    /// Returns a text that is the same for schemas of the same columns, in their order.
    pub(super) fn shape(&self) -> String {
        let column = |field: &Field| match field.primitive() {
            Some(kind) => format!("{}:{kind}", field.id),
            None => field.id.to_string(),
        };
        self.fields.iter().map(column).collect::<Vec<_>>().join(",")
    }

    /// Returns the largest field id, nested ones included.
    pub fn highest_id(&self) -> i32 {
        self.fields.iter().map(Field::highest_id).max().unwrap_or(0)
    }
}

fn primitive_of(fields: &[Field], id: i32) -> Option<Primitive> {
    fields.iter().find_map(|field| match &field.kind {
        Type::Primitive(primitive) => (field.id == id).then_some(*primitive),
        Type::Nested(Nested::Struct { fields }) => primitive_of(fields, id),
        Type::Nested(_) => None,
    })
}

impl Field {
    /// Returns the type of a column that is not nested.
    pub fn primitive(&self) -> Option<Primitive> {
        match &self.kind {
            Type::Primitive(primitive) => Some(*primitive),
            Type::Nested(_) => None,
        }
    }

    fn highest_id(&self) -> i32 {
        self.id.max(self.kind.highest_id())
    }
}

impl Type {
    fn highest_id(&self) -> i32 {
        match self {
            Self::Primitive(_) => 0,
            Self::Nested(Nested::Struct { fields }) => {
                fields.iter().map(Field::highest_id).max().unwrap_or(0)
            }
            Self::Nested(Nested::List { element_id, element, .. }) => (*element_id).max(element.highest_id()),
            Self::Nested(Nested::Map { key_id, key, value_id, value, .. }) => {
                (*key_id).max(*value_id).max(key.highest_id()).max(value.highest_id())
            }
        }
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int => f.write_str("int"),
            Self::Long => f.write_str("long"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision}, {scale})"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::TimestampTz => f.write_str("timestamptz"),
            Self::String => f.write_str("string"),
            Self::Uuid => f.write_str("uuid"),
            Self::Fixed(length) => write!(f, "fixed[{length}]"),
            Self::Binary => f.write_str("binary"),
        }
    }
}

impl FromStr for Primitive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            "binary" => Self::Binary,
            other => Self::sized(other).ok_or_else(|| format!("unknown type \"{other}\""))?,
        })
    }
}

impl Primitive {
    /// Reads `fixed[L]` and `decimal(P, S)`.
    fn sized(text: &str) -> Option<Self> {
        if let Some(length) = text.strip_prefix("fixed[") {
            return Some(Self::Fixed(length.strip_suffix(']')?.trim().parse().ok()?));
        }
        let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
        Some(Self::Decimal { precision: precision.trim().parse().ok()?, scale: scale.trim().parse().ok()? })
    }
}

impl From<Primitive> for String {
    fn from(primitive: Primitive) -> Self {
        primitive.to_string()
    }
}

impl TryFrom<String> for Primitive {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_the_specification_survives_reading_and_writing() {
        let json = serde_json::json!({
            "type": "struct", "schema-id": 3, "identifier-field-ids": [1],
            "fields": [
                {"id": 1, "name": "id", "required": true, "type": "uuid", "doc": "key", "initial-default": "x"},
                {"id": 2, "name": "price", "required": false, "type": "decimal(9, 2)"},
                {"id": 3, "name": "tags", "required": false, "type": {
                    "type": "map", "key-id": 4, "key": "string", "value-id": 5, "value-required": false,
                    "value": {"type": "list", "element-id": 6, "element-required": true, "element": "fixed[3]"}}},
                {"id": 7, "name": "at", "required": false, "type": {"type": "struct", "fields": [
                    {"id": 8, "name": "x", "required": false, "type": "double"}]}},
            ],
        });
        let schema: Schema = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(schema.primitive(8), Some(Primitive::Double));
        assert_eq!(schema.highest_id(), 8);
        assert_eq!(serde_json::to_value(&schema).unwrap(), json);
        assert!(serde_json::from_value::<Type>(serde_json::json!("geometry")).is_err());
    }
}
