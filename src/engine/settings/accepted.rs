//! Settings of PostgreSQL that clients set at their start, and that change nothing here.
//!
//! Where another value than the default would change what a statement means, it is refused.

use super::table::{Kind, Setting};

const fn accepted(name: &'static str, default: &'static str, kind: Kind) -> Setting {
    let category = "Customized Options";
    Setting { name, default, kind, reported: false, category, description: "Accepted, without effect." }
}

/// A setting that only has its default.
const fn only(name: &'static str, default: &'static str) -> Setting {
    let description = "Only has its default.";
    Setting { description, ..accepted(name, default, Kind::Fixed) }
}

const SWITCH: Kind = Kind::Bool;
const NUMBER_MAX: i64 = i32::MAX as i64;

pub(super) static ACCEPTED: &[Setting] = &[
    accepted("allow_system_table_mods", "off", SWITCH),
    only("array_nulls", "on"),
    only("block_size", "8192"),
    accepted("client_connection_check_interval", "0", Kind::Duration),
    accepted("cluster_name", "", Kind::Text),
    accepted("commit_delay", "0", Kind::Integer(0, 100_000)),
    accepted("constraint_exclusion", "partition", Kind::Word(&["partition", "on", "off"])),
    accepted("cursor_tuple_fraction", "0.1", Kind::Real),
    only("data_checksums", "off"),
    accepted("deadlock_timeout", "1s", Kind::Duration),
    accepted("default_statistics_target", "100", Kind::Integer(1, 10_000)),
    accepted("default_tablespace", "", Kind::Text),
    accepted("default_text_search_config", "pg_catalog.simple", Kind::Text),
    accepted("default_toast_compression", "pglz", Kind::Word(&["pglz", "lz4"])),
    accepted("effective_cache_size", "4GB", Kind::Text),
    accepted("enable_bitmapscan", "on", SWITCH),
    accepted("enable_hashagg", "on", SWITCH),
    accepted("enable_hashjoin", "on", SWITCH),
    accepted("enable_indexonlyscan", "on", SWITCH),
    accepted("enable_indexscan", "on", SWITCH),
    accepted("enable_material", "on", SWITCH),
    accepted("enable_mergejoin", "on", SWITCH),
    accepted("enable_nestloop", "on", SWITCH),
    accepted("enable_seqscan", "on", SWITCH),
    accepted("enable_sort", "on", SWITCH),
    accepted("from_collapse_limit", "8", Kind::Integer(1, NUMBER_MAX)),
    accepted("geqo", "on", SWITCH),
    accepted("jit", "off", SWITCH),
    accepted("join_collapse_limit", "8", Kind::Integer(1, NUMBER_MAX)),
    accepted("log_min_duration_statement", "-1", Kind::Integer(-1, NUMBER_MAX)),
    accepted("log_statement", "none", Kind::Word(&["none", "ddl", "mod", "all"])),
    accepted("maintenance_work_mem", "64MB", Kind::Text),
    accepted("max_parallel_workers_per_gather", "2", Kind::Integer(0, 1024)),
    only("max_function_args", "100"),
    accepted("parallel_setup_cost", "1000", Kind::Real),
    accepted("parallel_tuple_cost", "0.1", Kind::Real),
    accepted("password_encryption", "scram-sha-256", Kind::Word(&["scram-sha-256", "md5"])),
    accepted("plan_cache_mode", "auto", Kind::Word(&["auto", "force_generic_plan", "force_custom_plan"])),
    only("quote_all_identifiers", "off"),
    accepted("random_page_cost", "4", Kind::Real),
    accepted("seq_page_cost", "1", Kind::Real),
    accepted("session_replication_role", "origin", Kind::Word(&["origin", "replica", "local"])),
    accepted("synchronize_seqscans", "on", SWITCH),
    accepted("temp_buffers", "8MB", Kind::Text),
    accepted("temp_tablespaces", "", Kind::Text),
    only("timezone_abbreviations", "Default"),
    accepted("track_activities", "on", SWITCH),
    accepted("track_io_timing", "off", SWITCH),
    only("transform_null_equals", "off"),
    accepted("vacuum_cost_delay", "0", Kind::Real),
    accepted("xmlbinary", "base64", Kind::Word(&["base64", "hex"])),
    accepted("xmloption", "content", Kind::Word(&["content", "document"])),
];
