//! TLS of a client: what encrypts a connection to a daemon.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::address::{Address, SslMode};
use super::{Failure, Stream};

/// Asks a server for TLS, as `sslmode` wants it.
///
/// # Errors
/// [`Failure::Lost`] when it has none and must, or does not prove who it is.
pub async fn encrypted(mut socket: TcpStream, address: &Address) -> Result<Box<dyn Stream>, Failure> {
    let failed = |error: std::io::Error| Failure::Lost(error.to_string());
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    socket.write_all(&request).await.map_err(failed)?;
    let mut answer = [0];
    socket.read_exact(&mut answer).await.map_err(failed)?;
    match (answer[0], address.ssl_mode) {
        (b'S', _) => {}
        (_, SslMode::Prefer) => return Ok(Box::new(socket)),
        _ => return Err(Failure::Lost("the server does not encrypt, but sslmode wants it".to_owned())),
    }
    let config = config(address).map_err(Failure::Lost)?;
    let name =
        ServerName::try_from(address.host.clone()).map_err(|error| Failure::Lost(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(Box::new(connector.connect(name, socket).await.map_err(failed)?))
}

fn config(address: &Address) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if address.ssl_mode != SslMode::VerifyFull {
        // As libpq: encrypted against who listens, not against who pretends to be the server.
        let verifier = Arc::new(AnyServer(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    let home = || std::env::home_dir().map(|home| home.join(".postgresql/root.crt"));
    let file =
        address.root_certificates.clone().or_else(home).ok_or("sslmode=verify-full needs sslrootcert")?;
    let read = |error: rustls_pki_types::pem::Error| format!("\"{}\": {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file).map_err(read)? {
        roots.add(certificate.map_err(read)?).map_err(|error| error.to_string())?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Takes every certificate, but only from who has its key.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
