//! The daemon under test: the release binary, as a child, over a catalog folder of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::{Result, Settings};

const READY_LIMIT: Duration = Duration::from_secs(30);

/// A running daemon. Dropping it ends the process.
pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
    _catalog: TempDir,
}

impl Daemon {
    /// Starts the daemon over the lake at `root`, and waits until its port answers.
    pub fn start(settings: &Settings, root: &Path) -> Result<Self> {
        let catalog = tempfile::tempdir()?;
        let root = root.canonicalize()?;
        std::fs::write(catalog.path().join("lake.toml"), format!("connector = \"lake\"\nroot = {root:?}\n"))?;
        std::fs::write(catalog.path().join("tpch.toml"), "connector = \"tpch\"\n")?;
        Self::serve(settings, catalog, &[])
    }

    /// Starts the daemon over a folder of catalogs, with flags of its own.
    pub fn serve(settings: &Settings, catalog: TempDir, flags: &[&str]) -> Result<Self> {
        let address = free_address()?;
        let child = Command::new(env!("CARGO_BIN_EXE_lacus"))
            .arg("serve")
            .arg(catalog.path())
            .args(["--listen", &address.to_string(), "--http", "127.0.0.1:0"])
            .args(["--threads", &settings.threads.to_string()])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .env("LACUS_LOG", "warn")
            .spawn()?;
        let mut daemon = Self { child, address, _catalog: catalog };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens a connection to the catalog `lake`, with the tables of the benchmark in its search path.
    pub async fn connect(&self) -> Result<Client> {
        let client = connect(self.address, "lake", "lacus").await?;
        client.batch_execute(&format!("SET search_path TO {}", super::data::SCHEMA)).await.map_err(told)?;
        Ok(client)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the daemon ended with {status}").into());
            }
            if begin.elapsed() > READY_LIMIT {
                return Err("the daemon does not listen".into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a connection; the task that drives it ends with the client.
pub async fn connect(address: SocketAddr, database: &str, user: &str) -> Result<Client> {
    let text = format!("host={} port={} user={user} dbname={database}", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// What the server said is wrong, which the driver's own message leaves out.
pub fn told(error: tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{}: {}", told.code().code(), told.message()),
        None => error.to_string(),
    }
}

/// A loopback address that nobody listens on at this moment.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
