//! Durable: how bytes reach a disk all or nothing, and stay there.
//!
//! Every write goes to a temporary file in its final folder, is flushed, takes its name by one atomic
//! call, and the folder is flushed. A create takes the name by a hard link, which fails when the name
//! is taken: of any number of writers, in any number of processes, exactly one wins. After a crash
//! there is the whole object or none, and perhaps a temporary file, which listings pass over.
//!
//! Costs two flushes (one of the file, one of the folder), which is some milliseconds on a disk.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path as FsPath, PathBuf};

use object_store::path::Path;
use object_store::{PutPayload, Result};
use uuid::Uuid;

use super::{generic, io_error};

/// How often a folder that vanishes between its creation and its use is created again.
const FOLDER_ATTEMPTS: usize = 3;

/// Whether a file name is that of a temporary file.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// The object has its name, but the folder could not be flushed: after a power cut it may be gone.
#[derive(Debug, thiserror::Error)]
#[error("object \"{path}\" was created, but is not known to be durable: {source}")]
struct Unconfirmed {
    path: Path,
    source: io::Error,
}

/// A temporary file; it is removed when this is dropped before it got its name.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    path: PathBuf,
    named: bool,
}

/// Writes `payload` to a temporary file beside `target`.
pub(super) fn stage(target: &FsPath, payload: &PutPayload) -> io::Result<Staged> {
    let mut staged = open_beside(target)?;
    for piece in payload.iter() {
        staged.file.write_all(piece)?;
    }
    Ok(staged)
}

/// Copies the file `source` to a temporary file beside `target`.
pub(super) fn stage_copy(source: &FsPath, target: &FsPath) -> io::Result<Staged> {
    let mut staged = open_beside(target)?;
    io::copy(&mut File::open(source)?, &mut staged.file)?;
    Ok(staged)
}

fn open_beside(target: &FsPath) -> io::Result<Staged> {
    let folder = folder_of(target)?;
    let path = folder.join(format!(".{}.tmp", Uuid::new_v4().simple()));
    for _ in 1..FOLDER_ATTEMPTS {
        match open_new(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => create_folder(folder)?,
            opened => return opened,
        }
    }
    open_new(&path)
}

fn open_new(path: &FsPath) -> io::Result<Staged> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    Ok(Staged { file, path: path.to_owned(), named: false })
}

impl Staged {
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Gives the file its name if nobody has it.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken; [`Unconfirmed`] when the name was given but the folder
    /// could not be flushed.
    pub fn create(mut self, target: &FsPath, path: &Path) -> Result<()> {
        self.file.sync_all().map_err(|error| io_error(path, error))?;
        std::fs::hard_link(&self.path, target).map_err(|error| io_error(path, error))?;
        self.remove();
        let flushed = folder_of(target).and_then(sync_folder);
        flushed.map_err(|source| generic(Unconfirmed { path: path.clone(), source }))
    }

    /// Gives the file its name, in place of whoever had it.
    pub fn replace(mut self, target: &FsPath, path: &Path) -> Result<()> {
        self.file.sync_all().map_err(|error| io_error(path, error))?;
        std::fs::rename(&self.path, target).map_err(|error| io_error(path, error))?;
        self.named = true;
        folder_of(target).and_then(sync_folder).map_err(|error| io_error(path, error))
    }

    fn remove(&mut self) {
        self.named = true;
        // What is left behind is invisible to listings.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "temporary file stays behind");
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.named {
            self.remove();
        }
    }
}

/// Creates `folder` and those above it that are missing, each durable.
pub(super) fn create_folder(folder: &FsPath) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Ok(()) => sync_folder(folder_of(folder)?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match folder.is_dir() {
            true => Ok(()),
            false => Err(ErrorKind::NotADirectory.into()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_folder(folder_of(folder)?)?;
            match std::fs::create_dir(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => sync_folder(folder_of(folder)?),
            }
        }
        Err(error) => Err(error),
    }
}

/// Moves a file to a name, in place of whoever had it.
pub(super) fn rename(source: &FsPath, target: &FsPath) -> io::Result<()> {
    std::fs::rename(source, target)?;
    sync_folder(folder_of(target)?)?;
    sync_folder(folder_of(source)?)
}

/// Moves a file to a name that nobody has.
pub(super) fn rename_new(source: &FsPath, target: &FsPath) -> io::Result<()> {
    std::fs::hard_link(source, target)?;
    sync_folder(folder_of(target)?)?;
    std::fs::remove_file(source)?;
    sync_folder(folder_of(source)?)
}

fn folder_of(path: &FsPath) -> io::Result<&FsPath> {
    path.parent().ok_or_else(|| ErrorKind::InvalidInput.into())
}

fn sync_folder(folder: &FsPath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
