//! Verifiers: what is stored of a password.
//!
//! A verifier holds RFC 5802's StoredKey and ServerKey in the text form of Postgres's `pg_authid`, so
//! one can be copied from there. Neither key logs in: a client must show the ClientKey, of which
//! StoredKey is the hash. Comparisons take the same time wherever the first difference is.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use crate::error::{Error, Result};

/// Rounds of PBKDF2 for a new password, and the fewest that a stored one may have (RFC 7677).
pub const ITERATIONS_MIN: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");
pub(super) const SALT_BYTES: usize = 16;
pub(super) const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;
const MECHANISM: &str = "SCRAM-SHA-256";

pub(super) type Key = [u8; KEY_BYTES];

/// What the server keeps of a password: enough to check a proof, not enough to make one.
#[derive(Clone)]
pub struct ScramVerifier {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl ScramVerifier {
    /// Makes the verifier of `password`, with a random salt. Costs about 2 ms of CPU.
    ///
    /// The password goes through SASLprep; one that SASLprep refuses is taken as it is, as Postgres does.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn from_password(password: &str) -> Result<Self> {
        Ok(Self::derive(password, random::<SALT_BYTES>()?.to_vec(), ITERATIONS_MIN))
    }

    pub(super) fn derive(password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, prepared.as_bytes(), &mut salted);
        let client_key = mac(&salted, b"Client Key");
        Self { iterations, salt, stored_key: sha256(&client_key), server_key: mac(&salted, b"Server Key") }
    }

    /// A verifier for a user who does not exist, which no password fits.
    ///
    /// Its salt follows from `secret` and the name, so that asking twice does not tell that user from
    /// one who exists.
    pub(super) fn mock(user: &str, secret: &hmac::Key, iterations: NonZeroU32) -> Self {
        let salt = hmac::sign(secret, user.as_bytes()).as_ref()[..SALT_BYTES].to_vec();
        let key = |purpose: &str| {
            let mut context = hmac::Context::with_key(secret);
            context.update(purpose.as_bytes());
            context.update(user.as_bytes());
            tag_bytes(context.sign())
        };
        Self { iterations, salt, stored_key: key("stored\0"), server_key: key("server\0") }
    }
}

impl fmt::Display for ScramVerifier {
    /// Writes `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`, Postgres's format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        write!(f, "{MECHANISM}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    /// Hides the keys: a verifier that reaches a log by accident must not feed a dictionary attack.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl FromStr for ScramVerifier {
    type Err = Error;

    /// Reads Postgres's format. The error never repeats the text.
    fn from_str(text: &str) -> Result<Self> {
        let malformed = || {
            Error::Config("a verifier must read SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey".to_owned())
        };
        let mut parts = text.split('$');
        let (Some(MECHANISM), Some(cost), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let (iterations, salt) = cost.split_once(':').ok_or_else(malformed)?;
        let (stored, server) = keys.split_once(':').ok_or_else(malformed)?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| malformed())?;
        if iterations < ITERATIONS_MIN {
            return Err(Error::Config(format!(
                "a verifier has {iterations} iterations, fewer than the {ITERATIONS_MIN} that RFC 7677 asks for"
            )));
        }
        let salt = BASE64.decode(salt).map_err(|_| malformed())?;
        let key = |text: &str| BASE64.decode(text).ok().and_then(|bytes| Key::try_from(bytes).ok());
        match (key(stored), key(server)) {
            (Some(stored_key), Some(server_key)) if !salt.is_empty() => {
                Ok(Self { iterations, salt, stored_key, server_key })
            }
            _ => Err(malformed()),
        }
    }
}

pub(super) fn mac(key: &[u8], message: &[u8]) -> Key {
    tag_bytes(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message))
}

pub(super) fn sha256(bytes: &[u8]) -> Key {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

fn tag_bytes(tag: hmac::Tag) -> Key {
    tag.as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes")
}

/// Compares in a time that does not depend on where the first difference is.
///
/// Both sides are signed with a key that nobody knows, so a timing would tell about random bytes only.
pub(super) fn equal(left: &[u8], right: &[u8]) -> bool {
    static BLIND: LazyLock<hmac::Key> = LazyLock::new(|| {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("the system gives random bytes")
    });
    hmac::verify(&BLIND, left, hmac::sign(&BLIND, right).as_ref()).is_ok()
}

pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Internal("the system gives no random bytes".to_owned()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_of_postgres_reads_and_writes_unchanged() {
        // PostgreSQL 15: CREATE ROLE … PASSWORD 'pencil' with the salt of RFC 7677.
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let text = ScramVerifier::derive("pencil", salt, ITERATIONS_MIN).to_string();
        assert_eq!(
            text,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        assert_eq!(text.parse::<ScramVerifier>().unwrap().to_string(), text);
        assert!(!format!("{:?}", text.parse::<ScramVerifier>().unwrap()).contains("WG5d"));
    }

    #[test]
    fn passwords_are_normalized() {
        // U+2168 (Roman numeral nine) and U+00AD (soft hyphen) become "IX" and nothing: RFC 4013.
        let derive = |password| ScramVerifier::derive(password, vec![7; 16], ITERATIONS_MIN).to_string();
        assert_eq!(derive("\u{2168}\u{ad}"), derive("IX"));
        assert_ne!(derive("ix"), derive("IX"));
    }

    #[test]
    fn broken_verifiers_are_refused_without_repeating_them() {
        let good = ScramVerifier::from_password("secret").unwrap().to_string();
        let broken = [
            "md53175bce1d3201d16594cebf9d7eb3f9d".to_owned(),
            good.replace("4096", "100"),
            good.replace("4096", "0"),
            good.replace(':', ""),
            format!("{good}$"),
            good[..good.len() - 8].to_owned(),
        ];
        for text in broken {
            let error = text.parse::<ScramVerifier>().unwrap_err().to_string();
            assert!(!error.contains(&text), "{error}");
        }
    }
}
