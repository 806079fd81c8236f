//! Upkeep: statements that tend a lake's files and change no rows, and the same done by itself.
//!
//! `VACUUM` lets go of the past ([`vacuum`]); `OPTIMIZE` puts rows into fewer files, or in an order
//! ([`optimize`]); `ANALYZE` counts distinct values ([`analyze`]). What the daemon does unasked is decided in [`background`].

mod analyze;
pub mod background;
mod choose;
mod optimize;
mod vacuum;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast;

use super::execute::{Outcome, Rows, Run};
use super::session::{Session, done};
use super::statement::Name;
use crate::error::Result;
use crate::runtime::upkeep::Action;

pub use self::optimize::Figures;

/// What a statement tends.
#[derive(Debug, Clone)]
pub enum Upkeep {
    Vacuum(Vacuum),
    Optimize(Optimize),
    /// Tables, and their columns that are counted; all where none are named, and all tables.
    Analyze(Vec<(Name, Vec<String>)>),
}

/// `VACUUM`; without names, of the whole lake.
#[derive(Debug, Clone, Default)]
pub struct Vacuum {
    pub names: Vec<Name>,
    pub retain: Option<Duration>,
    pub grace: Option<Duration>,
    pub dry_run: bool,
    /// Takes a grace period that may be too short.
    pub force: bool,
}

/// `OPTIMIZE`.
#[derive(Debug, Clone)]
pub struct Optimize {
    pub name: Name,
    /// Only files that can hold a row that passes.
    pub filter: Option<Box<ast::Expr>>,
    pub order: Order,
    /// Files below this size are put together; without one, below three quarters of the table's target size.
    pub small_bytes: Option<u64>,
    /// Small files that a partition must have, and bytes that are rewritten at the most.
    pub files_min: usize,
    pub bytes_max: u64,
    /// Takes one thread, and leaves room to others.
    pub gentle: bool,
}

/// In which order the rows of the new files stand.
#[derive(Debug, Clone)]
pub enum Order {
    /// Only small files are rewritten.
    AsItComes,
    By(Vec<ast::OrderByExpr>),
    /// Along a Z-curve, which keeps rows together that are near each other in all of these columns.
    Z(Vec<String>),
}

impl Optimize {
    pub fn of(name: Name) -> Self {
        Self {
            name,
            filter: None,
            order: Order::AsItComes,
            small_bytes: None,
            files_min: 2,
            bytes_max: u64::MAX,
            gentle: false,
        }
    }
}

impl Upkeep {
    /// The word that errors use for the statement.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Vacuum(_) => "VACUUM",
            Self::Optimize(_) => "OPTIMIZE",
            Self::Analyze(_) => "ANALYZE",
        }
    }

    /// Whether it changes the lake's files.
    pub fn writes(&self) -> bool {
        match self {
            Self::Vacuum(vacuum) => !vacuum.dry_run,
            Self::Optimize(_) | Self::Analyze(_) => true,
        }
    }

    /// The columns of its answer, where it has one.
    pub fn schema(&self) -> Option<SchemaRef> {
        let number = |name: &str| Field::new(name, DataType::Int64, false);
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let fields = match self {
            Self::Vacuum(vacuum) if !vacuum.dry_run => return None,
            Self::Analyze(_) => return None,
            Self::Vacuum(_) => vec![text("path"), number("bytes"), text("reason")],
            Self::Optimize(_) => {
                ["files_before", "files_after", "bytes_before", "bytes_after"].map(number).to_vec()
            }
        };
        Some(Arc::new(Schema::new(fields)))
    }
}

impl Session {
    /// Runs a statement that tends files.
    pub(super) async fn tend(&mut self, upkeep: &Upkeep, run: Run) -> Result<Outcome> {
        match upkeep {
            Upkeep::Vacuum(request) => {
                self.refuse_in_block("VACUUM")?;
                let vacuumed = self.vacuum(request, &run).await?;
                if !request.dry_run {
                    return Ok(done("VACUUM"));
                }
                let files = &vacuumed.listed;
                let paths = StringArray::from_iter_values(files.iter().map(|file| &file.path));
                let bytes = Int64Array::from_iter_values(files.iter().map(|file| file.bytes as i64));
                let reasons = StringArray::from_iter_values(files.iter().map(|file| file.reason));
                rows(upkeep, vec![Arc::new(paths), Arc::new(bytes), Arc::new(reasons)], run)
            }
            Upkeep::Optimize(request) => {
                let figures = self.optimize(request, &run).await?;
                let numbers =
                    [figures.files_before, figures.files_after, figures.bytes_before, figures.bytes_after];
                let column = |number: u64| -> ArrayRef { Arc::new(Int64Array::from(vec![number as i64])) };
                rows(upkeep, numbers.map(column).to_vec(), run)
            }
            Upkeep::Analyze(tables) => {
                self.analyze(tables, &run).await?;
                Ok(done("ANALYZE"))
            }
        }
    }

    /// Notes what was done, for `system.runtime.upkeep`.
    fn note_upkeep(&self, table: String, action: &'static str, began: Instant, done: Result<(u64, u64)>) {
        let runtime = &self.engine.runtime;
        let action = Action::ended(table, action, began.elapsed(), done.map_err(|error| error.to_string()));
        runtime.upkeep.note(action, &runtime.metrics);
    }
}

fn rows(upkeep: &Upkeep, columns: Vec<ArrayRef>, run: Run) -> Result<Outcome> {
    let schema = upkeep.schema().unwrap_or_else(|| Arc::new(Schema::empty()));
    Ok(Outcome::Rows(Rows::of_batch(upkeep.word(), RecordBatch::try_new(schema, columns)?, run)))
}
