//! Variables of scripts: set on the command line, by the environment, and by `\set`.

use std::collections::BTreeMap;

use crate::function::quote_literal;

/// Environment variables that begin so are variables of scripts.
const PREFIX: &str = "LACUS_VAR_";
/// A shorter secret would blot out half of what is printed.
const HIDDEN_BYTES_MIN: usize = 3;

/// Names and values.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
    secrets: Vec<String>,
}

impl Variables {
    /// What the environment sets: `LACUS_VAR_day=…` is `:day`.
    pub fn of_environment() -> Self {
        let mut variables = Self::default();
        for (name, value) in std::env::vars() {
            if let Some(name) = name.strip_prefix(PREFIX).filter(|name| is_name(name)) {
                variables.set(name, value);
            }
        }
        variables
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), value);
    }

    /// Sets one whose value is never shown or recorded.
    pub fn set_secret(&mut self, name: &str, value: String) {
        self.secrets.push(value.clone());
        self.set(name, value);
    }

    pub fn unset(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Values that are not to be shown.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

/// A text without secret values.
pub fn hide(text: &str, secrets: &[String]) -> String {
    let mut shown = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= HIDDEN_BYTES_MIN) {
        shown = shown.replace(secret.as_str(), "***");
        shown = shown.replace(&secret.replace('\'', "''"), "***");
    }
    shown
}

/// Whether psql takes it for the name of a variable.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_character)
}

/// Letters beyond ASCII are taken too.
pub fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || !character.is_ascii()
}

/// A value as SQL writes a text.
pub fn literal(value: &str) -> String {
    let quoted = quote_literal(value);
    // Apart from a word in front of it.
    if quoted.starts_with('E') { format!(" {quoted}") } else { quoted }
}

/// A value as SQL writes a name.
pub fn identifier(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}
