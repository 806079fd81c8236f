//! COPY's messages: rows as CopyData, in both directions.

use bytes::{Bytes, BytesMut};
use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::{PgWireBackendMessage as Backend, PgWireFrontendMessage as Frontend};

use super::connection::{Connection, watched};
use super::encode::copy::CopyEncoder;
use super::portal::Cursor;
use crate::engine::copy::options::CopyOptions;
use crate::engine::copy::{Intake, PIECE_BYTES};
use crate::engine::execute::Rows;
use crate::error::{Error, Result};

impl Connection {
    /// Takes rows from the client until it is done; returns the command tag.
    ///
    /// # Errors
    /// What is wrong with a row, and that the client gave up or is gone. Nothing of it stays then.
    pub(super) async fn copy_in(&mut self, mut intake: Intake) -> Result<String> {
        let (format, formats) = formats(&intake.options, intake.width)?;
        let response = CopyInResponse::new(format, formats.len() as i16, formats);
        self.stream.send(Backend::CopyInResponse(response))?;
        self.stream.flush().await?;
        let mut gathered = BytesMut::new();
        loop {
            let message = tokio::select! {
                biased;
                ended = intake.ended() => {
                    ended?;
                    continue;
                }
                message = self.stream.next() => message?,
            };
            match message {
                Some(Frontend::CopyData(data)) => self.take(&mut intake, &mut gathered, data.data).await?,
                Some(Frontend::CopyDone(_)) => break,
                Some(Frontend::CopyFail(reason)) => return Err(Error::CopyFailed(reason.message)),
                // A client may have sent these ahead; they mean nothing here.
                Some(Frontend::Flush(_) | Frontend::Sync(_)) => {}
                Some(Frontend::Terminate(_)) | None => {
                    return Err(Error::ConnectionLost(
                        "the client is gone in the middle of a COPY".to_owned(),
                    ));
                }
                Some(_) => {
                    let kind = self.stream.last_kind();
                    return Err(Error::Protocol(format!(
                        "unexpected message type 0x{kind:02X} during COPY from stdin"
                    )));
                }
            }
        }
        let cancel = intake.cancel().clone();
        let rest = gathered.freeze();
        let session = &mut self.session;
        watched(&self.stream, &cancel, async {
            if !rest.is_empty() {
                intake.feed(rest).await?;
            }
            session.finish_copy(intake).await
        })
        .await
    }

    /// Passes on what came, small messages together and long ones in pieces.
    async fn take(&self, intake: &mut Intake, gathered: &mut BytesMut, mut data: Bytes) -> Result<()> {
        let cancel = intake.cancel().clone();
        if gathered.len() + data.len() < PIECE_BYTES {
            gathered.extend_from_slice(&data);
            return Ok(());
        }
        if !gathered.is_empty() {
            let piece = gathered.split().freeze();
            watched(&self.stream, &cancel, intake.feed(piece)).await?;
        }
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE_BYTES));
            watched(&self.stream, &cancel, intake.feed(piece)).await?;
        }
        Ok(())
    }

    /// Sends the rows of a query as COPY's; returns the command tag.
    ///
    /// # Errors
    /// What goes wrong in the query, and for a value that has no such form.
    pub(super) async fn copy_out(&mut self, rows: Rows, options: &CopyOptions) -> Result<String> {
        let mut encoder = CopyEncoder::new(&rows.schema, options, &self.encode_options()?)?;
        let (format, formats) = formats(options, rows.schema.fields().len())?;
        let response = CopyOutResponse::new(format, formats.len() as i16, formats);
        self.stream.send(Backend::CopyOutResponse(response))?;
        self.stream.write_raw(&encoder.head()?);
        let end = encoder.end();
        let cancel = self.session.cancel().clone();
        let started = Cursor::start_with(rows, move |batch| encoder.encode(&batch));
        let mut cursor = watched(&self.stream, &cancel, started).await?;
        let sent = self.send_rows(&mut cursor, usize::MAX).await?;
        self.stream.write_raw(&end.after(sent));
        self.stream.send(Backend::CopyDone(CopyDone::new()))?;
        Ok(format!("COPY {sent}"))
    }
}

/// The format codes of a copy, for all of it and for each column.
fn formats(options: &CopyOptions, columns: usize) -> Result<(i8, Vec<i16>)> {
    if i16::try_from(columns).is_err() {
        return Err(Error::LimitExceeded(format!("a copy of {columns} columns has more than 32767")));
    }
    let code = i16::from(options.is_binary());
    Ok((code as i8, vec![code; columns]))
}
