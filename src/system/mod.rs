//! System tables: `pg_catalog` and `information_schema`, computed from what a statement sees.
//!
//! A table here holds nothing. Each scan asks [`Browse`] for the names of the session's database and
//! turns them into rows; what costs a read (columns, row counts, sizes) is loaded for those relations
//! only that the scan's filters leave over. Which name means which table of this module is decided
//! where a statement is planned.

mod activity;
mod constraints;
mod definition;
mod fixed;
mod indexes;
mod information;
mod listing;
mod procedures;
mod relations;
mod rows;
mod scan;
mod source;
mod statistics;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use datafusion::catalog::{Session, TableProvider};
use datafusion::sql::sqlparser::ast::{DataType, Expr, ObjectName, Statement, Visit, Visitor};

use crate::catalog::Browse;
use crate::error::Result;
use crate::function::{ABOUT_FUNCTIONS, ABOUT_NAMES, ABOUT_SIZES, SessionFacts};

use listing::Listing;
use source::{Functions, Source};

/// The system schemas that this module serves.
pub const SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

/// The names of the tables of a system schema, sorted; empty for any other schema.
pub fn names(schema: &str) -> &'static [&'static str] {
    static NAMES: LazyLock<HashMap<&str, Vec<&str>>> = LazyLock::new(|| {
        let of = |schema| definition::of_schema(schema).iter().map(|one| one.name).collect();
        SCHEMAS.into_iter().map(|schema| (schema, of(schema))).collect()
    });
    NAMES.get(schema).map_or(&[], Vec::as_slice)
}

/// Whether a table of `pg_catalog` has no row in any lake, because it lists what Lacus has not.
pub fn is_always_empty(name: &str) -> bool {
    definition::find("pg_catalog", name).is_some_and(|one| matches!(source::of(one), Source::Empty))
}

/// The columns of a system table; none if there is no such table.
pub fn columns(schema: &str, name: &str) -> Option<impl Iterator<Item = &'static str> + use<>> {
    let definition = definition::find(schema, name)?;
    Some(definition.schema.fields().iter().map(|field| field.name().as_str()))
}

/// The oid of a system table itself; none if there is no such table.
pub fn oid(schema: &str, name: &str) -> Option<i64> {
    definition::find(schema, name).map(|definition| definition.oid)
}

/// The table `schema.name` as the statement behind `browse` sees it from the database `catalog`.
pub fn table(
    browse: Arc<dyn Browse>,
    session: Arc<SessionFacts>,
    catalog: &str,
    schema: &str,
    name: &str,
) -> Option<Arc<dyn TableProvider>> {
    let definition = definition::find(schema, name)?;
    Some(Arc::new(scan::SystemTable::new(definition, browse, session, catalog)))
}

/// Gives the functions of `statement` the facts that they will ask for, before it is planned.
///
/// Costs nothing for a statement that calls none of them; else a listing of the database's names,
/// and the figures of all its relations if sizes are asked for without `pg_class` in sight.
///
/// # Errors
/// What listing the database raises.
pub async fn prepare(
    statement: &Statement,
    browse: &Arc<dyn Browse>,
    session: &SessionFacts,
    state: &dyn Session,
) -> Result<()> {
    let mut needs = Needs::default();
    let _ = statement.visit(&mut needs);
    if !needs.names && !needs.sizes && !needs.system && !needs.functions {
        return Ok(());
    }
    let listing = Listing::load(browse.as_ref(), &session.database).await?;
    let facts = listing.facts(needs.sizes);
    if needs.sizes && !needs.pg_class {
        let read = listing::details(browse.as_ref(), &listing.entries).await?;
        for (entry, detail) in listing.entries.iter().zip(read) {
            facts.note_size(entry.oid, detail.and_then(|detail| detail.size_bytes));
        }
    }
    if needs.functions {
        procedures::note(&Functions::of(state), &facts);
    }
    session.pin(facts);
    Ok(())
}

/// What the functions of a statement will ask for.
#[derive(Debug, Default)]
struct Needs {
    names: bool,
    sizes: bool,
    functions: bool,
    /// A system table is read, whose scan notes what it finds.
    system: bool,
    pg_class: bool,
}

impl Visitor for Needs {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = last_part(relation);
        self.pg_class |= name == "pg_class";
        self.system |= name.starts_with("pg_");
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        static NAMES: LazyLock<HashSet<&str>> = LazyLock::new(|| ABOUT_NAMES.into_iter().collect());
        match expr {
            Expr::Function(function) => {
                let name = last_part(&function.name);
                self.names |= NAMES.contains(name.as_str());
                self.sizes |= ABOUT_SIZES.contains(&name.as_str());
                self.functions |= ABOUT_FUNCTIONS.contains(&name.as_str());
            }
            Expr::Cast { data_type: DataType::Regclass | DataType::Custom(..), .. } => self.names = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn last_part(name: &ObjectName) -> String {
    let part = name.0.last().and_then(|part| part.as_ident());
    part.map(|ident| ident.value.to_ascii_lowercase()).unwrap_or_default()
}
