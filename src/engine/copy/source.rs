//! The source of a COPY's plan: a stream of the rows that a client sends, as they come.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream;
use tokio::sync::mpsc;

use super::reader::{CopyReader, Layout};
use crate::error::{Error, Result};

/// What a client sends.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    /// All has come. A channel that ends without this was abandoned.
    End,
}

/// The rows of a COPY as a table, which can be read once.
pub(super) fn table(layout: Layout, pieces: mpsc::Receiver<Piece>) -> Result<Arc<StreamingTable>> {
    let schema = Arc::clone(&layout.schema);
    let input = Input { reader: CopyReader::new(layout)?, pieces, last: false };
    let partition = Partition { schema: Arc::clone(&schema), input: Mutex::new(Some(input)) };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(partition)])?))
}

#[derive(Debug)]
struct Partition {
    schema: SchemaRef,
    input: Mutex<Option<Input>>,
}

#[derive(Debug)]
struct Input {
    reader: CopyReader,
    pieces: mpsc::Receiver<Piece>,
    last: bool,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let batches = stream::try_unfold(input, |input| async {
            let again = || Error::Internal("the rows of a COPY are read once".to_owned());
            let mut input = input.ok_or_else(again)?;
            match input.next().await? {
                Some(batch) => Ok::<_, DataFusionError>(Some((batch, Some(input)))),
                None => Ok(None),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

impl Input {
    /// The next batch; none at the end.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let batch = self.reader.read(self.last)?;
            if batch.is_some() || self.last {
                return Ok(batch);
            }
            match self.pieces.recv().await {
                Some(Piece::Bytes(bytes)) => self.reader.push(&bytes)?,
                Some(Piece::End) => self.last = true,
                None => return Err(Error::Cancelled),
            }
        }
    }
}
