//! Packets of the startup: those that come before messages have a type.
//!
//! This module reads one packet exactly to its end and says what it asks for: encryption, a cancel, or a
//! session with a user, a database and settings. What is answered is decided in [`startup`](super::startup).

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use pgwire::messages::ProtocolVersion;
use tokio::io::AsyncReadExt;

use super::decode::Body;
use super::stream::{Transport, lost};
use crate::error::{Error, Result};

/// As Postgres's `MAX_STARTUP_PACKET_LENGTH`.
const PACKET_BYTES_MAX: usize = 10_000;
const LENGTH_BYTES: usize = 4;
const CANCEL_REQUEST: u32 = 80_877_102;
const TLS_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
/// The longest secret of protocol 3.2.
const SECRET_BYTES_MAX: usize = 256;

/// What a client asks for.
pub(super) enum Packet {
    TlsRequest,
    GssRequest,
    Cancel { process_id: i32, secret: Bytes },
    Startup(StartupPacket),
}

/// What a client asks a session to be.
#[derive(Debug)]
pub(super) struct StartupPacket {
    pub protocol_version: ProtocolVersion,
    /// The client must be told which version and options it gets, as they are not those it asks for.
    pub renegotiate: bool,
    pub unknown_options: Vec<String>,
    /// Claimed, not proven.
    pub user: String,
    pub database: Option<String>,
    pub parameters: BTreeMap<String, String>,
    replication: Option<String>,
}

/// Reads one packet and not a byte more; `None` when the client left before its first byte.
///
/// # Errors
/// [`Error::Protocol`] for a packet that is too long, too short or malformed; [`Error::Unsupported`] for
/// another protocol; [`Error::ConnectionLost`].
pub(super) async fn read(transport: &mut Transport) -> Result<Option<Packet>> {
    let mut length = [0; LENGTH_BYTES];
    if transport.read(&mut length[..1]).await.map_err(lost)? == 0 {
        return Ok(None);
    }
    transport.read_exact(&mut length[1..]).await.map_err(lost)?;
    let length = u32::from_be_bytes(length) as usize;
    if !(2 * LENGTH_BYTES..=PACKET_BYTES_MAX).contains(&length) {
        return Err(Error::Protocol("invalid length of startup packet".to_owned()));
    }
    let mut body = vec![0; length - LENGTH_BYTES];
    transport.read_exact(&mut body).await.map_err(lost)?;
    let mut body = Bytes::from(body);
    decode(body.get_u32(), body).map(Some)
}

pub(super) fn decode(code: u32, body: Bytes) -> Result<Packet> {
    match (code, body.len()) {
        (TLS_REQUEST, 0) => Ok(Packet::TlsRequest),
        (GSS_REQUEST, 0) => Ok(Packet::GssRequest),
        (CANCEL_REQUEST, _) => cancel(Body(body)),
        _ if code >> 16 == 3 => StartupPacket::decode(code & 0xffff, Body(body)).map(Packet::Startup),
        _ => Err(Error::Unsupported(format!(
            "unsupported frontend protocol {}.{}: server supports 3.0 to 3.2",
            code >> 16,
            code & 0xffff
        ))),
    }
}

fn cancel(mut body: Body) -> Result<Packet> {
    let process_id = body.i32()?;
    match body.rest() {
        secret if (4..=SECRET_BYTES_MAX).contains(&secret.len()) => Ok(Packet::Cancel { process_id, secret }),
        _ => Err(Error::Protocol("invalid length of cancel request".to_owned())),
    }
}

impl StartupPacket {
    fn decode(minor: u32, mut body: Body) -> Result<Self> {
        let protocol_version = match minor {
            0 | 1 => ProtocolVersion::PROTOCOL3_0,
            _ => ProtocolVersion::PROTOCOL3_2,
        };
        let mut parameters = BTreeMap::new();
        loop {
            match body.text()? {
                name if name.is_empty() => break,
                name => parameters.insert(name, body.text()?),
            };
        }
        if !body.0.is_empty() {
            let layout = "invalid startup packet layout: expected terminator as last byte";
            return Err(Error::Protocol(layout.to_owned()));
        }
        let unknown_options: Vec<_> =
            parameters.extract_if(.., |name, _| name.starts_with("_pq_.")).map(|(name, _)| name).collect();
        let mut packet = Self {
            protocol_version,
            renegotiate: !matches!(minor, 0 | 2) || !unknown_options.is_empty(),
            unknown_options,
            user: parameters.remove("user").unwrap_or_default(),
            database: parameters.remove("database").filter(|name| !name.is_empty()),
            replication: parameters.remove("replication"),
            parameters,
        };
        packet.apply_options()?;
        Ok(packet)
    }

    /// Moves the settings of the `options` parameter among the others, which have precedence.
    fn apply_options(&mut self) -> Result<()> {
        let Some(options) = self.parameters.remove("options") else { return Ok(()) };
        for (name, value) in settings(&options)? {
            self.parameters.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// Checks that the packet asks for something that there is.
    ///
    /// # Errors
    /// [`Error::InvalidAuthorization`] without a user, [`Error::Unsupported`] for replication.
    pub fn check(&self) -> Result<()> {
        if self.user.is_empty() {
            let message = "no PostgreSQL user name specified in startup packet";
            return Err(Error::InvalidAuthorization(message.to_owned()));
        }
        match self.replication.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "off" | "no" | "0") => Ok(()),
            Some(_) => Err(Error::Unsupported("replication connections are not supported".to_owned())),
        }
    }
}

/// Reads `-c name=value`, `-cname=value` and `--name=value`; of one that comes twice, the last counts.
fn settings(options: &str) -> Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let invalid = || Error::Syntax {
            message: format!("invalid command-line argument for server process: {word}"),
            position: None,
        };
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.to_owned(),
            (None, Some("")) => words.next().ok_or_else(invalid)?,
            (None, Some(setting)) => setting.to_owned(),
            (None, None) => return Err(invalid()),
        };
        let (name, value) = setting.split_once('=').ok_or_else(invalid)?;
        settings.insert(name.replace('-', "_"), value.to_owned());
    }
    Ok(settings)
}

/// Splits at white space; a backslash takes the next character as it is, as Postgres does.
fn words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ if character.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(code: u32, parameters: &str) -> Result<StartupPacket> {
        match decode(code, Bytes::copy_from_slice(parameters.as_bytes()))? {
            Packet::Startup(packet) => Ok(packet),
            _ => panic!("not a startup packet"),
        }
    }

    #[test]
    fn settings_come_from_options_and_parameters() {
        let text = "user\0ann\0database\0lake\0application_name\0psql\0\
            options\0-c a=1 -cb=2\\ 3 --c-d=4 -c application_name=x\0\0";
        let packet = startup(3 << 16, text).unwrap();
        assert_eq!((packet.user.as_str(), packet.database.as_deref()), ("ann", Some("lake")));
        let expected = [("a", "1"), ("application_name", "psql"), ("b", "2 3"), ("c_d", "4")];
        assert_eq!(packet.parameters, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(packet.check().is_ok() && !packet.renegotiate);
    }

    #[test]
    fn packets_that_ask_for_what_there_is_not() {
        let refused =
            |code, text: &str| startup(code, text).and_then(|packet| packet.check()).unwrap_err().sqlstate();
        assert_eq!(refused(2 << 16, ""), "0A000");
        assert_eq!(refused(3 << 16, "\0"), "28000");
        assert_eq!(refused(3 << 16, "user\0ann\0replication\0database\0\0"), "0A000");
        assert_eq!(refused(3 << 16, "user\0ann\0options\0-x\0\0"), "42601");
        assert_eq!(refused(3 << 16, "user\0ann\0options\0-c\0\0"), "42601");
        assert_eq!(refused(3 << 16, "user\0ann\0"), "08P01");
        assert_eq!(refused(3 << 16, "user\0ann\0\0more"), "08P01");
    }

    #[test]
    fn newer_versions_and_unknown_options_are_negotiated_down() {
        let newer = startup(3 << 16 | 9999, "user\0ann\0_pq_.magic\x001\0\0").unwrap();
        assert!(newer.renegotiate && newer.protocol_version == ProtocolVersion::PROTOCOL3_2);
        assert_eq!(newer.unknown_options, ["_pq_.magic"]);
        assert!(newer.parameters.is_empty());
        let exact = startup(3 << 16 | 2, "user\0ann\0\0").unwrap();
        assert!(!exact.renegotiate && exact.protocol_version == ProtocolVersion::PROTOCOL3_2);
    }
}
