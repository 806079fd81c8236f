//! Errors: one `Error` for the crate, a variant for each condition a client could act on.
//!
//! This module decides the SQLSTATE, the message and the hint of every failure, and how an error of
//! DataFusion, Arrow or the object store becomes one of ours. What is logged is decided where an
//! error is handled.

mod convert;

use std::time::Duration;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A condition that a client could act on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    // What the client wrote.
    #[error("{message}")]
    Syntax { message: String, position: Option<usize> },
    #[error("table \"{0}\" does not exist")]
    TableNotFound(String),
    #[error("schema \"{0}\" does not exist")]
    SchemaNotFound(String),
    #[error("branch \"{0}\" does not exist")]
    BranchNotFound(String),
    #[error("catalog \"{0}\" does not exist")]
    CatalogNotFound(String),
    #[error("column \"{name}\" does not exist")]
    ColumnNotFound { name: String, candidates: Vec<String> },
    #[error("{0}")]
    FunctionNotFound(String),
    #[error("{0}")]
    AmbiguousFunction(String),
    #[error("column reference \"{0}\" is ambiguous")]
    AmbiguousColumn(String),
    #[error("table name \"{0}\" specified more than once")]
    DuplicateAlias(String),
    #[error("materialized view \"{0}\" has not been populated")]
    NotPopulated(String),
    #[error("{kind} \"{name}\" already exists")]
    AlreadyExists { kind: &'static str, name: String },
    #[error("\"{name}\" is not a {wanted}")]
    WrongObjectType { name: String, wanted: &'static str },
    #[error("{0}")]
    DatatypeMismatch(String),
    #[error("{0}")]
    InvalidText(String),
    #[error("{0}")]
    InvalidDatetime(String),
    #[error("{0}")]
    DatetimeOverflow(String),
    #[error("{0}")]
    InvalidBinary(String),
    #[error("{0}")]
    BadCopyFile(String),
    #[error("{0}")]
    InvalidEncoding(String),
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{0}")]
    UndefinedParameter(String),
    #[error("{0}")]
    UnknownSetting(String),
    #[error("parameter \"{0}\" cannot be changed")]
    FixedSetting(String),
    #[error("division by zero")]
    DivisionByZero,
    #[error("{0}")]
    OutOfRange(String),
    #[error("{message}")]
    NotNullViolation { message: String, row: Option<String> },
    #[error("{message}")]
    CheckViolation { message: String, row: Option<String> },
    #[error("duplicate key value violates unique constraint \"{constraint}\"")]
    UniqueViolation { constraint: String, key: String },
    /// `rows` tells which rows, or what, an assertion did not want.
    #[error("{message}")]
    AssertionFailed { message: String, rows: Option<String> },
    #[error("{0}")]
    UndefinedObject(String),
    #[error("{0}")]
    Cardinality(String),
    #[error("cannot drop {what} because other objects depend on it")]
    DependentObjects { what: String },
    #[error("{0}")]
    InvalidDefinition(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("column \"{0}\" must appear in the GROUP BY clause or be used in an aggregate function")]
    Grouping(String),
    #[error("{0}")]
    Planning(String),

    // What the client may not do.
    #[error("permission denied: {0}")]
    PermissionDenied(String),
    #[error("{0}")]
    ReadOnly(String),
    #[error("password authentication failed for user \"{0}\"")]
    AuthenticationFailed(String),
    #[error("{0}")]
    InvalidAuthorization(String),

    // The protocol.
    #[error("{0}")]
    Protocol(String),
    #[error("canceling authentication due to timeout")]
    AuthenticationTimeout,
    #[error("connection to the client lost: {0}")]
    ConnectionLost(String),
    #[error("prepared statement \"{0}\" does not exist")]
    StatementNotFound(String),
    #[error("portal \"{0}\" does not exist")]
    PortalNotFound(String),
    #[error("prepared statement \"{0}\" already exists")]
    DuplicateStatement(String),
    #[error("portal \"{0}\" already exists")]
    DuplicatePortal(String),
    #[error("cursor \"{0}\" does not exist")]
    CursorNotFound(String),
    #[error("cursor \"{0}\" already exists")]
    DuplicateCursor(String),
    #[error("cursor can only scan forward")]
    NotScrollable,
    #[error("the query of this cursor has failed")]
    CursorFailed,
    #[error("current transaction is aborted, commands ignored until end of transaction block")]
    TransactionAborted,
    #[error("{0}")]
    ActiveTransaction(String),
    #[error("{0}")]
    NoActiveTransaction(String),
    #[error("savepoint \"{0}\" does not exist")]
    SavepointNotFound(String),
    #[error("terminating connection due to idle-in-transaction timeout")]
    IdleInTransaction,
    #[error("terminating connection due to idle-session timeout")]
    IdleSession,
    #[error("terminating connection due to transaction timeout")]
    TransactionTimeout,

    // What happened while it ran.
    /// An error with the place in a COPY's input that it was met at, such as `COPY t, line 7`.
    #[error("{error}")]
    InCopy { error: Box<Error>, place: String },
    #[error("COPY from stdin failed: {0}")]
    CopyFailed(String),
    #[error("canceling statement due to user request")]
    Cancelled,
    #[error("canceling statement due to statement timeout after {0:?}")]
    Timeout(Duration),
    #[error("terminating connection due to administrator command")]
    Terminated,
    #[error("canceling statement due to lock timeout")]
    LockTimeout,
    #[error("deadlock detected")]
    Deadlock,
    #[error("terminating connection because the server is shutting down")]
    Shutdown,
    #[error("{0}")]
    TooManyConnections(String),
    #[error("{0}")]
    LimitExceeded(String),
    #[error("{0}")]
    OutOfMemory(String),
    #[error("{0}")]
    DiskFull(String),
    /// `what` names the kind and the thing, `by` the transaction that was first, where it is known.
    #[error("could not serialize access: {what} was changed by another transaction")]
    CommitConflict { what: String, by: Option<String> },
    /// `what` names all that both have changed, with its kind.
    #[error("branch \"{branch}\" cannot be merged: {what} changed on both sides")]
    MergeConflict { branch: String, what: String },
    #[error("{0}")]
    ObjectInUse(String),
    #[error("the store did not answer clearly, the commit may or may not have happened: {0}")]
    CommitUnknown(String),

    // The lake and its stores.
    #[error("{0}")]
    Storage(String),
    #[error("file \"{path}\" is corrupt: {reason}")]
    CorruptFile { path: String, reason: String },
    #[error("\"{path}\" cannot be read as a table: {reason}")]
    InvalidTable { path: String, reason: String },
    #[error("file \"{0}\" does not exist")]
    FileNotFound(String),
    #[error("{0}")]
    SnapshotTooOld(String),
    #[error("bad value in a data file: {0}")]
    BadData(String),
    #[error("configuration: {0}")]
    Config(String),

    // Ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// A table of this name was changed by a transaction that committed first.
    pub fn table_conflict(name: &str) -> Self {
        Self::CommitConflict { what: format!("table \"{name}\""), by: None }
    }

    /// The same condition, for another of those whose work failed with it.
    pub fn repeated(&self) -> Self {
        match self {
            Self::CommitConflict { what, by } => Self::CommitConflict { what: what.clone(), by: by.clone() },
            Self::CommitUnknown(reason) => Self::CommitUnknown(reason.clone()),
            Self::ObjectInUse(reason) => Self::ObjectInUse(reason.clone()),
            Self::DiskFull(reason) => Self::DiskFull(reason.clone()),
            Self::PermissionDenied(reason) => Self::PermissionDenied(reason.clone()),
            Self::ReadOnly(reason) => Self::ReadOnly(reason.clone()),
            Self::CorruptFile { path, reason } => {
                Self::CorruptFile { path: path.clone(), reason: reason.clone() }
            }
            other => Self::Storage(other.to_string()),
        }
    }

    /// A column that is not among those `known`; the names nearest to it become the hint.
    pub fn column_not_found<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self::ColumnNotFound { name: name.to_owned(), candidates: convert::nearest(name, known) }
    }

    /// The SQLSTATE, from PostgreSQL's appendix A. No `_` arm: a new variant must choose.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "42601",
            Self::TableNotFound(_) => "42P01",
            Self::SchemaNotFound(_) => "3F000",
            Self::CatalogNotFound(_) | Self::BranchNotFound(_) => "3D000",
            Self::ColumnNotFound { .. } => "42703",
            Self::FunctionNotFound(_) => "42883",
            Self::AmbiguousFunction(_) => "42725",
            Self::AmbiguousColumn(_) => "42702",
            Self::DuplicateAlias(_) => "42712",
            Self::AlreadyExists { kind, .. } => already_exists(kind),
            Self::WrongObjectType { .. } => "42809",
            Self::DatatypeMismatch(_) => "42804",
            Self::InvalidText(_) => "22P02",
            Self::InvalidDatetime(_) => "22007",
            Self::DatetimeOverflow(_) => "22008",
            Self::InvalidBinary(_) => "22P03",
            Self::BadCopyFile(_) | Self::BadData(_) => "22P04",
            Self::InCopy { error, .. } => error.sqlstate(),
            Self::InvalidEncoding(_) => "22021",
            Self::InvalidParameter(_) => "22023",
            Self::UndefinedParameter(_) => "42P02",
            Self::UnknownSetting(_) | Self::UndefinedObject(_) => "42704",
            Self::FixedSetting(_) => "55P02",
            Self::DivisionByZero => "22012",
            Self::OutOfRange(_) => "22003",
            Self::NotNullViolation { .. } => "23502",
            Self::CheckViolation { .. } => "23514",
            Self::UniqueViolation { .. } => "23505",
            Self::AssertionFailed { .. } => "P0004",
            Self::Cardinality(_) => "21000",
            Self::DependentObjects { .. } => "2BP01",
            Self::InvalidDefinition(_) | Self::InvalidTable { .. } => "42P16",
            Self::Unsupported(_) => "0A000",
            Self::Grouping(_) => "42803",
            Self::Planning(_) => "42P10",
            Self::PermissionDenied(_) => "42501",
            Self::ReadOnly(_) => "25006",
            Self::AuthenticationFailed(_) => "28P01",
            Self::InvalidAuthorization(_) => "28000",
            Self::Protocol(_) => "08P01",
            Self::ConnectionLost(_) => "08006",
            Self::StatementNotFound(_) => "26000",
            Self::PortalNotFound(_) | Self::CursorNotFound(_) => "34000",
            Self::DuplicateStatement(_) => "42P05",
            Self::DuplicatePortal(_) | Self::DuplicateCursor(_) => "42P03",
            Self::TransactionAborted => "25P02",
            Self::ActiveTransaction(_) => "25001",
            Self::NoActiveTransaction(_) => "25P01",
            Self::SavepointNotFound(_) => "3B001",
            Self::IdleInTransaction | Self::IdleSession | Self::TransactionTimeout => self.ended_session(),
            Self::Cancelled | Self::Timeout(_) | Self::AuthenticationTimeout | Self::CopyFailed(_) => "57014",
            Self::Shutdown | Self::Terminated => "57P01",
            Self::LockTimeout | Self::Deadlock => self.not_locked(),
            Self::TooManyConnections(_) => "53300",
            Self::LimitExceeded(_) => "54000",
            Self::OutOfMemory(_) => "53200",
            Self::DiskFull(_) => "53100",
            Self::CommitConflict { .. } | Self::MergeConflict { .. } => "40001",
            Self::ObjectInUse(_) => "55006",
            Self::NotPopulated(_) | Self::NotScrollable | Self::CursorFailed => "55000",
            Self::CommitUnknown(_) => "08007",
            Self::Storage(_) => "58030",
            Self::FileNotFound(_) | Self::CorruptFile { .. } => "58P01",
            Self::SnapshotTooOld(_) => "72000",
            Self::Config(_) => "F0000",
            Self::Internal(_) => "XX000",
        }
    }

    /// The SQLSTATE of a lock that was not granted.
    fn not_locked(&self) -> &'static str {
        if matches!(self, Self::Deadlock) { "40P01" } else { "55P03" }
    }

    /// The SQLSTATE of a timeout that ends a session.
    fn ended_session(&self) -> &'static str {
        match self {
            Self::IdleInTransaction => "25P03",
            Self::IdleSession => "57P05",
            _ => "25P04",
        }
    }

    /// A whole sentence that helps the reader on, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ColumnNotFound { candidates, .. } if !candidates.is_empty() => {
                Some(format!("Perhaps you meant \"{}\".", candidates.join("\" or \"")))
            }
            Self::OutOfMemory(_) => {
                Some("Raise --memory-limit, or make the query read or group less at a time.".to_owned())
            }
            Self::DiskFull(_) => Some("Free space in the spill folder, or raise --spill-limit.".to_owned()),
            Self::NotScrollable => Some("Declare it with SCROLL to enable backward scan.".to_owned()),
            Self::TransactionAborted => Some("End the transaction with ROLLBACK.".to_owned()),
            Self::CommitConflict { .. } => Some("Run the transaction again.".to_owned()),
            Self::InCopy { error, .. } => error.hint(),
            Self::MergeConflict { .. } => {
                Some("Make the branch's change to it on main instead, or grow a new branch.".to_owned())
            }
            _ => None,
        }
    }

    /// A row that is written has a null where its table takes none.
    pub fn not_null(table: &str, column: &str, row: Option<String>) -> Self {
        let message =
            format!("null value in column \"{column}\" of relation \"{table}\" violates not-null constraint");
        Self::NotNullViolation { message, row }
    }

    /// Rows that are there have nulls where their table is to take none.
    pub fn contains_nulls(table: &str, column: &str) -> Self {
        let message = format!("column \"{column}\" of relation \"{table}\" contains null values");
        Self::NotNullViolation { message, row: None }
    }

    /// A whole sentence of what more is known, where there is something.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::CommitConflict { by, .. } => by.clone(),
            Self::AssertionFailed { rows, .. } => rows.as_ref().map(|rows| format!("{rows}.")),
            Self::NotNullViolation { row, .. } | Self::CheckViolation { row, .. } => {
                row.as_ref().map(|row| format!("Failing row contains {row}."))
            }
            Self::UniqueViolation { key, .. } => Some(format!("Key {key} already exists.")),
            Self::InCopy { error, .. } => error.detail(),
            _ => None,
        }
    }

    /// Where it happened, beside the statement: a place in what the client sends.
    pub fn context(&self) -> Option<&str> {
        match self {
            Self::InCopy { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The 1-based character position in the statement's text that the error points at.
    pub fn position(&self) -> Option<usize> {
        match self {
            Self::Syntax { position, .. } => *position,
            _ => None,
        }
    }
}

fn already_exists(kind: &str) -> &'static str {
    match kind {
        "schema" => "42P06",
        "catalog" => "42P04",
        "column" => "42701",
        "branch" => "42710",
        "constraint" | "partition field" => "42710",
        _ => "42P07",
    }
}
