//! JSON texts: read as far as asked, or as a whole, and written in PostgreSQL's two layouts.
//!
//! A `json` keeps the text that it came with, so its parts are slices of it; a `jsonb` is the one text that
//! PostgreSQL prints for its value: keys once, shorter ones first, a blank behind each colon and comma. Two
//! jsonb are equal if their texts are.

use crate::error::{Error, Result};

/// How deep values may be nested.
const DEPTH_MAX: usize = 512;

/// A value, with numbers as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Json>),
    /// Of a jsonb, sorted and without repetition.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole text.
    ///
    /// # Errors
    /// [`Error::InvalidText`] for what is no JSON, [`Error::LimitExceeded`] for what is nested too deep.
    pub fn parse(text: &str) -> Result<Self> {
        let mut scanner = Scanner { text, at: 0 };
        let value = scanner.value(0)?;
        scanner.end()?;
        Ok(value)
    }

    /// The name that `json_typeof` has for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// The value as a jsonb has it: keys in order, of equal ones the last, numbers without exponents.
    pub fn normalized(self) -> Self {
        match self {
            Self::Number(digits) => Self::Number(plain_number(&digits)),
            Self::Array(items) => Self::Array(items.into_iter().map(Self::normalized).collect()),
            Self::Object(members) => {
                let mut sorted: Vec<(String, Self)> = Vec::with_capacity(members.len());
                for (key, value) in members {
                    let value = value.normalized();
                    match sorted.binary_search_by(|(known, _)| order(known).cmp(&order(&key))) {
                        Ok(at) => sorted[at].1 = value,
                        Err(at) => sorted.insert(at, (key, value)),
                    }
                }
                Self::Object(sorted)
            }
            other => other,
        }
    }

    /// Writes it as PostgreSQL prints a jsonb.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(digits) => out.push_str(digits),
            Self::String(text) => quote(text, out),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    quote(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Writes it over several lines, as `jsonb_pretty` does.
    pub fn write_pretty(&self, depth: usize, out: &mut String) {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("    ", depth));
        };
        match self {
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    line(out, depth + 1);
                    item.write_pretty(depth + 1, out);
                }
                line(out, depth);
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    line(out, depth + 1);
                    quote(key, out);
                    out.push_str(": ");
                    value.write_pretty(depth + 1, out);
                }
                line(out, depth);
                out.push('}');
            }
            scalar => scalar.write(out),
        }
    }

    /// Whether a jsonb contains another, as `@>` asks.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(own), Self::Object(wanted)) => wanted.iter().all(|(key, value)| {
                own.iter().any(|(known, own)| known == key && own.contains_within(value))
            }),
            (Self::Array(own), Self::Array(wanted)) => {
                wanted.iter().all(|value| own.iter().any(|own| own.contains_within(value)))
            }
            // An array contains a scalar that is one of its items; nothing else is so forgiving.
            (Self::Array(own), scalar) if !matches!(scalar, Self::Object(_)) => own.contains(scalar),
            (own, wanted) => own == wanted,
        }
    }

    fn contains_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Array(_), Self::Array(_)) | (Self::Object(_), Self::Object(_)) => self.contains(other),
            (own, wanted) => own == wanted,
        }
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(&text)
    }
}

/// Shorter keys come first.
fn order(key: &str) -> (usize, &[u8]) {
    (key.len(), key.as_bytes())
}

/// A number without an exponent, and a zero without a sign.
fn plain_number(digits: &str) -> String {
    let Some((mantissa, exponent)) = digits.split_once(['e', 'E']) else {
        let is_zero = digits.bytes().all(|b| matches!(b, b'-' | b'0' | b'.'));
        return if is_zero { digits.trim_start_matches('-').to_owned() } else { digits.to_owned() };
    };
    let exponent: i32 = match exponent.parse() {
        Ok(exponent @ -400..=400) => exponent,
        _ => return digits.to_owned(),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let point = whole.len() as i32 + exponent;
    let all = format!("{whole}{decimals}");
    let text = if point <= 0 {
        format!("0.{}{all}", "0".repeat(point.unsigned_abs() as usize))
    } else if point as usize >= all.len() {
        let zeros = "0".repeat(point as usize - all.len());
        let whole = format!("{all}{zeros}");
        let stripped = whole.trim_start_matches('0');
        if stripped.is_empty() { "0".to_owned() } else { stripped.to_owned() }
    } else {
        let (whole, decimals) = all.split_at(point as usize);
        let whole = whole.trim_start_matches('0');
        format!("{}.{decimals}", if whole.is_empty() { "0" } else { whole })
    };
    let is_zero = all.bytes().all(|digit| digit == b'0');
    format!("{}{text}", if is_zero { "" } else { sign })
}

/// Writes a text in double quotes.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if (control as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The text of an object's member, the last of that key.
///
/// # Errors
/// As [`Json::parse`].
pub fn member<'a>(text: &'a str, key: &str) -> Result<Option<&'a str>> {
    let mut found = None;
    members(text, |name, value| {
        if name == key {
            found = Some(value);
        }
    })?;
    Ok(found)
}

/// Calls `each` with the key and the text of every member of an object; not at all for other values.
///
/// # Errors
/// As [`Json::parse`].
pub fn members<'a>(text: &'a str, mut each: impl FnMut(String, &'a str)) -> Result<bool> {
    let mut scanner = Scanner { text, at: 0 };
    if !scanner.takes('{') {
        return Ok(false);
    }
    if scanner.takes('}') {
        return Ok(true);
    }
    loop {
        scanner.space();
        let key = scanner.string()?;
        scanner.expect(':')?;
        each(key, scanner.skipped(1)?);
        if scanner.takes('}') {
            return Ok(true);
        }
        scanner.expect(',')?;
    }
}

/// The texts of an array's items; none for other values.
///
/// # Errors
/// As [`Json::parse`].
pub fn items(text: &str) -> Result<Option<Vec<&str>>> {
    let mut scanner = Scanner { text, at: 0 };
    if !scanner.takes('[') {
        return Ok(None);
    }
    let mut items = Vec::new();
    if scanner.takes(']') {
        return Ok(Some(items));
    }
    loop {
        items.push(scanner.skipped(1)?);
        if scanner.takes(']') {
            return Ok(Some(items));
        }
        scanner.expect(',')?;
    }
}

/// The value of a JSON text as `->>` gives it: a string without quotes, nothing for null.
///
/// # Errors
/// As [`Json::parse`].
pub fn unquoted(text: &str) -> Result<Option<String>> {
    let text = text.trim();
    match text.as_bytes().first() {
        Some(b'"') => Scanner { text, at: 0 }.string().map(Some),
        _ if text == "null" => Ok(None),
        _ => Ok(Some(text.to_owned())),
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn invalid(&self) -> Error {
        Error::InvalidText("invalid input syntax for type json".to_owned())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.space();
        let found = self.peek() == Some(wanted as u8);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.takes(wanted) { Ok(()) } else { Err(self.invalid()) }
    }

    fn end(&mut self) -> Result<()> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.invalid()) }
    }

    fn value(&mut self, depth: usize) -> Result<Json> {
        if depth > DEPTH_MAX {
            return Err(Error::LimitExceeded(format!("json is nested more than {DEPTH_MAX} deep")));
        }
        self.space();
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                let mut members = Vec::new();
                while members.is_empty() || !self.takes('}') {
                    if members.is_empty() && self.takes('}') {
                        break;
                    }
                    if !members.is_empty() {
                        self.expect(',')?;
                    }
                    self.space();
                    let key = self.string()?;
                    self.expect(':')?;
                    members.push((key, self.value(depth + 1)?));
                }
                Ok(Json::Object(members))
            }
            Some(b'[') => {
                self.at += 1;
                let mut items = Vec::new();
                while items.is_empty() || !self.takes(']') {
                    if items.is_empty() && self.takes(']') {
                        break;
                    }
                    if !items.is_empty() {
                        self.expect(',')?;
                    }
                    items.push(self.value(depth + 1)?);
                }
                Ok(Json::Array(items))
            }
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(|digits| Json::Number(digits.to_owned())),
            _ => match self.word()? {
                "true" => Ok(Json::Bool(true)),
                "false" => Ok(Json::Bool(false)),
                "null" => Ok(Json::Null),
                _ => Err(self.invalid()),
            },
        }
    }

    /// Passes over a value and returns its text.
    fn skipped(&mut self, depth: usize) -> Result<&'a str> {
        if depth > DEPTH_MAX {
            return Err(Error::LimitExceeded(format!("json is nested more than {DEPTH_MAX} deep")));
        }
        self.space();
        let from = self.at;
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                let mut first = true;
                while !self.takes('}') {
                    if !std::mem::replace(&mut first, false) {
                        self.expect(',')?;
                    }
                    self.space();
                    self.string_end()?;
                    self.expect(':')?;
                    self.skipped(depth + 1)?;
                }
            }
            Some(b'[') => {
                self.at += 1;
                let mut first = true;
                while !self.takes(']') {
                    if !std::mem::replace(&mut first, false) {
                        self.expect(',')?;
                    }
                    self.skipped(depth + 1)?;
                }
            }
            Some(b'"') => self.string_end()?,
            Some(b'-' | b'0'..=b'9') => drop(self.number()?),
            _ => match self.word()? {
                "true" | "false" | "null" => {}
                _ => return Err(self.invalid()),
            },
        }
        Ok(&self.text[from..self.at])
    }

    fn word(&mut self) -> Result<&'a str> {
        let from = self.at;
        while matches!(self.peek(), Some(b'a'..=b'z')) {
            self.at += 1;
        }
        if self.at == from { Err(self.invalid()) } else { Ok(&self.text[from..self.at]) }
    }

    fn number(&mut self) -> Result<&'a str> {
        let from = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(self.invalid());
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        match self.peek() {
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => Err(self.invalid()),
            _ => Ok(&self.text[from..self.at]),
        }
    }

    fn digits(&mut self) -> Result<&'a str> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { Err(self.invalid()) } else { Ok(&self.text[from..self.at]) }
    }

    /// Passes over a string.
    fn string_end(&mut self) -> Result<()> {
        if self.peek() != Some(b'"') {
            return Err(self.invalid());
        }
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += 2,
                Some(0..0x20) | None => return Err(self.invalid()),
                Some(_) => self.at += 1,
            }
        }
    }

    /// A string's value.
    fn string(&mut self) -> Result<String> {
        let from = self.at + 1;
        self.string_end()?;
        let raw = self.text.get(from..self.at - 1).ok_or_else(|| self.invalid())?;
        if !raw.contains('\\') {
            return Ok(raw.to_owned());
        }
        let mut out = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let escape = rest.chars().next().ok_or_else(|| self.invalid())?;
            rest = &rest[escape.len_utf8()..];
            out.push(match escape {
                '"' | '\\' | '/' => escape,
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => self.code(&mut rest)?,
                _ => return Err(self.invalid()),
            });
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What stands behind `\u`, two halves of one character together.
    fn code(&self, rest: &mut &str) -> Result<char> {
        let unit = |rest: &mut &str| {
            let (digits, after) = rest.split_at_checked(4).ok_or_else(|| self.invalid())?;
            *rest = after;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(self.invalid());
            }
            u16::from_str_radix(digits, 16).map_err(|_| self.invalid())
        };
        let mut units = vec![unit(rest)?];
        if (0xd800..0xdc00).contains(&units[0]) {
            *rest = rest.strip_prefix("\\u").ok_or_else(|| self.invalid())?;
            units.push(unit(rest)?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok('\0')) | None => {
                Err(Error::InvalidText("\\u0000 cannot be converted to text".to_owned()))
            }
            Some(decoded) => decoded.map_err(|_| self.invalid()),
        }
    }
}

#[cfg(test)]
mod tests;
