//! Functions and operators on json.
//!
//! A json is a text whose column is marked as one ([`PG_TYPE_KEY`](crate::value::types::PG_TYPE_KEY)); the
//! mark decides whether a value that goes into another json is put in as it is or quoted. Tables keep json
//! as text, so every function here takes texts as well. What makes json of other values is in [`build`];
//! this module takes it apart.

mod build;
mod change;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ScalarUDF;

pub use super::row::json_type;
use super::row::{RowFunction, Shown, Values, failure, text, utf8};
use crate::value::json::{self, Json};

/// Names of the functions behind operators: no name that is typed holds a blank.
pub const GET: &str = "json ->";
pub const GET_TEXT: &str = "json ->>";
pub const GET_PATH: &str = "json #>";
pub const GET_PATH_TEXT: &str = "json #>>";
pub const CONTAINS: &str = "json @>";
pub const HAS_KEY: &str = "json ?";
pub const HAS_ANY: &str = "json ?|";
pub const HAS_ALL: &str = "json ?&";
pub const CONCATENATE: &str = "json ||";
pub const DELETE: &str = "json -";
pub const DELETE_PATH: &str = "json #-";
/// What says of a text that it is json, without looking.
pub const MARK: &str = "json_marked";
pub const MARK_BINARY: &str = "jsonb_marked";
/// What becomes of the rows of `json_agg`, and of the keys and values of `json_object_agg`.
pub const COLLECT: &str = "json_agg_finalfn";
pub const COLLECT_OBJECT: &str = "json_object_agg_finalfn";

const UTF8: DataType = DataType::Utf8;

/// The function behind an operator.
pub fn operator(name: &'static str) -> Arc<ScalarUDF> {
    static ALL: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
        let all = functions().into_iter().map(RowFunction::into_udf);
        all.map(|function| (function.name().to_owned(), function)).collect()
    });
    Arc::clone(&ALL[name])
}

pub(super) fn functions() -> Vec<RowFunction> {
    [operators(), parts(), build::functions(), change::functions()].into_iter().flatten().collect()
}

/// Reading, marking, and what operators ask.
fn operators() -> Vec<RowFunction> {
    let given = |function: RowFunction| function.shown(Shown::AsGiven);
    vec![
        RowFunction::new("json", 1..=1, UTF8, |values| {
            let text = values.text(0).unwrap_or_default();
            Json::parse(&text).map_err(failure)?;
            Ok(utf8(text))
        })
        .shown(Shown::As("json")),
        RowFunction::new("jsonb", 1..=1, UTF8, |values| Ok(utf8(tree(values, 0)?.to_string())))
            .shown(Shown::As("jsonb")),
        RowFunction::new(MARK, 1..=1, UTF8, |values| Ok(or_null(values.text(0)))).shown(Shown::As("json")),
        RowFunction::new(MARK_BINARY, 1..=1, UTF8, |values| Ok(or_null(values.text(0))))
            .shown(Shown::As("jsonb")),
        given(RowFunction::new(GET, 2..=2, UTF8, |values| Ok(or_null(part(values)?)))),
        RowFunction::new(GET_TEXT, 2..=2, UTF8, |values| unquoted(part(values)?)),
        given(RowFunction::new(GET_PATH, 2..=2, UTF8, |values| {
            Ok(or_null(at_path(values, path(values, 1)?)?))
        })),
        RowFunction::new(GET_PATH_TEXT, 2..=2, UTF8, |values| unquoted(at_path(values, path(values, 1)?)?)),
        given(RowFunction::new("json_extract_path", 1..=100, UTF8, |values| {
            Ok(or_null(at_path(values, steps(values))?))
        }))
        .alias("jsonb_extract_path"),
        RowFunction::new("json_extract_path_text", 1..=100, UTF8, |values| {
            unquoted(at_path(values, steps(values))?)
        })
        .alias("jsonb_extract_path_text"),
        RowFunction::new(CONTAINS, 2..=2, DataType::Boolean, |values| {
            Ok(boolean(tree(values, 0)?.contains(&tree(values, 1)?)))
        })
        .alias("jsonb_contains"),
        RowFunction::new(HAS_KEY, 2..=2, DataType::Boolean, |values| {
            Ok(boolean(has(&tree(values, 0)?, &values.text(1).unwrap_or_default())))
        })
        .alias("jsonb_exists"),
        RowFunction::new(HAS_ANY, 2..=2, DataType::Boolean, |values| {
            let value = tree(values, 0)?;
            Ok(boolean(path(values, 1)?.iter().any(|key| has(&value, key))))
        }),
        RowFunction::new(HAS_ALL, 2..=2, DataType::Boolean, |values| {
            let value = tree(values, 0)?;
            Ok(boolean(path(values, 1)?.iter().all(|key| has(&value, key))))
        }),
    ]
}

/// What is asked of a whole value, and the lists that functions in FROM give as rows.
fn parts() -> Vec<RowFunction> {
    let both = |name: &'static str, alias: &str, returns: DataType, body: Body| {
        RowFunction::new(name, 1..=1, returns, body).alias(alias)
    };
    vec![
        both("json_typeof", "jsonb_typeof", UTF8, |values| Ok(utf8(tree(values, 0)?.kind()))),
        both("json_array_length", "jsonb_array_length", DataType::Int32, |values| {
            let text = values.text(0).unwrap_or_default();
            let items = json::items(&text).map_err(failure)?;
            let items = items.ok_or_else(|| values.refuse("cannot get array length of a non-array"))?;
            Ok(ScalarValue::Int32(Some(items.len() as i32)))
        }),
        RowFunction::new("jsonb_pretty", 1..=1, UTF8, |values| {
            let mut out = String::new();
            tree(values, 0)?.write_pretty(0, &mut out);
            Ok(utf8(out))
        }),
        both("json_array_elements", "jsonb_array_elements", texts_type(), |values| elements(values, false)),
        both("json_array_elements_text", "jsonb_array_elements_text", texts_type(), |values| {
            elements(values, true)
        }),
        both("json_object_keys", "jsonb_object_keys", texts_type(), |values| {
            members(values, |key, _| Ok(Some(key)))
        }),
        both("json_each_values", "jsonb_each_values", texts_type(), |values| {
            members(values, |_, value| Ok(Some(value.to_owned())))
        }),
        both("json_each_text_values", "jsonb_each_text_values", texts_type(), |values| {
            members(values, |_, value| json::unquoted(value))
        }),
    ]
}

type Body = fn(&Values<'_>) -> Result<ScalarValue>;

/// Lists of texts, whose elements can be null.
pub(super) fn texts_type() -> DataType {
    DataType::new_list(DataType::Utf8, true)
}

pub(super) fn texts(values: Vec<Option<String>>) -> ScalarValue {
    let values: Vec<ScalarValue> = values.into_iter().map(ScalarValue::Utf8).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Utf8))
}

fn boolean(value: bool) -> ScalarValue {
    ScalarValue::Boolean(Some(value))
}

fn or_null(found: Option<String>) -> ScalarValue {
    ScalarValue::Utf8(found)
}

fn unquoted(found: Option<String>) -> Result<ScalarValue> {
    match found {
        None => Ok(ScalarValue::Utf8(None)),
        Some(found) => Ok(ScalarValue::Utf8(json::unquoted(&found).map_err(failure)?)),
    }
}

/// An argument, read as a whole and in order.
fn tree(values: &Values<'_>, index: usize) -> Result<Json> {
    let text = values.text(index).unwrap_or_default();
    Ok(Json::parse(&text).map_err(failure)?.normalized())
}

/// Whether a value has a key, or a string among its items, or is that string.
fn has(value: &Json, key: &str) -> bool {
    let is_key = |item: &Json| matches!(item, Json::String(text) if text == key);
    match value {
        Json::Object(members) => members.iter().any(|(known, _)| known == key),
        Json::Array(items) => items.iter().any(is_key),
        scalar => is_key(scalar),
    }
}

/// The member of that key, or the item at that place, from 0 or from the end.
fn part(values: &Values<'_>) -> Result<Option<String>> {
    let whole = values.text(0).unwrap_or_default();
    let found = match values.all()[1].data_type() {
        number if number.is_integer() => item_at(&whole, values.integer(1).unwrap_or_default())?,
        _ => json::member(&whole, &values.text(1).unwrap_or_default()).map_err(failure)?,
    };
    Ok(found.map(str::to_owned))
}

fn item_at(whole: &str, at: i64) -> Result<Option<&str>> {
    let Some(items) = json::items(whole).map_err(failure)? else { return Ok(None) };
    let at = if at < 0 { at + items.len() as i64 } else { at };
    Ok(usize::try_from(at).ok().and_then(|at| items.get(at).copied()))
}

/// Follows keys and places into a value.
fn at_path(values: &Values<'_>, path: Vec<String>) -> Result<Option<String>> {
    let whole = values.text(0).unwrap_or_default();
    let mut found = whole.trim();
    for step in path {
        let next = match (found.starts_with('['), step.trim().parse()) {
            (true, Ok(at)) => item_at(found, at)?,
            (true, Err(_)) => None,
            (false, _) => json::member(found, &step).map_err(failure)?,
        };
        let Some(next) = next else { return Ok(None) };
        found = next;
    }
    Ok(Some(found.to_owned()))
}

/// The texts of an array, given as one or written out: `{a,b}`.
fn path(values: &Values<'_>, index: usize) -> Result<Vec<String>> {
    if let ScalarValue::List(list) = &values.all()[index] {
        let items = arrow::compute::cast(&list.value(0), &DataType::Utf8)?;
        let items: &StringArray = items.as_string();
        return Ok(items.iter().flatten().map(str::to_owned).collect());
    }
    let written = values.text(index).unwrap_or_default();
    let texts = crate::value::input::texts(&written).map_err(failure)?;
    Ok(texts.into_iter().flatten().collect())
}

/// The arguments behind the first, as steps of a path.
fn steps(values: &Values<'_>) -> Vec<String> {
    values.all()[1..].iter().filter_map(text).collect()
}

fn elements(values: &Values<'_>, as_text: bool) -> Result<ScalarValue> {
    let whole = values.text(0).unwrap_or_default();
    let items = json::items(&whole).map_err(failure)?;
    let items =
        items.ok_or_else(|| values.refuse("cannot extract elements from a value that is no array"))?;
    let item = |item: &str| match as_text {
        true => json::unquoted(item).map_err(failure),
        false => Ok(Some(item.to_owned())),
    };
    Ok(texts(items.into_iter().map(item).collect::<Result<_>>()?))
}

fn members(
    values: &Values<'_>,
    each: fn(String, &str) -> crate::error::Result<Option<String>>,
) -> Result<ScalarValue> {
    let whole = values.text(0).unwrap_or_default();
    let mut found = Vec::new();
    let is_object = json::members(&whole, |key, value| found.push(each(key, value))).map_err(failure)?;
    if !is_object {
        return Err(values.refuse("cannot take members from a value that is no object"));
    }
    Ok(texts(found.into_iter().collect::<crate::error::Result<_>>().map_err(failure)?))
}
