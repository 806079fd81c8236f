//! Sink: a query's result becomes files.
//!
//! [`write_plan`] puts a [`WriteExec`] on a physical plan: it sorts rows out by partition, encodes them
//! as Parquet within a memory budget, uploads while it encodes, and lists the finished files with their
//! metrics. [`export`] writes files for others, of any format. That files belong to a table is decided
//! in `catalog`: nothing written here is part of one yet.

mod bounds;
mod budget;
mod export;
mod file;
mod guard;
mod inlet;
mod listing;
mod parquet;
pub mod rewrite;
mod rows;
mod shelf;
mod text;
mod upload;
mod write;
mod writing;

#[cfg(test)]
mod tests;

pub use export::{ExportFormat, ExportOptions, Exported, export};
pub use guard::{Guard, guard_plan, shown_row};
pub use listing::files_of;
pub use text::{CsvFormat, TextFormat};
pub use write::{WriteExec, WriteOptions, run_write, write_plan};
