//! Any bytes on the socket give an error or a closed connection: never a crash, a hang, or memory without
//! bound.
//!
//! Random sequences of messages, whole and broken, run against the daemon before and after the login. An
//! internal error (`XX000`) is a panic that was caught, and fails the test. `LACUS_TEST_FUZZ_INPUTS` says
//! how many messages are sent, `LACUS_TEST_FUZZ_SEED` repeats a run.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::daemon::{Catalogs, Setup};

/// How long the daemon may take to answer a sequence and hang up.
const PATIENCE: Duration = Duration::from_secs(60);
const WORKERS: u64 = 4;
/// What the daemon may hold more after the storm than before it.
const GROWTH_BYTES_MAX: u64 = 600 << 20;

const TEXTS: [&str; 46] = [
    "",
    ";",
    "SELECT 1",
    "SELECT $1",
    "SELECT $1::int + $2",
    "SELECT $2::date, $1::text[]",
    "SELECT 1; SELECT 2; SELECT 1 / 0; SELECT 3",
    "SELECT 1 / 0",
    "SELECT * FROM raw.airlines WHERE carrier = $1",
    "SELECT n FROM generate_series(1, 5000) AS t(n)",
    "SELECT repeat('x', 1000) FROM generate_series(1, 300) AS t(n)",
    "VALUES (1, NULL), (2, 'ä')",
    "BEGIN",
    "BEGIN; SAVEPOINT a",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK TO a",
    "RELEASE a",
    "COMMIT AND CHAIN",
    "DECLARE a CURSOR FOR SELECT n FROM generate_series(1, 100) AS t(n)",
    "DECLARE b SCROLL CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 100) AS t(n)",
    "DECLARE c BINARY CURSOR FOR SELECT $1::int",
    "FETCH 3 a",
    "FETCH BACKWARD ALL b",
    "FETCH ABSOLUTE -5 b",
    "MOVE 2 a",
    "MOVE 2 b",
    "CLOSE ALL",
    "CLOSE a",
    "PREPARE a AS SELECT $1::int",
    "EXECUTE a(1)",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "SET datestyle = 'SQL, DMY'",
    "SET LOCAL TimeZone = 'Europe/Berlin'",
    "SET client_encoding = 'latin1'",
    "RESET ALL",
    "SHOW ALL",
    "LISTEN a",
    "NOTIFY a, 'text'; UNLISTEN *",
    "SELECT pg_notify('a', 'b'), pg_try_advisory_xact_lock(1)",
    "EXPLAIN (FORMAT JSON, ANALYZE) SELECT 1",
    "CREATE TEMP TABLE t (n int); INSERT INTO t VALUES (1); SELECT * FROM t",
    "COPY (SELECT 1) TO STDOUT",
    "SELECT * FROM pg_cursors, pg_prepared_statements, pg_locks",
    "SELECT (((((((((((((((((((((1)))))))))))))))))))))",
];

fn inputs() -> u64 {
    std::env::var("LACUS_TEST_FUZZ_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

fn seed() -> u64 {
    let seed = std::env::var("LACUS_TEST_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("LACUS_TEST_FUZZ_SEED={seed}");
    seed
}

#[test]
fn messages_of_strangers_and_of_users() {
    let seed = seed();
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(&["--statements-max", "20"]).serve(catalogs.path());
    storm(daemon.address, WORKERS, seed, 2_000);
    let before = daemon.resident_bytes();
    storm(daemon.address, WORKERS, seed.wrapping_add(WORKERS), inputs());
    let after = daemon.resident_bytes();
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes became {after}");
    assert_eq!(served(daemon.address), "42", "the daemon lives");
}

#[test]
fn messages_before_a_password() {
    let mut random = StdRng::seed_from_u64(seed());
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), lacus::access::user_entry("ada", &b"pencil"[..]).unwrap()).unwrap();
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().with(&["--users", users.path().to_str().unwrap()]).serve(catalogs.path());
    for _ in 0..(inputs() / 100).clamp(100, 20_000) {
        let mut bytes = startup(&mut random);
        for _ in 0..random.random_range(0..4) {
            let kind = *[b'p', b'p', b'p', b'Q', b'X'].choose(&mut random).unwrap();
            let mut body = proof(&mut random);
            mutate(&mut body, &mut random);
            bytes.extend(frame(kind, &body));
        }
        let heard = exchange(daemon.address, &bytes);
        assert!(!heard.windows(5).any(|window| window == b"R\0\0\0\x08\0\0\0\0"), "nobody is let in");
        ensure_no_panic(&heard);
    }
    assert!(daemon.resident_bytes() < GROWTH_BYTES_MAX);
}

/// Sends about so many messages over several connections at once, one after another each.
fn storm(address: SocketAddr, workers: u64, seed: u64, messages: u64) {
    let threads: Vec<_> = (0..workers)
        .map(|worker| {
            std::thread::spawn(move || {
                let mut random = StdRng::seed_from_u64(seed.wrapping_add(worker));
                let mut sent = 0;
                while sent < messages / workers {
                    sent += one_session(address, &mut random);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no sequence breaks the daemon");
    }
}

/// Runs one connection; returns how many messages it sent.
fn one_session(address: SocketAddr, random: &mut StdRng) -> u64 {
    let mut bytes = match random.random_range(0..10) {
        0 => startup(random),
        _ => login(),
    };
    let count = random.random_range(1..80);
    for _ in 0..count {
        bytes.extend(message(random));
    }
    ensure_no_panic(&exchange(address, &bytes));
    count
}

/// Sends bytes and hangs up; returns all that comes back until the daemon hangs up as well.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).expect("the daemon listens");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut sending = socket.try_clone().unwrap();
    let (bytes, sent) = (bytes.to_vec(), bytes);
    // A daemon that has hung up, or waits for its answers to be read, must not hold up the reader.
    let sender = std::thread::spawn(move || {
        sending.write_all(&bytes).ok();
        sending.shutdown(Shutdown::Write).ok();
    });
    let mut heard = Vec::new();
    match socket.read_to_end(&mut heard) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => {
            let sent = sent.escape_ascii();
            panic!("the daemon neither answers nor hangs up: {error}, after \"{sent}\"")
        }
    }
    drop(socket);
    sender.join().unwrap();
    heard
}

fn ensure_no_panic(heard: &[u8]) {
    if let Some(at) = heard.windows(6).position(|window| window == b"CXX000") {
        let text = String::from_utf8_lossy(&heard[at.saturating_sub(100)..heard.len().min(at + 400)]);
        panic!("an internal error: {text}");
    }
}

fn served(address: SocketAddr) -> String {
    crate::raw::Raw::connect(address, "lake").value("SELECT 42")
}

fn login() -> Vec<u8> {
    packet(196_608, b"user\0ada\0database\0lake\0options\0-c statement_timeout=10s -c lock_timeout=10\0\0")
}

fn startup(random: &mut StdRng) -> Vec<u8> {
    let code = *[196_608, 196_610, 80_877_102, 80_877_103, 80_877_104, 131_072, random.random()]
        .choose(random)
        .unwrap();
    let mut body = b"user\0ada\0database\0lake\0client_encoding\0UTF8\0options\0-c a.b=c\0\0".to_vec();
    mutate(&mut body, random);
    let mut bytes = packet(code, &body);
    if random.random_ratio(1, 8) {
        mutate(&mut bytes, random);
    }
    bytes
}

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// What stands in a password message: SASL's first and later answers, and other things.
fn proof(random: &mut StdRng) -> Vec<u8> {
    let first = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO";
    match random.random_range(0..3) {
        0 => [b"SCRAM-SHA-256\0", &(first.len() as u32).to_be_bytes()[..], first].concat(),
        1 => b"c=biws,r=rOprNGfwEbeRWgbNEkqO,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=".to_vec(),
        _ => b"pencil\0".to_vec(),
    }
}

/// Changes, cuts or lengthens bytes, most often not at all.
fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(0..4_u32).saturating_sub(1) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            2 if at < bytes.len() => bytes[at] = random.random(),
            _ => bytes.extend_from_slice(&[random.random(); 7][..random.random_range(0..7)]),
        }
    }
}

fn name(random: &mut StdRng) -> Vec<u8> {
    let name = *["", "", "a", "b", "c", "nobody"].choose(random).unwrap();
    [name.as_bytes(), b"\0"].concat()
}

fn text(random: &mut StdRng) -> Vec<u8> {
    let mut text = TEXTS.choose(random).unwrap().as_bytes().to_vec();
    if random.random_ratio(1, 6) {
        mutate(&mut text, random);
    }
    text.push(0);
    text
}

/// Counted elements, whose count is right most often.
fn counted(elements: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let count = if random.random_ratio(1, 30) { random.random() } else { elements.len() as u16 };
    [&count.to_be_bytes()[..], &elements.concat()].concat()
}

fn parameter(random: &mut StdRng) -> Vec<u8> {
    let value: &[u8] = match random.random_range(0..6) {
        0 => return (-1_i32).to_be_bytes().to_vec(),
        1 => b"1",
        2 => b"UA",
        3 => b"{1,NULL,\"x\"}",
        4 => &[0, 0, 0, 1],
        _ => b"2013-02-03",
    };
    [&(value.len() as u32).to_be_bytes()[..], value].concat()
}

fn bind(random: &mut StdRng) -> Vec<u8> {
    let format = |random: &mut StdRng| random.random_range(0..3_u16).to_be_bytes().to_vec();
    let formats: Vec<_> = (0..random.random_range(0..3)).map(|_| format(random)).collect();
    let values: Vec<_> = (0..random.random_range(0..3)).map(|_| parameter(random)).collect();
    let results: Vec<_> = (0..random.random_range(0..3)).map(|_| format(random)).collect();
    let names = [name(random), name(random)].concat();
    let lists = [counted(&formats, random), counted(&values, random), counted(&results, random)].concat();
    [names, lists].concat()
}

/// One message, in one of five broken.
fn message(random: &mut StdRng) -> Vec<u8> {
    let oids = [0_u32, 23, 25, 1082, 1007, 2950, 705, 4_000_000_000];
    let (kind, mut body) = match random.random_range(0..22) {
        0..4 => {
            let types: Vec<_> = (0..random.random_range(0..3))
                .map(|_| oids.choose(random).unwrap().to_be_bytes().to_vec())
                .collect();
            (b'P', [name(random), text(random), counted(&types, random)].concat())
        }
        4..8 => (b'B', bind(random)),
        8..12 => {
            let rows = *[0_i32, 1, 3, -1, i32::MAX].choose(random).unwrap();
            (b'E', [name(random), rows.to_be_bytes().to_vec()].concat())
        }
        12 | 13 => (b'D', [vec![*b"SP?".choose(random).unwrap()], name(random)].concat()),
        14 => (b'C', [vec![*b"SP".choose(random).unwrap()], name(random)].concat()),
        15 | 16 => (b'S', Vec::new()),
        17 => (b'H', Vec::new()),
        18 | 19 => (b'Q', text(random)),
        20 => (*b"dcfpF".choose(random).unwrap(), b"1\tx\n".to_vec()),
        _ => (random.random(), vec![0; random.random_range(0..20)]),
    };
    if random.random_ratio(1, 5) {
        mutate(&mut body, random);
    }
    let mut bytes = frame(kind, &body);
    if random.random_ratio(1, 300) {
        let at = random.random_range(0..bytes.len().min(5));
        bytes[at] = random.random();
    }
    bytes
}
