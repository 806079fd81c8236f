//! Arrow and Iceberg: which column types a table stores, and what they are in memory.
//!
//! Iceberg has fewer types than Arrow, so a column of a query's output is stored as the narrowest
//! Iceberg type that holds all its values (microseconds being the finest time). Strings and bytes
//! come back as views at the top level, as DataFusion's Parquet source decodes them fastest; within
//! nested types they are plain, because the source coerces only whole columns to views.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{self, DataType, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::metadata::TableMetadata;
use super::schema::{Field, Nested, Primitive, Schema, Type};
use crate::error::{Error, Result};

/// The metadata key of an Arrow field that holds the column's comment.
pub const COMMENT_KEY: &str = "comment";

/// Arrow's key and name for "these 16 bytes are a UUID".
const EXTENSION_KEY: &str = "ARROW:extension:name";
const UUID_EXTENSION: &str = "arrow.uuid";

const DECIMAL_PRECISION_MAX: u8 = 38;

/// Returns what a table created from rows of `schema` stores: the types it falls back to, and the
/// field ids that [`Change::Create`](super::Change::Create) will assign, under Parquet's key.
///
/// Names, order, nullability and comments stay as they are. Integers of 8 and 16 bits become `Int32`,
/// `UInt32` becomes `Int64`, `UInt64` becomes `Decimal128(20, 0)`, `Float16` becomes `Float32`, times
/// are cut to microseconds, and a column that is only null is text, as in Postgres.
///
/// # Errors
/// [`Error::Unsupported`] names a column of a type that Iceberg cannot hold, such as an interval;
/// [`Error::AlreadyExists`] names a column that occurs twice.
pub fn storable_schema(schema: &datatypes::Schema) -> Result<datatypes::Schema> {
    Ok(to_arrow(&with_fresh_ids(schema, 0)?))
}

/// Returns what the table of `base` stores when it is replaced by one of `schema`: as
/// [`storable_schema`], but with field ids that the table has never used, unless nothing changes.
///
/// # Errors
/// As [`storable_schema`].
pub fn replacement_schema(base: &TableMetadata, schema: &datatypes::Schema) -> Result<datatypes::Schema> {
    Ok(to_arrow(&replacement(base, schema)?))
}

/// Returns the columns of `metadata`'s current schema as SQL sees them.
///
/// Every field carries its id under `PARQUET:field_id`, by which other engines find it in the files,
/// and a column's comment stands under [`COMMENT_KEY`].
pub fn arrow_schema(metadata: &TableMetadata) -> datatypes::SchemaRef {
    Arc::new(to_arrow(metadata.current_schema()))
}

/// The id by which a column, or a field within one, is known.
pub fn field_id(field: &datatypes::Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

pub(super) fn replacement(base: &TableMetadata, schema: &datatypes::Schema) -> Result<Schema> {
    let current = base.current_schema();
    let first_id = current.fields.first().map_or(1, |field| field.id);
    let unchanged = with_fresh_ids(schema, first_id - 1)?;
    if unchanged.fields == current.fields {
        return Ok(unchanged);
    }
    with_fresh_ids(schema, base.last_column_id)
}

/// The Iceberg schema of `schema`, its ids following `last_id`: a level's fields first, then theirs.
pub(super) fn with_fresh_ids(schema: &datatypes::Schema, last_id: i32) -> Result<Schema> {
    let mut names = HashSet::new();
    if let Some(twice) = schema.fields().iter().find(|field| !names.insert(field.name())) {
        return Err(Error::AlreadyExists { kind: "column", name: twice.name().clone() });
    }
    let fields = Ids { last: last_id, column: "" }.fields(schema.fields())?;
    Ok(Schema::new(fields))
}

struct Ids<'a> {
    last: i32,
    /// The top-level column that errors name.
    column: &'a str,
}

impl<'a> Ids<'a> {
    fn next(&mut self) -> i32 {
        self.last += 1;
        self.last
    }

    fn fields(&mut self, fields: &'a datatypes::Fields) -> Result<Vec<Field>> {
        let ids: Vec<i32> = fields.iter().map(|_| self.next()).collect();
        let top = self.column.is_empty();
        ids.into_iter()
            .zip(fields)
            .map(|(id, field)| {
                if top {
                    self.column = field.name();
                }
                Ok(Field {
                    id,
                    name: field.name().clone(),
                    required: !field.is_nullable() && field.data_type() != &DataType::Null,
                    kind: self.kind(field.data_type())?,
                    doc: field.metadata().get(COMMENT_KEY).cloned(),
                    rest: serde_json::Map::new(),
                })
            })
            .collect()
    }

    fn kind(&mut self, data_type: &'a DataType) -> Result<Type> {
        match data_type {
            DataType::Dictionary(_, value) => self.kind(value),
            DataType::RunEndEncoded(_, value) => self.kind(value.data_type()),
            DataType::Struct(fields) => Ok(Type::Nested(Nested::Struct { fields: self.fields(fields)? })),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => self.list(item),
            DataType::Map(entries, _) => self.map(entries),
            other => primitive(other).map(Type::Primitive).ok_or_else(|| self.unsupported(other)),
        }
    }

    fn list(&mut self, item: &'a datatypes::Field) -> Result<Type> {
        let element_id = self.next();
        let element = Box::new(self.kind(item.data_type())?);
        Ok(Type::Nested(Nested::List { element_id, element_required: !item.is_nullable(), element }))
    }

    fn map(&mut self, entries: &'a datatypes::Field) -> Result<Type> {
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(self.unsupported(entries.data_type()));
        };
        let [key, value] = fields.as_ref() else {
            return Err(self.unsupported(entries.data_type()));
        };
        let (key_id, value_id) = (self.next(), self.next());
        Ok(Type::Nested(Nested::Map {
            key_id,
            key: Box::new(self.kind(key.data_type())?),
            value_id,
            value_required: !value.is_nullable(),
            value: Box::new(self.kind(value.data_type())?),
        }))
    }

    fn unsupported(&self, data_type: &DataType) -> Error {
        Error::Unsupported(format!("column \"{}\": a table cannot store type {data_type}", self.column))
    }
}

/// The primitive type that stores an Arrow type that is not nested.
pub(super) fn primitive(data_type: &DataType) -> Option<Primitive> {
    Some(match data_type {
        DataType::Boolean => Primitive::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            Primitive::Int
        }
        DataType::Int64 | DataType::UInt32 => Primitive::Long,
        DataType::UInt64 => Primitive::Decimal { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 => Primitive::Float,
        DataType::Float64 => Primitive::Double,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => decimal(*precision, *scale)?,
        DataType::Date32 | DataType::Date64 => Primitive::Date,
        DataType::Time32(_) | DataType::Time64(_) => Primitive::Time,
        DataType::Timestamp(_, None) => Primitive::Timestamp,
        DataType::Timestamp(_, Some(_)) => Primitive::TimestampTz,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Primitive::String,
        DataType::FixedSizeBinary(16) => Primitive::Uuid,
        DataType::FixedSizeBinary(length) => Primitive::Fixed(u32::try_from(*length).ok()?),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Primitive::Binary,
        _ => return None,
    })
}

fn decimal(precision: u8, scale: i8) -> Option<Primitive> {
    // A negative scale leaves out zeros at the end; Iceberg writes them.
    let precision = precision.checked_add(scale.min(0).unsigned_abs())?;
    let scale = scale.max(0).unsigned_abs();
    (precision <= DECIMAL_PRECISION_MAX && scale <= precision)
        .then_some(Primitive::Decimal { precision, scale })
}

pub(super) fn to_arrow(schema: &Schema) -> datatypes::Schema {
    datatypes::Schema::new(schema.fields.iter().map(|field| to_arrow_field(field, true)).collect::<Vec<_>>())
}

fn to_arrow_field(field: &Field, top: bool) -> datatypes::Field {
    let data_type = match &field.kind {
        Type::Primitive(primitive) if top => primitive.data_type(),
        kind => nested_type(kind),
    };
    let mut column = numbered(&field.name, field.id, data_type, !field.required);
    let metadata = column.metadata_mut();
    if let Some(doc) = &field.doc {
        metadata.insert(COMMENT_KEY.to_owned(), doc.clone());
    }
    if field.primitive() == Some(Primitive::Uuid) {
        metadata.insert(EXTENSION_KEY.to_owned(), UUID_EXTENSION.to_owned());
    }
    column
}

/// The Arrow type of a value within a nested type, or of a nested type.
fn nested_type(kind: &Type) -> DataType {
    match kind {
        Type::Primitive(Primitive::String) => DataType::Utf8,
        Type::Primitive(Primitive::Binary) => DataType::Binary,
        Type::Primitive(primitive) => primitive.data_type(),
        Type::Nested(Nested::Struct { fields }) => {
            DataType::Struct(fields.iter().map(|field| to_arrow_field(field, false)).collect())
        }
        Type::Nested(Nested::List { element_id, element_required, element }) => DataType::List(Arc::new(
            numbered("element", *element_id, nested_type(element), !element_required),
        )),
        Type::Nested(Nested::Map { key_id, key, value_id, value_required, value }) => {
            let key = numbered("key", *key_id, nested_type(key), false);
            let value = numbered("value", *value_id, nested_type(value), !value_required);
            let entries = DataType::Struct(vec![key, value].into());
            DataType::Map(Arc::new(datatypes::Field::new("key_value", entries, false)), false)
        }
    }
}

fn numbered(name: &str, id: i32, data_type: DataType, nullable: bool) -> datatypes::Field {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    datatypes::Field::new(name, data_type, nullable).with_metadata(metadata)
}

impl Primitive {
    /// Returns the Arrow type of a top-level column of this type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::String => DataType::Utf8View,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Fixed(length) => DataType::FixedSizeBinary(length as i32),
            Self::Binary => DataType::BinaryView,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(data_type: DataType) -> Result<DataType> {
        let schema = datatypes::Schema::new(vec![datatypes::Field::new("c", data_type, true)]);
        Ok(storable_schema(&schema)?.field(0).data_type().clone())
    }

    #[test]
    fn every_type_is_stored_as_one_that_holds_its_values() {
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        let nanos = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
        let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8));
        for (given, wanted) in [
            (DataType::Int8, DataType::Int32),
            (DataType::UInt16, DataType::Int32),
            (DataType::UInt32, DataType::Int64),
            (DataType::UInt64, DataType::Decimal128(20, 0)),
            (DataType::Float16, DataType::Float32),
            (DataType::Null, DataType::Utf8View),
            (dictionary, DataType::Utf8View),
            (DataType::Date64, DataType::Date32),
            (DataType::Time32(TimeUnit::Second), DataType::Time64(TimeUnit::Microsecond)),
            (nanos(None), micros(None)),
            (nanos(Some("Europe/Berlin")), micros(Some("UTC"))),
            (DataType::Decimal256(38, 4), DataType::Decimal128(38, 4)),
            (DataType::Decimal128(5, -2), DataType::Decimal128(7, 0)),
            (DataType::FixedSizeBinary(16), DataType::FixedSizeBinary(16)),
            (DataType::LargeBinary, DataType::BinaryView),
        ] {
            assert_eq!(stored(given.clone()).unwrap(), wanted, "{given}");
        }
        for refused in [
            DataType::Interval(datatypes::IntervalUnit::MonthDayNano),
            DataType::Duration(TimeUnit::Second),
            DataType::Decimal256(39, 0),
        ] {
            let error = stored(refused).unwrap_err();
            assert!(matches!(&error, Error::Unsupported(message) if message.contains("\"c\"")), "{error}");
        }
    }

    #[test]
    fn ids_go_level_by_level_and_a_stored_schema_is_a_fixed_point() {
        let point = DataType::Struct(vec![datatypes::Field::new("x", DataType::Float64, true)].into());
        let points = DataType::LargeList(Arc::new(datatypes::Field::new("item", point, true)));
        let comment = HashMap::from([(COMMENT_KEY.to_owned(), "how many".to_owned())]);
        let schema = datatypes::Schema::new(vec![
            datatypes::Field::new("points", points, true),
            datatypes::Field::new("n", DataType::Int64, false).with_metadata(comment.clone()),
        ]);
        let ids = with_fresh_ids(&schema, 0).unwrap();
        let ids_json = serde_json::to_string(&ids.fields).unwrap();
        assert_eq!(
            ids_json,
            r#"[{"id":1,"name":"points","required":false,"type":{"type":"list","element-id":3,"element-required":false,"element":{"type":"struct","fields":[{"id":4,"name":"x","required":false,"type":"double"}]}}},{"id":2,"name":"n","required":true,"type":"long","doc":"how many"}]"#
        );
        let stored = storable_schema(&schema).unwrap();
        assert_eq!(stored.field(1).metadata()[PARQUET_FIELD_ID_META_KEY], "2");
        assert_eq!(stored.field(1).metadata()[COMMENT_KEY], "how many");
        assert_eq!(storable_schema(&stored).unwrap(), stored);
    }

    #[test]
    fn a_column_name_that_occurs_twice_is_refused() {
        let column = || datatypes::Field::new("a", DataType::Int32, true);
        let error = storable_schema(&datatypes::Schema::new(vec![column(), column()])).unwrap_err();
        assert_eq!(error.sqlstate(), "42701");
    }
}
