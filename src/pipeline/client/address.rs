//! Addresses of servers: `postgres://user:password@host:port/database?sslmode=…`, with what the
//! environment and `~/.pgpass` add, as libpq reads them.

use std::path::{Path, PathBuf};

use tokio::net::TcpStream;
use url::Url;

use super::{Connection, Failure, Login, Stream, tls};
use crate::error::{Error, Result};

/// What a daemon listens on when nothing else is said.
const PORT: u16 = 5433;

/// Whether a connection is encrypted, and who the server must prove to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// Encrypted where the server can.
    Prefer,
    Require,
    /// Encrypted, with a certificate for this host from a known authority.
    VerifyFull,
}

/// A server and who logs in there.
#[derive(Clone)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub ssl_mode: SslMode,
    /// Authorities that may vouch for the server.
    pub root_certificates: Option<PathBuf>,
    pub login: Login,
}

impl Address {
    /// Reads a URL; a password that it does not hold is taken from PGPASSWORD, or `~/.pgpass`.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no such URL, or has parameters that are not known.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::Config(format!("--server: {what}"));
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong("give a URL such as postgres://user@host:5433/lake"));
        }
        let decoded = |text: &str| {
            let decoded: String =
                url::form_urlencoded::parse(format!("a={}", text.replace('+', "%2B")).as_bytes())
                    .map(|(_, value)| value.into_owned())
                    .collect();
            (!decoded.is_empty()).then_some(decoded)
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let user = decoded(url.username()).or_else(|| variable("PGUSER")).or_else(|| variable("USER"));
        let database = decoded(url.path().trim_start_matches('/')).or_else(|| variable("PGDATABASE"));
        let host = url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned());
        let port = url.port().or_else(|| variable("PGPORT").and_then(|port| port.parse().ok()));
        let mut address = Self {
            host: host
                .filter(|host| !host.is_empty())
                .or_else(|| variable("PGHOST"))
                .unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: port.unwrap_or(PORT),
            ssl_mode: SslMode::Prefer,
            root_certificates: None,
            login: Login {
                user: user.unwrap_or_else(|| "lacus".to_owned()),
                database,
                password: url.password().and_then(decoded).or_else(|| variable("PGPASSWORD")),
                settings: Vec::new(),
            },
        };
        let from_environment = variable("PGSSLMODE").map(|mode| ("sslmode".to_owned(), mode));
        let given = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned()));
        for (name, value) in from_environment.into_iter().chain(given) {
            address.set(&name, value)?;
        }
        if address.login.password.is_none() {
            address.login.password = password_file().and_then(|file| password_in(&file, &address));
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        match name {
            "sslmode" => {
                self.ssl_mode = match value.as_str() {
                    "disable" => SslMode::Disable,
                    "allow" | "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" | "verify-full" => SslMode::VerifyFull,
                    other => return Err(Error::Config(format!("--server: there is no sslmode \"{other}\""))),
                }
            }
            "sslrootcert" => self.root_certificates = Some(value.into()),
            "application_name" | "options" => self.login.settings.push((name.to_owned(), value)),
            other => return Err(Error::Config(format!("--server: the parameter \"{other}\" is not known"))),
        }
        Ok(())
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let to = format!("{}:{}", self.host, self.port);
        let failed = |error: std::io::Error| Failure::Lost(format!("cannot connect to {to}: {error}"));
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let stream: Box<dyn Stream> = match self.ssl_mode {
            SslMode::Disable => Box::new(socket),
            _ => tls::encrypted(socket, self).await?,
        };
        Connection::open(stream, &self.login).await
    }
}

fn password_file() -> Option<PathBuf> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    named.or_else(|| Some(std::env::home_dir()?.join(".pgpass"))).filter(|file| is_private(file))
}

/// Others must not be able to read a file of passwords; libpq passes over one that they can.
fn is_private(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o077 == 0)
}

/// The password of the first line `host:port:database:user:password` that fits.
fn password_in(file: &Path, address: &Address) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let port = address.port.to_string();
    let database = address.login.database.clone().unwrap_or_else(|| address.login.user.clone());
    let wanted = [address.host.as_str(), &port, &database, &address.login.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields_of(line);
        let (password, fields) = fields.split_last()?;
        let fits = |(field, wanted): (&String, &&str)| field == "*" || field == *wanted;
        (fields.len() == wanted.len() && fields.iter().zip(&wanted).all(fits)).then(|| password.clone())
    })
}

/// The fields of a line; a backslash takes a colon, or another, as it is.
fn fields_of(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.last_mut().expect("there is always a last field");
        match character {
            '\\' => last.extend(characters.next()),
            ':' => fields.push(String::new()),
            other => last.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_all_of_it() {
        let address =
            Address::parse("postgres://ann:p%40ss@lake.example:6000/lake%40dev?sslmode=require").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("lake.example", 6000));
        assert_eq!(
            (address.login.user.as_str(), address.login.database.as_deref()),
            ("ann", Some("lake@dev"))
        );
        assert_eq!((address.login.password.as_deref(), address.ssl_mode), (Some("p@ss"), SslMode::Require));
        for wrong in ["lake", "http://x/", "postgres://x/?sslmode=maybe", "postgres://x/?whatever=1"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# of mine\nother:*:*:*:no\n*:6000:lake:ann:a\\:b\n*:*:*:*:last\n")
            .unwrap();
        let mut address = Address::parse("postgres://ann@h:6000/lake").unwrap();
        assert_eq!(password_in(file.path(), &address).as_deref(), Some("a:b"));
        address.port = 1;
        assert_eq!(password_in(file.path(), &address).as_deref(), Some("last"));
    }
}
