//! The scanner: where SQL ends, where commands stand, and what variables become.
//!
//! As psql's own: quotes, dollar quotes and comments hide everything in them; a semicolon outside of
//! parentheses ends a piece; a backslash begins a command; a variable's value is read as if it stood
//! there, and a name between quotes as a literal or an identifier.

use std::path::PathBuf;
use std::time::Duration;

use super::command::Branches;
use super::variables::{identifier, is_name_character, literal};
use super::{Failed, Item, Loader, Piece, Place, ScriptError, StepOptions};

/// How deep values of variables may name variables.
const EXPANSIONS_MAX: usize = 16;

/// Reads one file into items.
pub(super) struct Scanner<'a> {
    pub loader: &'a mut Loader,
    pub path: PathBuf,
    pub items: &'a mut Vec<Item>,
    pub branches: Branches,
    file: usize,
    text: &'a str,
    pub at: usize,
    piece: Piece,
    /// Where the piece begins in the file.
    begin: usize,
    parentheses: usize,
    options: StepOptions,
    pub quits: bool,
}

/// What the characters at hand come from.
#[derive(Clone, Copy)]
struct Origin<'v> {
    text: &'v str,
    /// Of a variable's value: where the variable stands.
    fixed: Option<Place>,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(
        loader: &'a mut Loader,
        file: usize,
        text: &'a str,
        path: PathBuf,
        items: &'a mut Vec<Item>,
    ) -> Self {
        Self {
            loader,
            path,
            items,
            branches: Branches::default(),
            file,
            text,
            at: 0,
            piece: Piece::default(),
            begin: 0,
            parentheses: 0,
            options: StepOptions::default(),
            quits: false,
        }
    }

    /// Reads the file to its end.
    pub fn run(mut self) -> Result<(), Failed> {
        let text = self.text;
        while self.at < text.len() && !self.quits {
            self.at = self.step(Origin { text, fixed: None, depth: 0 }, self.at)?;
        }
        if let Some(place) = self.branches.open() {
            return Err(ScriptError::new(place, "42601", "\\if without \\endif").into());
        }
        self.end(text.len());
        Ok(())
    }

    pub fn place(&self, offset: usize) -> Place {
        Place { file: self.file, offset }
    }

    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Reads what stands at a byte; returns the byte behind it.
    fn step(&mut self, origin: Origin<'_>, at: usize) -> Result<usize, Failed> {
        let rest = &origin.text[at..];
        let mut characters = rest.chars();
        let (first, second) = (characters.next().unwrap_or_default(), characters.next());
        match (first, second) {
            ('-', Some('-')) => return self.line_comment(rest, at),
            ('/', Some('*')) => return Ok(at + self.block_comment(origin, at)?),
            ('\'' | '"', _) => return self.quoted(origin, at, first),
            ('$', _) if !self.piece.text.ends_with(is_name_character) => {
                if let Some(length) = dollar_quoted(rest) {
                    self.keep(origin, at, length);
                    return Ok(at + length);
                }
            }
            (':', Some(':' | '=')) => {
                self.keep(origin, at, 2);
                return Ok(at + 2);
            }
            (':', Some(_)) if self.branches.active() => {
                if let Some(length) = self.variable(origin, at)? {
                    return Ok(at + length);
                }
            }
            ('\\', Some(';')) => {
                self.keep(origin, at + 1, 1);
                return Ok(at + 2);
            }
            ('\\', _) if origin.fixed.is_none() => {
                self.at = at + 1;
                return self.command(at);
            }
            ('(', _) => self.parentheses += 1,
            (')', _) => self.parentheses = self.parentheses.saturating_sub(1),
            (';', _) if self.parentheses == 0 => {
                self.end(if origin.fixed.is_none() { at } else { self.at });
                return Ok(at + 1);
            }
            _ => {}
        }
        if first.is_whitespace() && self.piece.text.is_empty() {
            return Ok(at + first.len_utf8());
        }
        self.keep(origin, at, first.len_utf8());
        Ok(at + first.len_utf8())
    }

    /// Takes characters as they are.
    fn keep(&mut self, origin: Origin<'_>, at: usize, length: usize) {
        if !self.branches.active() {
            return;
        }
        let place = origin.fixed.unwrap_or(Place { file: self.file, offset: at });
        let follows = origin.fixed.is_none();
        if self.piece.text.is_empty() {
            self.begin = place.offset;
        }
        let begin = self.piece.text.len();
        let goes_on = self.piece.origin.last().is_some_and(|(from, last, moves)| match moves {
            true => follows && last.offset + (begin - from) == at,
            false => !follows && *last == place,
        });
        if !goes_on {
            self.piece.origin.push((begin, place, follows));
        }
        self.piece.text.push_str(&origin.text[at..at + length]);
    }

    /// Puts a text in the place of something.
    fn put(&mut self, text: &str, place: Place) {
        self.keep(Origin { text, fixed: Some(place), depth: 0 }, 0, text.len());
    }

    /// Ends the piece at a byte of the file.
    pub fn end(&mut self, at: usize) {
        self.parentheses = 0;
        let mut piece = std::mem::take(&mut self.piece);
        let trimmed = piece.text.trim_end().len();
        piece.text.truncate(trimmed);
        if piece.text.is_empty() {
            return;
        }
        piece.written = self.text.get(self.begin..at).unwrap_or_default().trim().to_owned();
        piece.options = std::mem::take(&mut self.options);
        self.items.push(Item::Sql(piece));
    }

    fn line_comment(&mut self, rest: &str, at: usize) -> Result<usize, Failed> {
        let length = rest.find('\n').unwrap_or(rest.len());
        if let Some(options) = rest[2..length].trim().strip_prefix("lacus:")
            && self.branches.active()
        {
            let place = self.place(at);
            let read = read_options(options, &mut self.options);
            read.map_err(|message| ScriptError::new(place, "42601", message))?;
        }
        Ok(at + length)
    }

    /// Comments nest, as in PostgreSQL. One blank takes its place.
    fn block_comment(&mut self, origin: Origin<'_>, at: usize) -> Result<usize, Failed> {
        let rest = &origin.text[at..];
        let (mut depth, mut from) = (0_usize, 0);
        while from < rest.len() {
            let two = rest.get(from..from + 2).unwrap_or_default();
            match two {
                "/*" => depth += 1,
                "*/" => depth -= 1,
                _ => {
                    from += rest[from..].chars().next().map_or(1, char::len_utf8);
                    continue;
                }
            }
            from += 2;
            if depth == 0 {
                if !self.piece.text.is_empty() {
                    self.put(" ", Place { file: self.file, offset: self.at });
                }
                return Ok(from);
            }
        }
        Err(ScriptError::new(self.place(self.at), "42601", "unterminated /* comment").into())
    }

    fn quoted(&mut self, origin: Origin<'_>, at: usize, quote: char) -> Result<usize, Failed> {
        let escapes = quote == '\'' && is_escape_string(&self.piece.text);
        let rest = &origin.text[at..];
        let mut characters = rest.char_indices().skip(1).peekable();
        while let Some((byte, character)) = characters.next() {
            match character {
                '\\' if escapes => drop(characters.next()),
                _ if character == quote => match characters.peek() {
                    Some((_, next)) if *next == quote => drop(characters.next()),
                    _ => {
                        self.keep(origin, at, byte + 1);
                        return Ok(at + byte + 1);
                    }
                },
                _ => {}
            }
        }
        let place = origin.fixed.unwrap_or(self.place(at));
        Err(ScriptError::new(place, "42601", format!("unterminated quoted text: {quote}…")).into())
    }

    /// Puts a variable's value in; returns how long its name is, none where no variable stands.
    fn variable(&mut self, origin: Origin<'_>, at: usize) -> Result<Option<usize>, Failed> {
        let rest = &origin.text[at + 1..];
        let place = origin.fixed.unwrap_or(self.place(at));
        let quote = rest.chars().next().filter(|first| matches!(first, '\'' | '"'));
        if let Some(quote) = quote {
            let name = rest[1..].split_once(quote).map(|(name, _)| name);
            let Some(name) = name.filter(|name| super::variables::is_name(name)) else { return Ok(None) };
            match self.loader.variables.value(name).map(str::to_owned) {
                Some(value) if quote == '"' => self.put(&identifier(&value), place),
                Some(value) => self.put(&literal(&value), place),
                None => {
                    self.piece.unset.push(name.to_owned());
                    return Ok(None);
                }
            }
            return Ok(Some(name.len() + 3));
        }
        if let Some(name) = rest.strip_prefix("{?").and_then(|rest| Some(rest.split_once('}')?.0)) {
            let is_set = self.loader.variables.value(name).is_some();
            self.put(if is_set { "TRUE" } else { "FALSE" }, place);
            return Ok(Some(name.len() + 4));
        }
        let length = rest.find(|character| !is_name_character(character)).unwrap_or(rest.len());
        let name = &rest[..length];
        if name.is_empty() {
            return Ok(None);
        }
        let Some(value) = self.loader.variables.value(name).map(str::to_owned) else {
            if !name.starts_with(|first: char| first.is_ascii_digit()) {
                self.piece.unset.push(name.to_owned());
            }
            return Ok(None);
        };
        if origin.depth >= EXPANSIONS_MAX {
            let message = format!("the value of variable \"{name}\" names variables without an end");
            return Err(ScriptError::new(place, "54001", message).into());
        }
        let inner = Origin { text: &value, fixed: Some(place), depth: origin.depth + 1 };
        let mut from = 0;
        while from < value.len() {
            from = self.step(inner, from)?;
        }
        Ok(Some(length + 1))
    }
}

/// Whether the quote that follows opens a text with backslashes: an `E` of its own stands before it.
fn is_escape_string(before: &str) -> bool {
    let mut characters = before.chars().rev();
    matches!(characters.next(), Some('e' | 'E')) && !characters.next().is_some_and(is_name_character)
}

/// The length of a text in dollar quotes that begins here.
fn dollar_quoted(rest: &str) -> Option<usize> {
    let tag = rest[1..].find('$').map(|end| &rest[..end + 2])?;
    let name = &tag[1..tag.len() - 1];
    let is_tag = name.chars().all(is_name_character) && !name.starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return None;
    }
    let end = rest[tag.len()..].find(tag)?;
    Some(tag.len() + end + tag.len())
}

fn read_options(text: &str, options: &mut StepOptions) -> Result<(), String> {
    for word in text.split_whitespace() {
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("\"{word}\" is no option of a step"))?;
        let bad = || format!("\"{value}\" is no value of {name}");
        match name {
            "retries" => options.retries = Some(value.parse().map_err(|_| bad())?),
            "backoff" => options.backoff = Some(duration(value).ok_or_else(bad)?),
            "timeout" => options.timeout = Some(duration(value).ok_or_else(bad)?),
            _ => {
                return Err(format!(
                    "a step has no option \"{name}\": retries, backoff and timeout are known"
                ));
            }
        }
    }
    Ok(())
}

/// `500ms`, `10s`, `15m`, `2h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_millis)
}
