//! The extended protocol: Parse, Bind, Describe, Execute, Close.

use std::sync::Arc;

use arrow::datatypes::DataType;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
};
use pgwire::messages::response::EmptyQueryResponse;

use super::cancel::CancelKey;
use super::connection::{Connection, watched};
use super::encode::row_description;
use super::portal::{Cursor, Portal, Progress, same_formats, text_formats};
use crate::engine::cursor::Movement;
use crate::engine::execute::Outcome;
use crate::engine::parse;
use crate::engine::session::Prepared;
use crate::engine::statement::{Parsed, Statement};
use crate::error::{Error, Result};
use crate::value::input::decode_parameter;
use crate::value::output::TimeZone;
use crate::value::types::{Format, arrow_type, oid, pg_type_of};

/// What Describe and Close name: a prepared statement.
const STATEMENT: u8 = b'S';
/// The type byte of Sync.
const SYNC: u8 = b'S';

impl Connection {
    pub(super) async fn parse(&mut self, message: Parse) -> Result<()> {
        let limit = self.engine.config.statement_limit_bytes;
        if message.query.len() > limit {
            return Err(Error::LimitExceeded(format!("a statement can have {limit} bytes")));
        }
        let mut statements = parse::parse(&message.query)?;
        if statements.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement".to_owned();
            return Err(Error::Syntax { message, position: None });
        }
        let parsed = statements.pop().unwrap_or_else(nothing);
        let declared = message.type_oids.iter().map(|oid| declared_type(*oid)).collect::<Result<Vec<_>>>()?;
        let cancel = self.session.cancel().clone();
        let preparing = self.session.prepare(parsed, &declared);
        let mut prepared = watched(&self.stream, &cancel, preparing).await?;
        for (index, oid) in message.type_oids.into_iter().enumerate().filter(|(_, oid)| *oid != 0) {
            prepared.declared_oids.resize(prepared.declared_oids.len().max(index + 1), 0);
            prepared.declared_oids[index] = oid;
        }
        self.session.store(message.name.unwrap_or_default(), prepared, None)?;
        self.stream.send(Backend::ParseComplete(ParseComplete::new()))
    }

    pub(super) fn bind(&mut self, message: Bind) -> Result<()> {
        let prepared = self.session.statement(message.statement_name.as_deref().unwrap_or_default())?;
        let name = message.portal_name.unwrap_or_default();
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(Error::DuplicatePortal(name));
        }
        let limit = self.engine.config.statements_max;
        if self.portals.len() >= limit && !self.portals.contains_key(&name) {
            return Err(Error::LimitExceeded(format!("a session can hold {limit} portals")));
        }
        let zone = self.session.settings.text("TimeZone").parse()?;
        let values = values(&prepared, &message.parameter_format_codes, &message.parameters, &zone)?;
        let columns = prepared.schema.as_ref().map_or(0, |schema| schema.fields().len());
        let formats = Format::spread(&message.result_column_format_codes, columns)?;
        let portal = Portal { prepared, values, formats, progress: Progress::Ready };
        self.portals.insert(name, portal);
        self.stream.send(Backend::BindComplete(BindComplete::new()))
    }

    pub(super) fn describe(&mut self, message: &Describe) -> Result<()> {
        let name = message.name.as_deref().unwrap_or_default();
        if message.target_type == STATEMENT {
            let prepared = self.session.statement(name)?;
            let types = parameter_oids(&prepared);
            self.stream.send(Backend::ParameterDescription(ParameterDescription::new(types)))?;
            return match &prepared.schema {
                Some(schema) => self.columns(&row_description(schema, &text_formats(schema))?),
                None => self.stream.send(Backend::NoData(NoData::new())),
            };
        }
        let Some(portal) = self.portals.get(name) else {
            // To a client, a cursor is a portal that SQL has made.
            let missing = || Error::PortalNotFound(name.to_owned());
            let cursor = self.session.cursor(name).ok_or_else(missing)?;
            let description = row_description(&cursor.schema, &same_formats(&cursor.schema, cursor.binary))?;
            return self.columns(&description);
        };
        match &portal.prepared.schema {
            Some(schema) => {
                let description = row_description(schema, &portal.formats)?;
                self.columns(&description)
            }
            None => self.stream.send(Backend::NoData(NoData::new())),
        }
    }

    fn columns(&mut self, description: &[u8]) -> Result<()> {
        self.stream.write_raw(description);
        Ok(())
    }

    pub(super) async fn execute(&mut self, message: Execute, key: &CancelKey) -> Result<()> {
        let name = message.name.unwrap_or_default();
        // The portal goes back when it is not used up, and is gone after an error.
        let mut portal = self.portals.remove(&name).ok_or_else(|| Error::PortalNotFound(name.clone()))?;
        if is_nothing(&portal.prepared.parsed) {
            self.portals.insert(name, portal);
            return self.stream.send(Backend::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        let rows_max = usize::try_from(message.max_rows).ok().filter(|rows| *rows > 0).unwrap_or(usize::MAX);
        let progress = std::mem::replace(&mut portal.progress, Progress::Ready);
        portal.progress = match progress {
            Progress::Finished(tag) => {
                self.complete(tag.clone())?;
                Progress::Finished(tag)
            }
            Progress::Running(_) if self.session.status() == b'E' => return Err(Error::TransactionAborted),
            Progress::Running(cursor) => {
                let token = cursor.stream.cancel().token();
                let running = key.query(token);
                let progress = self.fetch(*cursor, rows_max).await;
                drop(running);
                progress?
            }
            Progress::Ready => self.begin(&portal, rows_max).await?,
        };
        self.portals.insert(name, portal);
        Ok(())
    }

    /// `MOVE n name` over a portal that the client has bound, as asyncpg skips rows; returns the tag, or
    /// none where the statement is another.
    pub(super) async fn move_portal(&mut self, statement: &Statement) -> Result<Option<String>> {
        let Statement::Fetch(fetch) = statement else { return Ok(None) };
        let name = fetch.cursor.as_str();
        if !fetch.moves || self.session.cursor(name).is_some() || self.session.status() == b'E' {
            return Ok(None);
        }
        let Some(mut portal) = self.portals.remove(name) else { return Ok(None) };
        let Movement::Forward(rows @ 0..) = fetch.movement else { return Err(Error::NotScrollable) };
        let rows_max = usize::try_from(rows).unwrap_or(usize::MAX);
        let cancel = self.session.cancel().clone();
        let mut cursor = match std::mem::replace(&mut portal.progress, Progress::Ready) {
            Progress::Running(cursor) => *cursor,
            Progress::Ready => self.started(&portal).await?,
            Progress::Finished(tag) => {
                portal.progress = Progress::Finished(tag);
                self.portals.insert(name.to_owned(), portal);
                return Ok(Some("MOVE 0".to_owned()));
            }
        };
        let mut moved = 0;
        while moved < rows_max
            && let Some((_, rows)) = watched(&self.stream, &cancel, cursor.take(rows_max - moved)).await?
        {
            moved += rows;
        }
        portal.progress = match moved < rows_max {
            true => Progress::Finished(cursor.tag(0)),
            false => Progress::Running(Box::new(cursor)),
        };
        self.portals.insert(name.to_owned(), portal);
        Ok(Some(format!("MOVE {moved}")))
    }

    /// Starts a portal's query without sending anything of it.
    async fn started(&mut self, portal: &Portal) -> Result<Cursor> {
        let cancel = self.session.cancel().clone();
        let running = self.session.run(&portal.prepared, &portal.values);
        match watched(&self.stream, &cancel, running).await? {
            Outcome::Rows(rows) => {
                let options = self.encode_options()?;
                let started = Cursor::start(rows, &portal.formats, &options);
                watched(&self.stream, &cancel, started).await
            }
            Outcome::Done(_) | Outcome::CopyIn(_) | Outcome::CopyOut(..) => {
                Err(Error::Unsupported("MOVE over a command is not supported".to_owned()))
            }
        }
    }

    async fn begin(&mut self, portal: &Portal, rows_max: usize) -> Result<Progress> {
        // What runs up to Sync is one transaction; one that stands alone before it needs no block.
        if self.stream.next_kind() != Some(SYNC) {
            self.session.begin_implicit();
        }
        let cancel = self.session.cancel().clone();
        let running = self.session.run(&portal.prepared, &portal.values);
        match watched(&self.stream, &cancel, running).await? {
            Outcome::Done(tag) => {
                self.complete(tag.clone())?;
                Ok(Progress::Finished(tag))
            }
            Outcome::CopyIn(intake) => {
                let tag = self.copy_in(*intake).await?;
                self.complete(tag.clone())?;
                Ok(Progress::Finished(tag))
            }
            Outcome::CopyOut(rows, options) => {
                let tag = self.copy_out(rows, &options).await?;
                self.complete(tag.clone())?;
                Ok(Progress::Finished(tag))
            }
            Outcome::Rows(rows) => {
                let columns = rows.schema.fields().len();
                if portal.formats.len() != columns {
                    return Err(Error::Unsupported("cached plan must not change result type".to_owned()));
                }
                let options = self.encode_options()?;
                let started = Cursor::start(rows, &portal.formats, &options);
                let cursor = watched(&self.stream, &cancel, started).await?;
                self.fetch(cursor, rows_max).await
            }
        }
    }

    /// Sends the next rows of a portal; it is suspended when there may be more.
    async fn fetch(&mut self, mut cursor: Cursor, rows_max: usize) -> Result<Progress> {
        let sent = self.send_rows(&mut cursor, rows_max).await?;
        if sent == rows_max {
            self.stream.send(Backend::PortalSuspended(PortalSuspended::new()))?;
            return Ok(Progress::Running(Box::new(cursor)));
        }
        self.complete(cursor.tag(sent))?;
        Ok(Progress::Finished(cursor.tag(0)))
    }

    pub(super) fn close(&mut self, message: &Close) -> Result<()> {
        let name = message.name.as_deref().unwrap_or_default();
        if message.target_type == STATEMENT {
            self.session.close_statement(name);
        } else {
            self.portals.remove(name);
            self.session.close_portal(name);
        }
        self.stream.send(Backend::CloseComplete(CloseComplete::new()))
    }
}

/// The statement of an empty text.
fn nothing() -> Parsed {
    Parsed { text: "".into(), statement: Statement::Deallocate(Some(String::new())) }
}

fn is_nothing(parsed: &Parsed) -> bool {
    parsed.text.is_empty()
}

fn declared_type(declared: u32) -> Result<Option<DataType>> {
    if matches!(declared, 0 | oid::UNKNOWN) {
        return Ok(None);
    }
    let unsupported = || Error::Unsupported(format!("parameters of type {declared} are not supported"));
    arrow_type(declared, -1).map(Some).ok_or_else(unsupported)
}

/// The types that ParameterDescription shows: the client's own choice, or ours.
fn parameter_oids(prepared: &Prepared) -> Vec<u32> {
    let oid = |(index, ty): (usize, &DataType)| match (prepared.declared_oids.get(index), ty) {
        (Some(oid), _) if !matches!(*oid, 0 | oid::UNKNOWN) => *oid,
        // The type alone does not tell uuids from bytes of that length, which are no column's type.
        (_, DataType::FixedSizeBinary(16)) => oid::UUID,
        _ => pg_type_of(ty).oid,
    };
    prepared.parameters.iter().enumerate().map(oid).collect()
}

fn values(
    prepared: &Arc<Prepared>,
    codes: &[i16],
    given: &[Option<Bytes>],
    zone: &TimeZone,
) -> Result<Vec<ScalarValue>> {
    let wanted = &prepared.parameters;
    if given.len() != wanted.len() {
        return Err(Error::Protocol(format!(
            "bind message supplies {} parameters, but the prepared statement requires {}",
            given.len(),
            wanted.len()
        )));
    }
    let formats = Format::spread(codes, wanted.len())?;
    let oids = parameter_oids(prepared);
    let mut values = Vec::with_capacity(wanted.len());
    for (index, bytes) in given.iter().enumerate() {
        values.push(decode_parameter(&wanted[index], oids[index], formats[index], bytes.as_deref(), zone)?);
    }
    Ok(values)
}
