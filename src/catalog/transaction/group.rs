//! Group commit: transactions of one process that commit at one moment share an entry of the log.
//!
//! Who comes while no commit is under way *leads*: it takes what waits, up to the group's limit, drafts
//! one entry ([`draft`]) and puts it into the next free slot. Those who come meanwhile wait for the next
//! leader, so that a slow store makes groups larger instead of commits slower. Each member is checked
//! against the state and the members before it; one that fails is told so, and the others go on.

mod draft;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use self::draft::Draft;
use super::super::lake::{Lake, Slot};
use super::super::log::{Dependency, Operation};
use super::super::state::LakeState;
use super::{LakeView, lock};
use crate::error::{Error, Result};

/// Lost races for a slot after which a commit gives up.
const ATTEMPTS_MAX: u32 = 200;

/// What waits to be committed to one lake.
#[derive(Debug)]
pub(in crate::catalog) struct Queue {
    group_max: usize,
    waiting: Mutex<VecDeque<Waiting>>,
    /// Held by the leader, over the put of an entry.
    leading: tokio::sync::Mutex<()>,
    /// Folders of tables that were committed, with the metadata that other engines are to be told of.
    pub(super) hints: Mutex<BTreeMap<String, String>>,
    /// Held while other engines are told.
    pub(super) publishing: tokio::sync::Mutex<()>,
}

/// A transaction that is to be committed.
#[derive(Debug)]
pub(super) struct Candidate {
    pub view: LakeView,
    /// What it read and a commit has to check.
    pub reads: Vec<Dependency>,
    pub transaction: String,
    pub user: String,
    pub query: String,
}

#[derive(Debug)]
struct Waiting {
    candidate: Candidate,
    answer: oneshot::Sender<Result<()>>,
}

impl Waiting {
    fn tell(self, result: Result<()>) {
        // Who asked may be gone; the commit stands either way.
        self.answer.send(result).ok();
    }
}

impl Queue {
    pub fn new(group_max: usize) -> Self {
        Self {
            group_max: group_max.max(1),
            waiting: Mutex::default(),
            leading: tokio::sync::Mutex::default(),
            hints: Mutex::default(),
            publishing: tokio::sync::Mutex::default(),
        }
    }

    fn take(&self) -> VecDeque<Waiting> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.len().min(self.group_max);
        waiting.drain(..count).collect()
    }

    /// Puts back what could not join, in its order, before those who came later.
    fn put_back(&self, left: VecDeque<Waiting>) {
        let mut waiting = lock(&self.waiting);
        for one in left.into_iter().rev() {
            waiting.push_front(one);
        }
    }
}

/// Commits a candidate, by itself or as a member of a group.
pub(super) async fn commit(lake: &Arc<Lake>, candidate: Candidate) -> Result<()> {
    let (answer, mut answered) = oneshot::channel();
    lock(&lake.queue.waiting).push_back(Waiting { candidate, answer });
    let mut made = None;
    let leading = lake.queue.leading.lock().await;
    let told = loop {
        match answered.try_recv() {
            Ok(told) => break told,
            Err(TryRecvError::Closed) => break Err(Error::CommitUnknown("the daemon stops".to_owned())),
            Err(TryRecvError::Empty) => made = lead(lake).await.or(made),
        }
    };
    drop(leading);
    if let Some(state) = made {
        lake.checkpoint(&state).await;
    }
    told
}

/// Commits what waits, up to the limit of a group; returns the state of a version that was made.
async fn lead(lake: &Lake) -> Option<Arc<LakeState>> {
    let mut batch = lake.queue.take();
    // What this process saw last is mostly the newest there is; the put tells if it is not.
    let mut state = lake.current();
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            let pause = rand::random_range(1..=5 * u64::from(attempt.min(20) + 1));
            tokio::time::sleep(Duration::from_millis(pause)).await;
            match lake.refresh().await {
                Ok(newest) => state = newest,
                Err(error) => {
                    fail(batch, &error);
                    return None;
                }
            }
        }
        match state.sealed {
            // What this process saw last may be opened again by now.
            true if attempt == 0 => continue,
            true => {
                fail(batch, &sealed(lake));
                return None;
            }
            false => {}
        }
        let (draft, left) = Draft::of(lake, &state, batch).await;
        lake.queue.put_back(left);
        if draft.members.is_empty() {
            return None;
        }
        match lake.put(&draft.entry).await {
            Ok(Slot::Ours) => return Some(finish(lake, &state, draft)),
            Ok(Slot::Taken) => batch = draft.members,
            Err(error) => {
                fail(draft.members, &error);
                return None;
            }
        }
    }
    let what = format!("catalog \"{}\"", lake.name);
    fail(batch, &Error::CommitConflict { what, by: None });
    None
}

/// Makes an entry that has its slot the newest state, and tells its members.
fn finish(lake: &Lake, state: &LakeState, draft: Draft) -> Arc<LakeState> {
    let mut next = state.clone();
    next.apply(&draft.entry);
    let next = Arc::new(next);
    lake.advance(Arc::clone(&next));
    let mut hints = lock(&lake.queue.hints);
    // Other engines see the trunk only.
    let is_trunk = lake.grew_from().is_none();
    for operation in draft.entry.operations.iter().filter(|_| is_trunk) {
        if let Operation::PutTable { table, .. } = operation {
            hints.insert(table.directory.clone(), table.metadata.clone());
            lake.touch(table.id.clone());
        }
    }
    drop(hints);
    for member in draft.members {
        member.tell(Ok(()));
    }
    next
}

/// What those are told who commit to a branch too late.
fn sealed(lake: &Lake) -> Error {
    let name = &lake.name;
    Error::ObjectInUse(format!("the branch of \"{name}\" takes no commits: it is being merged, or was"))
}

/// Tells all members of a group what went wrong with it.
fn fail(members: VecDeque<Waiting>, error: &Error) {
    for member in members {
        member.tell(Err(error.repeated()));
    }
}
