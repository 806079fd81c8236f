//! Lines: where one row of a COPY in text or csv ends and the next begins.
//!
//! Bytes come in pieces that end anywhere; a search goes on where the last one stopped. All lines end
//! as the first one does. A line `\.` ends the data.

use memchr::{memchr_iter, memchr2, memchr3};

use super::options::{CopyFormat, CopyOptions};
use crate::error::{Error, Result};

/// How lines end, which the first one tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Unknown,
    Newline,
    Return,
    ReturnNewline,
}

/// Finds the ends of lines.
#[derive(Debug)]
pub(super) struct Lines {
    is_csv: bool,
    quote: u8,
    escape: u8,
    ending: Ending,
    /// Bytes of the line under way that need no second look.
    scanned: usize,
    in_quotes: bool,
    has_quotes: bool,
}

/// What stands at the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A line of so many bytes, then its end; with newlines of its own, which stand in quotes.
    Line { length: usize, next: usize, newlines: usize },
    /// The mark that ends the data.
    End,
    /// No whole line yet.
    More,
}

impl Lines {
    pub fn new(options: &CopyOptions) -> Self {
        Self {
            is_csv: options.format == CopyFormat::Csv,
            quote: options.quote,
            escape: options.escape,
            ending: Ending::Unknown,
            scanned: 0,
            in_quotes: false,
            has_quotes: false,
        }
    }

    /// Looks for the end of the line at the start of `input`, behind which nothing comes if `last`.
    ///
    /// # Errors
    /// [`Error::BadCopyFile`] for a line that ends otherwise than those before, or in a quoted value.
    pub fn find(&mut self, input: &[u8], last: bool) -> Result<Found> {
        let mut at = self.scanned;
        loop {
            let Some(step) = self.special(&input[at..]) else {
                return self.rest(input, input.len(), last);
            };
            at += step;
            let byte = input[at];
            if byte == b'\n' || byte == b'\r' && !self.in_quotes {
                match self.line_end(&input[at..], last)? {
                    Some(0) => return self.rest(input, at, last),
                    Some(width) => return Ok(self.line(input, at, at + width)),
                    None => {}
                }
                at += 1;
                continue;
            }
            match self.skip(&input[at..]) {
                Some(width) => at += width,
                None if last => return self.rest(input, input.len(), last),
                None => return self.rest(input, at, last),
            }
        }
    }

    /// The next byte that may mean something.
    fn special(&self, rest: &[u8]) -> Option<usize> {
        match (self.is_csv, self.in_quotes) {
            (false, _) => memchr3(b'\\', b'\n', b'\r', rest),
            (true, false) => memchr3(self.quote, b'\n', b'\r', rest),
            (true, true) => memchr2(self.quote, self.escape, rest),
        }
    }

    /// Passes over a backslash and what it escapes, or over a quote; `None` where more must be seen.
    fn skip(&mut self, rest: &[u8]) -> Option<usize> {
        if !self.is_csv {
            return rest.get(1).map(|_| 2);
        }
        if self.in_quotes && self.escape != self.quote && rest[0] == self.escape {
            let next = *rest.get(1)?;
            return Some(if next == self.quote || next == self.escape { 2 } else { 1 });
        }
        self.in_quotes = !self.in_quotes;
        self.has_quotes = true;
        Some(1)
    }

    /// How many bytes end a line at the start of `rest`; 0 where more must be seen, none in quotes.
    fn line_end(&mut self, rest: &[u8], last: bool) -> Result<Option<usize>> {
        if self.in_quotes {
            return Ok(None);
        }
        let found = match (rest[0], rest.get(1)) {
            (b'\n', _) => Ending::Newline,
            (_, None) if !last && matches!(self.ending, Ending::Unknown | Ending::ReturnNewline) => {
                return Ok(Some(0));
            }
            (_, Some(b'\n')) if self.ending != Ending::Return => Ending::ReturnNewline,
            _ => Ending::Return,
        };
        if self.ending == Ending::Unknown {
            self.ending = found;
        }
        if self.ending != found {
            return Err(self.literal(rest[0]));
        }
        Ok(Some(if found == Ending::ReturnNewline { 2 } else { 1 }))
    }

    fn literal(&self, byte: u8) -> Error {
        let name = if byte == b'\n' { "newline" } else { "carriage return" };
        let kind = if self.is_csv { "unquoted" } else { "literal" };
        Error::BadCopyFile(format!("{kind} {name} found in data"))
    }

    fn line(&mut self, input: &[u8], length: usize, next: usize) -> Found {
        let newlines = if self.has_quotes { memchr_iter(b'\n', &input[..length]).count() } else { 0 };
        self.scanned = 0;
        self.has_quotes = false;
        match &input[..length] {
            b"\\." => Found::End,
            _ => Found::Line { length, next, newlines },
        }
    }

    /// What is left has no end: a line only if it is the last.
    fn rest(&mut self, input: &[u8], scanned: usize, last: bool) -> Result<Found> {
        if !last {
            self.scanned = scanned;
            return Ok(Found::More);
        }
        if self.in_quotes {
            return Err(Error::BadCopyFile("unterminated CSV quoted field".to_owned()));
        }
        match input.len() {
            0 => Ok(Found::More),
            length => Ok(self.line(input, length, length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{CopyValue, Direction};
    use super::*;

    /// The lines of an input that comes in pieces of `size` bytes.
    fn lines(format: &str, escape: Option<&str>, input: &str, size: usize) -> Result<Vec<String>> {
        let one = |text: &str| CopyValue::One(text.to_owned());
        let mut given = vec![("format".to_owned(), one(format))];
        given.extend(escape.map(|escape| ("escape".to_owned(), one(escape))));
        let mut finder = Lines::new(&CopyOptions::of(given, Direction::From)?);
        let (mut known, mut at, mut found) = (0, 0, Vec::new());
        loop {
            known = (known + size).min(input.len());
            let last = known == input.len();
            loop {
                match finder.find(&input.as_bytes()[at..known], last)? {
                    Found::Line { length, next, .. } => {
                        found.push(input[at..at + length].to_owned());
                        at += next;
                    }
                    Found::End => return Ok(found),
                    Found::More => break,
                }
            }
            if last {
                return Ok(found);
            }
        }
    }

    fn in_any_pieces(format: &str, escape: Option<&str>, input: &str) -> Vec<String> {
        let whole = lines(format, escape, input, usize::MAX / 2).unwrap();
        for size in 1..=input.len() {
            assert_eq!(lines(format, escape, input, size).unwrap(), whole, "{input:?} by {size}");
        }
        whole
    }

    #[test]
    fn lines_end_as_the_first_one() {
        assert_eq!(in_any_pieces("text", None, "a\tb\nc\n"), ["a\tb", "c"]);
        assert_eq!(in_any_pieces("text", None, "a\r\nb\r\n"), ["a", "b"]);
        assert_eq!(in_any_pieces("text", None, "a\rb\r"), ["a", "b"]);
        assert_eq!(in_any_pieces("text", None, "a\n\nb"), ["a", "", "b"]);
        assert_eq!(in_any_pieces("text", None, "a\\\nb\\\\\nc"), ["a\\\nb\\\\", "c"]);
        assert_eq!(in_any_pieces("text", None, "a\n\\.\nb\n"), ["a"]);
        for mixed in ["a\nb\rc", "a\r\nb\n", "a\rb\n"] {
            assert_eq!(lines("text", None, mixed, 1).unwrap_err().sqlstate(), "22P04", "{mixed:?}");
        }
    }

    #[test]
    fn quotes_hold_newlines() {
        assert_eq!(in_any_pieces("csv", None, "a,\"b\nc\"\"\n\"\nd\n"), ["a,\"b\nc\"\"\n\"", "d"]);
        assert_eq!(in_any_pieces("csv", Some("\\"), "\"a\\\"\n\\\\\"\nb"), ["\"a\\\"\n\\\\\"", "b"]);
        assert_eq!(in_any_pieces("csv", None, "a\\\nb"), ["a\\", "b"]);
        assert_eq!(lines("csv", None, "\"a\nb\n", 3).unwrap_err().sqlstate(), "22P04");
    }
}
