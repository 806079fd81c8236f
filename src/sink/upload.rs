//! Upload: one object on its way into the store, sent while it is written.
//!
//! Bytes are collected into parts. A small object is one put; a larger one is a multipart upload with
//! at most [`PARTS_IN_FLIGHT_MAX`] parts under way. Nothing is visible before [`Upload::complete`].

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use super::budget::Charge;
use crate::error::{Error, Result};

const PARTS_IN_FLIGHT_MAX: usize = 4;

/// How an object is cut into parts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parts {
    /// All of this size but the last, as S3 (at least 5 MiB, at most 10,000 parts) and R2 want them.
    Equal(usize),
    /// At least this size, as local files allow: what is there is sent, and held no longer.
    AtLeast(usize),
}

/// Dropped before it is complete, it is aborted in the background.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    cut: Parts,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    charge: Option<Charge>,
    multipart: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
    written_bytes: u64,
}

impl Upload {
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path, cut: Parts) -> Self {
        Self {
            store,
            path,
            cut,
            pending: Vec::new(),
            pending_bytes: 0,
            charge: None,
            multipart: None,
            parts: JoinSet::new(),
            written_bytes: 0,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that were written so far, sent or not.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Bytes that wait because they are too few for a part.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Appends `bytes`, held under `charge`, and sends the parts that are full.
    ///
    /// # Errors
    /// What the store says to this part or an earlier one.
    pub(super) async fn write(&mut self, bytes: Bytes, charge: Charge) -> Result<()> {
        self.written_bytes += bytes.len() as u64;
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        match &mut self.charge {
            Some(held) => held.merge(charge),
            None => self.charge = Some(charge),
        }
        match self.cut {
            Parts::Equal(size) => {
                while self.pending_bytes >= size {
                    self.send(size).await?;
                }
            }
            Parts::AtLeast(size) if self.pending_bytes >= size => self.send(self.pending_bytes).await?,
            Parts::AtLeast(_) => {}
        }
        Ok(())
    }

    /// Sends what is left and waits until the store has all parts, without making the object visible.
    pub(super) async fn seal(&mut self) -> Result<()> {
        if self.pending_bytes > 0 || self.multipart.is_none() {
            self.send(self.pending_bytes).await?;
        }
        self.wait_for_parts(0).await
    }

    /// Makes the object visible, all of it at once.
    pub(super) async fn complete(mut self) -> Result<()> {
        if self.multipart.is_none() {
            let payload = PutPayload::from_iter(std::mem::take(&mut self.pending));
            self.store.put(&self.path, payload).await?;
            return Ok(());
        }
        self.seal().await?;
        if let Some(multipart) = &mut self.multipart {
            multipart.complete().await?;
        }
        // Only now: an upload whose completion fails, or is dropped half-way, is still aborted.
        self.multipart = None;
        Ok(())
    }

    async fn send(&mut self, bytes: usize) -> Result<()> {
        if self.multipart.is_none() {
            self.multipart = Some(self.store.put_multipart(&self.path).await?);
        }
        self.wait_for_parts(PARTS_IN_FLIGHT_MAX - 1).await?;
        let (payload, charge) = self.take(bytes);
        let multipart = self.multipart.as_mut().expect("it was begun above");
        let part = multipart.put_part(payload);
        let work = charge.as_ref().map(|charge| charge.budget().begin_work());
        self.parts.spawn(async move {
            let sent = part.await;
            drop(charge);
            drop(work);
            sent
        });
        Ok(())
    }

    /// Takes the first `bytes` of what is pending, with their share of the charge.
    fn take(&mut self, bytes: usize) -> (PutPayload, Option<Charge>) {
        let mut taken = Vec::new();
        let mut missing = bytes;
        for chunk in &mut self.pending {
            let part = chunk.split_to(chunk.len().min(missing));
            missing -= part.len();
            taken.push(part);
        }
        self.pending.retain(|chunk| !chunk.is_empty());
        self.pending_bytes -= bytes;
        (PutPayload::from_iter(taken), self.charge.as_mut().map(|charge| charge.split(bytes)))
    }

    async fn wait_for_parts(&mut self, in_flight_max: usize) -> Result<()> {
        while self.parts.len() > in_flight_max {
            match self.parts.join_next().await {
                Some(Ok(sent)) => sent?,
                Some(Err(error)) if error.is_cancelled() => return Err(Error::Cancelled),
                Some(Err(error)) => return Err(Error::Internal(format!("an upload failed: {error}"))),
                None => break,
            }
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut multipart) = self.multipart.take() else { return };
        let mut parts = std::mem::take(&mut self.parts);
        let path = self.path.clone();
        in_background(async move {
            parts.shutdown().await;
            if let Err(error) = multipart.abort().await {
                tracing::warn!(%path, %error, "an upload could not be aborted");
            }
        });
    }
}

/// Cleans up after a write that was dropped: there is nobody left to wait for it.
///
/// Outside of a runtime nothing happens; parts and files that nothing refers to stay behind then, as
/// after a crash.
pub(super) fn in_background(cleanup: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn(cleanup));
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
    use object_store::memory::InMemory;

    use super::super::budget::Budget;
    use super::*;

    async fn written(cut: Parts, chunks: &[usize]) -> (Vec<u8>, usize) {
        let store = Arc::new(InMemory::new());
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let budget = Budget::new(&pool, "write", usize::MAX);
        let mut upload = Upload::new(Arc::clone(&store) as _, Path::from("a/b"), cut);
        for (index, length) in chunks.iter().enumerate() {
            let bytes = Bytes::from(vec![index as u8; *length]);
            upload.write(bytes, budget.charge(*length)).await.unwrap();
            assert!(store.get(&Path::from("a/b")).await.is_err(), "visible before it is complete");
        }
        let pending = upload.pending_bytes();
        upload.complete().await.unwrap();
        assert_eq!(budget.held_bytes(), 0);
        (store.get(&Path::from("a/b")).await.unwrap().bytes().await.unwrap().to_vec(), pending)
    }

    #[tokio::test]
    async fn parts_join_to_the_bytes_that_were_written() {
        let chunks = [3usize, 10, 0, 1, 25];
        let expected: Vec<u8> =
            chunks.iter().enumerate().flat_map(|(index, length)| vec![index as u8; *length]).collect();
        for (cut, pending) in [
            (Parts::Equal(1_000), 39),
            (Parts::Equal(7), 4),
            (Parts::AtLeast(10), 0),
            (Parts::AtLeast(30), 0),
        ] {
            assert_eq!(written(cut, &chunks).await, (expected.clone(), pending), "{cut:?}");
        }
    }

    #[tokio::test]
    async fn dropped_uploads_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let budget = Budget::new(&pool, "write", usize::MAX);
        let mut upload = Upload::new(store, Path::from("file"), Parts::AtLeast(1));
        upload.write(Bytes::from_static(b"half of it"), budget.charge(10)).await.unwrap();
        upload.seal().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the store's temporary file");
        drop(upload);
        for _ in 0..200 {
            if std::fs::read_dir(folder.path()).unwrap().count() == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the temporary file is still there");
    }
}
