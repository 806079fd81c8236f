//! Renamed footers: the columns of a file under the names that its table gives them now.
//!
//! A column of an Iceberg table is known by its field id for ever, and files are never rewritten when
//! it gets another name. DataFusion matches a file's columns with a table's by name. So the footer of a
//! file that was written under other names is changed as it is read: columns get the names that
//! the table has for their ids, and those of columns that were dropped get a name that nothing can
//! have. All that follows (missing columns, casts, row groups and pages that are skipped, dynamic
//! filters) then sees a file as the table is today.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, Schema};
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::{ConvertedType, LogicalType};
use parquet::errors::Result;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataBuilder};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use crate::format::iceberg::field_id;

/// The names of a table's columns, and of the fields within them, by field id.
#[derive(Debug)]
pub(super) struct Names(HashMap<i32, String>);

impl Names {
    pub fn of(schema: &Schema) -> Self {
        let mut names = HashMap::new();
        note(schema.fields(), &mut names);
        Self(names)
    }

    /// The name that a field of a file has today; its own, if it has no id.
    fn of_field(&self, field: &Type) -> String {
        let info = field.get_basic_info();
        match info.has_id().then(|| self.0.get(&info.id())) {
            None => info.name().to_owned(),
            Some(Some(name)) => name.clone(),
            // No name holds a NUL, so no column is called this.
            Some(None) => format!("\0{}", info.id()),
        }
    }
}

fn note(fields: &Fields, names: &mut HashMap<i32, String>) {
    for field in fields {
        let id = field_id(field);
        names.extend(id.map(|id| (id, field.name().clone())));
        note_within(field.data_type(), names);
    }
}

fn note_within(data_type: &DataType, names: &mut HashMap<i32, String>) {
    match data_type {
        DataType::Struct(fields) => note(fields, names),
        DataType::List(item) => note_within(item.data_type(), names),
        DataType::Map(entries, _) => {
            if let DataType::Struct(pair) = entries.data_type() {
                pair.iter().for_each(|part| note_within(part.data_type(), names));
            }
        }
        _ => {}
    }
}

/// Opens files by `inner`, and renames their columns.
#[derive(Debug)]
pub(super) struct RenamedReaders {
    pub inner: Arc<dyn ParquetFileReaderFactory>,
    pub names: Arc<Names>,
}

impl ParquetFileReaderFactory for RenamedReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::error::Result<Box<dyn AsyncFileReader + Send>> {
        let inner = self.inner.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(RenamedReader { inner, names: Arc::clone(&self.names) }))
    }
}

struct RenamedReader {
    inner: Box<dyn AsyncFileReader + Send>,
    names: Arc<Names>,
}

impl AsyncFileReader for RenamedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move { renamed(self.inner.get_metadata(options).await?, &self.names) }.boxed()
    }
}

/// A footer with today's names; the same one when they are those that it has.
fn renamed(footer: Arc<ParquetMetaData>, names: &Names) -> Result<Arc<ParquetMetaData>> {
    let file = footer.file_metadata();
    let root = file.schema_descr().root_schema_ptr();
    let renamed = with_names(&root, names)?;
    if Arc::ptr_eq(&renamed, &root) {
        return Ok(footer);
    }
    // The writer's Arrow schema has the old names, and says nothing that Iceberg's types do not.
    let mut notes = file.key_value_metadata().cloned();
    notes.iter_mut().for_each(|notes| notes.retain(|note| note.key != ARROW_SCHEMA_META_KEY));
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        notes,
        Arc::new(SchemaDescriptor::new(renamed)),
        file.column_orders().cloned(),
    );
    let footer = ParquetMetaDataBuilder::new(file)
        .set_row_groups(footer.row_groups().to_vec())
        .set_column_index(footer.column_index().cloned())
        .set_offset_index(footer.offset_index().cloned());
    Ok(Arc::new(footer.build()))
}

/// A group whose fields have today's names, whatever their depth.
fn with_names(group: &TypePtr, names: &Names) -> Result<TypePtr> {
    let field = |field: &TypePtr| {
        let within = within(field, names)?;
        let name = names.of_field(&within);
        if name == within.name() { Ok(within) } else { Ok(Arc::new(called(&within, &name)?)) }
    };
    with_fields(group, field)
}

/// A field whose own fields have today's names. Lists and maps have parts that are nobody's fields.
fn within(field: &TypePtr, names: &Names) -> Result<TypePtr> {
    match field.as_ref() {
        Type::PrimitiveType { .. } => Ok(Arc::clone(field)),
        Type::GroupType { .. } if is_container(field) => {
            with_fields(field, |repeated| match repeated.as_ref() {
                Type::PrimitiveType { .. } => Ok(Arc::clone(repeated)),
                Type::GroupType { .. } => with_fields(repeated, |part| within(part, names)),
            })
        }
        Type::GroupType { .. } => with_names(field, names),
    }
}

fn is_container(group: &Type) -> bool {
    let info = group.get_basic_info();
    let logical = matches!(info.logical_type_ref(), Some(LogicalType::List | LogicalType::Map));
    let converted = [ConvertedType::LIST, ConvertedType::MAP, ConvertedType::MAP_KEY_VALUE];
    logical || converted.contains(&info.converted_type())
}

/// A group with other fields; the same one when they are the same.
fn with_fields(group: &TypePtr, change: impl Fn(&TypePtr) -> Result<TypePtr>) -> Result<TypePtr> {
    let fields = group.get_fields().iter().map(change).collect::<Result<Vec<_>>>()?;
    if fields.iter().zip(group.get_fields()).all(|(new, old)| Arc::ptr_eq(new, old)) {
        return Ok(Arc::clone(group));
    }
    Ok(Arc::new(group_of(group, group.name(), fields)?))
}

fn group_of(group: &Type, name: &str, fields: Vec<TypePtr>) -> Result<Type> {
    let info = group.get_basic_info();
    let mut builder = Type::group_type_builder(name)
        .with_fields(fields)
        .with_converted_type(info.converted_type())
        .with_logical_type(info.logical_type_ref().cloned())
        .with_id(info.has_id().then(|| info.id()));
    if info.has_repetition() {
        builder = builder.with_repetition(info.repetition());
    }
    builder.build()
}

/// The field under another name.
fn called(field: &Type, name: &str) -> Result<Type> {
    match field {
        Type::GroupType { fields, .. } => group_of(field, name, fields.clone()),
        Type::PrimitiveType { basic_info, physical_type, type_length, scale, precision } => {
            Type::primitive_type_builder(name, *physical_type)
                .with_repetition(basic_info.repetition())
                .with_converted_type(basic_info.converted_type())
                .with_logical_type(basic_info.logical_type_ref().cloned())
                .with_length(*type_length)
                .with_scale(*scale)
                .with_precision(*precision)
                .with_id(basic_info.has_id().then(|| basic_info.id()))
                .build()
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn numbered(name: &str, id: i32, data_type: DataType) -> Field {
        let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Field::new(name, data_type, true).with_metadata(metadata)
    }

    #[test]
    fn fields_get_the_names_of_their_ids_at_every_depth() {
        let file = parse_message_type(
            "message m { optional int32 a = 1; optional int64 gone = 2;
               optional group points (LIST) = 3 { repeated group list {
                 optional group element = 4 { optional double x = 5; optional double y = 6; } } } }",
        );
        let point = DataType::Struct(vec![numbered("y", 5, DataType::Float64)].into());
        let list = DataType::List(Arc::new(numbered("element", 4, point)));
        let schema = Schema::new(vec![numbered("places", 3, list), numbered("b", 1, DataType::Int32)]);
        let file = Arc::new(file.unwrap());
        let renamed = with_names(&file, &Names::of(&schema)).unwrap();
        let names: Vec<&str> = renamed.get_fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["b", "\u{0}2", "places"]);
        let descriptor = SchemaDescriptor::new(Arc::clone(&renamed));
        let leaves: Vec<String> = descriptor.columns().iter().map(|leaf| leaf.path().string()).collect();
        assert_eq!(leaves, ["b", "\u{0}2", "places.list.element.y", "places.list.element.\u{0}6"]);
        let again = with_names(&renamed, &Names::of(&schema)).unwrap();
        assert!(Arc::ptr_eq(&again, &renamed), "a footer that needs no change is not copied");
    }
}
