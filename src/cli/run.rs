//! `lacus run`: ELT scripts, in this process or against a daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::access::AuthMode;
use crate::config::{Config, Options};
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::pipeline::client::address::Address;
use crate::pipeline::client::{Connection, Failure, Login};
use crate::pipeline::script::Variables;
use crate::pipeline::session::Dial;
use crate::pipeline::{self, Audience};
use crate::runtime::cpu::STACK_BYTES;
use crate::server::pg::connection;
use crate::server::pg::startup::{Door, Opened, startup};
use crate::telemetry;

/// Threads that serve sockets and stores; queries have their own.
const IO_THREADS: usize = 2;
/// Steps at one time against a daemon, where nothing else is said.
const STEPS_AT_ONCE: usize = 4;

/// What `lacus run` takes beside the configuration.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// SQL files, in their order, as psql -f; of a folder all .sql files below it, in the order of their tables
    #[arg(required = true, value_name = "FILE|DIR")]
    scripts: Vec<PathBuf>,
    /// A folder of catalogs, a folder of data, or a URL, as for serve [default: catalog]
    #[arg(long, env = "LACUS_CATALOG", value_name = "DIR|URL", conflicts_with = "server")]
    catalog: Option<String>,
    /// The catalog, or catalog@branch, that scripts are connected to [default: lake, or the first]
    #[arg(long, short, env = "LACUS_DATABASE", value_name = "NAME")]
    database: Option<String>,
    /// Run against a daemon: postgres://user@host:5433/lake; the password from there, PGPASSWORD or ~/.pgpass
    #[arg(long, env = "LACUS_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Set a variable of the scripts, :name; LACUS_VAR_name in the environment does the same
    #[arg(long, short = 'v', value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// Set a variable to the value of the environment's variable of that name, and show and record it nowhere
    #[arg(long, value_name = "NAME")]
    secret_var: Vec<String>,
    /// Print the order of the steps, what each reads and writes, and how much; run nothing
    #[arg(long)]
    dry_run: bool,
    /// Make the whole run one transaction, and so one commit
    #[arg(long, short = '1')]
    transaction: bool,
    /// Go on where the last run of these scripts broke
    #[arg(long)]
    resume: bool,
    /// Run unchanged steps too
    #[arg(long)]
    force: bool,
    /// Print events as JSON lines on standard output
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print nothing but answers and errors
    #[arg(long, short)]
    quiet: bool,
}

/// Runs scripts; the exit code is psql's: 1 for the command line and files, 2 for the connection, 3 for a
/// script.
pub fn run(arguments: RunArguments, options: Options, config: Option<PathBuf>) -> ExitCode {
    match started(arguments, options, config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            pipeline::tell(&format!("lacus: {error}\n"), true);
            ExitCode::from(pipeline::FATAL)
        }
    }
}

fn started(arguments: RunArguments, options: Options, config: Option<PathBuf>) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("lacus-io")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    let variables = variables(&arguments)?;
    let code = match &arguments.server {
        Some(url) => {
            let mut address = Address::parse(url)?;
            address.login.database = arguments.database.clone().or(address.login.database);
            address.login.settings.push(("application_name".to_owned(), "lacus run".to_owned()));
            let threads = options.threads.unwrap_or(STEPS_AT_ONCE);
            let user = address.login.user.clone();
            runtime.block_on(pipeline::run(wanted(arguments, variables, threads, user), Arc::new(address)))
        }
        None => {
            let config = Arc::new(Config::load(options, config.as_deref(), arguments.catalog.as_deref())?);
            runtime.block_on(in_process(arguments, variables, config))?
        }
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(code)
}

fn wanted(arguments: RunArguments, variables: Variables, threads: usize, user: String) -> pipeline::Options {
    let audience = match (arguments.json, arguments.quiet) {
        (true, _) => Audience::Programs,
        (_, true) => Audience::Nobody,
        _ => Audience::People,
    };
    pipeline::Options {
        scripts: arguments.scripts,
        variables,
        threads,
        dry_run: arguments.dry_run,
        transaction: arguments.transaction,
        resume: arguments.resume,
        force: arguments.force,
        audience,
        user,
    }
}

fn variables(arguments: &RunArguments) -> Result<Variables> {
    let mut variables = Variables::of_environment();
    for given in &arguments.var {
        let (name, value) = given
            .split_once('=')
            .ok_or_else(|| Error::Config(format!("--var {given}: give a name and a value, name=value")))?;
        variables.set(name, value.to_owned());
    }
    for name in &arguments.secret_var {
        let value = std::env::var(name).map_err(|_| {
            Error::Config(format!("--secret-var {name}: the environment has no such variable"))
        })?;
        variables.set_secret(name, value);
    }
    Ok(variables)
}

/// Runs scripts on an engine of this process.
async fn in_process(arguments: RunArguments, variables: Variables, config: Arc<Config>) -> Result<u8> {
    telemetry::init_quietly(config.log_format);
    let threads = config.threads;
    let engine = engine::start(config, tokio::runtime::Handle::current())?;
    let names = engine.catalogs.names();
    let first = || names.iter().find(|name| *name == "lake").or(names.first()).cloned();
    let database = arguments.database.clone().or_else(first);
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let user = user.unwrap_or_else(|| "lacus".to_owned());
    let settings = vec![("application_name".to_owned(), "lacus run".to_owned())];
    let login = Login { user: user.clone(), database, password: None, settings };
    let own = InProcess { engine: Arc::clone(&engine), door: Arc::new(Door::new(AuthMode::Trust)?), login };
    let code = pipeline::run(wanted(arguments, variables, threads, user), Arc::new(own)).await;
    engine.runtime.remove_spill_folder().await;
    Ok(code)
}

/// Sessions of an engine in this process, each over a pair of sockets that nobody else can reach.
struct InProcess {
    engine: Arc<Engine>,
    door: Arc<Door>,
    login: Login,
}

#[async_trait]
impl Dial for InProcess {
    async fn dial(&self) -> Result<Connection, Failure> {
        let failed = |error: std::io::Error| Failure::Lost(error.to_string());
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let client = TcpStream::connect(listener.local_addr().map_err(failed)?).await.map_err(failed)?;
        let own = client.local_addr().map_err(failed)?;
        client.set_nodelay(true).map_err(failed)?;
        // Somebody else may have found the port while it was open.
        let server = loop {
            let (server, peer) = listener.accept().await.map_err(failed)?;
            if peer == own {
                break server;
            }
        };
        drop(listener);
        server.set_nodelay(true).map_err(failed)?;
        let (engine, door) = (Arc::clone(&self.engine), Arc::clone(&self.door));
        tokio::spawn(async move {
            if let Ok(Opened::Session(session)) = startup(server, own, &door).await {
                Box::pin(connection::serve(*session, engine, CancellationToken::new())).await;
            }
        });
        Connection::open(Box::new(client), &self.login).await
    }
}

#[async_trait]
impl Dial for Address {
    async fn dial(&self) -> Result<Connection, Failure> {
        self.connect().await
    }
}
