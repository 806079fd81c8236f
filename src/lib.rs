//! Lacus: a SQL engine daemon over a data lake.
//!
//! The modules stand in one total order; each uses only those above it in this list.

pub mod catalog;
pub mod engine;
pub mod error;
pub mod format;
pub mod function;
pub mod storage;
pub mod system;
