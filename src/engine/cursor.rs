//! Cursors: a query whose rows are taken as a client asks for them.
//!
//! A [`Cursor`] holds its query's stream and how far it has come. Rows that it has passed are let go, so
//! that its memory stays flat; with SCROLL they are kept in a [`store`], as are all that are left of a
//! cursor WITH HOLD when its transaction commits. Which statements may make and use one is decided in
//! the session.

mod store;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::disk_manager::DiskManager;
use datafusion::sql::sqlparser::ast;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use self::store::RowStore;
use super::execute::{RowStream, Rows};
use crate::error::{Error, Result};
use crate::runtime::queries::Cancel;

/// How long a FETCH waits for another of the same session that was given up half way.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// So many rows are more than any query has.
pub const ALL: i64 = i64::MAX;

/// `DECLARE name CURSOR FOR query`.
#[derive(Debug, Clone)]
pub struct Declare {
    pub name: String,
    pub query: Box<ast::Query>,
    pub binary: bool,
    pub scroll: bool,
    pub hold: bool,
}

/// `FETCH` or `MOVE`.
#[derive(Debug, Clone)]
pub struct Fetch {
    pub cursor: String,
    pub movement: Movement,
    /// Whether the rows are only counted.
    pub moves: bool,
}

/// Where a cursor goes, and so which rows it gives. Below zero is backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// So many rows, or [`ALL`].
    Forward(i64),
    /// To the row of this number, counted from 1, or from the end.
    Absolute(i64),
    /// To the row so many further on.
    Relative(i64),
}

/// An open cursor.
#[derive(Debug)]
pub struct Cursor {
    /// Its place in the order in which the session's cursors were declared.
    pub number: u64,
    /// The whole DECLARE, as it was written.
    pub text: Arc<str>,
    pub schema: SchemaRef,
    pub binary: bool,
    pub scroll: bool,
    pub hold: bool,
    /// Whether it has outlived the transaction that declared it.
    pub kept: bool,
    pub created: SystemTime,
    reader: Arc<Mutex<Reader>>,
}

/// The rows of a cursor, and where it stands among them.
#[derive(Debug)]
struct Reader {
    source: Source,
    scroll: bool,
    store: Option<RowStore>,
    /// How many rows were let go: those before the first of the store, or of the query's next.
    let_go: u64,
    /// What is left of the last batch, where rows are let go.
    left: Option<RecordBatch>,
    /// The number of the current row; 0 before the first, and one more than there are behind the last.
    at: u64,
}

#[derive(Debug)]
enum Source {
    Waiting(Box<Rows>),
    Running(RowStream<RecordBatch>),
    Ended,
    /// Its query failed, or was given up before it ran.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heading {
    Forward,
    Backward,
}

impl Cursor {
    /// Opens a cursor before the first row of `rows`, which are not computed yet.
    pub fn open(number: u64, text: Arc<str>, declare: &Declare, rows: Rows, disk: Arc<DiskManager>) -> Self {
        let Declare { binary, scroll, hold, .. } = *declare;
        let schema = Arc::clone(&rows.schema);
        let store = scroll.then(|| RowStore::new(disk));
        let source = Source::Waiting(Box::new(rows));
        let reader = Reader { source, scroll, store, let_go: 0, left: None, at: 0 };
        let (created, reader) = (SystemTime::now(), Arc::new(Mutex::new(reader)));
        Self { number, text, schema, binary, scroll, hold, kept: false, created, reader }
    }

    /// What gives the rows of one FETCH, or counts those of one MOVE.
    pub fn fetch(&self, fetch: &Fetch) -> Taking {
        Taking { name: fetch.cursor.clone(), reader: Arc::clone(&self.reader), movement: fetch.movement }
    }

    /// Work that reads the query to its end, so that the cursor needs nothing but the spill folder.
    pub fn persist(&self, disk: Arc<DiskManager>) -> impl Future<Output = Result<()>> + Send + use<> {
        let reader = Arc::clone(&self.reader);
        async move { reader.lock().await.persist(disk).await }
    }
}

/// The rows of one FETCH, on their way.
#[derive(Debug)]
pub struct Taking {
    name: String,
    reader: Arc<Mutex<Reader>>,
    movement: Movement,
}

impl Taking {
    /// Sends what `map` makes of each batch until all rows are sent, `cancel` fires or nobody listens.
    pub(super) async fn drive<T: Send>(
        self,
        cancel: Cancel,
        mut map: impl FnMut(RecordBatch) -> Result<T>,
        sender: mpsc::Sender<Result<T>>,
    ) {
        let sent = async {
            let mut reader = self.lock().await?;
            let (heading, mut left) = reader.approach(self.movement).await?;
            while left > 0
                && let Some(batch) = reader.step(heading, left).await?
            {
                left -= batch.num_rows() as u64;
                if sender.send(map(batch).map(Ok)?).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let ended = self.unless_stopped(&cancel, sent).await;
        if let Err(error) = ended {
            // The reader may be gone; then nobody is left to tell.
            sender.send(Err(error)).await.ok();
        }
    }

    /// Moves the cursor; returns over how many rows.
    ///
    /// # Errors
    /// What goes wrong in the query, and a cursor that cannot go there.
    pub async fn count(self, cancel: Cancel) -> Result<u64> {
        let counted = async {
            let mut reader = self.lock().await?;
            if matches!(self.movement, Movement::Forward(0) | Movement::Relative(0)) {
                return Ok(u64::from(reader.is_on_row()));
            }
            let (heading, rows) = reader.approach(self.movement).await?;
            let mut left = rows;
            while left > 0
                && let Some(batch) = reader.step(heading, left).await?
            {
                left -= batch.num_rows() as u64;
            }
            Ok(rows - left)
        };
        self.unless_stopped(&cancel, counted).await
    }

    async fn lock(&self) -> Result<OwnedMutexGuard<Reader>> {
        let lock = tokio::time::timeout(BUSY_WAIT, Arc::clone(&self.reader).lock_owned()).await;
        lock.map_err(|_| Error::ObjectInUse(format!("cursor \"{}\" is being read", self.name)))
    }

    /// Runs `work`; then the query gives its place among those that run to others.
    async fn unless_stopped<T>(&self, cancel: &Cancel, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = tokio::select! {
            biased;
            () = cancel.stopped() => Err(cancel.error()),
            done = work => done,
        };
        if let Ok(mut reader) = self.reader.try_lock() {
            reader.rest();
        }
        done
    }
}

impl Reader {
    /// Goes to where the rows of a movement begin; returns which way they lie, and how many at most.
    async fn approach(&mut self, movement: Movement) -> Result<(Heading, u64)> {
        use Heading::{Backward, Forward};
        match movement {
            Movement::Forward(0) | Movement::Relative(0) => self.stay(),
            Movement::Forward(rows) if rows > 0 => Ok((Forward, rows as u64)),
            Movement::Forward(rows) => Ok((Backward, rows.unsigned_abs())),
            Movement::Relative(rows) => {
                let heading = if rows > 0 { Forward } else { Backward };
                self.skip(heading, rows.unsigned_abs() - 1).await?;
                Ok((heading, 1))
            }
            Movement::Absolute(row) if row < 0 => {
                self.skip(Forward, ALL as u64).await?;
                self.skip(Backward, row.unsigned_abs() - 1).await?;
                Ok((Backward, 1))
            }
            Movement::Absolute(row) => {
                let row = row as u64;
                if row <= self.at && self.at > 0 {
                    self.ensure_scroll()?;
                    self.at = row.saturating_sub(1);
                }
                self.skip(Forward, row.saturating_sub(1 + self.at)).await?;
                Ok((Forward, row.min(1)))
            }
        }
    }

    /// Gives the current row again, if there is one.
    fn stay(&mut self) -> Result<(Heading, u64)> {
        if !self.is_on_row() {
            return Ok((Heading::Forward, 0));
        }
        self.ensure_scroll()?;
        self.at -= 1;
        Ok((Heading::Forward, 1))
    }

    fn is_on_row(&self) -> bool {
        (1..=self.rows_known()).contains(&self.at)
    }

    /// The number of the last row that was computed.
    fn rows_known(&self) -> u64 {
        match &self.store {
            Some(store) => self.let_go + store.rows(),
            None => self.let_go,
        }
    }

    fn ensure_scroll(&self) -> Result<()> {
        match self.scroll {
            true => Ok(()),
            false => Err(Error::NotScrollable),
        }
    }

    async fn skip(&mut self, heading: Heading, mut rows: u64) -> Result<()> {
        while rows > 0
            && let Some(batch) = self.step(heading, rows).await?
        {
            rows -= batch.num_rows() as u64;
        }
        Ok(())
    }

    /// Takes the next rows of that way, at most `rows_max`; none at the end.
    async fn step(&mut self, heading: Heading, rows_max: u64) -> Result<Option<RecordBatch>> {
        let rows_max = usize::try_from(rows_max).unwrap_or(usize::MAX);
        match heading {
            Heading::Forward => self.forward(rows_max).await,
            Heading::Backward => self.backward(rows_max),
        }
    }

    async fn forward(&mut self, rows_max: usize) -> Result<Option<RecordBatch>> {
        let taken = loop {
            if let Some(store) = &mut self.store {
                if let Some(batch) = store.read(self.at - self.let_go.min(self.at), rows_max)? {
                    break Some(batch);
                }
            } else if let Some(left) = self.left.take() {
                let taken = left.slice(0, left.num_rows().min(rows_max));
                let rest = left.num_rows() - taken.num_rows();
                self.left = (rest > 0).then(|| left.slice(taken.num_rows(), rest));
                self.let_go += taken.num_rows() as u64;
                break Some(taken);
            }
            let Some(batch) = self.pull().await? else { break None };
            match &mut self.store {
                Some(store) => store.push(batch)?,
                None => self.left = Some(batch),
            }
        };
        self.at = match &taken {
            Some(batch) => self.at + batch.num_rows() as u64,
            None => self.rows_known() + 1,
        };
        Ok(taken)
    }

    /// Takes the rows before the current one, in the order in which they are met.
    fn backward(&mut self, rows_max: usize) -> Result<Option<RecordBatch>> {
        self.ensure_scroll()?;
        let Some(store) = &mut self.store else { return Err(Error::NotScrollable) };
        let before = self.at.saturating_sub(1);
        let Some(batch) = store.read_before(before, rows_max)? else {
            self.at = 0;
            return Ok(None);
        };
        self.at -= batch.num_rows() as u64;
        let reversed = UInt32Array::from_iter_values((0..batch.num_rows() as u32).rev());
        Ok(Some(take_record_batch(&batch, &reversed)?))
    }

    /// Takes the next batch of the query.
    async fn pull(&mut self) -> Result<Option<RecordBatch>> {
        if let Source::Waiting(_) = &self.source {
            let Source::Waiting(rows) = std::mem::replace(&mut self.source, Source::Failed) else {
                return Err(Error::Internal("a cursor lost its query".to_owned()));
            };
            self.source = Source::Running(rows.start_batches().await?);
        }
        let stream = match &mut self.source {
            Source::Running(stream) => stream,
            Source::Failed => return Err(Error::CursorFailed),
            Source::Waiting(_) | Source::Ended => return Ok(None),
        };
        stream.resume().await?;
        let pulled = stream.next().await;
        match &pulled {
            Ok(Some(_)) => {}
            Ok(None) => self.source = Source::Ended,
            Err(_) => self.source = Source::Failed,
        }
        pulled
    }

    /// Gives the query's place among those that run to others, until the next row is asked for.
    fn rest(&mut self) {
        if let Source::Running(stream) = &self.source {
            stream.rest();
        }
    }

    async fn persist(&mut self, disk: Arc<DiskManager>) -> Result<()> {
        // It answers with its failure, then as now.
        if let Source::Failed = self.source {
            return Ok(());
        }
        let mut store = self.store.take().unwrap_or_else(|| RowStore::new(disk));
        if let Some(left) = self.left.take() {
            store.push(left)?;
        }
        while let Some(batch) = self.pull().await? {
            store.push(batch)?;
        }
        self.store = Some(store);
        Ok(())
    }
}
