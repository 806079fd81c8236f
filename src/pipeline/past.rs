//! The past: which steps need not run again.
//!
//! A step is unchanged when its text is, when the tables that it reads are at the versions that it read,
//! and when what it wrote is still as it left it, or as later steps of the same script did. A table is
//! taken as a whole: where one of the steps that write it must run, all of them must, and all that read
//! it. What a resumed run has done is done, whatever changed since.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Connection, Failure};
use super::graph::{Graph, Node};
use super::record::Written;
use super::script::variables_literal as quote;
use super::step::Kind;
use super::world::Object;
use crate::engine::plan::lake_tables::RECORDS;

/// What is done with a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Run,
    /// Why it is left out.
    Skip(String),
}

/// A success of a step.
#[derive(Debug, Clone, Default)]
struct Success {
    reads: BTreeMap<String, String>,
    writes: BTreeMap<String, Written>,
}

/// Scripts, text and occurrence of a step.
type Key = (String, String, usize);

/// What is known of earlier runs.
#[derive(Debug, Default)]
pub struct Past {
    last: BTreeMap<Key, Success>,
    /// What the run that is resumed has done.
    done: BTreeSet<Key>,
    pub resumes: Option<String>,
}

impl Past {
    /// Reads the records of the graph's scripts.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask(connection: &mut Connection, graph: &Graph) -> Result<Self, Failure> {
        let names: BTreeSet<&str> = graph.nodes.iter().map(|node| node.step.script_name.as_str()).collect();
        let names: Vec<String> = names.into_iter().map(quote).collect();
        let sql = format!(
            "SELECT script, text_hash, occurrence, reads, writes FROM (SELECT *, row_number() OVER \
             (PARTITION BY script, text_hash, occurrence ORDER BY finished DESC) AS latest \
             FROM \"{RECORDS}\".run_steps WHERE state = 'succeeded' AND script IN ({})) AS steps \
             WHERE latest = 1",
            names.join(", ")
        );
        let mut past = Self::default();
        for row in connection.rows(&sql).await? {
            let json = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            let success = Success {
                reads: serde_json::from_str(&json(3)).unwrap_or_default(),
                writes: serde_json::from_str(&json(4)).unwrap_or_default(),
            };
            past.last.insert(key_in(&row), success);
        }
        Ok(past)
    }

    /// Finds the last run of these scripts, and what it has done if it did not finish.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn resume(&mut self, connection: &mut Connection, scripts: &str) -> Result<(), Failure> {
        let last = format!(
            "SELECT run_id, state, resumes FROM system.runs WHERE scripts = {} ORDER BY started DESC LIMIT 1",
            quote(scripts)
        );
        let text = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten();
        let Some(row) = connection.rows(&last).await?.pop() else { return Ok(()) };
        if text(&row, 1).as_deref() == Some("finished") {
            return Ok(());
        }
        self.resumes = text(&row, 0);
        let mut next = self.resumes.clone();
        // A resumed run can be resumed itself.
        while let Some(run) = next.take() {
            let steps = format!(
                "SELECT script, text_hash, occurrence FROM \"{RECORDS}\".run_steps \
                 WHERE run_id = {} AND state IN ('succeeded', 'skipped')",
                quote(&run)
            );
            self.done.extend(connection.rows(&steps).await?.iter().map(|row| key_in(row)));
            let before = format!(
                "SELECT resumes FROM \"{RECORDS}\".runs WHERE run_id = {} AND resumes IS NOT NULL LIMIT 1",
                quote(&run)
            );
            next = connection.rows(&before).await?.pop().and_then(|row| text(&row, 0));
        }
        Ok(())
    }

    /// Decides for each step of a graph. `versions` are those of now, by full name.
    /// With `force`, only what the resumed run has done is left out.
    pub fn decide(&self, graph: &Graph, versions: &BTreeMap<String, String>, force: bool) -> Vec<Decision> {
        let known: Vec<Option<&Success>> =
            graph.nodes.iter().map(|node| self.last.get(&key_of(node))).collect();
        let done: Vec<bool> = graph.nodes.iter().map(|node| self.done.contains(&key_of(node))).collect();
        let mut dirty: Vec<bool> = graph
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| {
                !done[at] && (force || !(is_skippable(node) && is_current(&known, at, versions)))
            })
            .collect();
        spread(graph, &known, &done, &mut dirty);
        let decision = |at: usize| match (dirty[at], done[at]) {
            (true, _) => Decision::Run,
            (false, true) => Decision::Skip("done".to_owned()),
            (false, false) => Decision::Skip("unchanged".to_owned()),
        };
        (0..graph.nodes.len()).map(decision).collect()
    }

    /// The tables whose versions decide.
    pub fn tables<'a>(&'a self, graph: &'a Graph) -> BTreeSet<&'a Object> {
        graph
            .nodes
            .iter()
            .filter(|node| self.last.contains_key(&key_of(node)))
            .flat_map(|node| node.resolved.reads.iter().chain(&node.resolved.writes))
            .filter(|object| matches!(object, Object::Table { .. }))
            .collect()
    }
}

/// The version that each table has now. A table that is not there is left out.
///
/// # Errors
/// [`Failure`].
pub async fn versions(
    connection: &mut Connection,
    tables: &[String],
) -> Result<BTreeMap<String, String>, Failure> {
    let touch: Vec<String> =
        tables.iter().map(|table| format!("SELECT 1 FROM {table} WHERE false;")).collect();
    let sql = format!(
        "BEGIN READ ONLY; {} SELECT table_catalog, table_schema, table_name, version \
         FROM system.transaction_tables",
        touch.concat()
    );
    let found = connection.rows(&sql).await;
    connection.run("ROLLBACK", &mut super::session::Quiet).await?;
    let text = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten();
    let versions = found?.into_iter().filter_map(|row| {
        let name = [text(&row, 0)?, text(&row, 1)?, text(&row, 2)?].join(".");
        Some((name, text(&row, 3)?))
    });
    Ok(versions.collect())
}

fn key_in(row: &[Option<String>]) -> Key {
    let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    (text(0), text(1), text(2).parse().unwrap_or(usize::MAX))
}

fn key_of(node: &Node) -> Key {
    (node.step.script_name.clone(), node.step.hash.clone(), node.step.occurrence)
}

/// Whether all that a step does is in the tables that it writes.
fn is_skippable(node: &Node) -> bool {
    let uses = &node.step.uses;
    let is_kind = matches!(node.step.kind, Kind::Statement | Kind::Block);
    let is_left_alone = !uses.alone && !node.resolved.changes_schemas;
    let is_of_session = uses.pinned && !touches_temporary(node);
    is_kind && !uses.prints && !uses.volatile && is_left_alone && !node.resolved.system && !is_of_session
}

fn touches_temporary(node: &Node) -> bool {
    let mut objects = node.resolved.reads.iter().chain(&node.resolved.writes);
    objects.any(|object| matches!(object, Object::Temporary { .. }))
}

/// Whether what a step read and wrote is as it was then.
fn is_current(known: &[Option<&Success>], at: usize, versions: &BTreeMap<String, String>) -> bool {
    let Some(success) = known[at] else { return false };
    let writes = |step: &Option<&Success>, table: &str| step.and_then(|step| step.writes.get(table).cloned());
    let before = |table: &str| known[..at].iter().rev().find_map(|step| writes(step, table));
    let after = |table: &str| known[at + 1..].iter().find_map(|step| writes(step, table));
    let own = |table: &str| success.writes.get(table);
    let reads = success.reads.iter().all(|(table, version)| {
        let was = match (before(table), own(table), after(table)) {
            (Some(before), ..) => before.to,
            (None, Some(own), _) => own.from.clone(),
            (None, None, Some(after)) => after.from,
            (None, None, None) => versions.get(table).cloned(),
        };
        was.as_ref() == Some(version)
    });
    let writes = success.writes.iter().all(|(table, written)| match after(table) {
        Some(after) => after.from == written.to,
        None => versions.get(table) == written.to.as_ref(),
    });
    reads && writes
}

/// Makes all steps run that have to, because one does that they share a table with.
fn spread(graph: &Graph, known: &[Option<&Success>], done: &[bool], dirty: &mut [bool]) {
    let uses: Vec<(BTreeSet<String>, BTreeSet<String>)> =
        graph.nodes.iter().zip(known).map(|(node, known)| tables_of(node, *known)).collect();
    let mut stale: BTreeSet<&String> = BTreeSet::new();
    let mut wanted: BTreeSet<&String> = BTreeSet::new();
    for ((reads, writes), _) in uses.iter().zip(dirty.iter()).filter(|(_, dirty)| **dirty) {
        stale.extend(writes);
        wanted.extend(reads.iter().filter(|table| is_temporary(table)));
    }
    loop {
        let mut changed = false;
        for (at, (reads, writes)) in uses.iter().enumerate() {
            let is_stale = !done[at] && reads.iter().chain(writes).any(|table| stale.contains(table));
            // A temporary table is gone with the session that made it, even if its step is done.
            if !dirty[at] && (is_stale || writes.iter().any(|table| wanted.contains(table))) {
                (dirty[at], changed) = (true, true);
                stale.extend(writes);
                wanted.extend(reads.iter().filter(|table| is_temporary(table)));
            }
        }
        if !changed {
            return;
        }
    }
}

fn is_temporary(table: &str) -> bool {
    table.starts_with(TEMPORARY)
}

const TEMPORARY: &str = "temporary ";

/// What a step reads and writes: by its text, and as it was recorded.
fn tables_of(node: &Node, known: Option<&Success>) -> (BTreeSet<String>, BTreeSet<String>) {
    let names =
        |objects: &BTreeSet<Object>| -> BTreeSet<String> { objects.iter().filter_map(name_of).collect() };
    let (mut reads, mut writes) = (names(&node.resolved.reads), names(&node.resolved.writes));
    reads.extend(known.into_iter().flat_map(|known| known.reads.keys().cloned()));
    writes.extend(known.into_iter().flat_map(|known| known.writes.keys().cloned()));
    (reads, writes)
}

fn name_of(object: &Object) -> Option<String> {
    match object {
        Object::Table { catalog, schema, name } => Some(format!("{catalog}.{schema}.{name}")),
        Object::Temporary { session, name } => Some(format!("{TEMPORARY}{session} {name}")),
        Object::Schema { .. } => None,
    }
}
