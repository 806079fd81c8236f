//! The CPU runtime: threads that run queries and nothing else.

use std::future::Future;

use futures::FutureExt;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, Result};

/// Stack of every thread that parses, plans or runs: what walks a statement calls itself once for each link
/// of its longest chain (`engine::parse`). Memory that is never touched costs nothing.
pub const STACK_BYTES: usize = 128 << 20;

/// A tokio runtime for work that keeps a core busy.
#[derive(Debug)]
pub struct CpuRuntime {
    /// Taken out by `drop`, which must not wait for threads.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl CpuRuntime {
    /// Starts `threads` threads of that name.
    ///
    /// # Errors
    /// [`Error::Config`] when the system refuses the threads.
    pub fn start(name: &str, threads: usize) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()
            .map_err(|error| Error::Config(format!("cannot start query threads: {error}")))?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    /// Runs `work` on these threads. Dropping the returned task stops the work at its next await.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> AbortOnDrop<T> {
        AbortOnDrop(self.handle.spawn(work))
    }

    /// Runs `work` on these threads and waits for it; a panic becomes [`Error::Internal`].
    ///
    /// # Errors
    /// What `work` returns, or [`Error::Internal`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match self.spawn(work).await {
            Ok(result) => result,
            Err(error) => Err(from_join(error)),
        }
    }
}

impl Drop for CpuRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A task that ends when nobody waits for it any more.
#[derive(Debug)]
pub struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> From<JoinHandle<T>> for AbortOnDrop<T> {
    fn from(task: JoinHandle<T>) -> Self {
        Self(task)
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.0.poll_unpin(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a task's panic or abort means to a client.
pub fn from_join(error: JoinError) -> Error {
    if error.is_cancelled() {
        return Error::Cancelled;
    }
    Error::Internal(panic_text(error.into_panic().as_ref()))
}

/// The text of a panic.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
