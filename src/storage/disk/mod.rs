//! Disk: a folder as an object store, with durable writes and symbolic links kept inside.
//!
//! `object_store` has a local store too; it follows links out of its root, and its creates survive no
//! power cut. Here every access goes through the canonical path and is refused when that leaves the
//! canonical root; how bytes become durable is decided in [`durable`], what a listing shows in
//! [`walk`].
//!
//! An object's path is its file's name as it is, without percent-encoding. All file calls run on
//! blocking threads of the I/O runtime.

mod durable;
mod upload;
mod walk;

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path as FsPath, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result,
};
use tokio::runtime::Handle;

use crate::error::Error;

const STORE: &str = "disk";
/// Files that are deleted at once.
const DELETES_MAX: usize = 10;

/// Serves the files below one folder.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    root: Root,
    io: Handle,
}

/// The canonical path of the folder. Nothing whose canonical path lies elsewhere is touched.
#[derive(Debug, Clone)]
struct Root(PathBuf);

impl Disk {
    /// Serves `root`, a canonical path.
    pub fn new(root: PathBuf, io: Handle) -> Self {
        Self { root: Root(root), io }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.root.clone();
        self.io.spawn_blocking(move || work(&root)).await?
    }
}

impl Root {
    fn join(&self, path: &Path) -> PathBuf {
        self.0.join(path.as_ref())
    }

    /// Returns the canonical path of an object that exists.
    ///
    /// # Errors
    /// `NotFound`, and `PermissionDenied` when it lies outside of the root.
    fn existing(&self, path: &Path) -> Result<PathBuf> {
        let real = std::fs::canonicalize(self.join(path)).map_err(|error| io_error(path, error))?;
        self.inside(path, real)
    }

    /// Returns where an object is to be written: its name in its canonical folder, which is created. The
    /// name itself is not followed, so that a link is replaced and never written through.
    fn writable(&self, path: &Path) -> Result<PathBuf> {
        let target = self.join(path);
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(self.refuse(path));
        };
        if path.is_root() {
            return Err(self.refuse(path));
        }
        self.inside(path, nearest_real(folder).map_err(|error| io_error(path, error))?)?;
        durable::create_folder(folder).map_err(|error| io_error(path, error))?;
        let real = std::fs::canonicalize(folder).map_err(|error| io_error(path, error))?;
        Ok(self.inside(path, real)?.join(name))
    }

    fn inside(&self, path: &Path, real: PathBuf) -> Result<PathBuf> {
        match real.starts_with(&self.0) {
            true => Ok(real),
            false => Err(self.refuse(path)),
        }
    }

    fn refuse(&self, path: &Path) -> object_store::Error {
        let denied = Error::PermissionDenied(format!("\"{path}\" leads out of \"{}\"", self.0.display()));
        object_store::Error::PermissionDenied { path: path.to_string(), source: Box::new(denied) }
    }
}

/// The canonical path of the deepest folder on the way to `folder` that exists.
fn nearest_real(folder: &FsPath) -> io::Result<PathBuf> {
    for ancestor in folder.ancestors() {
        match std::fs::canonicalize(ancestor) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => return done,
        }
    }
    Err(ErrorKind::NotFound.into())
}

/// Wraps an error of the file system; a full disk stays a full disk.
fn io_error(path: &Path, error: io::Error) -> object_store::Error {
    match error.kind() {
        // A path that goes on below a file does not exist in a store either.
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            object_store::Error::NotFound { path: path.to_string(), source: Box::new(error) }
        }
        ErrorKind::AlreadyExists => {
            object_store::Error::AlreadyExists { path: path.to_string(), source: Box::new(error) }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory => {
            generic(Error::from(error))
        }
        _ => generic(Error::Storage(format!("file \"{path}\": {error}"))),
    }
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: STORE, source: Box::new(source) }
}

fn e_tag(metadata: &Metadata) -> String {
    let modified_ns = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
    format!("{:x}-{modified_ns:x}-{:x}", metadata.ino(), metadata.len())
}

fn object_meta(location: Path, metadata: &Metadata) -> ObjectMeta {
    let modified = DateTime::<Utc>::from_timestamp(metadata.mtime(), metadata.mtime_nsec() as u32);
    ObjectMeta {
        location,
        last_modified: modified.unwrap_or_default(),
        size: metadata.len(),
        e_tag: Some(e_tag(metadata)),
        version: None,
    }
}

/// Opens a file inside of the root.
fn open(root: &Root, path: &Path) -> Result<(File, Metadata, PathBuf)> {
    let real = root.existing(path)?;
    let file = File::open(&real).map_err(|error| io_error(path, error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    match metadata.is_file() {
        true => Ok((file, metadata, real)),
        false => Err(io_error(path, ErrorKind::NotFound.into())),
    }
}

fn read_range(file: &File, path: &Path, size_bytes: u64, range: &Range<u64>) -> Result<Bytes> {
    if range.start > range.end || range.end > size_bytes {
        let reason = format!("bytes {} to {} were wanted of {size_bytes}", range.start, range.end);
        return Err(generic(Error::CorruptFile { path: path.to_string(), reason }));
    }
    let mut buffer = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut buffer, range.start).map_err(|error| io_error(path, error))?;
    Ok(buffer.into())
}

fn unsupported(operation: &str) -> object_store::Error {
    object_store::Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.root.0.display())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Disk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(unsupported("conditional overwrite")),
        };
        let path = location.clone();
        self.blocking(move |root| {
            let target = root.writable(&path)?;
            let staged = durable::stage(&target, &payload).map_err(|error| io_error(&path, error))?;
            let e_tag = e_tag(&staged.metadata().map_err(|error| io_error(&path, error))?);
            match create {
                true => staged.create(&target, &path)?,
                false => staged.replace(&target, &path)?,
            }
            Ok(PutResult { e_tag: Some(e_tag), version: None })
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (path, io) = (location.clone(), self.io.clone());
        let upload = self.blocking(move |root| {
            let target = root.writable(&path)?;
            let staged =
                durable::stage(&target, &PutPayload::new()).map_err(|error| io_error(&path, error))?;
            Ok(upload::DiskUpload::new(staged, target, path, io))
        });
        Ok(Box::new(upload.await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.clone();
        self.blocking(move |root| {
            let (file, metadata, real) = open(root, &path)?;
            let meta = object_meta(path, &metadata);
            options.check_preconditions(&meta)?;
            let range = match &options.range {
                Some(range) => range.as_range(meta.size).map_err(generic)?,
                None => 0..meta.size,
            };
            let payload = GetResultPayload::File(file, real);
            Ok(GetResult { payload, meta, range, attributes: Default::default() })
        })
        .await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (path, ranges) = (location.clone(), ranges.to_vec());
        self.blocking(move |root| {
            let (file, metadata, _) = open(root, &path)?;
            ranges.iter().map(|range| read_range(&file, &path, metadata.len(), range)).collect()
        })
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let disk = self.clone();
        let deleted = locations.map(move |path| {
            let disk = disk.clone();
            async move {
                let path = path?;
                disk.blocking(move |root| {
                    root.existing(&path)?;
                    let target = root.writable(&path)?;
                    std::fs::remove_file(target).map_err(|error| io_error(&path, error))?;
                    Ok(path)
                })
                .await
            }
        });
        deleted.buffered(DELETES_MAX).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        walk::list(self.root.clone(), self.io.clone(), prefix.cloned().unwrap_or_default())
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.list(prefix).try_filter(move |meta| std::future::ready(meta.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.blocking(move |root| walk::list_level(root, prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.blocking(move |root| {
            let source = root.existing(&from)?;
            let target = root.writable(&to)?;
            let staged = durable::stage_copy(&source, &target).map_err(|error| io_error(&from, error))?;
            match options.mode {
                CopyMode::Create => staged.create(&target, &to),
                CopyMode::Overwrite => staged.replace(&target, &to),
            }
        })
        .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.blocking(move |root| {
            root.existing(&from)?;
            let (source, target) = (root.writable(&from)?, root.writable(&to)?);
            match options.target_mode {
                RenameTargetMode::Overwrite => durable::rename(&source, &target),
                RenameTargetMode::Create => durable::rename_new(&source, &target),
            }
            .map_err(|error| io_error(&to, error))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
