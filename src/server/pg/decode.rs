//! Bodies of frontend messages, decoded from one frame and never past its end.
//!
//! The types are pgwire's; the decoding is ours, as pgwire's own reads beyond a short body into the
//! message behind it, panics on some, and replaces what is not UTF-8.

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::PgWireFrontendMessage as Message;
use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Flush, Parse, Sync};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::PasswordMessageFamily;
use pgwire::messages::terminate::Terminate;

use crate::error::{Error, Result};

/// Decodes the `body` of a message of type `kind`.
///
/// # Errors
/// [`Error::Protocol`] when the body is too short, too long or of another form;
/// [`Error::InvalidEncoding`] when a text in it is not UTF-8.
pub(super) fn message(kind: u8, body: Bytes) -> Result<Message> {
    let mut body = Body(body);
    let message = match kind {
        b'Q' => Message::Query(Query::new(body.text()?)),
        b'P' => Message::Parse(Parse::new(body.name()?, body.text()?, body.type_oids()?)),
        b'B' => Message::Bind(body.bind()?),
        b'D' => Message::Describe(Describe::new(body.target()?, body.name()?)),
        b'C' => Message::Close(Close::new(body.target()?, body.name()?)),
        b'E' => Message::Execute(Execute::new(body.name()?, body.i32()?)),
        b'H' => Message::Flush(Flush::new()),
        b'S' => Message::Sync(Sync::new()),
        b'X' => Message::Terminate(Terminate::new()),
        b'd' => Message::CopyData(CopyData::new(body.rest())),
        b'c' => Message::CopyDone(CopyDone::new()),
        b'f' => Message::CopyFail(CopyFail::new(body.text()?)),
        b'p' => Message::PasswordMessageFamily(PasswordMessageFamily::Raw(BytesMut::from(body.rest()))),
        b'F' => return Err(Error::Unsupported("the function call message is not supported".to_owned())),
        _ => return Err(Error::Protocol(format!("invalid frontend message type {kind}"))),
    };
    match body.0.is_empty() {
        true => Ok(message),
        false => Err(malformed()),
    }
}

/// What is left of a body. Also reads the packets of the startup, which have no type.
pub(super) struct Body(pub Bytes);

impl Body {
    /// Takes `length` bytes, without copying them.
    pub fn bytes(&mut self, length: usize) -> Result<Bytes> {
        if length > self.0.len() {
            return Err(malformed());
        }
        Ok(self.0.split_to(length))
    }

    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(self.bytes(4)?.get_i32())
    }

    /// Takes a text that ends in a zero byte.
    pub fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or_else(malformed)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.into()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::InvalidEncoding(format!(
                "invalid byte sequence for encoding \"UTF8\": 0x{:02x} at byte {at}",
                error.as_bytes()[at]
            ))
        })
    }

    /// Takes a name, of which the empty one is the unnamed statement or portal.
    fn name(&mut self) -> Result<Option<String>> {
        Ok(Some(self.text()?).filter(|name| !name.is_empty()))
    }

    /// Takes `S` for a statement or `P` for a portal.
    fn target(&mut self) -> Result<u8> {
        match self.bytes(1)?[0] {
            target @ (b'S' | b'P') => Ok(target),
            _ => Err(malformed()),
        }
    }

    fn type_oids(&mut self) -> Result<Vec<u32>> {
        let count = self.count(4)?;
        Ok((0..count).map(|_| self.0.get_u32()).collect())
    }

    fn format_codes(&mut self) -> Result<Vec<i16>> {
        let count = self.count(2)?;
        Ok((0..count).map(|_| self.0.get_i16()).collect())
    }

    /// Takes a number of elements, which must be here with at least `element_bytes` each.
    fn count(&mut self, element_bytes: usize) -> Result<usize> {
        let count = usize::from(self.bytes(2)?.get_u16());
        match count * element_bytes <= self.0.len() {
            true => Ok(count),
            false => Err(malformed()),
        }
    }

    fn bind(&mut self) -> Result<Bind> {
        let (portal, statement) = (self.name()?, self.name()?);
        let parameter_formats = self.format_codes()?;
        let count = self.count(4)?;
        let parameters = (0..count).map(|_| self.parameter()).collect::<Result<_>>()?;
        Ok(Bind::new(portal, statement, parameter_formats, parameters, self.format_codes()?))
    }

    /// Takes a value behind its length, where the length -1 is null.
    fn parameter(&mut self) -> Result<Option<Bytes>> {
        match self.i32()? {
            -1 => Ok(None),
            length => self.bytes(usize::try_from(length).map_err(|_| malformed())?).map(Some),
        }
    }
}

fn malformed() -> Error {
    Error::Protocol("invalid message format".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_reads_as_pgwire_writes_it() {
        let parameters = vec![None, Some(Bytes::from_static(b"42")), Some(Bytes::new())];
        let messages = [
            Message::Query(Query::new("select 'ü'".to_owned())),
            Message::Parse(Parse::new(None, "select $1".to_owned(), vec![23, u32::MAX])),
            Message::Bind(Bind::new(Some("p".to_owned()), None, vec![1], parameters, vec![0, 1])),
            Message::Describe(Describe::new(b'P', Some("p".to_owned()))),
            Message::Close(Close::new(b'S', None)),
            Message::Execute(Execute::new(None, 7)),
            Message::Flush(Flush::new()),
            Message::Sync(Sync::new()),
            Message::Terminate(Terminate::new()),
            Message::CopyData(CopyData::new(Bytes::from_static(b"\x00\xff"))),
            Message::CopyDone(CopyDone::new()),
            Message::CopyFail(CopyFail::new("no".to_owned())),
        ];
        for sent in messages {
            let mut frame = BytesMut::new();
            sent.encode(&mut frame).unwrap();
            let (kind, body) = (frame[0], frame.split_off(5).freeze());
            let read = message(kind, body.clone()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{sent:?}"));
            // Whatever is cut off, or put behind, is an error; never a panic, never another message.
            if kind != b'd' {
                for end in 0..body.len() {
                    assert!(message(kind, body.slice(..end)).is_err(), "{sent:?} cut at {end}");
                }
                assert!(message(kind, [&body[..], b"\0"].concat().into()).is_err(), "{sent:?} and more");
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let fails =
            |kind, body: &'static [u8]| message(kind, Bytes::from_static(body)).unwrap_err().sqlstate();
        assert_eq!(fails(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), "08P01");
        assert_eq!(fails(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"), "08P01");
        assert_eq!(fails(b'P', b"\0\0\xff\xff"), "08P01");
        assert_eq!(fails(b'D', b"Zx\0"), "08P01");
        assert_eq!(fails(b'?', b""), "08P01");
        assert_eq!(fails(b'Q', b"select '\xc3\x28'\0"), "22021");
    }
}
