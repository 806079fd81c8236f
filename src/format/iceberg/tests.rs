//! The format as its callers use it, over real Parquet files, and through PyIceberg and DuckDB.

mod commits;
mod interop;
mod lake;
