//! The checker: whether a history of transactions can be one of snapshot isolation.
//!
//! Transactions append unique values to *lists*, which are read in order, and to *bags*, which are read
//! without one. From what was read follows who came before whom: per list, every read must be a prefix of
//! the longest; across all keys, dependencies must not run in a circle, but for one with two adjacent
//! anti-dependencies (write skew), which snapshot isolation allows. So found: lost updates, partial
//! commits, dirty (G1a), intermediate (G1b), torn and stale reads, and the cycles G0, G1c and G-single.
//!
//! Source: Adya, "Weak Consistency" (1999); Kingsbury and Alvaro, "Elle" (2020)

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// A list or a bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    List(u32),
    Bag(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Append(Key, u64),
    /// What was there: in order for a list, sorted for a bag.
    Read(Key, Vec<u64>),
    /// All that accounts hold.
    Total(i64),
}

/// How a transaction ended, as far as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Committed,
    Aborted,
    /// The answer to COMMIT did not come.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// When the client began it, and when it had the last answer.
    pub began: Duration,
    pub ended: Duration,
    pub ops: Vec<Op>,
    pub end: End,
}

/// What snapshot isolation does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A transaction does not see its own work, or two snapshots.
    Internal,
    /// G1a: somebody saw what was rolled back.
    Dirty,
    /// G1b: somebody saw the middle of a transaction.
    Intermediate,
    /// Two reads of a list have no common order, or a value is there twice.
    Order,
    /// What was committed is not there.
    Lost,
    /// A part of a transaction is there, another is not.
    Partial,
    /// What was committed before a transaction began is not in what it read.
    Stale,
    /// Accounts hold another total.
    Total,
    /// G0, G1c, G-single: each came before the other.
    Cycle,
}

#[derive(Debug, Clone)]
pub struct Anomaly {
    pub kind: Kind,
    pub told: String,
}

/// Checks a history whose last transactions read every key, after everything else has ended.
pub fn check(history: &[Transaction], total: i64) -> Vec<Anomaly> {
    let mut checker = Checker::new(history);
    for (at, transaction) in history.iter().enumerate() {
        checker.check_alone(at, transaction, total);
    }
    checker.check_presence();
    checker.check_cycles();
    checker.anomalies
}

struct Checker<'a> {
    history: &'a [Transaction],
    /// The transaction that appended a value.
    writers: HashMap<(Key, u64), usize>,
    /// The longest that was read of each key.
    longest: HashMap<Key, Vec<u64>>,
    anomalies: Vec<Anomaly>,
}

/// Why one transaction came before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Edge {
    /// ww: the other wrote after it.
    Wrote,
    /// wr: the other saw what it wrote.
    Seen,
    /// rw: it did not see what the other wrote.
    Missed,
}

impl<'a> Checker<'a> {
    fn new(history: &'a [Transaction]) -> Self {
        let mut writers = HashMap::new();
        let mut longest: HashMap<Key, Vec<u64>> = HashMap::new();
        for (at, transaction) in history.iter().enumerate() {
            for op in &transaction.ops {
                match op {
                    Op::Append(key, value) => {
                        assert!(writers.insert((*key, *value), at).is_none(), "values are unique");
                    }
                    // What a transaction that is rolled back saw of itself is nobody's order.
                    Op::Read(key, values) if transaction.end == End::Committed => {
                        let known = longest.entry(*key).or_default();
                        if values.len() > known.len() {
                            known.clone_from(values);
                        }
                    }
                    Op::Read(..) | Op::Total(_) => {}
                }
            }
        }
        Self { history, writers, longest, anomalies: Vec::new() }
    }

    fn tell(&mut self, kind: Kind, told: String) {
        self.anomalies.push(Anomaly { kind, told });
    }

    /// Checks what one transaction read, by itself and against what others had committed.
    fn check_alone(&mut self, at: usize, transaction: &Transaction, total: i64) {
        let mut own: HashMap<Key, Vec<u64>> = HashMap::new();
        let mut first: HashMap<Key, Vec<u64>> = HashMap::new();
        for op in &transaction.ops {
            match op {
                Op::Append(key, value) => own.entry(*key).or_default().push(*value),
                Op::Total(found) if *found != total => {
                    self.tell(
                        Kind::Total,
                        format!("transaction {at} saw {found} in all accounts, not {total}"),
                    );
                }
                Op::Total(_) => {}
                Op::Read(key, values) => {
                    let mine = own.get(key).cloned().unwrap_or_default();
                    let others = match without(*key, values, &mine) {
                        Some(others) => others,
                        None => {
                            self.tell(Kind::Internal, format!("transaction {at} lost its own work: {op:?}"));
                            continue;
                        }
                    };
                    match first.get(key) {
                        None => {
                            self.check_read(at, *key, &others);
                            first.insert(*key, others);
                        }
                        Some(known) if *known == others => {}
                        Some(known) => {
                            let told = format!("transaction {at} read {key:?} as {known:?} and {others:?}");
                            self.tell(Kind::Internal, told);
                        }
                    }
                }
            }
        }
    }

    /// Checks one read of what others wrote.
    fn check_read(&mut self, at: usize, key: Key, values: &[u64]) {
        let distinct: HashSet<&u64> = values.iter().collect();
        if distinct.len() < values.len() {
            self.tell(Kind::Order, format!("transaction {at} read a value twice: {key:?} {values:?}"));
        }
        let longest = self.longest.get(&key).cloned().unwrap_or_default();
        let follows = match key {
            Key::List(_) => longest.starts_with(values) || values.starts_with(&longest),
            Key::Bag(_) => {
                let all: HashSet<&u64> = longest.iter().collect();
                distinct.is_subset(&all) || all.is_subset(&distinct)
            }
        };
        if !follows {
            let told = format!("transaction {at} read {key:?} as {values:?}, another as {longest:?}");
            self.tell(Kind::Order, told);
        }
        for value in values {
            match self.writers.get(&(key, *value)) {
                None => self.tell(Kind::Dirty, format!("nobody wrote {value}, which transaction {at} read")),
                Some(writer) if self.history[*writer].end == End::Aborted => {
                    let told = format!("transaction {at} saw {value} of {writer}, which was rolled back");
                    self.tell(Kind::Dirty, told);
                }
                Some(writer) => self.check_whole(at, key, *writer, &distinct),
            }
        }
        self.check_fresh(at, key, &distinct);
    }

    /// Who sees one value that a transaction appended to a key sees all of them.
    fn check_whole(&mut self, at: usize, key: Key, writer: usize, seen: &HashSet<&u64>) {
        let missing = appended(&self.history[writer]).find(|(of, value)| *of == key && !seen.contains(value));
        if let Some((_, value)) = missing {
            let told = format!("transaction {at} saw a part of {writer}, but not {value} in {key:?}");
            self.tell(Kind::Intermediate, told);
        }
    }

    /// Who begins after a commit was answered sees it.
    fn check_fresh(&mut self, at: usize, key: Key, seen: &HashSet<&u64>) {
        let began = self.history[at].began;
        let mut stale = Vec::new();
        for ((of, value), writer) in &self.writers {
            let writer_is_done =
                self.history[*writer].end == End::Committed && self.history[*writer].ended < began;
            if *of == key && writer_is_done && !seen.contains(value) {
                stale.push(format!("transaction {at} did not see {value} of {writer} in {key:?}"));
            }
        }
        stale.into_iter().for_each(|told| self.tell(Kind::Stale, told));
    }

    /// Whether a transaction came to be, as far as anybody saw.
    fn happened(&self, at: usize) -> bool {
        let transaction = &self.history[at];
        match transaction.end {
            End::Committed => true,
            End::Aborted => false,
            End::Unknown => appended(transaction).any(|(key, value)| self.is_there(key, value)),
        }
    }

    fn is_there(&self, key: Key, value: u64) -> bool {
        self.longest.get(&key).is_some_and(|values| values.contains(&value))
    }

    /// What was committed is there in the end, all of it.
    fn check_presence(&mut self) {
        let mut found = Vec::new();
        for (at, transaction) in self.history.iter().enumerate().filter(|(at, _)| self.happened(*at)) {
            let missing: Vec<_> =
                appended(transaction).filter(|(key, value)| !self.is_there(*key, *value)).collect();
            let kind = match missing.len() {
                0 => continue,
                some if some == appended(transaction).count() => Kind::Lost,
                _ => Kind::Partial,
            };
            found.push((
                kind,
                format!("of transaction {at} ({:?}), {missing:?} are missing", transaction.end),
            ));
        }
        found.into_iter().for_each(|(kind, told)| self.tell(kind, told));
    }

    fn check_cycles(&mut self) {
        let edges = self.edges();
        if let Some(cycle) = forbidden_cycle(&edges) {
            let path: Vec<String> = cycle.iter().map(|(at, edge)| format!("{at} {edge:?}")).collect();
            let text = |(at, _): &(usize, Edge)| format!("{at}: {:?}", self.history[*at].ops);
            let who: Vec<String> = cycle.iter().map(text).collect();
            self.tell(Kind::Cycle, format!("{}\n{}", path.join(" -> "), who.join("\n")));
        }
    }

    /// Who came before whom, of the transactions that happened.
    fn edges(&self) -> Vec<Vec<(usize, Edge)>> {
        let mut edges = vec![HashSet::new(); self.history.len()];
        let mut add = |from: usize, to: usize, edge: Edge| {
            if from != to {
                edges[from].insert((to, edge));
            }
        };
        let writer = |key: Key, value: u64| self.writers.get(&(key, value)).copied();
        for (key, values) in &self.longest {
            if matches!(key, Key::List(_)) {
                for pair in values.windows(2) {
                    if let (Some(one), Some(next)) = (writer(*key, pair[0]), writer(*key, pair[1])) {
                        add(one, next, Edge::Wrote);
                    }
                }
            }
        }
        for at in (0..self.history.len()).filter(|at| self.happened(*at)) {
            for (key, seen) in first_reads(&self.history[at]) {
                let all = self.longest.get(&key).map(Vec::as_slice).unwrap_or_default();
                let known: HashSet<&u64> = seen.iter().collect();
                for value in &seen {
                    writer(key, *value).into_iter().for_each(|from| add(from, at, Edge::Seen));
                }
                for value in all.iter().filter(|value| !known.contains(value)) {
                    writer(key, *value).into_iter().for_each(|to| add(at, to, Edge::Missed));
                }
            }
        }
        edges.into_iter().map(|of_one| of_one.into_iter().collect()).collect()
    }
}

fn appended(transaction: &Transaction) -> impl Iterator<Item = (Key, u64)> + '_ {
    transaction.ops.iter().filter_map(|op| match op {
        Op::Append(key, value) => Some((*key, *value)),
        _ => None,
    })
}

/// What a read saw of others; `None` when the reader's own work is not where it must be.
fn without(key: Key, values: &[u64], own: &[u64]) -> Option<Vec<u64>> {
    match key {
        Key::List(_) => values.strip_suffix(own).map(<[u64]>::to_vec),
        Key::Bag(_) => {
            let mut left: BTreeSet<u64> = values.iter().copied().collect();
            own.iter().all(|value| left.remove(value)).then(|| left.into_iter().collect())
        }
    }
}

/// What a transaction saw of others, by key.
fn first_reads(transaction: &Transaction) -> Vec<(Key, Vec<u64>)> {
    let mut own: HashMap<Key, Vec<u64>> = HashMap::new();
    let mut first: Vec<(Key, Vec<u64>)> = Vec::new();
    for op in &transaction.ops {
        match op {
            Op::Append(key, value) => own.entry(*key).or_default().push(*value),
            Op::Read(key, values) if first.iter().all(|(known, _)| known != key) => {
                let mine = own.get(key).map(Vec::as_slice).unwrap_or_default();
                first.extend(without(*key, values, mine).map(|others| (*key, others)));
            }
            Op::Read(..) | Op::Total(_) => {}
        }
    }
    first
}

/// A transaction, and whether it was reached by an anti-dependency.
type State = (usize, bool);

/// What follows a state, where no two anti-dependencies may be adjacent.
fn following(edges: &[Vec<(usize, Edge)>], (at, missed): State) -> impl Iterator<Item = (State, Edge)> + '_ {
    let allowed = edges[at].iter().filter(move |(_, edge)| !(missed && *edge == Edge::Missed));
    allowed.map(|(to, edge)| ((*to, *edge == Edge::Missed), *edge))
}

/// A circle in which no two anti-dependencies are adjacent, as transactions and why each came before
/// the next. Costs one pass over the edges where there is none.
fn forbidden_cycle(edges: &[Vec<(usize, Edge)>]) -> Option<Vec<(usize, Edge)>> {
    for start in in_circles(edges) {
        let mut came: HashMap<State, (State, Edge)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            for (to, edge) in following(edges, state) {
                if came.contains_key(&to) {
                    continue;
                }
                came.insert(to, (state, edge));
                if to == start {
                    return Some(path_back(start, &came));
                }
                queue.push_back(to);
            }
        }
    }
    None
}

/// The states that are left when those that nothing leads to are taken away, again and again.
fn in_circles(edges: &[Vec<(usize, Edge)>]) -> Vec<State> {
    let states = || (0..edges.len()).flat_map(|at| [(at, false), (at, true)]);
    let mut coming: HashMap<State, usize> = states().map(|state| (state, 0)).collect();
    for (to, _) in states().flat_map(|state| following(edges, state)) {
        *coming.entry(to).or_default() += 1;
    }
    let mut free: Vec<State> = states().filter(|state| coming[state] == 0).collect();
    while let Some(state) = free.pop() {
        coming.remove(&state);
        for (to, _) in following(edges, state) {
            let left = coming.get_mut(&to).expect("what is led to is not taken away");
            *left -= 1;
            if *left == 0 {
                free.push(to);
            }
        }
    }
    coming.into_keys().collect()
}

fn path_back(start: State, came: &HashMap<State, (State, Edge)>) -> Vec<(usize, Edge)> {
    let mut path = Vec::new();
    let mut state = start;
    loop {
        let (from, edge) = came[&state];
        path.push((from.0, edge));
        state = from;
        if state == start {
            path.reverse();
            return path;
        }
    }
}
