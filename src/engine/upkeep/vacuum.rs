//! `VACUUM`: old snapshots leave the tables' metadata, then files that nobody refers to go.
//!
//! Snapshots go by ordinary commits, which conflict with nothing; files as [`catalog::vacuum`] decides.
//!
//! [`catalog::vacuum`]: crate::catalog::vacuum

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Vacuum;
use crate::catalog::Catalog;
use crate::catalog::lake::Lake;
use crate::catalog::vacuum::{self, Vacuumed};
use crate::engine::execute::Run;
use crate::engine::plan::FullName;
use crate::engine::session::Session;
use crate::error::{Error, Result};
use crate::format::iceberg::Expiry;

/// Tables whose snapshots expire in one commit.
const TABLES_PER_COMMIT: usize = 64;
/// How much longer than a transaction the grace period must be: clocks differ, and commits take time.
pub const MARGIN: Duration = Duration::from_secs(60 * 60);

impl Session {
    pub(super) async fn vacuum(&mut self, request: &Vacuum, run: &Run) -> Result<Vacuumed> {
        let config = Arc::clone(&self.engine.config);
        let grace = request.grace.unwrap_or(config.vacuum_grace);
        let least = config.transaction_timeout + MARGIN;
        if grace < least && !request.force {
            return Err(Error::InvalidParameter(format!(
                "a grace period of {} s is too short: transactions may last {} s, and an hour more is needed; \
                 FORCE takes the risk to remove what a transaction under way has written",
                grace.as_secs(),
                config.transaction_timeout.as_secs()
            )));
        }
        let retention = request.retain.unwrap_or(config.snapshot_retention);
        let began = Instant::now();
        let (lake, tables) = self.vacuumed_tables(request).await?;
        if !request.dry_run {
            lake.ensure_writable().await?;
            let expiry = Expiry::after(retention, chrono::Utc::now().timestamp_millis());
            self.expire(&lake, tables.clone(), expiry, run).await?;
        }
        let only = match request.names.is_empty() {
            true => None,
            false => Some(folders(&lake, &tables)?),
        };
        let vacuum = vacuum::Vacuum { retention, grace, dry_run: request.dry_run, only };
        let name = lake.name.clone();
        let vacuumed = run.on_cpu(async move { vacuum.run(&lake).await }).await;
        if !request.dry_run {
            let done = vacuumed.as_ref().map(|gone| (gone.files, gone.bytes));
            let done = done.map_err(|error| error.repeated());
            if let Ok((files, bytes)) = &done {
                tracing::info!(lake = %name, files, bytes, "vacuumed");
            }
            self.note_upkeep(name, "vacuum", began, done);
        }
        vacuumed
    }

    /// The tables that are meant, and their lake.
    async fn vacuumed_tables(&self, request: &Vacuum) -> Result<(Arc<Lake>, Vec<FullName>)> {
        let planner = self.planner().await?;
        let mut names = Vec::new();
        for name in &request.names {
            let full = planner.find(name).await?;
            // Says what is no managed table.
            planner.transaction.stored(&full.catalog, &full.schema, &full.name).await?;
            names.push(full);
        }
        let catalog = names.first().map_or(&self.database, |full| &full.catalog).clone();
        if names.iter().any(|full| full.catalog != catalog) {
            return Err(Error::Unsupported("VACUUM of tables in several catalogs at once".to_owned()));
        }
        let Catalog::Lake(lake) = self.engine.catalogs.find(&catalog)? else {
            return Err(Error::ReadOnly(format!("catalog \"{catalog}\" is read-only")));
        };
        if names.is_empty() {
            names.extend(lake.refresh().await?.tables().map(|(schema, name, _)| FullName {
                catalog: catalog.clone(),
                schema: schema.to_owned(),
                name: name.to_owned(),
            }));
        }
        Ok((Arc::clone(lake), names))
    }

    /// Lets snapshots expire, some tables a commit. A table that is gone meanwhile is passed over.
    pub(super) async fn expire(
        &self,
        lake: &Arc<Lake>,
        tables: Vec<FullName>,
        expiry: Expiry,
        run: &Run,
    ) -> Result<()> {
        for some in tables.chunks(TABLES_PER_COMMIT) {
            let transaction = self.new_transaction();
            for table in some {
                match transaction.expire(&table.catalog, &table.schema, &table.name, expiry).await {
                    Ok(_) | Err(Error::TableNotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            match self.commit(&transaction, run.guard.id.clone()).await {
                // Dropped or replaced a moment ago; the next VACUUM sees what became of it.
                Err(error @ Error::CommitConflict { .. }) => {
                    tracing::info!(lake = %lake.name, %error, "snapshots of some tables not expired");
                }
                committed => committed?,
            }
        }
        Ok(())
    }
}

/// The folders of tables, as the newest state has them.
fn folders(lake: &Lake, tables: &[FullName]) -> Result<BTreeSet<String>> {
    let state = lake.current();
    let folder = |full: &FullName| {
        let record = state.table(&full.schema, &full.name);
        let record = record.ok_or_else(|| Error::TableNotFound(full.to_string()))?;
        Ok(record.directory.clone())
    };
    tables.iter().map(folder).collect()
}
