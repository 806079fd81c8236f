//! Objects: what the rest of Lacus asks of a [`Location`], in its own errors.
//!
//! The one primitive that correctness rests on is [`put_if_absent`](Location::put_if_absent).

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode};
use rand::Rng;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{Location, http};
use crate::error::{Error, Result};

/// How often an ambiguous create is sent again before the caller learns of it.
const CREATE_ATTEMPTS: u32 = 4;
const CREATE_PAUSE: Duration = Duration::from_millis(100);
/// Writers in the race of [`Location::probe_create_race`].
const RACERS: usize = 8;

/// What became of a create.
#[derive(Debug)]
pub enum PutOutcome {
    /// The object is there and holds our bytes.
    Created,
    /// An object is there. It may be our own, if an earlier attempt got through and its answer did not:
    /// the caller must read it.
    Exists,
    /// The object may be there or not, now or soon, and may be our own: the caller must read it, and put
    /// the same bytes again if there is none.
    Ambiguous(Error),
}

/// What one attempt at a create means.
enum Attempt {
    Exists,
    Ambiguous(Error),
    /// Nothing was written.
    Refused(Error),
}

impl Location {
    /// Creates the object at `path` with `bytes`, unless there is one.
    ///
    /// An ambiguous answer (timeout, 5xx, lost connection, 409) is tried again up to three times, within
    /// two seconds if the store answers at once. Costs one PUT.
    ///
    /// # Errors
    /// Only when certainly nothing was written: no permission, a full disk, a bucket that does not exist.
    pub async fn put_if_absent(&self, path: &Path, bytes: Bytes) -> Result<PutOutcome> {
        let mut attempt = 1;
        loop {
            let put = self.store.put_opts(path, bytes.clone().into(), PutMode::Create.into());
            let error = match put.await.map_err(understand) {
                Ok(_) => return Ok(PutOutcome::Created),
                Err(Attempt::Exists) => return Ok(PutOutcome::Exists),
                Err(Attempt::Refused(error)) if attempt == 1 => return Err(error),
                // Refused now, but an attempt before may have got through.
                Err(Attempt::Refused(error)) => return Ok(PutOutcome::Ambiguous(error)),
                Err(Attempt::Ambiguous(error)) => error,
            };
            if attempt == CREATE_ATTEMPTS {
                return Ok(PutOutcome::Ambiguous(error));
            }
            debug!(%path, attempt, %error, "create is ambiguous, sent again");
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    /// Reads the object at `path`; none when there is none. Costs one GET.
    pub async fn read(&self, path: &Path) -> Result<Option<Bytes>> {
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the object at `path`, whether there is one or not. Costs one PUT.
    pub async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        self.store.put(path, bytes.into()).await?;
        Ok(())
    }

    /// Lists all objects below the folder `prefix`, in no particular order; none when there is no such
    /// folder. Costs one request a thousand objects.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        Ok(self.store.list(Some(prefix)).try_collect().await?)
    }

    /// Lists one level below the folder `prefix`: the names of the folders, and the objects, each sorted.
    /// Costs one request a thousand entries.
    pub async fn list_children(&self, prefix: &Path) -> Result<(Vec<String>, Vec<ObjectMeta>)> {
        let mut level = self.store.list_with_delimiter(Some(prefix)).await?;
        let mut folders: Vec<String> =
            level.common_prefixes.iter().filter_map(Path::filename).map(str::to_owned).collect();
        folders.sort();
        level.objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok((folders, level.objects))
    }

    /// Lets several writers race for one fresh object in `folder`, and tells whether exactly one won.
    ///
    /// A store that fails this cannot hold a log. Costs nine PUTs, eight of them at once, a GET and a
    /// DELETE: four round trips.
    ///
    /// # Errors
    /// When no writer won and the store did not say why, or may not be written.
    pub async fn probe_create_race(&self, folder: &Path) -> Result<bool> {
        let path = folder.clone().join(format!("probe-{}", Uuid::new_v4().simple()));
        let verdict = self.race(&path).await;
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => warn!(%path, %error, "the probe of the store stays behind"),
        }
        verdict
    }

    async fn race(&self, path: &Path) -> Result<bool> {
        let bodies: Vec<Bytes> = (0..RACERS).map(|racer| format!("racer {racer}").into()).collect();
        let create = |body: &Bytes| {
            let body = body.clone();
            async { self.store.put_opts(path, body.into(), PutMode::Create.into()).await.map_err(understand) }
        };
        let mut winners = Vec::new();
        let mut doubt = None;
        for (outcome, body) in join_all(bodies.iter().map(create)).await.into_iter().zip(&bodies) {
            match outcome {
                Ok(_) => winners.push(body),
                Err(Attempt::Exists) => {}
                Err(Attempt::Ambiguous(error) | Attempt::Refused(error)) => doubt = Some(error),
            }
        }
        match (winners.as_slice(), doubt) {
            ([], Some(error)) => Err(error),
            ([winner], _) => match create(&Bytes::from_static(b"late")).await {
                Ok(_) => Ok(false),
                Err(Attempt::Exists) => Ok(self.read(path).await?.as_ref() == Some(*winner)),
                // No verdict: a store that is busy at this moment is not one that loses commits.
                Err(Attempt::Ambiguous(error) | Attempt::Refused(error)) => Err(error),
            },
            _ => Ok(false),
        }
    }
}

/// Understands why a create failed.
fn understand(error: object_store::Error) -> Attempt {
    use object_store::Error as Store;
    match error {
        // S3 answers 409 while another conditional write of the key is under way. That one may still
        // fail, so nothing is known to exist; Azure's 409 does mean that the object exists.
        Store::AlreadyExists { ref source, .. } if is_under_way(&source.to_string()) => {
            Attempt::Ambiguous(error.into())
        }
        Store::AlreadyExists { .. } | Store::Precondition { .. } | Store::NotModified { .. } => {
            Attempt::Exists
        }
        Store::NotFound { .. }
        | Store::PermissionDenied { .. }
        | Store::Unauthenticated { .. }
        | Store::NotSupported { .. }
        | Store::NotImplemented { .. }
        | Store::InvalidPath { .. }
        | Store::UnknownConfigurationKey { .. } => Attempt::Refused(error.into()),
        Store::Generic { ref source, .. } if source.is::<Error>() || is_rejected(&source.to_string()) => {
            Attempt::Refused(error.into())
        }
        _ => Attempt::Ambiguous(error.into()),
    }
}

fn is_under_way(answer: &str) -> bool {
    answer.contains("ConditionalRequestConflict") || answer.contains("OperationAborted")
}

/// Whether the store itself rejected the request: 4xx, but for those that ask to come again.
fn is_rejected(message: &str) -> bool {
    http::status_in(message)
        .is_some_and(|status| (400..500).contains(&status) && !matches!(status, 408 | 409 | 429))
}

/// Doubles with every attempt, and is scattered so that writers do not meet again.
fn pause(attempt: u32) -> Duration {
    CREATE_PAUSE.mul_f64(f64::from(1 << (attempt - 1)) * rand::rng().random_range(0.5..1.5))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::object_store::ObjectStoreUrl;
    use object_store::memory::InMemory;

    use super::*;

    fn in_memory() -> Location {
        Location {
            url: "memory:///".to_owned(),
            store: Arc::new(InMemory::new()),
            store_url: ObjectStoreUrl::parse("lacus://store1").unwrap(),
            prefix: Path::from("store1"),
        }
    }

    #[tokio::test]
    async fn objects_are_created_once_read_and_listed() {
        let location = in_memory();
        let slot = location.child("log/1.json");
        assert!(location.read(&slot).await.unwrap().is_none());
        assert!(matches!(location.put_if_absent(&slot, "a".into()).await.unwrap(), PutOutcome::Created));
        assert!(matches!(location.put_if_absent(&slot, "b".into()).await.unwrap(), PutOutcome::Exists));
        assert_eq!(location.read(&slot).await.unwrap().unwrap(), "a");
        location.put(&location.child("x"), "1".into()).await.unwrap();
        let (folders, objects) = location.list_children(&location.prefix).await.unwrap();
        assert_eq!((folders, objects[0].location.clone()), (vec!["log".to_owned()], location.child("x")));
        assert_eq!(location.list(&location.prefix).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn the_race_leaves_nothing_behind() {
        let location = in_memory();
        assert!(location.probe_create_race(&location.prefix).await.unwrap());
        assert!(location.list(&location.prefix).await.unwrap().is_empty());
    }

    fn generic(message: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: message.into() }
    }

    #[test]
    fn answers_are_understood() {
        let conflict = object_store::Error::AlreadyExists {
            path: "x".to_owned(),
            source: "status code: 409 Conflict: <Code>ConditionalRequestConflict</Code>".into(),
        };
        assert!(matches!(understand(conflict), Attempt::Ambiguous(_)));
        let exists = object_store::Error::AlreadyExists { path: "x".to_owned(), source: "412".into() };
        assert!(matches!(understand(exists), Attempt::Exists));
        let rejected = generic("Server returned non-2xx status code: 400 Bad Request: x");
        assert!(matches!(understand(rejected), Attempt::Refused(_)));
        for unclear in
            ["non-2xx status code: 503 Slow Down", "non-2xx status code: 429 x", "HTTP error: timeout"]
        {
            assert!(matches!(understand(generic(unclear)), Attempt::Ambiguous(_)), "{unclear}");
        }
        let full = object_store::Error::Generic {
            store: "disk",
            source: Box::new(Error::DiskFull("no space".to_owned())),
        };
        assert!(matches!(understand(full), Attempt::Refused(Error::DiskFull(_))));
    }
}
