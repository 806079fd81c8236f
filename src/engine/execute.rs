//! Execution: a plan becomes a stream of what its caller makes of each batch.
//!
//! Plans run on the query threads, and so does the caller's `map` (encoding is work too). At most
//! `AHEAD` results wait for a slow reader; then the scan waits. A constant is answered in place, and
//! what is about the catalog alone on the planning threads. A query that runs out of memory before its
//! first row is planned and run once more, frugally.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tracing::debug;

use super::copy::Intake;
use super::copy::options::CopyOptions;
use super::cursor::Taking;
use super::frugal::Frugal;
use super::weight::{is_constant, weight};
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::runtime::cpu::{AbortOnDrop, from_join};
use crate::runtime::queries::{Cancel, QueryGuard, Stop, Weight};

/// Results that are made before the reader asks for them.
const AHEAD: usize = 2;

/// What a statement answers.
#[derive(Debug)]
pub enum Outcome {
    Rows(Rows),
    /// The command tag, such as `CREATE TABLE` or `INSERT 0 3`.
    Done(String),
    /// Rows that the client is to send.
    CopyIn(Box<Intake>),
    /// Rows that go to the client as COPY's.
    CopyOut(Rows, Box<CopyOptions>),
}

/// The rows of a statement, not yet computed.
#[derive(Debug)]
pub struct Rows {
    pub schema: SchemaRef,
    /// The first word of the command tag.
    pub tag: &'static str,
    /// Whether a client of the simple protocol gets values in binary form.
    pub binary: bool,
    source: Source,
    run: Run,
}

#[derive(Debug)]
enum Source {
    Plan(Work),
    Batches(Vec<RecordBatch>),
    Cursor(Taking),
}

/// A plan to run, and what to do when it does not fit into memory.
#[derive(Debug)]
struct Work {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    frugal: Option<Box<Frugal>>,
}

/// Keeps a running statement in the registry, and its timer alive.
#[derive(Debug)]
pub struct Run {
    pub runtime: Arc<Runtime>,
    pub guard: QueryGuard,
    /// Where the plans of a statement that writes are noted as they run, if anybody wants to see them.
    pub plans: Option<Plans>,
    _timer: Option<AbortOnDrop<()>>,
}

/// Plans that were run, in their order.
pub type Plans = Arc<Mutex<Vec<Arc<dyn ExecutionPlan>>>>;

/// Notes a plan that is about to run.
pub fn note(plans: Option<&Plans>, plan: &Arc<dyn ExecutionPlan>) {
    if let Some(plans) = plans {
        plans.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(plan));
    }
}

impl Run {
    /// Registers a statement; it is stopped after `timeout`.
    pub fn begin(runtime: &Arc<Runtime>, guard: QueryGuard, timeout: Option<Duration>) -> Self {
        let timer = timeout.map(|limit| {
            let cancel = guard.cancel.clone();
            // Not on the query threads: a timer there waits while every one of them is busy.
            let timer = runtime.io.spawn(async move {
                tokio::time::sleep(limit).await;
                cancel.stop(Stop::Timeout(limit));
            });
            AbortOnDrop::from(timer)
        });
        Self { runtime: Arc::clone(runtime), guard, plans: None, _timer: timer }
    }

    pub fn cancel(&self) -> &Cancel {
        &self.guard.cancel
    }

    /// Runs `work` on the planning threads, until it ends or the statement is stopped.
    ///
    /// # Errors
    /// What `work` returns, and why the statement was stopped.
    pub async fn plan<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.unless_stopped(self.runtime.planning.run(work)).await
    }

    /// Runs `work` on the query threads, until it ends or the statement is stopped.
    ///
    /// # Errors
    /// What `work` returns, and why the statement was stopped.
    pub async fn on_cpu<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.unless_stopped(self.runtime.cpu.run(work)).await
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel().stopped() => Err(self.cancel().error()),
            done = work => done,
        }
    }
}

impl Rows {
    pub fn of_plan(
        tag: &'static str,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        run: Run,
    ) -> Self {
        let schema = plan.schema();
        Self { schema, tag, binary: false, source: Source::Plan(Work { plan, context, frugal: None }), run }
    }

    /// Has the query planned by `frugal` if it does not fit into memory and no row was made yet.
    pub fn or_frugally(mut self, frugal: Frugal) -> Self {
        if let Source::Plan(work) = &mut self.source {
            work.frugal = Some(Box::new(frugal));
        }
        self
    }

    /// Rows that are there already.
    pub fn of_batches(tag: &'static str, schema: SchemaRef, batches: Vec<RecordBatch>, run: Run) -> Self {
        Self { schema, tag, binary: false, source: Source::Batches(batches), run }
    }

    /// Rows that a cursor gives, which has a query and a run of its own.
    pub(super) fn of_cursor(schema: SchemaRef, binary: bool, taking: Taking, run: Run) -> Self {
        Self { schema, tag: "FETCH", binary, source: Source::Cursor(taking), run }
    }

    pub fn of_batch(tag: &'static str, batch: RecordBatch, run: Run) -> Self {
        Self::of_batches(tag, batch.schema(), vec![batch], run)
    }

    /// Starts the query for its batches as they are. A type of its own, as a cursor's rows start others'.
    pub(super) fn start_batches(self) -> BoxFuture<'static, Result<RowStream<RecordBatch>>> {
        Box::pin(self.start(Ok))
    }

    /// Starts the query. `map` runs on the query threads, once a batch, in order.
    ///
    /// Dropping the stream stops the query and frees what it holds.
    ///
    /// # Errors
    /// While it waits for admission: what stopped it, and [`Error::LimitExceeded`].
    pub async fn start<T, F>(self, mut map: F) -> Result<RowStream<T>>
    where
        T: Send + 'static,
        F: FnMut(RecordBatch) -> Result<T> + Send + 'static,
    {
        let cancel = self.run.cancel().clone();
        let work = match self.source {
            Source::Batches(batches) => {
                let ready = batches.into_iter().map(map).collect::<Result<_>>()?;
                return Ok(RowStream { ready, running: None, weight: None, run: self.run, cancel });
            }
            Source::Cursor(taking) => {
                let (sender, receiver) = mpsc::channel(AHEAD);
                let task = self.run.runtime.cpu.spawn(taking.drive(cancel.clone(), map, sender));
                let running = Some(Running { receiver, task });
                return Ok(RowStream {
                    ready: VecDeque::new(),
                    running,
                    weight: None,
                    run: self.run,
                    cancel,
                });
            }
            Source::Plan(work) => work,
        };
        if is_constant(work.plan.as_ref()) {
            let mut stream = execute_stream(work.plan, work.context)?;
            let mut ready = VecDeque::new();
            while let Some(batch) = stream.next().await {
                ready.push_back(map(batch?)?);
            }
            return Ok(RowStream { ready, running: None, weight: None, run: self.run, cancel });
        }
        let weight = weight(work.plan.as_ref());
        self.run.runtime.queries.admit(&self.run.guard, weight).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let threads = match weight {
            Weight::Catalog => &self.run.runtime.planning,
            Weight::Light | Weight::Heavy => &self.run.runtime.cpu,
        };
        let task = threads.spawn(drive(work, cancel.clone(), map, sender));
        let running = Some(Running { receiver, task });
        let (ready, weight) = (VecDeque::new(), Some(weight));
        Ok(RowStream { ready, running, weight, run: self.run, cancel })
    }
}

/// Runs a plan to its end, sending what `map` makes of each batch.
async fn drive<T: Send>(
    work: Work,
    cancel: Cancel,
    mut map: impl FnMut(RecordBatch) -> Result<T>,
    sender: mpsc::Sender<Result<T>>,
) {
    let Work { plan, context, frugal } = work;
    let work = async {
        let pool = Arc::clone(context.memory_pool());
        let mut sent = 0;
        match (send_all(plan, context, &mut map, &sender, &mut sent).await, frugal) {
            (Err(Error::OutOfMemory(reason)), Some(frugal)) if sent == 0 => {
                debug!(%reason, "another try, frugally");
                let (plan, context) = frugal.plan(&pool).await?;
                send_all(plan, context, &mut map, &sender, &mut sent).await
            }
            (ended, _) => ended,
        }
    };
    let ended = tokio::select! {
        biased;
        () = cancel.stopped() => Err(cancel.error()),
        ended = work => ended,
    };
    if let Err(error) = ended {
        // The reader may be gone; then nobody is left to tell.
        sender.send(Err(error)).await.ok();
    }
}

/// Sends what `map` makes of each batch of a plan, counting the batches in `sent`.
async fn send_all<T: Send>(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    map: &mut impl FnMut(RecordBatch) -> Result<T>,
    sender: &mpsc::Sender<Result<T>>,
    sent: &mut usize,
) -> Result<()> {
    let mut stream = execute_stream(plan, context)?;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            *sent += 1;
            if sender.send(map(batch).map(Ok)?).await.is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// The results of a running query.
#[derive(Debug)]
pub struct RowStream<T> {
    ready: VecDeque<T>,
    running: Option<Running<T>>,
    /// Of a query that had to be admitted.
    weight: Option<Weight>,
    run: Run,
    cancel: Cancel,
}

#[derive(Debug)]
struct Running<T> {
    receiver: mpsc::Receiver<Result<T>>,
    task: AbortOnDrop<()>,
}

impl<T> RowStream<T> {
    /// What stops this query.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Gives the query's place among those that run to others, while nobody asks for its rows.
    pub fn rest(&self) {
        self.run.runtime.queries.rest(&self.run.guard);
    }

    /// Waits for a place again after [`RowStream::rest`].
    ///
    /// # Errors
    /// While it waits for admission: what stopped it, and [`Error::LimitExceeded`].
    pub async fn resume(&self) -> Result<()> {
        match self.weight {
            Some(weight) => self.run.runtime.queries.admit(&self.run.guard, weight).await,
            None => Ok(()),
        }
    }

    /// The next result; none at the end.
    ///
    /// # Errors
    /// What went wrong while the query ran, and what stopped it.
    pub async fn next(&mut self) -> Result<Option<T>> {
        if let Some(ready) = self.ready.pop_front() {
            return Ok(Some(ready));
        }
        let Some(running) = &mut self.running else { return Ok(None) };
        let received = tokio::select! {
            biased;
            () = self.cancel.stopped() => Some(Err(self.cancel.error())),
            received = running.receiver.recv() => received,
        };
        match received {
            Some(Ok(result)) => Ok(Some(result)),
            Some(Err(error)) => {
                self.running = None;
                Err(error)
            }
            None => {
                let ended = (&mut running.task).await;
                self.running = None;
                debug!(query = %self.run.guard.id, elapsed = ?self.run.guard.began.elapsed(), "query ended");
                ended.map(|()| None).map_err(from_join)
            }
        }
    }
}

/// The error of a statement that was stopped, or the one it met itself.
pub fn stopped_or(cancel: &Cancel, error: Error) -> Error {
    if cancel.is_stopped() { cancel.error() } else { error }
}
