//! Functions: what every session can call beyond DataFusion's own.
//!
//! A function here is PostgreSQL's, by name, arguments and null handling. This module decides which
//! functions exist and what they answer. The facts about tables that some of them need are handed
//! down to them in [`CatalogFacts`], because catalogs stand above this module; the spelling under
//! which a statement calls them (`pg_catalog.f(x)`, `current_user`) is the dialect's business.

mod access;
mod array;
pub mod cast;
mod catalog;
mod facts;
mod float;
mod integer;
mod interval;
mod introspection;
pub mod json;
mod length;
pub mod lock;
mod moment;
mod numeric;
pub mod pattern;
pub mod oid;
mod references;
mod row;
mod series;
mod session;
mod signal;
mod similar;
mod single;
mod sum;
mod template;
mod text;
pub mod support;
pub mod types;
mod whole;
pub mod z_order;
mod zone;

use std::sync::Arc;

use datafusion::catalog::TableFunctionImpl;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;

pub use array::{ARRAY_OR_EMPTY, TYPE_NAMES};
pub use catalog::{ABOUT_NAMES, ABOUT_SIZES, name_parts};
pub use facts::FunctionName;
pub use facts::{CatalogFacts, IndexName, Namespace, RelationName};
pub use float::Float;
pub use integer::Arithmetic;
pub use interval::IntervalOperation;
pub use numeric::{NUMERIC, NumericOperation};
pub use references::{ABOUT_FUNCTIONS, reference_input, reference_output};
pub use session::{CursorRow, Notice, SessionFacts, SettingRow, SettingsView, StatementRow};
pub use similar::SIMILAR_TO_ESCAPE;
pub use single::{FIRST_TWO, ONLY_VALUE};
pub use sum::sum;
pub use text::{quote_ident, quote_literal};
pub use zone::{TIMEZONE, timezone};

/// Registers everything that a session with `facts` can call.
///
/// Registering again, with other facts, replaces what was there.
pub fn register(context: &SessionContext, facts: &Arc<SessionFacts>) {
    for function in stateless_functions().into_iter().chain(session_functions(facts)) {
        context.register_udf(function.as_ref().clone());
    }
    for function in aggregate_functions() {
        context.register_udaf(function.as_ref().clone());
    }
    for (name, function) in table_functions() {
        context.register_udtf(name, function);
    }
    context.register_udtf("pg_listening_channels", signal::listening_channels(facts));
}

/// Functions that need no session.
pub fn stateless_functions() -> Vec<Arc<ScalarUDF>> {
    let rows = [
        text::functions(),
        array::functions(),
        json::functions(),
        access::functions(),
        similar::functions(),
        pattern::functions(),
        moment::functions(),
        introspection::functions(),
    ];
    let mut all: Vec<Arc<ScalarUDF>> = rows.into_iter().flatten().map(row::RowFunction::into_udf).collect();
    all.push(single::only_value());
    all.push(array::array_or_empty());
    all.push(array::expand_array());
    all.push(cast::uuid_in());
    all.push(zone::timezone());
    all.push(NumericOperation::Cast.function());
    all.extend(whole::functions());
    all.push(length::length());
    let justify =
        [IntervalOperation::JustifyHours, IntervalOperation::JustifyDays, IntervalOperation::Justify];
    all.extend(justify.map(IntervalOperation::function));
    all
}

/// Functions that answer about the session with `facts`: who is connected, its settings, its database.
pub fn session_functions(facts: &Arc<SessionFacts>) -> Vec<Arc<ScalarUDF>> {
    let rows = [
        session::functions(facts),
        catalog::functions(facts),
        references::functions(facts),
        lock::functions(facts),
        signal::functions(facts),
    ];
    let mut all: Vec<Arc<ScalarUDF>> = rows.into_iter().flatten().map(row::RowFunction::into_udf).collect();
    all.extend(template::functions(facts));
    all.push(interval::age(facts));
    all.extend(lock::waiting_functions(facts));
    all
}

/// Aggregates that PostgreSQL's subquery rules need, and those that it answers otherwise.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![single::first_two(), sum()]
}

/// Functions that stand in FROM.
pub fn table_functions() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    series::functions()
}
