//! Pipelines: SQL scripts that run, resume and explain themselves.
//!
//! A run reads scripts as psql does ([`script`]), cuts them into steps ([`step`]), finds out what each
//! reads and writes ([`names`], [`world`]) and so which waits for which ([`graph`]); leaves out what is
//! unchanged or done ([`past`]); and does the rest over connections of the PostgreSQL protocol
//! ([`client`], [`execute`]), to a daemon or to an engine in this process: both take the same statements
//! and give the same answers. What became of each step is recorded in the lake ([`record`]).

mod attempt;
pub mod client;
mod dry;
mod execute;
mod graph;
mod names;
mod past;
mod print;
mod progress;
mod record;
pub mod script;
pub mod session;
mod step;
mod together;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub use progress::Audience;

use client::Failure;
use execute::{Report, Work};
use graph::Graph;
use past::{Decision, Past};
pub use print::tell;
use progress::{Progress, error_text};
use record::{Recorder, StepError};
use script::{Failed, Loader, ScriptError, SourceFile, Variables, identifier, line_and_column};
use session::{Dial, Session};
use step::{Steps, hash, steps_of};
use world::{Object, World};

/// Exit codes, as psql's.
pub const DONE: u8 = 0;
/// Something of the command line or of a file.
pub const FATAL: u8 = 1;
/// The connection to the server.
pub const CONNECTION: u8 = 2;
/// A script.
pub const SCRIPT: u8 = 3;

/// What is to be run, and how.
pub struct Options {
    /// Files, and folders of `.sql` files.
    pub scripts: Vec<PathBuf>,
    pub variables: Variables,
    /// Steps that run at one time.
    pub threads: usize,
    pub dry_run: bool,
    /// The whole run is one transaction.
    pub transaction: bool,
    /// Goes on where the last run of these scripts broke.
    pub resume: bool,
    /// Runs unchanged steps too.
    pub force: bool,
    pub audience: Audience,
    /// Who the records name.
    pub user: String,
}

/// Why a run did not begin.
enum Stop {
    File(crate::error::Error),
    Script(ScriptError, Vec<SourceFile>),
    Server(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Server(failure)
    }
}

/// Runs scripts; returns the exit code.
pub async fn run(options: Options, dial: Arc<dyn Dial>) -> u8 {
    match begin(&options, dial).await {
        Ok(code) => code,
        Err(Stop::File(error)) => {
            tell(&format!("lacus: {error}\n"), true);
            FATAL
        }
        Err(Stop::Script(error, files)) => {
            let (text, secrets) = (error_text(&located(&error, &files), &files), options.variables.secrets());
            tell(&script::hide(&text, secrets), true);
            SCRIPT
        }
        Err(Stop::Server(Failure::Lost(reason))) => {
            tell(&format!("lacus: {reason}\n"), true);
            CONNECTION
        }
        Err(Stop::Server(Failure::Server(message))) => {
            tell(&format!("lacus: {} ({})\n", message.message, message.sqlstate), true);
            CONNECTION
        }
    }
}

/// The scripts of a run, and the order of their steps.
struct Plan {
    files: Vec<SourceFile>,
    steps: Steps,
    graph: Graph,
    world: World,
    /// Names of the scripts, which name the run.
    scripts: String,
}

async fn begin(options: &Options, dial: Arc<dyn Dial>) -> Result<u8, Stop> {
    let (loaded, names, apart) = load(options)?;
    let mut session = Session::open(&dial).await?;
    let (mut world, path) = World::ask(&mut session.connection).await?;
    let wrong = |error: ScriptError| Stop::Script(error, loaded.files.clone());
    let steps = steps_of(&loaded, &names, apart, &path).map_err(wrong)?;
    let graph = Graph::of(&steps, &mut world, apart).map_err(wrong)?;
    if options.transaction {
        together::check(&graph).map_err(wrong)?;
    }
    let plan = Plan { files: loaded.files.clone(), steps, graph, world, scripts: names.join(" ") };
    if options.dry_run {
        return Ok(dry::print(&plan.graph, plan.world, &mut session.connection, options.audience).await?);
    }
    carry_out(options, plan, session, dial).await
}

fn load(options: &Options) -> Result<(script::Script, Vec<String>, bool), Stop> {
    let (named, apart) = script::named(&options.scripts).map_err(Stop::File)?;
    let mut loader = Loader::new(options.variables.clone());
    for (path, name) in &named {
        loader.load(path, name, !apart).map_err(|failed| match failed {
            Failed::File(error) => Stop::File(error),
            Failed::Script(error) => Stop::Script(error, loader.script.files.clone()),
        })?;
    }
    Ok((loader.script, named.into_iter().map(|(_, name)| name).collect(), apart))
}

async fn carry_out(
    options: &Options,
    plan: Plan,
    mut session: Session,
    dial: Arc<dyn Dial>,
) -> Result<u8, Stop> {
    let Plan { files, steps, graph, world, scripts } = plan;
    let count = graph.nodes.len();
    let secrets = options.variables.secrets().to_vec();
    let progress = Progress::new(options.audience, count, secrets.clone());
    let texts: Vec<&str> = graph.nodes.iter().map(|node| node.step.hash.as_str()).collect();
    let text_hash = hash(texts.concat().as_bytes());
    let mut recorder = Recorder::new(scripts, text_hash, options.user.clone(), secrets);
    let past = recall(options, &graph, &world, &mut session, &recorder.scripts).await?;
    let decisions = decide(options, &past, &graph, &world, &mut session).await?;
    recorder.resumes.clone_from(&past.resumes);
    recorder.options = named_options(options);
    if let Err(failed) = recorder.prepare(&mut session.connection, &world).await {
        // A lake that nobody can write has runs too, which are not remembered.
        match failed {
            Failure::Server(message) => {
                progress.line(&format!("this run is not recorded: {}", message.message))
            }
            lost => return Err(lost.into()),
        }
    }
    let totals = record::Totals { steps: count, ..record::Totals::default() };
    recorder.note_run("running", totals, None);
    progress.begin(&recorder.run_id);
    let database = world.database.clone();
    let threads = options.threads.max(1);
    let settings = steps.settings;
    let work = Work { graph, files, settings, decisions, recorder, progress, dial, threads, database };
    let began = Instant::now();
    let report = match options.transaction {
        true => work.run_together(session).await,
        false => work.run(session).await,
    };
    for (text, to_stderr) in &steps.trailing {
        if report.error.is_none() {
            let mut printed = print::Printed::default();
            printed.print(text, *to_stderr);
            work.progress.print(count, &printed);
        }
    }
    Ok(conclude(&work, report, began).await)
}

/// What earlier runs have done, where that matters.
async fn recall(
    options: &Options,
    graph: &Graph,
    world: &World,
    session: &mut Session,
    scripts: &str,
) -> Result<Past, Stop> {
    use crate::engine::plan::lake_tables::RECORDS;
    if (options.force && !options.resume) || !world.holds(RECORDS, "run_steps") {
        return Ok(Past::default());
    }
    let mut past = Past::ask(&mut session.connection, graph).await?;
    if options.resume {
        past.resume(&mut session.connection, scripts).await?;
    }
    Ok(past)
}

async fn decide(
    options: &Options,
    past: &Past,
    graph: &Graph,
    world: &World,
    session: &mut Session,
) -> Result<Vec<Decision>, Stop> {
    let named = past.tables(graph).into_iter().filter_map(|object| match object {
        Object::Table { catalog, schema, name }
            if *catalog != world.database || world.holds(schema, name) =>
        {
            Some([catalog, schema, name].map(|name| identifier(name)).join("."))
        }
        _ => None,
    });
    let named: Vec<String> = named.collect();
    // Where one of them cannot be read, nothing is known, and everything runs.
    let versions = match options.force {
        true => std::collections::BTreeMap::new(),
        false => past::versions(&mut session.connection, &named).await.unwrap_or_default(),
    };
    Ok(past.decide(graph, &versions, options.force))
}

/// The options that a record names.
fn named_options(options: &Options) -> String {
    let given =
        [("--transaction", options.transaction), ("--resume", options.resume), ("--force", options.force)];
    given.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// Records how a run ended, and says so.
async fn conclude(work: &Work, report: Report, began: Instant) -> u8 {
    let state = if report.error.is_none() { "finished" } else { "failed" };
    let error = report.error.as_ref().map(|error| error.message.as_str());
    work.recorder.note_run(state, report.totals, error);
    let mut sql = work.recorder.sql(&work.recorder.take_all());
    if sql.len() > 1 {
        // One commit, however many statements it takes.
        sql.insert(0, "BEGIN".to_owned());
        sql.push("COMMIT".to_owned());
    }
    if !sql.is_empty() {
        let recorded = async {
            let mut session = Session::open(&work.dial).await?;
            for sql in &sql {
                session.connection.run(sql, &mut session::Quiet).await?;
            }
            Ok::<_, Failure>(())
        };
        if let Err(failed) = recorded.await {
            let reason = match failed {
                Failure::Lost(reason) => reason,
                Failure::Server(message) => message.message,
            };
            work.progress.line(&format!("the end of this run is not recorded: {reason}"));
        }
    }
    work.progress.finish(&work.recorder.run_id, state, report.totals, began.elapsed());
    match report.error {
        None => DONE,
        Some(StepError { lost: true, .. }) => CONNECTION,
        Some(_) => SCRIPT,
    }
}

/// An error of a script as one of a step.
fn located(error: &ScriptError, files: &[SourceFile]) -> StepError {
    let place = error.place.filter(|place| place.file < files.len());
    let (line, column) = place.map_or((0, 0), |place| line_and_column(&files[place.file].text, place.offset));
    StepError {
        sqlstate: error.sqlstate.clone(),
        message: error.message.clone(),
        hint: error.hint.clone(),
        file: place.map_or(0, |place| place.file),
        line,
        column,
        ..StepError::default()
    }
}
