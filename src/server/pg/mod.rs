//! The Postgres protocol: from an accepted socket to answered statements.
//!
//! [`startup`] lets a client in, [`connection`] serves it, [`portal`] holds its rows, [`encode`]
//! writes them. What a statement means is decided in `engine`.

pub mod cancel;
pub mod connection;
mod copy;
mod decode;
pub mod encode;
mod extended;
mod packet;
pub mod portal;
pub mod scram;
pub mod startup;
pub mod stream;

#[cfg(test)]
mod tests;
