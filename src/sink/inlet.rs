//! Inlet: one input stream of a write.
//!
//! Takes the stream's batches, waits until the budget has room for them, and encodes the row groups
//! that they fill. With cores to spare, a row group is encoded beside the stream, several columns at
//! a time; otherwise the stream itself does it, and reads on afterwards.

use std::pin::pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use super::budget::{Charge, Refusal};
use super::rows::{Conform, Keys, Slice, Stage, size_bytes};
use super::shelf::Job;
use super::writing::{Relief, Writing};
use crate::error::{Error, Result};
use crate::format::WrittenFile;

/// Share of a write's budget that its streams stage before they sort rows out by partition.
const STAGE_SHARE: usize = 16;
const STAGE_BYTES_MAX: usize = 16 << 20;

pub(super) struct Inlet {
    writing: Arc<Writing>,
    conform: Conform,
    /// Absent when there is one partition only.
    keys: Option<Keys>,
    /// Columns that go into the files, when not all do.
    kept: Option<Vec<usize>>,
    parallelism: usize,
    stage: Stage,
    beside: Option<SpawnedTask<Result<()>>>,
}

/// Makes the other streams fail when this one ends before its last row is on the shelf.
struct FailUnlessEnded {
    writing: Arc<Writing>,
    ended: bool,
}

impl Inlet {
    pub(super) fn new(
        writing: Arc<Writing>,
        conform: Conform,
        keys: Option<Keys>,
        kept: Option<Vec<usize>>,
        parallelism: usize,
    ) -> Self {
        Self { writing, conform, keys, kept, parallelism, stage: Stage::default(), beside: None }
    }

    /// Writes all of `input`. The stream that ends last returns the files of the whole write.
    pub(super) async fn write(
        mut self,
        mut input: SendableRecordBatchStream,
    ) -> Result<Option<Vec<WrittenFile>>> {
        let mut guard = FailUnlessEnded { writing: Arc::clone(&self.writing), ended: false };
        while let Some(batch) = input.try_next().await? {
            self.writing.check()?;
            if batch.num_rows() > 0 {
                self.push(&batch).await?;
            }
        }
        // What feeds this stream is done, and may hold memory that the others can use.
        drop(input);
        self.empty_stage().await?;
        self.settle().await?;
        let files = self.writing.end_stream(self.parallelism).await?;
        guard.ended = true;
        Ok(files)
    }

    async fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = self.conform.apply(batch)?;
        let charge = self.room_for(size_bytes(&columns)).await?;
        let Some(keys) = &mut self.keys else {
            return self.add(0, Slice::new(columns, batch.num_rows(), charge)?).await;
        };
        let partitions = keys.locate(&columns, |key, values| self.writing.register(key, values))?;
        self.stage.push(self.kept(columns), partitions, charge);
        let limit = (self.writing.budget().limit_bytes() / STAGE_SHARE).min(STAGE_BYTES_MAX);
        if self.stage.bytes() >= limit { self.empty_stage().await } else { Ok(()) }
    }

    fn kept(&self, columns: Vec<ArrayRef>) -> Vec<ArrayRef> {
        match &self.kept {
            Some(kept) => kept.iter().map(|column| Arc::clone(&columns[*column])).collect(),
            None => columns,
        }
    }

    async fn empty_stage(&mut self) -> Result<()> {
        for (partition, slice) in self.stage.split()? {
            self.add(partition, slice).await?;
        }
        Ok(())
    }

    async fn add(&mut self, partition: usize, slice: Slice) -> Result<()> {
        match self.writing.add(partition, slice) {
            Some(job) => self.encode(job).await,
            None => Ok(()),
        }
    }

    /// Encodes a row group. One at a time, so that rows keep the order of the stream.
    async fn encode(&mut self, job: Job) -> Result<()> {
        if self.parallelism <= 1 {
            return self.writing.run(job, 1).await;
        }
        self.settle().await?;
        let (writing, parallelism) = (Arc::clone(&self.writing), self.parallelism);
        self.beside = Some(SpawnedTask::spawn(async move { writing.run(job, parallelism).await }));
        Ok(())
    }

    /// Waits for the row group that is encoded beside the stream.
    async fn settle(&mut self) -> Result<()> {
        match self.beside.take() {
            Some(task) => task.join_unwind().await.map_err(|_| Error::Cancelled)?,
            None => Ok(()),
        }
    }

    /// Charges `bytes`, encoding and uploading what must make room for them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the pool refuses although this write holds nothing else.
    async fn room_for(&mut self, bytes: usize) -> Result<Charge> {
        let budget = Arc::clone(self.writing.budget());
        loop {
            let mut freed = pin!(budget.freed());
            freed.as_mut().enable();
            let refusal = match budget.try_charge(bytes) {
                Ok(charge) => return Ok(charge),
                Err(refusal) => refusal,
            };
            match self.writing.relieve().await? {
                Relief::Encode(job) => self.encode(job).await?,
                Relief::Given => {}
                Relief::None if self.beside.is_some() => self.settle().await?,
                Relief::None if budget.is_working() => freed.await,
                Relief::None if !self.stage.is_empty() => self.empty_stage().await?,
                Relief::None => {
                    return match refusal {
                        Refusal::Own => Ok(budget.charge_within_pool(bytes)?),
                        Refusal::Pool(error) => Err(error.into()),
                    };
                }
            }
        }
    }
}

impl Drop for FailUnlessEnded {
    fn drop(&mut self) {
        if !self.ended {
            self.writing.fail();
        }
    }
}
