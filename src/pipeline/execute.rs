//! Execution: the steps of a graph, as many at once as may be, each behind those that it waits for.
//!
//! Steps that use what belongs to a session (temporary tables, prepared statements) run in the session of
//! their script; all others in whichever is free. The first failure ends the run: what runs already is
//! seen to its end, nothing else begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::attempt::{Refused, Setting};
use super::client::Failure;
use super::graph::{Graph, Node, is_pinned};
use super::past::Decision;
use super::print::Printed;
use super::progress::Progress;
use super::record::{Ended, Recorder, State, StepError, Totals};
use super::script::SourceFile;
use super::session::{Dial, Session};
use super::step::Part;

/// All that the steps of a run share.
pub struct Work {
    pub graph: Graph,
    pub files: Vec<SourceFile>,
    /// The settings of each session of the scripts.
    pub settings: Vec<Vec<String>>,
    pub decisions: Vec<Decision>,
    pub recorder: Recorder,
    pub progress: Progress,
    pub dial: Arc<dyn Dial>,
    pub threads: usize,
    pub database: String,
}

/// How a run went.
#[derive(Debug, Default)]
pub struct Report {
    pub totals: Totals,
    /// The first error.
    pub error: Option<StepError>,
}

/// A step that has ended, and the session that it ran in.
struct Returned {
    at: usize,
    ended: Ended,
    printed: Printed,
    session: Option<Session>,
}

/// Which steps may begin.
struct Queue {
    waits: Vec<usize>,
    behind: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
}

impl Queue {
    fn of(graph: &Graph) -> Self {
        let count = graph.nodes.len();
        let mut behind = vec![Vec::new(); count];
        for (at, node) in graph.nodes.iter().enumerate() {
            node.after.iter().for_each(|before| behind[*before].push(at));
        }
        let waits: Vec<usize> = graph.nodes.iter().map(|node| node.after.len()).collect();
        let ready = (0..count).filter(|at| waits[*at] == 0).collect();
        Self { waits, behind, ready }
    }

    /// Lets those begin that waited for nothing but this one.
    fn done(&mut self, at: usize) {
        for next in std::mem::take(&mut self.behind[at]) {
            self.waits[next] -= 1;
            if self.waits[next] == 0 {
                self.ready.insert(next);
            }
        }
    }
}

/// What is printed, in the order of the steps.
#[derive(Default)]
struct Outlet {
    kept: BTreeMap<usize, Printed>,
    next: usize,
}

impl Outlet {
    fn give(&mut self, at: usize, printed: Printed, progress: &Progress) {
        self.kept.insert(at, printed);
        while let Some(printed) = self.kept.remove(&self.next) {
            progress.print(self.next + 1, &printed);
            self.next += 1;
        }
    }

    fn rest(&mut self, progress: &Progress) {
        for (at, printed) in std::mem::take(&mut self.kept) {
            progress.print(at + 1, &printed);
        }
    }
}

impl Work {
    /// Does all steps, or those up to the first that fails.
    pub async fn run(&self, first: Session) -> Report {
        let mut report = Report { totals: self.totals(), error: None };
        let mut queue = Queue::of(&self.graph);
        let mut outlet = Outlet::default();
        let mut free = vec![first];
        // The sessions of scripts; one that is in use is none.
        let mut own: BTreeMap<usize, Option<Session>> = BTreeMap::new();
        let mut running: FuturesUnordered<BoxFuture<'_, Returned>> = FuturesUnordered::new();
        loop {
            if report.error.is_none() {
                self.skip(&mut queue, &mut outlet, &mut report);
                while let Some((at, session)) = self.next(&mut queue, &mut free, &mut own, running.len()) {
                    running.push(Box::pin(self.step(at, session)));
                }
            }
            let Some(Returned { at, ended, printed, session }) = running.next().await else { break };
            let node = &self.graph.nodes[at];
            let pinned = |node: &Node| is_pinned(&node.step, &node.resolved);
            let of_session = |later: &Node| later.step.session == node.step.session && pinned(later);
            match (pinned(node), self.graph.nodes[at + 1..].iter().any(of_session)) {
                (true, true) => drop(own.insert(node.step.session, session)),
                // Nobody else may see its temporary tables.
                (true, false) => drop((own.remove(&node.step.session), session)),
                (false, _) => free.extend(session),
            }
            outlet.give(at, printed, &self.progress);
            self.settle(at, &ended, &mut report);
            if ended.state == State::Succeeded {
                queue.done(at);
            }
        }
        outlet.rest(&self.progress);
        report
    }

    pub(super) fn totals(&self) -> Totals {
        Totals { steps: self.graph.nodes.len(), ..Totals::default() }
    }

    /// Passes over the steps that may begin and need not.
    fn skip(&self, queue: &mut Queue, outlet: &mut Outlet, report: &mut Report) {
        loop {
            let next =
                queue.ready.iter().copied().find(|at| matches!(self.decisions[*at], Decision::Skip(_)));
            let Some(at) = next else { return };
            let Decision::Skip(why) = &self.decisions[at] else { return };
            queue.ready.remove(&at);
            let ended = Ended::begun(State::Skipped);
            let step = &self.graph.nodes[at].step;
            self.recorder.note_step(at + 1, step, &ended);
            self.progress.ended(at + 1, step, &ended, why);
            let mut printed = Printed::default();
            for part in &step.parts {
                if let Part::Print { text, to_stderr } = part {
                    printed.print(text, *to_stderr);
                }
            }
            outlet.give(at, printed, &self.progress);
            report.totals.skipped += 1;
            queue.done(at);
        }
    }

    /// The next step that may begin and has a session to run in; none stands for one that is to be opened.
    fn next(
        &self,
        queue: &mut Queue,
        free: &mut Vec<Session>,
        own: &mut BTreeMap<usize, Option<Session>>,
        running: usize,
    ) -> Option<(usize, Option<Session>)> {
        if running >= self.threads {
            return None;
        }
        let at = queue.ready.pop_first()?;
        let node = &self.graph.nodes[at];
        let session = match is_pinned(&node.step, &node.resolved) {
            false => free.pop(),
            // Steps of one session wait for each other: it is not in use here.
            true => own.insert(node.step.session, None).flatten().or_else(|| free.pop()),
        };
        Some((at, session))
    }

    /// Notes how a step ended.
    fn settle(&self, at: usize, ended: &Ended, report: &mut Report) {
        let step = &self.graph.nodes[at].step;
        self.progress.ended(at + 1, step, ended, "");
        report.totals.rows += ended.rows;
        report.totals.bytes += ended.bytes;
        match &ended.error {
            None => report.totals.done += 1,
            Some(error) => {
                report.totals.failed += 1;
                self.recorder.note_step(at + 1, step, ended);
                self.progress.error(error, &self.files);
                report.error.get_or_insert_with(|| error.clone());
            }
        }
    }

    /// Does a step, as often as it may be tried.
    async fn step(&self, at: usize, mut session: Option<Session>) -> Returned {
        let step = &self.graph.nodes[at].step;
        self.progress.started(at + 1, step);
        let begun = Ended::begun(State::Failed);
        let mut setting = Setting {
            number: at + 1,
            step,
            recorder: &self.recorder,
            files: &self.files,
            settings: &self.settings[step.session],
            database: &self.database,
            attempts: 1,
        };
        loop {
            let mut printed = Printed::default();
            let error = match self.attempt(&setting, &mut session, &mut printed).await {
                Ok(mut ended) => {
                    ended.started = begun.started;
                    return Returned { at, ended, printed, session };
                }
                Err(error) => error,
            };
            let Some(pause) = setting.pause(&error) else {
                let failed = Ended {
                    attempts: setting.attempts,
                    finished: chrono::Utc::now(),
                    error: Some(error),
                    ..begun
                };
                return Returned { at, ended: failed, printed, session };
            };
            self.progress.retried(at + 1, step, &error, pause);
            tokio::time::sleep(pause).await;
            setting.attempts += 1;
        }
    }

    /// One attempt within the step's time. A session that is lost is dropped, and with it what runs there.
    async fn attempt(
        &self,
        setting: &Setting<'_>,
        session: &mut Option<Session>,
        printed: &mut Printed,
    ) -> Result<Ended, StepError> {
        let mut own = match session.take() {
            Some(session) => session,
            None => self.open(setting).await?,
        };
        let limit = setting.step.options.timeout.unwrap_or(Duration::MAX);
        let Ok(done) = tokio::time::timeout(limit, setting.attempt(&mut own, printed)).await else {
            let place = setting.error(Failure::Lost(String::new()), setting.step.place);
            let message = format!("canceling step after its timeout of {limit:?}");
            let timed_out = StepError { sqlstate: "57014".to_owned(), message, lost: true, ..place };
            drop(own);
            return self.doubted(setting, Refused { error: timed_out, in_doubt: true }).await;
        };
        match done {
            Ok(ended) => {
                *session = Some(own);
                Ok(ended)
            }
            Err(refused) => {
                if !refused.error.lost {
                    *session = Some(own);
                }
                self.doubted(setting, refused).await
            }
        }
    }

    /// Looks whether a step was committed whose COMMIT had no clear answer: its record tells.
    async fn doubted(&self, setting: &Setting<'_>, refused: Refused) -> Result<Ended, StepError> {
        if refused.in_doubt
            && self.recorder.active
            && let Ok(mut session) = self.open(setting).await
            && let Ok(true) = self.recorder.holds(&mut session.connection, setting.number).await
        {
            return Ok(Ended { attempts: setting.attempts, ..Ended::begun(State::Succeeded) });
        }
        Err(refused.error)
    }

    async fn open(&self, setting: &Setting<'_>) -> Result<Session, StepError> {
        let opened = Session::open(&self.dial).await;
        opened.map_err(|failed| setting.error(failed, setting.step.place))
    }
}
