//! The engine: statements become plans, plans become rows or commits.

pub mod parse;
pub mod statement;
