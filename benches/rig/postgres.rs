//! PostgreSQL 15, to compare with: a private cluster on a free port.

use std::fmt::Display;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tpchgen::csv::{LineItemCsv, OrderCsv};
use tpchgen::generators::{LineItemGenerator, OrderGenerator};

use super::Result;
use super::daemon::free_address;

const BINARIES: &str = "/usr/lib/postgresql/15/bin";
const READY_LIMIT: Duration = Duration::from_secs(30);

const LINEITEM: &str = "CREATE UNLOGGED TABLE lineitem (
    l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber int,
    l_quantity numeric(15,2), l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2),
    l_returnflag text, l_linestatus text, l_shipdate date, l_commitdate date, l_receiptdate date,
    l_shipinstruct text, l_shipmode text, l_comment text)";

const ORDERS: &str = "CREATE SCHEMA bench CREATE UNLOGGED TABLE orders (
    o_orderkey bigint PRIMARY KEY, o_custkey bigint, o_orderstatus text, o_totalprice numeric(15,2),
    o_orderdate date, o_orderpriority text, o_clerk text, o_shippriority int, o_comment text)";

/// A running cluster. Dropping it stops the server and removes the data.
pub struct Postgres {
    folder: TempDir,
    runner: Child,
    pub address: SocketAddr,
}

impl Postgres {
    /// Makes a cluster and starts its server; `None` where PostgreSQL 15 is not installed.
    pub fn start() -> Result<Option<Self>> {
        if !Path::new(BINARIES).join("postgres").exists() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let cluster = folder.path().join("cluster");
        std::fs::create_dir(&cluster)?;
        if is_root()? {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
            succeed(Command::new("chown").arg("postgres").arg(&cluster))?;
        }
        let mut initdb = unprivileged("initdb")?;
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&cluster);
        succeed(initdb.stdout(Stdio::null()))?;
        let address = free_address()?;
        let mut server = unprivileged("postgres")?;
        server.arg("-D").arg(&cluster).args(["-p", &address.port().to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=2GB",
            "autovacuum=off",
            "jit=off",
        ] {
            server.args(["-c", setting]);
        }
        let runner = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let postgres = Self { folder, runner, address };
        postgres.wait_until_ready()?;
        Ok(Some(postgres))
    }

    /// The process that all backends are children of.
    pub fn pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.cluster().join("postmaster.pid"))?;
        Ok(text.lines().next().ok_or("postmaster.pid is empty")?.trim().parse()?)
    }

    /// Fills a table `lineitem` in the database `postgres`.
    pub fn load_lineitem(&self, scale_factor: f64) -> Result<()> {
        self.psql(LINEITEM)?;
        self.copy("lineitem", LineItemGenerator::new(scale_factor, 1, 1).iter().map(LineItemCsv::new))
    }

    /// Fills a table `bench.orders`, with its key.
    pub fn load_orders(&self, scale_factor: f64) -> Result<()> {
        self.psql(ORDERS)?;
        self.copy("bench.orders", OrderGenerator::new(scale_factor, 1, 1).iter().map(OrderCsv::new))
    }

    fn copy(&self, table: &str, lines: impl Iterator<Item = impl Display>) -> Result<()> {
        let mut copy = self.command();
        copy.args(["-c", &format!("COPY {table} FROM STDIN (FORMAT csv)")]).stdin(Stdio::piped());
        let mut child = copy.stdout(Stdio::null()).spawn()?;
        let mut input = std::io::BufWriter::new(child.stdin.take().ok_or("stdin was asked for")?);
        for line in lines {
            writeln!(input, "{line}")?;
        }
        drop(input.into_inner()?);
        if !child.wait()?.success() {
            return Err(format!("PostgreSQL cannot load {table}").into());
        }
        self.psql(&format!("VACUUM (FREEZE, ANALYZE) {table}"))
    }

    fn psql(&self, sql: &str) -> Result<()> {
        succeed(self.command().args(["-q", "-c", sql]))
    }

    fn command(&self) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-d", "postgres"]);
        psql.args(["-p", &self.address.port().to_string()]);
        psql
    }

    fn cluster(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    fn wait_until_ready(&self) -> Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() || self.psql("SELECT 1").is_err() {
            if begin.elapsed() > READY_LIMIT {
                return Err("PostgreSQL does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            // SIGINT is PostgreSQL's fast shutdown.
            let _ = succeed(Command::new("kill").args(["-INT", &pid.to_string()]));
        } else {
            let _ = self.runner.kill();
        }
        let _ = self.runner.wait();
    }
}

/// A program of PostgreSQL, as a user that it accepts: it refuses to run as root.
fn unprivileged(program: &str) -> Result<Command> {
    let path = Path::new(BINARIES).join(program);
    if !is_root()? {
        return Ok(Command::new(path));
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(path).current_dir("/");
    Ok(command)
}

fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
