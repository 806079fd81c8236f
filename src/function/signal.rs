//! Functions by which sessions of this daemon reach each other: notifications, cancels, ends.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::catalog::{MemTable, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};

use super::SessionFacts;
use super::row::{RowFunction, failure, utf8};
use crate::runtime::sessions::Signal;

pub(super) fn functions(facts: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let (sending, asking) = (Arc::clone(facts), Arc::clone(facts));
    vec![
        RowFunction::new("pg_notify", 2..=2, DataType::Utf8, move |values| {
            let text = |index: usize| values.text(index).unwrap_or_default();
            sending.send(&text(0), &text(1)).map_err(failure)?;
            Ok(utf8(""))
        })
        .nulls()
        .volatile(),
        RowFunction::new("pg_notification_queue_usage", 0..=0, DataType::Float64, move |_| {
            Ok(ScalarValue::Float64(Some(asking.channels.usage())))
        })
        .volatile(),
        signalling(facts, "pg_cancel_backend", 1, Signal::Cancel),
        signalling(facts, "pg_terminate_backend", 2, Signal::Terminate),
    ]
}

/// A function that reaches the session of a process id. How long to wait for its end is not needed: it is
/// told before the function answers.
fn signalling(
    facts: &Arc<SessionFacts>,
    name: &'static str,
    arguments_max: usize,
    signal: Signal,
) -> RowFunction {
    let facts = Arc::clone(facts);
    RowFunction::new(name, 1..=arguments_max, DataType::Boolean, move |values| {
        let process_id = values.integer(0).and_then(|id| i32::try_from(id).ok());
        let process_id = process_id.ok_or_else(|| values.refuse("a process id is an integer"))?;
        let found = facts.sessions.signal(process_id, &facts.user, signal).map_err(failure)?;
        if !found {
            facts.warn("01000", &format!("PID {process_id} is not a PostgreSQL backend process"));
        }
        Ok(found.into())
    })
    .volatile()
}

/// `pg_listening_channels()`, in FROM.
pub(super) fn listening_channels(facts: &Arc<SessionFacts>) -> Arc<dyn TableFunctionImpl> {
    Arc::new(ListeningChannels { facts: Arc::clone(facts) })
}

#[derive(Debug)]
struct ListeningChannels {
    facts: Arc<SessionFacts>,
}

impl TableFunctionImpl for ListeningChannels {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        if !args.exprs().is_empty() {
            return plan_err!("pg_listening_channels takes no arguments");
        }
        let names = self.facts.channels.of(self.facts.process_id);
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
        let rows = RecordBatch::try_from_iter([("pg_listening_channels", names)])?;
        Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
    }
}
