//! The Iceberg REST catalog: other engines list, read, make and change the tables of a lake.
//!
//! `/iceberg/v1/CATALOG/…`, where CATALOG is a lake of this daemon and a namespace is one of its
//! schemas. Only managed tables are Iceberg tables; views and open files are SQL's. Whoever wants
//! something logs in first ([`door`]). A request that changes something is one transaction, and one
//! entry of the lake's log ([`changes`]); `transactions/commit` may change any number of tables.
//! Clients read and write files by themselves, with keys of their own: none are handed out.
//!
//! Source: <https://github.com/apache/iceberg/blob/main/open-api/rest-catalog-open-api.yaml>

mod changes;
mod door;
mod reads;
mod reply;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::{Extension, http};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use self::changes::Change;
use self::reply::{Reply, Words};
use super::connection::Peer;
use crate::access::{Identity, Tokens};
use crate::catalog::temporary::Temporary;
use crate::catalog::transaction::Transaction;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::runtime::queries::{Cancel, Weight};
use crate::server::pg::startup::Door;

/// What a request may take, the commit included.
const REQUEST_MAX: Duration = Duration::from_secs(150);
/// Requests of those who are logged in that run at one time; others wait.
const REQUESTS_MAX: usize = 32;

/// What all requests share.
pub(super) struct RestCatalog {
    engine: Arc<Engine>,
    door: Arc<Door>,
    tokens: Tokens,
    /// Passwords that are checked at one time.
    checks: Semaphore,
    running: Semaphore,
}

/// One request of somebody who is logged in.
struct Call {
    identity: Identity,
    method: Method,
    /// The parts of the path behind `/iceberg/v1/`, decoded.
    path: Vec<String>,
    parameters: HashMap<String, String>,
    body: Bytes,
}

impl RestCatalog {
    pub fn new(engine: Arc<Engine>, door: Arc<Door>) -> Self {
        Self {
            engine,
            door,
            tokens: Tokens::default(),
            checks: Semaphore::new(door::CHECKS_MAX),
            running: Semaphore::new(REQUESTS_MAX),
        }
    }

    /// Answers a request, within `REQUEST_MAX`.
    async fn handle(&self, peer: Peer, request: Request) -> Reply {
        let (parts, body) = request.into_parts();
        let path = match path_of(parts.uri.path()) {
            Ok(path) => path,
            Err(error) => return Reply::error(&error, Words::default()),
        };
        let is_token = matches!(path.iter().map(String::as_str).collect::<Vec<_>>()[..], ["oauth", "tokens"]);
        if is_token && parts.method == Method::POST {
            return self.token(peer, &parts.headers, body).await;
        }
        let words = Words::of(&parts.method, &path);
        let answered = async {
            let identity = self.identity(peer, &parts.headers).await?;
            let running = self.running.acquire().await;
            let _running = running.map_err(|_| Error::Shutdown)?;
            let body = self.body(body, self.engine.config.message_limit_bytes).await?;
            let (method, parameters) = (parts.method, parameters(parts.uri.query()));
            self.run(Call { identity, method, path, parameters, body }).await
        };
        match tokio::time::timeout(REQUEST_MAX, answered).await.unwrap_or(Err(Error::Timeout(REQUEST_MAX))) {
            Ok(reply) => reply,
            Err(error) => {
                match error {
                    Error::Internal(_) | Error::Storage(_) => warn!(%error, "REST catalog request failed"),
                    _ => debug!(%error, "REST catalog request failed"),
                }
                Reply::error(&error, words)
            }
        }
    }

    /// Runs a request as a statement that can be seen and cancelled.
    async fn run(&self, call: Call) -> Result<Reply> {
        let runtime = &self.engine.runtime;
        let text = format!("{} /iceberg/v1/{}", call.method, call.path.join("/"));
        let catalog = call.path.first().cloned().unwrap_or_default();
        let cancel = Cancel::default();
        let guard = runtime.queries.begin(call.identity.user(), &catalog, text.into(), cancel.clone())?;
        runtime.queries.admit(&guard, Weight::Catalog).await?;
        tokio::select! {
            biased;
            () = cancel.stopped() => Err(cancel.error()),
            reply = self.route(&call, &guard.id) => reply,
        }
    }

    async fn route(&self, call: &Call, query: &str) -> Result<Reply> {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let method = call.method.as_str();
        if let ("GET", ["config"]) = (method, &path[..]) {
            return self.config(call);
        }
        let Some((catalog, path)) = path.split_first() else { return Err(unknown(call)) };
        self.ensure_lake(catalog)?;
        let transaction = self.begin(call);
        let change = match (method, path) {
            ("GET", ["namespaces"]) => return reads::namespaces(&transaction, catalog, call).await,
            ("GET" | "HEAD", ["namespaces", schema]) => {
                return reads::namespace(&transaction, catalog, schema).await;
            }
            ("GET", ["namespaces", schema, "tables"]) => {
                return reads::tables(&transaction, catalog, schema).await;
            }
            ("GET" | "HEAD", ["namespaces", schema, "tables", table]) => {
                return reads::table(&transaction, catalog, schema, table).await;
            }
            ("POST", ["namespaces", schema, "tables", table, "metrics"]) => {
                // What a client's scan cost is taken and not kept.
                transaction.iceberg_table(catalog, schema, table).await?;
                return Ok(Reply::Empty);
            }
            ("GET" | "HEAD", ["namespaces", schema, "views", view]) => {
                return Err(Error::TableNotFound(format!("{schema}.{view}")));
            }
            ("POST", ["namespaces", schema, "tables"]) => {
                let table = call.json()?;
                match self.create(&transaction, catalog, schema, table).await? {
                    changes::Created::Staged(reply) => return Ok(reply),
                    changes::Created::Change(change) => change,
                }
            }
            (_, path) => Change::of(call, path)?,
        };
        self.change(call, catalog, &change, query).await
    }

    fn begin(&self, call: &Call) -> Arc<Transaction> {
        let temporary = Arc::new(Temporary::new(Arc::clone(&self.engine.runtime)));
        let catalogs = Arc::clone(&self.engine.catalogs);
        Arc::new(Transaction::begin(catalogs, call.identity.user().to_owned(), temporary))
    }

    fn ensure_lake(&self, catalog: &str) -> Result<()> {
        match self.engine.catalogs.lakes().any(|lake| lake.name == catalog) {
            true => Ok(()),
            false => Err(Error::CatalogNotFound(catalog.to_owned())),
        }
    }

    async fn body(&self, body: Body, limit_bytes: usize) -> Result<Bytes> {
        let too_long = |_| {
            let message = format!("the body is longer than {limit_bytes} bytes, or did not come whole");
            Error::LimitExceeded(message)
        };
        to_bytes(body, limit_bytes).await.map_err(too_long)
    }
}

/// Answers everything under `/iceberg`.
pub(super) async fn answer(
    State(catalog): State<Arc<RestCatalog>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let is_head = request.method() == Method::HEAD;
    catalog.handle(peer, request).await.into_response(is_head)
}

impl Call {
    /// # Errors
    /// [`Error::InvalidParameter`] when the body is not the JSON that is wanted.
    fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::InvalidParameter(format!("the request's body: {error}")))
    }
}

fn unknown(call: &Call) -> Error {
    Error::Unsupported(format!("{} /iceberg/v1/{}", call.method, call.path.join("/")))
}

/// The parts of a path behind `/iceberg/v1/`, percent-decoded.
fn path_of(path: &str) -> Result<Vec<String>> {
    let rest = path.strip_prefix("/iceberg/v1/");
    let rest = rest.ok_or_else(|| Error::Unsupported("anything but /iceberg/v1/".to_owned()))?;
    let wrong = || Error::InvalidParameter("the path is not percent-encoded UTF-8".to_owned());
    rest.trim_end_matches('/').split('/').map(|part| decoded(part).ok_or_else(wrong)).collect()
}

fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
            bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

fn parameters(query: Option<&str>) -> HashMap<String, String> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// A header as text.
fn header(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_part_by_part() {
        assert_eq!(
            path_of("/iceberg/v1/lake/namespaces/a%2Fb/tables/%C3%A4").unwrap(),
            ["lake", "namespaces", "a/b", "tables", "ä"]
        );
        for wrong in ["/iceberg/v2/lake", "/iceberg/v1/%f", "/iceberg/v1/%ff", "/iceberg/v1/%+1"] {
            assert!(path_of(wrong).is_err(), "{wrong}");
        }
    }
}
