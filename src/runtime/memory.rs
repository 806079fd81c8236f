//! Memory: one pool over all queries, and in it a pool for each, which its operators share.
//!
//! A query's operators are of two kinds. Those that can spill share half of the query's limit evenly
//! among those that hold anything, or the first few that may come to, once the first third is taken: who
//! wants more has to spill. The other half is for those that cannot, such as the merge by which a sort
//! spills, which needs about two thirds of what it merges; they may also have whatever else is free.
//! (DataFusion's `FairSpillPool` divides by all operators that exist, idle ones included, and lets those
//! that spill take everything, so that their merges find nothing.) The sum of all queries stays under the
//! daemon's limit. Both limits end in 53200.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// Memory that one partition of a plan should have: below it, fewer partitions get further.
const PARTITION_BYTES_MIN: usize = 16 << 20;
/// Rows of a batch while memory is no concern (DataFusion's own choice), and at the least.
const BATCH_ROWS: (usize, usize) = (8192, 512);
/// Rows of a batch at the least, once a query did not fit.
const FINEST_BATCH_ROWS: usize = 128;
/// What a row is taken to need, where memory is shared out before any row is seen.
const ROW_BYTES: usize = 256;
/// Sorted runs that a merge reads at once, at the least and at the most. It holds four batches of each.
const MERGE_RUNS: (usize, usize) = (8, 64);
/// What a sort keeps free for its merges: DataFusion's own choice, and the most.
const SORT_RESERVE_BYTES_MAX: usize = 10 << 20;
/// An operator that can spill may hold this much, or a sixteenth of the query's limit, whatever its share.
const SHARE_BYTES_MIN: usize = 4 << 20;
/// Operators that are given shares before they hold anything: the sorts of a join in two partitions.
const SHARERS_MIN: usize = 4;
/// Rows on their way between operators may hold this much, however small the query's limit is.
const PASSING_BYTES_MIN: usize = 256 << 20;

/// How finely a query is cut, so that its pieces fit into its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grain {
    /// Partitions of a plan, which run at the same time.
    pub partitions: usize,
    pub batch_rows: usize,
    /// Sorted runs that a merge reads at once.
    pub merge_runs: usize,
    /// What each sort keeps free, in each partition, for its merges.
    pub sort_reserve_bytes: usize,
}

impl Grain {
    /// For a query that may have `memory_bytes`, on `threads` threads.
    ///
    /// In each partition, a merge of the fewest runs may hold half of the memory.
    pub fn of(memory_bytes: usize, threads: usize) -> Self {
        let partitions = (memory_bytes / PARTITION_BYTES_MIN).clamp(1, threads.max(1));
        let merged_rows = memory_bytes / partitions / 2 / (4 * ROW_BYTES);
        let batch_rows = prev_power_of_two(merged_rows / MERGE_RUNS.0).clamp(BATCH_ROWS.1, BATCH_ROWS.0);
        Self {
            partitions,
            batch_rows,
            merge_runs: (merged_rows / batch_rows).clamp(MERGE_RUNS.0, MERGE_RUNS.1),
            sort_reserve_bytes: (memory_bytes / partitions / 8).min(SORT_RESERVE_BYTES_MAX),
        }
    }

    /// For another try of a query that did not fit into `memory_bytes`.
    ///
    /// Two partitions, because DataFusion plans sort-merge joins for no less. The merges of a join, two in
    /// each partition, may together hold half of the memory.
    pub fn finest(memory_bytes: usize) -> Self {
        let merged_rows = memory_bytes / 2 / (4 * ROW_BYTES);
        let batch_rows = prev_power_of_two(merged_rows / (4 * MERGE_RUNS.0));
        Self {
            partitions: 2,
            batch_rows: batch_rows.clamp(FINEST_BATCH_ROWS, BATCH_ROWS.1),
            merge_runs: MERGE_RUNS.0,
            sort_reserve_bytes: (memory_bytes / 48).min(SORT_RESERVE_BYTES_MAX),
        }
    }
}

/// Whether batches are cut so finely that buffers which several share, and each counts, would fill memory.
pub fn is_fine(batch_rows: usize) -> bool {
    batch_rows < BATCH_ROWS.0
}

fn prev_power_of_two(number: usize) -> usize {
    1 << number.max(1).ilog2()
}

/// The memory of all queries together.
#[derive(Debug)]
pub struct GlobalPool {
    pool: GreedyMemoryPool,
}

impl GlobalPool {
    pub fn new(limit_bytes: usize) -> Self {
        Self { pool: GreedyMemoryPool::new(limit_bytes) }
    }

    fn limit_bytes(&self) -> usize {
        match self.pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        }
    }
}

impl fmt::Display for GlobalPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all queries: {}", self.pool)
    }
}

impl MemoryPool for GlobalPool {
    fn name(&self) -> &str {
        "lacus"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.pool.try_grow(reservation, additional).map_err(|_| {
            let name = reservation.consumer().name();
            refused(name, additional, "all queries", self.reserved(), self.limit_bytes())
        })
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

/// The memory of one query, within that of all.
#[derive(Debug)]
pub struct QueryPool {
    limit_bytes: usize,
    held: Mutex<Held>,
    all: Arc<GlobalPool>,
}

/// What the operators of a query hold.
#[derive(Debug, Default)]
struct Held {
    /// Of those that cannot spill.
    fixed: usize,
    /// Of each that can, by its consumer's id, while it holds anything.
    spillable: HashMap<usize, usize>,
    /// Operators that can spill and exist.
    registered: usize,
    /// Of rows on their way between operators; see [`is_exchange`].
    passing: usize,
}

/// Whether a consumer holds rows on their way from one operator to others.
///
/// Such rows are never refused, beside the query's limit and the daemon's, so that they are not spilled:
/// what DataFusion 55.2 spills of them can hang the query. Its reader takes the first file of the queue
/// and waits for more rows in it, while the rows that it is told of lie in another, or while the write to
/// that file has failed (datafusion-physical-plan, `spill/spill_pool.rs`). They are few, as an exchange
/// stops its writers while every reader has something to read; where a reader lags and they exceed
/// [`QueryPool::passing_bytes_max`] all the same, whoever asks for memory next is refused it.
fn is_exchange(consumer: &MemoryConsumer) -> bool {
    consumer.can_spill() && consumer.name().starts_with("RepartitionExec[")
}

impl Held {
    fn total(&self) -> usize {
        self.fixed + self.spillable.values().sum::<usize>()
    }

    /// Whether an operator that can spill may hold `own` bytes, of which `additional` are new.
    ///
    /// One that holds nothing may always have its first rows: it could not spill in their place.
    fn is_due(&self, limit_bytes: usize, consumer: usize, own: usize, additional: usize) -> bool {
        if self.total() + additional <= limit_bytes / 3 || !self.spillable.contains_key(&consumer) {
            return true;
        }
        // A sort that is alone at first must not take what the other sorts of its join are about to need.
        let sharers = self.spillable.len().max(self.registered.min(SHARERS_MIN));
        let even = limit_bytes.saturating_sub(self.fixed.max(limit_bytes / 2)) / sharers;
        own <= even.max(SHARE_BYTES_MIN.min(limit_bytes / 16))
    }

    fn add(&mut self, consumer: &MemoryConsumer, bytes: usize) {
        match consumer.can_spill() {
            true if is_exchange(consumer) => self.passing += bytes,
            true => *self.spillable.entry(consumer.id()).or_default() += bytes,
            false => self.fixed += bytes,
        }
    }

    fn take(&mut self, consumer: &MemoryConsumer, bytes: usize) {
        if !consumer.can_spill() {
            self.fixed = self.fixed.saturating_sub(bytes);
            return;
        }
        if is_exchange(consumer) {
            self.passing = self.passing.saturating_sub(bytes);
            return;
        }
        if let Some(own) = self.spillable.get_mut(&consumer.id()) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                self.spillable.remove(&consumer.id());
            }
        }
    }
}

impl QueryPool {
    pub fn new(all: Arc<GlobalPool>, limit_bytes: usize) -> Self {
        Self { limit_bytes, held: Mutex::default(), all }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_add(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        let mut held = self.held();
        if held.passing > self.passing_bytes_max() {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "out of memory: {} bytes of rows wait between operators, this query may hold {}",
                held.passing,
                self.passing_bytes_max()
            )));
        }
        let total = held.total();
        let fits = total + additional <= self.limit_bytes;
        let own = reservation.size() + additional;
        let is_due = !consumer.can_spill() || held.is_due(self.limit_bytes, consumer.id(), own, additional);
        if !(fits && is_due) {
            return Err(refused(consumer.name(), additional, "this query", total, self.limit_bytes));
        }
        held.add(consumer, additional);
        Ok(())
    }

    /// How much may be on its way between operators: as much again as the query's limit.
    ///
    /// Under a small limit a fixed amount, because texts that several batches share are counted by each.
    fn passing_bytes_max(&self) -> usize {
        self.limit_bytes.max(PASSING_BYTES_MIN)
    }
}

fn refused(consumer: &str, additional: usize, whose: &str, held: usize, limit: usize) -> DataFusionError {
    DataFusionError::ResourcesExhausted(format!(
        "out of memory: {consumer} wants {additional} bytes more, {whose} may hold {limit} and holds {held}"
    ))
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this query: {} of {} bytes", self.reserved(), self.limit_bytes)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() && !is_exchange(consumer) {
            self.held().registered += 1;
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() && !is_exchange(consumer) {
            self.held().registered -= 1;
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.held().add(reservation.consumer(), additional);
        if !is_exchange(reservation.consumer()) {
            self.all.grow(reservation, additional);
        }
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.held().take(reservation.consumer(), shrink);
        if !is_exchange(reservation.consumer()) {
            self.all.shrink(reservation, shrink);
        }
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if is_exchange(reservation.consumer()) {
            self.held().add(reservation.consumer(), additional);
            return Ok(());
        }
        self.try_add(reservation, additional)?;
        self.all
            .try_grow(reservation, additional)
            .inspect_err(|_| self.held().take(reservation.consumer(), additional))
    }

    fn reserved(&self) -> usize {
        let held = self.held();
        held.total() + held.passing
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    fn consumer(pool: &Arc<dyn MemoryPool>, name: &str, can_spill: bool) -> MemoryReservation {
        MemoryConsumer::new(name).with_can_spill(can_spill).register(pool)
    }

    #[test]
    fn a_query_is_held_to_its_share_and_all_to_the_whole() {
        let all = Arc::new(GlobalPool::new(100));
        let pools: Vec<Arc<dyn MemoryPool>> =
            (0..2).map(|_| Arc::new(QueryPool::new(Arc::clone(&all), 70)) as _).collect();
        let first = consumer(&pools[0], "first", false);
        let second = consumer(&pools[1], "second", false);
        assert!(first.try_grow(80).is_err());
        first.try_grow(70).unwrap();
        assert!(second.try_grow(40).is_err());
        second.try_grow(30).unwrap();
        assert_eq!(all.reserved(), 100);
        drop(first);
        assert_eq!((all.reserved(), pools[1].reserved()), (30, 30));
    }

    #[test]
    fn operators_that_spill_leave_half_to_the_others() {
        let all = Arc::new(GlobalPool::new(usize::MAX));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(all, 80 * MB));
        let (one, two) = (consumer(&pool, "one", true), consumer(&pool, "two", true));
        one.try_grow(20 * MB).unwrap();
        one.try_grow(20 * MB).expect_err("half of the half, as two are there");
        two.try_grow(20 * MB).unwrap();
        assert!(one.try_grow(7 * MB).is_err() && two.try_grow(7 * MB).is_err());
        let merge = consumer(&pool, "merge", false);
        merge.try_grow(40 * MB).unwrap();
        assert!(merge.try_grow(1).is_err());
        drop((one, two, merge));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn idle_operators_count_up_to_a_few() {
        let all = Arc::new(GlobalPool::new(usize::MAX));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(all, 240 * MB));
        let operators: Vec<_> = (0..20).map(|_| consumer(&pool, "operator", true)).collect();
        let merge = consumer(&pool, "merge", false);
        merge.try_grow(80 * MB).unwrap();
        operators[0].try_grow(30 * MB).expect("its first rows");
        assert!(operators[0].try_grow(1).is_err(), "a quarter of the half");
        drop(operators);
        let alone = consumer(&pool, "alone", true);
        alone.try_grow(MB).unwrap();
        alone.try_grow(119 * MB).expect("the half");
        assert!(alone.try_grow(1).is_err());
    }

    #[test]
    fn rows_between_operators_are_not_told_to_spill() {
        let all = Arc::new(GlobalPool::new(10 * MB));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(Arc::clone(&all), 10 * MB));
        let sort = consumer(&pool, "sort", false);
        sort.try_grow(9 * MB).unwrap();
        let exchange = consumer(&pool, "RepartitionExec[0]", true);
        exchange.try_grow(PASSING_BYTES_MIN).unwrap();
        sort.try_grow(1).unwrap();
        exchange.try_grow(1).unwrap();
        assert!(sort.try_grow(1).is_err(), "too much lags behind");
        exchange.shrink(1);
        sort.try_grow(1).unwrap();
        drop((sort, exchange));
        assert_eq!((pool.reserved(), all.reserved()), (0, 0));
    }

    #[test]
    fn pieces_of_one_reservation_count_as_one_operator() {
        let all = Arc::new(GlobalPool::new(usize::MAX));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(Arc::clone(&all), 80 * MB));
        let whole = consumer(&pool, "sort", true);
        whole.try_grow(40 * MB).unwrap();
        let pieces: Vec<_> = (0..4).map(|_| whole.split(10 * MB)).collect();
        let other = consumer(&pool, "other", true);
        other.try_grow(20 * MB).unwrap();
        assert!(other.try_grow(1).is_err(), "the pieces are one, and still hold memory");
        drop((whole, pieces));
        assert_eq!((pool.reserved(), all.reserved()), (20 * MB, 20 * MB));
        other.try_grow(20 * MB).unwrap();
    }

    #[test]
    fn little_memory_is_cut_finely() {
        let plenty = Grain { partitions: 8, batch_rows: 8192, merge_runs: 64, sort_reserve_bytes: 10 * MB };
        assert_eq!(Grain::of(10 << 30, 8), plenty);
        assert!(!is_fine(plenty.batch_rows));
        assert_eq!(Grain::of(45 * MB, 8).partitions, 2);
        assert_eq!(Grain::of(90 * MB, 2).partitions, 2);
        assert_eq!(Grain::of(10 * MB, 8).partitions, 1);
        assert_eq!(Grain::finest(22 * MB).batch_rows, 256);
        assert_eq!(Grain::finest(MB).batch_rows, FINEST_BATCH_ROWS);
        assert_eq!(Grain::finest(10 << 30).batch_rows, BATCH_ROWS.1);
        for megabytes in [16, 22, 45, 90, 400] {
            let grain = Grain::of(megabytes * MB, 8);
            assert!(is_fine(grain.batch_rows), "{grain:?}");
            assert!(grain.partitions * grain.sort_reserve_bytes <= megabytes * MB / 8, "{grain:?}");
            let merged = grain.partitions * grain.merge_runs * 4 * grain.batch_rows * ROW_BYTES;
            assert!(merged <= megabytes * MB / 2, "{grain:?}");
        }
    }
}
