//! Options: the `[store]` table of `catalog/NAME.toml`.
//!
//! A secret never stands in the table; a [`SecretRef`] says where it is found. Whether a store needs
//! what is given is decided where the store is built.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

/// Reads one environment variable; an empty one counts as absent. Tests pass their own.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub(super) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// How to reach a store, and as whom. All of it is optional: what is absent comes from the environment,
/// as the store's own tools find it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreOptions {
    /// URL of an S3-compatible service, of a GCS emulator or of an Azure account.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// The bucket in the path (`https://host/bucket/key`) rather than in the host name. Default: true with
    /// an `endpoint`, false for Amazon itself.
    pub path_style: Option<bool>,
    /// Plain http to hosts other than this one.
    pub allow_http: bool,
    /// Requests are not signed: public buckets.
    pub anonymous: bool,
    /// Requests under way at once at this location; the rest wait.
    pub requests_max: Option<usize>,

    /// A profile of `~/.aws/config` and `~/.aws/credentials`.
    pub profile: Option<String>,
    pub access_key_id: Option<SecretRef>,
    pub secret_access_key: Option<SecretRef>,
    pub session_token: Option<SecretRef>,

    /// Path of a Google service account's JSON file, relative to the catalog's folder.
    pub service_account_path: Option<PathBuf>,
    /// The same JSON itself.
    pub service_account_key: Option<SecretRef>,

    /// Name of the Azure storage account.
    pub account: Option<String>,
    pub account_key: Option<SecretRef>,
    pub sas_token: Option<SecretRef>,
    pub tenant_id: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretRef>,
}

/// Where a secret is found: `{ env = "NAME" }` or `{ file = "path" }`.
#[derive(Clone, PartialEq)]
pub enum SecretRef {
    Env(String),
    /// Relative to the catalog's folder; a final line break is not part of the secret.
    File(PathBuf),
    /// Written in clear, which is refused when the store is opened. The text is not kept: an error raised
    /// while TOML is read would quote its line.
    InClear,
}

impl SecretRef {
    /// Returns the secret that stands in `field`.
    ///
    /// # Errors
    /// [`Error::Config`], which names the field and the place but never the secret.
    pub(super) fn resolve(&self, field: &str, base_dir: &Path, env: Environment<'_>) -> Result<String> {
        match self {
            Self::Env(name) => env(name).ok_or_else(|| {
                Error::Config(format!("environment variable \"{name}\", named by \"{field}\", is not set"))
            }),
            Self::File(path) => read_secret(field, &base_dir.join(path)),
            Self::InClear => Err(Error::Config(format!(
                "\"{field}\" must not stand in the file itself: write {field} = {{ env = \"NAME\" }} or \
                 {field} = {{ file = \"path\" }}"
            ))),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env {name:?}"),
            Self::File(path) => write!(f, "file {path:?}"),
            Self::InClear => f.write_str("in clear, not kept"),
        }
    }
}

fn read_secret(field: &str, path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::Config(format!("file \"{}\", named by \"{field}\": {error}", path.display()))
    })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Error::Config(format!("file \"{}\", named by \"{field}\", is empty", path.display()))),
        secret => Ok(secret.to_owned()),
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Accepts any scalar as "in clear", so that no message of serde quotes it.
struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" } or { file = \"path\" }")
    }

    fn visit_str<E>(self, _: &str) -> Result<SecretRef, E> {
        Ok(SecretRef::InClear)
    }

    fn visit_bool<E>(self, _: bool) -> Result<SecretRef, E> {
        Ok(SecretRef::InClear)
    }

    fn visit_i64<E>(self, _: i64) -> Result<SecretRef, E> {
        Ok(SecretRef::InClear)
    }

    fn visit_u64<E>(self, _: u64) -> Result<SecretRef, E> {
        Ok(SecretRef::InClear)
    }

    fn visit_f64<E>(self, _: f64) -> Result<SecretRef, E> {
        Ok(SecretRef::InClear)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let place = match key.as_str() {
                "env" => SecretRef::Env(map.next_value()?),
                "file" => SecretRef::File(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(A::Error::custom("a secret is named by \"env\" or by \"file\""));
                }
            };
            if found.replace(place).is_some() {
                return Err(A::Error::custom("a secret is named by \"env\" or by \"file\", not by both"));
            }
        }
        found.ok_or_else(|| A::Error::custom("a secret is named by \"env\" or by \"file\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_environment(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_secret_is_read_from_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "s3cret\n").unwrap();
        let options: StoreOptions =
            toml::from_str("access_key_id = { env = \"KEY\" }\nsecret_access_key = { file = \"key\" }")
                .unwrap();
        let env = |name: &str| (name == "KEY").then(|| "AKIA".to_owned());
        let key = options.access_key_id.unwrap().resolve("access_key_id", folder.path(), &env).unwrap();
        let secret = options.secret_access_key.unwrap();
        assert_eq!(key, "AKIA");
        assert_eq!(secret.resolve("secret_access_key", folder.path(), &env).unwrap(), "s3cret");
    }

    #[test]
    fn a_secret_in_clear_is_refused_and_not_repeated() {
        for text in ["\"hunter2\"", "20022002", "true"] {
            let options: StoreOptions = toml::from_str(&format!("secret_access_key = {text}")).unwrap();
            let secret = options.secret_access_key.clone().unwrap();
            let error = secret.resolve("secret_access_key", Path::new("."), &no_environment).unwrap_err();
            let shown = format!("{options:?} {error} {error:?}");
            assert!(shown.contains("must not stand in the file"), "{shown}");
            assert!(!shown.contains(text.trim_matches('"')), "{shown}");
        }
    }

    #[test]
    fn unknown_options_and_unknown_places_are_errors() {
        assert!(toml::from_str::<StoreOptions>("endpont = \"http://localhost\"").is_err());
        assert!(toml::from_str::<StoreOptions>("session_token = { vault = \"x\" }").is_err());
        assert!(toml::from_str::<StoreOptions>("session_token = { env = \"X\", file = \"y\" }").is_err());
    }

    #[test]
    fn an_absent_variable_is_named() {
        let error = SecretRef::Env("NO_SUCH".to_owned())
            .resolve("session_token", Path::new("."), &no_environment)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration: environment variable \"NO_SUCH\", named by \"session_token\", is not set"
        );
    }
}
