//! The Postgres protocol.

pub mod cancel;
mod decode;
mod packet;
pub mod scram;
pub mod startup;
pub mod stream;

#[cfg(test)]
mod tests;
//! The PostgreSQL protocol.

pub mod encode;
pub mod parameter;
pub mod types;
