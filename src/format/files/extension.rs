//! Extensions: what the name of a file says about its bytes.

use datafusion::common::parsers::CompressionTypeVariant;

/// How the bytes of a data file are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    Parquet,
    Csv,
    /// One JSON object a line.
    #[serde(alias = "jsonl", alias = "ndjson")]
    Json,
    Avro,
    /// Arrow IPC, file or stream.
    #[serde(alias = "ipc", alias = "feather")]
    Arrow,
}

/// What is wrapped around the bytes of a whole file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    #[serde(alias = "gz")]
    Gzip,
    #[serde(alias = "zst")]
    Zstd,
    #[serde(alias = "bz2")]
    Bzip2,
    Xz,
}

/// What an extension says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extension {
    pub kind: FileKind,
    pub compression: Compression,
    /// Columns are separated by tabs, as in `.tsv`.
    pub tabs: bool,
}

const KINDS: [(&str, FileKind); 11] = [
    ("parquet", FileKind::Parquet),
    ("pq", FileKind::Parquet),
    ("csv", FileKind::Csv),
    ("tsv", FileKind::Csv),
    ("json", FileKind::Json),
    ("jsonl", FileKind::Json),
    ("ndjson", FileKind::Json),
    ("avro", FileKind::Avro),
    ("arrow", FileKind::Arrow),
    ("ipc", FileKind::Arrow),
    ("feather", FileKind::Arrow),
];

const COMPRESSIONS: [(&str, Compression); 7] = [
    ("gz", Compression::Gzip),
    ("gzip", Compression::Gzip),
    ("zst", Compression::Zstd),
    ("zstd", Compression::Zstd),
    ("bz2", Compression::Bzip2),
    ("xz", Compression::Xz),
    ("lzma", Compression::Xz),
];

impl FileKind {
    /// The name of the format, as SQL and declarations write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Arrow => "arrow",
        }
    }

    /// Whether the file as a whole may be compressed; the other formats compress inside.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Json)
    }
}

impl Compression {
    /// The name of the compression, as SQL and declarations write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }
}

impl From<Compression> for CompressionTypeVariant {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::UNCOMPRESSED,
            Compression::Gzip => Self::GZIP,
            Compression::Zstd => Self::ZSTD,
            Compression::Bzip2 => Self::BZIP2,
            Compression::Xz => Self::XZ,
        }
    }
}

/// Recognises a file by its name; `None` where the name says nothing.
pub fn recognise(file_name: &str) -> Option<Extension> {
    split(file_name).map(|(_, extension)| extension)
}

/// The name of the table that a single file makes: `trips.csv.gz` is `trips`.
pub fn table_name(file_name: &str) -> Option<&str> {
    split(file_name).map(|(stem, _)| stem).filter(|stem| !stem.is_empty())
}

/// Names that begin with `_` or `.` are not data: markers, checksums, logs, files in the making.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

fn split(file_name: &str) -> Option<(&str, Extension)> {
    let (stem, last) = file_name.rsplit_once('.')?;
    if let Some(kind) = lookup(&KINDS, last) {
        let tabs = last.eq_ignore_ascii_case("tsv");
        return Some((stem, Extension { kind, compression: Compression::None, tabs }));
    }
    let compression = lookup(&COMPRESSIONS, last)?;
    let (stem, inner) = stem.rsplit_once('.')?;
    let kind = lookup(&KINDS, inner).filter(|kind| kind.is_text())?;
    Some((stem, Extension { kind, compression, tabs: inner.eq_ignore_ascii_case("tsv") }))
}

fn lookup<T: Copy>(table: &[(&str, T)], extension: &str) -> Option<T> {
    table.iter().find(|(name, _)| name.eq_ignore_ascii_case(extension)).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_format_and_compression() {
        let weather = recognise("weather.csv.GZ").unwrap();
        assert_eq!((weather.kind, weather.compression), (FileKind::Csv, Compression::Gzip));
        assert!(recognise("a.tsv.zst").unwrap().tabs);
        assert_eq!(recognise("part-0.zstd.parquet").unwrap().kind, FileKind::Parquet);
        assert_eq!(recognise("part-0.parquet.gz"), None);
        assert_eq!(recognise("README.md"), None);
        assert_eq!(recognise("csv"), None);
        assert_eq!(table_name("trips.2024.csv.gz"), Some("trips.2024"));
    }
}
