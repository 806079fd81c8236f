//! Rows of other engines, looked at under a table's rules before a commit names them.
//!
//! Another engine knows nothing of a table's `CHECK` constraints and enforced keys. The files that it adds are
//! read here, less those of which it is known that they hold what is asked.

use std::sync::Arc;

use datafusion::datasource::provider_as_source;

use super::Engine;
use super::execute::Run;
use super::keys::Added;
use super::plan::FullName;
use super::rules::violated;
use super::session::{Session, SessionOptions};
use crate::catalog::transaction::Transaction;
use crate::error::{Error, Result};
use crate::format::iceberg::{TableMetadata, added};
use crate::runtime::queries::Cancel;
use crate::scan::FilesTable;

/// What a query calls the rows.
const ROWS: &str = "$added";

/// Checks the rows that a transaction has added to the table `before` by files of another engine.
///
/// # Errors
/// [`Error::CheckViolation`], [`Error::UniqueViolation`].
pub async fn ensure_rules(
    engine: &Arc<Engine>,
    user: &str,
    transaction: &Arc<Transaction>,
    (catalog, schema, table): (&str, &str, &str),
    before: &TableMetadata,
) -> Result<()> {
    let target = transaction.target(catalog, schema, table).await?;
    let rules = target.rules.clone();
    if rules.checks.is_empty() && rules.enforced().next().is_none() {
        return Ok(());
    }
    let after = transaction.metadata_of(&target).await?;
    let rows = added(&target.location, before, &after).await?;
    if rows.files.is_empty() {
        return Ok(());
    }
    let options = SessionOptions {
        user: user.to_owned(),
        database: catalog.to_owned(),
        process_id: 0,
        settings: vec![("application_name".to_owned(), "Iceberg REST catalog".to_owned())],
    };
    let session = Session::open(Arc::clone(engine), options)?;
    let text = format!("rules of {schema}.{table}");
    let guard = engine.runtime.queries.begin(user, catalog, text.into(), Cancel::default())?;
    let run = Run::begin(&engine.runtime, guard, None);
    let planner = session.planner_in(Arc::clone(transaction)).await?;
    let rows = provider_as_source(Arc::new(FilesTable::new(Arc::new(rows))));
    for check in &rules.checks {
        let from = (format!("\"{ROWS}\""), vec![(ROWS.to_owned(), Arc::clone(&rows))]);
        if session.finds(&planner, (&from.0, from.1), &format!("NOT ({})", check.sql), &run).await? {
            return Err(Error::CheckViolation { message: violated(table, &check.name), row: None });
        }
    }
    let full = FullName { catalog: catalog.to_owned(), schema: schema.to_owned(), name: table.to_owned() };
    session.refuse_duplicate_keys(transaction, &full, Added::Anything, &run).await
}
