//! Support functions: those that `pg_type` and `pg_am` refer to by oid, as PostgreSQL numbers them.
//!
//! Nobody calls them. Clients look them up: whether a type's `typreceive` is `array_recv` says whether
//! it is an array.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A built-in function that types refer to.
#[derive(Debug)]
pub struct Support {
    pub oid: i64,
    pub name: &'static str,
    pub result: i64,
    pub strict: bool,
    /// `pg_proc.provolatile`.
    pub volatility: &'static str,
    pub arguments: Vec<i64>,
}

/// All of them, by oid.
pub fn all() -> &'static [Support] {
    &ALL
}

pub fn by_oid(oid: i64) -> Option<&'static Support> {
    ALL.binary_search_by_key(&oid, |one| one.oid).ok().map(|at| &ALL[at])
}

pub fn by_name(name: &str) -> Option<&'static Support> {
    BY_NAME.get(name).map(|at| &ALL[*at])
}

static ALL: LazyLock<Vec<Support>> = LazyLock::new(|| {
    include_str!("pg_proc.txt").lines().filter(|line| !line.starts_with('#')).map(parsed).collect()
});

static BY_NAME: LazyLock<HashMap<&'static str, usize>> =
    LazyLock::new(|| ALL.iter().enumerate().map(|(at, one)| (one.name, at)).collect());

/// One line of the table that is compiled in.
fn parsed(line: &'static str) -> Support {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |text: &str| text.parse::<i64>().expect("a number in pg_proc.txt");
    Support {
        oid: number(words[0]),
        name: words[1],
        result: number(words[2]),
        strict: words[3] == "t",
        volatility: words[4],
        arguments: words[5].split(',').filter(|word| *word != "-").map(number).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_both_ways() {
        assert_eq!(by_name("array_recv").map(|one| one.oid), Some(2400));
        assert_eq!(by_oid(2400).map(|one| one.name), Some("array_recv"));
        assert_eq!(by_oid(1).map(|one| one.name), None);
        assert!(all().is_sorted_by_key(|one| one.oid));
    }
}
