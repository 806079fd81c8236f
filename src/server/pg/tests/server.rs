//! A server with the real door and a session that remembers what it was made to run.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};
use pgwire::messages::{PgWireBackendMessage as Backend, PgWireFrontendMessage as Frontend};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::{AuthMode, Users, user_entry};
use crate::error::{Error, Result};
use crate::server::listener::serve;
use crate::server::pg::startup::{Authenticated, Door};
use crate::server::pg::stream::Severity;

pub struct Server {
    pub address: SocketAddr,
    pub door: Arc<Door>,
    pub executed: Executed,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
    pub users: tempfile::NamedTempFile,
}

/// The statements that ran, and what became of them.
pub type Executed = Arc<Mutex<Vec<String>>>;

impl Server {
    /// A server where `ann` has the password `pencil`.
    pub async fn start(configure: impl FnOnce(&mut Door)) -> Self {
        let users = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(users.path(), user_entry("ann", &b"pencil\n"[..]).unwrap()).unwrap();
        let mut door = Door::new(AuthMode::Scram(Arc::new(Users::load(users.path()).unwrap()))).unwrap();
        configure(&mut door);
        let door = Arc::new(door);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, executed, shutdown) =
            (listener.local_addr().unwrap(), Executed::default(), CancellationToken::new());
        let log = executed.clone();
        let handler = move |session, stop| {
            let log = log.clone();
            async move { run(session, stop, &log).await }
        };
        let task = tokio::spawn(serve(listener, door.clone(), shutdown.clone(), handler));
        Self { address, door, executed, shutdown, task, users }
    }

    pub fn executed(&self) -> Vec<String> {
        self.executed.lock().unwrap().clone()
    }

    /// Waits until there are as many sessions and half-open connections.
    pub async fn counts(&self, sessions: usize, half_open: usize) {
        let connections = &self.door.connections;
        for _ in 0..1000 {
            if (connections.sessions(), connections.half_open_count()) == (sessions, half_open) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} sessions, {} half-open", connections.sessions(), connections.half_open_count());
    }

    /// Waits until `statement` shows up among the executed ones.
    pub async fn saw(&self, statement: &str) {
        for _ in 0..1000 {
            if self.executed().iter().any(|seen| seen == statement) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{statement} is not among {:?}", self.executed());
    }
}

async fn run(mut session: Authenticated, stop: CancellationToken, log: &Executed) {
    let _ = session.stream.send(Backend::BackendKeyData(session.cancel_key.backend_key_data()));
    loop {
        let ready = ReadyForQuery::new(TransactionStatus::Idle);
        session.stream.send(Backend::ReadyForQuery(ready)).unwrap();
        if session.stream.flush().await.is_err() {
            return;
        }
        let next = tokio::select! {
            () = stop.cancelled() => return session.stream.refuse(&Error::Shutdown).await,
            next = session.stream.next() => next,
        };
        let done = match next {
            Ok(Some(Frontend::Query(query))) => execute(&mut session, &query.query, log).await,
            Ok(Some(Frontend::Terminate(_)) | None) => return,
            Ok(Some(_)) => Ok(()),
            Err(error) if session.stream.in_sync() => Err(error),
            Err(error) => return session.stream.refuse(&error).await,
        };
        if let Err(error) = done {
            session.stream.send_error(Severity::Error, &error, error.to_string());
        }
    }
}

async fn execute(session: &mut Authenticated, sql: &str, log: &Executed) -> Result<()> {
    let note = |what: &str| log.lock().unwrap().push(what.to_owned());
    note(sql);
    match sql {
        "panic" => panic!("the statement asked for it"),
        "sleep" => {
            let token = CancellationToken::new();
            let _running = session.cancel_key.query(token.clone());
            tokio::select! {
                () = token.cancelled() => return Err(Error::Cancelled),
                () = session.stream.closed() => {
                    note("vanished");
                    return Err(Error::Cancelled);
                }
            }
        }
        "flood" => {
            let row = super::client::frame('D', [0, 1, 0, 0, 0, 4, 1, 2, 3, 4]);
            loop {
                session.stream.write_raw(&row);
                if let Err(error) = session.stream.flush_if_full().await {
                    note("client reads nothing");
                    return Err(error);
                }
            }
        }
        _ => {}
    }
    let tag = format!("{} {} {:?}", session.identity.user(), sql, session.identity.proof());
    session.stream.send(Backend::CommandComplete(CommandComplete::new(tag)))
}
