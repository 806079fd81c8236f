//! Evolution: how `ALTER TABLE` changes a table's columns, by their field ids, without its files.
//!
//! A column keeps its id under every name and in every place, and no id is ever used again, so files
//! that were written before stay what they are. Only what every reader of Iceberg understands is
//! done: types become wider as the specification allows, and nothing else.
//!
//! Source: <https://iceberg.apache.org/spec/#schema-evolution>

use std::collections::HashSet;

use arrow::datatypes::{self, DataType, FieldRef};

use super::definition::set_schema;
use crate::error::{Error, Result};
use crate::format::iceberg::columns::{primitive, with_fresh_ids};
use crate::format::iceberg::metadata::TableMetadata;
use crate::format::iceberg::schema::{Field, Nested, Primitive, Schema, Type};

/// One change to the columns of a table. A path names a column, or a field within one; the items of a
/// list are its field `element`.
#[derive(Debug, Clone)]
pub enum Evolution {
    /// Adds a column at the end, or where `place` says. It has no value in the rows that are there.
    Add {
        /// Of what it is added to; empty for the table itself.
        parent: Vec<String>,
        field: FieldRef,
        place: Option<Place>,
    },
    Drop {
        path: Vec<String>,
    },
    Rename {
        path: Vec<String>,
        to: String,
    },
    Widen {
        path: Vec<String>,
        to: DataType,
    },
    SetRequired {
        path: Vec<String>,
        required: bool,
    },
    Move {
        path: Vec<String>,
        place: Place,
    },
}

/// A place among the columns of a table, or the fields of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    First,
    After(String),
}

impl Evolution {
    /// Whether it holds only for the rows that there are now.
    pub(super) fn relies_on_rows(&self) -> bool {
        match self {
            Self::Add { field, .. } => !field.is_nullable(),
            Self::SetRequired { required, .. } => *required,
            _ => false,
        }
    }
}

/// Gives `draft` the columns that `evolution` makes of its own.
///
/// # Errors
/// [`Error::ColumnNotFound`], [`Error::AlreadyExists`] for a name that is taken, [`Error::Unsupported`]
/// for what would need files to be rewritten.
pub(super) fn evolve(draft: &mut TableMetadata, evolution: &Evolution) -> Result<()> {
    let mut schema = draft.current_schema().clone();
    match evolution {
        Evolution::Add { parent, field, place } => add(draft, &mut schema, parent, field, place.as_ref())?,
        Evolution::Drop { path } => drop_field(draft, &mut schema, path)?,
        Evolution::Rename { path, to } => {
            let (siblings, at) = find(&mut schema.fields, path)?;
            refuse_taken(siblings, to)?;
            siblings[at].name.clone_from(to);
            let id = siblings[at].id;
            refuse_partition_name(draft, path.len() == 1, to, Some(id))?;
        }
        Evolution::Widen { path, to } => widen(draft, &mut schema, path, to)?,
        Evolution::SetRequired { path, required } => {
            let (siblings, at) = find(&mut schema.fields, path)?;
            if *required && path.len() > 1 {
                let message = "NOT NULL of a field within a column is not supported".to_owned();
                return Err(Error::Unsupported(message));
            }
            siblings[at].required = *required;
        }
        Evolution::Move { path, place } => {
            let (siblings, at) = find(&mut schema.fields, path)?;
            let field = siblings.remove(at);
            put(siblings, field, Some(place))?;
        }
    }
    ensure_readable(draft, &schema)?;
    set_schema(draft, schema);
    Ok(())
}

fn add(
    draft: &TableMetadata,
    schema: &mut Schema,
    parent: &[String],
    field: &FieldRef,
    place: Option<&Place>,
) -> Result<()> {
    let alone = datatypes::Schema::new(vec![field.clone()]);
    let mut fields = with_fresh_ids(&alone, draft.last_column_id)?.fields;
    let field = fields.pop().ok_or_else(|| Error::Internal("a column got lost".to_owned()))?;
    refuse_partition_name(draft, parent.is_empty(), &field.name, None)?;
    let siblings = fields_within(&mut schema.fields, parent)?;
    refuse_taken(siblings, &field.name)?;
    put(siblings, field, place)
}

fn drop_field(draft: &TableMetadata, schema: &mut Schema, path: &[String]) -> Result<()> {
    let (siblings, at) = find(&mut schema.fields, path)?;
    let name = path.join(".");
    if siblings.len() == 1 {
        return Err(Error::InvalidDefinition(format!("cannot drop \"{name}\": nothing would be left")));
    }
    let dropped = siblings.remove(at);
    if is_partition_source(draft, &dropped) {
        return Err(Error::Unsupported(format!(
            "cannot drop column \"{name}\": files of the table are partitioned by it"
        )));
    }
    schema.forget_identifier(dropped.id);
    Ok(())
}

fn widen(draft: &TableMetadata, schema: &mut Schema, path: &[String], to: &DataType) -> Result<()> {
    let (siblings, at) = find(&mut schema.fields, path)?;
    let field = &mut siblings[at];
    let unsupported = |why: &str| {
        Error::Unsupported(format!(
            "cannot change the type of column \"{}\" to this one: {why}; add a column, fill it with UPDATE \
             and drop the old one",
            path.join(".")
        ))
    };
    let (Some(from), Some(wanted)) = (field.primitive(), primitive(to)) else {
        return Err(unsupported("only int to bigint, real to double precision and decimals to more digits"));
    };
    if from == wanted {
        return Ok(());
    }
    if !becomes(from, wanted) {
        return Err(unsupported("files would have to be rewritten"));
    }
    if is_partition_source(draft, field) {
        return Err(unsupported("files are partitioned by it"));
    }
    siblings[at].kind = Type::Primitive(wanted);
    Ok(())
}

/// Whether values of one type are read as those of the other, as every reader of Iceberg does it.
pub(in super::super) fn becomes(from: Primitive, to: Primitive) -> bool {
    match (from, to) {
        (Primitive::Int, Primitive::Long) | (Primitive::Float, Primitive::Double) => true,
        (Primitive::Decimal { precision, scale }, Primitive::Decimal { precision: wider, scale: same }) => {
            scale == same && wider > precision
        }
        _ => false,
    }
}

/// The fields of the table, or of the column at `path`.
fn fields_within<'a>(fields: &'a mut Vec<Field>, path: &[String]) -> Result<&'a mut Vec<Field>> {
    let Some((first, rest)) = path.split_first() else { return Ok(fields) };
    let at = position(fields, first)?;
    fields_of(&mut fields[at].kind, first, rest)
}

fn fields_of<'a>(kind: &'a mut Type, name: &str, rest: &[String]) -> Result<&'a mut Vec<Field>> {
    match (kind, rest.split_first()) {
        (Type::Nested(Nested::Struct { fields }), _) => fields_within(fields, rest),
        (Type::Nested(Nested::List { element, .. }), Some((word, rest))) if word == "element" => {
            fields_of(element, name, rest)
        }
        (Type::Nested(Nested::Map { .. }), _) => {
            Err(Error::Unsupported(format!("fields of the map \"{name}\" cannot be changed")))
        }
        _ => Err(Error::DatatypeMismatch(format!("column \"{name}\" has no fields of its own"))),
    }
}

/// The fields among which the one at `path` is, and its place.
fn find<'a>(fields: &'a mut Vec<Field>, path: &[String]) -> Result<(&'a mut Vec<Field>, usize)> {
    let (name, parent) = path.split_last().ok_or_else(|| Error::Internal("an empty path".to_owned()))?;
    let siblings = fields_within(fields, parent)?;
    let at = position(siblings, name)?;
    Ok((siblings, at))
}

fn position(fields: &[Field], name: &str) -> Result<usize> {
    let found = fields.iter().position(|field| field.name == name);
    let known = || fields.iter().map(|field| field.name.as_str());
    found.ok_or_else(|| Error::column_not_found(name, known()))
}

fn put(siblings: &mut Vec<Field>, field: Field, place: Option<&Place>) -> Result<()> {
    let at = match place {
        None => siblings.len(),
        Some(Place::First) => 0,
        Some(Place::After(name)) => position(siblings, name)? + 1,
    };
    siblings.insert(at, field);
    Ok(())
}

fn refuse_taken(siblings: &[Field], name: &str) -> Result<()> {
    match siblings.iter().any(|field| field.name == name) {
        true => Err(Error::AlreadyExists { kind: "column", name: name.to_owned() }),
        false => Ok(()),
    }
}

/// Other engines refuse a table of which a partition has the name of a column that it is not made of.
fn refuse_partition_name(draft: &TableMetadata, is_column: bool, name: &str, id: Option<i32>) -> Result<()> {
    let mut fields = draft.partition_specs.iter().flat_map(|spec| &spec.fields);
    match is_column && fields.any(|field| field.name == name && Some(field.source_id) != id) {
        true => Err(Error::Unsupported(format!("\"{name}\" is the name of a partition of this table"))),
        false => Ok(()),
    }
}

fn is_partition_source(draft: &TableMetadata, field: &Field) -> bool {
    let mut sources = draft.partition_specs.iter().flat_map(|spec| &spec.fields);
    sources.any(|partition| partition.source_id == field.id)
}

/// Whether files of every earlier version can be read as this one: a reader tells whether a struct is
/// null by a field that it finds in the file.
pub(in super::super) fn ensure_readable(draft: &TableMetadata, schema: &Schema) -> Result<()> {
    for earlier in &draft.schemas {
        for field in &schema.fields {
            let before = earlier.fields.iter().find(|before| before.id == field.id);
            if before.is_some_and(|before| !overlaps(&before.kind, &field.kind)) {
                return Err(Error::Unsupported(format!(
                    "nothing would be left of what files have of column \"{}\"",
                    field.name
                )));
            }
        }
    }
    Ok(())
}

fn overlaps(before: &Type, after: &Type) -> bool {
    let (Type::Nested(before), Type::Nested(after)) = (before, after) else { return true };
    match (before, after) {
        (Nested::Struct { fields: before }, Nested::Struct { fields: after }) => {
            let known: HashSet<i32> = before.iter().map(|field| field.id).collect();
            after.iter().any(|field| known.contains(&field.id))
                && before.iter().all(|old| {
                    let new = after.iter().find(|new| new.id == old.id);
                    new.is_none_or(|new| overlaps(&old.kind, &new.kind))
                })
        }
        (Nested::List { element: before, .. }, Nested::List { element: after, .. }) => {
            overlaps(before, after)
        }
        _ => true,
    }
}
