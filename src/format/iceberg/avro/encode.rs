//! Encoding: rows, written field by field in the order of a schema, as a deflated container.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::Value as Json;
use uuid::Uuid;

use super::MAGIC;

/// A block ends when it holds this much before compression.
const BLOCK_BYTES: usize = 64 << 10;

/// One row, or a part of it, as Avro's bytes.
#[derive(Debug, Default)]
pub(in super::super) struct Row(Vec<u8>);

impl Row {
    /// Appends an int or a long.
    pub fn long(&mut self, value: i64) {
        let mut bits = ((value << 1) ^ (value >> 63)) as u64;
        while bits >= 0x80 {
            self.0.push(bits as u8 | 0x80);
            bits >>= 7;
        }
        self.0.push(bits as u8);
    }

    pub fn boolean(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub fn float(&mut self, value: f32) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn double(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    /// Appends a string or bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.long(value.len() as i64);
        self.0.extend(value);
    }

    pub fn fixed(&mut self, value: &[u8]) {
        self.0.extend(value);
    }

    /// Appends a union of null and another type, in this order.
    pub fn optional<T>(&mut self, value: Option<T>, some: impl FnOnce(&mut Self, T)) {
        self.long(i64::from(value.is_some()));
        if let Some(value) = value {
            some(self, value);
        }
    }

    pub fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        if !items.is_empty() {
            self.long(items.len() as i64);
            items.iter().for_each(|value| item(self, value));
        }
        self.long(0);
    }
}

/// Writes `rows`, encoded for `schema`, into a container with `metadata` in its header.
pub(in super::super) fn write(
    schema: &Json,
    metadata: &[(&str, String)],
    rows: impl Iterator<Item = Row>,
) -> Vec<u8> {
    let marker = *Uuid::new_v4().as_bytes();
    let mut file = header(schema, metadata, &marker);
    let (mut block, mut count) = (Vec::new(), 0);
    for row in rows {
        block.extend(row.0);
        count += 1;
        if block.len() >= BLOCK_BYTES {
            end_block(&mut file, &mut block, &mut count, &marker);
        }
    }
    end_block(&mut file, &mut block, &mut count, &marker);
    file.0
}

fn header(schema: &Json, metadata: &[(&str, String)], marker: &[u8; 16]) -> Row {
    let mut entries = vec![("avro.schema", schema.to_string()), ("avro.codec", "deflate".to_owned())];
    entries.extend(metadata.iter().cloned());
    let mut header = Row(MAGIC.to_vec());
    header.array(&entries, |header, (key, value)| {
        header.bytes(key.as_bytes());
        header.bytes(value.as_bytes());
    });
    header.fixed(marker);
    header
}

fn end_block(file: &mut Row, block: &mut Vec<u8>, count: &mut i64, marker: &[u8; 16]) {
    if *count == 0 {
        return;
    }
    file.long(*count);
    file.bytes(&deflate(block));
    file.fixed(marker);
    block.clear();
    *count = 0;
}

fn deflate(block: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(block)
        .and_then(|()| encoder.finish())
        .expect("a vector takes all that is written to it")
}
