//! Templates: `to_char` and its ways back, with PostgreSQL's patterns.
//!
//! A template is the second argument: `YYYY-MM-DD HH24:MI`, `FM999,990.00`. It is parsed once a
//! batch into nodes ([`pattern`] for dates and times, [`number`] for numbers) and applied to every
//! row: [`print`] writes a moment, [`read`] reads one. Letters that are no pattern stand for themselves.
//!
//! Source: `formatting.c` of PostgreSQL 15.

mod moment;
mod number;
mod pattern;
mod print;
mod read;
mod udf;

pub(super) use udf::functions;
