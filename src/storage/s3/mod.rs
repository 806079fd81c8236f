//! S3: Amazon's object store and those that speak its language.
//!
//! This module decides who the requests are signed as, in the order of the AWS SDKs: the catalog's
//! options, the environment, a web identity, the shared profile files, the container's credentials,
//! the machine's. A profile may hold keys, name a program that prints them ([`process`]), or a role
//! that another profile takes on ([`role`]). Keys from options, environment and files are read once,
//! when the location is opened; the others are renewed as they expire.
//!
//! Source: <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>

mod instance;
mod issued;
mod process;
mod role;

use std::path::Path as FsPath;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider, S3ConditionalPut};
use url::Url;

use super::http;
use super::options::{Environment, SecretRef, StoreOptions};
use super::profile::{self, Profile};
use crate::error::{Error, Result};
use issued::Kept;
use process::Process;
use role::{Role, RoleIssuer};

const DEFAULT_REGION: &str = "us-east-1";
/// How many roles may be taken on, one from the other.
const ROLES_MAX: usize = 5;
/// Seconds for which a role can be had; the first is what it is asked for without a word about it.
const ROLE_SECONDS: (u32, std::ops::RangeInclusive<u32>) = (3600, 900..=43200);

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
    /// A program prints the keys: the profile that names it, and the command in words.
    Process {
        profile: String,
        words: Vec<String>,
    },
    /// A role that somebody else takes on.
    Role {
        role: Box<Role>,
        source: Box<Identity>,
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
            Self::Process { .. } => "process",
            Self::Role { .. } => "role",
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
    let region = region.into_iter().flatten().next().unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let lookup = Lookup { env, region: &region, allow_http: options.allow_http };
    let identity = identity(options, base_dir, profile.as_ref(), &lookup)?;
    let path_style = options.path_style.unwrap_or(endpoint.is_some());
    Ok(Access { region, endpoint, path_style, identity })
}

/// What finding an identity needs besides the options and the profile.
struct Lookup<'a> {
    env: Environment<'a>,
    region: &'a str,
    allow_http: bool,
}

fn identity(
    options: &StoreOptions,
    base_dir: &FsPath,
    profile: Option<&Profile>,
    lookup: &Lookup<'_>,
) -> Result<Identity> {
    let env = lookup.env;
    if options.anonymous {
        return Ok(Identity::Anonymous);
    }
    if let Some(keys) = option_keys(options, base_dir, env)? {
        return Ok(Identity::Keys(keys));
    }
    // A profile that the catalog names is an option too, and goes before the environment.
    if options.profile.is_some() {
        return match profile {
            Some(profile) => lookup.required(profile, ROLES_MAX),
            None => Err(Error::Config("a profile that was named is not there".to_owned())),
        };
    }
    if let Some(keys) = environment_keys(env)? {
        return Ok(Identity::Keys(keys));
    }
    if let (Some(token_file), Some(role_arn)) = (env("AWS_WEB_IDENTITY_TOKEN_FILE"), env("AWS_ROLE_ARN")) {
        return Ok(Identity::Web { token_file, role_arn, session_name: env("AWS_ROLE_SESSION_NAME") });
    }
    match profile.map(|profile| lookup.profile(profile, ROLES_MAX)).transpose()?.flatten() {
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

impl Lookup<'_> {
    /// The identity of a profile that must have one.
    fn required(&self, profile: &Profile, roles_max: usize) -> Result<Identity> {
        self.profile(profile, roles_max)?
            .ok_or_else(|| Error::Config(format!("AWS profile \"{}\" holds no credentials", profile.name)))
    }

    /// Returns none for a profile that says nothing about credentials.
    ///
    /// Roles and programs go before keys in the same profile, as with the SDKs.
    fn profile(&self, profile: &Profile, roles_max: usize) -> Result<Option<Identity>> {
        let setting = |key: &str| profile.setting(key).map(str::to_owned);
        if let (Some(role_arn), Some(token_file)) = (setting("role_arn"), setting("web_identity_token_file"))
        {
            let session_name = setting("role_session_name");
            return Ok(Some(Identity::Web { token_file, role_arn, session_name }));
        }
        if let Some(arn) = setting("role_arn") {
            return self.role(profile, arn, roles_max).map(Some);
        }
        // To sign as somebody else than the SDKs would be a surprise.
        const UNSUPPORTED: [&str; 3] = ["sso_session", "sso_start_url", "login_session"];
        if let Some(key) = UNSUPPORTED.into_iter().find(|key| profile.setting(key).is_some()) {
            return Err(Error::Config(format!(
                "AWS profile \"{}\" uses {key}, which is not supported: name a profile with keys, a \
                 credential_process or a role, or put temporary keys into the environment",
                profile.name
            )));
        }
        if let Some(command) = profile.setting("credential_process") {
            let words = process::words(&profile.name, command)?;
            return Ok(Some(Identity::Process { profile: profile.name.clone(), words }));
        }
        Ok(profile_keys(profile)?.map(Identity::Keys))
    }

    fn role(&self, profile: &Profile, arn: String, roles_max: usize) -> Result<Identity> {
        let wrong =
            |reason: &str| Error::Config(format!("role_arn of AWS profile \"{}\": {reason}", profile.name));
        if profile.setting("mfa_serial").is_some() {
            return Err(wrong("mfa_serial needs a person, and a daemon has none"));
        }
        let source = match (profile.setting("source_profile"), profile.setting("credential_source")) {
            (Some(name), None) if name == profile.name => profile_keys(profile)?
                .map(Identity::Keys)
                .ok_or_else(|| wrong("it has no keys of its own"))?,
            (Some(_), None) if roles_max == 0 => return Err(wrong("its source_profile leads in a circle")),
            (Some(name), None) => {
                let source = profile::load(Some(name), self.env)?;
                let source = source.ok_or_else(|| wrong("its source_profile does not exist"))?;
                self.required(&source, roles_max - 1)?
            }
            (None, Some(source)) => self.credential_source(source).map_err(|reason| wrong(&reason))?,
            (Some(_), Some(_)) => {
                return Err(wrong("source_profile and credential_source exclude each other"));
            }
            (None, None) => {
                return Err(wrong("source_profile or credential_source must say who asks for it"));
            }
        };
        let (default, allowed) = ROLE_SECONDS;
        let duration_s = profile.setting("duration_seconds").map_or(Ok(default), str::parse);
        let duration_s = duration_s.ok().filter(|seconds| allowed.contains(seconds));
        let role = Role {
            arn,
            session_name: profile.setting("role_session_name").unwrap_or("lacus").to_owned(),
            external_id: profile.setting("external_id").map(str::to_owned),
            duration_s: duration_s.ok_or_else(|| wrong("duration_seconds must lie between 900 and 43200"))?,
            region: profile.setting("region").unwrap_or(self.region).to_owned(),
            endpoint: self.sts_endpoint(profile.setting("region").unwrap_or(self.region))?,
        };
        Ok(Identity::Role { role: Box::new(role), source: Box::new(source) })
    }

    fn credential_source(&self, source: &str) -> Result<Identity, String> {
        let found = match source {
            "Environment" => {
                environment_keys(self.env).map_err(|error| error.to_string())?.map(Identity::Keys)
            }
            "EcsContainer" => container(self.env),
            "Ec2InstanceMetadata" => Some(machine(self.env)),
            other => return Err(format!("credential_source \"{other}\" is unknown")),
        };
        found.ok_or_else(|| format!("credential_source {source} has no credentials"))
    }

    fn sts_endpoint(&self, region: &str) -> Result<Url> {
        let given = (self.env)("AWS_ENDPOINT_URL_STS").or_else(|| (self.env)("AWS_ENDPOINT_URL"));
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let text = given.unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
        http::endpoint(&text, self.allow_http)
    }
}

fn profile_keys(profile: &Profile) -> Result<Option<Keys>> {
    let setting = |key: &str| profile.setting(key).map(str::to_owned);
    let (id, secret) = ("aws_access_key_id", "aws_secret_access_key");
    pair(setting(id), setting(secret), setting("aws_session_token"), id, secret)
}

/// What the container or the machine has to offer.
fn surroundings(env: Environment<'_>) -> Identity {
    container(env).unwrap_or_else(|| machine(env))
}

fn container(env: Environment<'_>) -> Option<Identity> {
    if let Some(relative_uri) = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Some(Identity::Container { relative_uri });
    }
    let full_uri = env("AWS_CONTAINER_CREDENTIALS_FULL_URI")?;
    Some(Identity::Pod { full_uri, token_file: env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")? })
}

fn machine(env: Environment<'_>) -> Identity {
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
        Identity::Process { profile, words } => {
            let process = Process::new(&profile, words, connector.0.clone());
            builder.with_credentials(Arc::new(Kept::new(process)))
        }
        Identity::Role { role, source } => {
            let issuer = RoleIssuer::new(*role, provider(*source, connector)?, connector)?;
            builder.with_credentials(Arc::new(Kept::new(issuer)))
        }
        Identity::Machine { metadata_endpoint } => builder
            .with_credentials(Arc::new(instance::MachineCredentials::new(metadata_endpoint, connector)?)),
        Identity::Nobody => return Err(instance::nobody()),
    })
}

/// The credentials of an identity, apart from any bucket.
fn provider(identity: Identity, connector: &http::IoConnector) -> Result<AwsCredentialProvider> {
    // Only a store makes the provider; this one never sees a request.
    let builder = AmazonS3Builder::new()
        .with_bucket_name("none")
        .with_client_options(http::client_options(None))
        .with_retry(http::patient())
        .with_http_connector(connector.clone());
    Ok(Arc::clone(as_identity(builder, identity, connector)?.build()?.credentials()))
}

#[cfg(test)]
mod tests;
