//! Functions by which clients take names, types and privileges apart.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, ScalarValue};

use super::catalog::or_null;
use super::row::{RowFunction, Values, utf8};
use super::types;
use crate::error::Error;

pub(super) fn functions() -> Vec<RowFunction> {
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
    vec![
        RowFunction::new("parse_ident", 1..=2, list(DataType::Utf8), parse_ident),
        RowFunction::new("oidvectortypes", 1..=1, DataType::Utf8, |values| {
            let ScalarValue::List(oids) = &values.all()[0] else {
                return Err(values.refuse("the argument is not an oidvector"));
            };
            let oids = oids.value(0);
            let names: Result<Vec<String>> = (0..oids.len())
                .map(|at| match ScalarValue::try_from_array(&oids, at)?.cast_to(&DataType::Int64)? {
                    ScalarValue::Int64(Some(oid)) => Ok(types::format_type(oid, None)),
                    _ => Ok("-".to_owned()),
                })
                .collect();
            Ok(utf8(names?.join(", ")))
        }),
        // There are no privileges to take apart.
        RowFunction::new("aclexplode", 1..=1, list(DataType::Struct(privilege())), |_| Ok(ScalarValue::Null)),
        RowFunction::new("host", 1..=1, DataType::Utf8, |values| {
            or_null(values.text(0).map(|address| address.split('/').next().unwrap_or_default().to_owned()))
        }),
        RowFunction::new("pg_describe_object", 3..=3, DataType::Utf8, |_| Ok(ScalarValue::Null)),
        RowFunction::new("pg_get_object_address", 3..=3, DataType::Utf8, |_| Ok(ScalarValue::Null)),
    ]
}

fn privilege() -> Fields {
    Fields::from(vec![
        Field::new("grantor", DataType::Int64, true),
        Field::new("grantee", DataType::Int64, true),
        Field::new("privilege_type", DataType::Utf8, true),
        Field::new("is_grantable", DataType::Boolean, true),
    ])
}

/// The parts of a qualified name, folded to lower case unless they are quoted.
fn parse_ident(values: &Values<'_>) -> Result<ScalarValue> {
    let text = values.text(0).unwrap_or_default();
    let invalid =
        |why: &str| Error::InvalidParameter(format!("string is not a valid identifier: \"{text}\"{why}"));
    let (mut parts, mut rest) = (vec![], text.trim());
    loop {
        let part = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (part, after) = quoted_part(quoted).ok_or_else(|| invalid(": unclosed double quotes"))?;
                rest = after.trim_start();
                part
            }
            None => {
                let length =
                    rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
                let (part, after) = rest.split_at(length);
                rest = after.trim_start();
                if part.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
                    return Err(invalid("").into());
                }
                part.to_lowercase()
            }
        };
        if part.is_empty() {
            return Err(invalid("").into());
        }
        parts.push(utf8(part));
        match rest.strip_prefix('.') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => break,
            None => return Err(invalid("").into()),
        }
    }
    Ok(ScalarValue::List(ScalarValue::new_list(&parts, &DataType::Utf8, true)))
}

/// The name up to its closing quote, and what stands behind it.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let (mut part, mut characters) = (String::new(), text.char_indices().peekable());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' if characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                part.push('"');
            }
            '"' => return Some((part, &text[at + 1..])),
            other => part.push(other),
        }
    }
    None
}
