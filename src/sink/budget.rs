//! Budget: the memory that one write may hold, charged before it is taken.
//!
//! A [`Charge`] stands for bytes that are held somewhere in the write and gives them back when it is
//! dropped. The sum of all charges is one reservation in the runtime's memory pool, so that a write
//! and the query that feeds it share one limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use tokio::sync::Notify;

/// What a write may hold at most, and what it holds.
#[derive(Debug)]
pub(super) struct Budget {
    reservation: MemoryReservation,
    limit_bytes: usize,
    work: AtomicUsize,
    freed: Notify,
}

/// Work under way that will give memory back without anybody's help; dropped, it has ended.
#[derive(Debug)]
pub(super) struct Work(Arc<Budget>);

/// Why a charge was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The write's own limit: it should encode or upload something first, and may go on if it cannot.
    Own,
    /// The memory pool: going on would take memory that others were promised.
    Pool(DataFusionError),
}

/// Bytes that are held; dropped, they are free again.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// Registers a write named `name` with `pool`, limited to `limit_bytes` of its own.
    pub(super) fn new(pool: &Arc<dyn MemoryPool>, name: &str, limit_bytes: usize) -> Arc<Self> {
        let reservation = MemoryConsumer::new(name).with_can_spill(true).register(pool);
        Arc::new(Self { reservation, limit_bytes, work: AtomicUsize::new(0), freed: Notify::new() })
    }

    pub(super) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Charges `bytes` if both the write's limit and the pool allow it.
    pub(super) fn try_charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Refusal> {
        if self.reservation.size() + bytes > self.limit_bytes {
            return Err(Refusal::Own);
        }
        self.charge_within_pool(bytes).map_err(Refusal::Pool)
    }

    /// Charges `bytes` if the pool allows it, even beyond the write's own limit.
    pub(super) fn charge_within_pool(self: &Arc<Self>, bytes: usize) -> Result<Charge, DataFusionError> {
        self.reservation.try_grow(bytes)?;
        Ok(Charge { budget: Arc::clone(self), bytes })
    }

    /// Charges `bytes` that are held already, whatever the limits.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.reservation.grow(bytes);
        Charge { budget: Arc::clone(self), bytes }
    }

    /// Marks the begin of work that holds charges and ends by itself, such as an encoding or an upload.
    pub(super) fn begin_work(self: &Arc<Self>) -> Work {
        self.work.fetch_add(1, Ordering::SeqCst);
        Work(Arc::clone(self))
    }

    pub(super) fn is_working(&self) -> bool {
        self.work.load(Ordering::SeqCst) > 0
    }

    /// Resolves when a charge is dropped, or work ends, after the returned future was enabled.
    pub(super) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.reservation.size()
    }
}

impl Charge {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Takes over the bytes of `other`, which must be of the same budget.
    pub(super) fn merge(&mut self, mut other: Charge) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Parts with `bytes` of this charge, or with all of it if it has less.
    pub(super) fn split(&mut self, bytes: usize) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Charge { budget: Arc::clone(&self.budget), bytes }
    }

    /// Corrects the charge to `bytes`, whatever the limits.
    pub(super) fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.reservation.grow(bytes - self.bytes);
            self.bytes = bytes;
        } else {
            drop(self.split(self.bytes - bytes));
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.reservation.shrink(self.bytes);
            self.budget.freed.notify_waiters();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.work.fetch_sub(1, Ordering::SeqCst);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn charges_add_up_and_are_given_back() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let budget = Budget::new(&pool, "write", 60);
        let mut held = budget.try_charge(40).unwrap();
        assert!(matches!(budget.try_charge(30), Err(Refusal::Own)));
        held.merge(budget.charge_within_pool(30).unwrap());
        assert_eq!((held.bytes(), pool.reserved()), (70, 70));
        assert!(budget.charge_within_pool(40).is_err(), "the pool has 30 left");
        let part = held.split(20);
        held.resize(10);
        assert_eq!(budget.held_bytes(), 30);
        drop((part, held));
        assert_eq!(pool.reserved(), 0);
    }
}
