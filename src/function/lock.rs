//! Advisory locks: `pg_advisory_lock` and its relatives, among the sessions of this daemon.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::SessionFacts;
use super::row::{RowFunction, Values, failure, row_values, utf8};
use crate::error::Error;
use crate::runtime::locks::{Key, Mode, Scope};

/// Those that answer at once.
pub(super) fn functions(facts: &Arc<SessionFacts>) -> Vec<RowFunction> {
    let trying = |name: &'static str, mode: Mode, scope: Scope| {
        acting(facts, name, move |facts, key| {
            facts.takes_lock(scope);
            facts.locks.try_lock(&facts.owner(), key, mode, scope)
        })
    };
    let unlocking = |name: &'static str, mode: Mode| {
        acting(facts, name, move |facts, key| {
            let held = facts.locks.unlock(&facts.owner(), key, mode);
            if !held {
                facts.warn("01000", &format!("you don't own a lock of type {}", mode_name(mode)));
            }
            Ok(held)
        })
    };
    let (all, asked) = (Arc::clone(facts), Arc::clone(facts));
    let pids = DataType::new_list(DataType::Int32, true);
    vec![
        trying("pg_try_advisory_lock", Mode::Exclusive, Scope::Session),
        trying("pg_try_advisory_lock_shared", Mode::Shared, Scope::Session),
        trying("pg_try_advisory_xact_lock", Mode::Exclusive, Scope::Transaction),
        trying("pg_try_advisory_xact_lock_shared", Mode::Shared, Scope::Transaction),
        unlocking("pg_advisory_unlock", Mode::Exclusive),
        unlocking("pg_advisory_unlock_shared", Mode::Shared),
        RowFunction::new("pg_advisory_unlock_all", 0..=0, DataType::Utf8, move |_| {
            all.locks.unlock_all(all.process_id, Scope::Session);
            Ok(utf8(""))
        })
        .volatile(),
        RowFunction::new("pg_blocking_pids", 1..=1, pids, move |values| {
            let pid = values.integer(0).and_then(|pid| i32::try_from(pid).ok());
            let pids = pid.map(|pid| asked.locks.blocking(pid)).unwrap_or_default();
            let pids: Vec<ScalarValue> = pids.into_iter().map(ScalarValue::from).collect();
            Ok(ScalarValue::List(ScalarValue::new_list(&pids, &DataType::Int32, true)))
        })
        .volatile(),
    ]
}

/// Those that wait.
pub(super) fn waiting_functions(facts: &Arc<SessionFacts>) -> Vec<Arc<ScalarUDF>> {
    let waiting = |name: &'static str, mode: Mode, scope: Scope| {
        let types = vec![TypeSignature::Any(1), TypeSignature::Any(2)];
        let signature = Signature::one_of(types, Volatility::Volatile);
        let lock = Waiting { name, mode, scope, facts: Arc::clone(facts), signature };
        Arc::new(AsyncScalarUDF::new(Arc::new(lock)).into_scalar_udf())
    };
    vec![
        waiting("pg_advisory_lock", Mode::Exclusive, Scope::Session),
        waiting("pg_advisory_lock_shared", Mode::Shared, Scope::Session),
        waiting("pg_advisory_xact_lock", Mode::Exclusive, Scope::Transaction),
        waiting("pg_advisory_xact_lock_shared", Mode::Shared, Scope::Transaction),
    ]
}

/// How PostgreSQL calls a lock of that mode.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "ShareLock",
        Mode::Exclusive => "ExclusiveLock",
    }
}

fn acting(
    facts: &Arc<SessionFacts>,
    name: &'static str,
    act: impl Fn(&SessionFacts, Key) -> Result<bool, Error> + Send + Sync + 'static,
) -> RowFunction {
    let facts = Arc::clone(facts);
    RowFunction::new(name, 1..=2, DataType::Boolean, move |values| {
        let done = act(&facts, key_of(values)?).map_err(failure)?;
        Ok(ScalarValue::Boolean(Some(done)))
    })
    .volatile()
}

fn key_of(values: &Values<'_>) -> Result<Key> {
    let number = |index: usize| {
        let text = || values.text(index).unwrap_or_default();
        let no_integer =
            || failure(Error::InvalidText(format!("invalid input syntax for type bigint: \"{}\"", text())));
        values.integer(index).ok_or_else(no_integer)
    };
    if values.len() == 1 {
        return Ok(Key::One(number(0)?));
    }
    let half = |index: usize| {
        let beyond = |_| failure(Error::OutOfRange("integer out of range".to_owned()));
        i32::try_from(number(index)?).map_err(beyond)
    };
    Ok(Key::Two(half(0)?, half(1)?))
}

/// A function that takes a lock, and waits for it as long as `lock_timeout` says.
#[derive(Debug)]
struct Waiting {
    name: &'static str,
    mode: Mode,
    scope: Scope,
    facts: Arc<SessionFacts>,
    signature: Signature,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.facts, &other.facts)
    }
}

impl Eq for Waiting {}

impl Hash for Waiting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Waiting {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("function {} can only stand where rows are computed", self.name)
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Waiting {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let limit = self.facts.settings.limit("lock_timeout");
        let owner = self.facts.owner();
        self.facts.takes_lock(self.scope);
        let mut answers = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let values = row_values(&args.args, row)?;
            if values.iter().any(ScalarValue::is_null) {
                answers.push(None);
                continue;
            }
            let key = key_of(&Values::new(self.name, &values))?;
            self.facts.locks.lock(&owner, key, self.mode, self.scope, limit).await.map_err(failure)?;
            answers.push(Some(""));
        }
        let answers: ArrayRef = Arc::new(StringArray::from(answers));
        Ok(ColumnarValue::Array(answers))
    }
}
