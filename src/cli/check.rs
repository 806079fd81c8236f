//! `lacus check`: what the daemon would serve, without serving it.

use std::sync::Arc;

use crate::catalog::Browse;
use crate::catalog::temporary::Temporary;
use crate::catalog::transaction::Transaction;
use crate::config::Config;
use crate::engine;
use crate::error::{Error, Result};

/// Reads every catalog, reaches every root, and prints what is there.
///
/// # Errors
/// [`Error::Config`] when any catalog cannot be read.
pub fn check(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let failed = runtime.block_on(report(Arc::new(config)))?;
    match failed {
        0 => Ok(()),
        failed => Err(Error::Config(format!("{failed} of the catalogs cannot be read"))),
    }
}

/// Prints a line a schema; returns how many catalogs failed.
async fn report(config: Arc<Config>) -> Result<usize> {
    let engine = engine::start(Arc::clone(&config), tokio::runtime::Handle::current())?;
    let temporary = Arc::new(Temporary::new(Arc::clone(&engine.runtime)));
    let transaction = Transaction::begin(Arc::clone(&engine.catalogs), "check".to_owned(), temporary);
    let mut failed = 0;
    for catalog in transaction.catalogs() {
        match listed(&transaction, &catalog).await {
            Ok(lines) => println!("{catalog}: ok\n{}", lines.join("\n")),
            Err(error) => {
                failed += 1;
                println!("{catalog}: {error}");
            }
        }
    }
    Ok(failed)
}

async fn listed(transaction: &Transaction, catalog: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (schema, _) in transaction.schemas(catalog).await? {
        let relations = transaction.relations(catalog, &schema).await?;
        let names: Vec<&str> = relations.iter().map(|relation| relation.name.as_str()).collect();
        lines.push(format!(
            "  {schema}: {}",
            if names.is_empty() { "(empty)".to_owned() } else { names.join(", ") }
        ));
    }
    Ok(lines)
}
