//! Steps: a commit is stopped at every single one of its requests to the store, in turn.
//!
//! For each kind of change, and for n = 1, 2, 3, … until it is through: the store stands still at the
//! n-th PUT, before it is done or after it, and the daemon is killed there. Another daemon opens the
//! bucket: the lake is as it was before or as it is after, never between, what was answered is true,
//! and it can be written. The same with one PUT whose answer is lost, or that is refused.

use std::sync::Arc;

use crate::daemon::{Catalogs, Daemon, Setup, rows, try_rows};
use crate::faults::{in_bucket, number};
use crate::s3::{AtPut, Faults, S3Server, S3Target};

/// A change to the lake, its tables named after `{i}`.
struct Change {
    before: &'static [&'static str],
    run: &'static [&'static str],
    /// One row, and what it says before and after; an error for a table that is not there.
    look: &'static str,
    was: &'static str,
    becomes: &'static str,
}

const CREATE: Change = Change {
    before: &[],
    run: &[
        "CREATE TABLE s.c{i} PARTITIONED BY (p) AS SELECT n, n % 2 AS p FROM generate_series(1, 100) AS t(n)",
    ],
    look: "SELECT count(*) || ' ' || sum(n) FROM s.c{i}",
    was: "42P01",
    becomes: "100 5050",
};
const INSERT: Change = Change {
    before: &["CREATE TABLE s.i{i} AS SELECT 1 AS n"],
    run: &["INSERT INTO s.i{i} VALUES (2)"],
    look: "SELECT sum(n)::text FROM s.i{i}",
    was: "1",
    becomes: "3",
};
const TWO_TABLES: Change = Change {
    before: &["CREATE TABLE s.a{i} AS SELECT 1 AS n", "CREATE TABLE s.b{i} AS SELECT 1 AS n"],
    run: &["BEGIN", "INSERT INTO s.a{i} VALUES (2)", "UPDATE s.b{i} SET n = n + 1", "COMMIT"],
    look: "SELECT (SELECT sum(n) FROM s.a{i}) || ' ' || (SELECT sum(n) FROM s.b{i})",
    was: "1 1",
    becomes: "3 2",
};
const UPDATE: Change = Change {
    before: &["CREATE TABLE s.u{i} AS SELECT n FROM generate_series(1, 10) AS t(n)"],
    run: &["UPDATE s.u{i} SET n = n + 1"],
    look: "SELECT sum(n)::text FROM s.u{i}",
    was: "55",
    becomes: "65",
};
const SWAP: Change = Change {
    before: &["CREATE TABLE s.x{i} AS SELECT 1 AS n"],
    run: &[
        "BEGIN",
        "CREATE TABLE s.x{i}_tmp AS SELECT 2 AS n",
        "ALTER TABLE s.x{i} RENAME TO x{i}_backup",
        "ALTER TABLE s.x{i}_tmp RENAME TO x{i}",
        "DROP TABLE s.x{i}_backup CASCADE",
        "COMMIT",
    ],
    look: "SELECT n || ' ' || (SELECT count(*) FROM pg_class WHERE relname LIKE 'x{i}%') FROM s.x{i}",
    was: "1 1",
    becomes: "2 1",
};

/// More PUTs than any of these changes takes.
const STEPS_MAX: usize = 60;

struct Lake {
    faults: Arc<Faults>,
    catalogs: Catalogs,
    daemon: Daemon,
    marks: i64,
    _target: S3Target,
}

impl Lake {
    async fn start() -> Self {
        let server = S3Server::start();
        let faults = Arc::clone(&server.faults);
        let target = S3Target::from(server);
        let catalogs = in_bucket(&target);
        let daemon = Setup::default().serve(catalogs.path());
        let client = daemon.connect("lake").await;
        rows(&client, "CREATE SCHEMA s").await;
        rows(&client, "CREATE TABLE s.marks (n bigint)").await;
        Self { faults, catalogs, daemon, marks: 0, _target: target }
    }

    /// A commit after all that happened, which must work; and with it, the daemon has probed the store.
    async fn mark(&mut self) {
        let client = self.daemon.connect("lake").await;
        self.marks += 1;
        rows(&client, &format!("INSERT INTO s.marks VALUES ({})", self.marks)).await;
        let seen = rows(&client, "SELECT count(*), max(n) FROM s.marks").await;
        let all = Some(self.marks.to_string());
        assert_eq!(seen, [[all.clone(), all]]);
    }

    /// What the lake says of the `i`-th tables of a change.
    async fn look(&self, change: &Change, i: usize) -> String {
        let client = self.daemon.connect("lake").await;
        match try_rows(&client, &named(change.look, i)).await {
            Ok(rows) => rows[0][0].clone().expect("a value"),
            Err(error) => error.code().map(|code| code.code().to_owned()).expect("the daemon's own error"),
        }
    }

    async fn prepare(&self, change: &Change, i: usize) {
        let client = self.daemon.connect("lake").await;
        for sql in change.before {
            rows(&client, &named(sql, i)).await;
        }
    }

    /// Runs a change, up to its end or to the moment at which the store stands still; returns whether
    /// the client was told that it is done, `None` when it was told nothing.
    async fn run(&self, change: &Change, i: usize) -> Option<Result<(), tokio_postgres::Error>> {
        let client = self.daemon.connect("lake").await;
        let statements: Vec<String> = change.run.iter().map(|sql| named(sql, i)).collect();
        let running = async {
            for sql in &statements {
                try_rows(&client, sql).await?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            () = self.faults.frozen() => None,
            ended = running => Some(ended),
        }
    }

    /// Kills the daemon, and opens the lake with another.
    fn kill(&mut self) {
        self.daemon.kill();
        self.faults.thaw();
        self.daemon = Setup::default().serve(self.catalogs.path());
    }
}

fn named(sql: &str, i: usize) -> String {
    sql.replace("{i}", &i.to_string())
}

/// Kills the daemon at each PUT of a change, in turn.
async fn killed_at_every_step(change: &Change) {
    let mut lake = Lake::start().await;
    let mut outcomes = Vec::new();
    for (at, what) in [AtPut::Freeze, AtPut::FreezeAfter].into_iter().enumerate() {
        let mut became = Vec::new();
        for n in 1..=STEPS_MAX {
            let i = n * 10 + at;
            lake.mark().await;
            lake.prepare(change, i).await;
            lake.faults.at_put(n, what);
            let told = lake.run(change, i).await;
            let is_through = told.is_some() && lake.faults.is_planned();
            lake.kill();
            let seen = lake.look(change, i).await;
            assert!(seen == change.was || seen == change.becomes, "{what:?} at {n}: {seen}");
            if let Some(told) = told {
                let wanted = if told.is_ok() { change.becomes } else { change.was };
                assert_eq!(seen, wanted, "{what:?} at {n}: the client was told {told:?}");
            }
            became.push(seen == change.becomes);
            lake.mark().await;
            if is_through {
                break;
            }
        }
        assert!(became.len() < STEPS_MAX && became.len() > 3, "{} steps", became.len());
        assert!(!became[0] && became[became.len() - 1], "{became:?}");
        assert!(became.is_sorted(), "once it has happened, it has: {became:?}");
        outcomes.push((became.iter().filter(|became| !**became).count(), became.len()));
    }
    println!("steps without effect, and all that were tried: before and after each PUT {outcomes:?}");
    // The step that decides is the same PUT: before it nothing has happened, after it everything.
    assert_eq!(outcomes[0].0, outcomes[1].0 + 1, "{outcomes:?}");
}

/// Loses the answer to each PUT of a change in turn, and refuses each in turn; the daemon lives.
async fn faulty_at_every_step(change: &Change) {
    let mut lake = Lake::start().await;
    lake.mark().await;
    for (at, what) in [AtPut::Lose, AtPut::Refuse].into_iter().enumerate() {
        for n in 1..=STEPS_MAX {
            let i = n * 10 + at;
            lake.prepare(change, i).await;
            lake.faults.at_put(n, what);
            let told = lake.run(change, i).await.expect("nothing stands still");
            let is_through = lake.faults.is_planned();
            lake.faults.clear();
            assert!(told.is_ok(), "{what:?} at {n}: {told:?}");
            assert_eq!(lake.look(change, i).await, change.becomes, "{what:?} at {n}");
            if is_through {
                break;
            }
            assert!(n < STEPS_MAX, "it never ends");
        }
    }
    lake.mark().await;
    let client = lake.daemon.connect("lake").await;
    assert_eq!(number(&client, "SELECT count(*) FROM s.marks").await, lake.marks);
}

macro_rules! steps {
    ($($killed:ident $faulty:ident $change:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $killed() {
            killed_at_every_step(&$change).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn $faulty() {
            faulty_at_every_step(&$change).await;
        }
    )+};
}

steps! {
    create_table_as_is_killed_at_every_step create_table_as_meets_a_fault_at_every_step CREATE,
    insert_is_killed_at_every_step insert_meets_a_fault_at_every_step INSERT,
    two_tables_are_killed_at_every_step two_tables_meet_a_fault_at_every_step TWO_TABLES,
    update_is_killed_at_every_step update_meets_a_fault_at_every_step UPDATE,
    a_swap_is_killed_at_every_step a_swap_meets_a_fault_at_every_step SWAP,
}

/// A row that is inserted costs three round trips beyond its file: whether somebody else has committed,
/// what a snapshot is made of, stored at once, and the entry of the log. The commit is the last two.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_costs_three_round_trips_beyond_its_file() {
    let mut lake = Lake::start().await;
    lake.mark().await;
    lake.prepare(&INSERT, 0).await;
    let client = lake.daemon.connect("lake").await;
    rows(&client, "INSERT INTO s.i0 VALUES (2)").await;
    lake.faults.begin_trace();
    rows(&client, "INSERT INTO s.i0 VALUES (3)").await;
    let trace = lake.faults.end_trace();
    println!("requests of an insert, one line a round trip:\n{}", trace.join("\n"));
    let place = |kind: &str, name: &str| {
        trace.iter().position(|trip| trip.starts_with(kind) && trip.contains(name)).expect(name)
    };
    let (file, entry) = (place("PUT", ".parquet"), place("PUT", "/_lacus/log/"));
    assert!(trace[0].starts_with("GET") && trace[0].contains("/_lacus/log/"), "{trace:#?}");
    assert_eq!((file, entry), (1, 3), "{trace:#?}");
}
