//! Words: what statements are called, in tags and in errors.

use super::{Branch, Explain, Explained, RelationWord, Statement};

impl Statement {
    /// The word that errors use for the statement where it is not allowed.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Query(_) => "SELECT",
            Self::Explain(Explain { what: Explained::Change(statement), .. }) => statement.word(),
            Self::Explain(_) => "EXPLAIN",
            Self::Show(_) | Self::ShowSetting(_) => "SHOW",
            Self::Set { .. } => "SET",
            Self::Reset(_) => "RESET",
            Self::Begin(_) => "BEGIN",
            Self::Commit { .. } => "COMMIT",
            Self::Rollback { .. } => "ROLLBACK",
            Self::Savepoint(_) => "SAVEPOINT",
            Self::Release(_) => "RELEASE SAVEPOINT",
            Self::RollbackTo(_) => "ROLLBACK TO SAVEPOINT",
            Self::SetTransaction(_) => "SET TRANSACTION",
            Self::SetCharacteristics(_) => "SET SESSION CHARACTERISTICS",
            Self::CreateSchema { .. } => "CREATE SCHEMA",
            Self::DropSchema { .. } => "DROP SCHEMA",
            Self::CreateTable(create) if create.materialized.is_some() => "CREATE MATERIALIZED VIEW",
            Self::CreateTable(create) if create.query.is_some() => "CREATE TABLE AS",
            Self::CreateTable(_) => "CREATE TABLE",
            Self::CreateIndex { .. } => "CREATE INDEX",
            Self::Alter(_) => "ALTER TABLE",
            Self::CreateView(_) => "CREATE VIEW",
            Self::Refresh { .. } => "REFRESH MATERIALIZED VIEW",
            Self::Insert(_) => "INSERT",
            Self::Modify(modify) => modify.word,
            Self::Truncate { .. } => "TRUNCATE TABLE",
            Self::Restore { .. }
            | Self::Rename { kind: RelationWord::Table, .. }
            | Self::SetSchema { kind: RelationWord::Table, .. } => "ALTER TABLE",
            Self::Rename { kind: RelationWord::MaterializedView, .. }
            | Self::SetSchema { kind: RelationWord::MaterializedView, .. } => "ALTER MATERIALIZED VIEW",
            Self::Rename { .. } | Self::SetSchema { .. } => "ALTER VIEW",
            Self::Drop { kind: RelationWord::Table, .. } => "DROP TABLE",
            Self::Drop { kind: RelationWord::MaterializedView, .. } => "DROP MATERIALIZED VIEW",
            Self::Drop { .. } => "DROP VIEW",
            Self::Undrop { .. } => "UNDROP TABLE",
            Self::Branch(Branch::Create { .. }) => "CREATE BRANCH",
            Self::Branch(Branch::Drop { .. }) => "DROP BRANCH",
            Self::Branch(Branch::Merge { .. }) => "MERGE BRANCH",
            Self::Branch(Branch::Show) => "SHOW",
            Self::Assert(_) => "ASSERT",
            Self::Comment { .. } => "COMMENT",
            Self::Export(_) | Self::CopyTo(_) => "COPY",
            Self::CopyFrom(_) => "COPY FROM",
            Self::Upkeep(upkeep) => upkeep.word(),
            Self::Prepare { .. } => "PREPARE",
            Self::Execute { .. } => "EXECUTE",
            Self::Deallocate(None) => "DEALLOCATE ALL",
            Self::Deallocate(Some(_)) => "DEALLOCATE",
            Self::Discard(_) => "DISCARD",
            Self::Declare(_) => "DECLARE CURSOR",
            Self::Fetch(fetch) if fetch.moves => "MOVE",
            Self::Fetch(_) => "FETCH",
            Self::CloseCursor(None) => "CLOSE CURSOR ALL",
            Self::CloseCursor(Some(_)) => "CLOSE CURSOR",
            Self::Listen(_) => "LISTEN",
            Self::Unlisten(_) => "UNLISTEN",
            Self::Notify { .. } => "NOTIFY",
            Self::Lock(_) => "LOCK TABLE",
            Self::Checkpoint => "CHECKPOINT",
            Self::KillQuery(_) => "CALL",
        }
    }
}
