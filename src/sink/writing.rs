//! Writing: what the input streams of one write share, from the first row to the last file.
//!
//! Rows wait on the [`Shelf`]; a full row group is encoded by the stream that filled it; encoded, it
//! goes into its partition's open file, which one worker at a time writes while the others queue up
//! behind it. The stream that ends last empties the shelf and finishes the files.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::budget::{Budget, Charge};
use super::file::{Encoded, Encoder, OpenFile};
use super::rows::Slice;
use super::shelf::{Job, RowGroupLimits, Shelf};
use super::upload::{Parts, Upload, in_background};
use crate::error::{Error, Result};
use crate::format::WrittenFile;
use crate::format::partition::PartitionField;

/// Most files of one write that are open at a time; each may hold a descriptor or an upload.
const OPEN_FILES_MAX: usize = 512;
/// What Hive, and what reads its folders, calls a null in a path.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";
/// Files that are finished at a time once all rows are encoded.
const FINISHING_MAX: usize = 16;

/// Where files go and how they are written.
pub(super) struct Layout {
    pub store: Arc<dyn ObjectStore>,
    pub parts: Parts,
    pub naming: Naming,
    /// Columns of the files.
    pub schema: SchemaRef,
    pub encoder: Encoder,
    pub limits: RowGroupLimits,
    pub file_bytes_target: u64,
    pub memory_bytes: usize,
    /// Whether files become visible only when all of them are ready.
    pub all_at_once: bool,
}

/// What files are called.
pub(super) enum Naming {
    /// The one file there is.
    Single(Path),
    Generated {
        directory: Path,
        fields: Vec<PartitionField>,
        /// Whether readers take the values from the paths, as Hive does, and not from metadata.
        hive: bool,
        /// Unique to this write.
        prefix: String,
        extension: String,
    },
}

pub(super) struct Writing {
    layout: Layout,
    budget: Arc<Budget>,
    shelf: Shelf,
    slots: Mutex<BTreeMap<usize, Slot>>,
    finished: Mutex<Finished>,
    metrics: WriteMetrics,
    files_begun: AtomicUsize,
    streams_left: AtomicUsize,
    failed: AtomicBool,
}

/// A partition's open file, and what goes into it next.
#[derive(Default)]
struct Slot {
    file: Option<OpenFile>,
    /// A worker holds the file, and will write what is queued here before it puts the file back.
    taken: bool,
    queue: VecDeque<(Encoded, Charge)>,
}

#[derive(Default)]
struct Finished {
    files: Vec<WrittenFile>,
    /// Uploads that have all bytes but are not visible yet.
    sealed: Vec<Upload>,
    /// Objects that are, or may be, visible; deleted when the write fails.
    visible: Vec<Path>,
    handed_over: bool,
}

struct WriteMetrics {
    rows: Count,
    bytes: Count,
    files: Count,
    encoding: Time,
}

impl Writing {
    /// Prepares a write by `streams` input streams.
    pub(super) fn new(
        layout: Layout,
        streams: usize,
        pool: &Arc<dyn MemoryPool>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Self {
        Self {
            budget: Budget::new(pool, "write", layout.memory_bytes),
            shelf: Shelf::new(layout.limits),
            slots: Mutex::default(),
            finished: Mutex::default(),
            metrics: WriteMetrics {
                rows: MetricBuilder::new(metrics).global_counter("rows_written"),
                bytes: MetricBuilder::new(metrics).global_counter("bytes_written"),
                files: MetricBuilder::new(metrics).global_counter("files_written"),
                encoding: MetricBuilder::new(metrics).subset_time("encoding_time", 0),
            },
            files_begun: AtomicUsize::new(0),
            streams_left: AtomicUsize::new(streams),
            failed: AtomicBool::new(false),
            layout,
        }
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// See [`Shelf::register`].
    pub(super) fn register(&self, key: &[u8], values: Vec<ScalarValue>) -> Result<usize> {
        self.shelf.register(key, values)
    }

    /// Adds rows, and returns a row group if they filled one.
    pub(super) fn add(&self, partition: usize, slice: Slice) -> Option<Job> {
        self.shelf.add(partition, slice)
    }

    /// Makes all streams fail: rows of one of them are missing.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    /// # Errors
    /// [`Error::Cancelled`] when another stream of this write has ended before its last row.
    pub(super) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Encodes a row group and puts it into its file.
    pub(super) async fn run(&self, mut job: Job, parallelism: usize) -> Result<()> {
        let _work = self.budget.begin_work();
        let mut charge = job.group.take_charge().unwrap_or_else(|| self.budget.charge(0));
        let timer = self.metrics.encoding.timer();
        let encoded = self.layout.encoder.encode(job.group, parallelism).await?;
        timer.done();
        charge.resize(encoded.bytes());
        self.deliver(job.partition, encoded, charge).await
    }

    /// Does, or asks for, what frees most memory.
    ///
    /// Small parts that cannot be sent yet pile up in open files; once they hold half of the budget,
    /// finishing a file is what helps.
    pub(super) async fn relieve(&self) -> Result<Relief> {
        let pending: usize =
            self.slots().values().filter_map(|slot| Some(slot.file.as_ref()?.pending_bytes())).sum();
        if pending > self.budget.limit_bytes() / 2 && self.finish_largest().await? {
            return Ok(Relief::Given);
        }
        if let Some(job) = self.shelf.take_largest() {
            return Ok(Relief::Encode(job));
        }
        if pending > 0 && self.finish_largest().await? {
            return Ok(Relief::Given);
        }
        Ok(Relief::None)
    }

    /// Ends one input stream; the last one finishes the write and gets its files.
    pub(super) async fn end_stream(self: &Arc<Self>, parallelism: usize) -> Result<Option<Vec<WrittenFile>>> {
        if self.streams_left.fetch_sub(1, Ordering::SeqCst) > 1 {
            return Ok(None);
        }
        self.check()?;
        self.encode_rest(parallelism).await?;
        self.finish_rest().await?;
        self.complete_sealed().await?;
        let mut finished = self.finished();
        finished.handed_over = true;
        Ok(Some(std::mem::take(&mut finished.files)))
    }

    async fn encode_rest(self: &Arc<Self>, parallelism: usize) -> Result<()> {
        let jobs = self.shelf.drain();
        let each = (parallelism / jobs.len().max(1)).max(1);
        stream::iter(jobs)
            .map(|job| {
                let writing = Arc::clone(self);
                let task = SpawnedTask::spawn(async move {
                    let partition = job.partition;
                    writing.run(job, each).await?;
                    writing.finish(partition).await
                });
                async { task.join_unwind().await.map_err(|_| Error::Cancelled)? }
            })
            .buffer_unordered(parallelism.max(1))
            .try_collect::<()>()
            .await
    }

    async fn finish_rest(&self) -> Result<()> {
        if matches!(self.layout.naming, Naming::Single(_)) && self.files_begun.load(Ordering::SeqCst) == 0 {
            let file = self.begin_file(0).await?;
            self.slots().entry(0).or_default().file = Some(file);
        }
        let open: Vec<usize> = self.slots().keys().copied().collect();
        stream::iter(open)
            .map(|partition| self.finish(partition))
            .buffer_unordered(FINISHING_MAX)
            .try_collect()
            .await
    }

    async fn complete_sealed(&self) -> Result<()> {
        let sealed = std::mem::take(&mut self.finished().sealed);
        stream::iter(sealed)
            .map(|upload| self.complete(upload))
            .buffer_unordered(FINISHING_MAX)
            .try_collect()
            .await
    }

    /// Puts what is encoded into its partition's file, or leaves it to the worker that has the file.
    async fn deliver(&self, partition: usize, encoded: Encoded, charge: Charge) -> Result<()> {
        let file = {
            let mut slots = self.slots();
            let slot = slots.entry(partition).or_default();
            slot.queue.push_back((encoded, charge));
            if slot.taken {
                return Ok(());
            }
            slot.taken = true;
            slot.file.take()
        };
        self.write_queue(partition, file).await
    }

    /// Writes what is queued until the queue is empty, then puts the file back.
    async fn write_queue(&self, partition: usize, mut file: Option<OpenFile>) -> Result<()> {
        loop {
            let next = {
                let mut slots = self.slots();
                let slot = slots.entry(partition).or_default();
                let next = slot.queue.pop_front();
                if next.is_none() {
                    slot.taken = false;
                    slot.file = file.take();
                }
                next
            };
            let Some((encoded, charge)) = next else { return Ok(()) };
            let mut open = match file.take() {
                Some(open) => open,
                None => self.begin_file(partition).await?,
            };
            open.append(encoded, charge).await?;
            if open.written_bytes() < self.layout.file_bytes_target {
                file = Some(open);
            } else {
                self.finish_file(open).await?;
            }
        }
    }

    async fn begin_file(&self, partition: usize) -> Result<OpenFile> {
        let open = self.slots().values().filter(|slot| slot.file.is_some()).count();
        if open >= OPEN_FILES_MAX {
            self.finish_largest().await?;
        }
        let number = self.files_begun.fetch_add(1, Ordering::SeqCst);
        let values = match &self.layout.naming {
            Naming::Single(_) => Arc::from([]),
            Naming::Generated { .. } => self.shelf.values(partition),
        };
        let path = self.layout.naming.path(&values, number)?;
        let upload = Upload::new(Arc::clone(&self.layout.store), path, self.layout.parts);
        OpenFile::begin(&self.layout.encoder, upload, values, &self.budget).await
    }

    /// Finishes the open file that holds most; says whether there was one that could be finished.
    ///
    /// Boxed, because finishing a file may begin another, and that may finish one.
    fn finish_largest(&self) -> BoxFuture<'_, Result<bool>> {
        let largest = {
            let slots = self.slots();
            let open = slots.iter().filter_map(|(partition, slot)| Some((*partition, slot.file.as_ref()?)));
            open.max_by_key(|(_, file)| (file.pending_bytes(), file.written_bytes()))
                .map(|(partition, _)| partition)
        };
        let single = matches!(self.layout.naming, Naming::Single(_));
        Box::pin(async move {
            match largest {
                Some(partition) if !single => self.finish(partition).await.map(|()| true),
                _ => Ok(false),
            }
        })
    }

    /// Finishes a partition's file if it is there, and writes what was queued meanwhile into a new one.
    async fn finish(&self, partition: usize) -> Result<()> {
        let file = {
            let mut slots = self.slots();
            let slot = slots.entry(partition).or_default();
            if slot.taken || slot.file.is_none() {
                return Ok(());
            }
            slot.taken = true;
            slot.file.take()
        };
        if let Some(file) = file {
            self.finish_file(file).await?;
        }
        self.write_queue(partition, None).await
    }

    async fn finish_file(&self, file: OpenFile) -> Result<()> {
        let (written, mut upload) =
            file.finish(&self.layout.encoder, &self.layout.schema, &self.budget).await?;
        self.metrics.rows.add(written.row_count as usize);
        self.metrics.bytes.add(written.size_bytes as usize);
        self.metrics.files.add(1);
        if self.layout.all_at_once {
            upload.seal().await?;
            let mut finished = self.finished();
            finished.files.push(written);
            finished.sealed.push(upload);
            return Ok(());
        }
        self.complete(upload).await?;
        self.finished().files.push(written);
        Ok(())
    }

    async fn complete(&self, upload: Upload) -> Result<()> {
        // A single file may replace an older one, which a failure must not delete.
        if matches!(self.layout.naming, Naming::Generated { .. }) {
            self.finished().visible.push(upload.path().clone());
        }
        upload.complete().await
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<usize, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self) -> MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What can be done about a budget that is used up.
pub(super) enum Relief {
    /// These rows should be encoded.
    Encode(Job),
    /// A file was finished.
    Given,
    /// Nothing that this write could still give up.
    None,
}

impl Drop for Writing {
    /// Deletes the files of a write that did not end well. Uploads under way abort themselves.
    fn drop(&mut self) {
        let finished = self.finished.get_mut().unwrap_or_else(PoisonError::into_inner);
        let visible = std::mem::take(&mut finished.visible);
        if finished.handed_over || visible.is_empty() {
            return;
        }
        let store = Arc::clone(&self.layout.store);
        in_background(async move {
            for path in visible {
                match store.delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => {
                        tracing::warn!(%path, %error, "a file of a failed write could not be deleted")
                    }
                }
            }
        });
    }
}

impl Naming {
    /// Returns the path of the file `number` in the partition that `values` are of.
    fn path(&self, values: &[ScalarValue], number: usize) -> Result<Path> {
        let (directory, fields, hive, prefix, extension) = match self {
            Self::Single(path) => return Ok(path.clone()),
            Self::Generated { directory, fields, hive, prefix, extension } => {
                (directory, fields, *hive, prefix, extension)
            }
        };
        let mut path = directory.as_ref().to_owned();
        for (field, value) in fields.iter().zip(values) {
            let segment = match hive {
                true if value.is_null() => field.segment_of(HIVE_NULL),
                true => field.segment_of(&field.transform.display(value)?),
                false => field.path_segment(value)?,
            };
            path = format!("{path}/{segment}");
        }
        let path = format!("{path}/{prefix}-{number:05}.{extension}");
        // Parsed and not converted: the segments are encoded already.
        Path::parse(&path).map_err(|error| Error::Internal(format!("\"{path}\" is no path: {error}")))
    }
}
