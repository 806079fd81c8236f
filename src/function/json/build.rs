//! What makes json of other values.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue};

use super::super::row::{RowFunction, Shown, Values, failure, json_type, text, utf8};
use super::{COLLECT, COLLECT_OBJECT, UTF8, path};
use crate::value::json::{Json, quote};

pub(super) fn functions() -> Vec<RowFunction> {
    let json = |function: RowFunction| function.shown(Shown::As("json"));
    let jsonb = |function: RowFunction| function.shown(Shown::As("jsonb"));
    vec![
        json(RowFunction::new("to_json", 1..=1, UTF8, |values| Ok(utf8(of_argument(values, 0)?)))),
        jsonb(RowFunction::new("to_jsonb", 1..=1, UTF8, |values| ordered(of_argument(values, 0)?))),
        json(RowFunction::new("row_to_json", 1..=2, UTF8, |values| Ok(utf8(of_argument(values, 0)?)))),
        json(RowFunction::new("array_to_json", 1..=2, UTF8, |values| Ok(utf8(of_argument(values, 0)?)))),
        json(
            RowFunction::new("json_build_object", 0..=100, UTF8, |values| Ok(utf8(object(values)?))).nulls(),
        ),
        jsonb(
            RowFunction::new("jsonb_build_object", 0..=100, UTF8, |values| ordered(object(values)?)).nulls(),
        ),
        json(RowFunction::new("json_build_array", 0..=100, UTF8, |values| Ok(utf8(array(values)?))).nulls()),
        jsonb(RowFunction::new("jsonb_build_array", 0..=100, UTF8, |values| ordered(array(values)?)).nulls()),
        json(RowFunction::new("json_object", 1..=2, UTF8, |values| Ok(utf8(of_texts(values)?)))),
        jsonb(RowFunction::new("jsonb_object", 1..=2, UTF8, |values| ordered(of_texts(values)?))),
        json(RowFunction::new(COLLECT, 1..=1, UTF8, |values| Ok(utf8(collected(values)?)))),
        json(RowFunction::new(COLLECT_OBJECT, 2..=2, UTF8, |values| Ok(utf8(collected_object(values)?)))),
    ]
}

/// The same value as a jsonb.
fn ordered(text: String) -> Result<ScalarValue> {
    Ok(utf8(Json::parse(&text).map_err(failure)?.normalized().to_string()))
}

/// An argument as json; one that is json already as it is.
fn of_argument(values: &Values<'_>, index: usize) -> Result<String> {
    let mut out = String::new();
    write(&values.all()[index], values.is_json(index), &mut out)?;
    Ok(out)
}

fn write(value: &ScalarValue, is_json: bool, out: &mut String) -> Result<()> {
    match value {
        value if value.is_null() => out.push_str("null"),
        ScalarValue::Boolean(Some(value)) => out.push_str(if *value { "true" } else { "false" }),
        ScalarValue::List(list) => write_items(&list.value(0), &element_of(list.data_type()), out)?,
        ScalarValue::LargeList(list) => write_items(&list.value(0), &element_of(list.data_type()), out)?,
        ScalarValue::Struct(row) => {
            out.push('{');
            for (at, (field, column)) in row.fields().iter().zip(row.columns()).enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                quote(field.name(), out);
                out.push(':');
                write(&ScalarValue::try_from_array(column, 0)?, json_type(field).is_some(), out)?;
            }
            out.push('}');
        }
        value => {
            let printed = text(value).unwrap_or_default();
            match value.data_type() {
                number if number.is_numeric() && !printed.contains(['N', 'I']) => out.push_str(&printed),
                DataType::Timestamp(..) => quote(&printed.replacen(' ', "T", 1), out),
                _ if is_json => out.push_str(&printed),
                _ => quote(&printed, out),
            }
        }
    }
    Ok(())
}

fn element_of(list: &DataType) -> Field {
    match list {
        DataType::List(field) | DataType::LargeList(field) => field.as_ref().clone(),
        _ => Field::new_list_field(DataType::Null, true),
    }
}

fn write_items(items: &ArrayRef, element: &Field, out: &mut String) -> Result<()> {
    out.push('[');
    for at in 0..items.len() {
        out.push_str(if at == 0 { "" } else { "," });
        write(&ScalarValue::try_from_array(items, at)?, json_type(element).is_some(), out)?;
    }
    out.push(']');
    Ok(())
}

/// `{"a" : 1, "b" : null}`.
fn object(values: &Values<'_>) -> Result<String> {
    if !values.len().is_multiple_of(2) {
        return Err(values.refuse("argument list must have even number of elements"));
    }
    let mut out = "{".to_owned();
    for at in (0..values.len()).step_by(2) {
        out.push_str(if at == 0 { "" } else { ", " });
        let key = text(&values.all()[at]).ok_or_else(|| values.refuse("a key is null"))?;
        quote(&key, &mut out);
        out.push_str(" : ");
        write(&values.all()[at + 1], values.is_json(at + 1), &mut out)?;
    }
    out.push('}');
    Ok(out)
}

fn array(values: &Values<'_>) -> Result<String> {
    let mut out = "[".to_owned();
    for at in 0..values.len() {
        out.push_str(if at == 0 { "" } else { ", " });
        write(&values.all()[at], values.is_json(at), &mut out)?;
    }
    out.push(']');
    Ok(out)
}

/// An object of keys and values that are texts: one array of both, or one of each.
fn of_texts(values: &Values<'_>) -> Result<String> {
    let first = path(values, 0)?;
    let pairs: Vec<(String, String)> = match values.len() {
        1 if first.len().is_multiple_of(2) => {
            first.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        }
        1 => return Err(values.refuse("array must have even number of elements")),
        _ => {
            let second = path(values, 1)?;
            if first.len() != second.len() {
                return Err(values.refuse("mismatched array dimensions"));
            }
            first.into_iter().zip(second).collect()
        }
    };
    let member = |(key, value): (String, String)| {
        let mut out = String::new();
        quote(&key, &mut out);
        out.push_str(" : ");
        quote(&value, &mut out);
        out
    };
    Ok(format!("{{{}}}", pairs.into_iter().map(member).collect::<Vec<_>>().join(", ")))
}

/// The items of a list of json texts, a null for those that are missing.
fn items(values: &Values<'_>, index: usize) -> Result<Vec<Option<String>>> {
    let ScalarValue::List(list) = &values.all()[index] else {
        return Err(values.refuse("not an array"));
    };
    let items = arrow::compute::cast(&list.value(0), &DataType::Utf8)?;
    Ok(items.as_string::<i32>().iter().map(|item| item.map(str::to_owned)).collect())
}

fn collected(values: &Values<'_>) -> Result<String> {
    let items = items(values, 0)?.into_iter().map(|item| item.unwrap_or_else(|| "null".to_owned()));
    Ok(format!("[{}]", items.collect::<Vec<_>>().join(", ")))
}

fn collected_object(values: &Values<'_>) -> Result<String> {
    let members = items(values, 0)?.into_iter().zip(items(values, 1)?);
    let member = |(key, value): (Option<String>, Option<String>)| {
        let key = key.ok_or_else(|| values.refuse("field name must not be null"))?;
        let mut out = String::new();
        quote(&key, &mut out);
        Ok(format!("{out} : {}", value.as_deref().unwrap_or("null")))
    };
    let members: Vec<String> = members.map(member).collect::<Result<_>>()?;
    Ok(format!("{{ {} }}", members.join(", ")))
}
