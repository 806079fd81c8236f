//! Arrays of parameters, as text `{{1,2},{3,NULL}}` and in binary, as lists of lists.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;

use super::binary::Reader;
use super::{Value, text};
use crate::error::{Error, Result};
use crate::value::output::TimeZone;
use crate::value::types;

/// PostgreSQL's `MAXDIM`.
const DIMENSIONS_MAX: usize = 6;
/// An item takes at least its length in a binary array.
const ITEM_BYTES_MIN: usize = 4;

/// Reads an array whose scalars are of the type `element`.
pub(super) fn parse(input: &str, element: u32, time_zone: &TimeZone) -> Result<Value> {
    let malformed = || Error::InvalidText(format!("malformed array literal: \"{input}\""));
    // Bounds, as in `[0:1]={1,2}`, say nothing about a list.
    let body = match input.trim().strip_prefix('[').and_then(|bounds| bounds.split_once("]={")) {
        Some((_, _)) => input.trim().split_once('=').map_or("", |(_, body)| body),
        None => input.trim(),
    };
    let mut parser = Parser { rest: body, element, time_zone, malformed: &malformed };
    let items = parser.list(1)?;
    if parser.rest.is_empty() { Ok(Value::Array(items)) } else { Err(malformed()) }
}

struct Parser<'a> {
    rest: &'a str,
    element: u32,
    time_zone: &'a TimeZone,
    malformed: &'a dyn Fn() -> Error,
}

impl Parser<'_> {
    fn list(&mut self, depth: usize) -> Result<Vec<Option<Value>>> {
        if depth > DIMENSIONS_MAX {
            return Err(too_deep(depth));
        }
        if !self.skip('{') {
            return Err((self.malformed)());
        }
        let mut items = Vec::new();
        if self.skip('}') {
            return Ok(items);
        }
        loop {
            items.push(self.item(depth)?);
            if self.skip('}') {
                return Ok(items);
            }
            if !self.skip(',') {
                return Err((self.malformed)());
            }
        }
    }

    /// Steps over `wanted` and the spaces around it, if it is next.
    fn skip(&mut self, wanted: char) -> bool {
        match self.rest.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn item(&mut self, depth: usize) -> Result<Option<Value>> {
        if self.rest.starts_with('{') {
            return Ok(Some(Value::Array(self.list(depth + 1)?)));
        }
        let (item, quoted) = self.word()?;
        if !quoted && item.eq_ignore_ascii_case("NULL") {
            return Ok(None);
        }
        text::decode(&item, self.element, self.time_zone).map(Some)
    }

    /// Reads up to the next delimiter; the flag says whether the word stood in quotes.
    fn word(&mut self) -> Result<(String, bool)> {
        let quoted = self.rest.starts_with('"');
        let mut word = String::new();
        let mut chars = self.rest.char_indices().skip(usize::from(quoted));
        while let Some((at, next)) = chars.next() {
            match next {
                '\\' => word.extend(chars.next().map(|(_, escaped)| escaped)),
                '"' if quoted => {
                    self.rest = &self.rest[at + 1..];
                    return Ok((word, true));
                }
                ',' | '}' if !quoted && !word.trim().is_empty() => {
                    self.rest = &self.rest[at..];
                    return Ok((word.trim_end().to_owned(), false));
                }
                '{' | '}' | '"' | ',' if !quoted => break,
                other => word.push(other),
            }
        }
        Err((self.malformed)())
    }
}

/// Reads a binary array.
pub(super) fn receive(reader: &mut Reader) -> Result<Value> {
    let (dimensions, _has_null, element) = (reader.i32()?, reader.i32()?, reader.i32()? as u32);
    let dimensions = usize::try_from(dimensions).unwrap_or(usize::MAX);
    if dimensions > DIMENSIONS_MAX {
        return Err(too_deep(dimensions));
    }
    let mut lengths = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        let (length, _first) = (reader.i32()?, reader.i32()?);
        lengths.push(
            usize::try_from(length).map_err(|_| Error::InvalidBinary("invalid array size".to_owned()))?,
        );
    }
    let count = lengths.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
    if dimensions > 0 && count.is_none_or(|count| count > reader.remaining() / ITEM_BYTES_MIN) {
        return Err(Error::Protocol("insufficient data left in message".to_owned()));
    }
    items(reader, &lengths, element).map(Value::Array)
}

fn items(reader: &mut Reader, lengths: &[usize], element: u32) -> Result<Vec<Option<Value>>> {
    match lengths {
        [] => Ok(Vec::new()),
        [length] => (0..*length).map(|_| reader.item(element)).collect(),
        // Nothing is left to read in a dimension below an empty one.
        lengths if lengths.contains(&0) => Ok(Vec::new()),
        [length, inner @ ..] => {
            (0..*length).map(|_| items(reader, inner, element).map(|list| Some(Value::Array(list)))).collect()
        }
    }
}

fn too_deep(dimensions: usize) -> Error {
    Error::LimitExceeded(format!(
        "number of array dimensions ({dimensions}) exceeds the maximum allowed ({DIMENSIONS_MAX})"
    ))
}

/// Turns items into a list of the type `target`.
pub(super) fn fit(items: Vec<Option<Value>>, target: &DataType, time_zone: &TimeZone) -> Result<ScalarValue> {
    let element = types::list_element(target)
        .ok_or_else(|| Error::DatatypeMismatch(format!("an array cannot be a value of type {target}")))?;
    let depth = types::list_element(element.data_type()).is_some();
    let mut scalars = Vec::with_capacity(items.len());
    for item in items {
        scalars.push(match item {
            None => ScalarValue::try_new_null(element.data_type())?,
            Some(Value::Array(_)) if !depth => return Err(dimensions_differ(target)),
            Some(Value::Array(inner)) => fit(inner, element.data_type(), time_zone)?,
            Some(_) if depth => return Err(dimensions_differ(target)),
            // All items of a list have one type, so a decimal is rounded to it here.
            Some(value) => value.fit(element.data_type(), time_zone)?.cast_to(element.data_type())?,
        });
    }
    let list = ScalarValue::List(ScalarValue::new_list(&scalars, element.data_type(), true));
    let plain = DataType::List(Arc::new(Field::new_list_field(element.data_type().clone(), true)));
    if *target == plain { Ok(list) } else { Ok(list.cast_to(target)?) }
}

fn dimensions_differ(target: &DataType) -> Error {
    Error::DatatypeMismatch(format!("an array of other dimensions than {target}"))
}
