//! Avro: the container in which Iceberg keeps its manifests, a schema as JSON and rows in blocks.
//!
//! This module decodes rows by the schema that stands in a file, whatever its order of fields, and
//! encodes rows for a schema that the caller knows. What the fields mean is decided in
//! [`manifest`](super::manifest) and [`manifest_list`](super::manifest_list).
//!
//! It is our own because the `apache-avro` crate (0.21) reads and writes a `fixed` of logical type
//! `uuid` with a length before it, which no other Iceberg reader does, and because decoding by
//! position instead of by name is what makes a manifest of thousands of files cheap.
//!
//! Source: <https://avro.apache.org/docs/1.12.0/specification/>

mod decode;
mod encode;

pub(super) use decode::{Columns, Value, read};
pub(super) use encode::{Row, write};

const MAGIC: &[u8; 4] = b"Obj\x01";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_survive_blocks_and_optionals() {
        let schema = json!({"type": "record", "name": "row", "fields": [
            {"name": "id", "type": "long", "field-id": 1},
            {"name": "name", "type": ["null", "string"], "field-id": 2},
            {"name": "key", "type": {"type": "fixed", "name": "key", "size": 4, "logicalType": "uuid"}, "field-id": 3},
            {"name": "sizes", "field-id": 4, "type": {"type": "array", "logicalType": "map", "items":
                {"type": "record", "name": "k1_v2", "fields": [
                    {"name": "key", "type": "int", "field-id": 5},
                    {"name": "value", "type": "double", "field-id": 6}]}}},
        ]});
        let rows = (0..20_000i64).map(|id| {
            let mut row = Row::default();
            row.long(id - 10_000);
            row.optional((id % 2 == 0).then_some("even"), |row, text| row.bytes(text.as_bytes()));
            row.fixed(&[1, 2, 3, 4]);
            row.array(&[(7, 0.5f64)], |row, (key, value)| {
                row.long(*key);
                row.double(*value);
            });
            row
        });
        let bytes = write(&schema, &[("note", "yes".to_owned())], rows);
        assert!(bytes.len() < 200_000, "blocks are deflated");

        let mut seen = 0i64;
        read(&bytes, |columns, mut row| {
            assert_eq!(columns.take(&mut row, 1), Value::Long(seen - 10_000));
            let name = if seen % 2 == 0 { Value::Bytes(b"even".to_vec()) } else { Value::Null };
            assert_eq!(columns.take(&mut row, 2), name);
            assert_eq!(columns.take(&mut row, 3), Value::Bytes(vec![1, 2, 3, 4]));
            let pair = Value::Record(vec![Value::Long(7), Value::Double(0.5)]);
            assert_eq!(columns.take(&mut row, 4), Value::Array(vec![pair]));
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 20_000);
    }

    #[test]
    fn a_cut_or_changed_file_is_an_error_and_never_a_panic() {
        let schema = json!({"type": "record", "name": "row", "fields": [
            {"name": "name", "type": "string", "field-id": 1}]});
        let row = |text: &str| {
            let mut row = Row::default();
            row.bytes(text.as_bytes());
            row
        };
        let bytes = write(&schema, &[], ["one", "two", "three"].map(row).into_iter());
        for end in 0..bytes.len() {
            let _ = read(&bytes[..end], |_, _| Ok(()));
            let mut changed = bytes.clone();
            changed[end] ^= 0x55;
            let _ = read(&changed, |_, _| Ok(()));
        }
        assert!(read(&bytes[..bytes.len() - 1], |_, _| Ok(())).is_err());
        assert!(read(b"PAR1", |_, _| Ok(())).is_err());
    }
}
