//! The startup: from an accepted socket to a session that is logged in.
//!
//! The central function is [`startup`]. It reads each packet of the negotiation exactly to its end, so
//! nothing that came in the clear can get into an encrypted session, and it ends in a session, a cancel
//! request, or a closed socket: there is no way past an error. How a proof is checked is decided in
//! `access`, how many may be here in `server::limits`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pgwire::messages::startup::{Authentication, NegotiateProtocolVersion};
use pgwire::messages::{PgWireBackendMessage, ProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::cancel::{CancelKey, CancelKeys};
use super::packet::{self, Packet, StartupPacket};
use super::scram;
use super::stream::{MessageLimits, PgStream, Transport, lost};
use crate::access::{AuthMode, Identity};
use crate::error::{Error, Result};
use crate::server::limits::{ConnectionLimits, Connections, SessionPermit};
use crate::server::tls::ALPN;

/// The first byte of a TLS handshake; of a startup packet it is 0, as those are short.
const TLS_HANDSHAKE: u8 = 0x16;

/// Who is let in, and on what terms.
pub struct Door {
    pub auth: AuthMode,
    /// `None` answers clients that ask for TLS with a no.
    pub tls: Option<TlsAcceptor>,
    /// Refuses clients that do not encrypt.
    pub tls_required: bool,
    /// Lets clients of other machines in without a password.
    pub insecure: bool,
    /// How long the whole startup of one connection may take.
    pub startup_max: Duration,
    /// How long a drain waits for the sessions before it cuts them off.
    pub drain_max: Duration,
    pub messages: MessageLimits,
    pub connections: Connections,
    pub cancel_keys: Arc<CancelKeys>,
}

impl Door {
    /// A door with the default limits and without TLS.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn new(auth: AuthMode) -> Result<Self> {
        Ok(Self {
            auth,
            tls: None,
            tls_required: false,
            insecure: false,
            startup_max: Duration::from_secs(10),
            drain_max: Duration::from_secs(30),
            messages: MessageLimits::default(),
            connections: Connections::new(ConnectionLimits::default()),
            cancel_keys: CancelKeys::new()?,
        })
    }
}

/// What a connection turned out to be.
pub enum Opened {
    Session(Box<Authenticated>),
    Cancel {
        process_id: i32,
        secret: bytes::Bytes,
        /// To be closed when it is done: a client waits for the end, over TLS for a proper one.
        stream: Box<PgStream>,
    },
    /// The client left without a word, or spoke too slowly to be told.
    Closed,
}

/// A session that is logged in: AuthenticationOk is in the output of `stream`, nothing behind it.
///
/// ParameterStatus, BackendKeyData and ReadyForQuery are left to the session. Dropping it frees its
/// place and its cancel key.
pub struct Authenticated {
    pub stream: PgStream,
    pub peer: SocketAddr,
    pub identity: Identity,
    /// `None` where the client names none, which to Postgres means one of the user's name.
    pub database: Option<String>,
    /// Settings of the startup packet, those of its `options` included, as the client spells them.
    pub parameters: BTreeMap<String, String>,
    pub protocol_version: ProtocolVersion,
    pub cancel_key: CancelKey,
    pub permit: SessionPermit,
}

/// Takes a connection from its first byte to a login, within `startup_max`.
///
/// # Errors
/// Whatever kept the client out. It has been told (once, as FATAL) where it could be, and the socket is
/// closed.
pub async fn startup(socket: TcpStream, peer: SocketAddr, door: &Door) -> Result<Opened> {
    let deadline = Instant::now() + door.startup_max;
    let (transport, packet) = match timeout_at(deadline, negotiate(socket, door)).await {
        Err(_) => return Ok(Opened::Closed),
        Ok(negotiated) => match negotiated? {
            Negotiated::Startup(transport, packet) => (transport, packet),
            Negotiated::Cancel { process_id, secret, transport } => {
                let stream = Box::new(PgStream::new(transport, door.messages));
                return Ok(Opened::Cancel { process_id, secret, stream });
            }
            Negotiated::Closed => return Ok(Opened::Closed),
        },
    };
    let mut stream = PgStream::new(transport, door.messages);
    let login = timeout_at(deadline, login(&mut stream, &packet, peer, door)).await;
    match login.unwrap_or(Err(Error::AuthenticationTimeout)) {
        Ok(Login { identity, permit, cancel_key }) => {
            let StartupPacket { database, parameters, protocol_version, .. } = packet;
            stream.admit();
            Ok(Opened::Session(Box::new(Authenticated {
                stream,
                peer,
                identity,
                database,
                parameters,
                protocol_version,
                cancel_key,
                permit,
            })))
        }
        Err(error) => {
            if !matches!(error, Error::ConnectionLost(_)) {
                stream.refuse(&error).await;
            }
            Err(error)
        }
    }
}

enum Negotiated {
    Startup(Transport, StartupPacket),
    Cancel { process_id: i32, secret: bytes::Bytes, transport: Transport },
    Closed,
}

/// Reads packets, and answers those that ask for encryption, until one says what the client wants.
async fn negotiate(socket: TcpStream, door: &Door) -> Result<Negotiated> {
    let Some(mut transport) = first_transport(socket, door).await? else { return Ok(Negotiated::Closed) };
    let (mut asked_tls, mut asked_gss) = (false, false);
    loop {
        let plain = matches!(transport, Transport::Plain(_));
        let refused = match packet::read(&mut transport).await {
            Ok(None) => return Ok(Negotiated::Closed),
            Ok(Some(Packet::Startup(packet))) => return Ok(Negotiated::Startup(transport, packet)),
            Ok(Some(Packet::Cancel { process_id, secret })) => {
                return Ok(Negotiated::Cancel { process_id, secret, transport });
            }
            Ok(Some(_)) if plain && bytes_wait(&transport) => {
                Error::Protocol("received unencrypted data after an encryption request".to_owned())
            }
            Ok(Some(Packet::TlsRequest)) if plain && !asked_tls => {
                asked_tls = true;
                transport = answer_tls_request(transport, door).await?;
                continue;
            }
            Ok(Some(Packet::GssRequest)) if plain && !asked_gss => {
                asked_gss = true;
                transport.write_all(b"N").await.map_err(lost)?;
                continue;
            }
            Ok(Some(Packet::TlsRequest | Packet::GssRequest)) => {
                Error::Protocol("encryption is asked for twice".to_owned())
            }
            Err(error) => error,
        };
        if !matches!(refused, Error::ConnectionLost(_)) {
            PgStream::new(transport, door.messages).refuse(&refused).await;
        }
        return Err(refused);
    }
}

/// Begins in the clear, or with TLS at once where the first byte is that of a handshake.
async fn first_transport(socket: TcpStream, door: &Door) -> Result<Option<Transport>> {
    let mut first = [0];
    if socket.peek(&mut first).await.map_err(lost)? == 0 {
        return Ok(None);
    }
    match &door.tls {
        Some(acceptor) if first[0] == TLS_HANDSHAKE => {
            let tls = handshake(acceptor, socket).await?;
            // Without the name, a TLS client of another protocol could be led here (the ALPACA attack).
            match tls.get_ref().1.alpn_protocol() == Some(ALPN) {
                true => Ok(Some(Transport::Tls(Box::new(tls)))),
                false => {
                    Err(Error::Protocol("direct TLS without the ALPN protocol \"postgresql\"".to_owned()))
                }
            }
        }
        None if first[0] == TLS_HANDSHAKE => Err(Error::Protocol("TLS is not configured".to_owned())),
        Some(_) | None => Ok(Some(Transport::Plain(socket))),
    }
}

async fn answer_tls_request(transport: Transport, door: &Door) -> Result<Transport> {
    match (transport, &door.tls) {
        (Transport::Plain(mut socket), Some(acceptor)) => {
            socket.write_all(b"S").await.map_err(lost)?;
            Ok(Transport::Tls(Box::new(handshake(acceptor, socket).await?)))
        }
        (mut transport, _) => {
            transport.write_all(b"N").await.map_err(lost)?;
            Ok(transport)
        }
    }
}

async fn handshake(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let failed = |error| Error::Protocol(format!("TLS handshake failed: {error}"));
    acceptor.accept(socket).await.map_err(failed)
}

/// Whether the client sent more than was asked for. A client waits for the answer to a request for
/// encryption; bytes behind it were put there by somebody in between (CVE-2021-23214).
fn bytes_wait(transport: &Transport) -> bool {
    matches!(transport.tcp().try_read(&mut [0]), Ok(1..))
}

struct Login {
    identity: Identity,
    permit: SessionPermit,
    cancel_key: CancelKey,
}

/// Checks what the startup packet asks for, and who asks.
async fn login(
    stream: &mut PgStream,
    packet: &StartupPacket,
    peer: SocketAddr,
    door: &Door,
) -> Result<Login> {
    packet.check()?;
    if packet.renegotiate {
        let version = i32::from(packet.protocol_version);
        let answer = NegotiateProtocolVersion::new(version, packet.unknown_options.clone());
        stream.send(PgWireBackendMessage::NegotiateProtocolVersion(answer))?;
    }
    if door.tls_required && !stream.is_encrypted() {
        return Err(Error::InvalidAuthorization("connections without encryption are refused".to_owned()));
    }
    let identity = authenticate(stream, &packet.user, peer, door).await?;
    // Only now: whoever cannot log in must not take places from those who can.
    let permit = door.connections.session()?;
    let cancel_key = door.cancel_keys.register(packet.protocol_version)?;
    stream.send(PgWireBackendMessage::Authentication(Authentication::Ok))?;
    Ok(Login { identity, permit, cancel_key })
}

async fn authenticate(stream: &mut PgStream, user: &str, peer: SocketAddr, door: &Door) -> Result<Identity> {
    match &door.auth {
        AuthMode::Trust if peer.ip().to_canonical().is_loopback() || door.insecure => {
            Identity::trusted(&door.auth, user)
        }
        AuthMode::Trust => Err(Error::InvalidAuthorization(format!(
            "host \"{}\" may not connect without a password",
            peer.ip().to_canonical()
        ))),
        AuthMode::Scram(users) => {
            users.refresh();
            scram::authenticate(stream, users, user).await
        }
    }
}
