//! A connection: the loop that reads messages and answers them, and the simple protocol.
//!
//! Only what the door has logged in comes here. A statement that panics is an error of its own and
//! leaves the connection standing. While a query runs, the connection watches for its client to
//! vanish; rows are sent as fast as the client reads them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, NotificationResponse, ReadyForQuery, TransactionStatus,
};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage as Backend, PgWireFrontendMessage as Frontend};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::cancel::CancelKey;
use super::encode::row_description;
use super::portal::{Cursor, Portal, same_formats};
use super::startup::Authenticated;
use super::stream::{PgStream, Severity, notice_response};
use crate::engine::Engine;
use crate::engine::execute::Outcome;
use crate::engine::parse;
use crate::engine::session::{Session, SessionOptions};
use crate::engine::statement::Parsed;
use crate::error::{Error, Result};
use crate::runtime::channels::Notification;
use crate::runtime::cpu::panic_text;
use crate::runtime::queries::{Cancel, Stop};
use crate::telemetry::Metrics;
use crate::value::output::EncodeOptions;

/// How long a client is idle before what its session can make again is let go.
const PARK_AFTER: Duration = Duration::from_secs(2);

/// One client that is logged in.
pub(super) struct Connection {
    pub stream: PgStream,
    pub session: Session,
    pub portals: HashMap<String, Portal>,
    /// After an error in the extended protocol everything up to Sync is passed over.
    pub skips: bool,
    pub engine: Arc<Engine>,
}

/// Serves a client until it leaves, the daemon stops, or the frames are lost.
pub async fn serve(client: Authenticated, engine: Arc<Engine>, shutdown: CancellationToken) {
    let Authenticated { stream, identity, database, parameters, cancel_key, permit, .. } = client;
    let metrics = Arc::clone(&engine.runtime.metrics);
    Metrics::add(&metrics.connections, 1);
    Metrics::add(&metrics.connections_total, 1);
    let database = chosen(&engine, database, identity.user());
    let options = SessionOptions {
        user: identity.user().to_owned(),
        database,
        process_id: cancel_key.process_id(),
        settings: parameters.into_iter().collect(),
    };
    let opened = match Session::open(Arc::clone(&engine), options) {
        Ok(session) => Box::pin(session.ensure_branch()).await.map(|()| session),
        Err(refused) => Err(refused),
    };
    match opened {
        Err(refused) => {
            info!(%refused, "session refused");
            stream.refuse(&refused).await;
        }
        Ok(session) => {
            let connection = Connection { stream, session, portals: HashMap::new(), skips: false, engine };
            connection.run(&cancel_key, &shutdown).await;
        }
    }
    metrics.connections.fetch_sub(1, Ordering::Relaxed);
    drop(permit);
}

/// The catalog that a client means: the one it names, or the first where psql fills in the user's name.
fn chosen(engine: &Engine, named: Option<String>, user: &str) -> String {
    let named = named.unwrap_or_else(|| user.to_owned());
    let exists = engine.catalogs.find(&named).is_ok();
    if exists || named != user {
        return named;
    }
    engine.catalogs.names().into_iter().next().unwrap_or(named)
}

impl Connection {
    async fn run(mut self, key: &CancelKey, shutdown: &CancellationToken) {
        if self.greet(key).await.is_err() {
            return;
        }
        loop {
            let going_on = match self.hear(shutdown).await {
                Ok(None) | Ok(Some(Frontend::Terminate(_))) => return,
                // On the heap: an idle connection has no room for what runs a statement.
                Ok(Some(message)) => Box::pin(self.answer(message, key)).await,
                Err(ended) if ends_session(&ended) => Err(ended),
                // Before all others: nothing can be read or told any more, also where no message is broken.
                Err(Error::ConnectionLost(reason)) => {
                    debug!(%reason, "connection lost");
                    return;
                }
                Err(bad) if self.stream.in_sync() => self.reject(&bad).await,
                Err(bad) => {
                    self.stream.refuse(&bad).await;
                    return;
                }
            };
            match going_on {
                Ok(()) => {}
                Err(ended) if ends_session(&ended) => {
                    self.stream.refuse(&ended).await;
                    return;
                }
                Err(lost) => {
                    debug!(%lost, "connection ended");
                    return;
                }
            }
        }
    }

    /// Waits for the client's next message; meanwhile tells it of notifications.
    ///
    /// # Errors
    /// As [`PgStream::next`], and whatever ends a session that waits.
    async fn hear(&mut self, shutdown: &CancellationToken) -> Result<Option<Frontend>> {
        let (end, arrived) = (self.session.end(), self.session.arrived());
        let mut idle = std::pin::pin!(idle_too_long(self.session.idle_limit()));
        let mut parked = false;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Error::Shutdown),
                () = end.cancelled() => return Err(Error::Terminated),
                ended = &mut idle => return Err(ended),
                message = self.stream.next() => return message,
                () = arrived.notified() => {
                    self.send_notifications()?;
                    self.stream.flush().await?;
                }
                () = tokio::time::sleep(PARK_AFTER), if !parked => {
                    parked = true;
                    self.session.park();
                    self.stream.park();
                }
            }
        }
    }

    /// Tells the client what its login left to the session.
    async fn greet(&mut self, key: &CancelKey) -> Result<()> {
        self.report()?;
        self.stream.send(Backend::BackendKeyData(key.backend_key_data()))?;
        self.ready().await
    }

    /// Answers one message; an error of this function ends the connection.
    async fn answer(&mut self, message: Frontend, key: &CancelKey) -> Result<()> {
        let cancel = Cancel::default();
        let running = key.query(cancel.token());
        self.session.arm(cancel);
        let is_simple = matches!(message, Frontend::Query(_));
        let over = transaction_over(self.session.transaction_left(), self.session.committing());
        let ended = ended(self.session.end(), self.session.committing());
        let handled = tokio::select! {
            biased;
            handled = AssertUnwindSafe(self.handle(message, key)).catch_unwind() => handled,
            () = over => return Err(Error::TransactionTimeout),
            () = ended => return Err(Error::Terminated),
        };
        drop(running);
        let result = handled.unwrap_or_else(|panic| {
            let text = panic_text(panic.as_ref());
            error!(panic = %text, "a statement panicked");
            Err(Error::Internal(text))
        });
        match result {
            Ok(()) => Ok(()),
            Err(lost @ Error::ConnectionLost(_)) => Err(lost),
            Err(failed) => {
                self.fail(&failed);
                self.skips = !is_simple;
                if is_simple { self.ready().await } else { self.stream.flush().await }
            }
        }
    }

    async fn handle(&mut self, message: Frontend, key: &CancelKey) -> Result<()> {
        if self.skips && !matches!(message, Frontend::Sync(_)) {
            return Ok(());
        }
        match message {
            Frontend::Query(query) => {
                self.portals.remove("");
                self.simple(&query.query).await?;
                self.ready().await
            }
            Frontend::Parse(parse) => self.parse(parse).await,
            Frontend::Bind(bind) => self.bind(bind),
            Frontend::Describe(describe) => self.describe(&describe),
            Frontend::Execute(execute) => self.execute(execute, key).await,
            Frontend::Close(close) => self.close(&close),
            Frontend::Flush(_) => self.stream.flush().await,
            Frontend::Sync(_) => {
                self.skips = false;
                if let Err(failed) = self.session.end_implicit().await {
                    self.fail(&failed);
                }
                if self.session.status() == b'I' {
                    self.portals.clear();
                }
                self.ready().await
            }
            // What a client still sends of a COPY that failed is passed over.
            Frontend::CopyData(_) | Frontend::CopyDone(_) | Frontend::CopyFail(_) => Ok(()),
            _ => Err(Error::Protocol("this message is not expected here".to_owned())),
        }
    }

    /// Answers a message that could not be read.
    async fn reject(&mut self, bad: &Error) -> Result<()> {
        if self.skips {
            return Ok(());
        }
        self.fail(bad);
        if self.stream.last_kind() == b'Q' {
            return self.ready().await;
        }
        self.skips = true;
        self.stream.flush().await
    }

    fn fail(&mut self, failed: &Error) {
        match failed {
            Error::Internal(message) => error!(%message, "internal error"),
            Error::Storage(message) => warn!(%message, "storage error"),
            other => debug!(error = %other, code = other.sqlstate(), "statement failed"),
        }
        self.session.fail();
        // Warnings came before the error; where they have no room, it says more than they do.
        self.send_notices().ok();
        let message = relative(failed.to_string(), &self.engine.catalogs.local_roots());
        self.stream.send_error(Severity::Error, failed, message);
    }

    /// Runs the statements of one simple query in order, until one fails. Several are one transaction.
    async fn simple(&mut self, sql: &str) -> Result<()> {
        let limit = self.engine.config.statement_limit_bytes;
        if sql.len() > limit {
            return Err(Error::LimitExceeded(format!("a statement can have {limit} bytes")));
        }
        let statements = parse::parse(sql)?;
        if statements.is_empty() {
            return self.stream.send(Backend::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        for (index, statement) in statements.iter().enumerate() {
            if statements.len() > 1 {
                self.session.begin_implicit();
            }
            self.statement(statement, index + 1 == statements.len()).await?;
            self.report()?;
        }
        Ok(())
    }

    /// Runs one statement; the last of a message is complete when its implicit transaction is committed.
    async fn statement(&mut self, parsed: &Parsed, is_last: bool) -> Result<()> {
        let cancel = self.session.cancel().clone();
        if let Some(tag) = self.move_portal(&parsed.statement).await? {
            return self.complete(tag);
        }
        let executed = self.session.execute(parsed, &[]);
        let tag = match watched(&self.stream, &cancel, executed).await? {
            Outcome::Done(tag) => tag,
            Outcome::CopyIn(intake) => self.copy_in(*intake).await?,
            Outcome::CopyOut(rows, options) => self.copy_out(rows, &options).await?,
            Outcome::Rows(rows) => {
                let formats = same_formats(&rows.schema, rows.binary);
                self.stream.write_raw(&row_description(&rows.schema, &formats)?);
                let options = self.encode_options()?;
                let started = Cursor::start(rows, &formats, &options);
                let mut cursor = watched(&self.stream, &cancel, started).await?;
                let sent = self.send_rows(&mut cursor, usize::MAX).await?;
                cursor.tag(sent)
            }
        };
        if is_last {
            self.session.end_implicit().await?;
        }
        self.complete(tag)
    }

    /// Sends rows as the client takes them, at most `rows_max`; returns how many.
    pub(super) async fn send_rows(&mut self, cursor: &mut Cursor, rows_max: usize) -> Result<usize> {
        let cancel = cursor.stream.cancel().clone();
        let mut sent = 0;
        while sent < rows_max {
            let taken = watched(&self.stream, &cancel, cursor.take(rows_max - sent)).await?;
            let Some((bytes, rows)) = taken else { break };
            sent += rows;
            self.send_chunk(&bytes, rows, &cancel).await?;
        }
        Ok(sent)
    }

    async fn send_chunk(&mut self, bytes: &Bytes, rows: usize, cancel: &Cancel) -> Result<()> {
        let metrics = &self.engine.runtime.metrics;
        Metrics::add(&metrics.rows_sent_total, rows as u64);
        Metrics::add(&metrics.bytes_sent_total, bytes.len() as u64);
        self.stream.write_raw(bytes);
        // A cancel must reach a query whose client reads nothing.
        tokio::select! {
            biased;
            flushed = self.stream.flush_if_full() => flushed,
            () = cancel.stopped() => Err(cancel.error()),
        }
    }

    pub(super) fn complete(&mut self, tag: String) -> Result<()> {
        self.send_notices()?;
        self.stream.send(Backend::CommandComplete(CommandComplete::new(tag)))
    }

    /// How values are written under this session's settings.
    pub(super) fn encode_options(&self) -> Result<EncodeOptions> {
        EncodeOptions::of(|name| self.session.settings.text(name))
    }

    /// Tells the client which of its settings have changed.
    fn report(&mut self) -> Result<()> {
        for (name, value) in self.session.settings.take_reports() {
            self.stream.send(Backend::ParameterStatus(ParameterStatus::new(name.to_owned(), value)))?;
        }
        Ok(())
    }

    /// Sends what the session has to say beside its answer.
    fn send_notices(&mut self) -> Result<()> {
        for notice in self.session.take_notices() {
            self.stream.send(Backend::NoticeResponse(notice_response(notice)))?;
        }
        Ok(())
    }

    /// Sends the notifications that have arrived.
    fn send_notifications(&mut self) -> Result<()> {
        for Notification { process_id, channel, payload } in self.session.take_notifications() {
            let response = NotificationResponse::new(process_id, channel.to_string(), payload.to_string());
            self.stream.send(Backend::NotificationResponse(response))?;
        }
        Ok(())
    }

    async fn ready(&mut self) -> Result<()> {
        self.send_notices()?;
        self.send_notifications()?;
        self.report()?;
        self.session.wait();
        let status = match self.session.status() {
            b'T' => TransactionStatus::Transaction,
            b'E' => TransactionStatus::Error,
            _ => TransactionStatus::Idle,
        };
        self.stream.send(Backend::ReadyForQuery(ReadyForQuery::new(status)))?;
        self.stream.flush().await
    }
}

/// Whether an error is the session's end, of which its client is told.
fn ends_session(error: &Error) -> bool {
    matches!(
        error,
        Error::Shutdown
            | Error::Terminated
            | Error::IdleSession
            | Error::IdleInTransaction
            | Error::TransactionTimeout
    )
}

/// Resolves when a client has left its session alone for too long, with what it is told.
async fn idle_too_long(limit: Option<(Duration, Error)>) -> Error {
    match limit {
        Some((limit, error)) => {
            tokio::time::sleep(limit).await;
            error
        }
        None => std::future::pending().await,
    }
}

/// Resolves when a transaction has taken as long as it may, but never while it commits.
async fn transaction_over(left: Duration, committing: Arc<AtomicBool>) {
    tokio::time::sleep(left).await;
    if committing.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// Resolves when another session ends this one, but never while it commits.
async fn ended(end: CancellationToken, committing: Arc<AtomicBool>) {
    end.cancelled().await;
    if committing.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// A message with its paths as the catalog's users write them, below the roots.
fn relative(mut message: String, roots: &[String]) -> String {
    for root in roots {
        message = message.replace(&format!("\"{root}\""), "its root").replace(root.as_str(), "");
    }
    message
}

/// Runs `work` as long as the client is there; when it vanishes, the query is stopped.
pub(super) async fn watched<T>(
    stream: &PgStream,
    cancel: &Cancel,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let work = std::pin::pin!(work);
    let patient = async {
        // Most statements end before a watch would be worth its while.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.closed().await;
    };
    tokio::select! {
        biased;
        done = work => done,
        () = patient => {
            cancel.stop(Stop::User);
            Err(Error::ConnectionLost("the client is gone".to_owned()))
        }
    }
}
