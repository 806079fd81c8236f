//! TPC-H: the queries, and how an answer is held against the reference.
//!
//! The reference answers were made by DuckDB at scale factor 0.01 (`tests/tpch/make_answers.py`).

use std::path::{Path, PathBuf};

use crate::daemon::{Catalogs, Setup, rows, try_rows};

/// How far two fractions may lie apart: an average has six digits here, and is a double there.
const TOLERANCE: f64 = 2e-6;
/// The same for large values, as a share of the value.
const TOLERANCE_SHARE: f64 = 1e-9;

/// How many queries there are; they are numbered from 1.
pub const QUERIES: usize = 22;

/// The rows of a result as a client reads them in text format.
pub type Rows = Vec<Vec<Option<String>>>;

/// The text of a query.
pub fn query(number: usize) -> String {
    read(&format!("queries/q{number}.sql"))
}

/// The reference answer of a query at scale factor 0.01, in the order that the query asks for.
pub fn reference(number: usize) -> Rows {
    let text = read(&format!("answers/q{number}.txt"));
    let value = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    text.lines().skip(1).map(|line| line.split('|').map(value).collect()).collect()
}

/// Compares the rows that a query gave with its reference answer.
///
/// Order counts. Numbers with a fraction may differ a little, everything else has to be equal.
///
/// # Errors
/// Says where the two differ first.
pub fn compare(number: usize, rows: &Rows) -> Result<(), String> {
    let reference = reference(number);
    for (at, (row, wanted)) in rows.iter().zip(&reference).enumerate() {
        let same =
            row.len() == wanted.len() && row.iter().zip(wanted).all(|(got, wanted)| alike(got, wanted));
        if !same {
            return Err(format!("query {number}, row {}: {row:?} instead of {wanted:?}", at + 1));
        }
    }
    if rows.len() != reference.len() {
        return Err(format!("query {number}: {} rows instead of {}", rows.len(), reference.len()));
    }
    Ok(())
}

fn alike(got: &Option<String>, wanted: &Option<String>) -> bool {
    let (Some(got), Some(wanted)) = (got, wanted) else {
        return got == wanted;
    };
    if got == wanted {
        return true;
    }
    if !wanted.contains('.') {
        return false;
    }
    match (got.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(got), Ok(wanted)) => (got - wanted).abs() <= TOLERANCE.max(wanted.abs() * TOLERANCE_SHARE),
        _ => false,
    }
}

fn read(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tpch").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_query_has_an_answer() {
    for number in 1..=QUERIES {
        assert!(query(number).contains("select"), "query {number}");
        compare(number, &reference(number)).unwrap();
    }
    assert_eq!(reference(9).len(), 173);
    assert_eq!(reference(17), vec![vec![None]]);
}

#[test]
fn a_wrong_answer_is_found() {
    let right = reference(1);
    let spoilt = |row: usize, column: usize, value: Option<&str>| {
        let mut rows = right.clone();
        rows[row][column] = value.map(str::to_owned);
        compare(1, &rows)
    };
    assert!(spoilt(0, 6, Some("25.575155")).is_ok(), "an average in six digits");
    assert!(spoilt(0, 6, Some("25.5752")).is_err(), "an average that is off");
    assert!(spoilt(0, 2, Some("380457.00")).is_err(), "a sum that is off by one");
    assert!(spoilt(3, 9, Some("14903")).is_err(), "a count that is off by one");
    assert!(spoilt(3, 9, None).is_err(), "a null");
    assert!(spoilt(1, 0, Some("n")).is_err(), "another word");
    let reversed: Rows = right.iter().rev().cloned().collect();
    assert!(compare(1, &reversed).is_err(), "another order");
    assert!(compare(1, &right[..3].to_vec()).is_err(), "a row less");
    assert!(compare(1, &[right.clone(), right.clone()].concat()).is_err(), "rows twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queries_over_the_wire() {
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("tpch").await;
    rows(&client, "SET search_path = tiny").await;
    let mut wrong = Vec::new();
    for number in 1..=QUERIES {
        match try_rows(&client, &query(number)).await {
            Ok(rows) => wrong.extend(compare(number, &rows).err()),
            Err(error) => wrong.push(format!("query {number}: {error:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
