//! The cursors of a session: when they come, what they give, and when they go.
//!
//! A cursor ends with the transaction that declared it, or with a rollback to a savepoint before it. One
//! WITH HOLD stays when its transaction commits, and then holds rows of its own.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;

use super::super::cursor::{Cursor, Declare, Fetch};
use super::super::execute::{Outcome, Rows, Run};
use super::super::frugal::Frugal;
use super::super::plan::{bind, parameter_types};
use super::block::Block;
use super::{Session, done};
use crate::error::{Error, Result};
use crate::function::CursorRow;
use crate::runtime::queries::Cancel;

impl Session {
    /// The open cursor of this name.
    pub fn cursor(&self, name: &str) -> Option<&Cursor> {
        self.cursors.get(name)
    }

    pub(super) async fn declare_cursor(
        &mut self,
        declare: &Declare,
        values: &[ScalarValue],
        text: Arc<str>,
        run: Run,
    ) -> Result<Outcome> {
        let outside = matches!(self.block, Block::None);
        if outside && !declare.hold {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(Error::NoActiveTransaction(message.to_owned()));
        }
        if self.cursors.contains_key(&declare.name) {
            return Err(Error::DuplicateCursor(declare.name.clone()));
        }
        let limit = self.engine.config.statements_max;
        if self.cursors.len() >= limit {
            return Err(Error::LimitExceeded(format!("a session can hold {limit} cursors")));
        }
        let rows = self.rows_of(declare, values, &run).await?;
        let disk = Arc::clone(&self.engine.runtime.env.disk_manager);
        let mut cursor = Cursor::open(self.cursors_declared, text, declare, rows, Arc::clone(&disk));
        self.cursors_declared += 1;
        if outside {
            run.on_cpu(cursor.persist(disk)).await?;
            cursor.kept = true;
        }
        self.cursors.insert(declare.name.clone(), cursor);
        self.list_cursors();
        Ok(done("DECLARE CURSOR"))
    }

    /// The rows of a cursor's query, not yet computed: a run of its own, which no timeout of the statement
    /// that declares it ends.
    async fn rows_of(&mut self, declare: &Declare, values: &[ScalarValue], run: &Run) -> Result<Rows> {
        let (planner, context) = (self.planner().await?, self.task_context());
        let (query, values) = (declare.query.as_ref().clone(), values.to_vec());
        let planned = run.plan(async move {
            let types: Vec<_> = values.iter().map(|value| Some(value.data_type())).collect();
            let query = bind(planner.query(query, &types).await?, &values)?;
            Ok((planner.physical(&query).await?, Frugal::new(planner, query)))
        });
        let (plan, frugal) = planned.await?;
        let runtime = &self.engine.runtime;
        let text = declare.query.to_string().into();
        let guard = runtime.queries.begin(&self.user, &self.database, text, Cancel::default())?;
        let own = Run::begin(runtime, guard, None);
        Ok(Rows::of_plan("SELECT", plan, context, own).or_frugally(frugal))
    }

    /// The types of a query's parameters.
    pub(super) async fn query_parameters(
        &mut self,
        query: &ast::Query,
        declared: &[Option<DataType>],
        run: &Run,
    ) -> Result<Vec<DataType>> {
        let planner = self.planner().await?;
        let (query, declared) = (query.clone(), declared.to_vec());
        run.plan(async move { parameter_types(&planner.query(query, &declared).await?, &declared) }).await
    }

    pub(super) async fn fetch(&mut self, fetch: &Fetch, run: Run) -> Result<Outcome> {
        let missing = || Error::CursorNotFound(fetch.cursor.clone());
        let cursor = self.cursors.get(&fetch.cursor).ok_or_else(missing)?;
        let taking = cursor.fetch(fetch);
        if fetch.moves {
            let moved = run.runtime.cpu.run(taking.count(run.cancel().clone())).await?;
            return Ok(Outcome::Done(format!("MOVE {moved}")));
        }
        Ok(Outcome::Rows(Rows::of_cursor(Arc::clone(&cursor.schema), cursor.binary, taking, run)))
    }

    /// Closes a cursor, or all of them without a name.
    pub(super) fn close_cursors(&mut self, name: Option<&str>) -> Result<Outcome> {
        let tag = match name {
            None => {
                self.cursors.clear();
                "CLOSE CURSOR ALL"
            }
            Some(name) => {
                let closed = self.cursors.remove(name);
                closed.ok_or_else(|| Error::CursorNotFound(name.to_owned()))?;
                "CLOSE CURSOR"
            }
        };
        self.list_cursors();
        Ok(done(tag))
    }

    /// Closes the cursor that a client means by the portal of this name, if there is one.
    pub fn close_portal(&mut self, name: &str) {
        if self.cursors.remove(name).is_some() {
            self.list_cursors();
        }
    }

    /// Gives cursors WITH HOLD rows of their own, before their transaction commits.
    pub(super) async fn persist_cursors(&self) -> Result<()> {
        let runtime = &self.engine.runtime;
        for cursor in self.cursors.values().filter(|cursor| cursor.hold && !cursor.kept) {
            let disk = Arc::clone(&runtime.env.disk_manager);
            tokio::select! {
                biased;
                () = self.cancel.stopped() => return Err(self.cancel.error()),
                persisted = runtime.cpu.run(cursor.persist(disk)) => persisted?,
            }
        }
        Ok(())
    }

    /// Closes the cursors that end with their transaction.
    pub(super) fn settle_cursors(&mut self, committed: bool) {
        if self.cursors.is_empty() {
            return;
        }
        for cursor in self.cursors.values_mut() {
            cursor.kept |= committed && cursor.hold;
        }
        self.cursors.retain(|_, cursor| cursor.kept);
        self.list_cursors();
    }

    /// Closes the cursors that were declared after so many others.
    pub(super) fn close_cursors_since(&mut self, declared: u64) {
        self.cursors.retain(|_, cursor| cursor.number < declared);
        self.list_cursors();
    }

    /// Shows the cursors to `pg_cursors`.
    fn list_cursors(&self) {
        let row = |(name, cursor): (&String, &Cursor)| CursorRow {
            name: name.clone(),
            statement: Arc::clone(&cursor.text),
            is_holdable: cursor.hold,
            is_binary: cursor.binary,
            is_scrollable: cursor.scroll,
            created: cursor.created,
        };
        self.facts.list_cursors(self.cursors.iter().map(row).collect());
    }
}
