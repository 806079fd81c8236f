//! Cloud: the object stores of Google and of Azure.
//!
//! What the catalog's options leave open is looked for in the environment, under the names that the
//! providers' own tools use, and then on the machine.

use std::path::Path as FsPath;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;

use super::http;
use super::options::{Environment, SecretRef, StoreOptions};
use crate::error::{Error, Result};

/// A store, and the same without repeats for creates.
type Stores = (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>);

/// Builds the store of a Google bucket.
///
/// Credentials: options, `GOOGLE_SERVICE_ACCOUNT_PATH` and its like, `GOOGLE_APPLICATION_CREDENTIALS`,
/// what `gcloud` has left behind, the machine.
pub(super) fn google(
    bucket: &str,
    options: &StoreOptions,
    base_dir: &FsPath,
    env: Environment<'_>,
    connector: &http::IoConnector,
) -> Result<Stores> {
    let endpoint =
        options.endpoint.as_deref().map(|text| http::endpoint(text, options.allow_http)).transpose()?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_client_options(http::client_options(endpoint.as_ref()))
        .with_retry(http::patient())
        .with_skip_signature(options.anonymous)
        .with_http_connector(connector.clone());
    if let Some(url) = &endpoint {
        builder = builder.with_base_url(url.as_str().trim_end_matches('/'));
    }
    builder = google_identity(builder, options, base_dir, env)?;
    let store = builder.clone().build()?;
    Ok((Arc::new(store), Arc::new(builder.with_retry(http::once()).build()?)))
}

fn google_identity(
    builder: GoogleCloudStorageBuilder,
    options: &StoreOptions,
    base_dir: &FsPath,
    env: Environment<'_>,
) -> Result<GoogleCloudStorageBuilder> {
    match (&options.service_account_path, &options.service_account_key) {
        (Some(_), Some(_)) => {
            let message = "\"service_account_path\" and \"service_account_key\" exclude each other";
            return Err(Error::Config(message.to_owned()));
        }
        (Some(path), None) => {
            return Ok(builder.with_service_account_path(base_dir.join(path).to_string_lossy()));
        }
        (None, Some(key)) => {
            return Ok(builder.with_service_account_key(key.resolve(
                "service_account_key",
                base_dir,
                env,
            )?));
        }
        (None, None) => {}
    }
    let path = env("GOOGLE_SERVICE_ACCOUNT_PATH").or_else(|| env("GOOGLE_SERVICE_ACCOUNT"));
    Ok(match (path, env("GOOGLE_SERVICE_ACCOUNT_KEY"), env("GOOGLE_APPLICATION_CREDENTIALS")) {
        (Some(path), _, _) => builder.with_service_account_path(path),
        (None, Some(key), _) => builder.with_service_account_key(key),
        (None, None, Some(path)) => builder.with_application_credentials(path),
        (None, None, None) => builder,
    })
}

/// Builds the store of an Azure container. `account` is the one in the URL, if it names one.
///
/// Credentials: options, `AZURE_STORAGE_ACCOUNT_KEY` and its like, a federated token, the machine.
pub(super) fn azure(
    container: &str,
    account: Option<&str>,
    options: &StoreOptions,
    base_dir: &FsPath,
    env: Environment<'_>,
    connector: &http::IoConnector,
) -> Result<Stores> {
    let endpoint =
        options.endpoint.as_deref().map(|text| http::endpoint(text, options.allow_http)).transpose()?;
    let named = account.map(str::to_owned).or_else(|| options.account.clone());
    let account =
        named.or_else(|| env("AZURE_STORAGE_ACCOUNT_NAME")).or_else(|| env("AZURE_STORAGE_ACCOUNT"));
    let Some(account) = account else {
        return Err(Error::Config("\"account\" names the Azure storage account, and is missing".to_owned()));
    };
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_account(account)
        .with_client_options(http::client_options(endpoint.as_ref()))
        .with_retry(http::patient())
        .with_skip_signature(options.anonymous)
        .with_http_connector(connector.clone());
    if let Some(url) = &endpoint {
        builder = builder.with_endpoint(url.as_str().trim_end_matches('/').to_owned());
    }
    for (key, value) in azure_identity(options, base_dir, env)? {
        builder = builder.with_config(key, value);
    }
    let store = builder.clone().build()?;
    Ok((Arc::new(store), Arc::new(builder.with_retry(http::once()).build()?)))
}

/// Options win over the environment one by one, except that a key given as an option keeps another kind
/// of credential in the environment from being preferred to it.
fn azure_identity(
    options: &StoreOptions,
    base_dir: &FsPath,
    env: Environment<'_>,
) -> Result<Vec<(AzureConfigKey, String)>> {
    use AzureConfigKey as Key;
    let read = |field: &str, secret: &Option<SecretRef>| {
        secret.as_ref().map(|secret| secret.resolve(field, base_dir, env)).transpose()
    };
    let given = [
        (Key::AccessKey, read("account_key", &options.account_key)?),
        (Key::SasKey, read("sas_token", &options.sas_token)?),
        (Key::AuthorityId, options.tenant_id.clone()),
        (Key::ClientId, options.client_id.clone()),
        (Key::ClientSecret, read("client_secret", &options.client_secret)?),
    ];
    let given: Vec<_> = given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    if !given.is_empty() || options.anonymous {
        return Ok(given);
    }
    let places = [
        (Key::AccessKey, "AZURE_STORAGE_ACCOUNT_KEY"),
        (Key::AccessKey, "AZURE_STORAGE_ACCESS_KEY"),
        (Key::SasKey, "AZURE_STORAGE_SAS_TOKEN"),
        (Key::AuthorityId, "AZURE_TENANT_ID"),
        (Key::ClientId, "AZURE_CLIENT_ID"),
        (Key::ClientSecret, "AZURE_CLIENT_SECRET"),
        (Key::FederatedTokenFile, "AZURE_FEDERATED_TOKEN_FILE"),
    ];
    Ok(places.into_iter().filter_map(|(key, name)| Some((key, env(name)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stores_are_built_without_asking_the_network() {
        let connector = http::IoConnector(tokio::runtime::Handle::current());
        let here = FsPath::new(".");
        let env = |name: &str| match name {
            "KEY" => Some("a2V5".to_owned()),
            "AZURE_CLIENT_ID" => Some("unused".to_owned()),
            _ => None,
        };
        let options: StoreOptions =
            toml::from_str("account = \"lake\"\naccount_key = { env = \"KEY\" }").unwrap();
        let (store, _) = azure("raw", None, &options, here, &env, &connector).unwrap();
        assert_eq!(store.to_string(), "MicrosoftAzure { account: lake, container: raw }");
        let error = azure("raw", None, &StoreOptions::default(), here, &env, &connector).unwrap_err();
        assert!(error.to_string().contains("\"account\""), "{error}");

        let key = r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#;
        let env = |name: &str| (name == "GOOGLE_SERVICE_ACCOUNT_KEY").then(|| key.to_owned());
        let (store, _) = google("raw", &StoreOptions::default(), here, &env, &connector).unwrap();
        assert_eq!(store.to_string(), "GoogleCloudStorage(raw)");
    }
}
