//! Drivers and tools of others, unmodified: each connects, introspects, reads, writes, cancels, copies and
//! encrypts as far as it can, and the README's table says what ran.
//!
//! Programs lie in `tests/clients`; each prints a word for every step that it has gone through. A client
//! that is not installed is skipped: Python packages are those of `LACUS_TEST_PYTHON`, node's lie in
//! `LACUS_TEST_NODE_MODULES`, pgjdbc in the file that `LACUS_TEST_PGJDBC` names.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::daemon::{Catalogs, Daemon, Setup};

/// The steps, in the order of the README's columns.
const STEPS: [&str; 7] = ["connect", "introspect", "read", "write", "cancel", "COPY", "TLS"];

/// A daemon that speaks TLS too, and where its client may keep files.
struct Served {
    catalogs: Catalogs,
    daemon: Daemon,
}

impl Served {
    fn start() -> Self {
        let catalogs = Catalogs::on_disk();
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate is made");
        let (certificate, key) = (catalogs.path().join("server.crt"), catalogs.path().join("server.key"));
        std::fs::write(&certificate, made.cert.pem()).expect("the certificate is written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("the key is written");
        let paths = [&certificate, &key].map(|path| path.to_str().expect("a path of ASCII").to_owned());
        let flags = ["--tls-cert", paths[0].as_str(), "--tls-key", paths[1].as_str()];
        let daemon = Setup::default().with(&flags).serve(catalogs.path());
        Self { catalogs, daemon }
    }

    /// Runs a client's program with the daemon's host, port, user and catalog.
    fn run(&self, mut program: Command) -> Output {
        let port = self.daemon.address.port().to_string();
        program.args(["127.0.0.1", &port, "ada", "lake"]).env("LACUS_TEST_HOME", self.catalogs.path());
        program.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("the client's program starts")
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// The README's row of a client that has gone through these steps.
fn row(client: &str, steps: &[String]) -> String {
    let cells = STEPS.map(|step| if steps.iter().any(|one| one == step) { "yes" } else { "–" });
    format!("| {client} | {} |", cells.join(" | "))
}

/// Checks that the README says of a client what it went through, no more and no less.
fn tell(client: &str, ran: &Output) {
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(
        ran.status.success(),
        "{client}, after {}: {err}",
        out.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    let steps: Vec<String> = out.lines().map(str::to_owned).collect();
    assert!(steps.iter().all(|step| STEPS.contains(&step.as_str())), "{client}: {out}");
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let wanted = row(client, &steps);
    assert!(readme.lines().any(|line| line == wanted), "the README's table has no row {wanted}");
}

/// Runs a Python client whose module is installed.
fn python(client: &str, module: &str, program: &str) {
    let Some(interpreter) = std::env::var_os("LACUS_TEST_PYTHON").filter(|path| !path.is_empty()) else {
        println!("skipped: LACUS_TEST_PYTHON names no interpreter");
        return;
    };
    let find = format!("import {module}");
    let found = Command::new(&interpreter).args(["-c", &find]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        println!("skipped: {module} is not installed");
        return;
    }
    let mut command = Command::new(interpreter);
    command.arg(script(program));
    tell(client, &Served::start().run(command));
}

#[test]
fn psycopg() {
    python("psycopg 3", "psycopg", "psycopg3.py");
}

#[test]
fn psycopg2() {
    python("psycopg2", "psycopg2", "psycopg2_client.py");
}

#[test]
fn asyncpg() {
    python("asyncpg", "asyncpg", "asyncpg_client.py");
}

#[test]
fn pandas() {
    python("pandas, SQLAlchemy", "pandas, sqlalchemy, psycopg", "pandas_client.py");
}

#[test]
fn adbc() {
    python("ADBC", "adbc_driver_postgresql, pyarrow", "adbc_client.py");
}

#[test]
fn polars() {
    python("polars", "polars, adbc_driver_postgresql, connectorx, pyarrow", "polars_client.py");
}

#[test]
fn connectorx() {
    python("connectorx", "connectorx, pandas, pyarrow", "connectorx_client.py");
}

#[test]
fn psqlodbc() {
    let listed = Command::new("odbcinst").args(["-q", "-d"]).output();
    if !listed.is_ok_and(|listed| String::from_utf8_lossy(&listed.stdout).contains("PostgreSQL Unicode")) {
        println!("skipped: psqlODBC is not installed");
        return;
    }
    python("psqlODBC, pyodbc", "pyodbc", "odbc_client.py");
}

#[test]
fn pgcli() {
    python("pgcli", "pgcli", "pgcli_client.py");
}

#[test]
fn node_postgres() {
    let Some(modules) = std::env::var_os("LACUS_TEST_NODE_MODULES").filter(|path| !path.is_empty()) else {
        println!("skipped: LACUS_TEST_NODE_MODULES names no folder");
        return;
    };
    let mut node = Command::new("node");
    node.arg(script("pg_node.js")).env("NODE_PATH", modules);
    tell("node pg", &Served::start().run(node));
}

#[test]
fn pgjdbc() {
    let Some(driver) = std::env::var_os("LACUS_TEST_PGJDBC").filter(|path| !path.is_empty()) else {
        println!("skipped: LACUS_TEST_PGJDBC names no file");
        return;
    };
    let mut java = Command::new("java");
    java.arg("-cp").arg(driver).arg(script("PgJdbc.java"));
    tell("pgjdbc", &Served::start().run(java));
}

/// psql's `\copy`, which reads and writes files of the client.
#[test]
fn psql_copies() {
    if !Command::new("psql")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: psql is not installed");
        return;
    }
    let served = Served::start();
    let folder = served.catalogs.path().display().to_string();
    let lines = format!(
        "CREATE SCHEMA client_psql;\nCREATE TABLE client_psql.t (n int, s text);\n\
         COPY client_psql.t FROM STDIN;\n1\ta\n2\t\\N\n\\.\n\
         \\copy client_psql.t TO '{folder}/t.csv' CSV HEADER\n\
         \\copy client_psql.t FROM '{folder}/t.csv' WITH (FORMAT csv, HEADER MATCH)\n\
         \\copy client_psql.t TO '{folder}/t.bin' (FORMAT binary)\n\
         \\copy client_psql.t FROM '{folder}/t.bin' BINARY\n\
         SELECT count(*), count(s) FROM client_psql.t;\n"
    );
    let port = served.daemon.address.port().to_string();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port, "-U", "ada"]);
    let mut psql = psql.arg("lake").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    psql.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let ran = psql.wait_with_output().unwrap();
    assert!(ran.status.success());
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "8|4");
    assert_eq!(std::fs::read_to_string(format!("{folder}/t.csv")).unwrap(), "n,s\n1,a\n2,\n");
}

/// sqlsmith reads the catalog and sends statements that nobody would write: each has an answer, and none
/// costs the connection.
#[test]
fn sqlsmith() {
    if Command::new("sqlsmith").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: sqlsmith is not installed");
        return;
    }
    let statements = std::env::var("LACUS_TEST_SQLSMITH").unwrap_or_else(|_| "20".to_owned());
    let mut served = Served::start();
    let target = format!("host=127.0.0.1 port={} user=ada dbname=lake", served.daemon.address.port());
    let mut smith = Command::new("sqlsmith");
    smith.arg(format!("--target={target}")).arg(format!("--max-queries={statements}"));
    let ran = smith.args(["--seed=7", "--exclude-catalog"]).output().expect("sqlsmith starts");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{told}");
    assert!(!told.contains("server closed the connection"), "{told}");
    assert!(served.daemon.terminate(Duration::from_secs(30)), "the daemon lives and ends well");
}
