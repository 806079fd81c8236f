//! Shelf: rows that wait, by partition, until there are enough of them for a row group.
//!
//! All input streams of a write share one shelf. That makes half as many files with two streams, and
//! row groups twice as large for the same memory, as a shelf for each stream would.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::ScalarValue;

use super::budget::Charge;
use super::rows::Slice;
use crate::error::{Error, Result};

/// Most partitions that one write may fill: each costs memory, and at least one file.
const PARTITIONS_MAX: usize = 100_000;

/// When a row group is large enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowGroupLimits {
    pub rows: usize,
    /// Memory of its rows before they are encoded.
    pub bytes: usize,
}

/// Rows of one partition that are encoded together.
#[derive(Default)]
pub(super) struct RowGroup {
    pub slices: Vec<Slice>,
    pub rows: usize,
}

/// A row group and the number of its partition.
pub(super) struct Job {
    pub partition: usize,
    pub group: RowGroup,
}

pub(super) struct Shelf {
    limits: RowGroupLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    numbers: HashMap<Box<[u8]>, usize>,
    partitions: Vec<Waiting>,
}

struct Waiting {
    values: Arc<[ScalarValue]>,
    group: RowGroup,
    bytes: usize,
}

impl RowGroup {
    pub(super) fn bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.charge.bytes()).sum()
    }

    /// Takes the charges of all slices together, leaving the slices uncharged.
    pub(super) fn take_charge(&mut self) -> Option<Charge> {
        let charges = self.slices.iter_mut().map(|slice| slice.charge.split(usize::MAX));
        charges.reduce(|mut all, charge| {
            all.merge(charge);
            all
        })
    }
}

impl Shelf {
    pub(super) fn new(limits: RowGroupLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Numbers a partition: the same number for the same `key`, whichever stream asks.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] for one partition more than [`PARTITIONS_MAX`].
    pub(super) fn register(&self, key: &[u8], values: Vec<ScalarValue>) -> Result<usize> {
        let mut state = self.state();
        if let Some(number) = state.numbers.get(key) {
            return Ok(*number);
        }
        let number = state.partitions.len();
        if number == PARTITIONS_MAX {
            return Err(Error::LimitExceeded(format!(
                "the rows fall into more than {PARTITIONS_MAX} partitions"
            )));
        }
        state.numbers.insert(key.into(), number);
        state.partitions.push(Waiting { values: values.into(), group: RowGroup::default(), bytes: 0 });
        Ok(number)
    }

    /// Returns the values of the partition that was registered as `number`.
    pub(super) fn values(&self, number: usize) -> Arc<[ScalarValue]> {
        Arc::clone(&self.state().partitions[number].values)
    }

    /// Adds rows, and returns the partition's rows once they are enough for a row group.
    pub(super) fn add(&self, partition: usize, slice: Slice) -> Option<Job> {
        let mut state = self.state();
        let waiting = &mut state.partitions[partition];
        waiting.bytes += slice.charge.bytes();
        waiting.group.rows += slice.rows;
        waiting.group.slices.push(slice);
        let full = waiting.group.rows >= self.limits.rows || waiting.bytes >= self.limits.bytes;
        full.then(|| waiting.take(partition))
    }

    /// Takes the rows of the partition that holds most memory, if any holds some.
    pub(super) fn take_largest(&self) -> Option<Job> {
        let mut state = self.state();
        let waiting = state.partitions.iter_mut().enumerate().filter(|(_, waiting)| waiting.bytes > 0);
        waiting.max_by_key(|(_, waiting)| waiting.bytes).map(|(partition, waiting)| waiting.take(partition))
    }

    /// Takes all rows that still wait, largest first, so that parallel workers end together.
    pub(super) fn drain(&self) -> Vec<Job> {
        let mut state = self.state();
        let waiting = state.partitions.iter_mut().enumerate().filter(|(_, waiting)| waiting.group.rows > 0);
        let mut jobs: Vec<Job> = waiting.map(|(partition, waiting)| waiting.take(partition)).collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.group.bytes()));
        jobs
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self, partition: usize) -> Job {
        self.bytes = 0;
        Job { partition, group: std::mem::take(&mut self.group) }
    }
}
