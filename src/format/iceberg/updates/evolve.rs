//! Columns and partitions that another engine changes on a table that is there.
//!
//! What a client sends is a whole schema, not what it did. It is taken if files of every earlier schema can be
//! read as this one, by their field ids, and if the rules of the table mean the same of it: then it is as
//! if `ALTER TABLE` had made it. What only the rows can tell, that none of them is null, is left to
//! `ALTER TABLE`.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::format::iceberg::metadata::{PartitionSpec, TableMetadata};
use crate::format::iceberg::schema::{Field, Nested, Schema, Type};
use crate::format::iceberg::stage::{becomes, ensure_readable};

/// Checks that the columns and partitions of `draft` can follow those of `base`; lets go of defaults that columns
/// took with them.
///
/// # Errors
/// [`Error::Unsupported`] for what would need rows to be read, or files to be written, anew.
pub(super) fn ensure_follows(base: &TableMetadata, draft: &mut TableMetadata) -> Result<()> {
    ensure_partitionable(draft)?;
    let (before, after) = (base.current_schema(), draft.current_schema());
    if before == after {
        return Ok(());
    }
    if base.current_snapshot().is_some() {
        let known = Known { base };
        known.follow(&before.fields, &after.fields)?;
        ensure_readable(base, after)?;
        ensure_sources_stay(before, draft)?;
    }
    ensure_ruled(base, draft)
}

/// A table whose ids and types are known.
struct Known<'a> {
    base: &'a TableMetadata,
}

impl Known<'_> {
    fn follow(&self, before: &[Field], after: &[Field]) -> Result<()> {
        for field in after {
            match before.iter().find(|known| known.id == field.id) {
                Some(known) => self.follow_field(known, field)?,
                None => self.ensure_new(field)?,
            }
        }
        Ok(())
    }

    fn follow_field(&self, before: &Field, after: &Field) -> Result<()> {
        let refused = |why: &str| Err(Error::Unsupported(format!("column \"{}\" {why}", after.name)));
        if after.required && !before.required {
            return refused(
                "cannot be made NOT NULL from here, because rows may be null: ALTER TABLE looks at them",
            );
        }
        match self.follow_kind(&before.kind, &after.kind)? {
            true => Ok(()),
            false => refused("cannot get this type: files would have to be written anew"),
        }
    }

    /// A column that is new, or that was dropped and comes back.
    fn ensure_new(&self, field: &Field) -> Result<()> {
        if field.required {
            let message = format!("column \"{}\" is NOT NULL, and rows that are there lack it", field.name);
            return Err(Error::Unsupported(message));
        }
        let earlier = self.base.schemas.iter().rev().find_map(|schema| field_of(&schema.fields, field.id));
        let is_known = match earlier {
            Some(known) => self.follow_kind(&known.kind, &field.kind)?,
            None => field.id > self.base.last_column_id,
        };
        match is_known {
            true => Ok(()),
            false => {
                let message = format!("column \"{}\" has the field id of another one", field.name);
                Err(Error::InvalidParameter(message))
            }
        }
    }

    fn follow_kind(&self, before: &Type, after: &Type) -> Result<bool> {
        match (before, after) {
            (Type::Primitive(before), Type::Primitive(after)) => {
                Ok(before == after || becomes(*before, *after))
            }
            (Type::Nested(before), Type::Nested(after)) => self.follow_nested(before, after),
            _ => Ok(false),
        }
    }

    fn follow_nested(&self, before: &Nested, after: &Nested) -> Result<bool> {
        match (before, after) {
            (Nested::Struct { fields: before }, Nested::Struct { fields: after }) => {
                self.follow(before, after).map(|()| true)
            }
            (
                Nested::List { element_id: id, element_required: required, element },
                Nested::List { element_id, element_required, element: after },
            ) => Ok(id == element_id
                && (*required || !element_required)
                && self.follow_kind(element, after)?),
            (
                Nested::Map { key_id: id, key, value_id: of_value, value_required: required, value },
                Nested::Map { key_id, key: key_after, value_id, value_required, value: value_after },
            ) => Ok((id, of_value) == (key_id, value_id)
                && key == key_after
                && (*required || !value_required)
                && self.follow_kind(value, value_after)?),
            _ => Ok(false),
        }
    }
}

/// The field with this id, top-level or within structs.
fn field_of(fields: &[Field], id: i32) -> Option<&Field> {
    fields.iter().find_map(|field| match &field.kind {
        _ if field.id == id => Some(field),
        Type::Nested(Nested::Struct { fields }) => field_of(fields, id),
        _ => None,
    })
}

/// Our writer partitions by columns, not by fields within them.
fn ensure_partitionable(draft: &TableMetadata) -> Result<()> {
    let is_column = |id: i32| draft.current_schema().fields.iter().any(|column| column.id == id);
    match draft.default_spec().fields.iter().find(|field| !is_column(field.source_id)) {
        None => Ok(()),
        Some(field) => {
            let message = format!("partition \"{}\" is made of a field within a column", field.name);
            Err(Error::Unsupported(message))
        }
    }
}

/// Refuses a schema without a column by which files are partitioned, in another type, or with the name of a
/// partition that is made of another.
fn ensure_sources_stay(before: &Schema, draft: &TableMetadata) -> Result<()> {
    let after = draft.current_schema();
    for field in draft.partition_specs.iter().flat_map(|spec| &spec.fields) {
        let kind = after.primitive(field.source_id);
        if kind.is_none() || kind != before.primitive(field.source_id) {
            let message = format!(
                "the column of partition \"{}\", by which files are partitioned, must stay as it is",
                field.name
            );
            return Err(Error::Unsupported(message));
        }
        let namesake = after.field(&field.name);
        if namesake.is_some_and(|column| column.id != field.source_id) {
            return Err(Error::Unsupported(format!(
                "\"{}\" is the name of a partition of this table",
                field.name
            )));
        }
    }
    Ok(())
}

/// Refuses to take columns away from under constraints, to rename them, or to let a primary key be null.
fn ensure_ruled(base: &TableMetadata, draft: &mut TableMetadata) -> Result<()> {
    let mut rules = base.rules()?;
    let after = draft.current_schema();
    let ids: HashSet<i32> = after.fields.iter().map(|field| field.id).collect();
    if let Some(key) = rules.keys.iter().find(|key| key.columns.iter().any(|id| !ids.contains(id))) {
        let message = format!("a column of constraint \"{}\" cannot be dropped from here", key.name);
        return Err(Error::Unsupported(message));
    }
    let is_loose = |id: &i32| after.fields.iter().any(|field| field.id == *id && !field.required);
    if let Some(key) = rules.primary_key().filter(|key| key.columns.iter().any(is_loose)) {
        let message = format!("a column of primary key \"{}\" cannot be made nullable", key.name);
        return Err(Error::Unsupported(message));
    }
    // Conditions name columns.
    if !rules.checks.is_empty() && !keeps_names(base.current_schema(), after) {
        let message = "columns of a table with CHECK constraints are dropped and renamed by ALTER TABLE only";
        return Err(Error::Unsupported(message.to_owned()));
    }
    if rules.defaults.keys().any(|id| !ids.contains(id)) {
        rules.defaults.retain(|id, _| ids.contains(id));
        draft.set_rules(&rules)?;
    }
    Ok(())
}

fn keeps_names(before: &Schema, after: &Schema) -> bool {
    before
        .fields
        .iter()
        .all(|field| after.fields.iter().any(|one| (one.id, &one.name) == (field.id, &field.name)))
}

/// Refuses a spec in which a field has the id or the name of another one that the table has had.
///
/// # Errors
/// [`Error::InvalidParameter`].
pub(super) fn ensure_distinct_fields(known: &[PartitionSpec], spec: &PartitionSpec) -> Result<()> {
    for field in &spec.fields {
        let mut others = known
            .iter()
            .flat_map(|spec| &spec.fields)
            .filter(|one| (one.source_id, one.transform) != (field.source_id, field.transform));
        if others.any(|other| other.field_id == field.field_id || other.name == field.name) {
            let message = format!("partition field \"{}\" has the id or the name of another one", field.name);
            return Err(Error::InvalidParameter(message));
        }
    }
    Ok(())
}
