//! The PostgreSQL protocol.

pub mod encode;
pub mod parameter;
pub mod types;
