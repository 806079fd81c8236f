//! Sessions elsewhere: in the past (`lacus.as_of`, `dbname=lake@2026-11-01`) or on a branch
//! (`lacus.branch`, `dbname=lake@dev`).
//!
//! The former setting holds a version of the session's lake or a moment, with its zone; every transaction that
//! begins while it is set sees all lakes as they were then, and changes none. The latter names a branch of
//! the session's lake, in whose place it is seen and changed. A database's name with an `@` sets either
//! for the whole session.

use chrono::DateTime;

use super::Session;
use crate::catalog::Catalogs;
use crate::catalog::branch::{MAIN, ensure_name};
use crate::catalog::history::AsOf;
use crate::catalog::transaction::Transaction;
use crate::error::{Error, Result};
use crate::value::output::TimeZone;

/// The settings' names.
const AS_OF: &str = "lacus.as_of";
const BRANCH: &str = "lacus.branch";

/// Splits what a client connects to into a catalog and the moment or branch behind its name, which goes
/// to the settings that the client gives.
///
/// # Errors
/// [`Error::CatalogNotFound`], also for what is neither.
pub(super) fn split(
    catalogs: &Catalogs,
    database: &str,
    settings: &mut Vec<(String, String)>,
) -> Result<String> {
    let found = catalogs.ensure(database);
    let (Err(missing), Some((catalog, text))) = (&found, database.split_once('@')) else {
        return found.map(|()| database.to_owned());
    };
    catalogs.ensure(catalog)?;
    let zone = settings.iter().find(|(name, _)| name.eq_ignore_ascii_case("TimeZone"));
    let zone = zone.and_then(|(_, zone)| zone.parse().ok()).unwrap_or_else(TimeZone::utc);
    settings.push(match AsOf::parse(text, &zone) {
        Ok(moment) => (AS_OF.to_owned(), written(moment)),
        Err(_) => {
            ensure_name(text).map_err(|_| missing.clone())?;
            (BRANCH.to_owned(), text.to_owned())
        }
    });
    Ok(catalog.to_owned())
}

impl Session {
    /// The value that SET gives to a setting: of the moment, one that means the same in every zone.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`], and [`Error::ActiveTransaction`] when the transaction under way has
    /// seen another moment.
    pub(super) fn checked_moment(&self, name: &str, value: Option<&str>) -> Result<Option<String>> {
        let Some(name) = [AS_OF, BRANCH].into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            return Ok(value.map(str::to_owned));
        };
        if self.has_queried() {
            let message = format!("{name} must be set before any query of a transaction");
            return Err(Error::ActiveTransaction(message));
        }
        match value.map(str::trim) {
            None | Some("") => Ok(value.map(str::to_owned)),
            Some(MAIN) if name == BRANCH => Ok(Some(String::new())),
            Some(text) if name == BRANCH => ensure_name(text).map(|()| Some(text.to_owned())),
            Some(text) => self.moment(text).map(|moment| Some(written(moment))),
        }
    }

    /// Refuses a session on a branch that there is not.
    ///
    /// # Errors
    /// [`Error::BranchNotFound`], and what the store answers.
    pub async fn ensure_branch(&self) -> Result<()> {
        let (transaction, _) = self.transaction();
        transaction.ensure_branch().await
    }

    /// Tells a transaction which moment, or which branch, it sees.
    pub(super) fn look_back(&self, transaction: &Transaction) {
        let text = self.settings.text(AS_OF);
        // What is set was checked.
        let as_of = if text.is_empty() { None } else { self.moment(&text).ok() };
        transaction.look_back(&self.database, as_of);
        let branch = self.settings.text(BRANCH);
        transaction.look_at_branch(&self.database, Some(branch).filter(|branch| !branch.is_empty()));
    }

    fn moment(&self, text: &str) -> Result<AsOf> {
        let zone = self.settings.text("TimeZone").parse().unwrap_or_else(|_| TimeZone::utc());
        let wrong =
            |_| Error::InvalidParameter(format!("invalid value for parameter \"{AS_OF}\": \"{text}\""));
        AsOf::parse(text, &zone).map_err(wrong)
    }
}

/// A moment as the setting holds it.
fn written(moment: AsOf) -> String {
    match moment {
        AsOf::Version(version) => version.to_string(),
        AsOf::Time(time_ms) => match DateTime::from_timestamp_millis(time_ms) {
            Some(time) => time.format("%Y-%m-%d %H:%M:%S%.f+00").to_string(),
            None if time_ms > 0 => "infinity".to_owned(),
            None => "-infinity".to_owned(),
        },
    }
}
