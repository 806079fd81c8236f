//! `SIMILAR TO`: SQL's regular expressions, as those that the engine knows.

use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::row::{RowFunction, utf8};
use crate::error::Error;

/// Name of the function that translates a pattern.
pub const SIMILAR_TO_ESCAPE: &str = "similar_to_escape";

pub(super) fn functions() -> Vec<RowFunction> {
    vec![RowFunction::new(SIMILAR_TO_ESCAPE, 1..=2, DataType::Utf8, |values| {
        let escape = if values.len() == 1 { Some("\\".to_owned()) } else { values.text(1) };
        translated(&values.text(0).unwrap_or_default(), &escape.unwrap_or_default()).map(utf8)
    })]
}

/// The pattern as a regular expression that must match the whole text.
///
/// `%` is any text, `_` any character; `|*+?{}()[]` mean what they mean everywhere, and all others
/// themselves.
///
/// Source: `similar_escape_internal` in PostgreSQL's `regexp.c`.
///
/// # Errors
/// [`Error::InvalidParameter`] when the escape is longer than one character.
fn translated(pattern: &str, escape: &str) -> Result<String> {
    let mut characters = escape.chars();
    let escape = characters.next();
    if characters.next().is_some() {
        return Err(Error::InvalidParameter("invalid escape string".to_owned()).into());
    }
    let mut out = String::from("^(?:");
    let (mut escaped, mut in_brackets) = (false, false);
    for character in pattern.chars() {
        if escaped {
            out.push_str(&regex_literal(character));
            escaped = false;
        } else if Some(character) == escape {
            escaped = true;
        } else if in_brackets {
            in_brackets = character != ']';
            if character == '\\' || character == '[' || character == '&' || character == '~' {
                out.push('\\');
            }
            out.push(character);
        } else {
            match character {
                '[' => {
                    in_brackets = true;
                    out.push('[');
                }
                '%' => out.push_str("(?s:.*)"),
                '_' => out.push_str("(?s:.)"),
                '(' => out.push_str("(?:"),
                '|' | '*' | '+' | '?' | '{' | '}' | ')' => out.push(character),
                other => out.push_str(&regex_literal(other)),
            }
        }
    }
    out.push_str(")$");
    Ok(out)
}

/// A character that means itself.
fn regex_literal(character: char) -> String {
    if character.is_ascii_punctuation() { format!("\\{character}") } else { character.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text() {
        for (pattern, text, matches) in [
            ("abc", "abc", true),
            ("a", "abc", false),
            ("%(b|d)%", "abc", true),
            ("(b|c)%", "abc", false),
            ("a.c", "abc", false),
            ("a_c", "abc", true),
            ("[a-c]{3}", "abc", true),
            ("[^a]%", "abc", false),
            ("\\%", "%", true),
            ("\\%", "x", false),
        ] {
            let regex = regex::Regex::new(&translated(pattern, "\\").unwrap()).unwrap();
            assert_eq!(regex.is_match(text), matches, "{text} similar to {pattern}");
        }
        assert!(translated("a", "##").is_err());
    }
}
