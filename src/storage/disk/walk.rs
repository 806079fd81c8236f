//! Walk: what a listing of a folder shows.
//!
//! Regular files and folders, and symbolic links to such that stay inside of the root and do not lead
//! back to a folder above themselves. Not shown: links to elsewhere, broken links, temporary files,
//! sockets and the like, and names that no object can have. A folder is read at once and in the order
//! of names; one `stat` a file.

use std::collections::VecDeque;
use std::fs::{DirEntry, Metadata};
use std::io::ErrorKind;
use std::path::PathBuf;

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::{Path, PathPart};
use object_store::{ListResult, ObjectMeta, Result};
use tokio::runtime::Handle;

use super::{Root, durable, io_error, object_meta};

/// Objects that are found before the listing hands them on.
const BATCH: usize = 1024;

/// One folder still to be read.
struct Folder {
    /// Canonical.
    real: PathBuf,
    path: Path,
    /// Folders, canonical, in which a link was followed to get here.
    left: Vec<PathBuf>,
}

/// What one name in a folder stands for.
enum Found {
    File(ObjectMeta),
    Folder(Folder),
}

/// Lists all files below `prefix`; none when it does not exist or is a file.
pub(super) fn list(root: Root, io: Handle, prefix: Path) -> BoxStream<'static, Result<ObjectMeta>> {
    let walk = Walk { root, start: Some(prefix), folders: Vec::new(), files: VecDeque::new() };
    let batches = futures::stream::try_unfold((walk, io), |(mut walk, io)| async move {
        let (batch, walk) = io
            .spawn_blocking(move || {
                let batch = walk.next_batch()?;
                Ok::<_, object_store::Error>((batch, walk))
            })
            .await??;
        Ok(batch.map(|batch| (batch, (walk, io))))
    });
    batches
        .flat_map(|batch: Result<Vec<ObjectMeta>>| match batch {
            Ok(files) => futures::stream::iter(files.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => futures::stream::iter(vec![Err(error)]),
        })
        .boxed()
}

/// Lists one level below `prefix`.
pub(super) fn list_level(root: &Root, prefix: Path) -> Result<ListResult> {
    let mut level = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
    if let Some(folder) = start(root, prefix)? {
        for found in read_folder(root, &folder)? {
            match found {
                Found::File(meta) => level.objects.push(meta),
                Found::Folder(folder) => level.common_prefixes.push(folder.path),
            }
        }
    }
    Ok(level)
}

struct Walk {
    root: Root,
    start: Option<Path>,
    /// Deepest last.
    folders: Vec<Folder>,
    files: VecDeque<ObjectMeta>,
}

impl Walk {
    fn next_batch(&mut self) -> Result<Option<Vec<ObjectMeta>>> {
        if let Some(prefix) = self.start.take() {
            self.folders.extend(start(&self.root, prefix)?);
        }
        while self.files.len() < BATCH {
            let Some(folder) = self.folders.pop() else { break };
            let first = self.folders.len();
            for found in read_folder(&self.root, &folder)? {
                match found {
                    Found::File(meta) => self.files.push_back(meta),
                    Found::Folder(folder) => self.folders.push(folder),
                }
            }
            self.folders[first..].reverse();
        }
        let batch: Vec<ObjectMeta> = self.files.drain(..self.files.len().min(BATCH)).collect();
        Ok((!batch.is_empty()).then_some(batch))
    }
}

fn start(root: &Root, prefix: Path) -> Result<Option<Folder>> {
    match root.existing(&prefix) {
        Ok(real) if real.is_dir() => Ok(Some(Folder { real, path: prefix, left: Vec::new() })),
        Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_folder(root: &Root, folder: &Folder) -> Result<Vec<Found>> {
    let entries = match std::fs::read_dir(&folder.real) {
        Ok(entries) => entries,
        // Removed since its name was read.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(&folder.path, error)),
    };
    let mut entries =
        entries.collect::<std::io::Result<Vec<DirEntry>>>().map_err(|error| io_error(&folder.path, error))?;
    entries.sort_by_key(DirEntry::file_name);
    entries.iter().filter_map(|entry| look_at(root, folder, entry).transpose()).collect()
}

fn look_at(root: &Root, folder: &Folder, entry: &DirEntry) -> Result<Option<Found>> {
    let name = entry.file_name();
    let Some(name) = name.to_str().filter(|name| !durable::is_temporary(name)) else { return Ok(None) };
    if PathPart::parse(name).is_err() {
        return Ok(None);
    }
    // `join` would percent-encode the name; `parse` takes it as it is.
    let path = Path::parse(format!("{}/{name}", folder.path))?;
    let looked = match entry.file_type() {
        Ok(kind) if kind.is_symlink() => follow(root, folder, entry),
        Ok(_) => entry.metadata().map(|metadata| Some((entry.path(), metadata, folder.left.clone()))),
        Err(error) => Err(error),
    };
    match looked {
        Ok(Some((_, metadata, _))) if metadata.is_file() => {
            Ok(Some(Found::File(object_meta(path, &metadata))))
        }
        Ok(Some((real, metadata, left))) if metadata.is_dir() => {
            Ok(Some(Found::Folder(Folder { real, path, left })))
        }
        Ok(_) => Ok(None),
        // Removed since its name was read.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(&path, error)),
    }
}

type Followed = Option<(PathBuf, Metadata, Vec<PathBuf>)>;

/// Follows a link that stays inside and leads to no folder on the way to itself.
fn follow(root: &Root, folder: &Folder, entry: &DirEntry) -> std::io::Result<Followed> {
    let Ok(real) = std::fs::canonicalize(entry.path()) else { return Ok(None) };
    let mut way = std::iter::once(&folder.real).chain(&folder.left);
    if !real.starts_with(&root.0) || way.any(|passed| passed.starts_with(&real)) {
        return Ok(None);
    }
    let metadata = std::fs::metadata(&real)?;
    let left = folder.left.iter().cloned().chain([folder.real.clone()]).collect();
    Ok(Some((real, metadata, left)))
}
