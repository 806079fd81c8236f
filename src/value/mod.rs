//! Values: PostgreSQL's types, and the text and binary forms of their values.
//!
//! An Arrow column has a PostgreSQL type ([`types`]); [`output`] writes its values as PostgreSQL's
//! output functions do, and [`input`] reads them as its input functions do. The same code serves the
//! wire and the casts to and from text. Messages and frames are the server's business.

pub mod input;
pub mod json;
pub mod output;
pub mod types;
