//! The checker is checked: good histories pass, and each anomaly, made by hand, is found.

use std::time::Duration;

use super::check::{End, Key, Kind, Op, Transaction, check};
use Key::{Bag, List};
use Op::{Append, Read, Total};

/// Transactions that all overlap, and one that reads everything when they have ended.
fn found(ends: &[(End, Vec<Op>)], last: Vec<Op>) -> Vec<Kind> {
    let overlapping = |(end, ops): &(End, Vec<Op>)| Transaction {
        began: Duration::ZERO,
        ended: Duration::from_secs(10),
        ops: ops.clone(),
        end: *end,
    };
    let mut history: Vec<Transaction> = ends.iter().map(overlapping).collect();
    let (began, ended) = (Duration::from_secs(20), Duration::from_secs(21));
    history.push(Transaction { began, ended, ops: last, end: End::Committed });
    let mut kinds: Vec<Kind> = check(&history, 100).into_iter().map(|anomaly| anomaly.kind).collect();
    kinds.dedup();
    kinds
}

use End::{Aborted, Committed, Unknown};

#[test]
fn what_snapshot_isolation_allows_passes() {
    let last = || vec![Read(List(1), vec![1, 2]), Read(Bag(1), vec![3, 4]), Total(100)];
    let appends = || {
        vec![
            (Committed, vec![Append(List(1), 1), Append(Bag(1), 3)]),
            (Committed, vec![Read(List(1), vec![1]), Append(List(1), 2), Read(List(1), vec![1, 2])]),
            (Committed, vec![Append(Bag(1), 4), Read(Bag(1), vec![4])]),
            (Aborted, vec![Append(List(1), 9), Read(List(1), vec![1, 9])]),
            (Unknown, vec![Append(List(1), 8), Append(Bag(1), 8)]),
        ]
    };
    assert_eq!(found(&appends(), last()), []);
    // An unclear end that came true.
    let mut unclear = appends();
    unclear[0].0 = Unknown;
    assert_eq!(found(&unclear, last()), []);
    // Write skew: each misses what the other writes.
    let skew = [
        (Committed, vec![Read(List(1), vec![]), Append(List(2), 1)]),
        (Committed, vec![Read(List(2), vec![]), Append(List(1), 2)]),
    ];
    assert_eq!(found(&skew, vec![Read(List(1), vec![2]), Read(List(2), vec![1])]), []);
}

#[test]
fn a_lost_update_is_found() {
    let both = [
        (Committed, vec![Read(List(1), vec![]), Append(List(1), 1)]),
        (Committed, vec![Read(List(1), vec![]), Append(List(1), 2)]),
    ];
    assert_eq!(found(&both, vec![Read(List(1), vec![2])]), [Kind::Stale, Kind::Lost]);
    // Both are there, but neither saw the other before it wrote: G-single.
    assert_eq!(found(&both, vec![Read(List(1), vec![1, 2])]), [Kind::Cycle]);
}

#[test]
fn a_part_of_a_commit_is_found() {
    for end in [Committed, Unknown] {
        let one = [(end, vec![Append(List(1), 1), Append(Bag(1), 2)])];
        let kinds = found(&one, vec![Read(List(1), vec![1]), Read(Bag(1), vec![])]);
        assert!(kinds.contains(&Kind::Partial), "{end:?}: {kinds:?}");
    }
}

#[test]
fn dirty_and_intermediate_reads_are_found() {
    let aborted = [(Aborted, vec![Append(List(1), 1)]), (Committed, vec![Read(List(1), vec![1])])];
    assert_eq!(found(&aborted, vec![Read(List(1), vec![])]), [Kind::Dirty]);
    let nobody = [(Committed, vec![Read(Bag(1), vec![7])])];
    assert_eq!(found(&nobody, vec![Read(Bag(1), vec![])]), [Kind::Dirty]);
    let middle = [
        (Committed, vec![Append(List(1), 1), Append(List(1), 2)]),
        (Committed, vec![Read(List(1), vec![1])]),
    ];
    let kinds = found(&middle, vec![Read(List(1), vec![1, 2])]);
    assert!(kinds.contains(&Kind::Intermediate), "{kinds:?}");
}

#[test]
fn a_torn_read_is_found() {
    // G-single: half of what another did is seen.
    let torn = [
        (Committed, vec![Append(List(1), 1), Append(List(2), 2)]),
        (Committed, vec![Read(List(1), vec![1]), Read(List(2), vec![])]),
    ];
    assert_eq!(found(&torn, vec![Read(List(1), vec![1]), Read(List(2), vec![2])]), [Kind::Cycle]);
    // A long fork: two readers see two commits in either order.
    let fork = [
        (Committed, vec![Append(Bag(1), 1)]),
        (Committed, vec![Append(Bag(2), 2)]),
        (Committed, vec![Read(Bag(1), vec![1]), Read(Bag(2), vec![])]),
        (Committed, vec![Read(Bag(1), vec![]), Read(Bag(2), vec![2])]),
    ];
    assert_eq!(found(&fork, vec![Read(Bag(1), vec![1]), Read(Bag(2), vec![2])]), [Kind::Cycle]);
    assert_eq!(found(&[(Committed, vec![Total(99)])], vec![]), [Kind::Total]);
}

#[test]
fn circles_of_writes_and_reads_are_found() {
    // G0: two lists hold two transactions in either order.
    let crossed = [
        (Committed, vec![Append(List(1), 1), Append(List(2), 2)]),
        (Committed, vec![Append(List(1), 3), Append(List(2), 4)]),
    ];
    assert_eq!(found(&crossed, vec![Read(List(1), vec![1, 3]), Read(List(2), vec![4, 2])]), [Kind::Cycle]);
    // G1c: each sees the other's work.
    let mutual = [
        (Committed, vec![Append(List(1), 1), Read(List(2), vec![2])]),
        (Committed, vec![Append(List(2), 2), Read(List(1), vec![1])]),
    ];
    assert_eq!(found(&mutual, vec![Read(List(1), vec![1]), Read(List(2), vec![2])]), [Kind::Cycle]);
}

#[test]
fn disorder_within_and_between_transactions_is_found() {
    let writes = (Committed, vec![Append(List(1), 1)]);
    let others = (Committed, vec![Append(List(1), 2)]);
    let orders = [writes.clone(), others.clone(), (Committed, vec![Read(List(1), vec![2])])];
    assert_eq!(found(&orders, vec![Read(List(1), vec![1, 2])])[0], Kind::Order);
    let twice = [writes.clone(), (Committed, vec![Read(List(1), vec![1, 1])])];
    assert!(found(&twice, vec![Read(List(1), vec![1])]).contains(&Kind::Order));
    let blind = [(Committed, vec![Append(List(1), 1), Read(List(1), vec![])])];
    assert_eq!(found(&blind, vec![Read(List(1), vec![1])]), [Kind::Internal]);
    let moving = [writes, (Committed, vec![Read(List(1), vec![]), Read(List(1), vec![1])])];
    assert_eq!(found(&moving, vec![Read(List(1), vec![1])])[0], Kind::Internal);
    // What was committed long ago is missed by who begins now.
    assert_eq!(found(&[others], vec![Read(List(1), vec![])])[0], Kind::Stale);
}
