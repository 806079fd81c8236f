//! Rules: what a table asks of its rows beyond their types, where Iceberg has no place for it.
//!
//! Defaults and constraints are kept as one property of the table, [`PROPERTY`]; columns stand in it by
//! their field ids, so that a rename leaves it alone, and expressions as SQL. A primary key is declared to
//! other engines too, as the schema's identifier fields. `write-default` and `initial-default` are
//! of Iceberg's version 3 and not written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::metadata::TableMetadata;
use crate::error::{Error, Result};

/// The table property that holds the rules.
pub(super) const PROPERTY: &str = "lacus.rules";

/// Defaults and constraints of one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// SQL expressions, by the field id of their column.
    #[serde(default)]
    pub defaults: BTreeMap<i32, String>,
    #[serde(default)]
    pub checks: Vec<Check>,
    #[serde(default)]
    pub keys: Vec<Key>,
}

/// A condition that no row may fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    /// The condition as SQL.
    pub sql: String,
}

/// `PRIMARY KEY` or `UNIQUE`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub name: String,
    pub primary: bool,
    /// Field ids of its columns, in the order of the declaration.
    pub columns: Vec<i32>,
    /// Whether a second row of one key is refused, or only nobody's business.
    pub enforced: bool,
}

impl Rules {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a constraint has this name.
    pub fn has(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name) || self.keys.iter().any(|key| key.name == name)
    }

    /// Keys that are enforced.
    pub fn enforced(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.enforced)
    }

    pub fn primary_key(&self) -> Option<&Key> {
        self.keys.iter().find(|key| key.primary)
    }

    /// Whether rows that were written under the one may be added under the other.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        self.checks == other.checks && self.enforced().eq(other.enforced())
    }
}

impl TableMetadata {
    /// Returns the table's defaults and constraints.
    ///
    /// # Errors
    /// [`Error::CorruptFile`] when the property holds something else.
    pub fn rules(&self) -> Result<Rules> {
        let Some(text) = self.properties.get(PROPERTY) else { return Ok(Rules::default()) };
        let corrupt = |error: serde_json::Error| Error::CorruptFile {
            path: self.url.clone(),
            reason: format!("property \"{PROPERTY}\": {error}"),
        };
        serde_json::from_str(text).map_err(corrupt)
    }

    /// Gives the table other rules.
    ///
    /// # Errors
    /// None that a table could cause.
    pub(super) fn set_rules(&mut self, rules: &Rules) -> Result<()> {
        if rules.is_empty() {
            self.properties.remove(PROPERTY);
            return Ok(());
        }
        let text = serde_json::to_string(rules).map_err(|error| Error::Internal(error.to_string()))?;
        self.properties.insert(PROPERTY.to_owned(), text);
        Ok(())
    }
}
