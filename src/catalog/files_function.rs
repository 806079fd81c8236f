//! Files by name: `read_parquet('…')`, `read_csv('…')`, `read_json('…')` and `FROM 's3://…/x.parquet'`.
//!
//! SQL reads files under a root of a catalog, or under a location that the configuration allows, and
//! no others. A relative path is one below the root of the session's catalog.

use datafusion::catalog::Session;

use crate::error::{Error, Result};
use crate::format::Snapshot;
use crate::format::files::extension::{Compression, FileKind};
use crate::format::files::{FilePattern, FileSet, OpenFiles, Partitions};
use crate::storage::Location;

/// The functions that read files, and what they take them for.
const FUNCTIONS: [(&str, FileKind); 6] = [
    ("read_parquet", FileKind::Parquet),
    ("read_csv", FileKind::Csv),
    ("read_json", FileKind::Json),
    ("read_ndjson", FileKind::Json),
    ("read_avro", FileKind::Avro),
    ("read_arrow", FileKind::Arrow),
];

/// Where SQL may read files.
#[derive(Debug, Clone, Copy)]
pub struct Readable<'a> {
    /// The root of the session's catalog: relative paths start here.
    pub root: Option<&'a Location>,
    /// All roots and allowed locations.
    pub locations: &'a [Location],
}

/// The files that a statement names.
#[derive(Debug, Clone)]
pub struct FilesCall<'a> {
    /// What the function takes them for; `None` for `FROM 'path'`, where extensions say it.
    pub kind: Option<FileKind>,
    /// A URL, a path or a pattern.
    pub path: &'a str,
    /// Named arguments, as text.
    pub arguments: &'a [(String, String)],
}

/// What the function of that name takes files for; `None` for other functions.
pub fn function_kind(name: &str) -> Option<FileKind> {
    FUNCTIONS.iter().find(|(function, _)| function.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
}

/// Pins the files that `call` names.
///
/// # Errors
/// [`Error::PermissionDenied`] for files that may not be read, [`Error::FileNotFound`] for files that
/// do not exist, [`Error::InvalidParameter`] for unknown arguments, and those of
/// [`OpenFiles::snapshot`].
pub async fn snapshot(
    state: &dyn Session,
    files: &OpenFiles,
    readable: Readable<'_>,
    call: &FilesCall<'_>,
) -> Result<Snapshot> {
    let (location, pattern) = resolve(readable, call.path)?;
    let mut set = FileSet { kind: call.kind, ..FileSet::new(pattern) };
    for (name, value) in call.arguments {
        apply(&mut set, &name.to_lowercase(), value)?;
    }
    files.snapshot(state, location, &set).await
}

/// Finds the location below which a path lies, and what it names there.
///
/// # Errors
/// [`Error::PermissionDenied`] when it lies below none.
pub fn resolve<'a>(readable: Readable<'a>, path: &str) -> Result<(&'a Location, FilePattern)> {
    let refused = || {
        let message = format!("\"{path}\" lies neither under a catalog's root nor in an allowed location");
        Error::PermissionDenied(message)
    };
    if !path.contains("://") && !path.starts_with('/') {
        let root = readable.root.ok_or_else(refused)?;
        return Ok((root, FilePattern::parse(root, path)?));
    }
    let mut found: Vec<_> = readable.root.into_iter().chain(readable.locations).collect();
    found.sort_by_key(|location| std::cmp::Reverse(location.url.len()));
    let parsed = |location: &'a Location| Some((location, FilePattern::parse(location, path).ok()?));
    found.into_iter().find_map(parsed).ok_or_else(refused)
}

fn apply(set: &mut FileSet, name: &str, value: &str) -> Result<()> {
    match name {
        "hive_partitioning" => {
            let on = matches!(value.to_lowercase().as_str(), "true" | "t" | "on" | "yes" | "1");
            set.partitions = if on { Partitions::Discovered } else { Partitions::Ignored };
        }
        "compression" => set.compression = Some(compression(value)?),
        _ if set.kind == Some(FileKind::Csv) => set.options.set(name, value)?,
        _ => {
            let files = set.kind.map_or("these", FileKind::name);
            return Err(Error::InvalidParameter(format!(
                "{files} files are read without an option \"{name}\""
            )));
        }
    }
    Ok(())
}

fn compression(value: &str) -> Result<Compression> {
    match value.to_lowercase().as_str() {
        "none" | "uncompressed" => Ok(Compression::None),
        "gzip" | "gz" => Ok(Compression::Gzip),
        "zstd" | "zst" => Ok(Compression::Zstd),
        "bzip2" | "bz2" => Ok(Compression::Bzip2),
        "xz" => Ok(Compression::Xz),
        _ => Err(Error::InvalidParameter(format!("unknown compression \"{value}\""))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::format::files::listing::ListingLimits;
    use crate::format::files::testing::{TestLake, location};

    fn call<'a>(kind: Option<FileKind>, path: &'a str, arguments: &'a [(String, String)]) -> FilesCall<'a> {
        FilesCall { kind, path, arguments }
    }

    #[test]
    fn the_innermost_location_serves_a_url() {
        let at = |prefix: &str| location("s3://bucket/", prefix, Arc::new(InMemory::new()));
        let locations = [at("lake"), at("lake/inner"), at("shared")];
        let readable = Readable { root: Some(&locations[0]), locations: &locations };
        let found = |path: &str| resolve(readable, path).map(|(location, _)| location.prefix.to_string());
        assert_eq!(found("s3://bucket/lake/inner/x.csv").unwrap(), "lake/inner");
        assert_eq!(found("s3://bucket/shared/x.csv").unwrap(), "shared");
        assert_eq!(found("x.csv").unwrap(), "lake");
        let rootless = Readable { root: None, ..readable };
        for (readable, path) in [
            (readable, "s3://bucket/secret/x.csv"),
            (readable, "../shared/x.csv"),
            (readable, "/etc/passwd"),
            (rootless, "x.csv"),
        ] {
            assert_eq!(resolve(readable, path).unwrap_err().sqlstate(), "42501", "{path}");
        }
    }

    #[tokio::test]
    async fn named_arguments_say_how_to_read() {
        let lake = TestLake::new();
        lake.put("in/k=1/odd.txt", "a;b\n1;-\n2;x\n").await;
        let state = lake.context.state();
        let files = OpenFiles::new(ListingLimits::default());
        let readable = Readable { root: Some(&lake.location), locations: &[] };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let arguments = [pair("delim", ";"), pair("NULLSTR", "-")];
        let csv = Some(FileKind::Csv);
        let found = snapshot(&state, &files, readable, &call(csv, "in/*/*.txt", &arguments)).await.unwrap();
        let names: Vec<_> = found.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a", "b", "k"]);
        let without = [pair("hive_partitioning", "false")];
        let found = snapshot(&state, &files, readable, &call(csv, "in/*/*.txt", &without)).await.unwrap();
        assert_eq!(found.schema.fields().len(), 1);
        let unknown = [pair("colour", "red")];
        for kind in [csv, Some(FileKind::Parquet), None] {
            let error = snapshot(&state, &files, readable, &call(kind, "in/k=1/odd.txt", &unknown)).await;
            assert_eq!(error.unwrap_err().sqlstate(), "22023");
        }
        let absent = snapshot(&state, &files, readable, &call(csv, "in/none.csv", &[])).await;
        assert_eq!(absent.unwrap_err().sqlstate(), "58P01");
    }
}
