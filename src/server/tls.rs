//! TLS: the server's certificate, its own or one made at the first start.
//!
//! This module decides which certificates are good enough to start with, and whether a server may listen
//! where it is told to. A certificate made here encrypts against whoever listens, and stops whoever stands
//! in between only for clients that pin it: `sslmode=verify-ca sslrootcert=…/server.crt`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Utc};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};
use tracing::{info, warn};

use crate::access::AuthMode;
use crate::error::{Error, Result};

/// The name of our protocol inside TLS, which Postgres 17 introduced for direct TLS.
pub const ALPN: &[u8] = b"postgresql";
/// Key and certificate in one file, so that there is never one without the other.
const STATE_FILE: &str = "server.pem";
/// The certificate alone, for clients to pin.
const CERTIFICATE_FILE: &str = "server.crt";
const YEARS_VALID: i32 = 10;
/// A certificate made here that ends sooner than this is made again.
const RENEW_BEFORE: TimeDelta = TimeDelta::days(30);

/// Refuses to listen beyond loopback where nobody has to prove anything.
///
/// # Errors
/// [`Error::Config`], unless `insecure` says that this is meant.
pub fn check_exposure(listen: SocketAddr, auth: &AuthMode, insecure: bool) -> Result<()> {
    match auth {
        AuthMode::Scram(_) => Ok(()),
        AuthMode::Trust if listen.ip().to_canonical().is_loopback() => Ok(()),
        AuthMode::Trust if insecure => {
            warn!(%listen, "everybody who can reach this address may read and write the lake");
            Ok(())
        }
        AuthMode::Trust => Err(Error::Config(format!(
            "listening on {listen} without passwords would let everybody in: \
             name a users file, listen on 127.0.0.1, or say --insecure"
        ))),
    }
}

/// Loads a certificate chain and its key from PEM files.
///
/// A certificate that has expired, or is not valid yet, is warned of.
///
/// # Errors
/// [`Error::Config`] when a file cannot be read, holds no certificate or no key, or when the key is not
/// that of the certificate.
pub fn load(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let problem = |path: &Path, error| Error::Config(format!("TLS file \"{}\": {error}", path.display()));
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| problem(certificate, error.to_string()))?;
    let Some(own) = chain.first() else {
        return Err(problem(certificate, "it holds no certificate".to_owned()));
    };
    warn_of_dates(certificate, own);
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| problem(key, error.to_string()))?;
    acceptor(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            problem(key, format!("it is not the key of the certificate \"{}\"", certificate.display()))
        }
        error => problem(certificate, error.to_string()),
    })
}

/// Loads the certificate that an earlier start left in the folder `state`, or makes one.
///
/// The folder gets `server.pem`, key and certificate, readable by the owner alone, and `server.crt`, the
/// certificate for clients to pin. Several processes that start at once end up with the same.
///
/// # Errors
/// [`Error::Config`] when the folder cannot be written, or holds a broken file.
pub fn load_or_create(state: &Path) -> Result<TlsAcceptor> {
    let path = state.join(STATE_FILE);
    let problem = |error: io::Error| Error::Config(format!("TLS state \"{}\": {error}", path.display()));
    match fs::symlink_metadata(&path) {
        Ok(_) if !ends_soon(&path) => {}
        Ok(_) => {
            fs::remove_file(&path).map_err(problem)?;
            create(state, &path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(state, &path)?,
        Err(error) => return Err(problem(error)),
    }
    load(&path, &path)
}

/// Makes a certificate for this machine and puts it at `path`, unless another process was faster.
fn create(state: &Path, path: &Path) -> Result<()> {
    let problem =
        |error: &dyn std::fmt::Display| Error::Config(format!("TLS state \"{}\": {error}", path.display()));
    let (certificate, key) = self_signed().map_err(|error| problem(&error))?;
    fs::create_dir_all(state).map_err(|error| problem(&error))?;
    let draft = state.join(format!(".{STATE_FILE}.{}", uuid::Uuid::new_v4()));
    write_private(&draft, &(key + &certificate)).map_err(|error| problem(&error))?;
    // A hard link fails where a file is, which a rename would replace.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(|error| problem(&error))?;
    match linked {
        Ok(()) => {
            fs::write(state.join(CERTIFICATE_FILE), certificate).map_err(|error| problem(&error))?;
            info!(path = %path.display(), "TLS certificate made");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(problem(&error)),
    }
}

/// Returns certificate and key in PEM.
fn self_signed() -> std::result::Result<(String, String), rcgen::Error> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(hostname());
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.remove(rcgen::DnType::CommonName);
    params.distinguished_name.push(rcgen::DnType::CommonName, "lacus");
    let year = Utc::now().year();
    // From last year's beginning, for clients whose clock is slow.
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS_VALID, 1, 1);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn hostname() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    Some(name).filter(|name| !name.is_empty() && name.bytes().all(fits))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> std::result::Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn ends_soon(path: &Path) -> bool {
    CertificateDer::from_pem_file(path)
        .ok()
        .and_then(|certificate| validity(&certificate))
        .is_some_and(|(_, until)| until < Utc::now() + RENEW_BEFORE)
}

fn warn_of_dates(path: &Path, certificate: &CertificateDer<'_>) {
    let path = path.display();
    match validity(certificate) {
        Some((from, _)) if from > Utc::now() => warn!(%path, %from, "TLS certificate is not valid yet"),
        Some((_, until)) if until < Utc::now() => warn!(%path, %until, "TLS certificate has expired"),
        Some(_) => {}
        None => warn!(%path, "TLS certificate has no readable dates"),
    }
}

/// Reads the two dates of an X.509 certificate.
///
/// Source: RFC 5280, section 4.1: Certificate > TBSCertificate > [version], serialNumber, signature,
/// issuer, validity.
fn validity(certificate: &[u8]) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = der_element(certificate)?;
    let (_, mut tbs, _) = der_element(certificate)?;
    if der_element(tbs)?.0 == VERSION {
        tbs = der_element(tbs)?.2;
    }
    for _serial_signature_issuer in 0..3 {
        tbs = der_element(tbs)?.2;
    }
    let (SEQUENCE, dates, _) = der_element(tbs)? else { return None };
    let (from_tag, from, rest) = der_element(dates)?;
    let (until_tag, until, _) = der_element(rest)?;
    Some((der_time(from_tag, from)?, der_time(until_tag, until)?))
}

/// Splits off the first DER element: its tag, its content, and what follows it.
fn der_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..0x80 => (usize::from(short), rest),
        _ => {
            let (long, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (long.iter().try_fold(0usize, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))?, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Reads a UTCTime, whose years are those from 1950 on, or a GeneralizedTime.
fn der_time(tag: u8, text: &[u8]) -> Option<DateTime<Utc>> {
    const UTC_TIME: u8 = 0x17;
    let text = std::str::from_utf8(text).ok()?;
    let full = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        _ => text.to_owned(),
    };
    Some(NaiveDateTime::parse_from_str(&full, "%Y%m%d%H%M%SZ").ok()?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Users;

    #[test]
    fn a_certificate_is_made_once_and_kept() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("new");
        load_or_create(&folder).unwrap();
        let first = fs::read(folder.join(STATE_FILE)).unwrap();
        load_or_create(&folder).unwrap();
        assert_eq!(fs::read(folder.join(STATE_FILE)).unwrap(), first);
        let pinned = fs::read_to_string(folder.join(CERTIFICATE_FILE)).unwrap();
        assert!(pinned.starts_with("-----BEGIN CERTIFICATE") && !pinned.contains("KEY"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.join(STATE_FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn dates_are_read_and_an_old_certificate_is_made_again() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(STATE_FILE);
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 3, 4);
        params.not_after = rcgen::date_time_ymd(2020, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let old = params.self_signed(&key).unwrap();
        let (from, until) = validity(old.der()).unwrap();
        assert_eq!((from.to_rfc3339(), until.year()), ("2019-03-04T00:00:00+00:00".to_owned(), 2020));

        fs::write(&path, key.serialize_pem() + &old.pem()).unwrap();
        load(&path, &path).unwrap();
        load_or_create(state.path()).unwrap();
        let new = CertificateDer::from_pem_file(&path).unwrap();
        assert!(validity(&new).unwrap().1 > Utc::now() + TimeDelta::days(365));
        assert_eq!(validity(&new[..new.len() / 8]), None);
    }

    #[test]
    fn bad_files_are_refused_with_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let (certificate, key) = self_signed().unwrap();
        let (_, other_key) = self_signed().unwrap();
        let certificate = file("cert.pem", &certificate);
        let error = |certificate: &Path, key: &Path| load(certificate, key).err().unwrap().to_string();
        let mismatch = error(&certificate, &file("other.pem", &other_key));
        assert!(mismatch.contains("other.pem") && mismatch.contains("not the key"), "{mismatch}");
        let empty = error(&file("empty.pem", ""), &file("key.pem", &key));
        assert!(empty.contains("empty.pem") && empty.contains("no certificate"), "{empty}");
        assert!(error(&certificate, &folder.path().join("absent.pem")).contains("absent.pem"));
    }

    #[test]
    fn only_loopback_is_open_without_a_password() {
        let check = |listen: &str, auth: &AuthMode, insecure| {
            check_exposure(listen.parse().unwrap(), auth, insecure).is_ok()
        };
        for loopback in ["127.0.0.1:5433", "127.8.8.8:1", "[::1]:5433"] {
            assert!(check(loopback, &AuthMode::Trust, false), "{loopback}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let scram = AuthMode::Scram(Arc::new(Users::load(file.path()).unwrap()));
        for wide in ["0.0.0.0:5433", "[::]:5433", "192.168.1.2:5433"] {
            assert!(!check(wide, &AuthMode::Trust, false), "{wide}");
            assert!(check(wide, &AuthMode::Trust, true), "{wide}");
            assert!(check(wide, &scram, false), "{wide}");
        }
    }
}
