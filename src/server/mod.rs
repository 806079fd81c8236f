//! The doors: listeners and protocols.

pub mod pg;
