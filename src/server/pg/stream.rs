//! A client's stream: messages in, bytes out, over TCP or TLS.
//!
//! [`PgStream`] frames what the client sends and buffers what it gets. This module decides how long a
//! message may be (before anything of it is buffered, and more strictly before a login), which messages
//! are heard before a login, and how long a client that reads nothing is waited for. What a message
//! means is decided by who asks for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::decode;
use crate::engine::session::Notice;
use crate::error::{Error, Result};

/// Output beyond this is sent before more is made.
pub const FLUSH_BYTES: usize = 64 << 10;
/// How much is read at once, at least.
const READ_BYTES: usize = 16 << 10;
/// A buffer that grew beyond this for one message is given back.
const KEEP_BYTES: usize = 256 << 10;
/// How often [`PgStream::closed`] looks, where bytes wait that nobody reads.
const CLOSED_POLL: Duration = Duration::from_millis(200);
/// How long a client may take to read why it is refused.
const LINGER: Duration = Duration::from_millis(500);
/// How much of what a refused client still sends is thrown away before it is cut off.
const LINGER_BYTES_MAX: usize = 64 << 10;
/// Type, and length.
const HEADER_BYTES: usize = 5;

/// How long a message may be, and how long a write may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// Any message before the login.
    pub login_bytes_max: usize,
    /// Query, Parse, Bind and CopyData.
    pub statement_bytes_max: usize,
    /// Any other message.
    pub other_bytes_max: usize,
    /// How long a client may read nothing at all while there is something for it; `None` for ever.
    pub stall_max: Option<Duration>,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            login_bytes_max: 16 << 10,
            statement_bytes_max: 64 << 20,
            other_bytes_max: 16 << 10,
            stall_max: Some(Duration::from_secs(15 * 60)),
        }
    }
}

/// How bad an error or a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The connection ends with it.
    Fatal,
    /// The statement ends with it.
    Error,
    Warning,
    Notice,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// The ErrorResponse for `error`: severity, SQLSTATE, the message as the client may read it, detail, hint,
/// position and context.
pub fn error_response(severity: Severity, error: &Error, message: String) -> ErrorResponse {
    let mut fields = vec![
        (b'S', severity.as_str().to_owned()),
        (b'V', severity.as_str().to_owned()),
        (b'C', error.sqlstate().to_owned()),
        (b'M', message),
    ];
    fields.extend(error.detail().map(|detail| (b'D', detail)));
    fields.extend(error.hint().map(|hint| (b'H', hint)));
    fields.extend(error.position().map(|position| (b'P', position.to_string())));
    fields.extend(error.context().map(|context| (b'W', context.to_owned())));
    for (_, text) in &mut fields {
        // A zero byte would end the field and begin another.
        text.retain(|character| character != '\0');
    }
    ErrorResponse::new(fields)
}

/// The NoticeResponse for what a client is told beside an answer.
pub fn notice_response(notice: Notice) -> NoticeResponse {
    let severity = if notice.is_warning { Severity::Warning } else { Severity::Notice };
    let severity = severity.as_str().to_owned();
    NoticeResponse::new(vec![
        (b'S', severity.clone()),
        (b'V', severity),
        (b'C', notice.sqlstate.to_owned()),
        (b'M', notice.message.replace('\0', "")),
    ])
}

/// A client's connection, framed.
pub struct PgStream {
    transport: Transport,
    input: BytesMut,
    out: BytesMut,
    limits: MessageLimits,
    /// Before the login, only answers to the login are heard.
    admitted: bool,
    /// The frames are lost: what follows in `input` is not a message.
    lost: bool,
    last_kind: u8,
}

impl PgStream {
    /// Frames `transport`, of which the startup packet has been read, for a client not logged in.
    pub(super) fn new(transport: Transport, limits: MessageLimits) -> Self {
        let (input, out) = (BytesMut::new(), BytesMut::new());
        Self { transport, input, out, limits, admitted: false, lost: false, last_kind: 0 }
    }

    /// From here on, every message is heard, up to its limit.
    pub(super) fn admit(&mut self) {
        self.admitted = true;
    }

    /// Takes the next message; `None` when the client closed the connection between two messages.
    ///
    /// Nothing is lost when the future is dropped, so it may stand in a `select!`.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`]; [`Error::LimitExceeded`] for a message beyond its limit;
    /// [`Error::Protocol`] and [`Error::InvalidEncoding`] for one that is malformed. After the last two
    /// the next message may still be readable: see [`in_sync`](Self::in_sync).
    pub async fn next(&mut self) -> Result<Option<PgWireFrontendMessage>> {
        loop {
            if self.lost {
                return Err(Error::ConnectionLost("the last message had no readable end".to_owned()));
            }
            if let Some((kind, body)) = self.take_frame().inspect_err(|_| self.lost = true)? {
                self.last_kind = kind;
                return decode::message(kind, body).map(Some);
            }
            if self.input.is_empty() {
                self.transport.readable().await.map_err(lost)?;
            }
            self.input.reserve(READ_BYTES);
            if self.transport.read_buf(&mut self.input).await.map_err(lost)? == 0 {
                return match self.input.is_empty() {
                    true => Ok(None),
                    false => Err(Error::ConnectionLost("it ends in the middle of a message".to_owned())),
                };
            }
        }
    }

    /// Gives back the room for messages, while the client is idle.
    pub fn park(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
    }

    /// Whether another message can be read after an error of [`next`](Self::next): the bad one had a
    /// readable end. Where not, the connection must be closed.
    pub fn in_sync(&self) -> bool {
        !self.lost
    }

    /// The type byte of the message that follows, where it has arrived already.
    pub fn next_kind(&self) -> Option<u8> {
        self.input.first().copied()
    }

    /// The type byte of the last message that had a readable end, also where its body had none.
    pub fn last_kind(&self) -> u8 {
        self.last_kind
    }

    /// Appends a message to the output.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] when the protocol has no room for it; nothing is appended then.
    pub fn send(&mut self, message: PgWireBackendMessage) -> Result<()> {
        let before = self.out.len();
        message.encode(&mut self.out).map_err(|error| {
            self.out.truncate(before);
            Error::LimitExceeded(error.to_string())
        })
    }

    /// Appends an ErrorResponse to the output, with `message` in the place of the error's own.
    pub fn send_error(&mut self, severity: Severity, error: &Error, message: String) {
        let response = PgWireBackendMessage::ErrorResponse(error_response(severity, error, message));
        self.send(response).expect("an error of less than 2 GiB has room in a message");
    }

    /// Appends whole messages, already encoded, to the output.
    pub fn write_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// The output that is not sent yet, for an encoder to append whole messages to.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Sends the output if it is longer than [`FLUSH_BYTES`]; call it between messages.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn flush_if_full(&mut self) -> Result<()> {
        match self.out.len() > FLUSH_BYTES {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Sends the output, as slowly as the client reads it.
    ///
    /// Dropping the future leaves in the output what is not sent, so that a later flush goes on.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`], also when the client read nothing for `stall_max`.
    pub async fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            let written = within(self.limits.stall_max, self.transport.write(&self.out)).await?;
            if written == 0 {
                return Err(Error::ConnectionLost("it takes no more bytes".to_owned()));
            }
            self.out.advance(written);
        }
        if self.out.capacity() > KEEP_BYTES {
            self.out = BytesMut::new();
        }
        within(self.limits.stall_max, self.transport.flush()).await
    }

    /// Waits until the client is gone, reading nothing: messages that it sent ahead stay where they are.
    ///
    /// For a `select!` beside a running query. A client that went without a word (its cable cut) is
    /// noticed by TCP keepalive only, after some two minutes.
    pub async fn closed(&self) {
        loop {
            match self.transport.tcp().ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(CLOSED_POLL).await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Sends what is left of the output and closes the connection.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(mut self) -> Result<()> {
        self.flush().await?;
        within(Some(LINGER), self.transport.shutdown()).await
    }

    /// Sends `error` as FATAL, once, and closes the connection.
    ///
    /// What the client still sends is thrown away unseen for [`LINGER`]: a close over unread bytes would
    /// reset the connection and could take the message with it.
    pub async fn refuse(mut self, error: &Error) {
        self.send_error(Severity::Fatal, error, error.to_string());
        self.lost = true;
        let farewell = async {
            self.flush().await?;
            self.transport.shutdown().await.map_err(lost)?;
            let mut unread = (&mut self.transport).take(LINGER_BYTES_MAX as u64);
            tokio::io::copy(&mut unread, &mut tokio::io::sink()).await.map_err(lost)
        };
        // However it ends, the client is gone; there is nobody left to tell.
        let _ = timeout(LINGER, farewell).await;
    }

    /// Takes one whole frame from the input, if there is one.
    fn take_frame(&mut self) -> Result<Option<(u8, Bytes)>> {
        let Some(&kind) = self.input.first() else { return Ok(None) };
        let limit = self.limit(kind)?;
        if self.input.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = (&self.input[1..]).get_u32() as usize;
        if length < HEADER_BYTES - 1 {
            return Err(Error::Protocol("invalid message length".to_owned()));
        }
        if length > limit {
            return Err(Error::LimitExceeded(format!(
                "a message of {length} bytes is longer than the limit of {limit}"
            )));
        }
        if self.input.len() <= length {
            return Ok(None);
        }
        let mut frame = self.input.split_to(1 + length).freeze();
        if length > KEEP_BYTES {
            self.input = BytesMut::from(&self.input[..]);
        }
        frame.advance(HEADER_BYTES);
        Ok(Some((kind, frame)))
    }

    /// The longest message of type `kind` that is heard now, in bytes, its length field included.
    fn limit(&self, kind: u8) -> Result<usize> {
        match (self.admitted, kind) {
            (false, b'p') => Ok(self.limits.login_bytes_max),
            (false, _) => Err(Error::Protocol(format!("expected SASL response, got message type {kind}"))),
            (true, b'Q' | b'P' | b'B' | b'd') => Ok(self.limits.statement_bytes_max),
            (true, b'D' | b'C' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' | b'F') => {
                Ok(self.limits.other_bytes_max)
            }
            (true, _) => Err(Error::Protocol(format!("invalid frontend message type {kind}"))),
        }
    }
}

/// TCP, or TLS over it.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Waits until there may be something to read, without room for it.
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.readable().await,
            // It may hold what was decrypted already.
            Self::Tls(_) => Ok(()),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            // Many clients close without TLS's close_notify. Our frames have lengths of their own, so
            // an end that somebody forged is noticed, and an end between messages does no harm.
            Self::Tls(tls) => match ready!(Pin::new(tls).poll_read(cx, buf)) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                done => Poll::Ready(done),
            },
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// Waits for one step of a write, which is progress, for at most `limit`.
async fn within<T>(limit: Option<Duration>, step: impl Future<Output = io::Result<T>>) -> Result<T> {
    let Some(limit) = limit else { return step.await.map_err(lost) };
    match timeout(limit, step).await {
        Ok(done) => done.map_err(lost),
        Err(_) => Err(Error::ConnectionLost(format!("the client read nothing for {limit:?}"))),
    }
}

pub(super) fn lost(error: io::Error) -> Error {
    Error::ConnectionLost(error.to_string())
}
