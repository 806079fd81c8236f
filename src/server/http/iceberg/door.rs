//! The door of the REST catalog: who a request comes from.
//!
//! The same users as on the PostgreSQL port. Where there are users, a request shows a password (Basic)
//! or a token that `oauth/tokens` gave for one (Bearer); neither is taken from another machine without
//! TLS. Where there are none, only this machine's own programs are let in, and of these no web pages
//! that a browser was made to send from.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

use super::reply::Reply;
use super::{Peer, RestCatalog, header};
use crate::access::{AuthMode, Identity, TOKEN_LIFE, Users};
use crate::error::{Error, Result};
use crate::telemetry::Metrics;

/// Passwords that are checked at one time: each takes a core for some milliseconds.
pub(super) const CHECKS_MAX: usize = 2;
/// Before a wrong password is answered, so that none is guessed by the million.
const WRONG_PASSWORD_PAUSE: Duration = Duration::from_secs(1);
const FORM_BYTES_MAX: usize = 64 << 10;
/// The user where nobody proves anything and no name is given.
const NAMELESS: &str = "iceberg";
const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

impl RestCatalog {
    /// Who sends a request.
    ///
    /// # Errors
    /// [`Error::InvalidAuthorization`] and [`Error::AuthenticationFailed`], which the client may mend;
    /// [`Error::PermissionDenied`], which it may not.
    pub(super) async fn identity(&self, peer: Peer, headers: &HeaderMap) -> Result<Identity> {
        self.ensure_allowed(peer, headers)?;
        let given = header(headers, AUTHORIZATION).and_then(|given| given.split_once(' '));
        let given = given.map(|(scheme, value)| (scheme.to_ascii_lowercase(), value.trim()));
        let given = given.as_ref().map(|(scheme, value)| (scheme.as_str(), *value));
        match (&self.door.auth, given) {
            (AuthMode::Trust, Some(("basic", value))) => {
                let (user, _) = basic(value)?;
                Identity::trusted(&self.door.auth, &user)
            }
            (mode @ AuthMode::Trust, Some(("bearer", token))) => {
                // PyIceberg sends a token even when it has none.
                self.tokens.identity(mode, token).or_else(|_| Identity::trusted(mode, NAMELESS))
            }
            (mode @ AuthMode::Trust, _) => Identity::trusted(mode, NAMELESS),
            (AuthMode::Scram(users), Some(("basic", value))) => {
                let (user, password) = basic(value)?;
                self.login(users, user, password).await
            }
            (mode @ AuthMode::Scram(users), Some(("bearer", token))) => {
                users.refresh();
                self.tokens.identity(mode, token)
            }
            (AuthMode::Scram(_), _) => {
                Err(Error::InvalidAuthorization("a password or a token is needed".to_owned()))
            }
        }
    }

    /// Whether requests of this kind are taken at all, before anybody proves anything.
    fn ensure_allowed(&self, peer: Peer, headers: &HeaderMap) -> Result<()> {
        let denied = |message: &str| Err(Error::PermissionDenied(message.to_owned()));
        let door = &self.door;
        let is_near = peer.address.ip().to_canonical().is_loopback();
        // Browsers name the page that a request comes from; engines do not.
        if headers.contains_key(ORIGIN) {
            return denied("requests from web pages are not taken");
        }
        if door.tls_required && !peer.is_encrypted {
            return denied("connections without encryption are refused");
        }
        match &door.auth {
            _ if door.insecure => Ok(()),
            AuthMode::Trust if !is_near => denied("without users, the REST catalog serves this machine only"),
            // A name that somebody else gave to this machine's address is a trap for browsers.
            AuthMode::Trust if !names_this_machine(header(headers, HOST).unwrap_or_default()) => {
                denied("without users, the REST catalog is asked by its address, or as localhost")
            }
            AuthMode::Scram(_) if !is_near && !peer.is_encrypted => {
                denied("a password from another machine is taken over TLS only: use https")
            }
            _ => Ok(()),
        }
    }

    async fn login(&self, users: &Arc<Users>, user: String, password: String) -> Result<Identity> {
        users.refresh();
        let checked = {
            let place = self.checks.acquire().await;
            let _place = place.map_err(|_| Error::Shutdown)?;
            let users = Arc::clone(users);
            tokio::task::spawn_blocking(move || users.login(&user, &password)).await
        };
        let checked = checked.map_err(crate::runtime::cpu::from_join)?;
        if let Err(error) = &checked {
            // Escaped: the name is the client's.
            info!(reason = ?error.to_string(), "REST catalog login refused");
            Metrics::add(&self.engine.runtime.metrics.logins_failed_total, 1);
            tokio::time::sleep(WRONG_PASSWORD_PAUSE).await;
        }
        checked
    }

    /// Answers `POST …/oauth/tokens`: a token for a user's name and password.
    ///
    /// Source: RFC 6749, section 4.4
    pub(super) async fn token(&self, peer: Peer, headers: &HeaderMap, body: Body) -> Reply {
        if let Err(error) = self.ensure_allowed(peer, headers) {
            return Reply::error(&error, Default::default());
        }
        let Ok(body) = self.body(body, FORM_BYTES_MAX).await else {
            return Reply::oauth_error(400, "invalid_request", "the form is too long");
        };
        let mut form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
        if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
            let message = "the only grant is client_credentials";
            return Reply::oauth_error(400, "unsupported_grant_type", message);
        }
        let given = header(headers, AUTHORIZATION).and_then(|given| given.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let in_header = given.and_then(|(_, value)| basic(value).ok());
        let in_form = || Some((form.remove("client_id")?, form.remove("client_secret")?));
        let Some((user, password)) = in_header.or_else(in_form) else {
            let message = "client_id is the user's name, client_secret the password";
            return Reply::oauth_error(400, "invalid_request", message);
        };
        let login = match &self.door.auth {
            mode @ AuthMode::Trust => Identity::trusted(mode, &user),
            AuthMode::Scram(users) => self.login(users, user, password).await,
        };
        match login.and_then(|identity| self.tokens.issue(&self.door.auth, &identity)) {
            Ok(token) => Reply::Json(json!({
                "access_token": token, "token_type": "bearer", "issued_token_type": TOKEN_TYPE,
                "expires_in": TOKEN_LIFE.as_secs(),
            })),
            Err(error) => Reply::oauth_error(401, "invalid_client", &error.to_string()),
        }
    }
}

/// Name and password of a Basic header.
fn basic(value: &str) -> Result<(String, String)> {
    let text = BASE64.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|text| text.split_once(':'));
    let malformed = || Error::InvalidAuthorization("the Authorization header is malformed".to_owned());
    let (user, password) = pair.ok_or_else(malformed)?;
    Ok((user.to_owned(), password.to_owned()))
}

/// Whether a Host header is an address, or `localhost`.
fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_localhost() {
        for near in ["127.0.0.1:8080", "localhost", "LOCALHOST:80", "[::1]:8080", "[::1]"] {
            assert!(names_this_machine(near), "{near}");
        }
        for far in ["", "lake.example:8080", "127.0.0.1.example", "localhost.example:80"] {
            assert!(!names_this_machine(far), "{far}");
        }
    }
}
