//! Puffin: files of blobs that say more of a table than its manifests do.
//!
//! Blobs are written uncompressed, and read so.
//!
//! Source: <https://iceberg.apache.org/puffin-spec/>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const MAGIC: &[u8; 4] = b"PFA1";
/// Size of the payload, flags, magic.
const TAIL_BYTES: usize = 12;

/// One blob, and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Blob {
    pub kind: String,
    /// Ids of the columns that it is about.
    pub fields: Vec<i32>,
    pub snapshot_id: i64,
    pub sequence_number: i64,
    pub properties: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
}

/// A whole file, and the size of what stands behind the blobs.
pub(super) struct File {
    pub bytes: Vec<u8>,
    pub footer_bytes: usize,
}

#[derive(Serialize, Deserialize)]
struct Footer {
    blobs: Vec<BlobEntry>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BlobEntry {
    #[serde(rename = "type")]
    kind: String,
    fields: Vec<i32>,
    snapshot_id: i64,
    sequence_number: i64,
    offset: usize,
    length: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression_codec: Option<String>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

pub(super) fn write(blobs: &[Blob]) -> Result<File> {
    let mut bytes = MAGIC.to_vec();
    let mut entries = Vec::with_capacity(blobs.len());
    for blob in blobs {
        entries.push(BlobEntry {
            kind: blob.kind.clone(),
            fields: blob.fields.clone(),
            snapshot_id: blob.snapshot_id,
            sequence_number: blob.sequence_number,
            offset: bytes.len(),
            length: blob.bytes.len(),
            compression_codec: None,
            properties: blob.properties.clone(),
        });
        bytes.extend_from_slice(&blob.bytes);
    }
    let created_by = ("created-by".to_owned(), concat!("lacus ", env!("CARGO_PKG_VERSION")).to_owned());
    let footer = Footer { blobs: entries, properties: [created_by].into() };
    let payload = serde_json::to_vec(&footer).map_err(|error| Error::Internal(error.to_string()))?;
    let footer_at = bytes.len();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&payload);
    let size = i32::try_from(payload.len()).map_err(|error| Error::Internal(error.to_string()))?;
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(MAGIC);
    let footer_bytes = bytes.len() - footer_at;
    Ok(File { bytes, footer_bytes })
}

/// Reads the blobs that are not compressed.
///
/// # Errors
/// [`Error::CorruptFile`].
pub(super) fn read(url: &str, bytes: &[u8]) -> Result<Vec<Blob>> {
    let corrupt = |reason: &str| Error::CorruptFile { path: url.to_owned(), reason: reason.to_owned() };
    let ends_well = bytes.len() >= TAIL_BYTES && bytes.starts_with(MAGIC) && bytes.ends_with(MAGIC);
    let tail = bytes.len().checked_sub(TAIL_BYTES).filter(|_| ends_well);
    let tail = tail.ok_or_else(|| corrupt("it is no Puffin file"))?;
    let word = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if word(tail + 4) != 0 {
        return Err(Error::Unsupported("Puffin files with a compressed footer".to_owned()));
    }
    let payload = usize::try_from(word(tail)).ok().and_then(|size| bytes.get(tail.checked_sub(size)?..tail));
    let payload = payload.ok_or_else(|| corrupt("its footer is longer than the file"))?;
    let footer: Footer =
        serde_json::from_slice(payload).map_err(|error| corrupt(&format!("its footer: {error}")))?;
    let plain = footer.blobs.into_iter().filter(|entry| entry.compression_codec.is_none());
    let blob = |entry: BlobEntry| {
        let end = entry.offset.checked_add(entry.length);
        let content = end.and_then(|end| bytes.get(entry.offset..end));
        Ok(Blob {
            kind: entry.kind,
            fields: entry.fields,
            snapshot_id: entry.snapshot_id,
            sequence_number: entry.sequence_number,
            properties: entry.properties,
            bytes: content.ok_or_else(|| corrupt("a blob lies outside of the file"))?.to_vec(),
        })
    };
    plain.map(blob).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_come_back_as_they_went() {
        let blob = |id: i32, bytes: &[u8]| Blob {
            kind: "apache-datasketches-theta-v1".to_owned(),
            fields: vec![id],
            snapshot_id: 7,
            sequence_number: 3,
            properties: [("ndv".to_owned(), "2".to_owned())].into(),
            bytes: bytes.to_vec(),
        };
        let blobs = [blob(1, b"one"), blob(2, b"")];
        let file = write(&blobs).unwrap();
        assert_eq!(read("x", &file.bytes).unwrap(), blobs);
        assert!(file.bytes[file.bytes.len() - file.footer_bytes..].starts_with(MAGIC));
        for cut in [0, 3, 12, file.bytes.len() - 1] {
            assert!(read("x", &file.bytes[..cut]).is_err(), "{cut}");
        }
    }
}
