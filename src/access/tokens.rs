//! Passwords and tokens: how clients of HTTP prove who they are.
//!
//! HTTP has no SCRAM that clients speak, so they show the password itself, with each request or once
//! for a *token*: 32 random bytes that stand for the login for an hour. Tokens live in this process
//! alone; one is worth nothing once its user is gone from the users file, or has another password.
//! Where a password may travel at all is decided in `server::http`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::verifier::{Key, ScramVerifier, equal, random, sha256};
use super::{AuthMode, Identity, Users};
use crate::error::{Error, Result};

/// How long a token stands for its login.
pub const TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);
/// Tokens that live at one time; the one that ends first makes room for the next.
const TOKENS_MAX: usize = 10_000;

impl Users {
    /// Lets somebody in who shows the user's password. Costs about 2 ms of CPU.
    ///
    /// # Errors
    /// [`Error::AuthenticationFailed`], whatever the reason, after the same work.
    pub fn login(&self, user: &str, password: &str) -> Result<Identity> {
        let (verifier, known) = self.verifier(user);
        let shown = ScramVerifier::derive(password, verifier.salt.clone(), verifier.iterations);
        // `&` and not `&&`: a stranger costs the same work as a wrong password.
        match equal(&shown.stored_key, &verifier.stored_key) & known {
            true => Ok(Identity::proven(user)),
            false => Err(Error::AuthenticationFailed(user.to_owned())),
        }
    }
}

/// The tokens of this process. They are kept as hashes only.
#[derive(Default)]
pub struct Tokens {
    entries: Mutex<HashMap<Key, Token>>,
}

struct Token {
    identity: Identity,
    /// What the user's password was checked with; none where nobody proves anything.
    stored_key: Option<Key>,
    ends: Instant,
}

impl Tokens {
    /// Makes a token for somebody who has logged in.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn issue(&self, mode: &AuthMode, identity: &Identity) -> Result<String> {
        let secret = random::<32>()?;
        let stored_key = match mode {
            AuthMode::Trust => None,
            AuthMode::Scram(users) => Some(users.verifier(identity.user()).0.stored_key),
        };
        let token = Token { identity: identity.clone(), stored_key, ends: Instant::now() + TOKEN_LIFE };
        let mut entries = self.lock();
        if entries.len() >= TOKENS_MAX {
            let first = entries.iter().min_by_key(|(_, token)| token.ends).map(|(key, _)| *key);
            first.and_then(|key| entries.remove(&key));
        }
        entries.insert(sha256(&secret), token);
        Ok(URL_SAFE_NO_PAD.encode(secret))
    }

    /// The login that a token stands for.
    ///
    /// # Errors
    /// [`Error::InvalidAuthorization`] for a token that is unknown, has ended, or whose user changed.
    pub fn identity(&self, mode: &AuthMode, token: &str) -> Result<Identity> {
        let unknown = || Error::InvalidAuthorization("the token is unknown, or has ended".to_owned());
        let secret = URL_SAFE_NO_PAD.decode(token).map_err(|_| unknown())?;
        let key = sha256(&secret);
        let mut entries = self.lock();
        let found = entries.get(&key).ok_or_else(unknown)?;
        let holds = match (mode, &found.stored_key) {
            (AuthMode::Trust, None) => true,
            (AuthMode::Scram(users), Some(stored_key)) => {
                let (verifier, known) = users.verifier(found.identity.user());
                known && equal(&verifier.stored_key, stored_key)
            }
            _ => false,
        };
        if holds && Instant::now() < found.ends {
            return Ok(found.identity.clone());
        }
        entries.remove(&key);
        Err(unknown())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Token>> {
        // A panic under this lock leaves whole entries behind.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access::user_entry;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_password_logs_in_and_nothing_else_does() {
        let file = file(&user_entry("ann", &b"secret"[..]).unwrap());
        let users = Users::load(file.path()).unwrap();
        assert_eq!(users.login("ann", "secret").unwrap().user(), "ann");
        for (user, password) in [("ann", "Secret"), ("ann", ""), ("bob", "secret"), ("", "")] {
            assert_eq!(users.login(user, password).unwrap_err().sqlstate(), "28P01", "{user} {password}");
        }
    }

    #[test]
    fn a_token_ends_with_its_users_password() {
        let file = file(&user_entry("ann", &b"secret"[..]).unwrap());
        let users = Arc::new(Users::load(file.path()).unwrap());
        let mode = AuthMode::Scram(Arc::clone(&users));
        let tokens = Tokens::default();
        let token = tokens.issue(&mode, &users.login("ann", "secret").unwrap()).unwrap();
        assert_eq!(tokens.identity(&mode, &token).unwrap().user(), "ann");
        for wrong in ["", "None", &token[1..], &format!("{token}A")] {
            assert!(tokens.identity(&mode, wrong).is_err(), "{wrong}");
        }
        std::fs::write(file.path(), user_entry("ann", &b"another one"[..]).unwrap()).unwrap();
        users.refresh();
        assert!(tokens.identity(&mode, &token).is_err());
        std::fs::write(file.path(), user_entry("ann", &b"secret"[..]).unwrap()).unwrap();
        users.refresh();
        assert!(tokens.identity(&mode, &token).is_err(), "once refused, it is gone");
    }
}
