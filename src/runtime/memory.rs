//! Memory: one pool over all queries, and in it a fair pool for each.
//!
//! A query's operators share the query's limit fairly (those that can spill leave room for the
//! others); the sum of all queries stays under the daemon's limit. Both limits end in 53200.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// The memory of all queries together.
#[derive(Debug)]
pub struct GlobalPool {
    pool: GreedyMemoryPool,
}

impl GlobalPool {
    pub fn new(limit_bytes: usize) -> Self {
        Self { pool: GreedyMemoryPool::new(limit_bytes) }
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
        self.pool.try_grow(reservation, additional)
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
    own: FairSpillPool,
    all: Arc<GlobalPool>,
}

impl QueryPool {
    pub fn new(all: Arc<GlobalPool>, limit_bytes: usize) -> Self {
        Self { own: FairSpillPool::new(limit_bytes), all }
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this query: {}", self.own)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        self.all.try_grow(reservation, additional).inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_held_to_its_share_and_all_to_the_whole() {
        let all = Arc::new(GlobalPool::new(100));
        let pools: Vec<Arc<dyn MemoryPool>> =
            (0..2).map(|_| Arc::new(QueryPool::new(Arc::clone(&all), 70)) as _).collect();
        let first = MemoryConsumer::new("first").register(&pools[0]);
        let second = MemoryConsumer::new("second").register(&pools[1]);
        assert!(first.try_grow(80).is_err());
        first.try_grow(70).unwrap();
        assert!(second.try_grow(40).is_err());
        second.try_grow(30).unwrap();
        assert_eq!(all.reserved(), 100);
        drop(first);
        assert_eq!((all.reserved(), pools[1].reserved()), (30, 30));
    }
}
