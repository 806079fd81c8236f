//! Samples: the first lines of text files, decompressed.
//!
//! Inference reads a bounded piece of a bounded number of files, however large they are.

use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::extension::Compression;
use super::footers::in_file;
use crate::error::{Error, Result};
use crate::storage::Location;

/// Bytes of a file that are read for its types.
pub const SAMPLE_BYTES: u64 = 256 * 1024;
/// Bytes of a file that are read for its header line.
pub const HEADER_BYTES: u64 = 16 * 1024;
/// A first line longer than this is an error.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes that a compressed sample may unfold to.
const UNFOLDED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How a line ends: outside of quotes, where the format has quotes.
#[derive(Debug, Clone, Copy)]
pub struct LineEnds {
    pub quote: Option<u8>,
}

/// Reads whole lines from the beginning of `object`, from `want_bytes` of it, or more where the first
/// line is longer; an empty sample is an empty file.
///
/// # Errors
/// [`Error::CorruptFile`] when the file cannot be decompressed, or has no line end in 16 MiB.
pub async fn first_lines(
    location: &Location,
    object: &ObjectMeta,
    compression: Compression,
    ends: LineEnds,
    want_bytes: u64,
) -> Result<Bytes> {
    let mut want_bytes = want_bytes;
    loop {
        let whole = want_bytes >= object.size;
        let bytes = location.store.get_range(&object.location, 0..want_bytes.min(object.size)).await?;
        let text = unfolded(bytes, compression, whole).map_err(|error| in_file(location, object, error))?;
        if whole && (text.len() as u64) < UNFOLDED_BYTES_MAX {
            return Ok(text);
        }
        if let Some(end) = ends.last_in(&text) {
            return Ok(text.slice(..end));
        }
        if want_bytes >= LINE_BYTES_MAX || whole {
            let reason = "its first line is longer than 16 MiB".to_owned();
            return Err(Error::CorruptFile { path: location.url_of(&object.location), reason });
        }
        want_bytes *= 8;
    }
}

/// Puts `bytes` into a store of its own, from where a format infers their schema.
pub async fn in_memory(bytes: Bytes) -> Result<(Arc<dyn ObjectStore>, ObjectMeta)> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let path = Path::from("sample");
    store.put(&path, bytes.into()).await?;
    let object = store.head(&path).await?;
    Ok((store, object))
}

impl LineEnds {
    /// The place behind the last line end.
    fn last_in(self, text: &[u8]) -> Option<usize> {
        let Some(quote) = self.quote else {
            return text.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        };
        let (mut inside, mut last) = (false, None);
        for (at, byte) in text.iter().enumerate() {
            if *byte == quote {
                inside = !inside;
            } else if *byte == b'\n' && !inside {
                last = Some(at + 1);
            }
        }
        last
    }

    /// The first line, its end included.
    pub fn first_of(self, text: &Bytes) -> Bytes {
        let (mut inside, mut end) = (false, text.len());
        for (at, byte) in text.iter().enumerate() {
            if Some(*byte) == self.quote {
                inside = !inside;
            } else if *byte == b'\n' && !inside {
                end = at + 1;
                break;
            }
        }
        text.slice(..end)
    }
}

/// Decompresses what can be decompressed of `bytes`; only a `whole` file must end well.
fn unfolded(bytes: Bytes, compression: Compression, whole: bool) -> Result<Bytes> {
    if compression == Compression::None {
        return Ok(bytes);
    }
    let corrupt = |reason: String| Error::CorruptFile { path: "unknown".to_owned(), reason };
    let kind = FileCompressionType::from(CompressionTypeVariant::from(compression));
    let reader = kind.convert_read(Cursor::new(bytes)).map_err(|error| corrupt(error.to_string()))?;
    let mut text = Vec::new();
    match reader.take(UNFOLDED_BYTES_MAX).read_to_end(&mut text) {
        Err(error) if whole || text.is_empty() => Err(corrupt(format!("{}: {error}", compression.name()))),
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_in_quotes_ends_no_line() {
        let text = Bytes::from_static(b"a,b\n1,\"x\ny\"\n2,\"z\n");
        let csv = LineEnds { quote: Some(b'"') };
        assert_eq!(csv.last_in(&text), Some(12));
        assert_eq!(csv.first_of(&text), "a,b\n");
        assert_eq!(LineEnds { quote: None }.last_in(&text), Some(17));
        assert_eq!(csv.last_in(b"\"open"), None);
    }
}
