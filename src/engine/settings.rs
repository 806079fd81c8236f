//! Settings: one table feeds SET, SHOW, RESET, `current_setting`, `pg_settings` and ParameterStatus.
//!
//! A session's values live here, with what a transaction has to undo. Which settings exist, their
//! types and defaults stand in [`table`].

mod accepted;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::function::{SettingRow, SettingsView};
pub use table::{Kind, SETTINGS, Setting, find};

/// The values of one session.
#[derive(Debug)]
pub struct Settings {
    values: Mutex<Values>,
}

/// Values by name that are not the table's defaults; kept for a rollback by keeping a second owner.
type Named = Arc<BTreeMap<String, String>>;

/// The modes of a transaction, and the settings that new transactions take them from.
const MODES: [(&str, &str); 3] = [
    ("transaction_isolation", "default_transaction_isolation"),
    ("transaction_read_only", "default_transaction_read_only"),
    ("transaction_deferrable", "default_transaction_deferrable"),
];

/// The values at a savepoint.
#[derive(Debug, Clone)]
pub struct SettingsMark {
    current: Named,
    hidden: Arc<BTreeMap<String, Option<String>>>,
}

#[derive(Debug, Default)]
struct Values {
    /// What RESET goes back to, beside the table's defaults: what the client asked for at the start.
    initial: Named,
    current: Named,
    /// The values when the transaction began, for a rollback.
    at_begin: Option<Named>,
    /// What `SET LOCAL` hid, for the end of the transaction.
    hidden: Arc<BTreeMap<String, Option<String>>>,
    /// What the client was told.
    reported: HashMap<&'static str, String>,
    /// Counts changes, so that a plan's maker sees whether its session state is stale.
    version: u64,
}

impl Settings {
    /// Starts with the table's defaults, changed by what a client gave at its start.
    ///
    /// # Errors
    /// As [`Settings::set`].
    pub fn start<'a>(user: &str, given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let user = ("session_authorization".to_owned(), user.to_owned());
        let current = Arc::new(BTreeMap::from([user]));
        let values = Values { initial: Arc::clone(&current), current, ..Values::default() };
        let settings = Self { values: Mutex::new(values) };
        for (name, value) in given {
            let (name, value) = settings.checked(name, value)?;
            let mut values = settings.lock();
            Arc::make_mut(&mut values.initial).insert(name, value);
            values.current = Arc::clone(&values.initial);
        }
        let mut values = settings.lock();
        values.current = Arc::clone(&values.initial);
        values.settle();
        drop(values);
        Ok(settings)
    }

    /// Sets `name`, for the transaction only when `local`.
    ///
    /// # Errors
    /// [`Error::UnknownSetting`], [`Error::InvalidParameter`] for a value that is not of its type, and
    /// [`Error::PermissionDenied`] for what only the daemon decides.
    pub fn set(&self, name: &str, value: Option<&str>, local: bool) -> Result<()> {
        let (name, value) = match value {
            Some(value) => self.checked(name, value)?,
            None => {
                let name = canonical(name);
                let initial = value_in(&self.lock().initial, &name);
                (name.clone(), initial.ok_or_else(|| unknown(&name))?)
            }
        };
        let mut values = self.lock();
        let before = Arc::make_mut(&mut values.current).insert(name.clone(), value);
        values.version += 1;
        if local && values.at_begin.is_some() {
            Arc::make_mut(&mut values.hidden).entry(name).or_insert(before);
        } else if local {
            // Outside of a transaction SET LOCAL ends with its own statement.
            restore(Arc::make_mut(&mut values.current), name, before);
        } else if values.hidden.contains_key(&name) {
            Arc::make_mut(&mut values.hidden).remove(&name);
        }
        values.settle();
        Ok(())
    }

    /// Goes back to the initial value, of all settings when `name` is none.
    ///
    /// # Errors
    /// [`Error::UnknownSetting`].
    pub fn reset(&self, name: Option<&str>) -> Result<()> {
        match name {
            Some(name) => self.set(name, None, false),
            None => {
                let mut values = self.lock();
                let modes = MODES.map(|(mode, _)| (mode.to_owned(), values.current.get(mode).cloned()));
                values.current = Arc::clone(&values.initial);
                for (mode, value) in modes {
                    restore(Arc::make_mut(&mut values.current), mode, value);
                }
                values.version += 1;
                values.settle();
                Ok(())
            }
        }
    }

    /// # Errors
    /// [`Error::UnknownSetting`].
    pub fn show(&self, name: &str) -> Result<String> {
        let name = canonical(name);
        value_in(&self.lock().current, &name).ok_or_else(|| unknown(&name))
    }

    /// Remembers the values, for a rollback.
    pub fn begin(&self) {
        let mut values = self.lock();
        values.at_begin = Some(Arc::clone(&values.current));
    }

    /// The values of now, for [`Settings::go_back`].
    pub fn mark(&self) -> SettingsMark {
        let values = self.lock();
        SettingsMark { current: Arc::clone(&values.current), hidden: Arc::clone(&values.hidden) }
    }

    /// Undoes what was set since `mark` was taken, in the same transaction.
    pub fn go_back(&self, mark: &SettingsMark) {
        let mut values = self.lock();
        values.current = Arc::clone(&mark.current);
        values.hidden = Arc::clone(&mark.hidden);
        values.version += 1;
    }

    /// Ends a transaction: undoes SET LOCAL, and every SET after a rollback.
    pub fn end(&self, committed: bool) {
        let mut values = self.lock();
        let Some(at_begin) = values.at_begin.take() else { return };
        let hidden = std::mem::take(&mut values.hidden);
        if committed {
            for (name, before) in hidden.iter() {
                restore(Arc::make_mut(&mut values.current), name.clone(), before.clone());
            }
        } else {
            values.current = at_begin;
        }
        values.version += 1;
        values.settle();
    }

    /// Settings that the client has to be told about, with their values, once.
    pub fn take_reports(&self) -> Vec<(&'static str, String)> {
        let mut values = self.lock();
        let mut reports = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.reported) {
            let value = value_in(&values.current, setting.name).unwrap_or_default();
            if values.reported.get(setting.name) != Some(&value) {
                values.reported.insert(setting.name, value.clone());
                reports.push((setting.name, value));
            }
        }
        reports
    }

    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Schemas in which unqualified names are looked up.
    pub fn search_path(&self, user: &str) -> Vec<String> {
        let path = self.text("search_path");
        let names = path.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty());
        names.map(|name| if name == "$user" { user.to_owned() } else { name.to_owned() }).collect()
    }

    pub fn text(&self, name: &str) -> String {
        value_in(&self.lock().current, name).unwrap_or_default()
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.text(name) == "on"
    }

    /// A limit in milliseconds; none when it is 0.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        let milliseconds = table::milliseconds(&self.text(name)).unwrap_or(0);
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }

    /// Options of DataFusion that this session set, such as `datafusion.optimizer.prefer_hash_join`.
    pub fn engine_options(&self) -> Vec<(String, String)> {
        let values = self.lock();
        let own = values.current.iter().filter(|(name, _)| name.starts_with("datafusion."));
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn checked(&self, name: &str, value: &str) -> Result<(String, String)> {
        let name = canonical(name);
        if let Some(setting) = table::find(&name) {
            if setting.kind == Kind::Role {
                self.ensure_own_role(setting.name, value)?;
            }
            let current = self.text(setting.name);
            return Ok((setting.name.to_owned(), setting.checked(value, &current)?));
        }
        if name.starts_with("datafusion.") {
            let free = ["datafusion.optimizer.", "datafusion.explain."];
            return match free.iter().any(|prefix| name.starts_with(prefix)) {
                true => Ok((name, value.to_owned())),
                false => {
                    Err(Error::PermissionDenied(format!("\"{name}\" belongs to the daemon's configuration")))
                }
            };
        }
        // A name with a dot is the client's own, as in PostgreSQL.
        if name.contains('.') { Ok((name, value.to_owned())) } else { Err(unknown(&name)) }
    }

    /// A session stays the user's that logged in.
    fn ensure_own_role(&self, name: &str, value: &str) -> Result<()> {
        let user = self.text("session_authorization");
        if value == user || name == "role" && value.eq_ignore_ascii_case("none") {
            return Ok(());
        }
        Err(match name {
            "role" => Error::InvalidParameter(format!("role \"{value}\" does not exist")),
            _ => Error::PermissionDenied("a session stays its user's".to_owned()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        // A panic under this lock leaves whole values behind.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Values {
    /// Where a setting's value comes from, as `pg_settings` calls it.
    fn source(&self, name: &str) -> &'static str {
        match (self.current.get(name), self.initial.get(name)) {
            (None, None) => "default",
            (current, initial) if current == initial => "client",
            _ => "session",
        }
    }

    /// Outside of a transaction its modes are those that the next one will have.
    fn settle(&mut self) {
        if self.at_begin.is_some() {
            return;
        }
        for (mode, default) in MODES {
            let value = value_in(&self.current, default);
            if value_in(&self.current, mode) != value {
                restore(Arc::make_mut(&mut self.current), mode.to_owned(), value);
            }
        }
    }
}

impl SettingsView for Settings {
    fn value(&self, name: &str) -> Option<String> {
        self.show(name).ok()
    }

    fn limit(&self, name: &str) -> Option<Duration> {
        self.duration(name)
    }

    fn set(&self, name: &str, value: &str, is_local: bool) -> Result<String> {
        Self::set(self, name, Some(value), is_local)?;
        self.show(name)
    }

    fn all(&self) -> Vec<SettingRow> {
        let values = self.lock();
        let row = |setting: &Setting| SettingRow {
            name: setting.name.to_owned(),
            setting: value_in(&values.current, setting.name),
            unit: setting.unit().map(str::to_owned),
            category: setting.category.to_owned(),
            short_desc: setting.description.to_owned(),
            context: if setting.is_fixed() { "internal" } else { "user" }.to_owned(),
            vartype: setting.type_name().to_owned(),
            source: values.source(setting.name).to_owned(),
            enum_values: setting.words(),
            boot_value: Some(setting.default.to_owned()),
            reset_value: value_in(&values.initial, setting.name),
        };
        SETTINGS.iter().copied().map(row).collect()
    }
}

/// The value of a setting among those that are not defaults, or else its default.
fn value_in(values: &BTreeMap<String, String>, name: &str) -> Option<String> {
    values.get(name).cloned().or_else(|| table::find(name).map(|setting| setting.default.to_owned()))
}

fn restore(current: &mut BTreeMap<String, String>, name: String, before: Option<String>) {
    match before {
        Some(before) => current.insert(name, before),
        None => current.remove(&name),
    };
}

/// The spelling under which a setting is kept: the table's own, whatever the client's case.
fn canonical(name: &str) -> String {
    let lower = name.to_lowercase();
    table::find(&lower).map_or(lower, |setting| setting.name.to_owned())
}

fn unknown(name: &str) -> Error {
    Error::UnknownSetting(format!("unrecognized configuration parameter \"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_undoes_set_and_a_commit_undoes_set_local() {
        let settings = Settings::start("ada", [("application_name", "psql")]).unwrap();
        settings.begin();
        settings.set("TimeZone", Some("Europe/Berlin"), false).unwrap();
        settings.set("statement_timeout", Some("5s"), true).unwrap();
        assert_eq!(settings.duration("statement_timeout"), Some(Duration::from_secs(5)));
        settings.end(true);
        assert_eq!(settings.show("timezone").unwrap(), "Europe/Berlin");
        assert_eq!(settings.duration("statement_timeout"), None);
        settings.begin();
        settings.set("timezone", Some("UTC"), false).unwrap();
        settings.end(false);
        assert_eq!(settings.show("TIMEZONE").unwrap(), "Europe/Berlin");
        settings.reset(None).unwrap();
        assert_eq!(settings.show("application_name").unwrap(), "psql");
    }

    #[test]
    fn a_savepoint_keeps_the_values_of_its_moment() {
        let settings = Settings::start("ada", []).unwrap();
        settings.begin();
        settings.set("statement_timeout", Some("5s"), true).unwrap();
        let mark = settings.mark();
        settings.set("statement_timeout", Some("9s"), false).unwrap();
        settings.set("application_name", Some("x"), false).unwrap();
        settings.go_back(&mark);
        assert_eq!(settings.show("statement_timeout").unwrap(), "5s");
        settings.end(true);
        assert_eq!(settings.show("statement_timeout").unwrap(), "0", "SET LOCAL ends with the transaction");
        assert_eq!(settings.show("application_name").unwrap(), "");
    }

    #[test]
    fn modes_follow_their_defaults_outside_of_a_transaction() {
        let settings = Settings::start("ada", [("default_transaction_read_only", "on")]).unwrap();
        assert!(settings.is_on("transaction_read_only"));
        settings.begin();
        settings.set("default_transaction_read_only", Some("off"), false).unwrap();
        assert!(settings.is_on("transaction_read_only"), "the one under way keeps its own");
        settings.end(true);
        assert!(!settings.is_on("transaction_read_only"));
        settings.set("transaction_read_only", Some("on"), false).unwrap();
        assert!(!settings.is_on("transaction_read_only"), "there is none to be set");
    }

    #[test]
    fn the_daemons_own_options_are_refused() {
        let settings = Settings::start("ada", []).unwrap();
        let code = |name: &str, value: &str| settings.set(name, Some(value), false).unwrap_err().sqlstate();
        assert_eq!(code("datafusion.runtime.memory_limit", "1G"), "42501");
        assert_eq!(code("datafusion.catalog.location", "/"), "42501");
        assert_eq!(code("datafusion.execution.batch_size", "1"), "42501");
        assert_eq!(code("no_such_thing", "1"), "42704");
        assert_eq!(code("statement_timeout", "soon"), "22023");
        assert_eq!(code("server_version", "9"), "55P02");
        settings.set("myapp.user_id", Some("7"), false).unwrap();
        assert_eq!(settings.show("myapp.user_id").unwrap(), "7");
    }

    #[test]
    fn changes_are_reported_once() {
        let settings = Settings::start("ada", []).unwrap();
        assert!(settings.take_reports().iter().any(|(name, _)| *name == "server_version"));
        settings.set("application_name", Some("x"), false).unwrap();
        assert_eq!(settings.take_reports(), [("application_name", "x".to_owned())]);
        assert_eq!(settings.take_reports(), []);
    }
}
