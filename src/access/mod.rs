//! Access: who a session is, and how it proved that.
//!
//! The central noun is [`Identity`]: what an authenticated session carries. It is made only here, by a
//! SCRAM exchange that came to its end or by a server that trusts everybody it hears; the user name
//! that a client claims is never one. This module decides what is stored of a password, when a proof
//! holds, and what a stranger learns (nothing). How the messages travel is decided in `server::pg`.

mod exchange;
mod tokens;
mod users;
mod verifier;

use std::sync::Arc;

pub use exchange::Exchange;
pub use tokens::{TOKEN_LIFE, Tokens};
pub use users::{Users, user_entry};
pub use verifier::{ITERATIONS_MIN, ScramVerifier};

use crate::error::{Error, Result};

/// How clients prove who they are.
#[derive(Clone)]
pub enum AuthMode {
    /// Nobody proves anything. For loopback, where every client already runs on this machine.
    Trust,
    /// SCRAM-SHA-256 against the verifiers of a users file.
    Scram(Arc<Users>),
}

/// Who a session is. Its fields are private: only a login makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    user: Arc<str>,
    proof: Proof,
}

/// What an [`Identity`] rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The client proved that it knows the user's password.
    Password,
    /// Nothing: the name is the claimed one. Rules that tell users apart mean nothing here.
    Trust,
    /// The work comes from this process itself, started by whoever owns it, and not over a socket.
    Process,
}

impl Identity {
    /// The identity of work that this process does for its owner, such as a script of `lacus run`.
    pub fn of_process() -> Self {
        Self { user: "lacus".into(), proof: Proof::Process }
    }

    /// Takes the claimed name for the user, where `mode` trusts every client.
    ///
    /// Asking for a password that is then not checked would only look like safety. So whoever reaches a
    /// trusting door is whom they say, and the identity is marked so that rules can tell.
    ///
    /// # Errors
    /// [`Error::InvalidAuthorization`] when `mode` asks for a proof.
    pub fn trusted(mode: &AuthMode, claimed: &str) -> Result<Self> {
        match mode {
            AuthMode::Trust => Ok(Self { user: claimed.into(), proof: Proof::Trust }),
            AuthMode::Scram(_) => {
                Err(Error::InvalidAuthorization(format!("user \"{claimed}\" must prove a password")))
            }
        }
    }

    fn proven(user: &str) -> Self {
        Self { user: user.into(), proof: Proof::Password }
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What the identity rests on.
    pub fn proof(&self) -> Proof {
        self.proof
    }
}
