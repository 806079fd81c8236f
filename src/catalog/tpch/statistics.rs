//! Statistics: what is known of a generated table before a row is made.
//!
//! Row counts are exact, but for lineitem at unusual scale factors, because an order's number of lines
//! is random: there the published counts serve, or a run through that one random sequence, or four lines
//! an order as an estimate. Keys are dense, so their bounds are exact too. Everything else is the
//! planner's hint, and marked inexact.

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use tpchgen::generators::{
    CustomerGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, SupplierGenerator,
};

use super::generate::{Split, Table};

/// Up to here the lines are counted: 15 million orders, some 80 ms.
const COUNTED_SCALE_MAX: f64 = 10.0;

/// The rows of lineitem as the TPC-H specification publishes them (4.2.5.1).
const LINEITEM_ROWS: [(f64, usize); 10] = [
    (1.0, 6_001_215),
    (10.0, 59_986_052),
    (30.0, 179_998_372),
    (100.0, 600_037_902),
    (300.0, 1_799_989_091),
    (1_000.0, 5_999_989_709),
    (3_000.0, 18_000_048_306),
    (10_000.0, 59_999_994_267),
    (30_000.0, 179_999_978_268),
    (100_000.0, 599_999_969_200),
];

/// The statistics of a whole table.
///
/// Costs up to 80 ms for lineitem below scale factor 10, nothing otherwise.
pub(super) fn of_table(table: Table, scale_factor: f64) -> Statistics {
    let mut statistics = of_split(Split { table, scale_factor, number: 1, count: 1 });
    statistics.num_rows = match table {
        Table::Lineitem => lineitem_rows(scale_factor),
        _ => statistics.num_rows,
    };
    for (column, field) in statistics.column_statistics.iter_mut().zip(table.schema().fields()) {
        describe(column, field.name(), scale_factor);
    }
    statistics
}

/// The statistics of one split: its row count, and that no column has nulls.
pub(super) fn of_split(split: Split) -> Statistics {
    let mut statistics = Statistics::new_unknown(&split.table.schema());
    statistics.num_rows = split_rows(split);
    for column in &mut statistics.column_statistics {
        column.null_count = Precision::Exact(0);
    }
    statistics
}

/// The rows of a split. For lineitem an estimate, as counting costs more than it is worth.
pub(super) fn split_rows(split: Split) -> Precision<usize> {
    let Split { table, scale_factor, number, count } = split;
    let rows = match table {
        Table::Customer => CustomerGenerator::calculate_row_count(scale_factor, number, count),
        Table::Orders => OrderGenerator::calculate_row_count(scale_factor, number, count),
        Table::Part => PartGenerator::calculate_row_count(scale_factor, number, count),
        Table::Supplier => SupplierGenerator::calculate_row_count(scale_factor, number, count),
        // The generator's count is that of the parts; each has four suppliers.
        Table::Partsupp => 4 * PartSuppGenerator::calculate_row_count(scale_factor, number, count),
        Table::Nation => 25,
        Table::Region => 5,
        Table::Lineitem => {
            let orders = OrderGenerator::calculate_row_count(scale_factor, number, count);
            return Precision::Inexact(4 * orders.unsigned_abs() as usize);
        }
    };
    Precision::Exact(rows.unsigned_abs() as usize)
}

fn lineitem_rows(scale_factor: f64) -> Precision<usize> {
    if let Some((_, rows)) = LINEITEM_ROWS.iter().find(|(scale, _)| *scale == scale_factor) {
        return Precision::Exact(*rows);
    }
    if scale_factor > COUNTED_SCALE_MAX {
        return split_rows(Split { table: Table::Lineitem, scale_factor, number: 1, count: 1 });
    }
    Precision::Exact(counted_lineitem_rows(scale_factor))
}

/// Draws every order's number of lines, and nothing else of it. About 5 ns an order.
pub(super) fn counted_lineitem_rows(scale_factor: f64) -> usize {
    let orders = OrderGenerator::calculate_row_count(scale_factor, 1, 1);
    let mut lines = OrderGenerator::create_line_count_random();
    let draw = |_| {
        let count = lines.next_value().unsigned_abs() as usize;
        lines.row_finished();
        count
    };
    (0..orders).map(draw).sum()
}

/// Bounds and distinct counts, as far as a column's name tells them.
fn describe(column: &mut ColumnStatistics, name: &str, scale_factor: f64) {
    let rows = |table| split_rows(Split { table, scale_factor, number: 1, count: 1 });
    match name {
        "c_custkey" => dense_key(column, rows(Table::Customer)),
        "p_partkey" | "ps_partkey" => dense_key(column, rows(Table::Part)),
        "s_suppkey" => dense_key(column, rows(Table::Supplier)),
        "o_orderkey" | "l_orderkey" => order_key(column, rows(Table::Orders)),
        "n_nationkey" => bounds(column, 0, 24, Precision::Exact(25)),
        "r_regionkey" | "n_regionkey" => bounds(column, 0, 4, Precision::Exact(5)),
        "ps_suppkey" | "l_suppkey" => column.distinct_count = rows(Table::Supplier).to_inexact(),
        "l_partkey" => column.distinct_count = rows(Table::Part).to_inexact(),
        // A third of the customers never order.
        "o_custkey" => column.distinct_count = rows(Table::Customer).to_inexact().map(|n| n / 3 * 2),
        "l_shipdate" => dates(column, (1992, 1, 2), (1998, 12, 1)),
        "l_commitdate" => dates(column, (1992, 1, 31), (1998, 10, 31)),
        "l_receiptdate" => dates(column, (1992, 1, 3), (1998, 12, 31)),
        "o_orderdate" => dates(column, (1992, 1, 1), (1998, 8, 2)),
        _ => column.distinct_count = vocabulary(name).map_or(Precision::Absent, Precision::Inexact),
    }
}

/// How many different values a column of fixed words or small numbers draws from.
fn vocabulary(name: &str) -> Option<usize> {
    Some(match name {
        "c_nationkey" | "s_nationkey" | "n_name" | "p_brand" => 25,
        "c_mktsegment" | "o_orderpriority" | "p_mfgr" | "r_name" => 5,
        "l_linenumber" | "l_shipmode" => 7,
        "l_quantity" | "p_size" => 50,
        "l_discount" => 11,
        "l_tax" => 9,
        "l_returnflag" | "o_orderstatus" => 3,
        "l_linestatus" => 2,
        "l_shipinstruct" => 4,
        "o_shippriority" => 1,
        "p_type" => 150,
        "p_container" => 40,
        _ => return None,
    })
}

/// A key that counts from 1 to the number of rows.
fn dense_key(column: &mut ColumnStatistics, rows: Precision<usize>) {
    if let Precision::Exact(count) = rows {
        bounds(column, 1, count as i64, rows);
    }
}

/// Order keys leave gaps: 8 of every 32 are used.
fn order_key(column: &mut ColumnStatistics, orders: Precision<usize>) {
    if let Precision::Exact(count) = orders {
        bounds(column, 1, OrderGenerator::make_order_key(count as i64), orders);
    }
}

fn bounds(column: &mut ColumnStatistics, low: i64, high: i64, distinct: Precision<usize>) {
    column.min_value = Precision::Exact(ScalarValue::Int64(Some(low)));
    column.max_value = Precision::Exact(ScalarValue::Int64(Some(high)));
    column.distinct_count = distinct;
}

/// The first and the last day that the specification allows; a small table may not reach them.
fn dates(column: &mut ColumnStatistics, first: (i32, u32, u32), last: (i32, u32, u32)) {
    let day = |(year, month, day)| {
        let date = chrono::NaiveDate::from_ymd_opt(year, month, day).expect("a date of the specification");
        (date - chrono::NaiveDate::default()).num_days() as i32
    };
    column.min_value = Precision::Inexact(ScalarValue::Date32(Some(day(first))));
    column.max_value = Precision::Inexact(ScalarValue::Date32(Some(day(last))));
    column.distinct_count = Precision::Inexact((day(last) - day(first) + 1).unsigned_abs() as usize);
}
