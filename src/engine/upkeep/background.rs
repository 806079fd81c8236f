//! Upkeep by itself: tables that this daemon wrote to are looked at now and then, one after another.
//!
//! A table is compacted when a partition has gathered many small files, as single inserts make them, and
//! snapshots that are no longer kept expire when there are many. Both wait while queries wait for a
//! place, take one thread, and are bounded in bytes. A table that was updated or deleted from lately is
//! left alone, so that upkeep is not what makes somebody's next UPDATE fail with 40001. Of two daemons
//! that compact one table the second to commit has worked in vain; its files go with the next `VACUUM`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Optimize, Upkeep};
use crate::catalog::lake::Lake;
use crate::engine::Engine;
use crate::engine::execute::Run;
use crate::engine::plan::FullName;
use crate::engine::session::{Session, SessionOptions};
use crate::engine::statement::{Name, Parsed, Statement};
use crate::error::{Error, Result};
use crate::format::iceberg::{self, Expiry, TableMetadata};
use crate::function::oid::OWNER_NAME;

/// A file below this size is small enough to be put together with others unasked.
const SMALL_BYTES: u64 = 32 << 20;
/// Small files that a partition gathers before they are.
const FILES_MIN: usize = 32;
/// Bytes that one compaction rewrites.
const BYTES_MAX: u64 = 512 << 20;
/// Snapshots that could go before they do.
const EXPIRED_MIN: usize = 100;
/// Snapshots that a table's metadata names, so that it does not grow with every commit of a busy week. What
/// is older is found by the lake's own versions, as long as it is kept.
const SNAPSHOTS_MAX: usize = 1000;
/// How long a table must not have been updated.
const QUIET: Duration = Duration::from_secs(10 * 60);

/// Looks after the lakes until `shutdown` fires; what is under way then is stopped.
pub async fn run(engine: Arc<Engine>, shutdown: CancellationToken) {
    let every = engine.config.upkeep_interval;
    // Daemons that were started together shall not work together.
    let mut pause = every.mul_f64(rand::random_range(0.5..1.0));
    while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = every;
        for lake in engine.catalogs.lakes() {
            let looked = look_at(&engine, lake);
            match shutdown.run_until_cancelled(looked).await {
                Some(Ok(())) => {}
                Some(Err(error)) => warn!(lake = %lake.name, %error, "upkeep failed"),
                None => return,
            }
        }
    }
}

/// Tends the tables of a lake that this process has written to since the last look.
async fn look_at(engine: &Arc<Engine>, lake: &Arc<Lake>) -> Result<()> {
    let touched = lake.take_touched();
    if touched.is_empty() {
        return Ok(());
    }
    let state = lake.refresh().await?;
    let names: BTreeMap<&str, FullName> = state
        .tables()
        .filter(|(_, _, table)| touched.contains(&table.id))
        .map(|(schema, name, table)| {
            let (catalog, schema, name) = (lake.name.clone(), schema.to_owned(), name.to_owned());
            (table.metadata.as_str(), FullName { catalog, schema, name })
        })
        .collect();
    for (metadata, name) in names {
        let url = format!("{}{metadata}", lake.location.url);
        let tended = match iceberg::load(&lake.location, &url).await {
            Ok(metadata) => tend(engine, lake, &name, &metadata).await,
            Err(error) => Err(error),
        };
        match tended {
            // Somebody else was first, or it is gone.
            Ok(()) | Err(Error::CommitConflict { .. } | Error::TableNotFound(_)) => {}
            Err(error) => warn!(table = %name, %error, "upkeep of a table failed"),
        }
    }
    Ok(())
}

async fn tend(
    engine: &Arc<Engine>,
    lake: &Arc<Lake>,
    name: &FullName,
    metadata: &TableMetadata,
) -> Result<()> {
    let files = metadata.current_snapshot().and_then(|now| now.summary.get("total-data-files")?.parse().ok());
    let may_compact = files.is_none_or(|files: usize| files >= FILES_MIN);
    if may_compact {
        let somebody_waits = engine.runtime.metrics.queries_waiting.load(Ordering::Relaxed) > 0;
        match somebody_waits || !is_quiet(metadata) {
            // It is looked at again, though nobody may write to it until then.
            true => id_of(lake, name).into_iter().for_each(|id| lake.touch(id)),
            false => compact(engine, name).await?,
        }
    }
    let expiry = Expiry::after(engine.config.snapshot_retention, Utc::now().timestamp_millis());
    let expiry = expiry.at_most(SNAPSHOTS_MAX);
    if expiry.count(metadata) >= EXPIRED_MIN {
        expire(engine, lake, name, expiry).await?;
    }
    Ok(())
}

/// The id of a table by its name now.
fn id_of(lake: &Lake, name: &FullName) -> Option<String> {
    Some(lake.current().table(&name.schema, &name.name)?.id.clone())
}

/// Whether nobody has updated or deleted rows lately.
fn is_quiet(metadata: &TableMetadata) -> bool {
    let since = Utc::now().timestamp_millis() - QUIET.as_millis() as i64;
    let recent = metadata.snapshots.iter().rev().take_while(|snapshot| snapshot.timestamp_ms > since);
    let mut operations = recent.filter_map(|snapshot| snapshot.summary.get("operation"));
    operations.all(|operation| matches!(operation.as_str(), "append" | "replace"))
}

async fn compact(engine: &Arc<Engine>, name: &FullName) -> Result<()> {
    let mut session = session(engine, &name.catalog)?;
    let named = Name {
        catalog: Some(name.catalog.clone()),
        schema: Some(name.schema.clone()),
        name: name.name.clone(),
    };
    let optimize = Optimize {
        small_bytes: Some(SMALL_BYTES),
        files_min: FILES_MIN,
        bytes_max: BYTES_MAX,
        gentle: true,
        ..Optimize::of(named)
    };
    let statement = Statement::Upkeep(Box::new(Upkeep::Optimize(optimize)));
    let parsed = Parsed { text: format!("OPTIMIZE {name}").into(), statement };
    session.execute(&parsed, &[]).await?;
    debug!(table = %name, "looked at for compaction");
    Ok(())
}

async fn expire(engine: &Arc<Engine>, lake: &Arc<Lake>, name: &FullName, expiry: Expiry) -> Result<()> {
    let session = session(engine, &name.catalog)?;
    let began = Instant::now();
    let queries = &engine.runtime.queries;
    let guard =
        queries.begin(OWNER_NAME, &name.catalog, format!("VACUUM {name}").into(), Default::default())?;
    let run = Run::begin(&engine.runtime, guard, None);
    let expired = session.expire(lake, vec![name.clone()], expiry, &run).await;
    let noted = expired.as_ref().map(|()| (0, 0)).map_err(Error::repeated);
    session.note_upkeep(format!("{}.{name}", name.catalog), "expire", began, noted);
    expired
}

/// A session of the lake's owner.
fn session(engine: &Arc<Engine>, catalog: &str) -> Result<Session> {
    let options = SessionOptions {
        user: OWNER_NAME.to_owned(),
        database: catalog.to_owned(),
        process_id: 0,
        settings: vec![("application_name".to_owned(), "lacus upkeep".to_owned())],
    };
    Session::open(Arc::clone(engine), options)
}
