//! Queries: every statement that runs or waits, its cancel, and the admission in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::telemetry::Metrics;

/// Names a query: the daemon's start and a counter, as Trino writes them.
pub type QueryId = String;

/// Why a query was stopped from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    User,
    Timeout(Duration),
    Shutdown,
}

/// Stops one query, once, for one reason.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    token: CancellationToken,
    reason: Arc<OnceLock<Stop>>,
}

impl Cancel {
    /// Stops the query; only the first reason counts.
    pub fn stop(&self, reason: Stop) {
        self.reason.set(reason).ok();
        self.token.cancel();
    }

    /// Fires when the query is stopped; firing it stops the query for its user.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when the query is stopped.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// The error that the client of a stopped query sees.
    pub fn error(&self) -> Error {
        match self.reason.get() {
            Some(Stop::Timeout(limit)) => Error::Timeout(*limit),
            Some(Stop::Shutdown) => Error::Shutdown,
            Some(Stop::User) | None => Error::Cancelled,
        }
    }
}

/// What a listing shows of a query.
#[derive(Debug, Clone)]
pub struct QueryInfo {
    pub id: QueryId,
    pub user: String,
    pub catalog: String,
    pub text: Arc<str>,
    pub started: SystemTime,
    pub running: bool,
}

/// What a query may cost, which decides in which line it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Looks at the catalog alone, and waits for nobody.
    Catalog,
    /// Reads little: has places of its own besides those for all.
    Light,
    Heavy,
}

const WAITING: u8 = 0;
const RUNNING: u8 = 1;

#[derive(Debug)]
struct Entry {
    user: String,
    catalog: String,
    text: Arc<str>,
    started: SystemTime,
    state: AtomicU8,
    cancel: Cancel,
}

/// The queries of this process.
#[derive(Debug)]
pub struct Queries {
    shared: Arc<Shared>,
    admission: Arc<Semaphore>,
    /// As many places again, for light queries that find no other.
    light: Arc<Semaphore>,
    queue_max: usize,
    started: String,
    counter: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    entries: Mutex<BTreeMap<QueryId, Arc<Entry>>>,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
}

impl Queries {
    pub fn new(queries_max: usize, queue_max: usize, metrics: Arc<Metrics>) -> Self {
        let closing = CancellationToken::new();
        Self {
            shared: Arc::new(Shared { entries: Mutex::default(), metrics, closing }),
            admission: Arc::new(Semaphore::new(queries_max)),
            light: Arc::new(Semaphore::new(queries_max)),
            queue_max,
            started: chrono::Utc::now().format("%Y%m%d_%H%M%S").to_string(),
            counter: AtomicU64::new(0),
        }
    }

    /// Registers a statement, so that it can be seen and cancelled. Dropping the guard ends it.
    ///
    /// # Errors
    /// [`Error::Shutdown`] once the daemon drains.
    pub fn begin(&self, user: &str, catalog: &str, text: Arc<str>, cancel: Cancel) -> Result<QueryGuard> {
        if self.shared.closing.is_cancelled() {
            return Err(Error::Shutdown);
        }
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}_{number:05}", self.started);
        let entry = Arc::new(Entry {
            user: user.to_owned(),
            catalog: catalog.to_owned(),
            text,
            started: SystemTime::now(),
            state: AtomicU8::new(WAITING),
            cancel: cancel.clone(),
        });
        self.lock().insert(id.clone(), Arc::clone(&entry));
        Metrics::add(&self.shared.metrics.queries_total, 1);
        Ok(QueryGuard {
            id,
            cancel,
            began: Instant::now(),
            entry,
            shared: Arc::clone(&self.shared),
            permit: Mutex::new(None),
        })
    }

    /// Waits, in order of arrival, until the query may run; one that runs already goes on.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] when the queue is full, and what stopped the query while it waited.
    pub async fn admit(&self, guard: &QueryGuard, weight: Weight) -> Result<()> {
        // Who waits for a second place while it holds one may wait for itself.
        if guard.entry.state.load(Ordering::Relaxed) == RUNNING {
            return Ok(());
        }
        let permit = match weight {
            Weight::Catalog => None,
            Weight::Light | Weight::Heavy => Some(match self.free_place(weight) {
                Some(permit) => permit,
                None => self.wait_for_place(guard, weight).await?,
            }),
        };
        guard.entry.state.store(RUNNING, Ordering::Relaxed);
        Metrics::add(&self.shared.metrics.queries_running, 1);
        *guard.permit.lock().expect("no holder of this lock panics") = permit;
        Ok(())
    }

    /// Gives a query's place to others, until it is admitted again.
    pub fn rest(&self, guard: &QueryGuard) {
        if guard.entry.state.swap(WAITING, Ordering::Relaxed) == RUNNING {
            self.shared.metrics.queries_running.fetch_sub(1, Ordering::Relaxed);
        }
        guard.permit.lock().expect("no holder of this lock panics").take();
    }

    fn free_place(&self, weight: Weight) -> Option<OwnedSemaphorePermit> {
        let place = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        place(&self.admission).or_else(|| if weight == Weight::Light { place(&self.light) } else { None })
    }

    async fn wait_for_place(&self, guard: &QueryGuard, weight: Weight) -> Result<OwnedSemaphorePermit> {
        let waiting = Waiting::enter(&self.shared.metrics);
        if waiting.before >= self.queue_max as u64 {
            let message = format!("{} queries wait already", self.queue_max);
            return Err(Error::LimitExceeded(message));
        }
        let permit = tokio::select! {
            biased;
            () = guard.cancel.stopped() => return Err(guard.cancel.error()),
            permit = Arc::clone(&self.admission).acquire_owned() => permit,
            permit = Arc::clone(&self.light).acquire_owned(), if weight == Weight::Light => permit,
        };
        permit.map_err(|_| Error::Shutdown)
    }

    /// Everything that runs or waits, oldest first.
    pub fn list(&self) -> Vec<QueryInfo> {
        let entries = self.lock();
        let info = |(id, entry): (&QueryId, &Arc<Entry>)| QueryInfo {
            id: id.clone(),
            user: entry.user.clone(),
            catalog: entry.catalog.clone(),
            text: Arc::clone(&entry.text),
            started: entry.started,
            running: entry.state.load(Ordering::Relaxed) == RUNNING,
        };
        entries.iter().map(info).collect()
    }

    /// Cancels one of a user's queries by its id; returns whether it was there.
    pub fn kill(&self, id: &str, user: &str) -> bool {
        let entry = self.lock().get(id).filter(|entry| entry.user == user).cloned();
        entry.inspect(|entry| entry.cancel.stop(Stop::User)).is_some()
    }

    /// Refuses new statements, waits for the running ones at most `limit`, and stops the rest.
    pub async fn drain(&self, limit: Duration) {
        self.shared.closing.cancel();
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline && !self.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left: Vec<_> = self.lock().values().cloned().collect();
        for entry in &left {
            entry.cancel.stop(Stop::Shutdown);
        }
        let grace = Instant::now() + Duration::from_secs(2);
        while Instant::now() < grace && !self.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<QueryId, Arc<Entry>>> {
        self.shared.entries.lock().expect("no holder of this lock panics")
    }
}

/// Keeps a query in the registry; dropping it takes the query out and gives its place to the next.
#[derive(Debug)]
pub struct QueryGuard {
    pub id: QueryId,
    pub cancel: Cancel,
    pub began: Instant,
    entry: Arc<Entry>,
    shared: Arc<Shared>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Drop for QueryGuard {
    fn drop(&mut self) {
        self.shared.entries.lock().expect("no holder of this lock panics").remove(&self.id);
        let metrics = &self.shared.metrics;
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Metrics::add(&metrics.query_microseconds_total, micros);
        if self.entry.state.load(Ordering::Relaxed) == RUNNING {
            metrics.queries_running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Counts one query among those that wait.
struct Waiting<'a> {
    metrics: &'a Metrics,
    before: u64,
}

impl<'a> Waiting<'a> {
    fn enter(metrics: &'a Metrics) -> Self {
        Self { metrics, before: metrics.queries_waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.metrics.queries_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(queries: &Queries) -> QueryGuard {
        queries.begin("ada", "lake", "SELECT".into(), Cancel::default()).unwrap()
    }

    #[tokio::test]
    async fn a_light_query_does_not_wait_for_heavy_ones() {
        let queries = Queries::new(1, 1, Arc::default());
        let heavy = begin(&queries);
        queries.admit(&heavy, Weight::Heavy).await.unwrap();
        let (light, catalog) = (begin(&queries), begin(&queries));
        queries.admit(&light, Weight::Light).await.unwrap();
        queries.admit(&catalog, Weight::Catalog).await.unwrap();
        assert!(queries.list().iter().all(|query| query.running));

        // All places are taken now: one may wait, a second one is refused.
        let next = begin(&queries);
        let mut waits = Box::pin(queries.admit(&next, Weight::Heavy));
        assert!(futures::poll!(&mut waits).is_pending());
        assert!(!queries.list()[3].running);
        let refused = queries.admit(&begin(&queries), Weight::Light).await;
        assert!(matches!(refused, Err(Error::LimitExceeded(_))), "{refused:?}");
        queries.rest(&light);
        assert!(futures::poll!(&mut waits).is_pending(), "a light query's place is for light ones");
        queries.rest(&heavy);
        waits.await.unwrap();
        let mut again = Box::pin(queries.admit(&heavy, Weight::Heavy));
        assert!(futures::poll!(&mut again).is_pending(), "who rests has to wait in line again");
        drop(next);
        again.await.unwrap();
    }
}
