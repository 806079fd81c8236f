//! The command line: `serve`, `run`, `check` and `user`.

mod check;
mod run;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::access::user_entry;
use crate::config::{Config, Options};
use crate::error::Result;

/// A SQL engine daemon over a data lake, for psql, BI tools, dbt and drivers.
#[derive(Debug, Parser)]
#[command(name = "lacus", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve catalogs over the Postgres protocol until SIGTERM or Ctrl-C
    Serve {
        /// A folder of catalogs (NAME.toml), a folder of data, or a URL such as s3://bucket/prefix/ [default: catalog]
        source: Option<String>,
        /// The configuration file [default: lacus.toml, if there is one]
        #[arg(long, env = "LACUS_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Run ELT SQL scripts on a catalog in this process, or against a daemon
    Run {
        #[command(flatten)]
        arguments: Box<run::RunArguments>,
        /// The configuration file [default: lacus.toml, if there is one]
        #[arg(long, env = "LACUS_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Read configuration and catalogs, reach every root, report, change nothing
    Check {
        /// As for serve [default: catalog]
        source: Option<String>,
        /// The configuration file [default: lacus.toml, if there is one]
        #[arg(long, env = "LACUS_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Read a password from standard input and print the user's entry for the users file
    User {
        /// Name of the user
        name: String,
    },
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Serve { source, config, options } => {
            configured(*options, config, source).and_then(serve::serve)
        }
        Command::Run { arguments, config, options } => return run::run(*arguments, *options, config),
        Command::Check { source, config, options } => {
            configured(*options, config, source).and_then(check::check)
        }
        Command::User { name } => user_entry(&name, std::io::stdin().lock()).map(|entry| println!("{entry}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lacus: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn configured(options: Options, file: Option<PathBuf>, source: Option<String>) -> Result<Config> {
    Config::load(options, file.as_deref(), source.as_deref())
}
