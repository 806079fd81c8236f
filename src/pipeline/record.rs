//! Records: what is kept of runs, in the lake itself.
//!
//! Two managed tables in the schema `_lacus` hold runs and steps; `system.runs` and `system.run_steps`
//! show them. A step is recorded by the transaction that does it: either both are there or neither is, so
//! a run that was killed anywhere knows exactly which of its steps are done, and recording costs no commit
//! of its own. Steps that change nothing are recorded with the next one that does, or with the run's end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::client::{Connection, Failure};
use super::script::{hide, variables_literal as quote};
use super::session::Quiet;
use super::step::Step;
use super::world::World;
use crate::engine::plan::lake_tables::{RECORDS, RUNS, STEPS};

/// Rows of one statement: fewer bytes than a server takes.
const ROWS_MAX: usize = 200;
/// Characters of a statement, or of an error, that are kept.
const TEXT_MAX: usize = 4000;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Succeeded,
    Failed,
    /// Unchanged since its last success, or done by the run that is resumed.
    Skipped,
    /// Done, and undone with the whole run's transaction.
    RolledBack,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::RolledBack => "rolled back",
        }
    }
}

/// Why a step failed, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepError {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub file: usize,
    pub line: usize,
    pub column: usize,
    /// Nobody knows what became of the statement.
    pub lost: bool,
}

/// A step that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    pub state: State,
    pub started: DateTime<Utc>,
    pub finished: DateTime<Utc>,
    pub attempts: u32,
    pub rows: u64,
    pub bytes: u64,
    pub reads: BTreeMap<String, String>,
    pub writes: BTreeMap<String, Written>,
    pub error: Option<StepError>,
}

/// The versions of a table before and behind a step; none where there was no table.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Written {
    pub from: Option<String>,
    pub to: Option<String>,
}

impl Ended {
    pub fn begun(state: State) -> Self {
        let now = Utc::now();
        Self {
            state,
            started: now,
            finished: now,
            attempts: 0,
            rows: 0,
            bytes: 0,
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            error: None,
        }
    }
}

/// What is counted of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub steps: usize,
    pub done: usize,
    pub skipped: usize,
    pub failed: usize,
    pub rows: u64,
    pub bytes: u64,
}

/// Writes the records of one run.
pub struct Recorder {
    pub run_id: String,
    pub started: DateTime<Utc>,
    pub user: String,
    pub scripts: String,
    pub text_hash: String,
    pub options: String,
    pub resumes: Option<String>,
    pub secrets: Vec<String>,
    /// Whether this lake takes records.
    pub active: bool,
    waiting: Mutex<Waiting>,
}

/// Rows that are not written yet.
#[derive(Debug, Default, Clone)]
struct Waiting {
    runs: Vec<String>,
    steps: Vec<String>,
}

/// Rows that a transaction writes; given back if it fails.
#[derive(Debug, Default)]
#[must_use]
pub struct Taken(Waiting);

impl Recorder {
    pub fn new(scripts: String, text_hash: String, user: String, secrets: Vec<String>) -> Self {
        Self {
            run_id: uuid::Uuid::now_v7().to_string(),
            started: Utc::now(),
            user,
            scripts,
            text_hash,
            options: String::new(),
            resumes: None,
            secrets,
            active: false,
            waiting: Mutex::default(),
        }
    }

    /// Makes the tables of records where they are not there yet.
    ///
    /// # Errors
    /// [`Failure`] where the lake cannot be written.
    pub async fn prepare(&mut self, connection: &mut Connection, world: &World) -> Result<(), Failure> {
        if !(world.holds(RECORDS, "runs") && world.holds(RECORDS, "run_steps")) {
            let columns = |columns: &[(&str, &str)]| {
                columns.iter().map(|(name, ty)| format!("{name} {ty}")).collect::<Vec<_>>().join(", ")
            };
            let sql = format!(
                "CREATE SCHEMA IF NOT EXISTS {RECORDS}; \
                 CREATE TABLE IF NOT EXISTS {RECORDS}.runs ({}); \
                 CREATE TABLE IF NOT EXISTS {RECORDS}.run_steps ({})",
                columns(RUNS),
                columns(STEPS)
            );
            connection.run(&sql, &mut Quiet).await?;
        }
        self.active = true;
        Ok(())
    }

    /// Keeps a row of the run for the next transaction.
    pub fn note_run(&self, state: &str, totals: Totals, error: Option<&str>) {
        let ended = (state != "running").then(|| moment(Utc::now()));
        let number = |number: usize| number.to_string();
        let row = [
            quote(&self.run_id),
            quote(state),
            moment(Utc::now()),
            moment(self.started),
            ended.unwrap_or_else(null),
            quote(&self.user),
            quote(&self.scripts),
            quote(&self.text_hash),
            quote(&self.options),
            number(totals.steps),
            number(totals.done),
            number(totals.skipped),
            number(totals.failed),
            totals.rows.to_string(),
            totals.bytes.to_string(),
            self.resumes.as_deref().map_or_else(null, quote),
            error.map_or_else(null, |error| quote(&self.shown(error))),
        ];
        self.lock().runs.push(format!("({})", row.join(", ")));
    }

    /// Keeps a row of a step for the next transaction.
    pub fn note_step(&self, number: usize, step: &Step, ended: &Ended) {
        let row = self.row(number, step, ended);
        self.lock().steps.push(row);
    }

    /// Takes all rows that wait, and those of a step that is about to be committed.
    pub fn take(&self, number: usize, step: &Step, ended: &Ended) -> Taken {
        self.note_step(number, step, ended);
        self.take_all()
    }

    pub fn take_all(&self) -> Taken {
        Taken(std::mem::take(&mut *self.lock()))
    }

    /// Gives rows back that were not written, but for the last one: that of the step itself.
    pub fn give_back(&self, taken: Taken) {
        let Taken(mut rows) = taken;
        rows.steps.pop();
        let mut waiting = self.lock();
        rows.runs.append(&mut waiting.runs);
        rows.steps.append(&mut waiting.steps);
        *waiting = rows;
    }

    /// The statements that write rows; none if there are none.
    pub fn sql(&self, taken: &Taken) -> Vec<String> {
        let Taken(rows) = taken;
        let tables = [("runs", &rows.runs), ("run_steps", &rows.steps)].into_iter().filter(|_| self.active);
        let insert = |table: &str, rows: &[String]| {
            format!("INSERT INTO \"{RECORDS}\".{table} VALUES {}", rows.join(", "))
        };
        tables.flat_map(|(table, rows)| rows.chunks(ROWS_MAX).map(move |rows| insert(table, rows))).collect()
    }

    /// Asks whether a step was committed, where its COMMIT had no clear answer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn holds(&self, connection: &mut Connection, number: usize) -> Result<bool, Failure> {
        let sql = format!(
            "SELECT 1 FROM \"{RECORDS}\".run_steps WHERE run_id = {} AND step = {number} AND state = 'succeeded'",
            quote(&self.run_id)
        );
        Ok(!connection.rows(&sql).await?.is_empty())
    }

    fn row(&self, number: usize, step: &Step, ended: &Ended) -> String {
        let error = ended.error.as_ref();
        let json =
            |text: Result<String, serde_json::Error>| text.map_or_else(|_| null(), |text| quote(&text));
        let row = [
            quote(&self.run_id),
            number.to_string(),
            quote(&step.script_name),
            step.line.to_string(),
            quote(&self.shown(&step.written())),
            quote(ended.state.name()),
            moment(ended.started),
            moment(ended.finished),
            ended.attempts.to_string(),
            ended.rows.to_string(),
            ended.bytes.to_string(),
            error.map_or_else(null, |error| quote(&error.sqlstate)),
            error.map_or_else(null, |error| quote(&self.shown(&error.message))),
            error.map_or_else(null, |error| error.line.to_string()),
            error.map_or_else(null, |error| error.column.to_string()),
            quote(&step.hash),
            step.occurrence.to_string(),
            json(serde_json::to_string(&ended.reads)),
            json(serde_json::to_string(&ended.writes)),
        ];
        format!("({})", row.join(", "))
    }

    /// A text as it may be kept: without secrets, and not without an end.
    fn shown(&self, text: &str) -> String {
        hide(text, &self.secrets).chars().filter(|character| *character != '\0').take(TEXT_MAX).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn null() -> String {
    "NULL".to_owned()
}

fn moment(moment: DateTime<Utc>) -> String {
    format!("TIMESTAMPTZ '{}'", moment.format("%Y-%m-%d %H:%M:%S%.6f+00"))
}
