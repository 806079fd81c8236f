//! `--transaction`: all steps of a run in one transaction, which is one commit of the lake.
//!
//! The steps run one after the other. Blocks of the script become part of the transaction; one that is
//! rolled back ends at a savepoint. The records of the run are part of it too.

use std::collections::BTreeMap;

use chrono::Utc;

use super::attempt::{Setting, USES, note_uses};
use super::client::{Connection, Failure};
use super::execute::{Report, Work};
use super::graph::Graph;
use super::past::Decision;
use super::print::Printed;
use super::record::{Ended, State, StepError, Written};
use super::script::ScriptError;
use super::session::{Quiet, Session};
use super::step::{Kind, Part, Step, has_modes};
use super::world::{Object, Resolved};
use crate::engine::parse;
use crate::engine::statement::Statement;

const SAVEPOINT: &str = "\"lacus run\"";

/// # Errors
/// A step that cannot be part of a larger transaction.
pub fn check(graph: &Graph) -> Result<(), ScriptError> {
    for node in &graph.nodes {
        let step = &node.step;
        let refused =
            |what: &str| ScriptError::new(step.place, "25001", format!("{what} with --transaction"));
        if step.kind == Kind::Bare {
            return Err(refused("this statement cannot run in a block, and so not"));
        }
        let begins = step.pieces().next().map(|piece| &piece.text).filter(|_| is_block(step));
        let parsed = begins.and_then(|text| parse::parse(text).ok()?.pop());
        if let Some(Statement::Begin(modes)) = parsed.map(|parsed| parsed.statement)
            && has_modes(&modes)
        {
            return Err(refused("a block cannot have modes of its own"));
        }
    }
    Ok(())
}

fn is_block(step: &Step) -> bool {
    matches!(step.kind, Kind::Block | Kind::RolledBack)
}

impl Work {
    /// Does all steps in one transaction.
    pub async fn run_together(&self, mut session: Session) -> Report {
        let mut report = Report { totals: self.totals(), error: None };
        let begun = session.connection.run("BEGIN", &mut Quiet).await;
        let mut all = Vec::new();
        let mut seen = BTreeMap::new();
        let mut error = begun.err().map(|failed| (0, failed, Ended::begun(State::Failed)));
        for at in 0..self.graph.nodes.len() {
            if error.is_some() {
                break;
            }
            match self.part_of(at, &mut session, &mut seen).await {
                Ok(ended) => {
                    self.note(at, &ended, &mut report);
                    all.push((at, ended));
                }
                Err((failed, ended)) => error = Some((at, failed, ended)),
            }
        }
        if error.is_none() {
            error = self.commit(&mut session.connection, &all).await.err().map(|failed| {
                let last = self.graph.nodes.len().saturating_sub(1);
                (last, failed, Ended::begun(State::Failed))
            });
        }
        if let Some((at, failed, ended)) = error {
            match &failed {
                // It may be busy with what was given up; the server ends that when its client is gone.
                Failure::Lost(_) => drop(session),
                Failure::Server(_) => drop(session.connection.run("ROLLBACK", &mut Quiet).await),
            }
            self.undone(at, failed, ended, all, &mut report);
        }
        report
    }

    /// Does one step within the transaction. `seen` holds the versions that steps before it left.
    async fn part_of(
        &self,
        at: usize,
        session: &mut Session,
        seen: &mut BTreeMap<String, Option<String>>,
    ) -> Result<Ended, (Failure, Ended)> {
        let node = &self.graph.nodes[at];
        if let Decision::Skip(_) = &self.decisions[at] {
            return Ok(Ended::begun(State::Skipped));
        }
        self.progress.started(at + 1, &node.step);
        let mut ended = Ended { attempts: 1, ..Ended::begun(State::Succeeded) };
        let mut printed = Printed::default();
        let limit = node.step.options.timeout.unwrap_or(std::time::Duration::MAX);
        let (step, settings) = (&node.step, &self.settings[node.step.session]);
        if let Err(failed) = session.adopt(step.session, &settings[..step.settings]).await {
            return Err((failed, Ended { state: State::Failed, ..ended }));
        }
        let sent = self.send(step, &mut session.connection, &mut printed);
        let sent = match tokio::time::timeout(limit, sent).await {
            Ok(sent) => sent,
            Err(_) => Err(Failure::Lost(format!("canceling step after its timeout of {limit:?}"))),
        };
        self.progress.print(at + 1, &printed);
        (ended.finished, ended.rows) = (Utc::now(), printed.rows);
        if let Err(failed) = sent {
            return Err((failed, Ended { state: State::Failed, ..ended }));
        }
        session.has = (step.session, step.settings_after);
        match session.connection.rows(USES).await {
            Ok(rows) => {
                note_uses(&rows, &mut ended, &self.database);
                only_its_own(&node.resolved, &mut ended, seen);
                Ok(ended)
            }
            Err(failed) => Err((failed, Ended { state: State::Failed, ..ended })),
        }
    }

    async fn send(
        &self,
        step: &Step,
        connection: &mut Connection,
        printed: &mut Printed,
    ) -> Result<(), Failure> {
        let count = step.parts.iter().filter(|part| matches!(part, Part::Sql(_))).count();
        let mut number = 0;
        for part in &step.parts {
            let piece = match part {
                Part::Print { text, to_stderr } => {
                    printed.print(text, *to_stderr);
                    continue;
                }
                Part::Sql(piece) => piece,
            };
            number += 1;
            let text = match (is_block(step), number) {
                (true, 1) => format!("SAVEPOINT {SAVEPOINT}"),
                (true, last) if last == count && step.kind == Kind::Block => {
                    format!("RELEASE SAVEPOINT {SAVEPOINT}")
                }
                (true, last) if last == count => format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}"),
                _ => piece.text.clone(),
            };
            match is_block(step) && (number == 1 || number == count) {
                true => connection.run(&text, &mut Quiet).await?,
                false => connection.run(&text, printed).await?,
            }
        }
        Ok(())
    }

    fn note(&self, at: usize, ended: &Ended, report: &mut Report) {
        let step = &self.graph.nodes[at].step;
        let why = match &self.decisions[at] {
            Decision::Skip(why) => why.as_str(),
            Decision::Run => "",
        };
        self.progress.ended(at + 1, step, ended, why);
        match ended.state {
            State::Skipped => report.totals.skipped += 1,
            _ => report.totals.done += 1,
        }
        report.totals.rows += ended.rows;
        report.totals.bytes += ended.bytes;
    }

    async fn commit(&self, connection: &mut Connection, all: &[(usize, Ended)]) -> Result<(), Failure> {
        let changes = all.iter().any(|(_, ended)| !ended.writes.is_empty());
        all.iter()
            .for_each(|(at, ended)| self.recorder.note_step(at + 1, &self.graph.nodes[*at].step, ended));
        if changes {
            let taken = self.recorder.take_all();
            for sql in self.recorder.sql(&taken) {
                connection.run(&sql, &mut Quiet).await?;
            }
        }
        connection.run("COMMIT", &mut Quiet).await
    }

    /// Notes a run of which nothing is left.
    fn undone(
        &self,
        at: usize,
        failed: Failure,
        ended: Ended,
        all: Vec<(usize, Ended)>,
        report: &mut Report,
    ) {
        // What waits are rows of a success that did not happen.
        drop(self.recorder.take_all());
        for (at, ended) in all {
            let undone = Ended { state: State::RolledBack, ..ended };
            self.recorder.note_step(at + 1, &self.graph.nodes[at].step, &undone);
        }
        let Some(node) = self.graph.nodes.get(at) else { return };
        let error = self.error_of(at, failed);
        let ended = Ended { state: State::Failed, error: Some(error.clone()), ..ended };
        self.recorder.note_step(at + 1, &node.step, &ended);
        self.progress.ended(at + 1, &node.step, &ended, "");
        self.progress.error(&error, &self.files);
        (report.totals.done, report.totals.failed) = (0, 1);
        report.error = Some(error);
    }

    fn error_of(&self, at: usize, failed: Failure) -> StepError {
        let step = &self.graph.nodes[at].step;
        let setting = Setting {
            number: at + 1,
            step,
            recorder: &self.recorder,
            files: &self.files,
            settings: &[],
            database: &self.database,
            attempts: 1,
        };
        let piece = match &failed {
            Failure::Server(message) => message.position.zip(step.pieces().find(|_| !is_block(step))),
            Failure::Lost(_) => None,
        };
        let place = piece.map_or(step.place, |(position, piece)| piece.place_of_character(position));
        setting.error(failed, place)
    }
}

/// Leaves of what the transaction did so far what this step did.
fn only_its_own(resolved: &Resolved, ended: &mut Ended, seen: &mut BTreeMap<String, Option<String>>) {
    let is_of = |objects: &std::collections::BTreeSet<Object>, wanted: &str| {
        objects.iter().any(|object| match object {
            Object::Table { catalog, schema, name } => format!("{catalog}.{schema}.{name}") == wanted,
            _ => false,
        })
    };
    ended.reads.retain(|table, _| is_of(&resolved.reads, table));
    ended.writes.retain(|table, _| is_of(&resolved.writes, table));
    for (table, version) in &mut ended.reads {
        if let Some(Some(left)) = seen.get(table) {
            version.clone_from(left);
        }
    }
    for (table, Written { from, to }) in &mut ended.writes {
        if let Some(left) = seen.insert(table.clone(), to.clone()) {
            *from = left;
        }
    }
}
