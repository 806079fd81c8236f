//! Generation: the rows of one table, batch by batch.
//!
//! A [`Split`] is one of several equal ranges of a table's keys. This module opens a split as an
//! iterator of record batches, by the `tpchgen` crates. Splits of one table, read one after another,
//! give the same rows in the same order as the table read as a whole.

use std::sync::OnceLock;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

/// Enough for the longest comment; its text is never shown.
const SMALL_POOL_BYTES: i32 = 16 * 1024;

/// Batches of all columns of a table, made as they are asked for.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Customer,
    Lineitem,
    Nation,
    Orders,
    Part,
    Partsupp,
    Region,
    Supplier,
}

impl Table {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "customer" => Self::Customer,
            "lineitem" => Self::Lineitem,
            "nation" => Self::Nation,
            "orders" => Self::Orders,
            "part" => Self::Part,
            "partsupp" => Self::Partsupp,
            "region" => Self::Region,
            "supplier" => Self::Supplier,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Lineitem => "lineitem",
            Self::Nation => "nation",
            Self::Orders => "orders",
            Self::Part => "part",
            Self::Partsupp => "partsupp",
            Self::Region => "region",
            Self::Supplier => "supplier",
        }
    }

    pub(super) fn schema(self) -> SchemaRef {
        match self {
            Self::Customer => CustomerArrow::schema_ref(),
            Self::Lineitem => LineItemArrow::schema_ref(),
            Self::Nation => NationArrow::schema_ref(),
            Self::Orders => OrderArrow::schema_ref(),
            Self::Part => PartArrow::schema_ref(),
            Self::Partsupp => PartSuppArrow::schema_ref(),
            Self::Region => RegionArrow::schema_ref(),
            Self::Supplier => SupplierArrow::schema_ref(),
        }
    }

    /// The columns by which rows come, ascending, in every split.
    pub(super) fn order(self) -> &'static [&'static str] {
        match self {
            Self::Customer => &["c_custkey"],
            Self::Lineitem => &["l_orderkey", "l_linenumber"],
            Self::Nation => &["n_nationkey"],
            Self::Orders => &["o_orderkey"],
            Self::Part => &["p_partkey"],
            Self::Partsupp => &["ps_partkey"],
            Self::Region => &["r_regionkey"],
            Self::Supplier => &["s_suppkey"],
        }
    }
}

/// One of `count` equal ranges of a table's keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    pub(super) table: Table,
    pub(super) scale_factor: f64,
    /// Which one, from 1 to `count`.
    pub(super) number: i32,
    pub(super) count: i32,
}

impl Split {
    /// Opens the split at its first row. Without `with_text`, comment columns hold no true text.
    ///
    /// Costs some microseconds, whichever split it is: the generators jump to their row.
    pub(super) fn open(self, batch_rows: usize, with_text: bool) -> Batches {
        let Self { table, scale_factor: scale, number, count } = self;
        let words = Distributions::static_default();
        let text = text_pool(with_text);
        macro_rules! batches {
            ($arrow:ident, $generator:ident) => {{
                let rows =
                    $generator::new_with_distributions_and_text_pool(scale, number, count, words, text);
                Box::new($arrow::new(rows).with_batch_size(batch_rows))
            }};
        }
        match table {
            Table::Customer => batches!(CustomerArrow, CustomerGenerator),
            Table::Lineitem => batches!(LineItemArrow, LineItemGenerator),
            Table::Orders => batches!(OrderArrow, OrderGenerator),
            Table::Part => batches!(PartArrow, PartGenerator),
            Table::Supplier => batches!(SupplierArrow, SupplierGenerator),
            Table::Partsupp => {
                let rows = PartSuppGenerator::new_with_text_pool(scale, number, count, text);
                Box::new(PartSuppArrow::new(rows).with_batch_size(batch_rows))
            }
            Table::Nation => {
                let rows = NationGenerator::new_with_distributions_and_text_pool(words, text);
                Box::new(NationArrow::new(rows).with_batch_size(batch_rows))
            }
            Table::Region => {
                let rows = RegionGenerator::new_with_distributions_and_text_pool(words, text);
                Box::new(RegionArrow::new(rows).with_batch_size(batch_rows))
            }
        }
    }
}

/// The text that comments are cut from: all 300 MiB of it, or as much as lets the generators run.
///
/// The text decides comments only, so that a scan which reads none may use the short one.
fn text_pool(full: bool) -> &'static TextPool {
    static SMALL: OnceLock<TextPool> = OnceLock::new();
    if full {
        TextPool::get_or_init_default()
    } else {
        SMALL.get_or_init(|| TextPool::new(SMALL_POOL_BYTES, Distributions::static_default()))
    }
}
