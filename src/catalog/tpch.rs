//! The `tpch` connector: the TPC-H tables, generated in the process.
//!
//! A schema is a scale factor: `sf1`, `sf10`, `sf0_1` (also `"sf0.1"`), and `tiny` for 0.01. Nothing
//! is stored; a scan makes the rows, and the same scale factor always makes the same rows as `dbgen`.
//! This module decides which names there are, what their scale factors are and what the tables are
//! called. How rows are made is decided in [`generate`], how many there are in [`statistics`] and how
//! they are spread over a query's partitions in [`scan`].
//!
//! The comment columns are cut from 300 MiB of text, which is made when a query first reads one and
//! kept for the life of the process (1 to 2 seconds, once). All other columns do without.

mod generate;
mod scan;
mod statistics;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, Statistics};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use generate::Table;
use scan::GenerateExec;

/// The eight tables, sorted by name.
pub const TABLES: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// The smallest scale factor: below it, the generator has no supplier for some part.
pub const SCALE_FACTOR_MIN: f64 = 0.001;

/// The largest scale factor that TPC-H defines.
pub const SCALE_FACTOR_MAX: f64 = 100_000.0;

/// Names the schemas that a listing shows; any other `sf<number>` works as well.
pub fn schema_names() -> Vec<String> {
    ["sf1", "sf10", "sf100", "sf1000", "tiny"].map(str::to_owned).to_vec()
}

/// Reads the scale factor from a schema's name; `None` if no schema is called that.
///
/// A name is `tiny` (0.01), or `sf` and a decimal number without leading zeros, with a point or, as
/// unquoted identifiers cannot hold one, an underscore: `sf0.1` and `sf0_1` are the same.
pub fn scale_factor(schema: &str) -> Option<f64> {
    if schema == "tiny" {
        return Some(0.01);
    }
    let number = schema.strip_prefix("sf")?.replacen('_', ".", 1);
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, "0"));
    let digits = |text: &str| (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let factor = number.parse::<f64>().ok()?;
    (SCALE_FACTOR_MIN..=SCALE_FACTOR_MAX).contains(&factor).then_some(factor)
}

/// Finds a table by the names that SQL uses.
pub fn named(schema: &str, name: &str) -> Option<Arc<dyn TableProvider>> {
    table(scale_factor(schema)?, name)
}

/// Makes the table `name` at a scale factor; `None` for other names and for factors out of bounds.
///
/// Costs nothing: rows are made by the scan, as they are read.
pub fn table(scale_factor: f64, name: &str) -> Option<Arc<dyn TableProvider>> {
    if !(SCALE_FACTOR_MIN..=SCALE_FACTOR_MAX).contains(&scale_factor) {
        return None;
    }
    let table = Table::by_name(name)?;
    Some(Arc::new(GeneratedTable { table, scale_factor, schema: table.schema() }))
}

/// Says what a table holds, in one line.
pub fn comment(name: &str) -> Option<&'static str> {
    Some(match Table::by_name(name)? {
        Table::Customer => "Customers; a third of them never order",
        Table::Lineitem => {
            "The one to seven lines of each order: part, supplier, price and the dates of delivery"
        }
        Table::Nation => "25 nations, each in one region",
        Table::Orders => "Orders of customers, from 1992 to 1998",
        Table::Part => "Parts that are sold: brand, type, size and container",
        Table::Partsupp => "Which suppliers have a part, at what cost; four for each part",
        Table::Region => "5 regions of the world",
        Table::Supplier => "Suppliers of parts",
    })
}

/// Describes a scale factor as a schema's comment.
pub fn schema_comment(scale_factor: f64) -> String {
    format!("TPC-H at scale factor {scale_factor}: generated, about {scale_factor} GB as text")
}

/// One generated table at one scale factor.
#[derive(Debug)]
struct GeneratedTable {
    table: Table,
    scale_factor: f64,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for GeneratedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = session.config().target_partitions();
        Ok(Arc::new(GenerateExec::try_new(self.table, self.scale_factor, partitions, projection, limit)?))
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(statistics::of_table(self.table, self.scale_factor))
    }
}

#[cfg(test)]
mod tests;
