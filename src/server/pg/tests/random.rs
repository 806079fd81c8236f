//! Random bytes before the readers of messages and packets: each gives a message or an error, and no text
//! or list is longer than the bytes that it came from.
//!
//! `LACUS_TEST_FUZZ_INPUTS` says how many. Sequences of them meet the daemon in `tests/integration/fuzz.rs`.

use bytes::Bytes;
use pgwire::messages::PgWireFrontendMessage as Message;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::server::pg::{decode, packet};

const KINDS: &[u8] = b"QPBDCEHSXdcfpF";
/// What bodies are made of, so that some of them are whole.
const PIECES: [&[u8]; 14] = [
    b"\0",
    b"\0\0",
    b"\0\x01",
    b"\0\x02",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x04",
    b"\0\0\0\0",
    b"S",
    b"P",
    b"SELECT $1\0",
    b"name\0",
    b"\xc3\x28\0",
    b"\x7f\xff\xff\xff",
    b"user\0ada\0options\0-c a=b --c=d\\ -c\0\0",
];

fn inputs() -> u64 {
    std::env::var("LACUS_TEST_FUZZ_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

fn body(random: &mut StdRng) -> Bytes {
    let pieces = (0..random.random_range(0..9)).map(|_| *PIECES.choose(random).expect("there are some"));
    let mut body = pieces.collect::<Vec<_>>().concat();
    for _ in 0..random.random_range(0..3) {
        let at = random.random_range(0..=body.len());
        body.insert(at, random.random());
    }
    body.into()
}

#[test]
fn random_bodies_are_messages_or_errors() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut whole, mut broken) = (0, 0);
    for _ in 0..inputs() {
        let kind =
            if random.random_ratio(1, 20) { random.random() } else { *KINDS.choose(&mut random).unwrap() };
        let body = body(&mut random);
        let length = body.len();
        match decode::message(kind, body) {
            Ok(message) => {
                whole += 1;
                assert!(held(&message) <= length, "{message:?}");
            }
            Err(error) => {
                broken += 1;
                assert!(matches!(error.sqlstate(), "08P01" | "22021" | "0A000"), "{error}");
            }
        }
    }
    assert!(whole * 20 > broken, "the inputs are not all of one kind: {whole} of {}", whole + broken);
}

/// Bytes that a message holds beyond its fixed fields.
fn held(message: &Message) -> usize {
    match message {
        Message::Query(query) => query.query.len(),
        Message::Parse(parse) => parse.query.len() + 4 * parse.type_oids.len(),
        Message::Bind(bind) => {
            let values = bind.parameters.iter().flatten().map(Bytes::len).sum::<usize>();
            let codes = bind.parameter_format_codes.len() + bind.result_column_format_codes.len();
            values + 4 * bind.parameters.len() + 2 * codes
        }
        Message::CopyData(data) => data.data.len(),
        _ => 0,
    }
}

#[test]
fn random_packets_are_requests_or_errors() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let codes = [196_608, 196_610, 80_877_102, 80_877_103, 80_877_104, 131_072, 0];
    for _ in 0..inputs() / 4 {
        let code =
            if random.random_ratio(1, 10) { random.random() } else { *codes.choose(&mut random).unwrap() };
        if let Err(error) = packet::decode(code, body(&mut random)) {
            assert!(matches!(error.sqlstate(), "08P01" | "22021" | "0A000" | "42601"), "{error}");
        }
    }
}
