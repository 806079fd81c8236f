//! What makes another jsonb of one.

use datafusion::common::{Result, ScalarValue};

use super::super::row::{RowFunction, Shown, Values, text, utf8};
use super::{CONCATENATE, DELETE, DELETE_PATH, UTF8, path, tree};
use crate::value::json::Json;

pub(super) fn functions() -> Vec<RowFunction> {
    let jsonb = |function: RowFunction| function.shown(Shown::As("jsonb"));
    vec![
        jsonb(RowFunction::new(CONCATENATE, 2..=2, UTF8, |values| {
            Ok(written(joined(tree(values, 0)?, tree(values, 1)?)))
        })),
        jsonb(RowFunction::new(DELETE, 2..=2, UTF8, |values| Ok(written(without(values)?)))),
        jsonb(RowFunction::new(DELETE_PATH, 2..=2, UTF8, |values| {
            let mut value = tree(values, 0)?;
            change(&mut value, &path(values, 1)?, &mut |items, place| remove(items, place));
            Ok(written(value))
        })),
        jsonb(RowFunction::new("jsonb_set", 3..=4, UTF8, |values| {
            let creates = values.boolean(3).unwrap_or(true);
            let (mut value, new) = (tree(values, 0)?, tree(values, 2)?);
            change(&mut value, &path(values, 1)?, &mut |holder, place| put(holder, place, &new, creates));
            Ok(written(value))
        })),
        jsonb(RowFunction::new("jsonb_insert", 3..=4, UTF8, |values| {
            let after = values.boolean(3).unwrap_or(false);
            let (mut value, new) = (tree(values, 0)?, tree(values, 2)?);
            change(&mut value, &path(values, 1)?, &mut |holder, place| insert(holder, place, &new, after));
            Ok(written(value))
        })),
        RowFunction::new("json_strip_nulls", 1..=1, UTF8, |values| Ok(written(stripped(tree(values, 0)?))))
            .alias("jsonb_strip_nulls")
            .shown(Shown::AsGiven),
    ]
}

fn written(value: Json) -> ScalarValue {
    utf8(value.normalized().to_string())
}

fn joined(left: Json, right: Json) -> Json {
    match (left, right) {
        (Json::Object(mut left), Json::Object(right)) => {
            left.extend(right);
            Json::Object(left)
        }
        (left, right) => {
            let items = |value| if let Json::Array(items) = value { items } else { vec![value] };
            Json::Array(items(left).into_iter().chain(items(right)).collect())
        }
    }
}

/// A value without a key, several keys, or the item at a place.
fn without(values: &Values<'_>) -> Result<Json> {
    let mut value = tree(values, 0)?;
    let other = &values.all()[1];
    if other.data_type().is_integer() {
        let Json::Array(items) = &mut value else {
            return Err(values.refuse("cannot delete from object using integer index"));
        };
        if let Some(at) = place(items.len(), values.integer(1).unwrap_or_default()) {
            items.remove(at);
        }
        return Ok(value);
    }
    let keys = match other {
        ScalarValue::List(_) => path(values, 1)?,
        other => text(other).into_iter().collect(),
    };
    match &mut value {
        Json::Object(members) => members.retain(|(key, _)| !keys.contains(key)),
        Json::Array(items) => {
            items.retain(|item| !matches!(item, Json::String(text) if keys.contains(text)));
        }
        _ => return Err(values.refuse("cannot delete from scalar")),
    }
    Ok(value)
}

/// A place in an array, counted from its end if it is negative.
fn place(length: usize, at: i64) -> Option<usize> {
    let at = if at < 0 { at + length as i64 } else { at };
    usize::try_from(at).ok().filter(|at| *at < length)
}

/// Calls `act` for what holds the end of a path, if the way there exists.
fn change(value: &mut Json, path: &[String], act: &mut dyn FnMut(&mut Json, &str)) {
    match path {
        [] => {}
        [last] => act(value, last),
        [step, rest @ ..] => {
            let next = match value {
                Json::Object(members) => {
                    members.iter_mut().find(|(key, _)| key == step).map(|(_, value)| value)
                }
                Json::Array(items) => {
                    let at = step.parse().ok().and_then(|at| place(items.len(), at));
                    at.and_then(|at| items.get_mut(at))
                }
                _ => None,
            };
            if let Some(next) = next {
                change(next, rest, act);
            }
        }
    }
}

fn remove(holder: &mut Json, step: &str) {
    match holder {
        Json::Object(members) => members.retain(|(key, _)| key != step),
        Json::Array(items) => {
            if let Some(at) = step.parse().ok().and_then(|at| place(items.len(), at)) {
                items.remove(at);
            }
        }
        _ => {}
    }
}

fn put(holder: &mut Json, step: &str, new: &Json, creates: bool) {
    match holder {
        Json::Object(members) => match members.iter_mut().find(|(key, _)| key == step) {
            Some((_, value)) => *value = new.clone(),
            None if creates => members.push((step.to_owned(), new.clone())),
            None => {}
        },
        Json::Array(items) => {
            let Ok(at) = step.parse::<i64>() else { return };
            match place(items.len(), at) {
                Some(at) => items[at] = new.clone(),
                None if creates && at < 0 => items.insert(0, new.clone()),
                None if creates => items.push(new.clone()),
                None => {}
            }
        }
        _ => {}
    }
}

fn insert(holder: &mut Json, step: &str, new: &Json, after: bool) {
    match holder {
        Json::Object(members) if members.iter().all(|(key, _)| key != step) => {
            members.push((step.to_owned(), new.clone()));
        }
        Json::Array(items) => {
            let Ok(at) = step.parse::<i64>() else { return };
            match place(items.len(), at) {
                Some(at) => items.insert(at + usize::from(after), new.clone()),
                None if at < 0 => items.insert(0, new.clone()),
                None => items.push(new.clone()),
            }
        }
        _ => {}
    }
}

fn stripped(value: Json) -> Json {
    match value {
        Json::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| *value != Json::Null);
            Json::Object(kept.map(|(key, value)| (key, stripped(value))).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(stripped).collect()),
        other => other,
    }
}
