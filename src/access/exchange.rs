//! The SCRAM-SHA-256 exchange: four messages that end in an [`Identity`] or in an error.
//!
//! This module decides whether a proof holds (RFC 5802, RFC 7677), with the choices of Postgres: the
//! user is the one of the startup packet, an authorization identity is refused, channel binding is not
//! offered. Somebody who does not exist goes through the same steps as somebody who does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::verifier::{KEY_BYTES, Key, ScramVerifier, equal, mac, random, sha256};
use super::{Identity, Users};
use crate::error::{Error, Result};

const NONCE_BYTES: usize = 18;

/// An exchange that waits for the client's proof.
pub struct Exchange {
    user: String,
    /// Whether the users file knows `user`; where it does not, `verifier` is a mock.
    known: bool,
    verifier: ScramVerifier,
    /// `n,,` or `y,,` as the client sent it. Its proof must repeat it.
    gs2_header: String,
    client_first_bare: String,
    nonce: String,
}

impl Exchange {
    /// Begins an exchange with the client's first message, for `user` of the startup packet.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the message is malformed; [`Error::Unsupported`] for an authorization
    /// identity or an extension.
    pub fn begin(users: &Users, user: &str, client_first: &[u8]) -> Result<Self> {
        let suffix = BASE64.encode(random::<NONCE_BYTES>()?);
        let (verifier, known) = users.verifier(user);
        Self::with_nonce(user, verifier, known, client_first, &suffix)
    }

    fn with_nonce(
        user: &str,
        verifier: ScramVerifier,
        known: bool,
        client_first: &[u8],
        suffix: &str,
    ) -> Result<Self> {
        let text = text(client_first)?;
        let (gs2_header, bare) = split_gs2_header(text)?;
        let nonce = client_nonce(bare)? + suffix;
        Ok(Self {
            user: user.to_owned(),
            known,
            verifier,
            gs2_header: gs2_header.to_owned(),
            client_first_bare: bare.to_owned(),
            nonce,
        })
    }

    /// The server's first message: the joint nonce, the salt, the iterations.
    pub fn server_first(&self) -> String {
        let ScramVerifier { salt, iterations, .. } = &self.verifier;
        format!("r={},s={},i={iterations}", self.nonce, BASE64.encode(salt))
    }

    /// Checks the proof in the client's final message.
    ///
    /// Returns the identity and the server's final message, which proves the server to the client.
    ///
    /// # Errors
    /// [`Error::AuthenticationFailed`] when the proof does not hold, whatever the reason;
    /// [`Error::Protocol`] when the message is malformed or belongs to another exchange.
    pub fn finish(self, client_final: &[u8]) -> Result<(Identity, String)> {
        let text = text(client_final)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(|| malformed("no proof"))?;
        self.check_binding(without_proof)?;
        let proof = BASE64
            .decode(proof)
            .ok()
            .and_then(|bytes| Key::try_from(bytes).ok())
            .ok_or_else(|| malformed("the proof is not 32 bytes of base64"))?;
        let message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first());
        // `&` and not `&&`: a stranger costs the same work as a wrong password.
        if !(self.proof_holds(&proof, message.as_bytes()) & self.known) {
            return Err(Error::AuthenticationFailed(self.user));
        }
        let signature = mac(&self.verifier.server_key, message.as_bytes());
        Ok((Identity::proven(&self.user), format!("v={}", BASE64.encode(signature))))
    }

    /// Checks that the final message repeats the header and the nonce of this exchange.
    fn check_binding(&self, without_proof: &str) -> Result<()> {
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|attribute| attribute.strip_prefix("c="));
        if binding != Some(BASE64.encode(&self.gs2_header).as_str()) {
            return Err(Error::Protocol("unexpected SCRAM channel-binding attribute".to_owned()));
        }
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        if !nonce.is_some_and(|nonce| equal(nonce.as_bytes(), self.nonce.as_bytes())) {
            return Err(Error::Protocol("invalid SCRAM response: nonce does not match".to_owned()));
        }
        Ok(())
    }

    fn proof_holds(&self, proof: &Key, message: &[u8]) -> bool {
        let signature = mac(&self.verifier.stored_key, message);
        let mut client_key = [0; KEY_BYTES];
        for (key, (proof, signature)) in client_key.iter_mut().zip(proof.iter().zip(signature)) {
            *key = proof ^ signature;
        }
        equal(&sha256(&client_key), &self.verifier.stored_key)
    }
}

/// Splits `n,,bare` after the header; `y` is as good, as there is no binding here to be talked out of.
fn split_gs2_header(text: &str) -> Result<(&str, &str)> {
    match text.as_bytes().first() {
        Some(b'n' | b'y') => {}
        Some(b'p') => {
            return Err(Error::Protocol(
                "the client asks for channel binding, which SCRAM-SHA-256 without -PLUS does not have"
                    .to_owned(),
            ));
        }
        _ => return Err(malformed("the channel-binding flag is none of n, y, p")),
    }
    let authzid = text[1..].strip_prefix(',').ok_or_else(|| malformed("no comma after the flag"))?;
    match authzid.strip_prefix(',') {
        Some(bare) => Ok((&text[..3], bare)),
        None if authzid.starts_with("a=") => {
            Err(Error::Unsupported("client uses authorization identity, but it is not supported".to_owned()))
        }
        None => Err(malformed("no comma after the authorization identity")),
    }
}

/// Reads the nonce of `n=name,r=nonce`. The name is ignored: the startup packet has it.
fn client_nonce(bare: &str) -> Result<String> {
    let mut attributes = bare.split(',');
    match attributes.next() {
        Some(name) if name.starts_with("n=") => {}
        Some(name) if name.starts_with("m=") => {
            return Err(Error::Unsupported("client requires an unsupported SCRAM extension".to_owned()));
        }
        _ => return Err(malformed("no user name")),
    }
    match attributes.next().and_then(|attribute| attribute.strip_prefix("r=")) {
        Some(nonce) if !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(nonce.to_owned())
        }
        _ => Err(malformed("no printable nonce")),
    }
}

fn text(message: &[u8]) -> Result<&str> {
    std::str::from_utf8(message).map_err(|_| malformed("it is not UTF-8"))
}

fn malformed(reason: &str) -> Error {
    Error::Protocol(format!("malformed SCRAM message: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{ITERATIONS_MIN, Proof};

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SUFFIX: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn exchange(password: &str, known: bool) -> Exchange {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = ScramVerifier::derive(password, salt, ITERATIONS_MIN);
        Exchange::with_nonce("user", verifier, known, FIRST, SUFFIX).unwrap()
    }

    #[test]
    fn the_example_of_rfc_7677_logs_in() {
        let exchange = exchange("pencil", true);
        assert_eq!(
            exchange.server_first(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let (identity, server_final) = exchange.finish(FINAL).unwrap();
        assert_eq!(server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!((identity.user(), identity.proof()), ("user", Proof::Password));
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_fail_alike() {
        for exchange in [exchange("pencils", true), exchange("pencil", false)] {
            assert!(
                matches!(exchange.finish(FINAL), Err(Error::AuthenticationFailed(user)) if user == "user")
            );
        }
    }

    #[test]
    fn a_final_message_of_another_exchange_is_refused() {
        let other = String::from_utf8(FINAL.to_vec()).unwrap();
        for (from, to) in [("c=biws", "c=eSws"), ("$k0", "$k1"), (",p=", ",q="), ("dVQ=", ""), ("c=", "")] {
            let error = exchange("pencil", true).finish(other.replace(from, to).as_bytes()).err().unwrap();
            assert_eq!(error.sqlstate(), "08P01", "{error}");
        }
    }

    #[test]
    fn first_messages_that_ask_for_more_are_refused() {
        let begin = |first: &[u8]| {
            let verifier = ScramVerifier::from_password("x").unwrap();
            Exchange::with_nonce("user", verifier, true, first, SUFFIX).map(|_| ()).map_err(|e| e.sqlstate())
        };
        assert_eq!(begin(b"y,,n=,r=abc"), Ok(()));
        assert_eq!(begin(b"p=tls-server-end-point,,n=,r=abc"), Err("08P01"));
        assert_eq!(begin(b"n,a=root,n=,r=abc"), Err("0A000"));
        assert_eq!(begin(b"n,,m=ext,n=,r=abc"), Err("0A000"));
        for broken in
            [&b""[..], b"n", b"n,", b"n,,", b"n,,n=x", b"n,,n=x,r=", b"n,,n=x,r=\x01", b"\xff,,n=,r=a"]
        {
            assert_eq!(begin(broken), Err("08P01"), "{}", broken.escape_ascii());
        }
    }
}
