//! `SHOW STATS FOR`: what is known of a table's or a query's rows without reading them, as in Trino.
//!
//! One row a column, and a last one for all rows. What is not known is null. Everything but the number
//! of distinct values, which `ANALYZE` counts, is kept at write.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::sql::sqlparser::ast;

use crate::engine::execute::{Outcome, Rows, Run};
use crate::engine::session::Session;
use crate::error::Result;
use crate::function::cast::of_scalar;

pub(super) fn schema() -> SchemaRef {
    let column = |(name, data_type): (&str, DataType)| Field::new(name, data_type, true);
    let columns = [
        ("column_name", DataType::Utf8),
        ("data_size", DataType::Float64),
        ("distinct_values_count", DataType::Float64),
        ("nulls_fraction", DataType::Float64),
        ("row_count", DataType::Float64),
        ("low_value", DataType::Utf8),
        ("high_value", DataType::Utf8),
    ];
    Arc::new(Schema::new(columns.map(column).to_vec()))
}

/// Plans the query, and tells what its plan knows.
///
/// # Errors
/// As the query itself.
pub async fn stats(session: &mut Session, query: &ast::Query, run: Run) -> Result<Outcome> {
    let planner = session.planner().await?;
    let query = query.clone();
    let (schema, known) = run
        .plan(async move {
            let plan = planner.query(query, &[]).await?;
            let physical = planner.physical(&plan).await?;
            let known = StatisticsContext::new().compute(physical.as_ref(), &StatisticsArgs::new())?;
            Ok((physical.schema(), known))
        })
        .await?;
    let mut lines: Vec<Line> = schema
        .fields()
        .iter()
        .zip(&known.column_statistics)
        .map(|(field, column)| line(field, column, &known))
        .collect();
    lines.push(Line { row_count: number(&known.num_rows), ..Line::default() });
    Ok(Outcome::Rows(Rows::of_batch("SHOW", batch(&lines)?, run)))
}

/// One row of the answer.
#[derive(Debug, Default)]
struct Line {
    column_name: Option<String>,
    data_size: Option<f64>,
    distinct: Option<f64>,
    nulls: Option<f64>,
    row_count: Option<f64>,
    low: Option<String>,
    high: Option<String>,
}

fn line(field: &Field, column: &ColumnStatistics, known: &Statistics) -> Line {
    let rows = number(&known.num_rows);
    let is_fixed = field.data_type().primitive_width().is_some();
    let share = |nulls: f64| rows.map(|rows| if rows == 0.0 { 0.0 } else { nulls / rows });
    Line {
        column_name: Some(field.name().clone()),
        // As in Trino: of what is as long as it is.
        data_size: number(&column.byte_size).filter(|_| !is_fixed),
        distinct: number(&column.distinct_count),
        nulls: number(&column.null_count).and_then(share),
        row_count: None,
        low: end(&column.min_value),
        high: end(&column.max_value),
    }
}

fn number(known: &Precision<usize>) -> Option<f64> {
    known.get_value().map(|number| *number as f64)
}

/// A bound that was cut is no value.
fn end(known: &Precision<ScalarValue>) -> Option<String> {
    match known {
        // Parquet's bound of a zero has either sign.
        Precision::Inexact(ScalarValue::Float32(Some(0.0)) | ScalarValue::Float64(Some(0.0))) => {
            Some("0".to_owned())
        }
        Precision::Exact(value) => of_scalar(value),
        Precision::Inexact(value) if value.data_type().is_numeric() => of_scalar(value),
        Precision::Inexact(_) | Precision::Absent => None,
    }
}

fn batch(lines: &[Line]) -> Result<RecordBatch> {
    let texts = |of: fn(&Line) -> &Option<String>| -> ArrayRef {
        Arc::new(lines.iter().map(|line| of(line).as_deref()).collect::<StringArray>())
    };
    let numbers = |of: fn(&Line) -> Option<f64>| -> ArrayRef {
        Arc::new(lines.iter().map(of).collect::<Float64Array>())
    };
    let columns = vec![
        texts(|line| &line.column_name),
        numbers(|line| line.data_size),
        numbers(|line| line.distinct),
        numbers(|line| line.nulls),
        numbers(|line| line.row_count),
        texts(|line| &line.low),
        texts(|line| &line.high),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
