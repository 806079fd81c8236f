//! Regular expressions: the functions that DataFusion has not.
//!
//! The language is that of the engine's own operators (`~`), which lacks look-around and back references.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use regex::{Captures, Regex};

use super::json::{texts, texts_type};
use super::row::{RowFunction, Values, failure};
use crate::error::Error;

/// Name of the function behind `substring(text FROM pattern)`.
pub const SUBSTRING: &str = "substring_regex";
/// How many patterns a thread keeps compiled.
const COMPILED_MAX: usize = 32;
/// How large a compiled pattern may become.
const PATTERN_BYTES_MAX: usize = 10 << 20;

pub(super) fn functions() -> Vec<RowFunction> {
    let list_of_texts = DataType::new_list(texts_type(), true);
    vec![
        RowFunction::new(SUBSTRING, 2..=2, DataType::Utf8, |values| {
            let text = values.text(0).unwrap_or_default();
            let regex = compiled(values, 1, 2)?;
            Ok(ScalarValue::Utf8(regex.captures(&text).and_then(|found| first(&found))))
        }),
        RowFunction::new("regexp_substr", 2..=2, DataType::Utf8, |values| {
            let text = values.text(0).unwrap_or_default();
            let found = compiled(values, 1, 2)?.find(&text).map(|found| found.as_str().to_owned());
            Ok(ScalarValue::Utf8(found))
        }),
        RowFunction::new("regexp_split_to_array", 2..=3, texts_type(), |values| {
            let text = values.text(0).unwrap_or_default();
            let regex = compiled(values, 1, 2)?;
            Ok(texts(split(&regex, &text).into_iter().map(|part| Some(part.to_owned())).collect()))
        }),
        // The rows of `regexp_matches`, each a list of groups.
        RowFunction::new("regexp_matches", 2..=3, list_of_texts, |values| {
            let text = values.text(0).unwrap_or_default();
            let regex = compiled(values, 1, 2)?;
            let all = values.text(2).is_some_and(|flags| flags.contains('g'));
            let found = regex.captures_iter(&text).take(if all { usize::MAX } else { 1 });
            let rows: Vec<ScalarValue> = found.map(|found| texts(groups(&found))).collect();
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&rows, &texts_type())))
        }),
    ]
}

/// The first group, or all that matched where there is none.
fn first(found: &Captures<'_>) -> Option<String> {
    let group = if found.len() > 1 { found.get(1) } else { found.get(0) };
    group.map(|group| group.as_str().to_owned())
}

fn groups(found: &Captures<'_>) -> Vec<Option<String>> {
    let from = usize::from(found.len() > 1);
    let group = |at| found.get(at).map(|group| group.as_str().to_owned());
    (from..found.len()).map(group).collect()
}

/// The parts between matches; a match of nothing at either end parts nothing.
fn split<'t>(regex: &Regex, text: &'t str) -> Vec<&'t str> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for found in regex.find_iter(text) {
        if found.is_empty() && (found.start() == 0 || found.start() == text.len()) {
            continue;
        }
        parts.push(&text[from..found.start()]);
        from = found.end();
    }
    parts.push(&text[from..]);
    parts
}

/// The pattern of an argument, with the flags of another.
fn compiled(values: &Values<'_>, pattern: usize, flags: usize) -> Result<Rc<Regex>> {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, Rc<Regex>>> = RefCell::default();
    }
    let mut own = String::new();
    for flag in values.text(flags).unwrap_or_default().chars() {
        match flag {
            'g' => {}
            'i' | 'x' | 's' => own.push(flag),
            'c' => own.retain(|known| known != 'i'),
            'n' | 'm' => own.push('m'),
            _ => return Err(values.refuse(&format!("invalid regular expression option: \"{flag}\""))),
        }
    }
    let pattern = values.text(pattern).unwrap_or_default();
    let text = if own.is_empty() { pattern } else { format!("(?{own}){pattern}") };
    KNOWN.with_borrow_mut(|known| {
        if let Some(regex) = known.get(&text) {
            // Its cache lives on with it; a clone would begin a new one.
            return Ok(Rc::clone(regex));
        }
        let built = regex::RegexBuilder::new(&text).size_limit(PATTERN_BYTES_MAX).build();
        let regex = Rc::new(built.map_err(|error| {
            failure(Error::InvalidParameter(format!("invalid regular expression: {error}")))
        })?);
        if known.len() >= COMPILED_MAX {
            known.clear();
        }
        known.insert(text, Rc::clone(&regex));
        Ok(regex)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_where_postgres_splits_them() {
        let parts = |pattern: &str, text: &str| {
            split(&Regex::new(pattern).unwrap(), text).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(parts(r"\s+", "hello  world foo"), ["hello", "world", "foo"]);
        assert_eq!(parts("", "abc"), ["a", "b", "c"]);
        assert_eq!(parts(",", ",a,,"), ["", "a", "", ""]);
        assert_eq!(parts("x", ""), [""]);
    }
}
