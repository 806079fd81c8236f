//! History: the states that a lake was in, found again in its log.
//!
//! A *version* is the number of an entry; a time means the last version that was committed until then.
//! This module decides how an old state is found: from the nearest checkpoint before it and the entries
//! behind that. Slots are never deleted, so every version can be found; whether the files of its tables
//! still exist is another matter.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt;

use super::lake::Lake;
use super::state::LakeState;
use crate::error::{Error, Result};
use crate::value::input;
use crate::value::output::{DateOrder, TimeZone};

/// Old states that are kept in memory.
const STATES_MAX: usize = 8;
/// Versions whose times are kept in memory.
const TIMES_MAX: usize = 20_000;
/// From a state that is known, so many entries are repeated rather than a checkpoint looked for.
const NEAR: u64 = 64;

/// A moment in the past of a lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// The number of an entry in the lake's log.
    Version(u64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl AsOf {
    /// Reads a version or a moment; one without a zone of its own is in `time_zone`.
    ///
    /// # Errors
    /// [`Error::InvalidDatetime`] for what is neither.
    pub fn parse(text: &str, time_zone: &TimeZone) -> Result<Self> {
        let text = text.trim();
        match text.parse() {
            Ok(version) => Ok(Self::Version(version)),
            Err(_) => Ok(Self::at_micros(input::timestamptz(text, time_zone, DateOrder::default())?)),
        }
    }

    /// The moment of a timestamp.
    pub fn at_micros(micros: i64) -> Self {
        Self::Time(micros.div_euclid(1000))
    }
}

/// What is remembered of a lake's past. It never changes, so nothing of this is ever stale.
#[derive(Debug, Default)]
pub(super) struct History {
    states: Mutex<VecDeque<Arc<LakeState>>>,
    times: Mutex<BTreeMap<u64, i64>>,
}

impl Lake {
    /// The state at a moment that `newest` knows of.
    ///
    /// Costs nothing for what was asked lately; else a LIST of the checkpoints, a GET of one, and a GET
    /// for each of the up to 63 entries behind it; for a time, also a GET for each of the entries that a
    /// binary search looks at.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a version that there is not, and a time before the first.
    pub async fn state_as_of(&self, as_of: AsOf, newest: &Arc<LakeState>) -> Result<Arc<LakeState>> {
        let version = match as_of {
            AsOf::Version(version) => version,
            AsOf::Time(time_ms) => self.version_at(time_ms, newest).await?,
        };
        if version == newest.version {
            return Ok(Arc::clone(newest));
        }
        if version == 0 || version > newest.version {
            let (name, last) = (&self.name, newest.version);
            return Err(Error::InvalidParameter(match last {
                0 => format!("catalog \"{name}\" has no version {version}: nothing was committed to it yet"),
                _ => format!("catalog \"{name}\" has no version {version}; it has versions 1 to {last}"),
            }));
        }
        if let Some(trunk) = self.trunk.as_ref().filter(|trunk| version <= trunk.record.base) {
            let newest = Box::pin(trunk.lake.refresh()).await?;
            return Box::pin(trunk.lake.state_as_of(AsOf::Version(version), &newest)).await;
        }
        let state = self.past.state(version);
        if let Some(state) = state.as_ref().filter(|state| state.version == version) {
            return Ok(Arc::clone(state));
        }
        let state = Arc::new(self.replayed(version, state).await?);
        self.past.keep(&state);
        Ok(state)
    }

    /// The last version that was committed until `time_ms`.
    async fn version_at(&self, time_ms: i64, newest: &LakeState) -> Result<u64> {
        if time_ms >= newest.time_ms && newest.version > 0 {
            return Ok(newest.version);
        }
        // Times never go back from one entry to the next.
        let (mut before, mut after) = (0, newest.version);
        while after.saturating_sub(before) > 1 {
            let middle = before + (after - before) / 2;
            match self.time_of(middle).await? <= time_ms {
                true => before = middle,
                false => after = middle,
            }
        }
        match before {
            0 => Err(Error::InvalidParameter(format!(
                "catalog \"{}\" had no commit yet at that time",
                self.name
            ))),
            version => Ok(version),
        }
    }

    async fn time_of(&self, version: u64) -> Result<i64> {
        if let Some(time_ms) = self.past.time(version) {
            return Ok(time_ms);
        }
        let time_ms = self.entry(version).await?.time_ms;
        self.past.keep_time(version, time_ms);
        Ok(time_ms)
    }

    /// Repeats what was committed up to `version`, from a known state or a checkpoint before it.
    pub(super) async fn replayed(&self, version: u64, known: Option<Arc<LakeState>>) -> Result<LakeState> {
        let mut state = match known {
            Some(known) if version - known.version <= NEAR => known.as_ref().clone(),
            _ => self.known_state(version).await?,
        };
        let mut entries = self.entries(state.version + 1..=version);
        while let Some(entry) = entries.try_next().await? {
            state.apply(&entry);
        }
        Ok(state)
    }
}

impl History {
    /// The newest known state up to `version`.
    fn state(&self, version: u64) -> Option<Arc<LakeState>> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.iter().filter(|state| state.version <= version).max_by_key(|state| state.version).cloned()
    }

    fn keep(&self, state: &Arc<LakeState>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|known| known.version != state.version);
        states.push_back(Arc::clone(state));
        if states.len() > STATES_MAX {
            states.pop_front();
        }
    }

    fn time(&self, version: u64) -> Option<i64> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).get(&version).copied()
    }

    fn keep_time(&self, version: u64, time_ms: i64) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() >= TIMES_MAX {
            times.clear();
        }
        times.insert(version, time_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::{LogEntry, Operation};
    use super::*;
    use crate::storage::Location;

    /// A lake with `versions` commits, one each ten milliseconds, of which each makes a schema.
    async fn lake(versions: u64) -> (Lake, Arc<LakeState>) {
        let location = Location {
            url: "memory:///".to_owned(),
            store: Arc::new(object_store::memory::InMemory::new()),
            store_url: datafusion::execution::object_store::ObjectStoreUrl::parse("lacus://past").unwrap(),
            prefix: object_store::path::Path::from("past"),
        };
        let lake = Lake::new("lake".to_owned(), location, None, false, 1);
        let mut state = LakeState::default();
        for version in 1..=versions {
            let entry = LogEntry {
                version,
                transaction: version.to_string(),
                time_ms: 1_000 + 10 * version as i64,
                writer: String::new(),
                user: String::new(),
                query: String::new(),
                operations: vec![Operation::CreateSchema { schema: format!("s{version}"), comment: None }],
                deps: Vec::new(),
                members: Vec::new(),
            };
            lake.put(&entry).await.unwrap();
            state.apply(&entry);
            lake.checkpoint(&state).await;
        }
        (lake, Arc::new(state))
    }

    #[tokio::test]
    async fn every_version_and_every_time_finds_its_state() {
        let (lake, newest) = lake(150).await;
        for version in [1, 63, 64, 65, 100, 128, 149, 150, 2] {
            let state = lake.state_as_of(AsOf::Version(version), &newest).await.unwrap();
            assert_eq!((state.version, state.schemas.len() as u64), (version, version));
            for time in [1_000 + 10 * version as i64, 1_009 + 10 * version as i64] {
                let state = lake.state_as_of(AsOf::Time(time), &newest).await.unwrap();
                assert_eq!(state.version, version, "at {time}");
            }
        }
        let future = lake.state_as_of(AsOf::Time(i64::MAX), &newest).await.unwrap();
        assert_eq!(future.version, 150);
    }

    #[tokio::test]
    async fn what_never_was_is_an_error() {
        let (lake, newest) = lake(3).await;
        for as_of in [AsOf::Version(0), AsOf::Version(4), AsOf::Time(1_009), AsOf::Time(i64::MIN)] {
            let error = lake.state_as_of(as_of, &newest).await.unwrap_err();
            assert_eq!(error.sqlstate(), "22023", "{as_of:?}: {error}");
        }
        let empty = lake.state_as_of(AsOf::Time(0), &Arc::default()).await;
        assert_eq!(empty.unwrap_err().sqlstate(), "22023");
    }

    #[test]
    fn a_moment_is_a_version_or_a_time() {
        let parse = |text| AsOf::parse(text, &TimeZone::fixed(3600));
        assert_eq!(parse("42").unwrap(), AsOf::Version(42));
        assert_eq!(parse("1970-01-01 01:00:00.0019").unwrap(), AsOf::Time(1));
        assert_eq!(parse("1970-01-01 01:00:00+00").unwrap(), AsOf::Time(3_600_000));
        assert_eq!(parse("yesterday noon").unwrap_err().sqlstate(), "22007");
    }
}
