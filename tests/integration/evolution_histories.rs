//! Random histories of a table whose columns come, go, change their names, places and types, and whose
//! partitions change, while rows are written: what Lacus and PyIceberg read is what a model in this test
//! holds.
//!
//! `LACUS_TEST_HISTORIES` says how many (12 by default).

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use crate::daemon::{Catalogs, Setup, rows};
use crate::interop::{python, table_folder};

const STEPS: usize = 30;
/// Few, so that a name comes again for another column.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Whole,
    Fraction,
    Text,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: Kind,
    wide: bool,
    /// Whether files are, or were, partitioned by it: it can neither go nor become wider then.
    partitions: bool,
}

/// By what rows are partitioned: a column, by the place that it has now, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Identity,
    Bucket(u32),
    Truncate(i64),
}

impl Column {
    fn sql_type(&self) -> &'static str {
        match (self.kind, self.wide) {
            (Kind::Whole, false) => "int",
            (Kind::Whole, true) => "bigint",
            (Kind::Fraction, false) => "real",
            (Kind::Fraction, true) => "double precision",
            (Kind::Text, _) => "text",
        }
    }

    /// A value as text; halves, so that both widths print them alike.
    fn value(&self, random: &mut StdRng) -> Option<String> {
        let number: i32 = random.random_range(-50..50);
        (number % 5 != 0).then(|| match self.kind {
            Kind::Whole => number.to_string(),
            Kind::Fraction => format!("{number}.5"),
            Kind::Text => format!("t{number}"),
        })
    }
}

fn literal(value: &Option<String>) -> String {
    value.as_ref().map_or_else(|| "NULL".to_owned(), |value| format!("'{value}'"))
}

/// What the table holds: values in the order of the columns. The key is the column called `k`.
#[derive(Debug, Clone)]
struct Model {
    table: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Option<String>>>,
    next_key: i64,
    spec: Vec<(String, How)>,
    /// Names that partitions have had, which no other column may get.
    taken: Vec<String>,
}

impl Model {
    fn new(table: String) -> Self {
        let key = Column { name: "k".to_owned(), kind: Kind::Whole, wide: false, partitions: false };
        let (rows, spec, taken) = (Vec::new(), Vec::new(), Vec::new());
        Self { table, columns: vec![key], rows, next_key: 1, spec, taken }
    }

    fn key(&self) -> usize {
        self.columns.iter().position(|column| column.name == "k").unwrap()
    }

    /// A column that is not the key.
    fn any_column(&self, random: &mut StdRng) -> Option<usize> {
        let others: Vec<usize> = (0..self.columns.len()).filter(|at| *at != self.key()).collect();
        (!others.is_empty()).then(|| others[random.random_range(0..others.len())])
    }

    fn free_name(&self, random: &mut StdRng) -> Option<String> {
        let is_free = |name: &&&str| {
            let is_partition = self.taken.iter().any(|taken| taken == **name);
            !is_partition && self.columns.iter().all(|column| column.name != **name)
        };
        let free: Vec<&&str> = NAMES.iter().filter(is_free).collect();
        (!free.is_empty()).then(|| (*free[random.random_range(0..free.len())]).to_owned())
    }

    fn keyed(&self, at: usize, divisor: i64, rest: i64) -> bool {
        let key: i64 = self.rows[at][self.key()].as_ref().unwrap().parse().unwrap();
        key % divisor == rest
    }

    /// Does one random thing, and returns the SQL for it; none where it does not fit.
    fn step(&mut self, random: &mut StdRng) -> Option<String> {
        let table = self.table.clone();
        match random.random_range(0..16) {
            0..=3 => Some(self.insert(random)),
            4 | 5 => {
                let at = self.any_column(random)?;
                let (value, rest) = (self.columns[at].value(random), random.random_range(0..3));
                for row in 0..self.rows.len() {
                    if self.keyed(row, 3, rest) {
                        self.rows[row][at].clone_from(&value);
                    }
                }
                let name = &self.columns[at].name;
                Some(format!("UPDATE {table} SET {name} = {} WHERE k % 3 = {rest}", literal(&value)))
            }
            6 => {
                let rest = random.random_range(0..7);
                let keep: Vec<bool> = (0..self.rows.len()).map(|row| !self.keyed(row, 7, rest)).collect();
                let mut keep = keep.into_iter();
                self.rows.retain(|_| keep.next().unwrap());
                Some(format!("DELETE FROM {table} WHERE k % 7 = {rest}"))
            }
            7 | 8 => self.add(random),
            9 => {
                let at = self.any_column(random).filter(|at| !self.columns[*at].partitions)?;
                let name = self.columns.remove(at).name;
                self.rows.iter_mut().for_each(|row| drop(row.remove(at)));
                Some(format!("ALTER TABLE {table} DROP COLUMN {name}"))
            }
            10 => {
                let (at, to) = (self.any_column(random)?, self.free_name(random)?);
                let from = std::mem::replace(&mut self.columns[at].name, to.clone());
                self.spec
                    .iter_mut()
                    .filter(|(name, _)| *name == from)
                    .for_each(|(name, _)| name.clone_from(&to));
                Some(format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}"))
            }
            11 => self.widen_or_move(random),
            12 => Some(format!("OPTIMIZE {table}")),
            13 => self.overwrite(random),
            _ => Some(self.repartition(random)),
        }
    }

    fn repartition(&mut self, random: &mut StdRng) -> String {
        self.spec.clear();
        let mut written = Vec::new();
        for _ in 0..random.random_range(0..3) {
            let at = random.random_range(0..self.columns.len());
            let Column { name, kind, .. } = self.columns[at].clone();
            if self.spec.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let (how, text) = match random.random_range(0..3) {
                0 if kind != Kind::Fraction => (How::Bucket(4), format!("bucket(4, {name})")),
                1 if kind == Kind::Whole => (How::Truncate(10), format!("truncate(10, {name})")),
                1 if kind == Kind::Text => (How::Truncate(2), format!("truncate(2, {name})")),
                _ => (How::Identity, name.clone()),
            };
            self.columns[at].partitions = true;
            self.taken.push(name.clone());
            self.spec.push((name, how));
            written.push(text);
        }
        format!("ALTER TABLE {} SET PARTITIONED BY ({})", self.table, written.join(", "))
    }

    /// The partition of a row; none where it takes a hash to know it.
    fn partition_of(&self, row: &[Option<String>]) -> Option<Vec<Option<String>>> {
        let value = |(name, how): &(String, How)| {
            let at = self.columns.iter().position(|column| column.name == *name)?;
            let Some(value) = &row[at] else { return Some(None) };
            match (how, self.columns[at].kind) {
                (How::Identity, _) => Some(Some(value.clone())),
                (How::Bucket(_), _) => None,
                (How::Truncate(width), Kind::Whole) => {
                    let number: i64 = value.parse().unwrap();
                    Some(Some((number - number.rem_euclid(*width)).to_string()))
                }
                (How::Truncate(width), _) => Some(Some(value.chars().take(*width as usize).collect())),
            }
        };
        self.spec.iter().map(value).collect()
    }

    fn overwrite(&mut self, random: &mut StdRng) -> Option<String> {
        let mut after = self.clone();
        after.rows.clear();
        let insert = after.insert(random);
        let new = after.rows.iter().map(|row| self.partition_of(row)).collect::<Option<Vec<_>>>()?;
        for row in &self.rows {
            if !new.contains(&self.partition_of(row)?) {
                after.rows.push(row.clone());
            }
        }
        *self = after;
        Some(insert.replacen("INSERT INTO", "INSERT OVERWRITE", 1))
    }

    fn insert(&mut self, random: &mut StdRng) -> String {
        let mut lines = Vec::new();
        for _ in 0..random.random_range(1..6) {
            let mut row: Vec<_> = self.columns.iter().map(|column| column.value(random)).collect();
            row[self.key()] = Some(self.next_key.to_string());
            self.next_key += 1;
            lines.push(format!("({})", row.iter().map(literal).collect::<Vec<_>>().join(", ")));
            self.rows.push(row);
        }
        format!("INSERT INTO {} VALUES {}", self.table, lines.join(", "))
    }

    fn add(&mut self, random: &mut StdRng) -> Option<String> {
        let name = self.free_name(random)?;
        let kind = [Kind::Whole, Kind::Fraction, Kind::Text][random.random_range(0..3)];
        let wide = random.random_range(0..4) == 0;
        let column = Column { name: name.clone(), kind, wide, partitions: false };
        let default = if random.random_range(0..4) == 0 { column.value(random) } else { None };
        let at = random.random_range(0..=self.columns.len());
        let place = match at {
            0 => "FIRST".to_owned(),
            at => format!("AFTER {}", self.columns[at - 1].name),
        };
        let words = default.as_ref().map(|value| format!("DEFAULT '{value}'")).unwrap_or_default();
        let sql =
            format!("ALTER TABLE {} ADD COLUMN {name} {} {words} {place}", self.table, column.sql_type());
        self.columns.insert(at, column);
        self.rows.iter_mut().for_each(|row| row.insert(at, default.clone()));
        Some(sql)
    }

    fn widen_or_move(&mut self, random: &mut StdRng) -> Option<String> {
        let at = random.random_range(0..self.columns.len());
        let name = self.columns[at].name.clone();
        let may_widen = self.columns[at].kind != Kind::Text && !self.columns[at].partitions;
        if random.random_range(0..2) == 0 && may_widen {
            self.columns[at].wide = true;
            let to = self.columns[at].sql_type();
            return Some(format!("ALTER TABLE {} ALTER COLUMN {name} TYPE {to}", self.table));
        }
        let column = self.columns.remove(at);
        self.columns.insert(0, column);
        self.rows.iter_mut().for_each(|row| row[..=at].rotate_right(1));
        Some(format!("ALTER TABLE {} ALTER COLUMN {name} SET FIRST", self.table))
    }

    fn sorted(&self) -> Vec<Vec<Option<String>>> {
        let key = self.key();
        let mut rows = self.rows.clone();
        rows.sort_by_key(|row| row[key].as_ref().unwrap().parse::<i64>().unwrap());
        rows
    }
}

/// Runs a history, comparing after each step; some steps are undone by their transaction.
async fn history(client: &Client, number: u64) -> Model {
    let mut random = StdRng::seed_from_u64(number);
    let mut model = Model::new(format!("evo.h{number}"));
    rows(client, &format!("CREATE TABLE {} (k int)", model.table)).await;
    let mut told = Vec::new();
    for _ in 0..STEPS {
        let before = model.clone();
        let Some(sql) = model.step(&mut random) else { continue };
        told.push(sql.clone());
        if random.random_range(0..6) == 0 {
            rows(client, &format!("BEGIN; {sql}")).await;
            assert_eq!(read(client, &model).await, model.sorted(), "history {number}: {told:#?}");
            rows(client, "ROLLBACK").await;
            model = before;
        } else {
            rows(client, &sql).await;
        }
        assert_eq!(read(client, &model).await, model.sorted(), "history {number}: {told:#?}");
    }
    model
}

async fn read(client: &Client, model: &Model) -> Vec<Vec<Option<String>>> {
    rows(client, &format!("SELECT * FROM {} ORDER BY k", model.table)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_read_as_the_model_says() {
    let count = std::env::var("LACUS_TEST_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let catalogs = Catalogs::on_disk();
    let daemon = Setup::default().serve(catalogs.path());
    let client = daemon.connect("lake").await;
    rows(&client, "CREATE SCHEMA evo").await;
    let mut models = Vec::new();
    for number in 0..count {
        models.push(history(&client, number).await);
    }
    let Some(mut python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_rows.py");
    python.arg(script);
    python.args(models.iter().map(|model| table_folder(&catalogs, &format!("{}-", model.table))));
    let ran = python.output().expect("the interpreter starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let seen: Vec<serde_json::Value> = serde_json::from_slice(&ran.stdout).expect("the script prints JSON");
    for (model, seen) in models.iter().zip(seen) {
        let names: Vec<&str> = model.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(seen["columns"], serde_json::json!(names), "{}", model.table);
        assert_eq!(seen["rows"], serde_json::json!(model.sorted()), "{}", model.table);
    }
}
