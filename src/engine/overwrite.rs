//! INSERT OVERWRITE of a table that was partitioned in another way before.
//!
//! Files of the present partition spec go by their partition. A file of an earlier spec can hold rows of
//! partitions that are replaced beside others: it is written anew, under the present spec, without those
//! rows. Files that hold none of them by what is known of their columns stay.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::col;

use super::execute::Run;
use super::session::Session;
use super::statement::Name;
use super::write::column_not_found;
use crate::catalog::transaction::{Found, TableTarget, Transaction};
use crate::error::{Error, Result};
use crate::format::iceberg::{Change, Removal};
use crate::format::partition::Transform;
use crate::format::{DataFile, WrittenFile};
use crate::scan::{FilesTable, address};

/// What the plan calls the table.
const TARGET: &str = "$target";

impl Session {
    /// Takes the rows of the partitions that `new` files lie in out of files of other partition specs, and
    /// stages that. Returns the target as it is then.
    pub(super) async fn clear_partitions(
        &self,
        transaction: &Arc<Transaction>,
        target: TableTarget,
        new: &[WrittenFile],
        run: &Run,
    ) -> Result<TableTarget> {
        if target.partition.is_empty() || new.is_empty() {
            return Ok(target);
        }
        let others = transaction.files_of_other_specs(&target).await?;
        if others.is_empty() {
            return Ok(target);
        }
        let planner = self.planner_in(Arc::clone(transaction)).await?;
        let (catalog, schema) = (target.catalog.clone(), target.schema.clone());
        let name = Name { catalog: Some(catalog), schema: Some(schema), name: target.name.clone() };
        let Found::Table(table) = planner.provider(&name).await? else {
            return Err(Error::WrongObjectType { name: target.name, wanted: "table" });
        };
        let files = (table.as_ref() as &dyn std::any::Any).downcast_ref::<FilesTable>();
        let snapshot =
            files.ok_or_else(|| Error::Internal(format!("table \"{name}\" has no files")))?.snapshot();
        let replaced = Replaced::of(&target, new)?;
        let is_meant = |file: &DataFile| others.contains(&file.object.location) && replaced.may_be_in(file);
        let files = snapshot.files.iter().enumerate().filter(|(_, file)| is_meant(file));
        let chosen = address::chosen(snapshot, &files.map(|(place, _)| place).collect::<Vec<_>>());
        if chosen.files.is_empty() {
            return Ok(target);
        }
        let remove = chosen.files.iter().map(|file| file.object.location.clone()).collect();
        let source = provider_as_source(Arc::new(FilesTable::new(Arc::new(chosen))));
        let stays = LogicalPlanBuilder::scan(TARGET, source, None)?.filter(replaced.outside()?)?.build()?;
        let add = self.write(planner, stays, &target, run).await?;
        let change = Change::Overwrite { add, remove: Removal::Files(remove) };
        let (catalog, schema, name) = (target.catalog.clone(), target.schema.clone(), target.name.clone());
        transaction.stage(target, Some(change)).await?;
        transaction.target(&catalog, &schema, &name).await
    }
}

/// The partitions that a statement replaces.
struct Replaced {
    fields: Vec<Field>,
    partitions: HashSet<Vec<ScalarValue>>,
}

/// A partition field over a column of the table.
struct Field {
    column: usize,
    name: String,
    transform: Transform,
    data_type: DataType,
}

impl Replaced {
    fn of(target: &TableTarget, new: &[WrittenFile]) -> Result<Self> {
        let columns: &Schema = &target.columns;
        let mut fields = Vec::with_capacity(target.partition.len());
        for field in &target.partition {
            let found = columns.column_with_name(&field.source);
            let (column, source) = found.ok_or_else(|| column_not_found(&field.source, columns))?;
            let data_type = field.transform.result_type(source.data_type())?;
            fields.push(Field { column, name: field.source.clone(), transform: field.transform, data_type });
        }
        let mut partitions = HashSet::new();
        for file in new {
            let values = file.partition.iter().zip(&fields);
            let cast = values.map(|(value, field)| value.cast_to(&field.data_type));
            partitions.insert(cast.collect::<DataFusionResult<Vec<_>>>()?);
        }
        Ok(Self { fields, partitions })
    }

    /// Whether a row of one of the partitions can be in `file`, as far as is known of its columns.
    fn may_be_in(&self, file: &DataFile) -> bool {
        let Some(known) = file.statistics.as_ref().map(|known| known.get()) else { return true };
        let spans: Vec<Span> =
            self.fields.iter().map(|field| Span::of(field, &known.column_statistics[field.column])).collect();
        let fits = |partition: &Vec<ScalarValue>| {
            partition.iter().zip(&spans).all(|(value, span)| span.holds(value))
        };
        self.partitions.iter().any(fits)
    }

    /// The condition that a row lies in none of the partitions.
    ///
    /// # Errors
    /// None that partitions which were written could cause.
    fn outside(&self) -> Result<datafusion::prelude::Expr> {
        let fields: Vec<_> =
            self.fields.iter().map(|field| (field.transform, field.data_type.clone())).collect();
        let converter = converter(&fields)?;
        let mut replaced = BTreeSet::new();
        for values in &self.partitions {
            let values = values.iter().map(ScalarValue::to_array).collect::<DataFusionResult<Vec<_>>>()?;
            replaced.insert(converter.convert_columns(&values)?.row(0).as_ref().to_vec());
        }
        let signature = Signature::any(fields.len(), Volatility::Immutable);
        let function = OutsidePartitions { signature, fields, replaced };
        let columns = self.fields.iter().map(|field| col(Column::from_name(&field.name)));
        Ok(ScalarUDF::from(function).call(columns.collect()))
    }
}

/// Between which values of a partition field the rows of a file lie; none where that is not known.
struct Span {
    ends: Option<(ScalarValue, ScalarValue)>,
    has_nulls: bool,
}

impl Span {
    fn of(field: &Field, known: &ColumnStatistics) -> Self {
        let has_nulls = known.null_count != Precision::Exact(0);
        let ends = match (known.min_value.get_value(), known.max_value.get_value()) {
            (Some(least), Some(greatest)) if keeps_order(field) => {
                let end = |value: &ScalarValue| {
                    let values: ArrayRef = value.to_array().ok()?;
                    ScalarValue::try_from_array(&field.transform.apply(&values).ok()?, 0).ok()
                };
                end(least).zip(end(greatest))
            }
            _ => None,
        };
        Self { ends, has_nulls }
    }

    fn holds(&self, value: &ScalarValue) -> bool {
        match &self.ends {
            _ if value.is_null() => self.has_nulls,
            Some((least, greatest)) => !(value < least || value > greatest),
            None => true,
        }
    }
}

/// Whether a smaller value never lies in a greater partition. NaN is left out of what is known of numbers.
fn keeps_order(field: &Field) -> bool {
    let is_hashed = matches!(field.transform, Transform::Bucket(_) | Transform::Void);
    !is_hashed && !field.data_type.is_floating()
}

/// Writes the values of partition fields as bytes that are equal where the values are.
fn converter(fields: &[(Transform, DataType)]) -> DataFusionResult<RowConverter> {
    Ok(RowConverter::new(fields.iter().map(|(_, data_type)| SortField::new(data_type.clone())).collect())?)
}

/// Whether rows lie in none of some partitions; its arguments are the columns of the partition fields.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OutsidePartitions {
    signature: Signature,
    fields: Vec<(Transform, DataType)>,
    /// The values of each partition, as `converter` writes them.
    replaced: BTreeSet<Vec<u8>>,
}

impl ScalarUDFImpl for OutsidePartitions {
    fn name(&self) -> &'static str {
        "outside_partitions"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let mut values = Vec::with_capacity(self.fields.len());
        for (argument, (transform, _)) in args.args.iter().zip(&self.fields) {
            values.push(transform.apply(&argument.to_array(args.number_rows)?)?);
        }
        let rows = converter(&self.fields)?.convert_columns(&values)?;
        let outside = rows.iter().map(|row| Some(!self.replaced.contains(row.as_ref())));
        let outside: BooleanArray = outside.collect();
        Ok(ColumnarValue::Array(Arc::new(outside)))
    }
}
