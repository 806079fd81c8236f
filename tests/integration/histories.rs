//! Histories, in the spirit of Jepsen: many writers, two daemons over one bucket, and everything goes
//! wrong. What the clients saw is written down and checked to be a history of snapshot isolation.
//!
//! Sixteen writers run transactions over one to five tables (transfers between accounts, appends to
//! lists and bags, reads) while daemons are killed (-9) and started again, and the store answers late,
//! with 503, not at all, or after it has done what was asked. `LACUS_TEST_HISTORY_SECONDS` (15) says for
//! how long, `LACUS_TEST_HISTORY_ROUNDS` (1) how often, `LACUS_TEST_HISTORY_SEED` which luck.

mod bad;
mod check;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use self::check::{End, Key, Op, Transaction, check};
use crate::daemon::{Catalogs, Daemon, Setup, rows, try_rows};
use crate::faults::in_bucket;
use crate::s3::{Faults, S3Server, S3Target};

const WRITERS: usize = 16;
const LISTS: u32 = 6;
const BAGS: u32 = 3;
const BANKS: u32 = 3;
/// Accounts of one bank, and what each holds at first.
const ACCOUNTS: u32 = 4;
const BALANCE: i64 = 100;
const TOTAL: i64 = (BANKS * ACCOUNTS) as i64 * BALANCE;
/// The bag to which every transfer puts a mark, in its own transaction.
const MARKS: Key = Key::Bag(BAGS);

/// One round: two daemons, and what became of all transactions.
struct Round {
    catalogs: [Catalogs; 2],
    daemons: [Mutex<Option<Arc<Mutex<Daemon>>>>; 2],
    faults: Arc<Faults>,
    began: Instant,
    values: AtomicU64,
    history: Mutex<Vec<Transaction>>,
    /// Amounts by mark: from, to, how much.
    transfers: Mutex<BTreeMap<u64, (u32, u32, i64)>>,
    stops: AtomicBool,
    kills: AtomicUsize,
    /// Why transactions failed, by SQLSTATE.
    failures: Mutex<BTreeMap<String, usize>>,
    _target: S3Target,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_clients_see_is_snapshot_isolation() {
    let seconds = setting("LACUS_TEST_HISTORY_SECONDS", 15);
    let seed = setting("LACUS_TEST_HISTORY_SEED", rand::random_range(0..1_000_000));
    for round in 0..setting("LACUS_TEST_HISTORY_ROUNDS", 1) {
        let seed = seed + round;
        println!("round {round} with LACUS_TEST_HISTORY_SEED={seed}");
        let round = Arc::new(Round::start().await);
        round.run(Duration::from_secs(seconds), seed).await;
        round.judge().await;
    }
}

impl Round {
    async fn start() -> Self {
        let server = S3Server::start();
        let faults = Arc::clone(&server.faults);
        let target = S3Target::from(server);
        let catalogs = [in_bucket(&target), in_bucket(&target)];
        let daemons = [0, 1].map(|at: usize| {
            let daemon = Setup::default().serve(catalogs[at].path());
            Mutex::new(Some(Arc::new(Mutex::new(daemon))))
        });
        let round = Self {
            catalogs,
            daemons,
            faults,
            began: Instant::now(),
            values: AtomicU64::new(1),
            history: Mutex::default(),
            transfers: Mutex::default(),
            stops: AtomicBool::new(false),
            kills: AtomicUsize::new(0),
            failures: Mutex::default(),
            _target: target,
        };
        let client = round.connect(0).await.expect("a daemon lets a client in");
        rows(&client, "CREATE SCHEMA h").await;
        for list in 0..LISTS {
            let made = format!("CREATE TABLE h.list{list} AS SELECT 1 AS k, ''::text AS items");
            rows(&client, &made).await;
        }
        for bag in 0..=BAGS {
            rows(&client, &format!("CREATE TABLE h.bag{bag} (v bigint)")).await;
        }
        for bank in 0..BANKS {
            let accounts = format!(
                "CREATE TABLE h.bank{bank} AS SELECT n::integer AS id, {BALANCE}::bigint AS balance \
                 FROM generate_series(0, {}) AS t(n)",
                ACCOUNTS - 1
            );
            rows(&client, &accounts).await;
        }
        round
    }

    async fn connect(&self, daemon: usize) -> Option<Client> {
        let address = {
            let running = self.daemons[daemon].lock().unwrap().clone()?;
            running.lock().unwrap().address
        };
        let text = format!("host=127.0.0.1 port={} user=ada dbname=lake", address.port());
        let (client, connection) = tokio_postgres::connect(&text, tokio_postgres::NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    async fn run(self: &Arc<Self>, time: Duration, seed: u64) {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let round = Arc::clone(self);
            let luck = StdRng::seed_from_u64(seed * 1000 + writer as u64);
            writers.spawn(async move { round.write(writer, luck).await });
        }
        let deadline = Instant::now() + time;
        let mut luck = StdRng::seed_from_u64(seed * 1000 + 999);
        while Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(luck.random_range(50..400))).await;
            self.trouble(&mut luck).await;
        }
        self.faults.clear();
        self.stops.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
    }

    /// Makes something go wrong, or right again.
    async fn trouble(self: &Arc<Self>, luck: &mut StdRng) {
        match luck.random_range(0..24) {
            0..4 => self.faults.lose_next_puts(luck.random_range(1..6)),
            4 | 5 => self.faults.refuse_next(luck.random_range(1..8)),
            6 | 7 => self.faults.refuse_every(luck.random_range(5..20)),
            8 | 9 => self.faults.cut_next(luck.random_range(1..6)),
            10 | 11 => self.faults.delay(Duration::from_millis(luck.random_range(1..25))),
            12..22 => self.faults.clear(),
            _ => self.kill(luck.random_range(0..2)).await,
        }
    }

    /// Kills a daemon in the middle of whatever it does, and starts another in its place.
    async fn kill(self: &Arc<Self>, at: usize) {
        let old = self.daemons[at].lock().unwrap().take();
        let round = Arc::clone(self);
        let restarted = tokio::task::spawn_blocking(move || {
            if let Some(old) = old {
                old.lock().unwrap().kill();
            }
            let new = Setup::default().serve(round.catalogs[at].path());
            *round.daemons[at].lock().unwrap() = Some(Arc::new(Mutex::new(new)));
        });
        restarted.await.unwrap();
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs one transaction after the other, on whichever daemon there is.
    async fn write(&self, writer: usize, mut luck: StdRng) {
        let mut client = None;
        while !self.stops.load(Ordering::Relaxed) {
            if client.is_none() {
                client = self.connect((writer + usize::from(luck.random_bool(0.2))) % 2).await;
            }
            let Some(connected) = &client else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let began = self.began.elapsed();
            let mut ops = Vec::new();
            let run = self.transact(connected, &mut luck, &mut ops);
            let end = tokio::time::timeout(Duration::from_secs(120), run).await.expect("a transaction ends");
            if connected.is_closed() {
                client = None;
            }
            let ended = self.began.elapsed();
            self.history.lock().unwrap().push(Transaction { began, ended, ops, end });
        }
    }

    /// Runs one transaction; `ops` is what it did as far as it came.
    async fn transact(&self, client: &Client, luck: &mut StdRng, ops: &mut Vec<Op>) -> End {
        let ran = async {
            try_rows(client, "BEGIN").await?;
            if luck.random_bool(0.2) {
                self.transfer(client, luck, ops).await?;
            }
            if luck.random_bool(0.15) {
                ops.push(self.total(client).await?);
            }
            let mut keys: Vec<Key> = (0..LISTS).map(Key::List).chain((0..BAGS).map(Key::Bag)).collect();
            keys.shuffle(luck);
            for key in keys.into_iter().take(luck.random_range(1..=3)) {
                self.touch(client, key, luck, ops).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        if let Err(error) = ran.await {
            self.note(&error);
            // A session whose transaction has failed needs an end of it.
            try_rows(client, "ROLLBACK").await.ok();
            return End::Aborted;
        }
        if luck.random_bool(0.05) {
            try_rows(client, "ROLLBACK").await.ok();
            return End::Aborted;
        }
        match try_rows(client, "COMMIT").await {
            Ok(_) => End::Committed,
            Err(error) => {
                self.note(&error);
                // 08: the connection, or the store's answer, is lost.
                match error.code() {
                    Some(code) if !code.code().starts_with("08") => End::Aborted,
                    _ => End::Unknown,
                }
            }
        }
    }

    fn note(&self, error: &tokio_postgres::Error) {
        let code = error.code().map_or("connection", |code| code.code()).to_owned();
        *self.failures.lock().unwrap().entry(code).or_default() += 1;
    }

    /// Reads a list or a bag, appends to it, or both.
    async fn touch(
        &self,
        client: &Client,
        key: Key,
        luck: &mut StdRng,
        ops: &mut Vec<Op>,
    ) -> Result<(), tokio_postgres::Error> {
        let appends = *[0, 0, 1, 1, 1, 2].choose(luck).expect("there are choices");
        if appends == 0 || luck.random_bool(0.4) {
            ops.push(read(client, key).await?);
        }
        for _ in 0..appends {
            let value = self.values.fetch_add(1, Ordering::Relaxed);
            try_rows(client, &append(key, value)).await?;
            ops.push(Op::Append(key, value));
        }
        if luck.random_bool(0.2) {
            ops.push(read(client, key).await?);
        }
        Ok(())
    }

    /// Moves an amount between accounts of two banks, and puts a mark that says so.
    async fn transfer(
        &self,
        client: &Client,
        luck: &mut StdRng,
        ops: &mut Vec<Op>,
    ) -> Result<(), tokio_postgres::Error> {
        let (from, to) = (luck.random_range(0..BANKS * ACCOUNTS), luck.random_range(0..BANKS * ACCOUNTS));
        let amount = luck.random_range(1..10);
        let value = self.values.fetch_add(1, Ordering::Relaxed);
        self.transfers.lock().unwrap().insert(value, (from, to, amount));
        for (account, change) in [(from, -amount), (to, amount)] {
            let (bank, id) = (account / ACCOUNTS, account % ACCOUNTS);
            let moved = format!("UPDATE h.bank{bank} SET balance = balance + {change} WHERE id = {id}");
            try_rows(client, &moved).await?;
        }
        try_rows(client, &append(MARKS, value)).await?;
        ops.push(Op::Append(MARKS, value));
        Ok(())
    }

    async fn total(&self, client: &Client) -> Result<Op, tokio_postgres::Error> {
        let sums = (0..BANKS).map(|bank| format!("(SELECT sum(balance) FROM h.bank{bank})"));
        let sql = format!("SELECT {}", sums.collect::<Vec<_>>().join(" + "));
        Ok(Op::Total(first(&try_rows(client, &sql).await?).parse().expect("a number")))
    }

    /// Reads everything once more, and judges all that was seen.
    async fn judge(&self) {
        let third = in_bucket(&self._target);
        let fresh = Setup::default().serve(third.path());
        let mut clients = vec![fresh.connect("lake").await];
        for daemon in 0..2 {
            clients.extend(self.connect(daemon).await);
        }
        assert_eq!(clients.len(), 3, "all daemons are there in the end");
        let mut balances = Vec::new();
        for client in &clients {
            let began = self.began.elapsed();
            rows(client, "BEGIN").await;
            let mut ops = Vec::new();
            for key in (0..LISTS).map(Key::List).chain((0..=BAGS).map(Key::Bag)) {
                ops.push(read(client, key).await.expect("a daemon that is left alone answers"));
            }
            ops.push(self.total(client).await.expect("a daemon that is left alone answers"));
            balances = self.balances(client).await;
            rows(client, "COMMIT").await;
            let ended = self.began.elapsed();
            let end = End::Committed;
            self.history.lock().unwrap().push(Transaction { began, ended, ops, end });
        }
        let history = std::mem::take(&mut *self.history.lock().unwrap());
        self.report(&history);
        let anomalies = check(&history, TOTAL);
        let told: Vec<String> =
            anomalies.iter().take(10).map(|one| format!("{:?}: {}", one.kind, one.told)).collect();
        assert!(anomalies.is_empty(), "{} anomalies:\n{}", anomalies.len(), told.join("\n"));
        self.check_transfers(&history, &balances);
    }

    async fn balances(&self, client: &Client) -> Vec<i64> {
        let mut balances = Vec::new();
        for bank in 0..BANKS {
            let found = rows(client, &format!("SELECT balance FROM h.bank{bank} ORDER BY id")).await;
            balances.extend(found.iter().map(|row| row[0].as_ref().unwrap().parse::<i64>().unwrap()));
        }
        balances
    }

    /// Every account holds what its transfers left, those whose mark is there and no others.
    fn check_transfers(&self, history: &[Transaction], balances: &[i64]) {
        let marks = history.last().and_then(|last| {
            last.ops.iter().find_map(|op| match op {
                Op::Read(key, marks) if *key == MARKS => Some(marks.clone()),
                _ => None,
            })
        });
        let mut wanted = vec![BALANCE; (BANKS * ACCOUNTS) as usize];
        let transfers = self.transfers.lock().unwrap();
        for mark in marks.expect("the marks were read") {
            let (from, to, amount) = transfers[&mark];
            wanted[from as usize] -= amount;
            wanted[to as usize] += amount;
        }
        assert_eq!(balances, wanted, "no transfer was lost, doubled or halved");
    }

    fn report(&self, history: &[Transaction]) {
        let count = |end| history.iter().filter(|transaction| transaction.end == end).count();
        let count_ops = |which: fn(&Op) -> bool| {
            let committed = history.iter().filter(|transaction| transaction.end == End::Committed);
            committed.flat_map(|transaction| &transaction.ops).filter(|op| which(op)).count()
        };
        println!(
            "{} transactions of {WRITERS} writers: {} committed, {} rolled back, {} unclear; \
             {} appends and {} reads in those committed; {} kills; {} requests to the store; failures {:?}",
            history.len(),
            count(End::Committed),
            count(End::Aborted),
            count(End::Unknown),
            count_ops(|op| matches!(op, Op::Append(..))),
            count_ops(|op| matches!(op, Op::Read(..) | Op::Total(_))),
            self.kills.load(Ordering::Relaxed),
            self.faults.requests(),
            self.failures.lock().unwrap(),
        );
        assert!(count(End::Committed) > 20, "too little was committed to say anything");
    }
}

fn append(key: Key, value: u64) -> String {
    match key {
        Key::List(list) => format!("UPDATE h.list{list} SET items = items || ' {value}' WHERE k = 1"),
        Key::Bag(bag) => format!("INSERT INTO h.bag{bag} VALUES ({value})"),
    }
}

async fn read(client: &Client, key: Key) -> Result<Op, tokio_postgres::Error> {
    let sql = match key {
        Key::List(list) => format!("SELECT items FROM h.list{list} WHERE k = 1"),
        Key::Bag(bag) => format!("SELECT string_agg(v::text, ' ' ORDER BY v) FROM h.bag{bag}"),
    };
    let text = first(&try_rows(client, &sql).await?);
    Ok(Op::Read(key, text.split_whitespace().map(|value| value.parse().expect("a value")).collect()))
}

/// The one value of a result, empty for null.
fn first(rows: &[Vec<Option<String>>]) -> String {
    assert_eq!(rows.len(), 1, "one row: {rows:?}");
    rows[0][0].clone().unwrap_or_default()
}
