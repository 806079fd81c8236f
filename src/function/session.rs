//! The session's own facts, and the functions that tell them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use arrow::datatypes::{DataType, Field, TimeUnit};
use chrono::{DateTime, Utc};
use datafusion::common::{Result, ScalarValue};

use super::CatalogFacts;
use super::row::{RowFunction, Values, utf8};
use crate::error;
use crate::runtime::channels::{self, Channels};
use crate::runtime::locks::{Locks, Owner, Scope};
use crate::runtime::sessions::Sessions;

/// How many notifications one transaction may send.
const SENT_MAX: usize = 10_000;
/// Further ones within one statement are let go.
const NOTICES_MAX: usize = 1_000;

/// One setting, as `pg_settings` shows it.
#[derive(Debug, Clone, Default)]
pub struct SettingRow {
    pub name: String,
    pub setting: Option<String>,
    pub unit: Option<String>,
    pub category: String,
    pub short_desc: String,
    /// Who may change it, and when: `user`, `superuser`, `postmaster`, `internal`.
    pub context: String,
    /// `bool`, `integer`, `real`, `string` or `enum`.
    pub vartype: String,
    /// Where the value came from: `default`, `session`, `client`, `configuration file`, ….
    pub source: String,
    pub enum_values: Option<Vec<String>>,
    pub boot_value: Option<String>,
    pub reset_value: Option<String>,
}

/// One open cursor, as `pg_cursors` shows it.
#[derive(Debug, Clone)]
pub struct CursorRow {
    pub name: String,
    pub statement: Arc<str>,
    pub is_holdable: bool,
    pub is_binary: bool,
    pub is_scrollable: bool,
    pub created: SystemTime,
}

/// One prepared statement, as `pg_prepared_statements` shows it.
#[derive(Debug, Clone)]
pub struct StatementRow {
    pub name: String,
    pub statement: Arc<str>,
    pub prepared: SystemTime,
    pub parameter_types: Vec<String>,
    pub from_sql: bool,
}

/// What a client is told beside a statement's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether something is amiss, and not only worth knowing.
    pub is_warning: bool,
    pub sqlstate: &'static str,
    pub message: String,
}

/// The settings of a session, as functions and `pg_settings` need them.
pub trait SettingsView: fmt::Debug + Send + Sync {
    /// The value of a setting as `SHOW` prints it; none for a name that does not exist.
    fn value(&self, name: &str) -> Option<String>;
    /// A setting that limits how long something may take; none for 0.
    fn limit(&self, name: &str) -> Option<Duration>;
    /// Sets a setting, for the transaction only if `is_local`, and gives the value back as `SHOW` prints it.
    fn set(&self, name: &str, value: &str, is_local: bool) -> error::Result<String>;
    /// Every setting, by name.
    fn all(&self) -> Vec<SettingRow>;
}

/// What functions know of the session that calls them.
#[derive(Debug)]
pub struct SessionFacts {
    pub user: String,
    /// The catalog that the session is connected to.
    pub database: String,
    pub process_id: i32,
    pub server_started: DateTime<Utc>,
    pub settings: Arc<dyn SettingsView>,
    /// All that are connected to this daemon.
    pub sessions: Arc<Sessions>,
    pub channels: Arc<Channels>,
    pub locks: Arc<Locks>,
    /// Notifications that the transaction under way sends.
    outbox: Mutex<Vec<(String, String)>>,
    notices: Mutex<Vec<Notice>>,
    /// Whether the transaction may hold advisory locks.
    locking: AtomicBool,
    search_path: RwLock<Vec<String>>,
    /// Whether there are temporary tables, which every path begins with.
    temporary: AtomicBool,
    statement: RwLock<Arc<CatalogFacts>>,
    cursors: RwLock<Vec<CursorRow>>,
    statements: RwLock<Vec<StatementRow>>,
}

impl SessionFacts {
    pub fn new(
        user: impl Into<String>,
        database: impl Into<String>,
        process_id: i32,
        server_started: DateTime<Utc>,
        settings: Arc<dyn SettingsView>,
    ) -> Self {
        Self {
            user: user.into(),
            database: database.into(),
            process_id,
            server_started,
            settings,
            sessions: Arc::default(),
            channels: Arc::default(),
            locks: Arc::default(),
            outbox: Mutex::default(),
            notices: Mutex::default(),
            locking: AtomicBool::new(false),
            search_path: RwLock::new(vec!["public".to_owned()]),
            temporary: AtomicBool::new(false),
            statement: RwLock::default(),
            cursors: RwLock::default(),
            statements: RwLock::default(),
        }
    }

    /// The same facts, in a daemon whose other sessions can be seen and reached.
    #[must_use]
    pub fn among(mut self, sessions: &Arc<Sessions>, channels: &Arc<Channels>, locks: &Arc<Locks>) -> Self {
        self.sessions = Arc::clone(sessions);
        self.channels = Arc::clone(channels);
        self.locks = Arc::clone(locks);
        self
    }

    /// Who this session is to others that want the same locks.
    pub fn owner(&self) -> Owner {
        Owner { process_id: self.process_id, database: self.database.clone() }
    }

    /// Notes that the transaction may hold a lock from now on, if it is one that ends with it.
    pub fn takes_lock(&self, scope: Scope) {
        if scope == Scope::Transaction {
            self.locking.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the transaction may hold a lock; from now on it may, or may not.
    pub fn took_lock(&self, from_now: bool) -> bool {
        self.locking.swap(from_now, Ordering::Relaxed)
    }

    /// Sends a notification, once the transaction commits.
    ///
    /// # Errors
    /// [`error::Error::InvalidParameter`] for a name or a text that is too long, and
    /// [`error::Error::LimitExceeded`] for too many.
    pub fn send(&self, channel: &str, payload: &str) -> error::Result<()> {
        let wrong = |message: &str| Err(error::Error::InvalidParameter(message.to_owned()));
        if channel.is_empty() {
            return wrong("channel name cannot be empty");
        }
        if channel.len() > channels::CHANNEL_BYTES_MAX {
            return wrong("channel name too long");
        }
        if payload.len() > channels::PAYLOAD_BYTES_MAX {
            return wrong("payload string too long");
        }
        let mut outbox = self.outbox();
        if outbox.len() >= SENT_MAX {
            let message = format!("a transaction can send {SENT_MAX} notifications");
            return Err(error::Error::LimitExceeded(message));
        }
        outbox.push((channel.to_owned(), payload.to_owned()));
        Ok(())
    }

    /// Notifications that wait for the commit.
    pub fn outbox(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the client of something that is amiss.
    pub fn warn(&self, sqlstate: &'static str, message: &str) {
        self.notice(Notice { is_warning: true, sqlstate, message: message.to_owned() });
    }

    /// Tells the client of something worth knowing.
    pub fn note(&self, sqlstate: &'static str, message: &str) {
        self.notice(Notice { is_warning: false, sqlstate, message: message.to_owned() });
    }

    fn notice(&self, notice: Notice) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() < NOTICES_MAX {
            notices.push(notice);
        }
    }

    /// Takes what the client has not been told yet.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The schemas in which a bare name is looked up, `pg_catalog` not among them unless it was named.
    pub fn search_path(&self) -> Vec<String> {
        self.search_path.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_search_path(&self, path: Vec<String>) {
        *self.search_path.write().unwrap_or_else(PoisonError::into_inner) = path;
    }

    /// Notes whether there are temporary tables.
    pub fn note_temporary(&self, exist: bool) {
        self.temporary.store(exist, Ordering::Relaxed);
    }

    /// The search path as names are resolved: temporary tables and `pg_catalog` come first unless the
    /// path names them.
    pub fn effective_path(&self) -> Vec<String> {
        let mut path = self.search_path();
        if !path.iter().any(|schema| schema == "pg_catalog") {
            path.insert(0, "pg_catalog".to_owned());
        }
        if self.temporary.load(Ordering::Relaxed) && !path.iter().any(|schema| schema == "pg_temp") {
            path.insert(0, "pg_temp".to_owned());
        }
        path
    }

    /// What the statement that runs now may know of tables.
    pub fn catalog(&self) -> Arc<CatalogFacts> {
        Arc::clone(&self.statement.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives the statement that runs next its facts; those of the last one are let go.
    pub fn pin(&self, facts: CatalogFacts) {
        *self.statement.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
    }

    /// The cursors that are open, by name.
    pub fn cursors(&self) -> Vec<CursorRow> {
        self.cursors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn list_cursors(&self, cursors: Vec<CursorRow>) {
        *self.cursors.write().unwrap_or_else(PoisonError::into_inner) = cursors;
    }

    /// The prepared statements, by name.
    pub fn statements(&self) -> Vec<StatementRow> {
        self.statements.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The list of prepared statements, to be changed.
    pub fn list_statements(&self, change: impl FnOnce(&mut Vec<StatementRow>)) {
        change(&mut self.statements.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn current_schema(&self) -> Option<String> {
        self.catalog().existing(self.search_path()).into_iter().next()
    }
}

/// The version that clients parse: they switch features on by the number in front.
fn version() -> String {
    format!("PostgreSQL 15.0 (Lacus {})", env!("CARGO_PKG_VERSION"))
}

pub(super) fn functions(facts: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let mut all = identity(facts);
    all.extend(server(facts));
    all.extend(settings(facts));
    all
}

fn identity(facts: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let named = |name: &'static str, told: fn(&SessionFacts) -> Option<String>| {
        let facts = Arc::clone(facts);
        RowFunction::new(name, 0..=0, DataType::Utf8, move |_| Ok(ScalarValue::Utf8(told(&facts))))
            .typed("name")
    };
    vec![
        named("current_database", |facts| Some(facts.database.clone())).alias("current_catalog"),
        named("current_schema", SessionFacts::current_schema),
        named("current_user", |facts| Some(facts.user.clone())).alias("user").alias("current_role"),
        named("session_user", |facts| Some(facts.user.clone())),
        RowFunction::new("version", 0..=0, DataType::Utf8, |_| Ok(utf8(version()))),
        schemas(facts),
    ]
}

fn schemas(facts: &Arc<SessionFacts>) -> RowFunction {
    let facts = Arc::clone(facts);
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    RowFunction::new("current_schemas", 1..=1, list, move |values| {
        let path = if values.boolean(0) == Some(true) { facts.effective_path() } else { facts.search_path() };
        let path: Vec<ScalarValue> = facts.catalog().existing(path).into_iter().map(utf8).collect();
        Ok(ScalarValue::List(ScalarValue::new_list(&path, &DataType::Utf8, true)))
    })
    .typed("_name")
}

fn server(facts: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let process_id = facts.process_id;
    let started = facts.server_started.timestamp_micros();
    let start =
        move |_: &Values<'_>| Ok(ScalarValue::TimestampMicrosecond(Some(started), Some("UTC".into())));
    let nothing = |name: &'static str, returns: DataType| {
        RowFunction::new(name, 0..=0, returns, |_| Ok(ScalarValue::Null))
    };
    vec![
        RowFunction::new("pg_backend_pid", 0..=0, DataType::Int32, move |_| {
            Ok(ScalarValue::Int32(Some(process_id)))
        }),
        RowFunction::new("pg_postmaster_start_time", 0..=0, timestamp.clone(), start),
        RowFunction::new("pg_conf_load_time", 0..=0, timestamp, start),
        RowFunction::new("pg_is_in_recovery", 0..=0, DataType::Boolean, |_| Ok(false.into())),
        RowFunction::new("pg_my_temp_schema", 0..=0, DataType::Int64, |_| Ok(0_i64.into())).typed("oid"),
        nothing("inet_server_addr", DataType::Utf8),
        nothing("inet_server_port", DataType::Int32),
        nothing("inet_client_addr", DataType::Utf8),
        nothing("inet_client_port", DataType::Int32),
        RowFunction::new("txid_current", 0..=0, DataType::Int64, |_| Ok(next_transaction().into()))
            .volatile()
            .alias("pg_current_xact_id"),
    ]
}

/// A number that grows, which is all that callers make of a transaction id.
fn next_transaction() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

fn settings(facts: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let (reading, setting) = (Arc::clone(facts), Arc::clone(facts));
    vec![
        // Volatile like set_config, so that neither is computed while the statement is being planned.
        RowFunction::new("current_setting", 1..=2, DataType::Utf8, move |values| current(&reading, values))
            .volatile(),
        RowFunction::new("set_config", 3..=3, DataType::Utf8, move |values| set(&setting, values))
            .nulls()
            .volatile(),
    ]
}

fn current(facts: &SessionFacts, values: &Values<'_>) -> Result<ScalarValue> {
    let name = values.text(0).unwrap_or_default();
    match facts.settings.value(&name) {
        Some(value) => Ok(utf8(value)),
        None if values.boolean(1) == Some(true) => Ok(ScalarValue::Null),
        None => {
            Err(error::Error::UnknownSetting(format!("unrecognized configuration parameter \"{name}\""))
                .into())
        }
    }
}

fn set(facts: &SessionFacts, values: &Values<'_>) -> Result<ScalarValue> {
    let Some(name) = values.text(0) else {
        return Err(values.refuse("the name of the setting is null"));
    };
    let value = values.text(1).unwrap_or_default();
    Ok(utf8(facts.settings.set(&name, &value, values.boolean(2) == Some(true))?))
}
