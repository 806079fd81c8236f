//! The spill folder: where queries put what does not fit into memory, one folder a process.
//!
//! A process holds a lock on a file in its folder for as long as it lives, however it ends. So a start
//! can tell the folders of the dead from those of the living, also where a number of a process is given
//! out again, as the first one is in each container.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use crate::error::{Error, Result};

/// How the folders of processes are called, within the folder that the configuration names.
const PREFIX: &str = "lacus-";
/// The lock that a living process holds on its folder.
const ALIVE: &str = "alive";
/// The lock that a start holds, so that it sees no folder half made.
const START: &str = "lacus.lock";

const REMOVE_MAX: Duration = Duration::from_secs(1);
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// The folder of this process; dropping it removes it.
#[derive(Debug)]
pub struct SpillFolder {
    path: PathBuf,
    _alive: File,
}

impl SpillFolder {
    /// Makes a folder below `dir`, and removes those of processes that are gone.
    ///
    /// # Errors
    /// [`Error::Config`] when nothing can be written below `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        let made = std::fs::create_dir_all(dir).and_then(|()| {
            let start = File::options().create(true).append(true).open(dir.join(START))?;
            start.lock()?;
            remove_stale(dir)?;
            Self::create_in(dir)
        });
        made.map_err(|error| {
            Error::Config(format!("the spill folder \"{}\" cannot be used: {error}", dir.display()))
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder at the end of the process, when queries that were stopped may still be at
    /// their last files: tried again for at most `REMOVE_MAX` (1 s).
    pub async fn remove(&self) {
        let deadline = tokio::time::Instant::now() + REMOVE_MAX;
        while let Err(error) = std::fs::remove_dir_all(&self.path) {
            if error.kind() == std::io::ErrorKind::NotFound {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                warn!(folder = %self.path.display(), %error, "the spill folder stays");
                return;
            }
            tokio::time::sleep(REMOVE_PAUSE).await;
        }
    }

    fn create_in(dir: &Path) -> std::io::Result<Self> {
        let path = dir.join(format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path)?;
        let alive = File::create_new(path.join(ALIVE))?;
        alive.lock()?;
        Ok(Self { path, _alive: alive })
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(folder = %self.path.display(), %error, "the spill folder stays");
        }
    }
}

fn remove_stale(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let folder = entry.path();
        if !is_ours || !folder.is_dir() || is_alive(&folder) {
            continue;
        }
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => info!(folder = %folder.display(), "spill files of an earlier process are removed"),
            Err(error) => warn!(folder = %folder.display(), %error, "spill files of an earlier process stay"),
        }
    }
    Ok(())
}

/// Whether some process holds the lock of a folder. A folder without one was left half made, or half
/// removed; one whose lock cannot be asked for is left alone.
fn is_alive(folder: &Path) -> bool {
    match File::open(folder.join(ALIVE)) {
        Ok(alive) => !matches!(alive.try_lock(), Ok(())),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_removes_what_the_dead_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let living = SpillFolder::create(dir.path()).unwrap();
        std::fs::write(living.path().join("run"), "1").unwrap();
        let dead = dir.path().join("lacus-dead");
        std::fs::create_dir_all(dead.join("datafusion-x")).unwrap();
        std::fs::write(dead.join("datafusion-x/run"), "1").unwrap();
        std::fs::write(dead.join(ALIVE), "").unwrap();
        let torn = dir.path().join("lacus-torn");
        std::fs::create_dir(&torn).unwrap();
        let foreign = dir.path().join("photos");
        std::fs::create_dir(&foreign).unwrap();

        let second = SpillFolder::create(dir.path()).unwrap();
        assert!(!dead.exists() && !torn.exists());
        assert!(foreign.exists() && living.path().join("run").exists() && second.path().exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = SpillFolder::create(&file.path().join("x")).unwrap_err();
        assert!(error.to_string().contains("cannot be used"), "{error}");
    }
}
