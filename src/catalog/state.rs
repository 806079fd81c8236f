//! The state of a lake at one version: every schema, table and view that the log names.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::log::{BranchRecord, Dependency, LogEntry, Operation, TableRecord, ViewRecord};
use crate::error::{Error, Result};

/// All names of a lake at one version. Cloning is cheap: schemas are shared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LakeState {
    pub version: u64,
    pub time_ms: i64,
    pub schemas: BTreeMap<String, Arc<SchemaState>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub branches: BTreeMap<String, BranchRecord>,
    /// Of a branch: whether it is being merged and takes no commits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
}

/// The names of one schema.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SchemaState {
    /// Whether `CREATE SCHEMA` made it; others exist by a folder, or by what was created in them.
    pub created: bool,
    pub comment: Option<String>,
    pub relations: BTreeMap<String, RelationState>,
}

/// A table or a view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RelationState {
    Table(TableRecord),
    View(ViewRecord),
}

impl RelationState {
    pub fn table(&self) -> Option<&TableRecord> {
        match self {
            Self::Table(table) => Some(table),
            Self::View(_) => None,
        }
    }

    /// What SQL calls it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Table(table) if table.materialized.is_some() => "materialized view",
            Self::Table(_) => "table",
            Self::View(_) => "view",
        }
    }

    pub fn comment(&self) -> Option<&String> {
        match self {
            Self::Table(table) => table.comment.as_ref(),
            Self::View(view) => view.comment.as_ref(),
        }
    }
}

impl LakeState {
    pub fn relation(&self, schema: &str, name: &str) -> Option<&RelationState> {
        self.schemas.get(schema)?.relations.get(name)
    }

    pub fn table(&self, schema: &str, name: &str) -> Option<&TableRecord> {
        self.relation(schema, name)?.table()
    }

    /// Applies one commit: the state moves to its version.
    pub fn apply(&mut self, entry: &LogEntry) {
        for operation in &entry.operations {
            self.change(operation);
        }
        self.version = entry.version;
        self.time_ms = entry.time_ms;
    }

    /// Applies one operation, as a commit or a transaction's own view does.
    pub fn change(&mut self, operation: &Operation) {
        match operation {
            Operation::CreateSchema { schema, comment } => {
                let schema = self.schema_mut(schema);
                // Of two CREATE SCHEMA IF NOT EXISTS at one moment the second changes nothing.
                if !std::mem::replace(&mut schema.created, true) {
                    schema.comment.clone_from(comment);
                }
            }
            Operation::DropSchema { schema } => {
                self.schemas.remove(schema);
            }
            Operation::PutTable { schema, name, table } => {
                self.put(schema, name, RelationState::Table(table.clone()));
            }
            Operation::PutView { schema, name, view } => {
                self.put(schema, name, RelationState::View(view.clone()));
            }
            Operation::Rename { schema, name, to_schema, to_name } => {
                if let Some(relation) = self.schema_mut(schema).relations.remove(name) {
                    self.put(to_schema, to_name, relation);
                }
            }
            Operation::Drop { schema, name } => {
                self.schema_mut(schema).relations.remove(name);
            }
            Operation::PutBranch { name, branch } => {
                self.branches.insert(name.clone(), branch.clone());
            }
            Operation::DropBranch { name } => {
                self.branches.remove(name);
            }
            Operation::Seal => self.sealed = true,
            Operation::Unseal => self.sealed = false,
            Operation::Comment { schema, name, comment } => self.comment(schema, name.as_deref(), comment),
        }
    }

    /// Checks what a transaction relied upon against this, later state.
    ///
    /// # Errors
    /// [`Error::CommitConflict`], or [`Error::AlreadyExists`] for a name that was free.
    pub fn check(&self, dependency: &Dependency) -> Result<()> {
        let holds = match dependency {
            Dependency::Schema { schema } => self.has_schema(schema),
            Dependency::AbsentSchema { schema } if self.has_schema(schema) => {
                return Err(Error::AlreadyExists { kind: "schema", name: schema.clone() });
            }
            Dependency::AbsentSchema { .. } => true,
            Dependency::SchemaHolds { schema, names } => {
                let mut found = self.schemas.get(schema).into_iter().flat_map(|one| one.relations.keys());
                found.all(|name| names.contains(name))
            }
            Dependency::Absent { schema, name } => match self.relation(schema, name) {
                Some(_) => {
                    return Err(Error::AlreadyExists { kind: "relation", name: format!("{schema}.{name}") });
                }
                None => true,
            },
            Dependency::Table { schema, name, id, metadata } => {
                self.table(schema, name).is_some_and(|table| {
                    table.id == *id && metadata.as_ref().is_none_or(|metadata| table.is_at(metadata))
                })
            }
            Dependency::Branch { name, id, epoch } => {
                self.branches.get(name).is_some_and(|known| known.id == *id && known.epoch == *epoch)
            }
            Dependency::AbsentBranch { name } if self.branches.contains_key(name) => {
                return Err(Error::AlreadyExists { kind: "branch", name: name.clone() });
            }
            Dependency::AbsentBranch { .. } => true,
            Dependency::Gone { id, .. } => self.table_by_id(id).is_none(),
            Dependency::View { schema, name, sql } => match self.relation(schema, name) {
                Some(RelationState::View(view)) => sql.as_ref().is_none_or(|sql| view.sql == *sql),
                _ => false,
            },
        };
        if holds { Ok(()) } else { Err(dependency.conflict()) }
    }

    /// Whether CREATE SCHEMA made it.
    pub fn has_schema(&self, schema: &str) -> bool {
        self.schemas.get(schema).is_some_and(|schema| schema.created)
    }

    /// All tables, with their schemas and names.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str, &TableRecord)> {
        self.schemas.iter().flat_map(|(schema, state)| {
            state
                .relations
                .iter()
                .filter_map(move |(name, relation)| Some((schema.as_str(), name.as_str(), relation.table()?)))
        })
    }

    /// Finds a table whatever its name is now. Looks at every table.
    pub fn table_by_id(&self, id: &str) -> Option<(&str, &str, &TableRecord)> {
        self.tables().find(|(_, _, table)| table.id == id)
    }

    fn put(&mut self, schema: &str, name: &str, relation: RelationState) {
        self.schema_mut(schema).relations.insert(name.to_owned(), relation);
    }

    fn comment(&mut self, schema: &str, name: Option<&str>, comment: &Option<String>) {
        let schema = self.schema_mut(schema);
        match name {
            None => schema.comment.clone_from(comment),
            Some(name) => match schema.relations.get_mut(name) {
                Some(RelationState::Table(table)) => table.comment.clone_from(comment),
                Some(RelationState::View(view)) => view.comment.clone_from(comment),
                None => {}
            },
        }
    }

    fn schema_mut(&mut self, schema: &str) -> &mut SchemaState {
        Arc::make_mut(self.schemas.entry(schema.to_owned()).or_default())
    }
}

impl Dependency {
    /// The relation that it is about, or the schema.
    pub fn subject(&self) -> (&str, Option<&str>) {
        match self {
            Self::Schema { schema } | Self::AbsentSchema { schema } | Self::SchemaHolds { schema, .. } => {
                (schema, None)
            }
            Self::Absent { schema, name }
            | Self::Table { schema, name, .. }
            | Self::Gone { schema, name, .. }
            | Self::View { schema, name, .. } => (schema, Some(name)),
            Self::Branch { name, .. } | Self::AbsentBranch { name } => (name, None),
        }
    }

    /// The error of a transaction that relied upon it in vain.
    pub fn conflict(&self) -> Error {
        let what = match (self, self.subject()) {
            (Self::Branch { .. } | Self::AbsentBranch { .. }, (name, _)) => format!("branch \"{name}\""),
            (Self::View { .. }, (schema, Some(name))) => format!("view \"{schema}.{name}\""),
            (_, (schema, Some(name))) => format!("table \"{schema}.{name}\""),
            (_, (schema, None)) => format!("schema \"{schema}\""),
        };
        Error::CommitConflict { what, by: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(id: &str, metadata: &str) -> TableRecord {
        TableRecord {
            id: id.into(),
            directory: "d".into(),
            metadata: metadata.into(),
            comment: None,
            rows: None,
            materialized: None,
        }
    }

    fn put(name: &str, record: TableRecord) -> Operation {
        Operation::PutTable { schema: "s".into(), name: name.into(), table: record }
    }

    #[test]
    fn a_rename_swap_leaves_both_names_right() {
        let mut state = LakeState::default();
        let rename = |from: &str, to: &str| Operation::Rename {
            schema: "s".into(),
            name: from.into(),
            to_schema: "s".into(),
            to_name: to.into(),
        };
        for operation in [
            put("t", table("1", "a")),
            put("t_new", table("2", "b")),
            rename("t", "t_old"),
            rename("t_new", "t"),
            Operation::Drop { schema: "s".into(), name: "t_old".into() },
        ] {
            state.change(&operation);
        }
        assert_eq!(state.table("s", "t").map(|table| table.id.as_str()), Some("2"));
        assert_eq!(state.schemas["s"].relations.len(), 1);
    }

    #[test]
    fn an_append_tolerates_another_version_and_a_rewrite_does_not() {
        let mut state = LakeState::default();
        state.change(&put("t", table("1", "b")));
        let relied = |metadata: Option<&str>| Dependency::Table {
            schema: "s".into(),
            name: "t".into(),
            id: "1".into(),
            metadata: metadata.map(str::to_owned),
        };
        assert!(state.check(&relied(None)).is_ok());
        assert_eq!(state.check(&relied(Some("a"))).unwrap_err().sqlstate(), "40001");

        let mut kept = table("1", "b");
        kept.advance("c".into(), true);
        kept.advance("d".into(), true);
        state.change(&put("t", kept.clone()));
        assert!(state.check(&relied(Some("b"))).is_ok(), "upkeep changes nothing that a query could see");
        assert!(state.check(&relied(Some("d"))).is_ok(), "who relies upon the very version finds it");
        kept.advance("e".into(), false);
        state.change(&put("t", kept));
        assert_eq!(state.check(&relied(Some("b"))).unwrap_err().sqlstate(), "40001");
    }

    #[test]
    fn a_schema_is_made_once_and_keeps_what_others_put_into_it() {
        let mut state = LakeState::default();
        let absent = Dependency::AbsentSchema { schema: "s".into() };
        assert!(state.check(&absent).is_ok());
        state.change(&Operation::CreateSchema { schema: "s".into(), comment: None });
        assert_eq!(state.check(&absent).unwrap_err().sqlstate(), "42P06");
        let holds = Dependency::SchemaHolds { schema: "s".into(), names: vec!["t".into()] };
        state.change(&put("t", table("1", "a")));
        assert!(state.check(&holds).is_ok());
        state.change(&put("u", table("2", "a")));
        assert_eq!(state.check(&holds).unwrap_err().sqlstate(), "40001");
        assert_eq!(state.table_by_id("2").map(|(schema, name, _)| (schema, name)), Some(("s", "u")));
    }
}
