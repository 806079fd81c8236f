//! The manual: `tests/sql/**/*.slt`, run over the wire against a lake on disk and against one in S3.
//!
//! A file sees what a client sees: values as the server writes them, `NULL` for a null, `(empty)` for an
//! empty text, errors as `SQLSTATE: message`. White space inside a value counts as one blank. The letters
//! behind `query` stand for the columns, `I` for whole numbers, `R` for other numbers, `T` for the rest;
//! only how many there are is checked. `connection NAME` switches to another session of the same user.
//! Each file has a fresh lake and a daemon of its own.

use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::daemon::{Catalogs, Daemon, Setup, sample};
use crate::s3::S3Target;

#[tokio::test(flavor = "multi_thread")]
async fn every_file_holds_on_disk() {
    let mut failures = Vec::new();
    for file in manual() {
        let catalogs = Catalogs::on_disk();
        failures.extend(run(&file, &Setup::default().serve(catalogs.path())).await.err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_holds_in_s3() {
    let target = S3Target::for_tests().await;
    let mut failures = Vec::new();
    for (number, file) in manual().iter().enumerate() {
        let prefix = format!("lake{number}");
        upload_sample(&target, &prefix).await;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let store = target.write_store_table(folder.path());
        let definition = format!("root = \"{}{prefix}/\"\n\n[store]\n{store}", target.root());
        let catalogs = Catalogs::with_lake(&definition);
        target.write_store_table(catalogs.path());
        failures.extend(run(file, &Setup::default().serve(catalogs.path())).await.err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The files of the manual in the order of their paths, at least one.
pub fn manual() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql"), &mut files);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "slt"));
    // To work on one file: the part of its path that `LACUS_TEST_SLT` names.
    if let Ok(part) = std::env::var("LACUS_TEST_SLT") {
        files.retain(|file| file.to_string_lossy().contains(&part));
    }
    files.sort();
    assert!(!files.is_empty(), "no file of the manual was found");
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}

/// Runs one file; the error names the file and the line.
async fn run(file: &Path, daemon: &Daemon) -> Result<(), String> {
    let mut runner = Runner::new(|| async {
        let client = daemon.try_connect("lake").await.map_err(Failure)?;
        Ok(Session { client })
    });
    runner.with_column_validator(|actual, expected| actual.len() == expected.len());
    runner.run_file_async(file).await.map_err(|error| error.to_string())
}

/// Puts the sample's open tables under `prefix` of the bucket.
async fn upload_sample(target: &S3Target, prefix: &str) {
    let store = AmazonS3Builder::new()
        .with_endpoint(&target.endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(&target.bucket)
        .with_access_key_id(&target.access_key)
        .with_secret_access_key(&target.secret_key)
        .build()
        .expect("the store's options are complete");
    let root = sample().join("sample");
    let mut files = Vec::new();
    collect(&root.join("raw"), &mut files);
    for file in files {
        let name = file.strip_prefix(&root).expect("the file lies under the root").to_string_lossy();
        let bytes = std::fs::read(&file).expect("the file can be read");
        let key = object_store::path::Path::parse(format!("{prefix}/{name}")).expect("the name is a key");
        store.put(&key, bytes.into()).await.expect("the bucket takes a file");
    }
}

/// A connection as the runner wants it.
struct Session {
    client: Client,
}

#[async_trait]
impl AsyncDB for Session {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    /// Runs the statements of `sql` and returns the result of the last one.
    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let mut last = DBOutput::StatementComplete(0);
        let mut is_new = true;
        for message in self.client.simple_query(sql).await.map_err(Failure)? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    last =
                        DBOutput::Rows { types: vec![DefaultColumnType::Any; columns.len()], rows: vec![] };
                    is_new = false;
                }
                SimpleQueryMessage::Row(row) => {
                    let DBOutput::Rows { rows, .. } = &mut last else { panic!("a row without columns") };
                    rows.push((0..row.len()).map(|column| shown(row.get(column))).collect());
                }
                SimpleQueryMessage::CommandComplete(_) if !is_new => is_new = true,
                SimpleQueryMessage::CommandComplete(count) => last = DBOutput::StatementComplete(count),
                _ => {}
            }
        }
        Ok(last)
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &'static str {
        "lacus"
    }

    fn error_sql_state(error: &Failure) -> Option<String> {
        error.0.code().map(|code| code.code().to_owned())
    }
}

fn shown(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.to_owned(),
    }
}

/// A client's error, shown as `SQLSTATE: message`.
#[derive(Debug)]
struct Failure(tokio_postgres::Error);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_db_error() {
            Some(error) => write!(f, "{}: {}", error.code().code(), error.message()),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for Failure {}
