//! Oids: the numbers by which `pg_catalog` refers to things.
//!
//! Lacus stores no oids. One is the hash of what it stands for, so that every statement, session and
//! daemon gives the same number to the same table without a word between them. PostgreSQL's own
//! objects keep PostgreSQL's numbers, all below [`FIRST`].

use std::collections::HashSet;

/// The first oid that PostgreSQL gives to what users make.
pub const FIRST: i64 = 16_384;
const END: i64 = 1 << 31;
/// Relations have oids below this. Those above are the indexes', a block of this length for each place
/// among the keys of a table, so that an index is known to belong to a table without reading anything.
const BLOCK: i64 = 1 << 28;
/// How many keys of one table show as indexes; what more there are, are constraints alone.
pub const INDEXES_MAX: i64 = END / BLOCK - 1;

/// The role that owns everything, PostgreSQL's bootstrap superuser.
pub const OWNER: i64 = 10;
/// The name of [`OWNER`].
pub const OWNER_NAME: &str = "lacus";

/// The oid of what `path` names (kind first, then catalog, schema, name), were it alone.
pub fn hashed(path: &[&str]) -> i64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    for byte in path.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    // The high bits of FNV-1a are mixed worse than the low ones: fold them in.
    let folded = (hash ^ (hash >> 32)) % (END - FIRST) as u64;
    FIRST + folded as i64
}

/// The oid of a role.
pub fn of_role(name: &str) -> i64 {
    if name == OWNER_NAME { OWNER } else { hashed(&["role", name]) }
}

/// The oid of a database, which is a catalog of Lacus.
pub fn of_database(name: &str) -> i64 {
    hashed(&["database", name])
}

/// The oid of the index that shows the key at `place`, counted from 0, of a relation.
///
/// None for a key too many.
pub fn of_index(relation: i64, place: usize) -> Option<i64> {
    let place = i64::try_from(place).ok().filter(|place| *place < INDEXES_MAX)?;
    (relation < BLOCK).then_some((place + 1) * BLOCK + relation)
}

/// The relation that an index belongs to; none for the oid of anything else.
pub fn of_indexed(index: i64) -> Option<i64> {
    (BLOCK..END).contains(&index).then_some(index % BLOCK)
}

/// Gives oids to things that share one number space, in the order in which they come.
///
/// Two that hash alike are told apart by their place: the later takes the next free number. The
/// answer depends only on what there is, as long as it is asked for in a fixed order.
#[derive(Debug, Default)]
pub struct Assignment {
    taken: HashSet<i64>,
}

impl Assignment {
    pub fn assign(&mut self, path: &[&str]) -> i64 {
        self.place(hashed(path), END)
    }

    /// The same for a table or view, whose oid leaves room for those of its indexes.
    pub fn assign_relation(&mut self, path: &[&str]) -> i64 {
        self.place(FIRST + (hashed(path) - FIRST) % (BLOCK - FIRST), BLOCK)
    }

    fn place(&mut self, wanted: i64, end: i64) -> i64 {
        let mut oid = wanted;
        while !self.taken.insert(oid) {
            oid = if oid + 1 == end { FIRST } else { oid + 1 };
        }
        oid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_has_the_same_oid_for_ever() {
        // Fixed on purpose: clients keep oids, and daemons of different age serve one lake.
        assert_eq!(
            hashed(&["relation", "lake", "raw", "flights"]),
            hashed(&["relation", "lake", "raw", "flights"])
        );
        assert_eq!(of_role("lacus"), OWNER);
        assert_eq!(of_database("lake"), 1_322_758_529);
        assert_ne!(hashed(&["relation", "a", "bc"]), hashed(&["relation", "ab", "c"]));
    }

    #[test]
    fn a_collision_takes_the_next_number() {
        let mut assignment = Assignment::default();
        let given: Vec<i64> =
            [FIRST, FIRST, FIRST + 1, END - 1, END - 1].map(|oid| assignment.place(oid, END)).into();
        assert_eq!(given, [FIRST, FIRST + 1, FIRST + 2, END - 1, FIRST + 3]);
    }

    #[test]
    fn an_index_is_known_by_its_relation() {
        let relation = Assignment::default().assign_relation(&["relation", "lake", "raw", "flights"]);
        for place in 0..INDEXES_MAX {
            let index = of_index(relation, place as usize).unwrap();
            assert!(index < END && of_indexed(index) == Some(relation));
        }
        assert_eq!(of_index(relation, INDEXES_MAX as usize), None);
        assert_eq!(of_indexed(relation), None);
    }
}
