//! The server: what stands between an accepted socket and a session.

pub mod limits;
pub mod listener;
pub mod pg;
pub mod tls;
//! The doors: listeners and protocols.

pub mod pg;
