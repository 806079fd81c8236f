//! The server: listeners, limits and protocols.

pub mod http;
pub mod limits;
pub mod listener;
pub mod pg;
pub mod tls;
