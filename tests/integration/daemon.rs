//! A daemon of its own for a test: the real binary, a catalog in a temporary folder, free ports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// How a daemon is started.
#[derive(Debug, Default)]
pub struct Setup {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Setup {
    /// Adds command line arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts `lacus serve source` and waits until it takes connections.
    ///
    /// Panics with what the daemon printed when it does not come up.
    pub fn serve(self, source: &Path) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lacus"));
        command
            .arg("serve")
            .arg(source)
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--listing-ttl-ms", "0", "--log-format", "json"])
            .args(&self.arguments)
            .env("LACUS_THREADS", "2")
            .env("LACUS_LOG", "info")
            .envs(self.variables)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the daemon's binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let mut printed = String::new();
        let mut addresses = Vec::new();
        while addresses.len() < 2 {
            let mut line = String::new();
            if log.read_line(&mut line).expect("the log is text") == 0 {
                let status = child.wait().expect("the daemon can be waited for");
                panic!("the daemon did not come up ({status}):\n{printed}{line}");
            }
            printed.push_str(&line);
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = entry["address"].as_str() {
                addresses.push(address.parse().expect("the log holds an address"));
            }
        }
        // The pipe has to be emptied, or the daemon would wait for room in it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Daemon { child, address: addresses[0], http: addresses[1] }
    }
}

/// A running daemon; dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
    pub http: SocketAddr,
}

impl Daemon {
    /// Connects to a catalog as the user `ada`.
    pub async fn connect(&self, catalog: &str) -> Client {
        self.try_connect(catalog).await.expect("the daemon lets a client in")
    }

    pub async fn try_connect(&self, catalog: &str) -> Result<Client, tokio_postgres::Error> {
        let text = format!("host=127.0.0.1 port={} user=ada dbname={catalog}", self.address.port());
        let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the daemon without a word, as a power cut does.
    pub fn kill(&mut self) {
        self.child.kill().expect("the daemon can be killed");
        self.child.wait().expect("the daemon can be waited for");
    }

    /// Asks the daemon to stop (SIGTERM) and waits for it, at most `limit`; returns whether it ended well.
    pub fn terminate(&mut self, limit: Duration) -> bool {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.is_ok_and(|status| status.success()), "the daemon can be signalled");
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the daemon can be waited for") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// A value of `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        let mut socket = TcpStream::connect(self.http).expect("the daemon serves HTTP");
        let request = "GET /metrics HTTP/1.1\r\nHost: lacus\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).expect("the daemon reads a request");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("the daemon answers in text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
    }

    /// Memory that the daemon has in RAM (Linux only).
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most that it had in RAM, since its start or since [`forget_peak`](Self::forget_peak).
    pub fn peak_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
            .expect("a peak can be forgotten");
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes.expect("the system says how much memory a process has") * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A folder of catalogs: `lake` over a fresh, writable root with a copy of the sample's open tables, and `tpch`.
#[derive(Debug)]
pub struct Catalogs {
    pub folder: TempDir,
}

impl Catalogs {
    /// A lake on disk.
    pub fn on_disk() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        copy(&sample().join("sample"), &folder.path().join("sample"));
        std::fs::copy(sample().join("lake.toml"), folder.path().join("lake.toml"))
            .expect("the definition can be copied");
        let catalogs = Self { folder };
        catalogs.add_declarations();
        catalogs
    }

    /// A lake whose root and store a definition gives, such as one in S3.
    pub fn with_lake(definition: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("lake.toml"), definition).expect("the definition can be written");
        let catalogs = Self { folder };
        catalogs.add_declarations();
        catalogs
    }

    fn add_declarations(&self) {
        copy(&sample().join("lake"), &self.path().join("lake"));
        std::fs::write(self.path().join("tpch.toml"), "connector = \"tpch\"\n")
            .expect("the definition can be written");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The project's own catalog folder.
pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog")
}

/// Copies a folder, but for what a daemon wrote into it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        let target = to.join(entry.file_name());
        if entry.file_name() == "_lacus" {
            continue;
        }
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("a file can be copied")),
        }
    }
}

/// The rows of the last result of a simple query, as text.
pub async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    try_rows(client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

pub async fn try_rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
        }
    }
    Ok(rows)
}

/// The SQLSTATE of a statement that must fail.
pub async fn code(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => panic!("{sql}: did not fail"),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}
