//! Integration tests: one binary, the real daemon, real sockets, real files.

mod daemon;
mod limits;
mod raw;
mod s3;
mod slt;
mod smoke;
mod tpch;
mod wire;
