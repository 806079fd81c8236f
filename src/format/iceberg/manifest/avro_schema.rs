//! The Avro schema of a manifest, which depends on the types of the partition values.
//!
//! Source: <https://iceberg.apache.org/spec/#avro>

use serde_json::{Value, json};

use super::id;
use crate::format::iceberg::metadata::PartitionColumn;
use crate::format::iceberg::schema::Primitive;

/// Returns the schema of one row; fields stand in the order in which rows are encoded.
pub(super) fn manifest_entry(partition: &[PartitionColumn]) -> Value {
    json!({"type": "record", "name": "manifest_entry", "fields": [
        required("status", id::STATUS, json!("int")),
        optional("snapshot_id", id::SNAPSHOT_ID, json!("long")),
        optional("sequence_number", id::SEQUENCE_NUMBER, json!("long")),
        optional("file_sequence_number", id::FILE_SEQUENCE_NUMBER, json!("long")),
        required("data_file", id::DATA_FILE, data_file(partition)),
    ]})
}

fn data_file(partition: &[PartitionColumn]) -> Value {
    let tuple: Vec<_> = partition
        .iter()
        .map(|column| optional(&avro_name(&column.name), column.field_id, primitive(column)))
        .collect();
    json!({"type": "record", "name": "r2", "fields": [
        required("content", id::CONTENT, json!("int")),
        required("file_path", id::FILE_PATH, json!("string")),
        required("file_format", id::FILE_FORMAT, json!("string")),
        required("partition", id::PARTITION, json!({"type": "record", "name": "r102", "fields": tuple})),
        required("record_count", id::RECORD_COUNT, json!("long")),
        required("file_size_in_bytes", id::FILE_SIZE, json!("long")),
        optional("column_sizes", id::COLUMN_SIZES, map(117, 118, "long")),
        optional("value_counts", id::VALUE_COUNTS, map(119, 120, "long")),
        optional("null_value_counts", id::NULL_VALUE_COUNTS, map(121, 122, "long")),
        optional("nan_value_counts", id::NAN_VALUE_COUNTS, map(138, 139, "long")),
        optional("lower_bounds", id::LOWER_BOUNDS, map(126, 127, "bytes")),
        optional("upper_bounds", id::UPPER_BOUNDS, map(129, 130, "bytes")),
        optional("key_metadata", id::KEY_METADATA, json!("bytes")),
        optional("split_offsets", id::SPLIT_OFFSETS, array(133, "long")),
        optional("equality_ids", id::EQUALITY_IDS, array(136, "int")),
        optional("sort_order_id", id::SORT_ORDER_ID, json!("int")),
    ]})
}

fn required(name: &str, id: i32, kind: Value) -> Value {
    json!({"name": name, "type": kind, "field-id": id})
}

fn optional(name: &str, id: i32, kind: Value) -> Value {
    json!({"name": name, "type": ["null", kind], "default": null, "field-id": id})
}

/// Avro's maps have strings for keys, so Iceberg writes a map of ints as an array of pairs.
fn map(key_id: i32, value_id: i32, value: &str) -> Value {
    json!({"type": "array", "logicalType": "map", "items": {
    "type": "record", "name": format!("k{key_id}_v{value_id}"), "fields": [
        required("key", key_id, json!("int")),
        required("value", value_id, json!(value)),
    ]}})
}

fn array(element_id: i32, element: &str) -> Value {
    json!({"type": "array", "items": element, "element-id": element_id})
}

/// Named types carry the field's id, because a name must not be defined twice.
fn primitive(column: &PartitionColumn) -> Value {
    let id = column.field_id;
    match column.kind {
        Primitive::Boolean => json!("boolean"),
        Primitive::Int => json!("int"),
        Primitive::Long => json!("long"),
        Primitive::Float => json!("float"),
        Primitive::Double => json!("double"),
        Primitive::Date => json!({"type": "int", "logicalType": "date"}),
        Primitive::Time => json!({"type": "long", "logicalType": "time-micros"}),
        Primitive::Timestamp => {
            json!({"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": false})
        }
        Primitive::TimestampTz => {
            json!({"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": true})
        }
        Primitive::String => json!("string"),
        Primitive::Binary => json!("bytes"),
        Primitive::Uuid => {
            json!({"type": "fixed", "name": format!("uuid_{id}"), "size": 16, "logicalType": "uuid"})
        }
        Primitive::Fixed(length) => json!({"type": "fixed", "name": format!("fixed_{id}"), "size": length}),
        Primitive::Decimal { precision, scale } => json!({
            "type": "fixed", "name": format!("decimal_{id}"), "size": decimal_bytes(precision),
            "logicalType": "decimal", "precision": precision, "scale": scale}),
    }
}

/// Returns the fewest bytes of two's complement that hold every decimal of `precision` digits.
pub(super) fn decimal_bytes(precision: u8) -> usize {
    let largest = 10i128.pow(precision.into()) - 1;
    let bits = 128 - largest.leading_zeros() + 1;
    bits.div_ceil(8) as usize
}

/// Spells a name with the letters that Avro allows: others become `_x` and their code point, as
/// Iceberg's own library does it. Readers find the field by its id.
fn avro_name(name: &str) -> String {
    let mut spelled = String::with_capacity(name.len());
    for (at, c) in name.chars().enumerate() {
        match c {
            'a'..='z' | 'A'..='Z' | '_' => spelled.push(c),
            '0'..='9' if at > 0 => spelled.push(c),
            '0'..='9' => spelled.extend(['_', c]),
            other => spelled.push_str(&format!("_x{:X}", u32::from(other))),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_as_few_bytes_as_the_specification_says() {
        let bytes: Vec<usize> = [1, 2, 3, 4, 9, 10, 18, 19, 38].map(decimal_bytes).into();
        assert_eq!(bytes, [1, 1, 2, 2, 4, 5, 8, 9, 16]);
    }

    #[test]
    fn partition_names_become_avro_names() {
        assert_eq!(avro_name("ship date-1"), "ship_x20date_x2D1");
        assert_eq!(avro_name("9lives"), "_9lives");
    }
}
