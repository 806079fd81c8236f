//! Lacus: a SQL engine daemon over a data lake.
//!
//! The modules stand in one total order; each uses only those above it in this list.

pub mod error;
pub mod config;
pub mod telemetry;
pub mod storage;
pub mod runtime;
pub mod value;
pub mod function;
pub mod format;
pub mod scan;
pub mod sink;
pub mod catalog;
pub mod system;
pub mod access;
pub mod engine;
pub mod pipeline;
pub mod server;
pub mod cli;
