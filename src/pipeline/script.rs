//! Scripts: SQL files as psql reads them.
//!
//! A script is the text of one or more files with psql's commands (`\set`, `\if`, `\i`, `\echo`, …) done
//! and its variables (`:name`, `:'name'`, `:"name"`) put in. What is left is a list of [`Item`]s: pieces
//! of SQL that end with a semicolon, and lines to print. Everything that a command can say is known before
//! anything runs; the commands whose effect depends on an answer (`\gset`, `\gexec`, …) are refused. Each
//! character of a piece keeps the place in a file that it came from.

mod command;
mod scan;
mod variables;

use std::path::{Path, PathBuf};

pub use variables::{Variables, hide, identifier, literal as variables_literal};

use crate::error::{Error, Result};
use scan::Scanner;

/// How deep files may include files.
const INCLUDES_MAX: usize = 32;
/// A file that is longer is no script.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A file that was read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// As it was named.
    pub name: String,
    pub text: String,
}

/// A byte of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub file: usize,
    pub offset: usize,
}

/// What a script says, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Sql(Piece),
    /// A line of `\echo` or `\qecho`; of `\warn`, on standard error.
    Print {
        text: String,
        to_stderr: bool,
    },
}

/// Text up to a semicolon: what psql sends at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    /// Without comments, variables put in.
    pub text: String,
    /// Where parts of `text` came from: the byte at which each begins, and its place. The bytes that
    /// follow came from those behind that place, unless a variable's value was put in.
    pub origin: Vec<(usize, Place, bool)>,
    /// As it stands in the file, variables not put in: what may be shown.
    pub written: String,
    pub options: StepOptions,
    /// Variables that it names and that are not set.
    pub unset: Vec<String>,
}

/// What a comment `-- lacus: retries=3 backoff=10s timeout=15m` says of the statement behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepOptions {
    pub retries: Option<u32>,
    pub backoff: Option<std::time::Duration>,
    pub timeout: Option<std::time::Duration>,
}

impl Piece {
    /// Where the byte of the text came from.
    pub fn place(&self, byte: usize) -> Place {
        let at = self.origin.partition_point(|(begin, ..)| *begin <= byte).saturating_sub(1);
        match self.origin.get(at) {
            Some((begin, place, true)) => Place { offset: place.offset + (byte - begin), ..*place },
            Some((_, place, false)) => *place,
            None => Place::default(),
        }
    }

    /// Where the character of the text came from, counted from 1.
    pub fn place_of_character(&self, position: usize) -> Place {
        let byte = self.text.char_indices().nth(position.saturating_sub(1)).map(|(byte, _)| byte);
        self.place(byte.unwrap_or(self.text.len().saturating_sub(1)))
    }

    /// Where it begins.
    pub fn start(&self) -> Place {
        self.place(0)
    }
}

/// The files of a run, and what they say.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub files: Vec<SourceFile>,
    /// The items of each script that was asked for.
    pub scripts: Vec<Vec<Item>>,
}

/// What is wrong with a script, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    pub place: Option<Place>,
    pub sqlstate: String,
    pub message: String,
    pub hint: Option<String>,
}

impl ScriptError {
    pub fn new(place: Place, sqlstate: &str, message: impl Into<String>) -> Self {
        Self { place: Some(place), sqlstate: sqlstate.to_owned(), message: message.into(), hint: None }
    }
}

/// A script in the making.
pub struct Loader {
    pub script: Script,
    pub variables: Variables,
    depth: usize,
}

impl Loader {
    pub fn new(variables: Variables) -> Self {
        Self { script: Script::default(), variables, depth: 0 }
    }

    /// Reads a script that the command line names. `keeps_variables` leaves the next one what it sets.
    ///
    /// # Errors
    /// [`Failed::File`] when it cannot be read, and what is wrong with it.
    pub fn load(&mut self, path: &Path, name: &str, keeps_variables: bool) -> Result<(), Failed> {
        let before = (!keeps_variables).then(|| self.variables.clone());
        let mut items = Vec::new();
        self.include(path, name, &mut items)?;
        if let Some(before) = before {
            self.variables = before;
        }
        self.script.scripts.push(items);
        Ok(())
    }

    fn include(&mut self, path: &Path, name: &str, items: &mut Vec<Item>) -> Result<(), Failed> {
        if self.depth >= INCLUDES_MAX {
            return Err(Failed::File(Error::LimitExceeded(format!(
                "scripts include each other more than {INCLUDES_MAX} deep: {name}"
            ))));
        }
        let text = read(path, name).map_err(Failed::File)?;
        let file = self.script.files.len();
        self.script.files.push(SourceFile { name: name.to_owned(), text: text.clone() });
        self.depth += 1;
        let scanned = Scanner::new(self, file, &text, path.to_owned(), items).run();
        self.depth -= 1;
        scanned
    }
}

/// Why a script cannot be run.
#[derive(Debug, Clone)]
pub enum Failed {
    /// A file cannot be read.
    File(Error),
    Script(ScriptError),
}

impl From<ScriptError> for Failed {
    fn from(error: ScriptError) -> Self {
        Self::Script(error)
    }
}

fn read(path: &Path, name: &str) -> Result<String> {
    let cannot = |reason: String| Error::Config(format!("{name}: {reason}"));
    let found = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if found.len() > FILE_BYTES_MAX {
        return Err(Error::LimitExceeded(format!("{name}: a script can have {FILE_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| cannot("is not UTF-8".to_owned()))?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// Scripts that the command line names: files as they are, folders as the `.sql` files below them,
/// sorted by their paths. Returns paths, names, and whether a folder was named.
///
/// # Errors
/// [`Error::Config`] when one cannot be read, or a folder has no scripts.
pub fn named(arguments: &[PathBuf]) -> Result<(Vec<(PathBuf, String)>, bool)> {
    let mut found = Vec::new();
    let mut any_folder = false;
    for argument in arguments {
        if !argument.is_dir() {
            found.push((argument.clone(), argument.display().to_string()));
            continue;
        }
        any_folder = true;
        let mut below = Vec::new();
        collect(argument, &mut below)
            .map_err(|error| Error::Config(format!("{}: {error}", argument.display())))?;
        below.sort();
        if below.is_empty() {
            return Err(Error::Config(format!("{}: holds no .sql files", argument.display())));
        }
        found.extend(below.into_iter().map(|path| {
            let name = path.display().to_string();
            (path, name)
        }));
    }
    let names = found.into_iter().map(|(path, name)| (path, name.trim_start_matches("./").to_owned()));
    Ok((names.collect(), any_folder))
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']));
        match path.is_dir() {
            _ if is_hidden => {}
            true => collect(&path, found)?,
            false if path.extension().is_some_and(|extension| extension == "sql") => found.push(path),
            false => {}
        }
    }
    Ok(())
}

/// A place as people count: line and column from 1, columns in characters.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
