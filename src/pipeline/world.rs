//! The world: which relations are there before a run, and after each of its steps.
//!
//! Names of statements become full names here, as the server would find them: where the name says, or
//! along the search path. A view counts as read with all that it stands on. A name that nobody has made is
//! an error before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Connection, Failure};
use super::names::{TableName, uses_of};
use super::script::ScriptError;
use super::script::variables_literal as literal;
use super::step::Step;
use crate::engine::parse;
use crate::format::iceberg::Inspection;
use crate::system;

/// Views may stand on views this deep.
const VIEWS_MAX: usize = 32;
/// Schemas of the daemon itself.
const SYSTEM: [&str; 4] = ["pg_catalog", "information_schema", "system", "runtime"];

/// A table, a view or a schema that steps can meet at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    Table {
        catalog: String,
        schema: String,
        name: String,
    },
    Schema {
        catalog: String,
        schema: String,
    },
    /// A temporary table of a session.
    Temporary {
        session: usize,
        name: String,
    },
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table { schema, name, .. } => write!(f, "{schema}.{name}"),
            Self::Schema { schema, .. } => write!(f, "schema {schema}"),
            Self::Temporary { name, .. } => write!(f, "pg_temp.{name}"),
        }
    }
}

/// A relation that is there.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Of a view: what it reads.
    stands_on: BTreeSet<Object>,
    /// Of a view that was there before the run: its query.
    sql: Option<String>,
    /// Rows and bytes, where they are known.
    pub figures: Option<(Option<u64>, u64)>,
}

/// What a step reads and writes, by full names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    pub reads: BTreeSet<Object>,
    pub writes: BTreeSet<Object>,
    /// It makes a schema that is not there, or drops one.
    pub changes_schemas: bool,
    /// Something of the daemon's own, which says another thing each time.
    pub system: bool,
}

/// The relations of the session's database, and what is known of others.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub database: String,
    tables: BTreeMap<Object, Known>,
    schemas: BTreeSet<String>,
    /// Whether a name that is not found is an error: not any more where another lake may be seen.
    checks: bool,
}

impl World {
    /// Asks a server for what is there. Costs two listings.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask(connection: &mut Connection) -> Result<(Self, Vec<String>), Failure> {
        let text = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let facts = "SELECT current_database(), current_setting('search_path')";
        let facts = connection.rows(facts).await?.pop().unwrap_or_default();
        let mut world = Self { database: text(&facts, 0), checks: true, ..Self::default() };
        let listing = "SELECT t.table_schema, t.table_name, v.view_definition FROM information_schema.tables t \
             LEFT JOIN information_schema.views v ON v.table_schema = t.table_schema AND v.table_name = t.table_name \
             WHERE t.table_schema NOT IN ('pg_catalog', 'information_schema') \
             UNION ALL SELECT schemaname, matviewname, NULL FROM pg_catalog.pg_matviews";
        for row in connection.rows(listing).await? {
            let object = world.table(text(&row, 0), text(&row, 1));
            let sql = row.get(2).cloned().flatten();
            world.tables.insert(object, Known { sql, ..Known::default() });
        }
        let schemas = "SELECT schema_name FROM information_schema.schemata";
        world.schemas = connection.rows(schemas).await?.iter().map(|row| text(row, 0)).collect();
        let path = text(&facts, 1);
        let path = path.split(',').map(|name| name.trim().trim_matches('"').to_owned());
        Ok((world, path.filter(|name| !name.is_empty()).collect()))
    }

    /// Asks for the rows and bytes of tables.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn measure(
        &mut self,
        connection: &mut Connection,
        objects: &BTreeSet<Object>,
    ) -> Result<(), Failure> {
        let named = objects.iter().filter_map(|object| match object {
            Object::Table { schema, name, .. } if self.tables.contains_key(object) => {
                Some(format!("(n.nspname = {} AND c.relname = {})", literal(schema), literal(name)))
            }
            _ => None,
        });
        let named: Vec<String> = named.collect();
        if named.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "SELECT n.nspname, c.relname, c.reltuples::bigint, c.relpages::bigint * 8192 FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ({}) AND c.relkind IN ('r', 'm')",
            named.join(" OR ")
        );
        for row in connection.rows(&sql).await? {
            let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            let object = self.table(text(0), text(1));
            if let Some(known) = self.tables.get_mut(&object) {
                // -1 rows are rows that nobody has counted.
                known.figures = Some((text(2).parse().ok(), text(3).parse().unwrap_or(0)));
            }
        }
        Ok(())
    }

    /// Rows and bytes of a table, where they are known.
    pub fn figures(&self, object: &Object) -> Option<(Option<u64>, u64)> {
        self.tables.get(object)?.figures
    }

    /// Whether it is a view, of which the figures are those of what it stands on.
    pub fn is_view(&self, object: &Object) -> bool {
        self.tables.get(object).is_some_and(|known| known.sql.is_some() || !known.stands_on.is_empty())
    }

    /// Whether a relation of the lake is there.
    pub fn holds(&self, schema: &str, name: &str) -> bool {
        self.tables.contains_key(&self.table(schema.to_owned(), name.to_owned()))
    }

    fn table(&self, schema: String, name: String) -> Object {
        Object::Table { catalog: self.database.clone(), schema, name }
    }

    /// Makes known what a step makes, whenever it will.
    pub fn announce(&mut self, step: &Step) {
        for made in &step.uses.makes {
            let object = self.target(made, step);
            self.tables.entry(object).or_default();
        }
    }

    /// What a step reads and writes; afterwards, the world is as the step leaves it.
    ///
    /// # Errors
    /// A table that is not there (42P01).
    pub fn take(&mut self, step: &Step, forgets: bool) -> Result<Resolved, ScriptError> {
        let mut found = Resolved::default();
        let uses = &step.uses;
        for name in &uses.reads {
            match self.find(name, step) {
                Some(object) => self.read(object, &mut found, 0),
                None if uses.makes.contains(name) => {}
                None if is_system(name) => found.system = true,
                None => self.missing(name, step)?,
            }
        }
        for name in uses.needs.difference(&uses.makes) {
            if self.find(name, step).is_none() {
                self.missing(name, step)?;
            }
        }
        for name in &uses.writes {
            let object = match uses.makes.contains(name) {
                true => self.target(name, step),
                false => self.find(name, step).unwrap_or_else(|| self.target(name, step)),
            };
            found.reads.extend(schema_of(&object));
            found.writes.insert(object);
        }
        self.make_schemas(step, &mut found);
        self.leave(step, &found, forgets);
        Ok(found)
    }

    fn make_schemas(&mut self, step: &Step, found: &mut Resolved) {
        for (catalog, schema) in &step.uses.schemas {
            let catalog = catalog.clone().unwrap_or_else(|| self.database.clone());
            let is_there = self.schemas.contains(schema) && catalog == self.database;
            let object = Object::Schema { catalog, schema: schema.clone() };
            match is_there && step.uses.makes_schemas {
                // Who finds it waits for who made it.
                true => {
                    found.reads.insert(object);
                }
                false => {
                    found.changes_schemas = true;
                    found.writes.insert(object);
                }
            }
            match step.uses.makes_schemas {
                true => drop(self.schemas.insert(schema.clone())),
                false => drop(self.schemas.remove(schema)),
            }
        }
    }

    /// The world behind a step.
    fn leave(&mut self, step: &Step, found: &Resolved, forgets: bool) {
        let dropped: Vec<Object> = step.uses.drops.iter().filter_map(|name| self.find(name, step)).collect();
        if forgets {
            dropped.iter().for_each(|object| drop(self.tables.remove(object)));
        }
        let is_view = !step.uses.stands_on.is_empty();
        for made in &step.uses.makes {
            let object = self.target(made, step);
            let stands_on = if is_view { found.reads.clone() } else { BTreeSet::new() };
            self.tables.insert(object, Known { stands_on, ..Known::default() });
        }
        if step.uses.alone {
            self.checks = false;
        }
    }

    fn missing(&self, name: &TableName, step: &Step) -> Result<(), ScriptError> {
        let is_here = name.catalog.as_ref().is_none_or(|catalog| *catalog == self.database);
        if !self.checks || !is_here || is_system(name) {
            return Ok(());
        }
        let message = format!("table \"{name}\" does not exist, and no step before this one makes it");
        let written = name.to_string();
        let place = step.pieces().filter_map(|piece| Some(piece.place(piece.text.find(&written)?))).next();
        Err(ScriptError::new(place.unwrap_or(step.place), "42P01", message))
    }

    /// Reads a relation, and what it stands on.
    fn read(&self, object: Object, found: &mut Resolved, depth: usize) {
        found.reads.extend(schema_of(&object));
        if let Some(known) = self.tables.get(&object).filter(|_| depth < VIEWS_MAX) {
            found.reads.extend(known.stands_on.iter().cloned());
            for below in known.sql.iter().flat_map(|sql| self.below(&object, sql)) {
                if !found.reads.contains(&below) {
                    self.read(below, found, depth + 1);
                }
            }
        }
        found.reads.insert(object);
    }

    /// What the query of a view that was there before names.
    fn below(&self, view: &Object, sql: &str) -> Vec<Object> {
        let Object::Table { schema, .. } = view else { return Vec::new() };
        let parsed = parse::parse(sql).ok().and_then(|mut parsed| parsed.pop());
        let uses = parsed.and_then(|parsed| uses_of(&parsed, &mut BTreeMap::new()).ok());
        let path = [schema.clone(), "public".to_owned()];
        let names = uses.map(|uses| uses.reads).unwrap_or_default();
        names.iter().filter_map(|name| self.find_in(name, &path)).collect()
    }

    /// The relation that a name means.
    fn find(&self, name: &TableName, step: &Step) -> Option<Object> {
        if name.schema.as_deref().is_none_or(|schema| schema == "pg_temp") {
            let temporary = Object::Temporary { session: step.session, name: name.name.clone() };
            if self.tables.contains_key(&temporary) {
                return Some(temporary);
            }
        }
        self.find_in(name, &step.search_path)
    }

    fn find_in(&self, name: &TableName, path: &[String]) -> Option<Object> {
        let catalog = name.catalog.clone().unwrap_or_else(|| self.database.clone());
        let named = |schema: &str, name: &str| Object::Table {
            catalog: catalog.clone(),
            schema: schema.to_owned(),
            name: name.to_owned(),
        };
        // As the server: a relation of that name, else the table whose books are read.
        let books_of = Inspection::of(&name.name).map(|(table, _)| table);
        let object = |schema: &str| {
            let own = named(schema, &name.name);
            match books_of {
                Some(table) if !self.tables.contains_key(&own) => named(schema, table),
                _ => own,
            }
        };
        match &name.schema {
            Some(schema) if catalog != self.database && !SYSTEM.contains(&schema.as_str()) => {
                Some(object(schema))
            }
            Some(schema) => Some(object(schema)).filter(|object| self.tables.contains_key(object)),
            None => path.iter().map(|schema| object(schema)).find(|object| self.tables.contains_key(object)),
        }
    }

    /// The relation that a step makes under a name.
    fn target(&self, name: &TableName, step: &Step) -> Object {
        let is_temporary = name.schema.as_deref() == Some("pg_temp")
            || step.uses.temporary && name.schema.is_none() && step.uses.makes.contains(name);
        if is_temporary {
            return Object::Temporary { session: step.session, name: name.name.clone() };
        }
        let catalog = name.catalog.clone().unwrap_or_else(|| self.database.clone());
        let first = step.search_path.iter().find(|schema| self.schemas.contains(*schema));
        let schema = name.schema.clone().or_else(|| first.cloned()).unwrap_or_else(|| "public".to_owned());
        Object::Table { catalog, schema, name: name.name.clone() }
    }
}

/// The schema that a relation lies in.
fn schema_of(object: &Object) -> Option<Object> {
    match object {
        Object::Table { catalog, schema, .. } => {
            Some(Object::Schema { catalog: catalog.clone(), schema: schema.clone() })
        }
        _ => None,
    }
}

fn is_system(name: &TableName) -> bool {
    match &name.schema {
        Some(schema) => SYSTEM.contains(&schema.as_str()),
        None => system::names("pg_catalog").contains(&name.name.as_str()),
    }
}
