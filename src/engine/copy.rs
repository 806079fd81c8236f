//! COPY between a client and the lake: rows that come from it, and rows that go to it.
//!
//! `COPY … FROM STDIN` is a write whose plan reads what the client sends; an [`Intake`] is the client's
//! end of it. The rows go to files as they come and are staged, all at once, when the last one is
//! there. How rows look is decided by [`options`] and read by a [`reader`]; messages are the server's.

mod binary;
mod fields;
mod lines;
pub mod options;
mod reader;
mod source;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::Expr;
use datafusion::sql::sqlparser::ast;
use tokio::sync::mpsc;

pub use self::binary::SIGNATURE;
use self::options::CopyOptions;
use self::reader::Layout;
use self::source::Piece;
use super::alter::parsed;
use super::execute::{Outcome, Run, stopped_or};
use super::keys::Added;
use super::plan::{FullName, Planner};
use super::rules::{checked, default_exprs, guard_of, refuse_query};
use super::session::Session;
use super::statement::{CopyFrom, CopyTo, Statement};
use super::write::{column_indices, write_options};
use crate::catalog::transaction::{TableTarget, Transaction};
use crate::error::{Error, Result};
use crate::format::WrittenFile;
use crate::format::iceberg::Change;
use crate::runtime::cpu::{AbortOnDrop, from_join};
use crate::runtime::queries::{Cancel, Weight};
use crate::sink::{Guard, guard_plan, run_write, write_plan};

/// Pieces that wait to be read, of at most [`PIECE_BYTES`] each.
const PIECES_MAX: usize = 4;
/// How much of what a client sends is passed on at once.
pub const PIECE_BYTES: usize = 256 << 10;
/// What the plan calls the rows that come, and the numbers of their lines.
const ROWS: &str = "$copied";
const LINE: &str = "$line";

/// A COPY FROM under way. Dropping it stops the write and removes its files.
#[derive(Debug)]
pub struct Intake {
    pub options: CopyOptions,
    /// How many columns a row has.
    pub width: usize,
    pieces: mpsc::Sender<Piece>,
    written: AbortOnDrop<Result<Vec<WrittenFile>>>,
    /// The files, of a write that has ended before its input.
    early: Option<Vec<WrittenFile>>,
    target: TableTarget,
    full: FullName,
    transaction: Arc<Transaction>,
    autocommit: bool,
    run: Run,
}

impl Intake {
    pub fn cancel(&self) -> &Cancel {
        self.run.cancel()
    }

    /// Passes on what the client sent, as fast as it is written.
    ///
    /// # Errors
    /// What went wrong in the write, and what stopped it.
    pub async fn feed(&mut self, bytes: Bytes) -> Result<()> {
        self.send(Piece::Bytes(bytes)).await
    }

    async fn send(&mut self, piece: Piece) -> Result<()> {
        if self.early.is_some() {
            return Ok(());
        }
        let cancel = self.run.cancel().clone();
        let sent = tokio::select! {
            biased;
            () = cancel.stopped() => return Err(cancel.error()),
            sent = self.pieces.send(piece) => sent,
        };
        match sent {
            Ok(()) => Ok(()),
            Err(_) => self.ended().await,
        }
    }

    /// Waits until the write ends by itself, or is stopped.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub async fn ended(&mut self) -> Result<()> {
        if self.early.is_some() {
            return std::future::pending().await;
        }
        let cancel = self.run.cancel().clone();
        let ended = tokio::select! {
            biased;
            () = cancel.stopped() => return Err(cancel.error()),
            ended = &mut self.written => ended,
        };
        self.early = Some(ended.map_err(from_join)?.map_err(|error| stopped_or(&cancel, error))?);
        Ok(())
    }
}

impl Session {
    /// Starts a write of the rows that the client will send.
    pub(super) async fn copy_from(&mut self, request: &CopyFrom, run: Run) -> Result<Outcome> {
        let (transaction, autocommit) = self.transaction();
        let planner = self.planner_in(Arc::clone(&transaction)).await?;
        let full = planner.find(&request.name).await?;
        let target = transaction.target(&full.catalog, &full.schema, &full.name).await?;
        let indices = column_indices(&target.columns, &request.columns)?;
        let mut guard = guard_of(&target).as_ref().clone();
        guard.line = (!guard.is_idle()).then(|| LINE.to_owned());
        let (pieces, received) = mpsc::channel(PIECES_MAX);
        let width = indices.len();
        let layout = self.layout(&request.options, &target, &indices, guard.line.is_some())?;
        let rows = source::table(layout, received)?;
        let (request_, table) = (request.clone(), target.clone());
        let numbered = guard.line.is_some();
        let (planner, plan) = run
            .plan(async move {
                let rows = LogicalPlanBuilder::scan(ROWS, provider_as_source(rows), None)?.build()?;
                let plan = completed(&planner, rows, &table, &indices, numbered).await?;
                let plan = filtered(&planner, plan, &request_).await?;
                let plan = checked(&planner, plan, &table).await?;
                Ok((planner, plan))
            })
            .await?;
        run.runtime.queries.admit(&run.guard, Weight::Heavy).await?;
        let written = self.start_write(planner, plan, &target, guard, &run);
        Ok(Outcome::CopyIn(Box::new(Intake {
            options: request.options.clone(),
            width,
            pieces,
            written,
            early: None,
            target,
            full,
            transaction,
            autocommit,
            run,
        })))
    }

    fn layout(
        &self,
        options: &CopyOptions,
        target: &TableTarget,
        indices: &[usize],
        numbered: bool,
    ) -> Result<Layout> {
        let column = |index: &usize| target.columns.field(*index).clone().with_nullable(true);
        let mut fields: Vec<Field> = indices.iter().map(column).collect();
        if numbered {
            fields.push(Field::new(LINE, DataType::Int64, false));
        }
        Ok(Layout {
            table: target.name.clone(),
            schema: Arc::new(Schema::new(fields)),
            numbered,
            options: options.clone(),
            time_zone: self.settings.text("TimeZone").parse()?,
            date_style: self.settings.text("DateStyle").parse()?,
            row_bytes_max: self.engine.config.message_limit_bytes,
        })
    }

    fn start_write(
        &self,
        planner: Planner,
        plan: LogicalPlan,
        target: &TableTarget,
        guard: Guard,
        run: &Run,
    ) -> AbortOnDrop<Result<Vec<WrittenFile>>> {
        let (context, options) = (self.task_context(), write_options(target, run));
        run.runtime.cpu.spawn(async move {
            let input = planner.physical(&plan).await?;
            // The plan holds the end of the channel: it goes when the write has ended.
            drop((planner, plan));
            let input = guard_plan(input, Arc::new(guard))?;
            run_write(write_plan(input, options)?, context).await
        })
    }

    /// Ends a COPY FROM whose rows have all come; returns its command tag.
    ///
    /// # Errors
    /// What went wrong in the write, and what keeps it from being committed.
    pub async fn finish_copy(&mut self, mut intake: Intake) -> Result<String> {
        intake.send(Piece::End).await?;
        if intake.early.is_none() {
            intake.ended().await?;
        }
        let Intake { early, target, full, transaction, autocommit, run, .. } = intake;
        let files = early.unwrap_or_default();
        let rows: u64 = files.iter().map(|file| file.row_count).sum();
        if !files.is_empty() {
            transaction.stage(target, Some(Change::Append(files.clone()))).await?;
            self.refuse_duplicate_keys(&transaction, &full, Added::Files(&files), &run).await?;
        }
        match autocommit {
            true => self.commit(&transaction, run.guard.id.clone()).await?,
            false => self.note_change(&run.guard.id),
        }
        Ok(format!("COPY {rows}"))
    }

    /// Plans a query whose rows go to the client as COPY's.
    pub(super) async fn copy_to(
        &mut self,
        statement: &Statement,
        request: &CopyTo,
        run: Run,
    ) -> Result<Outcome> {
        let query = request.query.as_ref().clone();
        match self.query(statement, query, &[], run).await? {
            Outcome::Rows(rows) => Ok(Outcome::CopyOut(rows, Box::new(request.options.clone()))),
            _ => Err(Error::Internal("a query answers rows".to_owned())),
        }
    }
}

/// Puts the columns that are copied where the table has them; the rest has its default, or is null.
async fn completed(
    planner: &Planner,
    rows: LogicalPlan,
    target: &TableTarget,
    indices: &[usize],
    numbered: bool,
) -> Result<LogicalPlan> {
    let defaults = default_exprs(planner, target).await?;
    let copied = |name: &str| Expr::Column(Column::new(Some(ROWS), name));
    let mut exprs = Vec::new();
    for (index, field) in target.columns.fields().iter().enumerate() {
        let expr = match &defaults[index] {
            _ if indices.contains(&index) => copied(field.name()),
            Some(default) => default.clone(),
            None => lit(ScalarValue::try_from(field.data_type())?),
        };
        exprs.push(expr.alias(field.name()));
    }
    if numbered {
        exprs.push(copied(LINE).alias(LINE));
    }
    Ok(LogicalPlanBuilder::from(rows).project(exprs)?.build()?)
}

/// Leaves the rows that COPY's WHERE takes.
async fn filtered(planner: &Planner, plan: LogicalPlan, request: &CopyFrom) -> Result<LogicalPlan> {
    let Some(condition) = &request.condition else { return Ok(plan) };
    refuse_query(condition, "COPY FROM WHERE condition")?;
    let name = request.name.name.as_str();
    let from = ast::Ident::with_quote('"', name);
    let query = parsed(&format!("SELECT * FROM {from} WHERE {condition}"))?;
    let rows = provider_as_source(Arc::new(ViewTable::new(plan, None)));
    planner.query_with(*query, &[], vec![(name.to_owned(), rows)]).await
}
