//! Cancel keys: how a second connection stops what the first one runs.
//!
//! A session registers and gets a process id and a secret; a CancelRequest with both stops the query that
//! the session runs at that moment, and nothing else. Whoever sends it is not logged in and learns
//! nothing: right, wrong and unknown look alike.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pgwire::messages::ProtocolVersion;
use pgwire::messages::startup::{BackendKeyData, SecretKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// What protocol 3.0 has room for.
const KEY_BYTES_3_0: usize = 4;
const KEY_BYTES_3_2: usize = 32;

/// The keys of all sessions.
pub struct CancelKeys {
    sessions: Mutex<HashMap<i32, Entry>>,
    process_id_next: AtomicI32,
    /// Keys are compared by their signatures, so that the time tells nothing of a key.
    blind: hmac::Key,
    random: SystemRandom,
}

struct Entry {
    signature: hmac::Tag,
    running: Running,
}

/// The token of the query that a session runs, while it runs one.
type Running = Arc<Mutex<Option<CancellationToken>>>;

/// A session's key. Dropping it forgets the session.
pub struct CancelKey {
    keys: Arc<CancelKeys>,
    process_id: i32,
    secret: SecretKey,
    running: Running,
}

/// While it lives, a CancelRequest fires the token that it was made with.
pub struct RunningQuery<'a> {
    key: &'a CancelKey,
}

impl CancelKeys {
    /// No sessions yet.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn new() -> Result<Arc<Self>> {
        let random = SystemRandom::new();
        let blind = hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(|_| no_random())?;
        let process_id_next = AtomicI32::new(1);
        Ok(Arc::new(Self { sessions: Mutex::default(), process_id_next, blind, random }))
    }

    /// Registers a session that speaks `version`.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn register(self: &Arc<Self>, version: ProtocolVersion) -> Result<CancelKey> {
        let bytes = match version {
            ProtocolVersion::PROTOCOL3_0 => KEY_BYTES_3_0,
            ProtocolVersion::PROTOCOL3_2 | ProtocolVersion::PROTOCOL3_9999 => KEY_BYTES_3_2,
        };
        let mut secret = vec![0; bytes];
        self.random.fill(&mut secret).map_err(|_| no_random())?;
        let running = Running::default();
        let entry = Entry { signature: hmac::sign(&self.blind, &secret), running: running.clone() };
        let process_id = self.insert(entry);
        Ok(CancelKey { keys: self.clone(), process_id, secret: SecretKey::Bytes(secret.into()), running })
    }

    /// Cancels what the session of `process_id` runs, if `secret` is its key.
    ///
    /// Returns whether the key was right, which the caller must not let the client see.
    pub fn cancel(&self, process_id: i32, secret: &[u8]) -> bool {
        let sessions = self.sessions();
        let Some(entry) = sessions.get(&process_id) else { return false };
        if hmac::verify(&self.blind, secret, entry.signature.as_ref()).is_err() {
            return false;
        }
        if let Some(token) = lock(&entry.running).as_ref() {
            token.cancel();
        }
        true
    }

    /// Counts process ids upwards, and around, past those that are in use.
    fn insert(&self, entry: Entry) -> i32 {
        let mut sessions = self.sessions();
        loop {
            let process_id = self.process_id_next.fetch_add(1, Ordering::Relaxed) & i32::MAX;
            if process_id != 0 && !sessions.contains_key(&process_id) {
                sessions.insert(process_id, entry);
                return process_id;
            }
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<i32, Entry>> {
        lock(&self.sessions)
    }
}

impl CancelKey {
    /// The process id that the client knows the session by.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The message that tells the client its key.
    pub fn backend_key_data(&self) -> BackendKeyData {
        BackendKeyData::new(self.process_id, self.secret.clone())
    }

    /// The secret, of 4 bytes in protocol 3.0 and 32 in 3.2.
    pub fn secret(&self) -> Bytes {
        self.secret.to_bytes()
    }

    /// Begins a query: until the guard is dropped, a CancelRequest fires `token`.
    pub fn query(&self, token: CancellationToken) -> RunningQuery<'_> {
        *lock(&self.running) = Some(token);
        RunningQuery { key: self }
    }
}

impl Drop for CancelKey {
    fn drop(&mut self) {
        self.keys.sessions().remove(&self.process_id);
    }
}

impl Drop for RunningQuery<'_> {
    fn drop(&mut self) {
        *lock(&self.key.running) = None;
    }
}

/// Locks, also after a panic elsewhere: every value behind these locks is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_random() -> Error {
    Error::Internal("the system gives no random bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_stops_only_the_running_query() {
        let keys = CancelKeys::new().unwrap();
        let ours = keys.register(ProtocolVersion::PROTOCOL3_2).unwrap();
        let other = keys.register(ProtocolVersion::PROTOCOL3_0).unwrap();
        assert_eq!((ours.secret().len(), other.secret().len()), (32, 4));

        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        drop(ours.query(first.clone()));
        assert!(keys.cancel(ours.process_id(), &ours.secret()), "the key is right between queries too");
        let running = ours.query(second.clone());
        assert!(!keys.cancel(ours.process_id(), &other.secret()));
        assert!(!keys.cancel(ours.process_id(), &ours.secret()[..4]));
        assert!(!keys.cancel(other.process_id() + 1, &ours.secret()));
        assert!(!first.is_cancelled() && !second.is_cancelled());
        assert!(keys.cancel(ours.process_id(), &ours.secret()));
        assert!(!first.is_cancelled() && second.is_cancelled());

        drop(running);
        let (process_id, secret) = (ours.process_id(), ours.secret());
        drop(ours);
        assert!(!keys.cancel(process_id, &secret), "a session that ended is forgotten");
    }
}
