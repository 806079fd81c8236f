//! Configuration: what the daemon may use, and where it listens.
//!
//! Flags win over environment, which wins over `lacus.toml`, which wins over the defaults. This
//! module decides the names, units and defaults; the catalogs' own files belong to `catalog`.

mod size;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::storage::StoreOptions;
pub use size::{MemoryLimit, Size};

/// What can be given by flag, by environment and in `lacus.toml`, all under one name.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// Address of the Postgres protocol [default: 127.0.0.1:5433]
    #[arg(long, env = "LACUS_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of /health, /metrics and the Iceberg REST catalog, /iceberg [default: 127.0.0.1:8080]
    #[arg(long, env = "LACUS_HTTP", value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Memory that queries may use: bytes, 4GB, or a share such as 60% of the machine or cgroup [default: 60%]
    #[arg(long, env = "LACUS_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<MemoryLimit>,
    /// Share of the memory limit that one query may use, in percent [default: 70]
    #[arg(long, env = "LACUS_QUERY_MEMORY_PERCENT", value_name = "PERCENT")]
    pub query_memory_percent: Option<u8>,
    /// Folder for what does not fit into memory [default: a folder under the system's temporary one]
    #[arg(long, env = "LACUS_SPILL_DIR", value_name = "DIR")]
    pub spill_dir: Option<PathBuf>,
    /// Bytes that may be spilled at one time [default: 50GB]
    #[arg(long, env = "LACUS_SPILL_LIMIT", value_name = "SIZE")]
    pub spill_limit: Option<Size>,
    /// Threads that run queries [default: one a core]
    #[arg(long, env = "LACUS_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// Client connections at one time [default: 200]
    #[arg(long, env = "LACUS_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
    /// Queries that run at one time; others wait in order [default: 16]
    #[arg(long, env = "LACUS_QUERIES_MAX", value_name = "N")]
    pub queries_max: Option<usize>,
    /// Queries that may wait [default: 1000]
    #[arg(long, env = "LACUS_QUEUE_MAX", value_name = "N")]
    pub queue_max: Option<usize>,
    /// Prepared statements, and portals, of one session [default: 1000]
    #[arg(long, env = "LACUS_STATEMENTS_MAX", value_name = "N")]
    pub statements_max: Option<usize>,
    /// Bytes of one message from a client [default: 64MB]
    #[arg(long, env = "LACUS_MESSAGE_LIMIT", value_name = "SIZE")]
    pub message_limit: Option<Size>,
    /// Bytes of one statement's text [default: 16MB]
    #[arg(long, env = "LACUS_STATEMENT_LIMIT", value_name = "SIZE")]
    pub statement_limit: Option<Size>,
    /// Milliseconds for which a listing of files is believed [default: 1000]
    #[arg(long, env = "LACUS_LISTING_TTL_MS", value_name = "MS")]
    pub listing_ttl_ms: Option<u64>,
    /// Memory for footers, statistics and schemas of files [default: 256MB]
    #[arg(long, env = "LACUS_METADATA_CACHE", value_name = "SIZE")]
    pub metadata_cache: Option<Size>,
    /// Requests to object stores at one time, per store [default: 128]
    #[arg(long, env = "LACUS_REQUESTS_MAX", value_name = "N")]
    pub requests_max: Option<usize>,
    /// File of users and SCRAM verifiers; with it every client must log in
    #[arg(long, env = "LACUS_USERS", value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// Certificate chain, PEM
    #[arg(long, env = "LACUS_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, env = "LACUS_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Folder for the certificate that is made at the first start [default: ~/.local/state/lacus]
    #[arg(long, env = "LACUS_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Refuse connections without TLS
    #[arg(long, env = "LACUS_TLS_REQUIRED", num_args = 0..=1, default_missing_value = "true")]
    pub tls_required: Option<bool>,
    /// Allow to listen beyond loopback without passwords
    #[arg(long, env = "LACUS_INSECURE", num_args = 0..=1, default_missing_value = "true")]
    pub insecure: Option<bool>,
    /// Seconds that a transaction may last; the setting transaction_timeout can only lower it [default: 21600]
    #[arg(long, env = "LACUS_TRANSACTION_TIMEOUT_S", value_name = "SECONDS")]
    pub transaction_timeout_s: Option<u64>,
    /// Transactions that may share one entry of a lake's log [default: 64]
    #[arg(long, env = "LACUS_COMMIT_GROUP_MAX", value_name = "N")]
    pub commit_group_max: Option<usize>,
    /// Tend tables unasked: put small files together, let old snapshots expire [default: true]
    #[arg(long, env = "LACUS_UPKEEP", num_args = 0..=1, default_missing_value = "true")]
    pub upkeep: Option<bool>,
    /// Seconds between two looks at the tables that were written to [default: 60]
    #[arg(long, env = "LACUS_UPKEEP_INTERVAL_S", value_name = "SECONDS")]
    pub upkeep_interval_s: Option<u64>,
    /// Seconds for which old versions of tables stay readable, at least [default: 604800]
    #[arg(long, env = "LACUS_SNAPSHOT_RETENTION_S", value_name = "SECONDS")]
    pub snapshot_retention_s: Option<u64>,
    /// Seconds that VACUUM leaves every file alone, an hour more than transactions may last at least [default: 86400]
    #[arg(long, env = "LACUS_VACUUM_GRACE_S", value_name = "SECONDS")]
    pub vacuum_grace_s: Option<u64>,
    /// Seconds that running queries have after SIGTERM [default: 30]
    #[arg(long, env = "LACUS_DRAIN_TIMEOUT_S", value_name = "SECONDS")]
    pub drain_timeout_s: Option<u64>,
    /// Format of the log: text or json [default: text]
    #[arg(long, env = "LACUS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Roots outside of the catalogs that SQL may read and write, with their stores
    #[arg(skip)]
    pub location: Vec<AllowedLocation>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// A root that is no catalog, but that paths in SQL may name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedLocation {
    pub root: String,
    #[serde(default)]
    pub store: StoreOptions,
}

/// Where the catalogs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder of `NAME.toml` files.
    Directory(PathBuf),
    /// One root, served as the catalog `lake`.
    Root(String),
}

/// The configuration in force.
#[derive(Debug, Clone)]
pub struct Config {
    pub source: Source,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub memory_limit_bytes: usize,
    pub query_memory_bytes: usize,
    pub spill_dir: PathBuf,
    pub spill_limit_bytes: u64,
    pub threads: usize,
    pub connections_max: usize,
    pub queries_max: usize,
    pub queue_max: usize,
    pub statements_max: usize,
    pub message_limit_bytes: usize,
    pub statement_limit_bytes: usize,
    pub listing_ttl: Duration,
    pub metadata_cache_bytes: usize,
    pub requests_max: usize,
    pub users: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub state_dir: PathBuf,
    pub tls_required: bool,
    pub insecure: bool,
    pub transaction_timeout: Duration,
    pub commit_group_max: usize,
    pub upkeep: bool,
    pub upkeep_interval: Duration,
    pub snapshot_retention: Duration,
    pub vacuum_grace: Duration,
    pub drain_timeout: Duration,
    pub log_format: LogFormat,
    pub locations: Vec<AllowedLocation>,
}

/// Keeps the first of two options that is given.
macro_rules! first_given {
    ($flags:ident, $file:ident; $($name:ident),+ $(,)?) => {
        Options { $($name: $flags.$name.or($file.$name),)+ location: $file.location }
    };
}

impl Config {
    /// Merges flags (environment included) over the file `lacus.toml`, if there is one, over the defaults.
    ///
    /// # Errors
    /// [`Error::Config`] when the file cannot be read or holds something unknown, or a value is absurd.
    pub fn load(flags: Options, file: Option<&Path>, source: Option<&str>) -> Result<Self> {
        let file = match file {
            Some(path) => read_options(path)?,
            None if Path::new("lacus.toml").is_file() => read_options(Path::new("lacus.toml"))?,
            None => Options::default(),
        };
        let merged = first_given!(flags, file; listen, http, memory_limit, query_memory_percent, spill_dir,
            spill_limit, threads, connections_max, queries_max, queue_max, statements_max, message_limit,
            statement_limit, listing_ttl_ms, metadata_cache, requests_max, users, tls_cert, tls_key,
            state_dir, tls_required, insecure, transaction_timeout_s, commit_group_max, upkeep,
            upkeep_interval_s, snapshot_retention_s, vacuum_grace_s, drain_timeout_s, log_format);
        Self::with_defaults(merged, source_of(source))
    }

    fn with_defaults(options: Options, source: Source) -> Result<Self> {
        let memory_limit_bytes = options.memory_limit.unwrap_or(MemoryLimit::Percent(60)).bytes();
        let percent = usize::from(options.query_memory_percent.unwrap_or(70));
        if percent == 0 || percent > 100 {
            return Err(Error::Config("query-memory-percent must lie between 1 and 100".to_owned()));
        }
        let threads = options.threads.unwrap_or_else(cores);
        if threads == 0 || threads > 4096 {
            return Err(Error::Config("threads must lie between 1 and 4096".to_owned()));
        }
        if options.tls_cert.is_some() != options.tls_key.is_some() {
            return Err(Error::Config("tls-cert and tls-key belong together".to_owned()));
        }
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Ok(Self {
            source,
            listen: options.listen.unwrap_or_else(|| loopback(5433)),
            http: options.http.unwrap_or_else(|| loopback(8080)),
            memory_limit_bytes,
            query_memory_bytes: memory_limit_bytes / 100 * percent,
            spill_dir: options.spill_dir.unwrap_or_else(|| std::env::temp_dir().join("lacus-spill")),
            spill_limit_bytes: options.spill_limit.map_or(50_000_000_000, |size| size.0),
            threads,
            connections_max: options.connections_max.unwrap_or(200).max(1),
            queries_max: options.queries_max.unwrap_or(16).max(1),
            queue_max: options.queue_max.unwrap_or(1000),
            statements_max: options.statements_max.unwrap_or(1000).max(1),
            message_limit_bytes: options.message_limit.map_or(64 << 20, Size::to_usize),
            statement_limit_bytes: options.statement_limit.map_or(16 << 20, Size::to_usize),
            listing_ttl: Duration::from_millis(options.listing_ttl_ms.unwrap_or(1000)),
            metadata_cache_bytes: options.metadata_cache.map_or(256 << 20, Size::to_usize),
            requests_max: options.requests_max.unwrap_or(128).max(1),
            users: options.users,
            tls_cert: options.tls_cert,
            tls_key: options.tls_key,
            state_dir: options.state_dir.unwrap_or_else(default_state_dir),
            tls_required: options.tls_required.unwrap_or(false),
            insecure: options.insecure.unwrap_or(false),
            transaction_timeout: Duration::from_secs(
                options.transaction_timeout_s.unwrap_or(6 * 60 * 60).clamp(1, 365 * 24 * 60 * 60),
            ),
            commit_group_max: options.commit_group_max.unwrap_or(64).max(1),
            upkeep: options.upkeep.unwrap_or(true),
            upkeep_interval: Duration::from_secs(options.upkeep_interval_s.unwrap_or(60).max(1)),
            snapshot_retention: Duration::from_secs(options.snapshot_retention_s.unwrap_or(7 * 24 * 60 * 60)),
            vacuum_grace: Duration::from_secs(options.vacuum_grace_s.unwrap_or(24 * 60 * 60)),
            drain_timeout: Duration::from_secs(options.drain_timeout_s.unwrap_or(30)),
            log_format: options.log_format.unwrap_or_default(),
            locations: options.location,
        })
    }
}

/// A folder that holds `*.toml` files is a folder of catalogs; anything else is a root.
fn source_of(argument: Option<&str>) -> Source {
    let Some(argument) = argument else { return Source::Directory(PathBuf::from("catalog")) };
    let holds_catalogs = std::fs::read_dir(argument)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|e| is_toml(&e.path()))));
    if holds_catalogs { Source::Directory(argument.into()) } else { Source::Root(argument.to_owned()) }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn read_options(path: &Path) -> Result<Options> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Config(format!("cannot read \"{}\": {error}", path.display())))?;
    toml::from_str(&text)
        .map_err(|error| Error::Config(format!("in \"{}\": {}", path.display(), error.message())))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

fn default_state_dir() -> PathBuf {
    match std::env::var_os("XDG_STATE_HOME") {
        Some(dir) => PathBuf::from(dir).join("lacus"),
        None => std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".local/state/lacus"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "threads = 3\nqueries-max = 5\nmemory-limit = \"1GB\"\n").unwrap();
        let flags = Options { threads: Some(7), ..Options::default() };
        let config = Config::load(flags, Some(file.path()), None).unwrap();
        assert_eq!((config.threads, config.queries_max, config.memory_limit_bytes), (7, 5, 1_000_000_000));
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "thread = 3\n").unwrap();
        let error = Config::load(Options::default(), Some(file.path()), None).unwrap_err();
        assert!(error.to_string().contains("thread"), "{error}");
    }

    /// The flags of `lacus serve`, and the default that the help names.
    fn flags() -> Vec<(String, Option<String>)> {
        let command = Options::augment_args(clap::Command::new("serve"));
        let flag = |argument: &clap::Arg| {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let default =
                help.split_once("[default: ").map(|(_, rest)| rest.trim_end_matches(']').to_owned());
            Some((format!("--{}", argument.get_long()?), default))
        };
        command.get_arguments().filter_map(flag).collect()
    }

    #[test]
    fn the_readme_names_every_flag_and_its_default() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        let flags = flags();
        let mut named = Vec::new();
        for row in readme.lines().filter(|line| line.starts_with("| `--")) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let names = cells[0].split(", ").map(|name| name.trim_matches('`').to_owned());
            let defaults = cells[1].split(", ").map(|default| default.replace('`', "")).collect::<Vec<_>>();
            for (at, name) in names.filter(|name| name.starts_with("--")).enumerate() {
                let flag = flags.iter().find(|(flag, _)| *flag == name);
                let (_, wanted) = flag.unwrap_or_else(|| panic!("there is no {name}"));
                if let Some(wanted) = wanted {
                    assert_eq!(defaults.get(at), Some(wanted), "the default of {name}");
                }
                named.push(name);
            }
        }
        let missing: Vec<_> = flags.iter().filter(|(flag, _)| !named.contains(flag)).collect();
        assert!(missing.is_empty(), "the README says nothing of {missing:?}");
    }
}
