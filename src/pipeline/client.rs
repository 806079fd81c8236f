//! A client of the PostgreSQL protocol: what scripts are run over.
//!
//! A [`Connection`] sends the text of one or more statements, as psql does, and gives each answer to a
//! [`Sink`] as it comes: columns, rows as text, the command's tag, notices. It speaks the simple protocol
//! only, and logs in by SCRAM or without a password. Where its bytes go is decided by who makes it: a
//! daemon's address ([`address`]), or an engine in this process.

pub mod address;
mod tls;

use std::io;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Message, RowDescriptionBody};
use postgres_protocol::message::{backend, frontend};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A message of a server that is longer than this ends the connection.
const MESSAGE_BYTES_MAX: u32 = 1 << 30;
/// How much is read at once, at least.
const READ_BYTES: usize = 16 << 10;
/// Type, and length.
const HEADER_BYTES: usize = 5;

/// What bytes go over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who logs in, and to what.
#[derive(Clone, Default)]
pub struct Login {
    pub user: String,
    pub database: Option<String>,
    pub password: Option<String>,
    /// Settings of the session, such as `application_name`.
    pub settings: Vec<(String, String)>,
}

/// What a server says of an error, or beside an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerMessage {
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The 1-based character of the text that was sent.
    pub position: Option<usize>,
}

/// Why a statement was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server says so.
    Server(Box<ServerMessage>),
    /// Nobody knows what became of it.
    Lost(String),
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
}

/// Takes the answers to a text, in their order.
pub trait Sink: Send {
    fn columns(&mut self, columns: Vec<Column>);
    fn row(&mut self, values: Vec<Option<String>>);
    /// The tag of a command that is done.
    fn complete(&mut self, tag: &str);
    fn notice(&mut self, notice: ServerMessage);
    /// Bytes of a `COPY … TO STDOUT`.
    fn copied(&mut self, _bytes: &[u8]) {}
}

/// A session of a server.
pub struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    status: u8,
}

impl Connection {
    /// Logs in over a stream on which nothing was said yet.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn open(stream: Box<dyn Stream>, login: &Login) -> Result<Self, Failure> {
        let mut connection = Self { stream, input: BytesMut::new(), status: b'I' };
        let mut startup = BytesMut::new();
        let mut parameters = vec![("user", login.user.as_str()), ("client_encoding", "UTF8")];
        parameters.extend(login.database.as_deref().map(|database| ("database", database)));
        parameters.extend(login.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        frontend::startup_message(parameters, &mut startup).map_err(lost)?;
        connection.send(&startup).await?;
        connection.authenticate(login).await?;
        loop {
            match connection.next().await? {
                Message::ReadyForQuery(ready) => {
                    connection.status = ready.status();
                    return Ok(connection);
                }
                Message::ErrorResponse(body) => return Err(server(body.fields())),
                _ => {}
            }
        }
    }

    /// The transaction status that the server showed last: `I`, `T` or `E`.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Runs the statements of a text, and gives their answers to `sink`.
    ///
    /// # Errors
    /// The first error of a statement, after which the rest of the text was not run.
    pub async fn run(&mut self, sql: &str, sink: &mut dyn Sink) -> Result<(), Failure> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(lost)?;
        self.send(&message).await?;
        let mut failed = None;
        loop {
            match self.next().await? {
                Message::RowDescription(body) => sink.columns(columns_of(&body).map_err(lost)?),
                Message::DataRow(body) => sink.row(values_of(&body).map_err(lost)?),
                Message::CommandComplete(body) => sink.complete(body.tag().map_err(lost)?),
                Message::NoticeResponse(body) => sink.notice(message_of(body.fields())),
                Message::ErrorResponse(body) => failed = Some(server(body.fields())),
                Message::CopyData(body) => sink.copied(body.data()),
                Message::CopyInResponse(_) => self.refuse_copy().await?,
                Message::ReadyForQuery(ready) => {
                    self.status = ready.status();
                    return failed.map_or(Ok(()), Err);
                }
                _ => {}
            }
        }
    }

    /// Runs a text and returns the rows of its last result.
    ///
    /// # Errors
    /// As [`Connection::run`].
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let mut kept = Kept::default();
        self.run(sql, &mut kept).await?;
        Ok(kept.0)
    }

    async fn authenticate(&mut self, login: &Login) -> Result<(), Failure> {
        loop {
            match self.next().await? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationSasl(body) => {
                    let mechanisms = body.mechanisms().map(|one| Ok(one.to_owned()));
                    let mechanisms: Vec<String> = mechanisms.collect().map_err(lost)?;
                    if !mechanisms.iter().any(|one| one == SCRAM_SHA_256) {
                        return Err(Failure::Lost(format!("unknown login methods: {mechanisms:?}")));
                    }
                    self.scram(login).await?;
                }
                Message::ErrorResponse(body) => return Err(server(body.fields())),
                Message::NoticeResponse(_) => {}
                _ => return Err(Failure::Lost("the server asks for a login other than SCRAM".to_owned())),
            }
        }
    }

    async fn scram(&mut self, login: &Login) -> Result<(), Failure> {
        let Some(password) = &login.password else {
            return Err(Failure::Lost(format!(
                "the server wants a password of user \"{}\": give one in PGPASSWORD or ~/.pgpass",
                login.user
            )));
        };
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message).map_err(lost)?;
        self.send(&message).await?;
        loop {
            match self.next().await? {
                Message::AuthenticationSaslContinue(body) => {
                    scram.update(body.data()).map_err(lost)?;
                    let mut message = BytesMut::new();
                    frontend::sasl_response(scram.message(), &mut message).map_err(lost)?;
                    self.send(&message).await?;
                }
                // Only a server that knows the password can say this: it is who it says.
                Message::AuthenticationSaslFinal(body) => return scram.finish(body.data()).map_err(lost),
                Message::ErrorResponse(body) => return Err(server(body.fields())),
                _ => return Err(Failure::Lost("unexpected message during the login".to_owned())),
            }
        }
    }

    /// There is nothing to copy from: a script's own standard input is the script.
    async fn refuse_copy(&mut self) -> Result<(), Failure> {
        let mut message = BytesMut::new();
        frontend::copy_fail("lacus run has no data to copy from standard input", &mut message)
            .map_err(lost)?;
        self.send(&message).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }

    async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            if self.input.len() >= HEADER_BYTES {
                let length = u32::from_be_bytes([self.input[1], self.input[2], self.input[3], self.input[4]]);
                if length > MESSAGE_BYTES_MAX {
                    return Err(Failure::Lost("the server sent a message without an end".to_owned()));
                }
            }
            if let Some(message) = Message::parse(&mut self.input).map_err(lost)? {
                return Ok(message);
            }
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await.map_err(lost)? == 0 {
                return Err(Failure::Lost("the server closed the connection".to_owned()));
            }
        }
    }
}

/// Keeps rows and forgets the rest.
#[derive(Default)]
struct Kept(Vec<Vec<Option<String>>>);

impl Sink for Kept {
    fn columns(&mut self, _: Vec<Column>) {
        self.0.clear();
    }

    fn row(&mut self, values: Vec<Option<String>>) {
        self.0.push(values);
    }

    fn complete(&mut self, _: &str) {}

    fn notice(&mut self, _: ServerMessage) {}
}

fn lost(error: io::Error) -> Failure {
    Failure::Lost(error.to_string())
}

fn server(fields: ErrorFields<'_>) -> Failure {
    Failure::Server(Box::new(message_of(fields)))
}

fn message_of(mut fields: ErrorFields<'_>) -> ServerMessage {
    let mut found = ServerMessage::default();
    while let Ok(Some(field)) = fields.next() {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'S' if found.severity.is_empty() => found.severity = text,
            b'V' => found.severity = text,
            b'C' => found.sqlstate = text,
            b'M' => found.message = text,
            b'D' => found.detail = Some(text),
            b'H' => found.hint = Some(text),
            b'P' => found.position = text.parse().ok(),
            _ => {}
        }
    }
    found
}

fn columns_of(body: &RowDescriptionBody) -> io::Result<Vec<Column>> {
    let column =
        |field: backend::Field<'_>| Ok(Column { name: field.name().to_owned(), type_oid: field.type_oid() });
    body.fields().map(column).collect()
}

fn values_of(body: &DataRowBody) -> io::Result<Vec<Option<String>>> {
    let buffer = body.buffer();
    let value = |range: Option<std::ops::Range<usize>>| {
        Ok(range.map(|range| String::from_utf8_lossy(&buffer[range]).into_owned()))
    };
    body.ranges().map(value).collect()
}
