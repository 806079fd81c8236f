//! Issued credentials: asked for when they are first needed, kept, and asked for again before they end.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;
use tracing::warn;

use crate::error::{Error, Result};

/// New credentials are asked for this long before the old ones end.
const MARGIN: Duration = Duration::from_secs(300);

/// Credentials, and when they end.
#[derive(Clone)]
pub(super) struct Issued {
    pub credential: Arc<AwsCredential>,
    pub ends: Option<DateTime<Utc>>,
}

/// Who gives out credentials.
#[async_trait]
pub(super) trait Issuer: Debug + Send + Sync {
    async fn issue(&self) -> Result<Issued>;
}

/// Keeps what an issuer gave out; one request asks, the others wait for its answer.
#[derive(Debug)]
pub(super) struct Kept<I> {
    issuer: I,
    issued: Mutex<Option<Issued>>,
}

impl<I: Issuer> Kept<I> {
    pub fn new(issuer: I) -> Self {
        Self { issuer, issued: Mutex::new(None) }
    }

    async fn current(&self) -> Result<Arc<AwsCredential>> {
        let mut issued = self.issued.lock().await;
        let old = match issued.take() {
            Some(fresh) if !fresh.ends_within(MARGIN) => {
                return Ok(Arc::clone(&issued.insert(fresh).credential));
            }
            old => old.filter(|old| !old.ends_within(Duration::ZERO)),
        };
        let new = match (self.issuer.issue().await, old) {
            (Ok(new), _) => new,
            (Err(error), Some(old)) => {
                warn!(%error, "credentials could not be renewed; the old ones go on");
                old
            }
            (Err(error), None) => return Err(error),
        };
        Ok(Arc::clone(&issued.insert(new).credential))
    }
}

impl Issued {
    fn ends_within(&self, margin: Duration) -> bool {
        self.ends.is_some_and(|ends| ends <= Utc::now() + margin)
    }
}

impl Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("ends", &self.ends).finish_non_exhaustive()
    }
}

#[async_trait]
impl<I: Issuer> CredentialProvider for Kept<I> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.current()
            .await
            .map_err(|error: Error| object_store::Error::Generic { store: "S3", source: Box::new(error) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Gives out one key after another for as long as it is told to, then fails.
    #[derive(Debug)]
    struct Counter {
        life: Duration,
        keys: usize,
        given: AtomicUsize,
    }

    #[async_trait]
    impl Issuer for Counter {
        async fn issue(&self) -> Result<Issued> {
            let number = self.given.fetch_add(1, Ordering::SeqCst);
            if number >= self.keys {
                return Err(Error::Storage("no more keys".to_owned()));
            }
            let key = AwsCredential { key_id: number.to_string(), secret_key: "s".to_owned(), token: None };
            Ok(Issued { credential: Arc::new(key), ends: Some(Utc::now() + self.life) })
        }
    }

    fn kept(life_s: u64, keys: usize) -> Kept<Counter> {
        Kept::new(Counter { life: Duration::from_secs(life_s), keys, given: AtomicUsize::new(0) })
    }

    #[tokio::test]
    async fn credentials_are_kept_until_shortly_before_they_end() {
        let long = kept(3600, 9);
        for _ in 0..3 {
            assert_eq!(long.get_credential().await.unwrap().key_id, "0");
        }
        let short = kept(60, 2);
        for wanted in ["0", "1", "1"] {
            assert_eq!(short.get_credential().await.unwrap().key_id, wanted, "the old key until it ends");
        }
        let ended = kept(0, 1);
        ended.get_credential().await.unwrap();
        let error = Error::from(ended.get_credential().await.unwrap_err());
        assert!(error.to_string().contains("no more keys"), "{error}");
    }
}
