//! `lacus run`: scripts in this process and against a daemon, killed and resumed, unchanged and skipped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::daemon::{Catalogs, Daemon, Setup, rows};

/// Where scripts run.
enum Target<'a> {
    /// In the process of `lacus run`, over this folder of catalogs.
    Here(&'a Path),
    Daemon(&'a Daemon),
}

impl Target<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lacus"));
        command.arg("run").env("USER", "ada").env("LACUS_LOG", "error");
        match self {
            Self::Here(catalogs) => command.arg("--catalog").arg(catalogs),
            Self::Daemon(daemon) => command
                .args(["--server", &format!("postgres://ada@127.0.0.1:{}/lake", daemon.address.port())]),
        };
        command.args(["--threads", "2"]);
        command
    }

    fn run(&self, scripts: &[&Path], arguments: &[&str]) -> Output {
        self.command().args(scripts).args(arguments).output().expect("lacus run starts")
    }

    /// Runs scripts that must succeed; returns what each step came to, by its number.
    fn states(&self, script: &Path, arguments: &[&str]) -> BTreeMap<u64, String> {
        let output = self.run(&[script], &[&["--json"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut states = BTreeMap::new();
        for event in text(&output.stdout).lines().map(event) {
            if event["event"] == "step" {
                let number = event["step"].as_u64().expect("a step has a number");
                states.insert(number, event["state"].as_str().unwrap_or_default().to_owned());
            }
        }
        states
    }
}

fn event(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes a script into a folder.
fn script(folder: &Path, name: &str, sql: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
    std::fs::write(&path, sql).expect("a script can be written");
    path
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

const ANSWERS: &str = r"CREATE SCHEMA psql;
CREATE TABLE psql.x AS SELECT n, 'a' || n AS t, NULL::text AS nothing FROM generate_series(1, 3) AS g (n);
\set first 2
\echo from :first on
SELECT * FROM psql.x WHERE n >= :first ORDER BY n;
SELECT 'two
lines' AS a, 1.50 AS num, true AS b;
SET search_path = psql, raw;
SHOW search_path;
SELECT count(*) FROM airlines;
UPDATE x SET t = 'é' WHERE n = :first RETURNING *;
BEGIN; SAVEPOINT s; DELETE FROM x; ROLLBACK TO s; COMMIT;
\if :{?first}
SELECT 1 AS one \; SELECT 2 AS two;
\else
SELECT 'never';
\endif
CREATE TEMP TABLE tt AS SELECT 1 AS a;
INSERT INTO tt SELECT n FROM x;
SELECT * FROM tt ORDER BY a;
PREPARE p AS SELECT count(*) FROM x;
EXECUTE p;
DROP SCHEMA psql CASCADE;
";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_prints_what_psql_prints() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let daemon = Setup::default().serve(catalogs.path());
    let file = script(folder.path(), "answers.sql", ANSWERS);
    let run = Target::Daemon(&daemon).run(&[&file], &["--quiet"]);
    assert_eq!((run.status.code(), text(&run.stderr)), (Some(0), String::new()));
    let printed = text(&run.stdout);
    assert!(
        printed.contains(
            "from 2 on\n n | t  | nothing \n---+----+---------\n 2 | a2 | \n 3 | a3 | \n(2 rows)\n\n"
        ),
        "{printed}"
    );
    let port = daemon.address.port().to_string();
    let psql = Command::new("psql")
        .args([
            "-X",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "ada",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            "lake",
            "-f",
        ])
        .arg(&file)
        .output();
    match psql {
        Ok(psql) => assert_eq!(printed, text(&psql.stdout), "{}", text(&psql.stderr)),
        Err(error) => println!("not compared with psql: {error}"),
    }
    // The same in this process.
    drop(daemon);
    let here = Target::Here(catalogs.path()).run(&[&file], &["--quiet"]);
    assert_eq!(text(&here.stdout), printed, "{}", text(&here.stderr));
}

/// A script of 40 steps, some of which would do harm if they ran twice.
fn forty() -> String {
    let mut sql = "CREATE SCHEMA k;\nCREATE TABLE k.log (step integer, n bigint);\n".to_owned();
    for step in 2..20 {
        writeln!(
            sql,
            "CREATE TABLE k.t{step} AS SELECT n, n * {step} AS v FROM generate_series(1, {}) AS g (n);\n\
             INSERT INTO k.log SELECT {step}, count(*) FROM k.t{step};",
            step * 100
        )
        .expect("a text takes text");
    }
    sql + "CREATE TEMP TABLE s AS SELECT sum(n) AS n FROM k.log;\nINSERT INTO k.log SELECT 100, n FROM s;\n"
}

/// Every row that the script leaves.
async fn left_by_forty(daemon: &Daemon) -> Vec<Vec<Option<String>>> {
    let client = daemon.connect("lake").await;
    let mut left = rows(&client, "SELECT step, n FROM k.log ORDER BY 1, 2").await;
    for step in 2..20 {
        left.extend(rows(&client, &format!("SELECT count(*), sum(n * v) FROM k.t{step}")).await);
    }
    left
}

/// The steps at which runs are killed: some, or all where `LACUS_TEST_RUN_KILLS` is `all`.
fn kills() -> Vec<u64> {
    match std::env::var("LACUS_TEST_RUN_KILLS").as_deref() {
        Ok("all") => (1..=40).collect(),
        _ => vec![1, 2, 17, 40],
    }
}

/// Runs a script until an event of a step, and does something then.
fn until(
    target: &Target<'_>,
    file: &Path,
    (step, state): (u64, &str),
    then: impl FnOnce(&mut std::process::Child),
) {
    let mut command = target.command();
    command.arg(file).arg("--json").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("lacus run starts");
    let events = BufReader::new(child.stdout.take().expect("standard output is piped"));
    for line in events.lines() {
        let event = event(&line.expect("events are text"));
        if event["step"] == step && event["state"] == state {
            then(&mut child);
            break;
        }
    }
    child.wait().expect("a child can be waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_anywhere_goes_on() {
    let folder = scratch();
    let file = script(folder.path(), "forty.sql", &forty());
    let catalogs = Catalogs::on_disk();
    assert!(Target::Here(catalogs.path()).run(&[&file], &[]).status.success());
    let undisturbed = left_by_forty(&Setup::default().serve(catalogs.path())).await;
    assert_eq!(undisturbed.len(), 19 + 18);
    for step in kills() {
        for state in ["running", "succeeded"] {
            let catalogs = Catalogs::on_disk();
            let here = Target::Here(catalogs.path());
            until(&here, &file, (step, state), |child| child.kill().expect("a child can be killed"));
            let states = here.states(&file, &["--resume"]);
            assert_eq!(states.len(), 40, "{states:?}");
            let left = left_by_forty(&Setup::default().serve(catalogs.path())).await;
            assert_eq!(left, undisturbed, "killed when step {step} was {state}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_daemon_is_killed_anywhere_goes_on() {
    let folder = scratch();
    let file = script(folder.path(), "forty.sql", &forty());
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    assert!(Target::Daemon(&daemon).run(&[&file], &[]).status.success());
    let undisturbed = left_by_forty(&daemon).await;
    for step in kills() {
        let catalogs = Catalogs::on_disk();
        let mut daemon = Setup::default().serve(catalogs.path());
        let pid = daemon.process_id();
        until(&Target::Daemon(&daemon), &file, (step, "running"), |_| {
            let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
            assert!(killed.is_ok_and(|status| status.success()), "the daemon can be killed");
        });
        daemon.kill();
        let daemon = Setup::default().serve(catalogs.path());
        Target::Daemon(&daemon).states(&file, &["--resume"]);
        assert_eq!(left_by_forty(&daemon).await, undisturbed, "killed at step {step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_changed_runs_again() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let here = Target::Here(catalogs.path());
    let sql = "CREATE SCHEMA IF NOT EXISTS m;\n\
               CREATE OR REPLACE TABLE m.a AS SELECT * FROM raw.airlines;\n\
               CREATE OR REPLACE TABLE m.b AS SELECT * FROM raw.planes;\n\
               CREATE OR REPLACE TABLE m.c AS SELECT count(*) AS n FROM m.a;\n\
               UPDATE m.c SET n = n + 1;\n\
               ASSERT (SELECT * FROM m.c WHERE n < 2);\n";
    let file = script(folder.path(), "m.sql", sql);
    let ran = |states: &BTreeMap<u64, String>| -> Vec<u64> {
        states.iter().filter(|(_, state)| *state == "succeeded").map(|(step, _)| *step).collect()
    };
    assert_eq!(ran(&here.states(&file, &[])), [1, 2, 3, 4, 5, 6]);
    assert_eq!(ran(&here.states(&file, &[])), [0_u64; 0], "unchanged");
    assert_eq!(ran(&here.states(&file, &["--force"])), [1, 2, 3, 4, 5, 6]);
    assert_eq!(ran(&here.states(&file, &[])), [0_u64; 0], "unchanged since");
    // An input has changed: all that stand on it.
    let airlines = catalogs.path().join("sample/raw/airlines.csv");
    let more = std::fs::read_to_string(&airlines).expect("the sample can be read") + "ZZ,Zeppelin\n";
    std::fs::write(&airlines, more).expect("the sample can be written");
    assert_eq!(ran(&here.states(&file, &[])), [2, 4, 5, 6]);
    // A step has changed: all that write its table, and all that read it.
    script(folder.path(), "m.sql", &sql.replace("n + 1", "n + 2"));
    assert_eq!(ran(&here.states(&file, &[])), [4, 5, 6]);
    // Somebody else has changed a result.
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    assert_eq!(rows(&client, "SELECT n FROM m.c").await, [[Some("19".to_owned())]]);
    rows(&client, "DELETE FROM m.b WHERE year IS NULL").await;
    assert_eq!(ran(&Target::Daemon(&daemon).states(&file, &[])), [3]);
    let runs = "SELECT state, steps_done, steps_skipped FROM system.runs ORDER BY started DESC LIMIT 1";
    let wanted = ["finished", "1", "5"].map(|value| Some(value.to_owned()));
    assert_eq!(rows(&client, runs).await, [wanted]);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_run_in_the_order_of_their_tables() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let here = Target::Here(catalogs.path());
    let dir = folder.path().join("models");
    script(&dir, "a_marts.sql", "CREATE TABLE o.mart AS SELECT count(*) AS n FROM o.clean;\n");
    script(&dir, "b/clean.sql", "CREATE TABLE o.clean AS SELECT * FROM o.raw WHERE n > 1;\n");
    script(
        &dir,
        "c_raw.sql",
        "CREATE SCHEMA o;\nCREATE TABLE o.raw AS SELECT * FROM generate_series(1, 3) AS g (n);\n",
    );
    let dry = here.run(&[&dir], &["--dry-run", "--json"]);
    let order: Vec<(u64, String)> = text(&dry.stdout)
        .lines()
        .map(event)
        .map(|step| {
            (step["line"].as_u64().unwrap_or(0), step["script"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let ends: Vec<&str> = order.iter().map(|(_, name)| name.rsplit('/').next().unwrap_or(name)).collect();
    assert_eq!(ends, ["c_raw.sql", "c_raw.sql", "clean.sql", "a_marts.sql"], "{}", text(&dry.stderr));
    assert!(here.run(&[&dir], &[]).status.success());
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    assert_eq!(rows(&client, "SELECT n FROM o.mart").await, [[Some("2".to_owned())]]);
    // Nothing of this runs.
    script(&dir, "c_raw.sql", "CREATE TABLE o.raw AS SELECT * FROM o.mart;\n");
    let cycle = here.run(&[&dir], &[]);
    assert_eq!(cycle.status.code(), Some(3));
    assert!(text(&cycle.stderr).contains("scripts wait for each other"), "{}", text(&cycle.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_point_at_their_place_and_nothing_runs_that_cannot() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let here = Target::Here(catalogs.path());
    let run = |sql: &str, arguments: &[&str]| {
        let file = script(folder.path(), "e.sql", sql);
        let output = here.run(&[&file], &[&["--quiet"], arguments].concat());
        let errors = text(&output.stderr).replace(&file.display().to_string(), "e.sql");
        (output.status.code(), errors, text(&output.stdout))
    };
    let missing = run("CREATE TABLE e AS SELECT 1 AS a;\nSELECT * FROM e,\n  nowhere;\n", &[]);
    assert_eq!(missing.0, Some(3));
    assert_eq!(
        missing.1,
        "e.sql:3:3: ERROR:  table \"nowhere\" does not exist, and no step before this one makes it (42P01)\n 3 |   nowhere;\n   |   ^\n"
    );
    let syntax = run("CREATE TABLE e AS SELECT 1 AS a;\nSELECT 1 +;\n", &[]);
    assert!(syntax.1.starts_with("e.sql:2:"), "{}", syntax.1);
    let unset = run("SELECT :'who';\n", &[]);
    assert!(unset.1.contains("HINT:  The variable \"who\" is not set."), "{}", unset.1);
    // Of these, the first statement runs: `e` was not made by those above.
    let failed = run("CREATE TABLE e AS SELECT 1 AS a;\nSELECT\n\tb FROM e;\nDROP TABLE e;\n", &[]);
    assert_eq!((failed.0, failed.2.as_str()), (Some(3), "SELECT 1\n"));
    assert!(
        failed.1.starts_with(
            "e.sql:3:2: ERROR:  column \"b\" does not exist (42703)\n 3 | \tb FROM e;\n   | \t^\n"
        ),
        "{}",
        failed.1
    );
    let assertion = run(
        "ASSERT (SELECT * FROM raw.airlines WHERE carrier = :'c'), 'no such carrier';\n",
        &["--var", "c=AA"],
    );
    assert!(assertion.1.contains("no such carrier (P0004)"), "{}", assertion.1);
    assert!(
        assertion.1.contains("DETAIL:  1 row, (carrier, name) = (AA, American Airlines Inc.)."),
        "{}",
        assertion.1
    );
    let file = folder.path().join("nowhere.sql");
    assert_eq!(here.run(&[&file], &[]).status.code(), Some(1));
    let nobody = Command::new(env!("CARGO_BIN_EXE_lacus"))
        .args(["run", "--server", "postgres://127.0.0.1:1/lake"])
        .arg(folder.path().join("e.sql"))
        .output();
    assert_eq!(nobody.expect("lacus run starts").status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_run_can_be_one_commit() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let here = Target::Here(catalogs.path());
    let log = catalogs.path().join("sample/_lacus/log");
    let commits = || std::fs::read_dir(&log).map_or(0, |entries| entries.count());
    let warm = script(folder.path(), "warm.sql", "CREATE SCHEMA w;\n");
    assert!(here.run(&[&warm], &[]).status.success());
    let sql = "CREATE TABLE w.a AS SELECT 1 AS n;\nBEGIN; INSERT INTO w.a VALUES (2); ROLLBACK;\n\
               BEGIN; INSERT INTO w.a VALUES (3); COMMIT;\nINSERT INTO w.a SELECT n + 10 FROM w.a;\n";
    let file = script(folder.path(), "w.sql", sql);
    let before = commits();
    assert!(here.run(&[&file], &["--transaction"]).status.success());
    assert_eq!(commits(), before + 2, "the run, and the record of its end");
    let failing =
        script(folder.path(), "f.sql", "CREATE TABLE w.b AS SELECT 1 AS n;\nSELECT 1 / (n - 1) FROM w.b;\n");
    let failed = here.run(&[&failing], &["--transaction"]);
    assert_eq!(failed.status.code(), Some(3), "{}", text(&failed.stderr));
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    let numbers = rows(&client, "SELECT string_agg(n::text, ',' ORDER BY n) FROM w.a").await;
    assert_eq!(numbers, [[Some("1,3,11,13".to_owned())]]);
    assert_eq!(crate::daemon::code(&client, "SELECT * FROM w.b").await, "42P01");
    let steps = "SELECT state, sqlstate FROM system.run_steps WHERE script LIKE '%f.sql' ORDER BY step";
    let wanted = [[Some("rolled back"), None], [Some("failed"), Some("22012")]];
    let wanted = wanted.map(|row| row.map(|value| value.map(str::to_owned)));
    assert_eq!(rows(&client, steps).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_recorded_nowhere_and_slow_steps_are_tried_again() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let here = Target::Here(catalogs.path());
    let sql = "CREATE TABLE public.kept AS SELECT length(:'SWORDFISH') AS n;\nSELECT (:'SWORDFISH' || 'x')::integer;\n";
    let file = script(folder.path(), "secret.sql", sql);
    let mut command = here.command();
    let output = command.arg(&file).args(["--secret-var", "SWORDFISH"]).env("SWORDFISH", "p4ssw0rd");
    let output = output.output().expect("lacus run starts");
    assert_eq!(output.status.code(), Some(3));
    for printed in [&output.stdout, &output.stderr] {
        assert!(!text(printed).contains("p4ssw0rd"), "{}", text(printed));
    }
    assert!(
        text(&output.stderr).contains("invalid input syntax for type integer: \"***x\""),
        "{}",
        text(&output.stderr)
    );
    let slow = "-- lacus: timeout=300ms retries=1 backoff=10ms\n\
                CREATE TABLE public.slow AS SELECT count(*) AS n FROM generate_series(1, 100000) a (x), generate_series(1, 1000000) b (y);\n";
    let slow = here.run(&[&script(folder.path(), "slow.sql", slow)], &[]);
    assert_eq!(slow.status.code(), Some(2), "{}", text(&slow.stderr));
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    let steps = "SELECT state, attempts, sqlstate FROM system.run_steps WHERE script LIKE '%slow.sql'";
    let wanted = ["failed", "2", "57014"].map(|value| Some(value.to_owned()));
    assert_eq!(rows(&client, steps).await, [wanted]);
    let all = rows(&client, "SELECT statement || coalesce(error, '') FROM system.run_steps").await;
    assert!(all.iter().flatten().flatten().all(|text| !text.contains("p4ssw0rd")), "{all:?}");
    assert!(all.iter().flatten().flatten().any(|text| text.contains(":'SWORDFISH'")), "{all:?}");
}

/// A reader at full speed sees no row that an assertion forbids, and every set of rows whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_was_audited() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(
        &client,
        "CREATE SCHEMA p; CREATE TABLE p.live AS SELECT 0 AS build, 1 AS amount FROM generate_series(1, 50)",
    )
    .await;
    let sql = "BEGIN;\n\
               CREATE OR REPLACE TABLE p.live AS\n\
               SELECT :build AS build, CASE WHEN n % :bad = 0 THEN -n ELSE n END AS amount FROM generate_series(1, 50) AS g (n);\n\
               ASSERT (SELECT * FROM p.live WHERE amount < 0 AND :strict), 'amounts are positive';\n\
               ASSERT (SELECT * FROM p.live WHERE amount < 0) QUARANTINE INTO p.refused;\n\
               COMMIT;\n";
    let file = script(folder.path(), "publish.sql", sql);
    let reader = daemon.connect("lake").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let reading = tokio::spawn(async move {
        let mut polls = 0;
        while !*stopped.borrow() {
            let seen =
                rows(&reader, "SELECT count(DISTINCT build), count(*) FILTER (WHERE amount < 0) FROM p.live")
                    .await;
            assert_eq!(seen, [[Some("1".to_owned()), Some("0".to_owned())]]);
            polls += 1;
        }
        polls
    });
    let target = Target::Daemon(&daemon);
    let (mut failed, mut refused) = (0, 0);
    for build in 1..=12_u32 {
        let strict = build % 3 == 0;
        let set = [format!("build={build}"), format!("bad={}", build + 4), format!("strict={strict}")];
        let arguments = ["-v", &set[0], "-v", &set[1], "-v", &set[2]];
        match target.run(&[&file], &arguments).status.code() {
            Some(3) if strict => failed += 1,
            Some(0) if !strict => refused += 50 / (build + 4),
            other => panic!("build {build} ended with {other:?}"),
        }
    }
    stop.send(true).expect("the reader listens");
    let polls = reading.await.expect("the reader ends well");
    assert!(polls > 12, "{polls} polls");
    assert_eq!(failed, 4);
    let counted = rows(&client, "SELECT count(*), max(amount) < 0 FROM p.refused").await;
    assert_eq!(counted, [[Some(refused.to_string()), Some("t".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_looked_up_where_the_script_says() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let here = Target::Here(catalogs.path());
    let first = "CREATE SCHEMA m;\nCREATE SCHEMA o;\nCREATE TABLE m.loc (a int);\nCREATE TABLE o.\"a$b\" (a int);\n\
        CREATE MATERIALIZED VIEW m.mv AS SELECT 7 AS a;\n";
    let first = here.run(&[&script(folder.path(), "first.sql", first)], &[]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let second = "BEGIN; SET LOCAL search_path = m; INSERT INTO loc VALUES (1); COMMIT;\n\
        SET search_path = m;\nINSERT INTO loc VALUES (2);\nRESET search_path;\n\
        CREATE TABLE here AS SELECT 1 AS a;\nSELECT * FROM public.here;\n\
        CREATE TABLE m.copy AS SELECT a FROM m.mv;\nSELECT * FROM o.\"a$b\";\n";
    let second = here.run(&[&script(folder.path(), "second.sql", second)], &[]);
    assert!(second.status.success(), "{}", text(&second.stderr));
    // In one transaction too, each script has its own.
    let dir = folder.path().join("apart");
    script(&dir, "a.sql", "SET search_path = m;\nCREATE TABLE a1 AS SELECT 1 AS a;\n");
    script(&dir, "b.sql", "CREATE TABLE b1 AS SELECT 1 AS a;\n");
    let apart = here.run(&[&dir], &["--transaction"]);
    assert!(apart.status.success(), "{}", text(&apart.stderr));
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    let found = "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY tablename) FROM pg_tables \
        WHERE tablename IN ('here', 'copy', 'a1', 'b1')";
    assert_eq!(rows(&client, found).await, [[Some("m.a1 public.b1 m.copy public.here".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_gone_ends_no_run() {
    let (catalogs, folder) = (Catalogs::on_disk(), scratch());
    let tables: String = (0..5).map(|number| format!("CREATE TABLE t{number} AS SELECT 1 AS a;\n")).collect();
    let file = script(folder.path(), "many.sql", &tables);
    for arguments in [&["--dry-run"][..], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lacus"));
        command.arg("run").arg("--catalog").arg(catalogs.path()).args(arguments).arg(&file);
        let (reader, out) = std::io::pipe().expect("a pipe can be made");
        let (other, error) = std::io::pipe().expect("a pipe can be made");
        drop((reader, other));
        let status = command.stdin(Stdio::null()).stdout(out).stderr(error).status();
        assert_eq!(status.expect("the program runs").code(), Some(0), "{arguments:?}");
    }
}
