//! S3: Amazon's object store and those that speak its language.
//!
//! This module decides who the requests are signed as, in the order of the AWS SDKs: the catalog's
//! options, the environment, a web identity, the shared profile files, the container's credentials,
//! the machine's. Keys from options, environment and files are read once, when the location is
//! opened; the others are renewed as they expire.
//!
//! Source: <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>

mod instance;

use std::path::Path as FsPath;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use url::Url;

use super::http;
use super::options::{Environment, SecretRef, StoreOptions};
use super::profile::{self, Profile};
use crate::error::{Error, Result};

const DEFAULT_REGION: &str = "us-east-1";

/// How one bucket is reached, and as whom.
#[derive(Debug, PartialEq)]
pub(super) struct Access {
    region: String,
    endpoint: Option<Url>,
    path_style: bool,
    identity: Identity,
}

/// Who signs.
#[derive(PartialEq)]
enum Identity {
    Anonymous,
    Keys(Keys),
    /// A token in a file is traded for keys.
    Web {
        token_file: String,
        role_arn: String,
        session_name: Option<String>,
    },
    /// ECS: a path at the task's own address.
    Container {
        relative_uri: String,
    },
    /// EKS and others: a URL, and the file of the token to show there.
    Pod {
        full_uri: String,
        token_file: String,
    },
    /// EC2, found out by asking.
    Machine {
        metadata_endpoint: Option<String>,
    },
    /// Nobody, and the machine must not be asked.
    Nobody,
}

#[derive(PartialEq)]
struct Keys {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous",
            Self::Keys(_) => "keys",
            Self::Web { .. } => "web identity",
            Self::Container { .. } => "container",
            Self::Pod { .. } => "pod",
            Self::Machine { .. } => "machine",
            Self::Nobody => "nobody",
        })
    }
}

/// Finds out how a bucket is reached; reads files, but asks nobody over the network.
///
/// # Errors
/// [`Error::Config`] for options that contradict each other, secrets that are not where they should
/// be, and profiles that need what is not supported.
pub(super) fn access(options: &StoreOptions, base_dir: &FsPath, env: Environment<'_>) -> Result<Access> {
    let profile = profile::load(options.profile.as_deref(), env)?;
    let setting = |key: &str| profile.as_ref().and_then(|profile| profile.setting(key)).map(str::to_owned);
    let region = [options.region.clone(), env("AWS_REGION"), env("AWS_DEFAULT_REGION"), setting("region")];
    let endpoint = options
        .endpoint
        .clone()
        .or_else(|| env("AWS_ENDPOINT_URL_S3"))
        .or_else(|| env("AWS_ENDPOINT_URL"))
        .or_else(|| setting("endpoint_url"))
        .map(|text| http::endpoint(&text, options.allow_http))
        .transpose()?;
    Ok(Access {
        region: region.into_iter().flatten().next().unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        path_style: options.path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        identity: identity(options, base_dir, profile.as_ref(), env)?,
    })
}

fn identity(
    options: &StoreOptions,
    base_dir: &FsPath,
    profile: Option<&Profile>,
    env: Environment<'_>,
) -> Result<Identity> {
    if options.anonymous {
        return Ok(Identity::Anonymous);
    }
    if let Some(keys) = option_keys(options, base_dir, env)? {
        return Ok(Identity::Keys(keys));
    }
    // A profile that the catalog names is an option too, and goes before the environment.
    if options.profile.is_some() {
        return named_profile(profile);
    }
    if let Some(keys) = environment_keys(env)? {
        return Ok(Identity::Keys(keys));
    }
    if let (Some(token_file), Some(role_arn)) = (env("AWS_WEB_IDENTITY_TOKEN_FILE"), env("AWS_ROLE_ARN")) {
        return Ok(Identity::Web { token_file, role_arn, session_name: env("AWS_ROLE_SESSION_NAME") });
    }
    match profile.map(profile_identity).transpose()?.flatten() {
        Some(identity) => Ok(identity),
        None => Ok(surroundings(env)),
    }
}

fn option_keys(options: &StoreOptions, base_dir: &FsPath, env: Environment<'_>) -> Result<Option<Keys>> {
    let read = |field: &str, secret: &Option<SecretRef>| {
        secret.as_ref().map(|secret| secret.resolve(field, base_dir, env)).transpose()
    };
    let id = read("access_key_id", &options.access_key_id)?;
    let secret = read("secret_access_key", &options.secret_access_key)?;
    let session_token = read("session_token", &options.session_token)?;
    pair(id, secret, session_token, "access_key_id", "secret_access_key")
}

fn environment_keys(env: Environment<'_>) -> Result<Option<Keys>> {
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    pair(env(id), env(secret), env("AWS_SESSION_TOKEN"), id, secret)
}

fn pair(
    id: Option<String>,
    secret: Option<String>,
    session_token: Option<String>,
    id_name: &str,
    secret_name: &str,
) -> Result<Option<Keys>> {
    match (id, secret) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Ok(Some(Keys { access_key_id, secret_access_key, session_token }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::Config(format!("\"{id_name}\" is given without \"{secret_name}\""))),
        (None, Some(_)) => Err(Error::Config(format!("\"{secret_name}\" is given without \"{id_name}\""))),
    }
}

fn named_profile(profile: Option<&Profile>) -> Result<Identity> {
    let found = profile.map(profile_identity).transpose()?.flatten();
    found.ok_or_else(|| {
        let name = profile.map_or("", |profile| profile.name.as_str());
        Error::Config(format!("AWS profile \"{name}\" holds no credentials"))
    })
}

/// Returns none for a profile that says nothing about credentials.
fn profile_identity(profile: &Profile) -> Result<Option<Identity>> {
    let setting = |key: &str| profile.setting(key).map(str::to_owned);
    if let (Some(role_arn), Some(token_file)) = (setting("role_arn"), setting("web_identity_token_file")) {
        let session_name = setting("role_session_name");
        return Ok(Some(Identity::Web { token_file, role_arn, session_name }));
    }
    // The SDKs prefer these to keys in the same profile; to sign as somebody else would be a surprise.
    const UNSUPPORTED: [&str; 5] =
        ["role_arn", "credential_process", "sso_session", "sso_start_url", "login_session"];
    if let Some(key) = UNSUPPORTED.into_iter().find(|key| profile.setting(key).is_some()) {
        return Err(Error::Config(format!(
            "AWS profile \"{}\" uses {key}, which is not supported: name a profile with keys, or put temporary \
             keys into the environment",
            profile.name
        )));
    }
    let (id, secret) = ("aws_access_key_id", "aws_secret_access_key");
    Ok(pair(setting(id), setting(secret), setting("aws_session_token"), id, secret)?.map(Identity::Keys))
}

/// What the container or the machine has to offer.
fn surroundings(env: Environment<'_>) -> Identity {
    if let Some(relative_uri) = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Identity::Container { relative_uri };
    }
    let full_uri = env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if let (Some(full_uri), Some(token_file)) = (full_uri, env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")) {
        return Identity::Pod { full_uri, token_file };
    }
    match env("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        true => Identity::Nobody,
        false => Identity::Machine { metadata_endpoint: env("AWS_EC2_METADATA_SERVICE_ENDPOINT") },
    }
}

/// Builds the store of `bucket`, and the same without repeats for creates.
pub(super) fn build(
    bucket: &str,
    access: Access,
    connector: &http::IoConnector,
) -> Result<(Arc<dyn ObjectStore>, Arc<dyn ObjectStore>)> {
    let builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&access.region)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(http::client_options(access.endpoint.as_ref()))
        .with_retry(http::patient())
        .with_http_connector(connector.clone());
    let builder = at_endpoint(builder, bucket, &access);
    let builder = as_identity(builder, access.identity, connector)?;
    let store = builder.clone().build()?;
    let creates =
        builder.with_credentials(Arc::clone(store.credentials())).with_retry(http::once()).build()?;
    Ok((Arc::new(store), Arc::new(creates)))
}

fn at_endpoint(builder: AmazonS3Builder, bucket: &str, access: &Access) -> AmazonS3Builder {
    // A bucket name with dots does not match the provider's certificate.
    let path_style = access.path_style || bucket.contains('.');
    let builder = builder.with_virtual_hosted_style_request(!path_style);
    match &access.endpoint {
        None => builder,
        Some(url) if path_style => builder.with_endpoint(url.as_str().trim_end_matches('/')),
        Some(url) => {
            let host = &url[url::Position::BeforeHost..];
            builder.with_endpoint(format!("{}://{bucket}.{}", url.scheme(), host.trim_end_matches('/')))
        }
    }
}

fn as_identity(
    builder: AmazonS3Builder,
    identity: Identity,
    connector: &http::IoConnector,
) -> Result<AmazonS3Builder> {
    use AmazonS3ConfigKey as Key;
    Ok(match identity {
        Identity::Anonymous => builder.with_skip_signature(true),
        Identity::Keys(keys) => {
            let builder =
                builder.with_access_key_id(keys.access_key_id).with_secret_access_key(keys.secret_access_key);
            match keys.session_token {
                Some(token) => builder.with_token(token),
                None => builder,
            }
        }
        Identity::Web { token_file, role_arn, session_name } => {
            let builder = builder
                .with_config(Key::WebIdentityTokenFile, token_file)
                .with_config(Key::RoleArn, role_arn);
            match session_name {
                Some(name) => builder.with_config(Key::RoleSessionName, name),
                None => builder,
            }
        }
        Identity::Container { relative_uri } => {
            builder.with_config(Key::ContainerCredentialsRelativeUri, relative_uri)
        }
        Identity::Pod { full_uri, token_file } => builder
            .with_config(Key::ContainerCredentialsFullUri, full_uri)
            .with_config(Key::ContainerAuthorizationTokenFile, token_file),
        Identity::Machine { metadata_endpoint } => builder
            .with_credentials(Arc::new(instance::MachineCredentials::new(metadata_endpoint, connector)?)),
        Identity::Nobody => return Err(instance::nobody()),
    })
}

#[cfg(test)]
mod tests;
