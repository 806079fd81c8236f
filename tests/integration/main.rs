//! Integration tests: one binary, real sockets, real files.

mod s3;
