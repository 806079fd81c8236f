//! What the benchmarks share: the data, the daemon under test, and a look at processes.
//!
//! Settings come from the environment: `LACUS_BENCH_SF` (scale factor, 1), `LACUS_BENCH_DATA` (where
//! the data is kept between runs, a folder under the system's temporary one), `LACUS_BENCH_THREADS`
//! (2), `LACUS_BENCH_RUNS` (hot runs, 5) and `LACUS_BENCH_PYTHON` (an interpreter that has duckdb and
//! psycopg, `python3`).

#![allow(dead_code, reason = "each benchmark uses its part")]

pub mod daemon;
pub mod data;
pub mod postgres;
pub mod process;

use std::path::PathBuf;
use std::str::FromStr;

pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub scale_factor: f64,
    pub data: PathBuf,
    pub threads: usize,
    pub runs: usize,
    pub python: String,
    /// The words of the command line that select parts of the benchmark.
    pub selected: Vec<String>,
}

impl Settings {
    /// Reads the environment and the command line.
    pub fn read() -> Result<Self> {
        Ok(Self {
            scale_factor: variable("LACUS_BENCH_SF", 1.0)?,
            data: variable("LACUS_BENCH_DATA", std::env::temp_dir().join("lacus-bench"))?,
            threads: variable("LACUS_BENCH_THREADS", 2)?,
            runs: variable("LACUS_BENCH_RUNS", 5)?,
            python: variable("LACUS_BENCH_PYTHON", "python3".to_owned())?,
            // cargo adds `--bench`.
            selected: std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect(),
        })
    }

    /// Whether a part runs: all do when none is named.
    pub fn selects(&self, part: &str) -> bool {
        self.selected.is_empty() || self.selected.iter().any(|word| word == part)
    }
}

fn variable<T: FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} cannot be \"{text}\"").into()),
        Err(_) => Ok(default),
    }
}

/// The value in the middle; of an even number of values the upper one.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs a value");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
