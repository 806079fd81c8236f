//! psql's commands: `\set`, `\if`, `\i`, `\echo` and their relatives.

use std::path::{Path, PathBuf};

use super::scan::Scanner;
use super::variables::{identifier, is_name, is_name_character, literal};
use super::{Failed, Item, Place, ScriptError};

/// Commands about how psql prints or waits, which change nothing of what a script does.
const IGNORED: [&str; 18] = [
    "a",
    "C",
    "encoding",
    "f",
    "H",
    "html",
    "pset",
    "t",
    "timing",
    "T",
    "x",
    "conninfo",
    "errverbose",
    "unrestrict",
    "restrict",
    "s",
    "r",
    "reset",
];

/// The open `\if`s of a file.
#[derive(Debug, Default)]
pub(super) struct Branches(Vec<Branch>);

#[derive(Debug)]
struct Branch {
    place: Place,
    /// Whether what stands here is done.
    active: bool,
    /// Whether a branch was chosen already, or none can be.
    chosen: bool,
    after_else: bool,
}

impl Branches {
    pub fn active(&self) -> bool {
        self.0.last().is_none_or(|branch| branch.active)
    }

    /// Where an `\if` stands that has no end.
    pub fn open(&self) -> Option<Place> {
        self.0.last().map(|branch| branch.place)
    }
}

impl Scanner<'_> {
    /// Does the command whose name follows; returns the byte behind it.
    pub(super) fn command(&mut self, backslash: usize) -> Result<usize, Failed> {
        let place = self.place(backslash);
        let rest = self.rest();
        let length = rest.find(|c: char| c.is_whitespace() || c == '\\').unwrap_or(rest.len());
        let name = if length == 0 { "" } else { &rest[..length] };
        self.at += length;
        match name {
            "if" | "elif" | "else" | "endif" => self.branch(name, place)?,
            _ if !self.branches.active() => drop(self.arguments()?),
            _ => self.act(name, place, backslash)?,
        }
        // `\\` ends a command within a line.
        if self.rest().starts_with("\\\\") {
            self.at += 2;
        }
        Ok(self.at)
    }

    fn branch(&mut self, name: &str, place: Place) -> Result<(), Failed> {
        let wrong = |message: &str| Failed::from(ScriptError::new(place, "42601", message));
        if name == "if" {
            let outer = self.branches.active();
            let active = self.condition(outer)?;
            self.branches.0.push(Branch { place, active, chosen: active || !outer, after_else: false });
            return Ok(());
        }
        let Some(open) = self.branches.0.last() else {
            return Err(wrong(&format!("\\{name} without \\if")));
        };
        let (chosen, after_else) = (open.chosen, open.after_else);
        if name == "endif" {
            self.branches.0.pop();
            self.arguments()?;
            return Ok(());
        }
        if after_else {
            return Err(wrong(&format!("\\{name} behind \\else")));
        }
        let active = match name {
            "elif" => self.condition(!chosen)?,
            _ => {
                self.arguments()?;
                !chosen
            }
        };
        if let Some(open) = self.branches.0.last_mut() {
            open.active = active;
            open.chosen |= active;
            open.after_else = name == "else";
        }
        Ok(())
    }

    /// The truth of a condition; of one that does not matter, false.
    fn condition(&mut self, matters: bool) -> Result<bool, Failed> {
        let place = self.place(self.at);
        let value = self.arguments()?.concat();
        if !matters {
            return Ok(false);
        }
        truth(&value).ok_or_else(|| {
            let message = format!("unrecognized value \"{value}\" for \"\\if expression\": Boolean expected");
            ScriptError::new(place, "22023", message).into()
        })
    }

    fn act(&mut self, name: &str, place: Place, backslash: usize) -> Result<(), Failed> {
        let wrong =
            |sqlstate: &str, message: String| Failed::from(ScriptError::new(place, sqlstate, message));
        match name {
            "set" => {
                let arguments = self.arguments()?;
                let Some((variable, values)) = arguments.split_first() else { return Ok(()) };
                if !is_name(variable) {
                    return Err(wrong("42601", format!("invalid variable name: \"{variable}\"")));
                }
                let value = values.concat();
                if variable == "ON_ERROR_STOP" && truth(&value) == Some(false) {
                    let message = "lacus run stops at the first error; ON_ERROR_STOP cannot be off";
                    return Err(wrong("0A000", message.to_owned()));
                }
                self.loader.variables.set(variable, value);
            }
            "unset" => {
                let arguments = self.arguments()?;
                arguments.iter().for_each(|name| self.loader.variables.unset(name));
            }
            "getenv" => {
                if let [variable, from] = self.arguments()?.as_slice()
                    && let Ok(value) = std::env::var(from)
                {
                    self.loader.variables.set(variable, value);
                }
            }
            "echo" | "qecho" | "warn" => {
                let mut arguments = self.arguments()?;
                let breaks = arguments.first().is_none_or(|first| first != "-n");
                if !breaks {
                    arguments.remove(0);
                }
                let text = format!("{}{}", arguments.join(" "), if breaks { "\n" } else { "" });
                self.items.push(Item::Print { text, to_stderr: name == "warn" });
            }
            "i" | "include" | "ir" | "include_relative" => self.include(name.contains('r'), place)?,
            "g" => {
                if !self.arguments()?.is_empty() {
                    return Err(wrong("0A000", "\\g with a file or a program is not supported".to_owned()));
                }
                self.end(backslash);
            }
            "q" | "quit" => self.quits = true,
            _ if IGNORED.contains(&name) => drop(self.arguments()?),
            "gset" | "gexec" | "gdesc" | "gx" | "crosstabview" | "bind" | "watch" => {
                return Err(wrong(
                    "0A000",
                    format!("\\{name} is not supported: what it does depends on an answer"),
                ));
            }
            _ => {
                return Err(wrong("0A000", format!("the command \\{name} is not supported by lacus run")));
            }
        }
        Ok(())
    }

    fn include(&mut self, is_relative: bool, place: Place) -> Result<(), Failed> {
        let arguments = self.arguments()?;
        let [file] = arguments.as_slice() else {
            return Err(ScriptError::new(place, "42601", "\\i: missing required argument").into());
        };
        let path = match (is_relative, self.path.parent()) {
            (true, Some(folder)) => folder.join(file),
            _ => PathBuf::from(file),
        };
        let name = path.display().to_string();
        let included = self.loader.include(Path::new(&path), &name, self.items);
        included.map_err(|failed| match failed {
            Failed::File(error) => Failed::Script(ScriptError {
                place: Some(place),
                sqlstate: error.sqlstate().to_owned(),
                message: error.to_string(),
                hint: None,
            }),
            other => other,
        })
    }

    /// The arguments of a command, to the end of the line: words, and texts in quotes, with variables.
    fn arguments(&mut self) -> Result<Vec<String>, Failed> {
        let line_end = self.rest().find('\n').unwrap_or(self.rest().len());
        let line = self.rest()[..line_end].trim_end_matches('\r').to_owned();
        let begin = self.at;
        let mut arguments = Vec::new();
        let mut at = 0;
        while let Some(first) = line[at..].chars().next() {
            if first.is_whitespace() {
                at += first.len_utf8();
            } else if first == '\\' {
                // Another command, or `\\`.
                self.at = begin + at;
                return Ok(arguments);
            } else {
                let (argument, length) = self.argument(&line[at..], begin + at)?;
                arguments.push(argument);
                at += length;
            }
        }
        self.at = begin + line_end;
        Ok(arguments)
    }

    fn argument(&self, rest: &str, offset: usize) -> Result<(String, usize), Failed> {
        let wrong = |sqlstate: &str, message: &str| {
            Failed::from(ScriptError::new(self.place(offset), sqlstate, message))
        };
        let (mut argument, mut at) = (String::new(), 0);
        while let Some(first) = rest[at..].chars().next() {
            match first {
                _ if first.is_whitespace() || first == '\\' => break,
                '`' => return Err(wrong("0A000", "programs in backquotes are not run")),
                '\'' => {
                    let (text, length) =
                        quoted(&rest[at..]).ok_or_else(|| wrong("42601", "unterminated quoted string"))?;
                    argument.push_str(&text);
                    at += length;
                }
                '"' => {
                    let end = rest[at + 1..]
                        .find('"')
                        .ok_or_else(|| wrong("42601", "unterminated quoted string"))?;
                    argument.push_str(&rest[at..at + end + 2]);
                    at += end + 2;
                }
                ':' => {
                    let (value, length) = self.value_of(&rest[at..]);
                    argument.push_str(&value);
                    at += length;
                }
                other => {
                    argument.push(other);
                    at += other.len_utf8();
                }
            }
        }
        Ok((argument, at))
    }

    /// What a colon begins within an argument, and how long it is.
    fn value_of(&self, rest: &str) -> (String, usize) {
        let variables = &self.loader.variables;
        let behind = &rest[1..];
        for quote in ['\'', '"'] {
            let name = behind.strip_prefix(quote).and_then(|rest| Some(rest.split_once(quote)?.0));
            if let Some(name) = name.filter(|name| is_name(name))
                && let Some(value) = variables.value(name)
            {
                let value = if quote == '"' { identifier(value) } else { literal(value) };
                return (value, name.len() + 3);
            }
        }
        if let Some(name) = behind.strip_prefix("{?").and_then(|rest| Some(rest.split_once('}')?.0)) {
            let is_set = if variables.value(name).is_some() { "TRUE" } else { "FALSE" };
            return (is_set.to_owned(), name.len() + 4);
        }
        let length = behind.find(|character| !is_name_character(character)).unwrap_or(behind.len());
        match variables.value(&behind[..length]) {
            Some(value) if length > 0 => (value.to_owned(), length + 1),
            _ => (":".to_owned(), 1),
        }
    }
}

/// A text in single quotes with C's escapes, and its length with them.
fn quoted(rest: &str) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                characters.next();
                text.push('\'');
            }
            '\'' => return Some((text, at + 1)),
            '\\' => text.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => text.push(other),
        }
    }
    None
}

/// A truth value as psql reads one: any beginning of a word, and numbers.
fn truth(value: &str) -> Option<bool> {
    let value = value.trim().to_lowercase();
    let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
    match value.as_str() {
        "1" | "on" => Some(true),
        "0" | "off" | "of" => Some(false),
        _ if begins("true") || begins("yes") => Some(true),
        _ if begins("false") || begins("no") => Some(false),
        _ => None,
    }
}
