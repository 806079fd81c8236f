//! Telemetry: the log's subscriber, and the daemon's counters as Prometheus reads them.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging to standard error; `LACUS_LOG` holds the filter, `info` without it.
pub fn init(format: LogFormat) {
    start(format, "info");
}

/// Starts logging as [`init`] does, but without `LACUS_LOG` only what is unexpected.
pub fn init_quietly(format: LogFormat) {
    start(format, "warn");
}

fn start(format: LogFormat, default: &str) {
    let filter = EnvFilter::try_from_env("LACUS_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A second start in one process (tests) keeps the first subscriber.
    drop(started);
}

/// The daemon's counters. Gauges are counted up and down, everything else only up.
#[derive(Debug, Default)]
pub struct Metrics {
    pub connections: AtomicU64,
    pub connections_total: AtomicU64,
    pub connections_refused_total: AtomicU64,
    pub logins_failed_total: AtomicU64,
    pub queries_running: AtomicU64,
    pub queries_waiting: AtomicU64,
    pub queries_total: AtomicU64,
    pub queries_failed_total: AtomicU64,
    pub query_microseconds_total: AtomicU64,
    pub rows_sent_total: AtomicU64,
    pub bytes_sent_total: AtomicU64,
    pub commits_total: AtomicU64,
    pub commit_conflicts_total: AtomicU64,
    pub upkeep_actions_total: AtomicU64,
    pub upkeep_failed_total: AtomicU64,
    pub upkeep_files_removed_total: AtomicU64,
    pub upkeep_bytes_removed_total: AtomicU64,
}

impl Metrics {
    pub fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// Renders all counters, and the `gauges` given, in Prometheus' text format.
    pub fn render(&self, gauges: &[(&str, &str, u64)]) -> String {
        let own = [
            ("lacus_connections", "Open client connections.", &self.connections),
            ("lacus_connections_total", "Client connections accepted.", &self.connections_total),
            (
                "lacus_connections_refused_total",
                "Connections refused by a limit.",
                &self.connections_refused_total,
            ),
            ("lacus_logins_failed_total", "Connections that failed to log in.", &self.logins_failed_total),
            ("lacus_queries_running", "Queries that run.", &self.queries_running),
            ("lacus_queries_waiting", "Queries that wait for admission.", &self.queries_waiting),
            ("lacus_queries_total", "Statements executed.", &self.queries_total),
            (
                "lacus_queries_failed_total",
                "Statements that ended with an error.",
                &self.queries_failed_total,
            ),
            ("lacus_query_microseconds_total", "Time spent in statements.", &self.query_microseconds_total),
            ("lacus_rows_sent_total", "Rows sent to clients.", &self.rows_sent_total),
            ("lacus_bytes_sent_total", "Bytes of rows sent to clients.", &self.bytes_sent_total),
            ("lacus_commits_total", "Commits to lakes.", &self.commits_total),
            ("lacus_commit_conflicts_total", "Commits refused by a conflict.", &self.commit_conflicts_total),
            ("lacus_upkeep_actions_total", "Upkeep of tables that ended.", &self.upkeep_actions_total),
            ("lacus_upkeep_failed_total", "Upkeep of tables that failed.", &self.upkeep_failed_total),
            (
                "lacus_upkeep_files_removed_total",
                "Files that upkeep replaced or removed.",
                &self.upkeep_files_removed_total,
            ),
            (
                "lacus_upkeep_bytes_removed_total",
                "Bytes of files that upkeep replaced or removed.",
                &self.upkeep_bytes_removed_total,
            ),
        ];
        let mut text = String::new();
        for (name, help, counter) in own {
            line(&mut text, name, help, counter.load(Ordering::Relaxed));
        }
        for (name, help, value) in gauges {
            line(&mut text, name, help, *value);
        }
        text
    }
}

fn line(text: &mut String, name: &str, help: &str, value: u64) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
        .expect("writing to a string cannot fail");
}
