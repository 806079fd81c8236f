//! Which settings exist.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

use arrow::array::timezone::Tz;

use super::accepted::ACCEPTED;
use crate::catalog::history::AsOf;
use crate::error::{Error, Result};
use crate::value::output::TimeZone;

/// The type of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Integer(i64, i64),
    Real,
    /// Milliseconds, or a number with a unit.
    Duration,
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    TimeZone,
    /// PostgreSQL's style of two parts; what a value leaves out stays as it was.
    DateStyle,
    Encoding,
    /// The user of the session, or none: there are no other roles.
    Role,
    /// A version of the lake or a moment, or none.
    AsOf,
    /// Decided by the daemon.
    Fixed,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub kind: Kind,
    /// Whether clients are told of changes by ParameterStatus.
    pub reported: bool,
    pub category: &'static str,
    pub description: &'static str,
}

const fn setting(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    category: &'static str,
    description: &'static str,
) -> Setting {
    Setting { name, default, kind, reported: false, category, description }
}

const fn reported(setting: Setting) -> Setting {
    Setting { reported: true, ..setting }
}

const CLIENT: &str = "Client Connection Defaults";
const FORMAT: &str = "Client Connection Defaults / Locale and Formatting";
const PRESET: &str = "Preset Options";
const COMPATIBLE: &str = "Version and Platform Compatibility";
const ISOLATION: Kind =
    Kind::Word(&["serializable", "repeatable read", "read committed", "read uncommitted"]);
const LEVELS: Kind =
    Kind::Word(&["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]);

/// All settings that have a name of their own, sorted as PostgreSQL lists them.
pub static SETTINGS: LazyLock<Vec<&Setting>> = LazyLock::new(|| {
    let mut all: Vec<&Setting> = OWN.iter().chain(ACCEPTED).collect();
    all.sort_by_key(|setting| setting.name.to_ascii_lowercase());
    all
});

static BY_NAME: LazyLock<HashMap<String, &Setting>> =
    LazyLock::new(|| SETTINGS.iter().map(|setting| (setting.name.to_ascii_lowercase(), *setting)).collect());

/// Those that mean something here.
static OWN: &[Setting] = &[
    reported(setting(
        "application_name",
        "",
        Kind::Text,
        "Reporting and Logging",
        "Name that the client gave itself.",
    )),
    setting(
        "backslash_quote",
        "safe_encoding",
        Kind::Word(&["safe_encoding", "on", "off"]),
        COMPATIBLE,
        "Whether \\' may stand in literals.",
    ),
    setting("bytea_output", "hex", Kind::Word(&["hex", "escape"]), CLIENT, "Output format of bytea."),
    setting("check_function_bodies", "on", Kind::Bool, CLIENT, "Accepted; there are no functions to check."),
    reported(setting(
        "client_encoding",
        "UTF8",
        Kind::Encoding,
        FORMAT,
        "Encoding of the client: UTF8, or SQL_ASCII, which is taken for it.",
    )),
    setting("client_min_messages", "notice", LEVELS, CLIENT, "Levels of messages sent to the client."),
    reported(setting(
        "DateStyle",
        "ISO, MDY",
        Kind::DateStyle,
        FORMAT,
        "Layout of dates, and the order of their fields.",
    )),
    setting("default_table_access_method", "iceberg", Kind::Fixed, PRESET, "How new tables are stored."),
    setting("default_transaction_deferrable", "off", Kind::Bool, CLIENT, "Accepted; a snapshot never waits."),
    setting(
        "default_transaction_isolation",
        "repeatable read",
        ISOLATION,
        CLIENT,
        "Isolation of new transactions: a snapshot, and checked reads when serializable.",
    ),
    setting(
        "default_transaction_read_only",
        "off",
        Kind::Bool,
        CLIENT,
        "Whether new transactions are read-only.",
    ),
    setting("escape_string_warning", "on", Kind::Bool, COMPATIBLE, "Accepted."),
    setting(
        "extra_float_digits",
        "1",
        Kind::Integer(-15, 3),
        FORMAT,
        "Digits of floats; shortest exact when positive.",
    ),
    setting(
        "idle_in_transaction_session_timeout",
        "0",
        Kind::Duration,
        CLIENT,
        "How long a transaction may be idle.",
    ),
    setting(
        "idle_session_timeout",
        "0",
        Kind::Duration,
        CLIENT,
        "How long a session may be idle outside of a transaction.",
    ),
    reported(setting("in_hot_standby", "off", Kind::Fixed, PRESET, "Always off.")),
    reported(setting("integer_datetimes", "on", Kind::Fixed, PRESET, "Always on.")),
    reported(setting(
        "IntervalStyle",
        "postgres",
        Kind::Word(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
        FORMAT,
        "Output format of intervals.",
    )),
    reported(setting("is_superuser", "off", Kind::Fixed, PRESET, "Whether the user is a superuser.")),
    setting(
        "lacus.as_of",
        "",
        Kind::AsOf,
        CLIENT,
        "Version or moment of the past that new transactions read; empty for now.",
    ),
    setting("lacus.branch", "", Kind::Text, CLIENT, "Branch that new transactions see; empty for main."),
    setting("lc_collate", "C", Kind::Fixed, PRESET, "Order of text; always by bytes."),
    setting("lc_ctype", "C", Kind::Fixed, PRESET, "Character classes."),
    setting("lc_messages", "C", Kind::Text, FORMAT, "Accepted."),
    setting("lc_monetary", "C", Kind::Text, FORMAT, "Accepted."),
    setting("lc_numeric", "C", Kind::Text, FORMAT, "Accepted."),
    setting("lc_time", "C", Kind::Text, FORMAT, "Accepted."),
    setting("lock_timeout", "0", Kind::Duration, CLIENT, "Accepted; nothing waits for locks."),
    setting(
        "max_identifier_length",
        "63",
        Kind::Fixed,
        PRESET,
        "Length of identifiers that tools should keep to.",
    ),
    setting("max_index_keys", "32", Kind::Fixed, PRESET, "There are no indexes."),
    setting("role", "none", Kind::Role, CLIENT, "The user of the session, or none."),
    setting("row_security", "on", Kind::Bool, CLIENT, "Accepted."),
    setting(
        "search_path",
        "\"$user\", public",
        Kind::Text,
        CLIENT,
        "Schemas in which unqualified names are looked up.",
    ),
    reported(setting("server_encoding", "UTF8", Kind::Fixed, PRESET, "Encoding of the lake.")),
    reported(setting(
        "server_version",
        "15.0",
        Kind::Fixed,
        PRESET,
        "Version of PostgreSQL that drivers may rely on.",
    )),
    setting("server_version_num", "150000", Kind::Fixed, PRESET, "The same as a number."),
    reported(setting("session_authorization", "", Kind::Role, PRESET, "The user of the session.")),
    setting("ssl", "off", Kind::Fixed, PRESET, "Whether TLS is on."),
    reported(setting("standard_conforming_strings", "on", Kind::Word(&["on"]), COMPATIBLE, "Always on.")),
    setting("statement_timeout", "0", Kind::Duration, CLIENT, "How long a statement may take."),
    setting(
        "synchronous_commit",
        "on",
        Kind::Word(&["on", "off", "local", "remote_write", "remote_apply"]),
        CLIENT,
        "Accepted; commits are always durable.",
    ),
    reported(setting("TimeZone", "UTC", Kind::TimeZone, FORMAT, "Time zone of timestamps with time zone.")),
    setting("transaction_deferrable", "off", Kind::Bool, CLIENT, "Accepted; a snapshot never waits."),
    setting("transaction_isolation", "repeatable read", ISOLATION, CLIENT, "Isolation of the transaction."),
    setting("transaction_read_only", "off", Kind::Bool, CLIENT, "Whether the transaction is read-only."),
    setting(
        "transaction_timeout",
        "0",
        Kind::Duration,
        CLIENT,
        "How long a transaction may take; --transaction-timeout-s bounds it.",
    ),
    setting(
        "work_mem",
        "4MB",
        Kind::Text,
        "Resource Usage",
        "Accepted; memory is shared by --query-memory-percent.",
    ),
];

/// Finds a setting by its name, in any case.
pub fn find(name: &str) -> Option<&'static Setting> {
    BY_NAME.get(&name.to_ascii_lowercase()).copied()
}

impl Setting {
    pub fn is_fixed(&self) -> bool {
        self.kind == Kind::Fixed
    }

    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Bool => "bool",
            Kind::Integer(..) | Kind::Duration => "integer",
            Kind::Real => "real",
            Kind::Word(_) => "enum",
            Kind::Text | Kind::TimeZone | Kind::DateStyle | Kind::AsOf | Kind::Fixed => "string",
            Kind::Encoding | Kind::Role => "string",
        }
    }

    /// The words that an enumeration allows.
    pub fn words(&self) -> Option<Vec<String>> {
        match self.kind {
            Kind::Word(words) => Some(words.iter().map(|word| (*word).to_owned()).collect()),
            _ => None,
        }
    }

    pub fn unit(&self) -> Option<&'static str> {
        (self.kind == Kind::Duration).then_some("ms")
    }

    /// Returns `value` in the spelling that SHOW prints, for a setting whose value is `current`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`], [`Error::FixedSetting`], [`Error::Unsupported`] for an encoding.
    pub fn checked(&self, value: &str, current: &str) -> Result<String> {
        let value = value.trim();
        let bad =
            || Error::InvalidParameter(format!("invalid value for parameter \"{}\": \"{value}\"", self.name));
        match self.kind {
            Kind::Text => Ok(value.to_owned()),
            Kind::Fixed if value == self.default => Ok(value.to_owned()),
            Kind::Fixed => Err(Error::FixedSetting(self.name.to_owned())),
            Kind::Bool => boolean(value).map(|on| if on { "on" } else { "off" }.to_owned()).ok_or_else(bad),
            Kind::Integer(least, most) => {
                let number = value.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
                number.map(|number| number.to_string()).ok_or_else(bad)
            }
            Kind::Duration => milliseconds(value).map(written).ok_or_else(bad),
            Kind::Real => {
                let is_number = value.parse::<f64>().is_ok_and(f64::is_finite);
                is_number.then(|| value.to_owned()).ok_or_else(bad)
            }
            Kind::Encoding => encoding(value).ok_or_else(bad)?.map(str::to_owned),
            Kind::Role => Ok(value.to_owned()),
            Kind::Word(words) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(value));
                word.map(|word| (*word).to_owned()).ok_or_else(bad)
            }
            Kind::DateStyle => date_style(value, current).ok_or_else(bad),
            Kind::TimeZone => time_zone(value).ok_or_else(bad),
            Kind::AsOf if value.is_empty() => Ok(String::new()),
            Kind::AsOf => AsOf::parse(value, &TimeZone::utc()).map(|_| value.to_owned()).map_err(|_| bad()),
        }
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_lowercase().as_str() {
        "on" | "true" | "t" | "yes" | "y" | "1" => Some(true),
        "off" | "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// Reads `250`, `5s`, `10 min` as milliseconds.
pub fn milliseconds(value: &str) -> Option<u64> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let factor = match value[digits.len()..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|ms| *ms <= i32::MAX as u64)
}

/// Writes milliseconds as PostgreSQL's SHOW does: in the largest unit that keeps them whole.
fn written(milliseconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let unit = UNITS.iter().find(|(size, _)| milliseconds > 0 && milliseconds.is_multiple_of(*size));
    match unit {
        Some((size, name)) => format!("{}{name}", milliseconds / size),
        None if milliseconds == 0 => "0".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

/// Reads a layout, an order or both; none for words that there are not or that contradict each other.
fn date_style(value: &str, current: &str) -> Option<String> {
    let (mut layout, mut order) = (None, None);
    for word in value.split(',').map(|word| word.trim().to_uppercase()) {
        let (slot, word) = match word.as_str() {
            "ISO" => (&mut layout, "ISO"),
            "SQL" => (&mut layout, "SQL"),
            "GERMAN" => (&mut layout, "German"),
            word if word.starts_with("POSTGRES") => (&mut layout, "Postgres"),
            "YMD" => (&mut order, "YMD"),
            "US" | "MDY" => (&mut order, "MDY"),
            word if word.starts_with("NONEURO") => (&mut order, "MDY"),
            "DMY" => (&mut order, "DMY"),
            word if word.starts_with("EURO") => (&mut order, "DMY"),
            "DEFAULT" => {
                layout.get_or_insert("ISO");
                order.get_or_insert("MDY");
                continue;
            }
            _ => return None,
        };
        if slot.replace(word).is_some_and(|before| before != word) {
            return None;
        }
    }
    let (layout_now, order_now) = current.split_once(", ").unwrap_or(("ISO", "MDY"));
    let order = order.or((layout == Some("German")).then_some("DMY"));
    Some(format!("{}, {}", layout.unwrap_or(layout_now), order.unwrap_or(order_now)))
}

/// The name of an encoding that the server speaks; none for what is no encoding.
fn encoding(value: &str) -> Option<Result<&'static str>> {
    const OTHERS: [&str; 12] = [
        "LATIN", "WIN", "KOI8", "ISO8859", "EUC", "SJIS", "SHIFTJIS", "BIG5", "GBK", "GB18030", "UHC",
        "JOHAB",
    ];
    let letters = value.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|letter| letter.to_ascii_uppercase()).collect();
    match name.as_str() {
        "UTF8" | "UNICODE" => Some(Ok("UTF8")),
        "SQLASCII" => Some(Ok("SQL_ASCII")),
        other if OTHERS.iter().any(|prefix| other.starts_with(prefix)) => {
            Some(Err(Error::Unsupported(format!("conversion between {other} and UTF8 is not supported"))))
        }
        _ => None,
    }
}

fn time_zone(value: &str) -> Option<String> {
    if let Ok(hours) = value.parse::<i32>() {
        return (-15..=15).contains(&hours).then(|| format!("<{hours:+03}>{:+03}", -hours));
    }
    match value.to_lowercase().as_str() {
        "utc" | "gmt" | "z" | "zulu" | "etc/utc" | "local" => Some("UTC".to_owned()),
        _ => (Tz::from_str(value).is_ok() || value.starts_with('<') && value.parse::<TimeZone>().is_ok())
            .then(|| value.to_owned()),
    }
}
