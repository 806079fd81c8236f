//! Arrays: lists of scalars, of any depth, and the vectors of the system catalogs.
//!
//! The scalars at the bottom are written as one column; an array is then put together from their
//! cells. PostgreSQL's arrays are rectangular: what is not has a text, but no binary form.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};

use super::cells::Cells;
use super::column::{self, Target};
use crate::error::{Error, Result};
use crate::value::types::{self, Format, oid};

/// Appends one cell for each of `rows` of `array`, which is a list.
pub(super) fn write(cells: &mut Cells, array: &ArrayRef, rows: Range<usize>, target: Target) -> Result<()> {
    let element = types::element_oid(target.oid).ok_or_else(|| {
        Error::Unsupported(format!(
            "{} cannot be sent as {}",
            array.data_type(),
            types::type_name(target.oid)
        ))
    })?;
    let nest = Nest::new(array, rows.clone(), Target { oid: element, ..target })?;
    let vector = matches!(target.oid, oid::INT2VECTOR | oid::OIDVECTOR);
    let top = nest.levels[0].clone();
    // The first level was cut to `rows`.
    cells.fill(0..rows.len(), top.nulls(), |out, row| {
        let items = nest.items(0, row);
        match target.format {
            Format::Text if vector => nest.put_vector(out, items),
            Format::Text => nest.put_text(out, items),
            Format::Binary => nest.put_binary(out, items, element, i32::from(!vector))?,
        }
        Ok(())
    })
}

/// Lists within lists, with the cells of the scalars at the bottom.
struct Nest {
    levels: Vec<ListArray>,
    leaf: Cells,
    /// The row of the bottom array that the first cell stands for.
    leaf_start: usize,
}

impl Nest {
    fn new(array: &ArrayRef, rows: Range<usize>, element: Target) -> Result<Self> {
        let mut levels = Vec::new();
        let mut array = column::plain(&array.slice(rows.start, rows.len()))?;
        let mut rows = 0..array.len();
        while let Some(list) = array.as_list_opt::<i32>() {
            let offsets = list.value_offsets();
            rows = offsets[rows.start] as usize..offsets[rows.end] as usize;
            let values = list.values();
            let next = if types::list_element(values.data_type()).is_some() {
                column::plain(values)?
            } else {
                values.clone()
            };
            levels.push(list.clone());
            array = next;
        }
        let mut leaf = Cells::default();
        column::write(&mut leaf, &array, rows.clone(), element)?;
        Ok(Self { levels, leaf, leaf_start: rows.start })
    }

    /// The items of one list, as rows of the level below.
    fn items(&self, level: usize, row: usize) -> Range<usize> {
        let offsets = self.levels[level].value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    fn value(&self, row: usize) -> Option<&[u8]> {
        self.leaf.value(row - self.leaf_start)
    }

    /// The length in each dimension, `None` when lists beside each other differ or one is null.
    fn dimensions(&self, level: usize, items: Range<usize>) -> Option<Vec<usize>> {
        let mut dimensions = vec![items.len()];
        if level + 1 == self.levels.len() {
            return Some(dimensions);
        }
        let mut inner: Option<Vec<usize>> = None;
        for row in items {
            if self.levels[level + 1].is_null(row) {
                return None;
            }
            let found = self.dimensions(level + 1, self.items(level + 1, row))?;
            if inner.get_or_insert_with(|| found.clone()) != &found {
                return None;
            }
        }
        dimensions.extend(inner.unwrap_or_default());
        Some(dimensions)
    }

    /// Appends `{{1,NULL},{3,"a b"}}`.
    fn put_text(&self, out: &mut Vec<u8>, items: Range<usize>) {
        // However many empty lists a list holds, PostgreSQL knows one empty array.
        let empty = self.levels.len() > 1
            && self.dimensions(0, items.clone()).is_some_and(|dimensions| dimensions.contains(&0));
        self.put_level(out, 0, if empty { 0..0 } else { items });
    }

    fn put_level(&self, out: &mut Vec<u8>, level: usize, items: Range<usize>) {
        out.push(b'{');
        for (position, row) in items.enumerate() {
            if position > 0 {
                out.push(b',');
            }
            match self.levels.get(level + 1) {
                Some(inner) if inner.is_null(row) => out.extend_from_slice(b"NULL"),
                Some(_) => self.put_level(out, level + 1, self.items(level + 1, row)),
                None => match self.value(row) {
                    Some(value) => put_item(out, value),
                    None => out.extend_from_slice(b"NULL"),
                },
            }
        }
        out.push(b'}');
    }

    /// Appends `1 2 3`.
    fn put_vector(&self, out: &mut Vec<u8>, items: Range<usize>) {
        for (position, value) in items.filter_map(|row| self.value(row)).enumerate() {
            if position > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(value);
        }
    }

    /// Appends the header, the dimensions, and the items as their cells lie.
    fn put_binary(&self, out: &mut Vec<u8>, items: Range<usize>, element: u32, first: i32) -> Result<()> {
        let mut dimensions = self.dimensions(0, items.clone()).ok_or_else(ragged)?;
        if dimensions.contains(&0) {
            dimensions.clear();
        }
        let leaves = self.leaves(items);
        let has_null = leaves.clone().any(|cell| self.leaf.value(cell).is_none());
        out.extend_from_slice(&(dimensions.len() as i32).to_be_bytes());
        out.extend_from_slice(&i32::from(has_null).to_be_bytes());
        out.extend_from_slice(&element.to_be_bytes());
        for length in dimensions {
            out.extend_from_slice(&(length as i32).to_be_bytes());
            out.extend_from_slice(&first.to_be_bytes());
        }
        out.extend_from_slice(&self.leaf.bytes()[self.leaf.span(leaves)]);
        Ok(())
    }

    /// The cells below one list, which lie one behind another.
    fn leaves(&self, mut items: Range<usize>) -> Range<usize> {
        for level in &self.levels[1..] {
            let offsets = level.value_offsets();
            items = offsets[items.start] as usize..offsets[items.end] as usize;
        }
        items.start - self.leaf_start..items.end - self.leaf_start
    }
}

fn ragged() -> Error {
    Error::Unsupported("multidimensional arrays must have sub-arrays with matching dimensions".to_owned())
}

/// Appends one item, in quotes where the array's syntax would take it for something else.
fn put_item(out: &mut Vec<u8>, value: &[u8]) {
    if !needs_quotes(value) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn needs_quotes(value: &[u8]) -> bool {
    let special = |byte: &u8| {
        matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
    };
    value.is_empty() || value.eq_ignore_ascii_case(b"NULL") || value.iter().any(special)
}
