//! Integration tests: one binary, the real daemon, real sockets, real files.

mod branches;
mod clients;
mod copy;
mod credentials;
mod daemon;
mod dbt;
mod evolution;
mod evolution_histories;
mod faults;
mod fuzz;
mod groups;
mod histories;
mod interop;
mod introspection;
mod lakes;
mod limits;
mod manners;
mod manual;
mod past;
mod raw;
mod rest;
mod s3;
// Apart from what it tests, which a benchmark includes.
#[path = "s3/tests.rs"]
mod s3_tests;
mod scripts;
mod selective;
mod slt;
mod smoke;
mod spill;
mod steps;
mod stores;
mod tpch;
mod transactions;
mod upkeep;
mod wire;
