//! Machine credentials: those of the EC2 instance, asked for with little patience.
//!
//! Off Amazon's machines the metadata address leads nowhere, and every request would wait for it.
//! Here one question has a deadline, and a failure is remembered for a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::{BackoffConfig, CredentialProvider, RetryConfig};

use super::super::http;
use crate::error::{Error, Result};

const DEADLINE: Duration = Duration::from_secs(4);
const REMEMBERED: Duration = Duration::from_secs(30);

/// The error when no place holds credentials.
pub(super) fn nobody() -> Error {
    Error::Storage(
        "no AWS credentials: none in the catalog's [store] options, the environment, the profile files, the \
         container or the machine (a public bucket needs anonymous = true)"
            .to_owned(),
    )
}

#[derive(Debug)]
pub(super) struct MachineCredentials {
    /// Asks, and keeps the answer until it expires.
    inner: AwsCredentialProvider,
    failed_at: Mutex<Option<Instant>>,
}

impl MachineCredentials {
    pub fn new(metadata_endpoint: Option<String>, connector: &http::IoConnector) -> Result<Self> {
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: Duration::from_millis(50), ..Default::default() },
            max_retries: 2,
            retry_timeout: DEADLINE,
        };
        // Only a store makes the provider; this one never sees a request.
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name("none")
            .with_client_options(http::without_proxy(http::client_options(None)))
            .with_retry(retry)
            .with_http_connector(connector.clone());
        if let Some(endpoint) = metadata_endpoint {
            builder = builder.with_metadata_endpoint(endpoint);
        }
        let inner = Arc::clone(builder.build()?.credentials());
        Ok(Self { inner, failed_at: Mutex::new(None) })
    }

    fn failed_recently(&self) -> bool {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|failed_at| failed_at.elapsed() < REMEMBERED)
    }

    fn remember(&self, failed_at: Option<Instant>) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = failed_at;
    }
}

#[async_trait]
impl CredentialProvider for MachineCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        if !self.failed_recently() {
            if let Ok(Ok(credential)) = tokio::time::timeout(DEADLINE, self.inner.get_credential()).await {
                return Ok(credential);
            }
            self.remember(Some(Instant::now()));
        }
        Err(object_store::Error::Generic { store: "S3", source: Box::new(nobody()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_without_metadata_fails_fast_and_is_not_asked_again() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let connector = http::IoConnector(tokio::runtime::Handle::current());
        let credentials = MachineCredentials::new(Some(endpoint), &connector).unwrap();

        let start = Instant::now();
        let error = Error::from(credentials.get_credential().await.unwrap_err());
        assert!(error.to_string().contains("no AWS credentials"), "{error}");
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(2));

        let again = Instant::now();
        assert!(credentials.get_credential().await.is_err());
        assert!(again.elapsed() < Duration::from_millis(100));
    }
}
