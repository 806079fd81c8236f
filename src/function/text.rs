//! Functions on text and numbers that PostgreSQL has and DataFusion lacks.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};

use super::row::{RowFunction, Values, text, utf8};
use super::types;
use crate::error::Error;

const UTF8_ENCODING: i64 = 6;
/// How wide `format` makes a value at most.
const FORMAT_WIDTH_MAX: usize = 65_535;

pub(super) fn functions() -> Vec<RowFunction> {
    vec![
        RowFunction::new("quote_ident", 1..=1, DataType::Utf8, |values| of_text(values, quote_ident)),
        RowFunction::new("quote_literal", 1..=1, DataType::Utf8, |values| of_text(values, quote_literal)),
        RowFunction::new("quote_nullable", 1..=1, DataType::Utf8, |values| {
            Ok(utf8(values.text(0).map_or_else(|| "NULL".to_owned(), |value| quote_literal(&value))))
        })
        .nulls(),
        RowFunction::new("format", 1..=100, DataType::Utf8, format).nulls(),
        RowFunction::new("like_escape", 2..=2, DataType::Utf8, |values| {
            like_escape(&values.text(0).unwrap_or_default(), &values.text(1).unwrap_or_default()).map(utf8)
        }),
        RowFunction::new("pg_size_pretty", 1..=1, DataType::Utf8, |values| {
            values
                .integer(0)
                .map(|bytes| utf8(size_pretty(bytes)))
                .ok_or_else(|| values.refuse("not a number"))
        }),
        RowFunction::new("format_type", 2..=2, DataType::Utf8, |values| {
            Ok(values
                .integer(0)
                .map_or(ScalarValue::Null, |oid| utf8(types::format_type(oid, values.integer(1)))))
        })
        .nulls(),
        RowFunction::new("pg_typeof", 1..=1, DataType::Utf8, |values| {
            let known = values.field(0).map(types::of_field);
            let (oid, _) = known.unwrap_or_else(|| types::of_arrow(&values.all()[0].data_type()));
            Ok(utf8(types::format_type(oid, None)))
        })
        .nulls(),
        RowFunction::new("pg_encoding_to_char", 1..=1, DataType::Utf8, |values| {
            Ok(utf8(if values.integer(0) == Some(UTF8_ENCODING) { "UTF8" } else { "" }))
        })
        .typed("name"),
        RowFunction::new("pg_char_to_encoding", 1..=1, DataType::Int32, |values| {
            let name = values.text(0).unwrap_or_default().to_ascii_uppercase();
            let known = matches!(name.as_str(), "UTF8" | "UTF-8" | "UNICODE");
            Ok(ScalarValue::Int32(Some(if known { UTF8_ENCODING as i32 } else { -1 })))
        }),
        RowFunction::new("getdatabaseencoding", 0..=0, DataType::Utf8, |_| Ok(utf8("UTF8")))
            .typed("name")
            .alias("pg_client_encoding"),
    ]
}

fn of_text(values: &Values<'_>, body: fn(&str) -> String) -> Result<ScalarValue> {
    Ok(values.text(0).map_or(ScalarValue::Null, |value| utf8(body(&value))))
}

/// Writes a name as SQL would have to: in double quotes unless it is plain and no key word.
pub fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && !super::series::is_reserved(name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes a text as a literal of SQL; one with a backslash gets the `E` form, as in PostgreSQL.
pub fn quote_literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// `format('%s %I %L %%', …)`, with positions (`%1$s`) and widths (`%-10s`).
fn format(values: &Values<'_>) -> Result<ScalarValue> {
    let Some(pattern) = values.text(0) else {
        return Ok(ScalarValue::Null);
    };
    let (mut out, mut rest, mut next) = (String::new(), pattern.as_str(), 1);
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (position, after) = match after[digits..].strip_prefix('$') {
            Some(tail) if digits > 0 => (after[..digits].parse().unwrap_or(usize::MAX), tail),
            _ => (next, after),
        };
        let (left_aligned, after) = match after.strip_prefix('-') {
            Some(tail) => (true, tail),
            None => (false, after),
        };
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let width = after[..digits].parse().unwrap_or(0).min(FORMAT_WIDTH_MAX);
        let mut tail = after[digits..].chars();
        let conversion = tail.next().ok_or_else(|| values.refuse("unterminated format specifier"))?;
        rest = tail.as_str();
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let text = converted(values, position, conversion)?;
        out.push_str(&if left_aligned { format!("{text:<width$}") } else { format!("{text:>width$}") });
        next = position + 1;
    }
    out.push_str(rest);
    Ok(utf8(out))
}

fn converted(values: &Values<'_>, position: usize, conversion: char) -> Result<String> {
    let value = values.all().get(position).ok_or_else(|| values.refuse("too few arguments for format()"))?;
    match (conversion, text(value)) {
        ('s', value) => Ok(value.unwrap_or_default()),
        ('I', Some(value)) => Ok(quote_ident(&value)),
        ('I', None) => Err(values.refuse("null values cannot be formatted as an SQL identifier")),
        ('L', Some(value)) => Ok(quote_literal(&value)),
        ('L', None) => Ok("NULL".to_owned()),
        (other, _) => Err(values.refuse(&format!("unrecognized format() type specifier \"{other}\""))),
    }
}

/// Turns a pattern of `LIKE … ESCAPE e` into the same pattern with the backslash as escape.
///
/// # Errors
/// [`Error::InvalidParameter`] when the escape is longer than one character.
fn like_escape(pattern: &str, escape: &str) -> Result<String> {
    let mut characters = escape.chars();
    let escape = characters.next();
    if characters.next().is_some() {
        let message = "invalid escape string: it must be empty or one character".to_owned();
        return Err(Error::InvalidParameter(message).into());
    }
    let mut out = String::with_capacity(pattern.len());
    let mut pattern = pattern.chars();
    while let Some(character) = pattern.next() {
        if Some(character) == escape {
            out.push('\\');
            out.extend(pattern.next());
        } else if character == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(character);
        }
    }
    Ok(out)
}

/// A size in bytes for people, by PostgreSQL's rule: the next unit from 10,240 of the one before.
pub fn size_pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes, 0);
    if size.unsigned_abs() < 10 * 1024 {
        return format!("{size} bytes");
    }
    // One bit more is kept until the end, so that the last step rounds half up.
    size >>= 9;
    unit += 1;
    while size.unsigned_abs() >= 20 * 1024 - 1 && unit + 1 < UNITS.len() {
        size >>= 10;
        unit += 1;
    }
    format!("{} {}", (size + 1) / 2, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_that_of_postgres() {
        assert_eq!(quote_ident("flights"), "flights");
        assert_eq!(quote_ident("Flights"), "\"Flights\"");
        assert_eq!(quote_ident("select"), "\"select\"");
        assert_eq!(quote_literal("O'Hare"), "'O''Hare'");
        assert_eq!(quote_literal("a\\b"), "E'a\\\\b'");
    }

    #[test]
    fn sizes_change_unit_where_postgres_does() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (1_073_741_824, "1024 MB"),
        ] {
            assert_eq!(size_pretty(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn an_escape_becomes_a_backslash() {
        assert_eq!(like_escape("pg/_%", "/").unwrap(), "pg\\_%");
        assert_eq!(like_escape("a\\b", "/").unwrap(), "a\\\\b");
        assert!(like_escape("a", "//").is_err());
    }
}
