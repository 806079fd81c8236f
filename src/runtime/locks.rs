//! Advisory locks: numbers that the sessions of one daemon lock, for what only they know.
//!
//! They follow PostgreSQL's: shared or exclusive, held as often as they were taken, until they are given
//! back or the session ends, or until the transaction ends. Who waits is served in order of arrival. Two
//! daemons over one bucket know nothing of each other's.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};

/// How many different locks one session may hold.
const HELD_MAX: usize = 10_000;
/// How long a lock is waited for without `lock_timeout`: for as long as the statement may take.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

/// What is locked: one number of 64 bits, or two of 32, which are other ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    One(i64),
    Two(i32, i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Shared,
    Exclusive,
}

/// What a lock ends with, if it is not given back before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Session,
    Transaction,
}

/// Who locks: a session, in its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub process_id: i32,
    pub database: String,
}

/// A lock that somebody holds or waits for, as `pg_locks` shows it.
#[derive(Debug, Clone)]
pub struct LockInfo {
    pub owner: Owner,
    pub key: Key,
    pub mode: Mode,
    pub granted: bool,
}

/// The advisory locks of this process.
#[derive(Debug, Default)]
pub struct Locks {
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    locks: BTreeMap<(String, Key), Lock>,
    ticket: u64,
}

#[derive(Debug, Default)]
struct Lock {
    holders: Vec<Holder>,
    /// In order of arrival.
    waiting: Vec<Waiter>,
}

/// How often a session holds a lock, by mode and scope.
#[derive(Debug)]
struct Holder {
    process_id: i32,
    counts: [[u32; 2]; 2],
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    process_id: i32,
    mode: Mode,
}

impl Holder {
    fn holds(&self, mode: Mode) -> bool {
        self.counts[mode as usize].iter().any(|count| *count > 0)
    }

    fn conflicts(&self, mode: Mode) -> bool {
        self.holds(Mode::Exclusive) || mode == Mode::Exclusive && self.holds(Mode::Shared)
    }

    fn is_idle(&self) -> bool {
        !self.holds(Mode::Shared) && !self.holds(Mode::Exclusive)
    }
}

impl Lock {
    /// The sessions that `process_id` has to wait for: those that hold it, and those that came before.
    fn blockers(&self, process_id: i32, mode: Mode, ticket: u64) -> Vec<i32> {
        let others = |holder: &&Holder| holder.process_id != process_id && holder.conflicts(mode);
        let mut blockers: Vec<i32> =
            self.holders.iter().filter(others).map(|holder| holder.process_id).collect();
        // Who holds it already does not wait behind those who wait for it to go.
        if !self.holders.iter().any(|holder| holder.process_id == process_id) {
            let earlier = self.waiting.iter().filter(|waiter| {
                let conflicts = waiter.mode == Mode::Exclusive || mode == Mode::Exclusive;
                waiter.ticket < ticket && waiter.process_id != process_id && conflicts
            });
            blockers.extend(earlier.map(|waiter| waiter.process_id));
        }
        blockers
    }

    fn add(&mut self, process_id: i32, mode: Mode, scope: Scope) {
        let at = self.holders.iter().position(|holder| holder.process_id == process_id);
        let at = at.unwrap_or_else(|| {
            self.holders.push(Holder { process_id, counts: [[0; 2]; 2] });
            self.holders.len() - 1
        });
        self.holders[at].counts[mode as usize][scope as usize] += 1;
    }
}

impl Table {
    fn lock(&mut self, owner: &Owner, key: Key) -> &mut Lock {
        self.locks.entry((owner.database.clone(), key)).or_default()
    }

    /// Takes a lock that nobody stands in the way of.
    fn grant(&mut self, owner: &Owner, key: Key, mode: Mode, scope: Scope, ticket: u64) -> Result<bool> {
        let id = owner.process_id;
        let lock = self.lock(owner, key);
        if !lock.blockers(id, mode, ticket).is_empty() {
            return Ok(false);
        }
        let is_new = !lock.holders.iter().any(|holder| holder.process_id == id);
        if is_new && self.held_by(id) >= HELD_MAX {
            return Err(Error::LimitExceeded(format!("a session can hold {HELD_MAX} advisory locks")));
        }
        self.lock(owner, key).add(id, mode, scope);
        Ok(true)
    }

    fn held_by(&self, process_id: i32) -> usize {
        let holds = |lock: &&Lock| lock.holders.iter().any(|holder| holder.process_id == process_id);
        self.locks.values().filter(holds).count()
    }

    fn leave(&mut self, ticket: u64) {
        self.locks.retain(|_, lock| {
            lock.waiting.retain(|waiter| waiter.ticket != ticket);
            !(lock.waiting.is_empty() && lock.holders.is_empty())
        });
    }

    /// Whether a session waits, over others that wait, for itself.
    fn is_deadlock(&self, process_id: i32) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![process_id];
        while let Some(one) = open.pop() {
            for lock in self.locks.values() {
                for waiter in lock.waiting.iter().filter(|waiter| waiter.process_id == one) {
                    for blocker in lock.blockers(one, waiter.mode, waiter.ticket) {
                        if blocker == process_id {
                            return true;
                        }
                        if seen.insert(blocker) {
                            open.push(blocker);
                        }
                    }
                }
            }
        }
        false
    }

    /// Takes away what a session holds, as `which` counts it.
    fn release(&mut self, process_id: i32, which: impl Fn(&mut Holder)) {
        self.locks.retain(|_, lock| {
            for holder in lock.holders.iter_mut().filter(|holder| holder.process_id == process_id) {
                which(holder);
            }
            lock.holders.retain(|holder| !holder.is_idle());
            !(lock.waiting.is_empty() && lock.holders.is_empty())
        });
    }
}

impl Locks {
    /// The sessions that a session waits for.
    pub fn blocking(&self, process_id: i32) -> Vec<i32> {
        let table = self.table();
        let mut all = Vec::new();
        for lock in table.locks.values() {
            for waiter in lock.waiting.iter().filter(|waiter| waiter.process_id == process_id) {
                all.extend(lock.blockers(process_id, waiter.mode, waiter.ticket));
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Takes a lock, and waits for it, at most for `limit`.
    ///
    /// Dropping the future gives up the place in the line.
    ///
    /// # Errors
    /// [`Error::LockTimeout`]; [`Error::Deadlock`] when those before it wait for this session;
    /// [`Error::LimitExceeded`].
    pub async fn lock(
        &self,
        owner: &Owner,
        key: Key,
        mode: Mode,
        scope: Scope,
        limit: Option<Duration>,
    ) -> Result<()> {
        let deadline = Instant::now() + limit.unwrap_or(FOR_EVER);
        let place = self.enter(owner, key, mode);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut table = self.table();
                if table.grant(owner, key, mode, scope, place.ticket)? {
                    return Ok(());
                }
                if table.is_deadlock(owner.process_id) {
                    table.leave(place.ticket);
                    return Err(Error::Deadlock);
                }
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(Error::LockTimeout);
            }
        }
    }

    /// Takes a lock if nobody stands in the way.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`].
    pub fn try_lock(&self, owner: &Owner, key: Key, mode: Mode, scope: Scope) -> Result<bool> {
        let mut table = self.table();
        let granted = table.grant(owner, key, mode, scope, u64::MAX);
        table.leave(u64::MAX);
        granted
    }

    /// Gives back a session's lock, once; returns whether it was held.
    pub fn unlock(&self, owner: &Owner, key: Key, mode: Mode) -> bool {
        let mut table = self.table();
        let Some(lock) = table.locks.get_mut(&(owner.database.clone(), key)) else { return false };
        let mut holders = lock.holders.iter_mut();
        let Some(holder) = holders.find(|holder| holder.process_id == owner.process_id) else { return false };
        let count = &mut holder.counts[mode as usize][Scope::Session as usize];
        if *count == 0 {
            return false;
        }
        *count -= 1;
        table.release(owner.process_id, |_| {});
        self.changed.notify_waiters();
        true
    }

    /// Gives back all that a session holds for itself, or for its transaction.
    pub fn unlock_all(&self, process_id: i32, scope: Scope) {
        let clear = |holder: &mut Holder| {
            for mode in &mut holder.counts {
                mode[scope as usize] = 0;
            }
        };
        self.table().release(process_id, clear);
        self.changed.notify_waiters();
    }

    /// Every lock that is held or waited for.
    pub fn list(&self) -> Vec<LockInfo> {
        let table = self.table();
        let mut list = Vec::new();
        for ((database, key), lock) in &table.locks {
            let info = |process_id: i32, mode: Mode, granted: bool| LockInfo {
                owner: Owner { process_id, database: database.clone() },
                key: *key,
                mode,
                granted,
            };
            for holder in &lock.holders {
                let modes = [Mode::Shared, Mode::Exclusive].into_iter().filter(|mode| holder.holds(*mode));
                list.extend(modes.map(|mode| info(holder.process_id, mode, true)));
            }
            list.extend(lock.waiting.iter().map(|waiter| info(waiter.process_id, waiter.mode, false)));
        }
        list
    }

    fn enter(&self, owner: &Owner, key: Key, mode: Mode) -> Place<'_> {
        let mut table = self.table();
        table.ticket += 1;
        let ticket = table.ticket;
        table.lock(owner, key).waiting.push(Waiter { ticket, process_id: owner.process_id, mode });
        Place { locks: self, ticket }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic under this lock leaves whole values behind.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a line, given up when dropped.
struct Place<'a> {
    locks: &'a Locks,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.locks.table().leave(self.ticket);
        self.locks.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(process_id: i32) -> Owner {
        Owner { process_id, database: "lake".to_owned() }
    }

    #[tokio::test]
    async fn locks_wait_in_line_and_end_with_their_scope() {
        let locks = Locks::default();
        let (key, other) = (Key::One(7), Key::Two(0, 7));
        locks.lock(&owner(1), key, Mode::Exclusive, Scope::Session, None).await.unwrap();
        locks.lock(&owner(1), key, Mode::Exclusive, Scope::Transaction, None).await.unwrap();
        assert!(!locks.try_lock(&owner(2), key, Mode::Shared, Scope::Session).unwrap());
        assert!(locks.try_lock(&owner(2), other, Mode::Shared, Scope::Session).unwrap(), "another number");
        let (waiting, owner_2) = (Some(Duration::from_millis(1)), owner(2));
        let late = locks.lock(&owner_2, key, Mode::Shared, Scope::Session, waiting).await;
        assert_eq!(late.unwrap_err().sqlstate(), "55P03");
        let mut waits = Box::pin(locks.lock(&owner_2, key, Mode::Shared, Scope::Session, None));
        assert!(futures::poll!(&mut waits).is_pending());
        assert!(locks.unlock(&owner(1), key, Mode::Exclusive));
        assert!(!locks.unlock(&owner(1), key, Mode::Exclusive), "only the transaction holds it still");
        assert!(futures::poll!(&mut waits).is_pending());
        locks.unlock_all(1, Scope::Transaction);
        waits.await.unwrap();
        locks.unlock_all(2, Scope::Session);
        assert!(locks.list().is_empty(), "nothing stays behind");
    }

    #[tokio::test]
    async fn who_would_wait_for_itself_is_told() {
        let locks = Locks::default();
        let (one, two) = (owner(1), owner(2));
        for (owner, key) in [(&one, 1), (&two, 2)] {
            locks.lock(owner, Key::One(key), Mode::Exclusive, Scope::Session, None).await.unwrap();
        }
        let mut waits = Box::pin(locks.lock(&one, Key::One(2), Mode::Exclusive, Scope::Session, None));
        assert!(futures::poll!(&mut waits).is_pending());
        let refused = locks.lock(&two, Key::One(1), Mode::Shared, Scope::Session, None).await;
        assert_eq!(refused.unwrap_err().sqlstate(), "40P01");
        locks.unlock_all(2, Scope::Session);
        waits.await.unwrap();
    }
}
