//! Engine: from a statement's text to its rows.

pub mod dialect;
