//! Statements: what one piece of SQL asks for, before anything is looked up.

mod word;

use datafusion::sql::sqlparser::ast;

use super::copy::options::CopyOptions;
use super::cursor::{Declare, Fetch};
use super::parse::Moment;
use super::upkeep::Upkeep;
use crate::catalog::temporary::OnCommit;
use crate::format::iceberg::Place;

/// A relation's name as it was written, unquoted parts in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub catalog: Option<String>,
    pub schema: Option<String>,
    pub name: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.catalog, &self.schema].into_iter().flatten() {
            write!(f, "{part}.")?;
        }
        f.write_str(&self.name)
    }
}

/// One statement with the text that it came from.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub text: std::sync::Arc<str>,
    pub statement: Statement,
}

/// What a statement does.
#[derive(Debug, Clone)]
pub enum Statement {
    Query(Box<ast::Query>),
    Explain(Explain),
    Show(Show),
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    ShowSetting(Option<String>),
    Reset(Option<String>),
    Begin(TransactionModes),
    /// With `chain`, the next transaction begins at once, in the same modes.
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// `SET TRANSACTION`: of the one under way.
    SetTransaction(TransactionModes),
    /// `SET SESSION CHARACTERISTICS AS TRANSACTION`: of those to come.
    SetCharacteristics(TransactionModes),
    CreateSchema {
        catalog: Option<String>,
        schema: String,
        if_not_exists: bool,
    },
    DropSchema {
        names: Vec<(Option<String>, String)>,
        if_exists: bool,
        cascade: bool,
    },
    CreateTable(Box<CreateTable>),
    /// Of columns alone; expressions are left out.
    CreateIndex {
        name: Option<String>,
        table: Name,
        columns: Vec<String>,
    },
    Alter(Box<AlterTable>),
    CreateView(Box<CreateView>),
    /// Fills a materialized view anew, or empties it.
    Refresh {
        name: Name,
        with_data: bool,
    },
    Insert(Box<Insert>),
    Modify(Box<Modify>),
    Truncate {
        names: Vec<Name>,
        if_exists: bool,
    },
    Rename {
        from: Name,
        to: String,
        if_exists: bool,
        kind: RelationWord,
    },
    /// Moves a table or view into another schema.
    SetSchema {
        name: Name,
        schema: String,
        if_exists: bool,
        kind: RelationWord,
    },
    Drop {
        kind: RelationWord,
        names: Vec<Name>,
        if_exists: bool,
    },
    /// Gives a table the rows and columns that it had.
    Restore {
        name: Name,
        to: Box<Moment>,
        if_exists: bool,
    },
    /// Brings a dropped table back, under another name if one is given.
    Undrop {
        name: Name,
        to: Option<String>,
    },
    Branch(Branch),
    Assert(Box<Assert>),
    Comment {
        on: CommentOn,
        comment: Option<String>,
    },
    Export(Box<Export>),
    CopyFrom(Box<CopyFrom>),
    CopyTo(Box<CopyTo>),
    Upkeep(Box<Upkeep>),
    Prepare {
        name: String,
        types: Vec<ast::DataType>,
        statement: Box<Parsed>,
    },
    Execute {
        name: String,
        parameters: Vec<ast::Expr>,
    },
    /// With no name, all prepared statements.
    Deallocate(Option<String>),
    Discard(Discard),
    Declare(Box<Declare>),
    Fetch(Fetch),
    /// With no name, all cursors.
    CloseCursor(Option<String>),
    Listen(String),
    /// With no name, to all channels.
    Unlisten(Option<String>),
    Notify {
        channel: String,
        payload: String,
    },
    Lock(Vec<Name>),
    Checkpoint,
    /// `CALL system.runtime.kill_query('id')`.
    KillQuery(String),
}

/// What a statement says of how a transaction runs; what it leaves out stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// A word of the setting `transaction_isolation`.
    pub isolation: Option<&'static str>,
    pub read_only: Option<bool>,
    pub deferrable: Option<bool>,
}

/// What `DISCARD` lets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temp,
}

/// `TABLE`, `VIEW` or `MATERIALIZED VIEW`, as a statement says which it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationWord {
    Table,
    View,
    MaterializedView,
}

impl RelationWord {
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Explain {
    pub analyze: bool,
    pub verbose: bool,
    /// One document instead of lines of text.
    pub json: bool,
    pub costs: bool,
    pub timing: bool,
    /// Whether the times of planning and running are told.
    pub summary: bool,
    pub what: Explained,
}

/// What EXPLAIN explains.
#[derive(Debug, Clone)]
pub enum Explained {
    Query(Box<ast::Query>),
    /// How the rows are found that a statement changes.
    Modify(Box<Modify>),
    /// What a statement that writes rows does; it is run.
    Change(Box<Statement>),
}

/// Presto's listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    Catalogs {
        like: Option<String>,
    },
    Schemas {
        catalog: Option<String>,
        like: Option<String>,
    },
    Tables {
        from: Option<(Option<String>, String)>,
        like: Option<String>,
    },
    Columns {
        table: Name,
    },
    CreateTable {
        table: Name,
    },
    Functions {
        like: Option<String>,
    },
    /// What is known of the rows of a query without running it.
    Stats {
        query: Box<ast::Query>,
    },
}

/// `CREATE TABLE`, with columns or with a query.
#[derive(Debug, Clone)]
pub struct CreateTable {
    pub name: Name,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub columns: Vec<ast::ColumnDef>,
    pub constraints: Vec<ast::TableConstraint>,
    /// Whether keys are enforced without saying so themselves.
    pub enforced: bool,
    /// Properties as they were written, by their names.
    pub properties: Vec<(String, String)>,
    pub column_names: Vec<String>,
    pub partitioned_by: Vec<PartitionExpr>,
    pub comment: Option<String>,
    pub query: Option<Box<ast::Query>>,
    pub with_data: bool,
    /// Of a materialized view, its query as it was written.
    pub materialized: Option<String>,
    pub temporary: bool,
    pub on_commit: OnCommit,
}

/// `ALTER TABLE`, with what it does to the table's columns, in their order.
#[derive(Debug, Clone)]
pub struct AlterTable {
    pub name: Name,
    pub if_exists: bool,
    pub actions: Vec<AlterAction>,
}

/// One action of `ALTER TABLE`. A path names a column, or a field within one.
#[derive(Debug, Clone)]
pub enum AlterAction {
    AddColumn {
        parent: Vec<String>,
        column: ast::ColumnDef,
        if_not_exists: bool,
        place: Option<Place>,
    },
    DropColumn {
        path: Vec<String>,
        if_exists: bool,
        cascade: bool,
    },
    RenameColumn {
        path: Vec<String>,
        to: String,
    },
    SetType {
        path: Vec<String>,
        data_type: ast::DataType,
    },
    SetNotNull {
        path: Vec<String>,
        not_null: bool,
    },
    Move {
        path: Vec<String>,
        place: Place,
    },
    /// With no value, the column has no default any more.
    SetDefault {
        column: String,
        value: Option<ast::Expr>,
    },
    AddConstraint(ast::TableConstraint),
    DropConstraint {
        name: String,
        if_exists: bool,
    },
    RenameConstraint {
        from: String,
        to: String,
    },
    Repartition(Repartition),
    /// Properties with their new values; those without one are taken away.
    SetProperties(Vec<(String, Option<String>)>),
}

/// Another way to partition the rows that are written from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repartition {
    /// By these alone; by none, the table is not partitioned any more.
    By(Vec<PartitionExpr>),
    Add(NamedPartition),
    Drop(PartitionExpr),
    Replace(PartitionExpr, NamedPartition),
}

/// A partition, and what it is called if the statement says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPartition {
    pub expr: PartitionExpr,
    pub name: Option<String>,
}

/// One element of `PARTITIONED BY`: `month`, `days(ts)`, `bucket(16, id)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionExpr {
    pub function: Option<String>,
    pub argument: Option<u32>,
    pub column: String,
}

#[derive(Debug, Clone)]
pub struct CreateView {
    pub name: Name,
    pub temporary: bool,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
    /// The query as it was written.
    pub sql: String,
}

#[derive(Debug, Clone)]
pub struct Insert {
    pub name: Name,
    pub columns: Vec<String>,
    /// None for `DEFAULT VALUES`.
    pub query: Option<Box<ast::Query>>,
    pub alias: Option<ast::Ident>,
    pub conflict: Option<ast::OnConflict>,
    pub returning: Option<Vec<ast::SelectItem>>,
    /// Replaces the rows: of the whole table, or of the partitions that the new rows fall into.
    pub overwrite: bool,
}

/// `UPDATE`, `DELETE` or `MERGE`: what becomes of the rows of a table, alone or joined with others.
#[derive(Debug, Clone)]
pub struct Modify {
    /// `UPDATE`, `DELETE` or `MERGE`.
    pub word: &'static str,
    pub with: Option<ast::With>,
    pub target: Name,
    pub alias: Option<ast::Ident>,
    pub using: Vec<ast::TableWithJoins>,
    /// `WHERE`, or what `MERGE` joins `ON`.
    pub condition: Option<ast::Expr>,
    /// The first one that fits a row is done.
    pub clauses: Vec<WhenClause>,
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// `WHEN … THEN …` of `MERGE`; an `UPDATE` or `DELETE` is one, for rows that match.
#[derive(Debug, Clone)]
pub struct WhenClause {
    pub when: When,
    pub condition: Option<ast::Expr>,
    pub action: RowAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Matched,
    /// A row of the source without one of the target.
    NotMatched,
    /// A row of the target without one of the source.
    NotMatchedBySource,
}

#[derive(Debug, Clone)]
pub enum RowAction {
    Insert {
        columns: Vec<String>,
        values: Vec<ast::Expr>,
    },
    /// Columns and their new values.
    Update(Vec<(String, ast::Expr)>),
    Delete,
    Nothing,
    /// Two new rows want to be the same one.
    Refuse,
}

/// `ASSERT`.
#[derive(Debug, Clone)]
pub struct Assert {
    pub what: Asserted,
    /// Where rows go that must not be there; without it they fail the transaction.
    pub quarantine: Option<Name>,
    pub message: Option<String>,
}

#[derive(Debug, Clone)]
pub enum Asserted {
    /// The query finds nothing.
    NoRows(Box<ast::Query>),
    /// It is true, not false and not null.
    Condition(Box<ast::Expr>),
}

/// A statement about branches.
#[derive(Debug, Clone)]
pub enum Branch {
    /// From what the transaction sees, without a moment.
    Create {
        name: String,
        if_not_exists: bool,
        from: Option<Box<Moment>>,
    },
    Drop {
        name: String,
        if_exists: bool,
    },
    Merge {
        name: String,
    },
    Show,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommentOn {
    Schema { catalog: Option<String>, schema: String },
    Relation(Name),
    Column { table: Name, column: String },
}

/// `COPY (query) TO 'url'`.
#[derive(Debug, Clone)]
pub struct Export {
    pub query: Box<ast::Query>,
    pub url: String,
    /// Option names in lower case, with the values that stood behind them.
    pub options: Vec<(String, Vec<String>)>,
}

/// `COPY table FROM STDIN`.
#[derive(Debug, Clone)]
pub struct CopyFrom {
    pub name: Name,
    /// All columns, when it names none.
    pub columns: Vec<String>,
    pub options: CopyOptions,
    /// Which rows are taken.
    pub condition: Option<ast::Expr>,
}

/// `COPY (query) TO STDOUT`.
#[derive(Debug, Clone)]
pub struct CopyTo {
    pub query: Box<ast::Query>,
    pub options: CopyOptions,
}

impl Statement {
    /// Whether the statement may run in a failed transaction: it ends it, or goes back before the failure.
    pub fn ends_failure(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Rollback { .. } | Self::RollbackTo(_))
    }

    /// Whether it is about transactions and the session alone, and reads nothing.
    pub fn reads_nothing(&self) -> bool {
        matches!(
            self,
            Self::Set { .. }
                | Self::ShowSetting(_)
                | Self::Reset(_)
                | Self::Begin(_)
                | Self::Commit { .. }
                | Self::Rollback { .. }
                | Self::Savepoint(_)
                | Self::Release(_)
                | Self::RollbackTo(_)
                | Self::SetTransaction(_)
                | Self::SetCharacteristics(_)
        )
    }

    /// Whether it says `IF NOT EXISTS` of what it makes.
    pub fn may_exist(&self) -> bool {
        match self {
            Self::CreateSchema { if_not_exists, .. } => *if_not_exists,
            Self::CreateTable(create) => create.if_not_exists,
            Self::CreateView(create) => create.if_not_exists,
            _ => false,
        }
    }

    /// Whether it changes the lake.
    pub fn writes(&self) -> bool {
        match self {
            Self::Upkeep(upkeep) => return upkeep.writes(),
            Self::Explain(explain) => return matches!(explain.what, Explained::Change(_)),
            _ => {}
        }
        if let Self::Assert(assert) = self {
            return assert.quarantine.is_some();
        }
        matches!(
            self,
            Self::CreateSchema { .. }
                | Self::DropSchema { .. }
                | Self::CreateTable(_)
                | Self::CreateIndex { .. }
                | Self::Alter(_)
                | Self::CreateView(_)
                | Self::Refresh { .. }
                | Self::Insert(_)
                | Self::Modify(_)
                | Self::Truncate { .. }
                | Self::Rename { .. }
                | Self::SetSchema { .. }
                | Self::Drop { .. }
                | Self::Restore { .. }
                | Self::Undrop { .. }
                | Self::Branch(Branch::Create { .. } | Branch::Drop { .. } | Branch::Merge { .. })
                | Self::Comment { .. }
                | Self::Export(_)
                | Self::CopyFrom(_)
        )
    }
}
