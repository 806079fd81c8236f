//! Output: columns as PostgreSQL's output functions write their values.
//!
//! A loop that knows the column's type writes a run of rows into [`Cells`]; the session's
//! [`EncodeOptions`] say how dates, intervals and bytes look. Which PostgreSQL type a column has is
//! decided in [`types`](super::types), what becomes of the cells by the caller.

mod array;
mod bytea;
mod cells;
mod column;
pub(crate) mod datetime;
mod float;
mod integer;
pub(crate) mod interval;
mod json;
mod numeric;
mod style;
pub(crate) mod zone;

pub(crate) use self::cells::{Cells, too_long};
pub(crate) use self::column::{Target, plain, write};
pub use self::style::{ByteaOutput, DateLayout, DateOrder, DateStyle, EncodeOptions, IntervalStyle};
pub use self::zone::TimeZone;
