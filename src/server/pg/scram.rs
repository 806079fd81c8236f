//! SCRAM-SHA-256 over the wire: the SASL messages around an [`Exchange`].
//!
//! SCRAM-SHA-256-PLUS is not offered, so neither is channel binding. Whether a proof holds is decided in
//! `access`; any error here ends the connection, which the caller sees to.

use bytes::Bytes;
use pgwire::messages::startup::Authentication;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::decode::Body;
use super::stream::PgStream;
use crate::access::{Exchange, Identity, Users};
use crate::error::{Error, Result};

const MECHANISM: &str = "SCRAM-SHA-256";

/// Lets the client prove that it is `user`, whom the startup packet names.
///
/// The server's own proof is put into the output of `stream`; AuthenticationOk is left to the caller.
///
/// # Errors
/// [`Error::AuthenticationFailed`] when the proof does not hold; [`Error::Protocol`] and
/// [`Error::Unsupported`] for messages of another form; [`Error::ConnectionLost`].
pub(super) async fn authenticate(stream: &mut PgStream, users: &Users, user: &str) -> Result<Identity> {
    ask(stream, Authentication::SASL(vec![MECHANISM.to_owned()])).await?;
    let client_first = initial_response(&mut Body(answer(stream).await?))?;
    let exchange = Exchange::begin(users, user, &client_first)?;
    ask(stream, Authentication::SASLContinue(exchange.server_first().into())).await?;
    let (identity, server_final) = exchange.finish(&answer(stream).await?)?;
    stream.send(PgWireBackendMessage::Authentication(Authentication::SASLFinal(server_final.into())))?;
    Ok(identity)
}

async fn ask(stream: &mut PgStream, question: Authentication) -> Result<()> {
    stream.send(PgWireBackendMessage::Authentication(question))?;
    stream.flush().await
}

async fn answer(stream: &mut PgStream) -> Result<Bytes> {
    use pgwire::messages::startup::PasswordMessageFamily::Raw;
    match stream.next().await? {
        Some(PgWireFrontendMessage::PasswordMessageFamily(Raw(body))) => Ok(body.freeze()),
        Some(_) => Err(Error::Protocol("expected SASL response".to_owned())),
        None => Err(Error::ConnectionLost("the client left during the login".to_owned())),
    }
}

/// Reads a SASLInitialResponse: the mechanism, and the client's first message behind its length.
fn initial_response(body: &mut Body) -> Result<Bytes> {
    let malformed = || Error::Protocol("invalid SASL response".to_owned());
    if body.text()? != MECHANISM {
        return Err(Error::Protocol("client selected an invalid SASL authentication mechanism".to_owned()));
    }
    let length = usize::try_from(body.i32()?).map_err(|_| malformed())?;
    let client_first = body.bytes(length)?;
    match body.0.is_empty() {
        true => Ok(client_first),
        false => Err(malformed()),
    }
}
