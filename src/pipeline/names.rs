//! Names: what a statement reads and writes, as its text says it.
//!
//! Names stand here as they were written; what they mean is found out in [`world`](super::world). A
//! statement that this module does not know stands alone: nothing runs beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Query, SelectItem, SetExpr, TableFactor, TableWithJoins, Visit, Visitor,
};

use crate::engine::parse::{self, Moment, fold};
use crate::engine::statement::{
    AlterAction, Asserted, CommentOn, Explained, Insert, Modify, Name, Parsed, RelationWord, RowAction, Show,
    Statement,
};
use crate::engine::upkeep::Upkeep;
use crate::error::Result;

/// Words whose value is another one each time, or in each session.
const VOLATILE: [&str; 26] = [
    "yesterday",
    "tomorrow",
    "current_user",
    "session_user",
    "pg_backend_pid",
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "random",
    "rand",
    "uuid",
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "today",
    "age",
    "current_setting",
    "version",
    "table_changes",
];
/// Functions in FROM that read nothing.
const SERIES: [&str; 4] = ["generate_series", "range", "unnest", "string_to_table"];

/// What a statement does to tables, views and schemas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    pub reads: BTreeSet<TableName>,
    pub writes: BTreeSet<TableName>,
    /// Of what it writes: what must be there before.
    pub needs: BTreeSet<TableName>,
    /// What is there behind it, and what is not.
    pub makes: BTreeSet<TableName>,
    pub drops: BTreeSet<TableName>,
    /// Of views that it makes: what they stand on.
    pub stands_on: BTreeSet<TableName>,
    /// Schemas that it makes or drops: the catalog, if given, and the schema.
    pub schemas: BTreeSet<(Option<String>, String)>,
    /// Whether making a schema, or dropping it, may find nothing to do.
    pub makes_schemas: bool,
    /// Nothing may run beside it.
    pub alone: bool,
    /// It uses what belongs to the session: temporary tables, prepared statements.
    pub pinned: bool,
    /// It makes temporary tables.
    pub temporary: bool,
    /// It may find something else each time: the time, files, random numbers.
    pub volatile: bool,
    /// It prints rows.
    pub prints: bool,
}

/// A relation's name as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    pub catalog: Option<String>,
    pub schema: Option<String>,
    pub name: String,
}

impl From<&Name> for TableName {
    fn from(name: &Name) -> Self {
        Self { catalog: name.catalog.clone(), schema: name.schema.clone(), name: name.name.clone() }
    }
}

impl From<&TableReference> for TableName {
    fn from(reference: &TableReference) -> Self {
        Self {
            catalog: reference.catalog().map(str::to_owned),
            schema: reference.schema().map(str::to_owned),
            name: reference.table().to_owned(),
        }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.catalog, &self.schema].into_iter().flatten() {
            write!(f, "{part}.")?;
        }
        f.write_str(&self.name)
    }
}

impl Uses {
    /// Adds what another statement does.
    pub fn add(&mut self, other: Self) {
        self.reads.extend(other.reads);
        self.writes.extend(other.writes);
        self.needs.extend(other.needs);
        self.makes.extend(other.makes);
        self.drops.extend(other.drops);
        self.stands_on.extend(other.stands_on);
        self.schemas.extend(other.schemas);
        self.makes_schemas |= other.makes_schemas;
        self.alone |= other.alone;
        self.pinned |= other.pinned;
        self.temporary |= other.temporary;
        self.volatile |= other.volatile;
        self.prints |= other.prints;
    }

    /// Nothing may run beside the statement.
    fn alone() -> Self {
        Self { alone: true, volatile: true, ..Self::default() }
    }

    fn writing(names: &[&Name]) -> Self {
        let writes: BTreeSet<TableName> = names.iter().map(|name| TableName::from(*name)).collect();
        Self { needs: writes.clone(), writes, ..Self::default() }
    }

    fn query(&mut self, query: &Query) -> Result<()> {
        let mut found = Calls::default();
        let _ = query.visit(&mut found);
        let statement = PlannerStatement::Statement(Box::new(ast::Statement::Query(Box::new(query.clone()))));
        let (references, _) = resolve_table_references(&statement, true)?;
        let tables = references
            .iter()
            .filter(|reference| reference.schema().is_some() || !found.no_tables.contains(reference.table()));
        self.reads.extend(tables.map(TableName::from));
        self.volatile |= found.opaque;
        Ok(())
    }
}

/// Functions and files in FROM.
#[derive(Default)]
struct Calls {
    no_tables: BTreeSet<String>,
    opaque: bool,
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args, .. } = factor
            && let [ast::ObjectNamePart::Identifier(ident)] = name.0.as_slice()
        {
            let is_past = args.as_ref().is_some_and(|args| Moment::of(args).is_some());
            let is_call = args.is_some() && !is_past;
            if is_call || ident.quote_style == Some('\'') {
                let name = fold(ident);
                self.opaque |= !SERIES.contains(&name.as_str());
                self.no_tables.insert(name);
            }
            self.opaque |= is_past;
        }
        ControlFlow::Continue(())
    }
}

/// What a statement does. `prepared` holds what PREPARE has made before it.
///
/// # Errors
/// None that a parsed statement could cause.
pub fn uses_of(parsed: &Parsed, prepared: &mut BTreeMap<String, Uses>) -> Result<Uses> {
    let mut uses = of_statement(&parsed.statement, prepared)?;
    uses.volatile |= is_volatile(&parsed.text);
    Ok(uses)
}

fn of_statement(statement: &Statement, prepared: &mut BTreeMap<String, Uses>) -> Result<Uses> {
    let mut uses = Uses::default();
    match statement {
        Statement::Query(_)
        | Statement::Explain(_)
        | Statement::Show(Show::Stats { .. } | Show::Columns { .. } | Show::CreateTable { .. }) => {
            uses = of_question(statement, prepared)?
        }
        Statement::ShowSetting(_) => (uses.prints, uses.pinned) = (true, true),
        Statement::CreateSchema { catalog, schema, .. } => {
            uses.schemas.insert((catalog.clone(), schema.clone()));
            uses.makes_schemas = true;
        }
        Statement::Insert(insert) => uses = inserted(insert)?,
        Statement::Modify(modify) => uses = modified(modify)?,
        Statement::Assert(assert) => {
            match &assert.what {
                Asserted::NoRows(query) => uses.query(query)?,
                Asserted::Condition(condition) => uses.query(&query_of(Vec::new(), [condition.as_ref()])?)?,
            }
            if let Some(into) = &assert.quarantine {
                uses.writes = uses.reads.clone();
                uses.writes.insert(into.into());
                uses.makes.insert(into.into());
            }
        }
        Statement::Export(export) => {
            uses.query(&export.query)?;
            // Whom its files feed is not known: a folder of them can be a table.
            uses.alone = true;
        }
        Statement::Prepare { name, statement, .. } => {
            let inner = of_statement(&statement.statement, prepared)?;
            prepared.insert(name.clone(), inner);
            uses.pinned = true;
        }
        Statement::Execute { name, .. } => {
            uses = prepared.get(name).cloned().unwrap_or_else(Uses::alone);
            uses.pinned = true;
        }
        Statement::Declare(_) | Statement::Fetch(_) => (uses.pinned, uses.prints) = (true, true),
        Statement::Deallocate(_)
        | Statement::Discard(_)
        | Statement::CloseCursor(_)
        | Statement::Listen(_)
        | Statement::Notify { .. } => uses.pinned = true,
        Statement::Set { .. }
        | Statement::Reset(_)
        | Statement::Begin(_)
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint(_)
        | Statement::Release(_)
        | Statement::RollbackTo(_)
        | Statement::SetTransaction(_)
        | Statement::SetCharacteristics(_) => {}
        other => uses = of_definition(other)?,
    }
    Ok(uses)
}

/// What statements do that answer with rows.
fn of_question(statement: &Statement, prepared: &mut BTreeMap<String, Uses>) -> Result<Uses> {
    let mut uses = Uses::default();
    match statement {
        Statement::Query(query) => {
            uses.query(query)?;
            uses.prints = true;
        }
        Statement::Explain(explain) => {
            match &explain.what {
                Explained::Query(query) => uses.query(query)?,
                Explained::Modify(modify) => uses = modified(modify)?,
                Explained::Change(change) => uses = of_statement(change, prepared)?,
            }
            if !matches!(explain.what, Explained::Change(_)) {
                uses.reads.append(&mut uses.writes);
                uses.needs.clear();
            }
            (uses.prints, uses.volatile) = (true, true);
        }
        Statement::Show(Show::Stats { query }) => {
            uses.query(query)?;
            uses.prints = true;
        }
        Statement::Show(Show::Columns { table } | Show::CreateTable { table }) => {
            uses.reads.insert(table.into());
            uses.prints = true;
        }
        _ => uses = Uses::alone(),
    }
    Ok(uses)
}

/// What statements do that make, change and drop relations.
fn of_definition(statement: &Statement) -> Result<Uses> {
    let mut uses = Uses::default();
    match statement {
        Statement::CreateTable(create) => {
            let name = TableName::from(&create.name);
            if let Some(query) = &create.query {
                uses.query(query)?;
            }
            uses.writes.insert(name.clone());
            uses.makes.insert(name);
            (uses.temporary, uses.pinned) = (create.temporary, create.temporary);
        }
        Statement::CreateView(create) => {
            let name = TableName::from(&create.name);
            uses.query(&create.query)?;
            uses.stands_on = uses.reads.clone();
            uses.writes.insert(name.clone());
            uses.makes.insert(name);
            (uses.temporary, uses.pinned) = (create.temporary, create.temporary);
        }
        Statement::Alter(_)
        | Statement::Truncate { .. }
        | Statement::Rename { .. }
        | Statement::SetSchema { .. }
        | Statement::Drop { .. } => uses = of_change(statement),
        Statement::DropSchema { names, cascade, .. } => {
            uses.schemas.extend(names.iter().cloned());
            uses.alone = *cascade;
        }
        Statement::Restore { name, if_exists, .. } => {
            uses = Uses::writing(&[name]);
            uses.needs.retain(|_| !if_exists);
            uses.volatile = true;
        }
        Statement::Undrop { name, to } => {
            let to = to.as_ref().map_or_else(|| name.name.clone(), String::clone);
            let made = TableName { name: to, ..TableName::from(name) };
            uses.writes.insert(made.clone());
            uses.makes.insert(made);
            uses.volatile = true;
        }
        Statement::Comment {
            on: CommentOn::Relation(name) | CommentOn::Column { table: name, .. }, ..
        } => {
            uses = Uses::writing(&[name]);
        }
        Statement::Upkeep(upkeep) => {
            uses = match upkeep.as_ref() {
                Upkeep::Optimize(optimize) => Uses::writing(&[&optimize.name]),
                Upkeep::Analyze(tables) if !tables.is_empty() => {
                    Uses::writing(&tables.iter().map(|(name, _)| name).collect::<Vec<_>>())
                }
                _ => Uses::alone(),
            };
            uses.volatile = true;
        }
        _ => uses = Uses::alone(),
    }
    Ok(uses)
}

/// What statements do to relations that are there.
fn of_change(statement: &Statement) -> Uses {
    let mut uses;
    match statement {
        Statement::Alter(alter) => {
            uses = Uses::writing(&[&alter.name]);
            let is_cascade =
                |action: &AlterAction| matches!(action, AlterAction::DropColumn { cascade: true, .. });
            uses.alone = alter.actions.iter().any(is_cascade);
            uses.needs.retain(|_| !alter.if_exists);
        }
        Statement::Truncate { names, if_exists } => {
            uses = Uses::writing(&names.iter().collect::<Vec<_>>());
            uses.needs.retain(|_| !if_exists);
        }
        Statement::Rename { from, to, if_exists, .. } => {
            let to = TableName { name: to.clone(), ..TableName::from(from) };
            uses = moved(from, to, *if_exists);
        }
        Statement::SetSchema { name, schema, if_exists, .. } => {
            let to = TableName { schema: Some(schema.clone()), ..TableName::from(name) };
            uses = moved(name, to, *if_exists);
        }
        Statement::Drop { names, if_exists, kind: RelationWord::Table | RelationWord::View } => {
            uses = Uses::writing(&names.iter().collect::<Vec<_>>());
            uses.drops = uses.writes.clone();
            uses.needs.retain(|_| !if_exists);
        }
        _ => uses = Uses::alone(),
    }
    uses
}

fn moved(from: &Name, to: TableName, if_exists: bool) -> Uses {
    let mut uses = Uses::writing(&[from]);
    uses.drops = uses.writes.clone();
    uses.writes.insert(to.clone());
    uses.makes.insert(to);
    uses.needs.retain(|_| !if_exists);
    uses
}

fn inserted(insert: &Insert) -> Result<Uses> {
    let mut uses = Uses::writing(&[&insert.name]);
    if let Some(query) = &insert.query {
        uses.query(query)?;
    }
    uses.prints = insert.returning.is_some();
    Ok(uses)
}

fn modified(modify: &Modify) -> Result<Uses> {
    let mut uses = Uses::writing(&[&modify.target]);
    let mut exprs: Vec<&Expr> = modify.condition.iter().collect();
    for clause in &modify.clauses {
        exprs.extend(&clause.condition);
        match &clause.action {
            RowAction::Insert { values, .. } => exprs.extend(values),
            RowAction::Update(columns) => exprs.extend(columns.iter().map(|(_, value)| value)),
            RowAction::Delete | RowAction::Nothing | RowAction::Refuse => {}
        }
    }
    let mut query = query_of(modify.using.clone(), exprs)?;
    query.with.clone_from(&modify.with);
    uses.query(&query)?;
    uses.prints = modify.returning.is_some();
    Ok(uses)
}

/// A query of these expressions over these tables.
fn query_of<'a>(from: Vec<TableWithJoins>, exprs: impl IntoIterator<Item = &'a Expr>) -> Result<Query> {
    let parsed = parse::parse("SELECT NULL")?.pop().map(|parsed| parsed.statement);
    let Some(Statement::Query(mut query)) = parsed else {
        return Err(crate::error::Error::Internal("SELECT NULL is no query".to_owned()));
    };
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.from = from;
        select.projection.extend(exprs.into_iter().cloned().map(SelectItem::UnnamedExpr));
    }
    Ok(*query)
}

fn is_volatile(text: &str) -> bool {
    let words = text.split(|character: char| !character.is_alphanumeric() && character != '_');
    words.map(str::to_ascii_lowercase).any(|word| VOLATILE.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(sql: &str) -> Uses {
        let parsed = parse::parse(sql).unwrap().remove(0);
        uses_of(&parsed, &mut BTreeMap::new()).unwrap()
    }

    fn sets(sql: &str) -> (String, String) {
        let uses = uses(sql);
        let joined =
            |names: &BTreeSet<TableName>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (joined(&uses.reads), joined(&uses.writes))
    }

    #[test]
    fn statements_read_and_write_what_they_name() {
        for (sql, reads, writes) in [
            ("SELECT * FROM a, s.b WHERE x IN (SELECT y FROM c.s.d)", "a s.b c.s.d", ""),
            (
                "WITH a AS (SELECT * FROM A) SELECT * FROM a JOIN generate_series(1, 3) AS g (n) ON true",
                "a",
                "",
            ),
            ("CREATE TABLE m.t AS SELECT * FROM r.f", "r.f", "m.t"),
            ("INSERT INTO t SELECT * FROM u", "u", "t"),
            ("UPDATE t SET a = (SELECT max(b) FROM u) FROM v WHERE v.a = t.a", "u v", "t"),
            ("DELETE FROM t WHERE a IN (SELECT b FROM u)", "u", "t"),
            ("MERGE INTO t USING (SELECT * FROM u) AS s ON t.a = s.a WHEN MATCHED THEN DELETE", "u", "t"),
            ("WITH w AS (SELECT * FROM u) DELETE FROM t USING w WHERE w.a = t.a", "u", "t"),
            ("ALTER TABLE s.t RENAME TO u", "", "s.t s.u"),
            ("ASSERT (SELECT * FROM t WHERE a < 0), 'x'", "t", ""),
            ("ASSERT (SELECT count(*) FROM t) > 0", "t", ""),
            ("ASSERT (SELECT * FROM t WHERE a < 0) QUARANTINE INTO q", "t", "q t"),
            ("SELECT * FROM 'raw/x.csv'", "", ""),
        ] {
            assert_eq!(sets(sql), (reads.to_owned(), writes.to_owned()), "{sql}");
        }
    }

    #[test]
    fn what_may_change_by_itself_is_known() {
        assert!(uses("SELECT * FROM t WHERE d > current_date - 7").volatile);
        assert!(uses("SELECT * FROM 'raw/x.csv'").volatile);
        assert!(uses("SELECT * FROM t FOR VERSION AS OF 5").volatile);
        assert!(!uses("SELECT nowhere FROM t").volatile);
        assert!(uses("VACUUM").alone && !uses("OPTIMIZE t").alone);
    }
}
