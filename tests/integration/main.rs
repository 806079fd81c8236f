//! Integration tests: one binary, the real daemon, real sockets, real files.

mod daemon;
mod faults;
mod groups;
mod interop;
mod lakes;
mod limits;
mod raw;
mod s3;
mod slt;
mod smoke;
mod tpch;
mod transactions;
mod wire;
