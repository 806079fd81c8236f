//! Json: structs, maps, unions and lists of those, written as PostgreSQL's `to_json` does.
//!
//! Column by column as everywhere: the children of a struct are written into cells, and its objects
//! put together from them.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, UnionArray};
use arrow::datatypes::{DataType, Field, Fields};

use super::cells::Cells;
use super::column::{self, Target};
use super::style::{DateLayout, DateStyle, EncodeOptions};
use crate::error::Result;
use crate::value::types::{self, Format, oid};

/// Appends one cell of json for each of `rows`.
pub(super) fn write(cells: &mut Cells, array: &ArrayRef, rows: Range<usize>, target: Target) -> Result<()> {
    let date_style = DateStyle { layout: DateLayout::Xsd, ..target.options.date_style };
    let options = EncodeOptions { date_style, ..target.options.clone() };
    write_json(cells, array, rows, oid::JSON, &options)
}

/// Writes `array`, whose values taken by themselves are of the type `oid`.
fn write_json(
    cells: &mut Cells,
    array: &ArrayRef,
    rows: Range<usize>,
    oid: u32,
    options: &EncodeOptions,
) -> Result<()> {
    match array.data_type() {
        DataType::Struct(fields) => write_objects(cells, array, rows, fields, options),
        DataType::Map(entries, _) => write_maps(cells, array, rows, entries, options),
        DataType::Union(..) => write_unions(cells, array, rows, options),
        DataType::Boolean => {
            let values = array.as_boolean().values();
            cells.fill(rows, array.nulls(), |out, row| {
                out.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
                Ok(())
            })
        }
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => {
            let array = column::plain(&array.slice(rows.start, rows.len()))?;
            write_json(cells, &array, 0..array.len(), oid, options)
        }
        list if types::list_element(list).is_some() => write_lists(cells, array, rows, options),
        scalar => {
            let is_bare = scalar.is_numeric();
            let is_json = matches!(oid, oid::JSON | oid::JSONB);
            let text = text_cells(array, rows.clone(), oid, options)?;
            put_scalars(cells, &text, |value| is_json || is_bare && is_number(value))
        }
    }
}

/// The cells of scalars as text.
fn text_cells(array: &ArrayRef, rows: Range<usize>, oid: u32, options: &EncodeOptions) -> Result<Cells> {
    let mut cells = Cells::default();
    column::write(&mut cells, array, rows, Target { oid, format: Format::Text, options })?;
    Ok(cells)
}

/// Infinity and NaN have no number in json, and stand as strings.
fn is_number(value: &[u8]) -> bool {
    value.last().is_some_and(u8::is_ascii_digit)
}

fn put_scalars(cells: &mut Cells, text: &Cells, is_bare: impl Fn(&[u8]) -> bool) -> Result<()> {
    for row in 0..text.len() {
        match text.value(row) {
            None => cells.push_null(),
            Some(value) => cells.push(|out| {
                if is_bare(value) {
                    out.extend_from_slice(value);
                } else {
                    put_string(out, value);
                }
                Ok(())
            })?,
        }
    }
    Ok(())
}

fn field_cells(
    array: &ArrayRef,
    rows: Range<usize>,
    field: &Field,
    options: &EncodeOptions,
) -> Result<Cells> {
    let mut cells = Cells::default();
    write_json(&mut cells, array, rows, types::pg_type(field).oid, options)?;
    Ok(cells)
}

fn write_objects(
    cells: &mut Cells,
    array: &ArrayRef,
    rows: Range<usize>,
    fields: &Fields,
    options: &EncodeOptions,
) -> Result<()> {
    let columns = array.as_struct().columns();
    let children = fields.iter().zip(columns).map(|(field, column)| {
        let mut key = Vec::new();
        put_string(&mut key, field.name().as_bytes());
        key.push(b':');
        Ok((key, field_cells(column, rows.clone(), field, options)?))
    });
    let children = children.collect::<Result<Vec<_>>>()?;
    let start = rows.start;
    cells.fill(rows, array.nulls(), |out, row| {
        out.push(b'{');
        for (position, (key, values)) in children.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            put_value(out, values, row - start);
        }
        out.push(b'}');
        Ok(())
    })
}

fn write_maps(
    cells: &mut Cells,
    array: &ArrayRef,
    rows: Range<usize>,
    entries: &Field,
    options: &EncodeOptions,
) -> Result<()> {
    let maps = array.as_map();
    let offsets = maps.value_offsets();
    let inner = offsets[rows.start] as usize..offsets[rows.end] as usize;
    let start = inner.start;
    let (key_oid, values) = match entries.data_type() {
        DataType::Struct(fields) => {
            let values = field_cells(maps.values(), inner.clone(), &fields[1], options)?;
            (types::pg_type(&fields[0]).oid, values)
        }
        _ => (oid::TEXT, Cells::default()),
    };
    let keys = text_cells(maps.keys(), inner, key_oid, options)?;
    cells.fill(rows, array.nulls(), |out, row| {
        out.push(b'{');
        for (position, entry) in
            (offsets[row] as usize - start..offsets[row + 1] as usize - start).enumerate()
        {
            if position > 0 {
                out.push(b',');
            }
            put_string(out, keys.value(entry).unwrap_or_default());
            out.push(b':');
            put_value(out, &values, entry);
        }
        out.push(b'}');
        Ok(())
    })
}

fn write_lists(
    cells: &mut Cells,
    array: &ArrayRef,
    rows: Range<usize>,
    options: &EncodeOptions,
) -> Result<()> {
    let array = column::plain(&array.slice(rows.start, rows.len()))?;
    let list = array.as_list::<i32>();
    let offsets = list.value_offsets();
    let start = offsets[0] as usize;
    let inner = start..offsets[list.len()] as usize;
    let element = types::list_element(array.data_type()).expect("a plain list is a list");
    let items = field_cells(list.values(), inner, element, options)?;
    cells.fill(0..list.len(), array.nulls(), |out, row| {
        out.push(b'[');
        for (position, item) in (offsets[row] as usize - start..offsets[row + 1] as usize - start).enumerate()
        {
            if position > 0 {
                out.push(b',');
            }
            put_value(out, &items, item);
        }
        out.push(b']');
        Ok(())
    })
}

/// A union's value is that of its member, without the member's name.
fn write_unions(
    cells: &mut Cells,
    array: &ArrayRef,
    rows: Range<usize>,
    options: &EncodeOptions,
) -> Result<()> {
    let union = array.as_any().downcast_ref::<UnionArray>().expect("the type is a union");
    let DataType::Union(members, _) = array.data_type() else { unreachable!("the type is a union") };
    for row in rows {
        let type_id = union.type_id(row);
        let at = union.value_offset(row);
        let member = members.iter().find(|(id, _)| *id == type_id);
        let field = member.map(|(_, field)| field).expect("each type id names a member");
        let value = field_cells(union.child(type_id), at..at + 1, field, options)?;
        match value.value(0) {
            Some(value) => cells.push(|out| {
                out.extend_from_slice(value);
                Ok(())
            })?,
            None => cells.push_null(),
        }
    }
    Ok(())
}

fn put_value(out: &mut Vec<u8>, values: &Cells, row: usize) {
    out.extend_from_slice(values.value(row).unwrap_or(b"null"));
}

/// Appends a string of json: quotes, backslashes and control characters are escaped.
fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}
