//! Fields: the values of one line of a COPY in text or csv.

use std::ops::Range;

use memchr::memchr2;

use super::options::{CopyFormat, CopyOptions};
use crate::error::{Error, Result};

/// The fields of one line, split anew for each.
#[derive(Debug)]
pub(super) struct Fields {
    is_csv: bool,
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
    fields: Vec<Field>,
    /// Fields without their quotes and escapes.
    plain: Vec<u8>,
}

#[derive(Debug)]
enum Field {
    Null,
    /// As it stands in the line.
    Raw(Range<usize>),
    /// In `plain`.
    Plain(Range<usize>),
}

impl Fields {
    pub fn new(options: &CopyOptions) -> Self {
        Self {
            is_csv: options.format == CopyFormat::Csv,
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape,
            null: options.null.clone().into_bytes(),
            fields: Vec::new(),
            plain: Vec::new(),
        }
    }

    pub fn split(&mut self, line: &str) {
        self.fields.clear();
        self.plain.clear();
        let mut at = 0;
        loop {
            let end =
                if self.is_csv { self.csv(line.as_bytes(), at) } else { self.text(line.as_bytes(), at) };
            match end {
                Some(delimiter) => at = delimiter + 1,
                None => break,
            }
        }
    }

    pub fn count(&self) -> usize {
        self.fields.len()
    }

    /// A field of the line that was split; `None` for null.
    ///
    /// # Errors
    /// [`Error::InvalidEncoding`] for escapes that are not UTF-8 together.
    pub fn field<'a>(&'a self, line: &'a str, index: usize) -> Result<Option<&'a str>> {
        match &self.fields[index] {
            Field::Null => Ok(None),
            Field::Raw(range) => Ok(Some(&line[range.clone()])),
            Field::Plain(range) => utf8(&self.plain[range.clone()]).map(Some),
        }
    }

    /// Takes the field of a text line at `start`; returns where its delimiter stands.
    fn text(&mut self, line: &[u8], start: usize) -> Option<usize> {
        let plain = self.plain.len();
        let (mut at, mut copied, mut escaped) = (start, start, false);
        let end = loop {
            let Some(step) = memchr2(self.delimiter, b'\\', &line[at..]) else { break None };
            at += step;
            if line[at] == self.delimiter {
                break Some(at);
            }
            self.plain.extend_from_slice(&line[copied..at]);
            escaped = true;
            at += unescape(&line[at..], &mut self.plain);
            copied = at;
        };
        let raw = start..end.unwrap_or(line.len());
        let field = if line[raw.clone()] == self.null[..] {
            self.plain.truncate(plain);
            Field::Null
        } else if escaped {
            self.plain.extend_from_slice(&line[copied..raw.end]);
            Field::Plain(plain..self.plain.len())
        } else {
            Field::Raw(raw)
        };
        self.fields.push(field);
        end
    }

    /// The same for a csv line.
    fn csv(&mut self, line: &[u8], start: usize) -> Option<usize> {
        let plain = self.plain.len();
        let (mut at, mut copied, mut quoted) = (start, start, false);
        let end = loop {
            let Some(step) = memchr2(self.delimiter, self.quote, &line[at..]) else { break None };
            at += step;
            if line[at] == self.delimiter {
                break Some(at);
            }
            self.plain.extend_from_slice(&line[copied..at]);
            quoted = true;
            at += 1 + self.quoted(&line[at + 1..]);
            copied = at;
        };
        let raw = start..end.unwrap_or(line.len());
        let field = if quoted {
            self.plain.extend_from_slice(&line[copied..raw.end]);
            Field::Plain(plain..self.plain.len())
        } else if line[raw.clone()] == self.null[..] {
            Field::Null
        } else {
            Field::Raw(raw)
        };
        self.fields.push(field);
        end
    }

    /// Takes what stands in quotes, the closing one included; returns how many bytes that were.
    fn quoted(&mut self, rest: &[u8]) -> usize {
        let (mut at, mut copied) = (0, 0);
        while let Some(step) = memchr2(self.quote, self.escape, &rest[at..]) {
            at += step;
            let next = rest.get(at + 1).filter(|next| [self.quote, self.escape].contains(next));
            if rest[at] == self.escape
                && let Some(next) = next
            {
                self.plain.extend_from_slice(&rest[copied..at]);
                self.plain.push(*next);
                at += 2;
                copied = at;
            } else if rest[at] == self.quote {
                self.plain.extend_from_slice(&rest[copied..at]);
                return at + 1;
            } else {
                at += 1;
            }
        }
        self.plain.extend_from_slice(&rest[copied..]);
        rest.len()
    }
}

/// Reads an escape at the start of `rest`, a backslash; returns how many bytes it takes.
fn unescape(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let octal = |byte: &u8| (b'0'..=b'7').contains(byte);
    let Some(next) = rest.get(1) else {
        out.push(b'\\');
        return 1;
    };
    let byte = match next {
        b'0'..=b'7' => {
            let digits = rest[1..].iter().take(3).take_while(|byte| octal(byte));
            let (mut value, mut count) = (0_u32, 0);
            for digit in digits {
                value = value * 8 + u32::from(digit - b'0');
                count += 1;
            }
            out.push((value & 0xff) as u8);
            return 1 + count;
        }
        b'x' => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let digits: Vec<u32> = rest[2..].iter().take(2).map_while(digit).collect();
            if digits.is_empty() {
                out.push(b'x');
                return 2;
            }
            out.push(digits.iter().fold(0, |value, digit| value * 16 + digit) as u8);
            return 2 + digits.len();
        }
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        other => *other,
    };
    out.push(byte);
    2
}

/// The text of bytes from a client, which holds no zero byte.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    let invalid = |at: usize| {
        let byte = bytes.get(at).copied().unwrap_or_default();
        Error::InvalidEncoding(format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"))
    };
    let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.valid_up_to()))?;
    match memchr::memchr(0, bytes) {
        Some(at) => Err(invalid(at)),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{CopyValue, Direction};
    use super::*;

    fn split(options: &[(&str, &str)], line: &str) -> Vec<Option<String>> {
        let one = |text: &str| CopyValue::One(text.to_owned());
        let given = options.iter().map(|(name, value)| ((*name).to_owned(), one(value))).collect();
        let mut fields = Fields::new(&CopyOptions::of(given, Direction::From).unwrap());
        fields.split(line);
        (0..fields.count()).map(|index| fields.field(line, index).unwrap().map(str::to_owned)).collect()
    }

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn text_escapes_are_read() {
        assert_eq!(split(&[], "a\t\tb"), some(&["a", "", "b"]));
        assert_eq!(split(&[], "\\N\t\\\\N"), [None, Some("\\N".to_owned())]);
        assert_eq!(split(&[], "\\t\\n\\x41\\101\\q\\"), some(&["\t\nAAq\\"]));
        assert_eq!(split(&[], "a\\\tb\tc"), some(&["a\tb", "c"]));
        assert_eq!(split(&[("delimiter", "|"), ("null", "-")], "-|a\\|b|--"), {
            let mut wanted = some(&["", "a|b", "--"]);
            wanted[0] = None;
            wanted
        });
        assert_eq!(split(&[], "\\303\\244"), some(&["ä"]));
    }

    #[test]
    fn csv_quotes_are_read() {
        let csv = [("format", "csv")];
        assert_eq!(split(&csv, "a,\"b,\"\"c\"\"\",d"), some(&["a", "b,\"c\"", "d"]));
        assert_eq!(split(&csv, ",\"\""), [None, Some(String::new())]);
        assert_eq!(split(&csv, "a\"b,c\"d"), some(&["ab,cd"]));
        let escape = [("format", "csv"), ("escape", "\\")];
        assert_eq!(split(&escape, "\"a\\\"b\\\\c\\d\""), some(&["a\"b\\c\\d"]));
    }
}
