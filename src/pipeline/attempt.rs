//! Attempts: one step is sent, with its transaction around it and its record inside.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;

use super::client::{Connection, Failure, ServerMessage};
use super::print::Printed;
use super::record::{Ended, Recorder, State, StepError, Taken, Written};
use super::script::{Piece, Place, SourceFile, line_and_column};
use super::session::{Quiet, Session};
use super::step::{Kind, Part, Step};
use crate::engine::plan::lake_tables::RECORDS;

/// What a step's transaction has read and written.
pub const USES: &str = "SELECT table_catalog, table_schema, table_name, is_read, is_written, version_before, \
                    version, bytes_added FROM system.transaction_tables";
/// The pause before a second attempt, where nothing else is said, and the longest one.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Whatever an attempt needs to know of its run.
pub struct Setting<'a> {
    pub number: usize,
    pub step: &'a Step,
    pub recorder: &'a Recorder,
    pub files: &'a [SourceFile],
    pub settings: &'a [String],
    /// The session's catalog, which is where records go.
    pub database: &'a str,
    /// With this one.
    pub attempts: u32,
}

/// How an attempt went wrong.
#[derive(Debug)]
pub struct Refused {
    pub error: StepError,
    /// It was sent to be committed, and there was no clear answer.
    pub in_doubt: bool,
}

impl Setting<'_> {
    /// Does the step once.
    ///
    /// # Errors
    /// [`Refused`]; the connection is in no transaction then, or lost.
    pub async fn attempt(&self, session: &mut Session, printed: &mut Printed) -> Result<Ended, Refused> {
        let step = self.step;
        session
            .adopt(step.session, &self.settings[..step.settings])
            .await
            .map_err(|one| self.refused(one))?;
        let done = self.parts(&mut session.connection, printed).await;
        match done {
            Ok(ended) => {
                session.has = (step.session, step.settings_after);
                Ok(ended)
            }
            Err(refused) => {
                if session.connection.status() != b'I' && !refused.error.lost {
                    // Where this fails too, the next statement finds the connection lost.
                    session.connection.run("ROLLBACK", &mut Quiet).await.ok();
                }
                Err(refused)
            }
        }
    }

    async fn parts(&self, connection: &mut Connection, printed: &mut Printed) -> Result<Ended, Refused> {
        let step = self.step;
        let mut ended = Ended { attempts: self.attempts, ..Ended::begun(State::Succeeded) };
        if step.kind == Kind::Statement {
            connection.run("BEGIN", &mut Quiet).await.map_err(|failed| self.refused(failed))?;
        }
        let last = step.parts.iter().rposition(|part| matches!(part, Part::Sql(_))).unwrap_or(0);
        let mut taken = None;
        for (at, part) in step.parts.iter().enumerate() {
            let piece = match part {
                Part::Print { text, to_stderr } => {
                    printed.print(text, *to_stderr);
                    continue;
                }
                Part::Sql(piece) => piece,
            };
            let ends = at == last && matches!(step.kind, Kind::Block | Kind::RolledBack);
            if ends {
                taken = self.before_commit(connection, &mut ended, printed).await?;
            }
            printed.at = self.at(piece.start());
            let sent = connection.run(&piece.text, printed).await;
            let in_doubt = ends && step.kind == Kind::Block;
            if let Err(failed) = sent {
                taken.into_iter().for_each(|taken| self.recorder.give_back(taken));
                return Err(Refused {
                    in_doubt: in_doubt && is_unclear(&failed),
                    ..self.refused_at(failed, piece)
                });
            }
        }
        if step.kind == Kind::Statement {
            taken = self.before_commit(connection, &mut ended, printed).await?;
            if let Err(failed) = connection.run("COMMIT", &mut Quiet).await {
                taken.into_iter().for_each(|taken| self.recorder.give_back(taken));
                return Err(Refused { in_doubt: is_unclear(&failed), ..self.refused(failed) });
            }
        }
        (ended.finished, ended.rows) = (Utc::now(), printed.rows);
        if taken.is_none() {
            self.recorder.note_step(self.number, step, &ended);
        }
        Ok(ended)
    }

    /// Asks what the transaction has done, and has it record that, if it changes this lake.
    async fn before_commit(
        &self,
        connection: &mut Connection,
        ended: &mut Ended,
        printed: &Printed,
    ) -> Result<Option<Taken>, Refused> {
        if connection.status() == b'E' {
            // A block that failed is only rolled back; its error was told.
            return Ok(None);
        }
        let rows = connection.rows(USES).await.map_err(|failed| self.refused(failed))?;
        let changes_this = note_uses(&rows, ended, self.database);
        if self.step.kind == Kind::RolledBack {
            ended.writes.clear();
            return Ok(None);
        }
        if !changes_this {
            return Ok(None);
        }
        (ended.finished, ended.rows) = (Utc::now(), printed.rows);
        let taken = self.recorder.take(self.number, self.step, ended);
        for sql in self.recorder.sql(&taken) {
            if let Err(failed) = connection.run(&sql, &mut Quiet).await {
                self.recorder.give_back(taken);
                return Err(self.refused(failed));
            }
        }
        Ok(Some(taken))
    }

    fn refused(&self, failed: Failure) -> Refused {
        Refused { error: self.error(failed, self.step.place), in_doubt: false }
    }

    fn refused_at(&self, failed: Failure, piece: &Piece) -> Refused {
        let position = match &failed {
            Failure::Server(message) => message.position.or_else(|| position_of(message, piece)),
            Failure::Lost(_) => None,
        };
        let place = position.map_or_else(|| piece.start(), |position| piece.place_of_character(position));
        Refused { error: self.error(failed, place), in_doubt: false }
    }

    /// An error of the step, at a place in a file.
    pub fn error(&self, failed: Failure, place: Place) -> StepError {
        let (line, column) = line_and_column(&self.files[place.file].text, place.offset);
        let place = StepError { file: place.file, line, column, ..StepError::default() };
        match failed {
            Failure::Server(message) => {
                let ServerMessage { sqlstate, message, detail, hint, .. } = *message;
                // The server ends the connection with these.
                let lost = sqlstate.starts_with("57P") || sqlstate == "25P03" || sqlstate == "25P04";
                StepError { sqlstate, message, detail, hint, lost, ..place }
            }
            Failure::Lost(reason) => StepError {
                sqlstate: "08006".to_owned(),
                message: format!("connection lost: {reason}"),
                lost: true,
                ..place
            },
        }
    }

    fn at(&self, place: Place) -> String {
        let file = &self.files[place.file];
        format!("{}:{}", file.name, line_and_column(&file.text, place.offset).0)
    }

    /// How long to wait before the next attempt; none where another would not help, or none is left.
    pub fn pause(&self, error: &StepError) -> Option<Duration> {
        let (retries, attempts) = (self.step.options.retries.unwrap_or(0), self.attempts);
        if attempts > retries || !is_worth_another(&error.sqlstate) {
            return None;
        }
        let first = self.step.options.backoff.unwrap_or(BACKOFF);
        Some(first.saturating_mul(1 << (attempts - 1).min(16)).min(BACKOFF_MAX.max(first)))
    }
}

/// Where the name stands that an error about names tells, as a character of the text.
fn position_of(message: &ServerMessage, piece: &Piece) -> Option<usize> {
    let name = message.message.split('"').nth(1).filter(|_| message.sqlstate.starts_with("42"))?;
    let (text, name) = (piece.text.to_ascii_lowercase(), name.to_ascii_lowercase());
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let stands_alone = |(at, _): &(usize, &str)| {
        !text[..*at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word)
    };
    let (at, _) = text.match_indices(&name).find(stands_alone)?;
    Some(piece.text[..at].chars().count() + 1)
}

/// Whether the statement may have been done nevertheless.
fn is_unclear(failed: &Failure) -> bool {
    match failed {
        Failure::Lost(_) => true,
        Failure::Server(message) => message.sqlstate == "08007" || message.sqlstate.starts_with("57P"),
    }
}

/// Whether a step that failed so may do better when nothing but time has changed.
fn is_worth_another(sqlstate: &str) -> bool {
    let by_class = ["08", "40", "53", "58"].iter().any(|class| sqlstate.starts_with(class));
    by_class || matches!(sqlstate, "57P01" | "57P02" | "57P03" | "57014")
}

/// Notes the tables of a transaction; returns whether it changes the lake that holds the records.
pub fn note_uses(rows: &[Vec<Option<String>>], ended: &mut Ended, database: &str) -> bool {
    let mut changes_this = false;
    let (mut reads, mut writes) = (BTreeMap::new(), BTreeMap::new());
    ended.bytes = 0;
    for row in rows {
        let text = |at: usize| row.get(at).cloned().flatten();
        let names: Vec<String> = (0..3).filter_map(text).collect();
        if names.get(1).is_some_and(|schema| schema == RECORDS) {
            continue;
        }
        let (is_read, is_written) = (text(3).as_deref() == Some("t"), text(4).as_deref() == Some("t"));
        let (from, to) = (text(5), text(6));
        let name = names.join(".");
        if is_read && let Some(version) = from.clone() {
            reads.insert(name.clone(), version);
        }
        if is_written && names.len() < 3 {
            // A schema or a branch.
            changes_this = true;
        } else if is_written {
            changes_this |= names.first().is_some_and(|catalog| catalog == database);
            ended.bytes += text(7).and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0);
            writes.insert(name, Written { from, to });
        }
    }
    (ended.reads, ended.writes) = (reads, writes);
    changes_this
}
