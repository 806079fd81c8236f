//! The users file: who may log in, in TOML, read again when it changes.
//!
//! ```toml
//! [[user]]
//! name = "ann"
//! verifier = "SCRAM-SHA-256$4096:salt$StoredKey:ServerKey"
//! ```
//!
//! This module decides which files are acceptable and what a user who is not in them looks like. A file
//! that breaks while the server runs leaves the users of before in place: a typing error locks nobody out.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{BufRead, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use ring::hmac;
use ring::rand::SystemRandom;
use serde::Deserialize;
use tracing::{info, warn};

use super::verifier::{ITERATIONS_MIN, ScramVerifier};
use crate::error::{Error, Result};

/// A users file beyond this is a mistake (10 MiB, some 50,000 users).
const FILE_BYTES_MAX: u64 = 10 << 20;
/// A password beyond this is a mistake, or an attack on whoever hashes it.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// The users that may log in. Follows its file.
pub struct Users {
    path: PathBuf,
    /// Makes the salts of users who do not exist. New with each process.
    mock_secret: hmac::Key,
    table: RwLock<Arc<Table>>,
}

struct Table {
    verifiers: HashMap<String, ScramVerifier>,
    /// What most users have, and so what a user who does not exist shows.
    iterations: NonZeroU32,
    version: Option<Version>,
}

/// What tells one state of the file from the next without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    #[serde(default)]
    user: Vec<UserEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    name: String,
    verifier: String,
}

impl Users {
    /// Reads the users file at `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when the file cannot be read, is not of the form above, names a user twice, or
    /// may be written by everybody on this machine.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mock_secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| Error::Internal("the system gives no random bytes".to_owned()))?;
        let table = RwLock::new(Arc::new(read(&path)?));
        Ok(Self { path, mock_secret, table })
    }

    /// Reads the file again where its time or size changed. Costs one `stat` when it did not.
    ///
    /// Called before each login, so a new user, or one taken away, needs no signal. Sessions that are
    /// open stay open.
    pub fn refresh(&self) {
        let version = std::fs::metadata(&self.path).ok().map(|metadata| Version::of(&metadata));
        let before = self.table();
        if version == before.version {
            return;
        }
        let after = match read(&self.path) {
            Ok(table) => {
                info!(users = table.verifiers.len(), "users file read again");
                table
            }
            Err(error) => {
                warn!(%error, "users file not read again, the users of before stay");
                Table { verifiers: before.verifiers.clone(), iterations: before.iterations, version }
            }
        };
        *self.table.write().expect("no code panics while it holds this lock") = Arc::new(after);
    }

    /// The verifier of `user` and whether that user exists; a mock where not.
    pub(super) fn verifier(&self, user: &str) -> (ScramVerifier, bool) {
        let table = self.table();
        // Made for users who exist too, so that the time does not tell them apart.
        let mock = ScramVerifier::mock(user, &self.mock_secret, table.iterations);
        match table.verifiers.get(user) {
            Some(verifier) => (verifier.clone(), true),
            None => (mock, false),
        }
    }

    /// How many users the file names.
    pub fn len(&self) -> usize {
        self.table().verifiers.len()
    }

    /// Whether nobody may log in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().expect("no code panics while it holds this lock").clone()
    }
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), bytes: metadata.len() }
    }
}

/// Turns a password, the first line of `input`, into an entry for the users file.
///
/// # Errors
/// [`Error::Config`] when the password is empty, too long or not UTF-8, or when the name is empty or has
/// control characters.
pub fn user_entry(name: &str, input: impl BufRead) -> Result<String> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Error::Config("a user's name must not be empty or have control characters".to_owned()));
    }
    let mut line = String::new();
    input
        .take(PASSWORD_BYTES_MAX + 1)
        .read_line(&mut line)
        .map_err(|error| Error::Config(format!("the password cannot be read: {error}")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() || line.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(Error::Config(format!("a password has 1 to {PASSWORD_BYTES_MAX} bytes")));
    }
    let verifier = ScramVerifier::from_password(password)?;
    // Without control characters, a JSON string is a TOML string.
    let name = serde_json::Value::from(name);
    Ok(format!("[[user]]\nname = {name}\nverifier = \"{verifier}\"\n"))
}

fn read(path: &Path) -> Result<Table> {
    let problem =
        |what: &dyn std::fmt::Display| Error::Config(format!("users file \"{}\": {what}", path.display()));
    let file = File::open(path).map_err(|error| problem(&error))?;
    let metadata = file.metadata().map_err(|error| problem(&error))?;
    check_permissions(path, &metadata)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(problem(&format_args!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| problem(&error))?;
    // `message` and not the whole error, which repeats the line, and with it a verifier.
    let parsed: UsersFile = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| 1 + text[..span.start].matches('\n').count());
        problem(&format_args!("line {line}: {}", error.message()))
    })?;
    let mut verifiers = HashMap::with_capacity(parsed.user.len());
    for UserEntry { name, verifier } in parsed.user {
        let verifier =
            verifier.parse().map_err(|error| problem(&format_args!("user \"{name}\": {error}")))?;
        if verifiers.insert(name.clone(), verifier).is_some() {
            return Err(problem(&format_args!("user \"{name}\" appears twice")));
        }
    }
    let iterations = most_common_iterations(&verifiers);
    Ok(Table { verifiers, iterations, version: Some(Version::of(&metadata)) })
}

fn most_common_iterations(verifiers: &HashMap<String, ScramVerifier>) -> NonZeroU32 {
    let mut counts = HashMap::new();
    for verifier in verifiers.values() {
        *counts.entry(verifier.iterations).or_insert(0) += 1;
    }
    counts
        .into_iter()
        .max_by_key(|&(iterations, count)| (count, iterations))
        .map_or(ITERATIONS_MIN, |most| most.0)
}

/// Refuses a file that everybody may write, and warns of one that everybody may read: a verifier does
/// not log in, but a weak password can be guessed from it.
#[cfg(unix)]
fn check_permissions(path: &Path, metadata: &Metadata) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode();
    if mode & 0o002 != 0 {
        let path = path.display();
        return Err(Error::Config(format!(
            "users file \"{path}\" may be written by everybody: chmod o-w it"
        )));
    }
    if mode & 0o004 != 0 {
        warn!(path = %path.display(), "users file may be read by everybody, chmod 600 it");
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_permissions(_: &Path, _: &Metadata) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn an_entry_for_a_password_is_read_back() {
        let file = file(&user_entry("o\"ne\\", &b"secret\r\nrest"[..]).unwrap());
        let users = Users::load(file.path()).unwrap();
        let (verifier, known) = users.verifier("o\"ne\\");
        assert!(known);
        let again = ScramVerifier::derive("secret", verifier.salt.clone(), verifier.iterations);
        assert_eq!(verifier.to_string(), again.to_string());
        assert!(user_entry("ann", &b"\n"[..]).is_err());
        assert!(user_entry("a\nb", &b"x"[..]).is_err());
    }

    #[test]
    fn a_user_who_does_not_exist_looks_like_one_and_the_same_each_time() {
        let text = user_entry("ann", &b"x"[..]).unwrap().replace("$4096:", "$10000:");
        let users = Users::load(file(&text).path()).unwrap();
        let (ann, known) = users.verifier("ann");
        let (bob, stranger) = users.verifier("bob");
        assert!(known && !stranger);
        assert_eq!((bob.salt.len(), bob.iterations), (ann.salt.len(), ann.iterations));
        assert_eq!(bob.to_string(), users.verifier("bob").0.to_string());
        assert_ne!(bob.salt, users.verifier("carl").0.salt);
    }

    #[test]
    fn the_file_is_followed_and_a_broken_one_changes_nothing() {
        let file = file("");
        let users = Users::load(file.path()).unwrap();
        assert!(users.is_empty());
        std::fs::write(file.path(), user_entry("ann", &b"x"[..]).unwrap()).unwrap();
        users.refresh();
        assert!(users.verifier("ann").1);
        std::fs::write(file.path(), "[[user]]\nname = ").unwrap();
        users.refresh();
        assert!(users.verifier("ann").1);
    }

    #[test]
    fn a_broken_file_is_refused_without_repeating_a_verifier() {
        let entry = user_entry("ann", &b"x"[..]).unwrap();
        let verifier = entry.lines().last().unwrap();
        for text in [format!("{entry}{entry}"), format!("{entry}colour = 1"), entry.replace("\"\n", "\n")] {
            let error = Users::load(file(&text).path()).err().unwrap().to_string();
            assert!(!error.contains(&verifier[..40]), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_everybody_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = file("");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Users::load(file.path()).is_err());
    }
}
