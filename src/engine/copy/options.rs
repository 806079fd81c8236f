//! Options of COPY, checked as PostgreSQL checks them.

use crate::error::{Error, Result};

/// How the rows of a COPY look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    /// The text that stands for null.
    pub null: String,
    pub header: Header,
    pub quote: u8,
    pub escape: u8,
    pub force_quote: Columns,
    pub force_not_null: Columns,
    pub force_null: Columns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
    /// An Arrow IPC stream; COPY TO only.
    Arrow,
}

/// Whether the first line holds the columns' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    No,
    Yes,
    /// They must be the names of the columns that are copied.
    Match,
}

/// Columns that an option is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Columns {
    Named(Vec<String>),
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    From,
    To,
}

/// What stood behind an option's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyValue {
    None,
    One(String),
    Columns(Columns),
}

impl Columns {
    pub fn none() -> Self {
        Self::Named(Vec::new())
    }

    /// Which of `columns` are meant.
    ///
    /// # Errors
    /// [`Error::Planning`] for a name that is not among them; `option` says whose it is.
    pub fn among(&self, columns: &[&str], option: &str) -> Result<Vec<bool>> {
        let Self::Named(names) = self else { return Ok(vec![true; columns.len()]) };
        match names.iter().find(|name| !columns.contains(&name.as_str())) {
            Some(name) => Err(Error::Planning(format!("{option} column \"{name}\" not referenced by COPY"))),
            None => Ok(columns.iter().map(|column| names.iter().any(|name| name == column)).collect()),
        }
    }

    fn is_none(&self) -> bool {
        *self == Self::none()
    }
}

/// The options as they were given, each at most once.
#[derive(Debug, Default)]
struct Given {
    format: Option<String>,
    freeze: Option<CopyValue>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<CopyValue>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<Columns>,
    force_not_null: Option<Columns>,
    force_null: Option<Columns>,
    encoding: Option<String>,
}

impl CopyOptions {
    /// Reads options by their names, in lower case.
    ///
    /// # Errors
    /// [`Error::Syntax`] for an option that is not known, comes twice or does not go with the format;
    /// [`Error::Unsupported`] and [`Error::InvalidParameter`] for values that none can have.
    pub fn of(given: Vec<(String, CopyValue)>, direction: Direction) -> Result<Self> {
        let mut all = Given::default();
        for (name, value) in given {
            all.take(&name, value)?;
        }
        let format = all.format(direction)?;
        all.refuse_beside(format)?;
        let is_csv = format == CopyFormat::Csv;
        let quote = one_byte("quote", all.quote.as_deref().unwrap_or("\""))?;
        let delimiter = all.delimiter.as_deref().unwrap_or(if is_csv { "," } else { "\t" });
        let options = Self {
            format,
            delimiter: one_byte("delimiter", delimiter)?,
            null: all.null.take().unwrap_or_else(|| if is_csv { "" } else { "\\N" }.to_owned()),
            header: header(all.header.take(), direction)?,
            quote,
            escape: match all.escape.as_deref() {
                Some(escape) => one_byte("escape", escape)?,
                None => quote,
            },
            force_quote: all.force_quote.take().unwrap_or_else(Columns::none),
            force_not_null: all.force_not_null.take().unwrap_or_else(Columns::none),
            force_null: all.force_null.take().unwrap_or_else(Columns::none),
        };
        options.check(direction)?;
        Ok(options)
    }

    pub fn is_binary(&self) -> bool {
        matches!(self.format, CopyFormat::Binary | CopyFormat::Arrow)
    }

    fn check(&self, direction: Direction) -> Result<()> {
        let invalid = |message: &str| Err(Error::InvalidParameter(message.to_owned()));
        let unsupported = |message: &str| Err(Error::Unsupported(message.to_owned()));
        let is_csv = self.format == CopyFormat::Csv;
        let breaks = |text: &[u8]| text.contains(&b'\n') || text.contains(&b'\r');
        if breaks(&[self.delimiter]) {
            return invalid("COPY delimiter cannot be newline or carriage return");
        }
        if breaks(self.null.as_bytes()) {
            return invalid("COPY null representation cannot use newline or carriage return");
        }
        if !is_csv && (self.delimiter.is_ascii_lowercase() || b"\\.0123456789".contains(&self.delimiter)) {
            return invalid(&format!("COPY delimiter cannot be \"{}\"", char::from(self.delimiter)));
        }
        if self.null.as_bytes().contains(&self.delimiter) {
            return unsupported("COPY delimiter must not appear in the NULL specification");
        }
        if is_csv && self.delimiter == self.quote {
            return invalid("COPY delimiter and quote must be different");
        }
        if is_csv && self.null.as_bytes().contains(&self.quote) {
            return unsupported("CSV quote character must not appear in the NULL specification");
        }
        if !is_csv && !self.force_quote.is_none() {
            return unsupported("COPY force quote available only in CSV mode");
        }
        if !self.force_quote.is_none() && direction == Direction::From {
            return unsupported("COPY force quote only available using COPY TO");
        }
        for (columns, name) in [(&self.force_not_null, "force not null"), (&self.force_null, "force null")] {
            if !is_csv && !columns.is_none() {
                return unsupported(&format!("COPY {name} available only in CSV mode"));
            }
            if !columns.is_none() && direction == Direction::To {
                return unsupported(&format!("COPY {name} only available using COPY FROM"));
            }
        }
        Ok(())
    }
}

impl Given {
    fn take(&mut self, name: &str, value: CopyValue) -> Result<()> {
        match name {
            "format" => once(&mut self.format, text(name, value)?),
            "freeze" => once(&mut self.freeze, value),
            "delimiter" => once(&mut self.delimiter, text(name, value)?),
            "null" => once(&mut self.null, text(name, value)?),
            "header" => once(&mut self.header, value),
            "quote" => once(&mut self.quote, text(name, value)?),
            "escape" => once(&mut self.escape, text(name, value)?),
            "force_quote" => once(&mut self.force_quote, columns(name, value)?),
            "force_not_null" => once(&mut self.force_not_null, columns(name, value)?),
            "force_null" => once(&mut self.force_null, columns(name, value)?),
            "encoding" => once(&mut self.encoding, text(name, value)?),
            other => Err(syntax(format!("option \"{other}\" not recognized"))),
        }
    }

    fn format(&self, direction: Direction) -> Result<CopyFormat> {
        match (self.format.as_deref().unwrap_or("text"), direction) {
            ("text", _) => Ok(CopyFormat::Text),
            ("csv", _) => Ok(CopyFormat::Csv),
            ("binary", _) => Ok(CopyFormat::Binary),
            ("arrow", Direction::To) => Ok(CopyFormat::Arrow),
            (other, _) => Err(Error::InvalidParameter(format!("COPY format \"{other}\" not recognized"))),
        }
    }

    /// Refuses options that do not go with a format.
    fn refuse_beside(&mut self, format: CopyFormat) -> Result<()> {
        if let Some(encoding) = &self.encoding {
            ensure_utf8(encoding)?;
        }
        // Every COPY is frozen: nobody sees its rows before it commits, and then everybody does.
        if let Some(freeze) = self.freeze.take() {
            boolean("freeze", freeze)?;
        }
        if matches!(format, CopyFormat::Binary | CopyFormat::Arrow) {
            let given = [
                ("DELIMITER", self.delimiter.is_some()),
                ("NULL", self.null.is_some()),
                ("HEADER", self.header.is_some()),
            ];
            if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
                let format = if format == CopyFormat::Binary { "BINARY" } else { "ARROW" };
                return Err(syntax(format!("cannot specify {name} in {format} mode")));
            }
        }
        if format != CopyFormat::Csv {
            for (name, given) in [("quote", &self.quote), ("escape", &self.escape)] {
                if given.is_some() {
                    return Err(Error::Unsupported(format!("COPY {name} available only in CSV mode")));
                }
            }
        }
        Ok(())
    }
}

fn header(given: Option<CopyValue>, direction: Direction) -> Result<Header> {
    match given {
        None => Ok(Header::No),
        Some(CopyValue::One(word)) if word.eq_ignore_ascii_case("match") => match direction {
            Direction::From => Ok(Header::Match),
            Direction::To => {
                Err(Error::Unsupported("cannot use \"match\" with HEADER in COPY TO".to_owned()))
            }
        },
        Some(value) => Ok(if boolean("header", value)? { Header::Yes } else { Header::No }),
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(syntax("conflicting or redundant options".to_owned())),
    }
}

fn text(name: &str, value: CopyValue) -> Result<String> {
    match value {
        CopyValue::One(text) => Ok(text),
        _ => Err(syntax(format!("{name} requires a parameter"))),
    }
}

fn boolean(name: &str, value: CopyValue) -> Result<bool> {
    let wrong = || syntax(format!("{name} requires a Boolean value"));
    match value {
        CopyValue::None => Ok(true),
        CopyValue::One(word) => match word.to_ascii_lowercase().as_str() {
            "true" | "on" | "1" => Ok(true),
            "false" | "off" | "0" => Ok(false),
            _ => Err(wrong()),
        },
        CopyValue::Columns(_) => Err(wrong()),
    }
}

fn columns(name: &str, value: CopyValue) -> Result<Columns> {
    match value {
        CopyValue::Columns(columns) => Ok(columns),
        _ => Err(Error::InvalidParameter(format!(
            "argument to option \"{name}\" must be a list of column names"
        ))),
    }
}

fn one_byte(name: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(Error::Unsupported(format!("COPY {name} must be a single one-byte character"))),
    }
}

fn ensure_utf8(encoding: &str) -> Result<()> {
    let letters = encoding.chars().filter(char::is_ascii_alphanumeric);
    match letters.collect::<String>().to_ascii_lowercase().as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => Err(Error::Unsupported(format!("COPY speaks UTF8 only, not the encoding \"{encoding}\""))),
    }
}

fn syntax(message: String) -> Error {
    Error::Syntax { message, position: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)], direction: Direction) -> Result<CopyOptions> {
        let given =
            given.iter().map(|(name, value)| ((*name).to_owned(), CopyValue::One((*value).to_owned())));
        CopyOptions::of(given.collect(), direction)
    }

    #[test]
    fn formats_have_their_own_defaults() {
        let text = options(&[], Direction::From).unwrap();
        assert_eq!((text.delimiter, text.null.as_str(), text.header), (b'\t', "\\N", Header::No));
        let csv =
            options(&[("format", "csv"), ("quote", "'"), ("header", "match")], Direction::From).unwrap();
        assert_eq!((csv.delimiter, csv.null.as_str(), csv.escape), (b',', "", b'\''));
        assert_eq!(csv.header, Header::Match);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let code = |given: &[(&str, &str)], direction| options(given, direction).unwrap_err().sqlstate();
        for (given, wanted) in [
            (&[("format", "excel")][..], "22023"),
            (&[("colour", "red")], "42601"),
            (&[("null", ""), ("null", "x")], "42601"),
            (&[("delimiter", "ab")], "0A000"),
            (&[("delimiter", "ä")], "0A000"),
            (&[("delimiter", "\n")], "22023"),
            (&[("delimiter", "a")], "22023"),
            (&[("delimiter", "|"), ("null", "a|b")], "0A000"),
            (&[("quote", "'")], "0A000"),
            (&[("format", "csv"), ("delimiter", "\"")], "22023"),
            (&[("format", "binary"), ("null", "x")], "42601"),
            (&[("encoding", "latin1")], "0A000"),
            (&[("header", "perhaps")], "42601"),
        ] {
            assert_eq!(code(given, Direction::From), wanted, "{given:?}");
        }
        assert_eq!(code(&[("format", "arrow")], Direction::From), "22023");
        assert_eq!(code(&[("header", "match")], Direction::To), "0A000");
    }
}
