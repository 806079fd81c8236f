//! Uploads: a large file that is written part by part and appears as a whole.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use tokio::runtime::Handle;

use super::durable::Staged;
use super::{e_tag, generic, io_error};
use crate::error::Error;

/// A temporary file that grows. Dropped before `complete`, it leaves nothing.
#[derive(Debug)]
pub(super) struct DiskUpload {
    /// None after `complete` or `abort`. Parts under way hold it too.
    staged: Option<Arc<Staged>>,
    target: PathBuf,
    path: Path,
    /// Where the next part begins, in bytes.
    offset: u64,
    io: Handle,
}

impl DiskUpload {
    pub fn new(staged: Staged, target: PathBuf, path: Path, io: Handle) -> Self {
        Self { staged: Some(Arc::new(staged)), target, path, offset: 0, io }
    }

    fn ended(&self) -> object_store::Error {
        generic(Error::Internal(format!("the upload of \"{}\" has ended", self.path)))
    }
}

#[async_trait]
impl MultipartUpload for DiskUpload {
    /// Parts may be awaited in any order; each has its place from the order of the calls.
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(staged) = self.staged.clone() else {
            let ended = self.ended();
            return Box::pin(async { Err(ended) });
        };
        let (mut offset, path, io) = (self.offset, self.path.clone(), self.io.clone());
        self.offset += data.content_length() as u64;
        Box::pin(async move {
            let write = move || {
                data.iter().try_for_each(|piece| {
                    staged.file().write_all_at(piece, offset)?;
                    offset += piece.len() as u64;
                    Ok(())
                })
            };
            io.spawn_blocking(write).await?.map_err(|error| io_error(&path, error))
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().and_then(Arc::into_inner).ok_or_else(|| self.ended())?;
        let (target, path) = (self.target.clone(), self.path.clone());
        let finish = move || {
            let e_tag = e_tag(&staged.metadata().map_err(|error| io_error(&path, error))?);
            staged.replace(&target, &path)?;
            Ok(PutResult { e_tag: Some(e_tag), version: None })
        };
        self.io.spawn_blocking(finish).await?
    }

    async fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }
}
