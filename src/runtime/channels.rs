//! Channels: what NOTIFY sends to the sessions of this daemon that LISTEN.
//!
//! A session has one mailbox for all channels that it listens to. Two daemons over one bucket know
//! nothing of each other's notifications.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::{Error, Result};

/// What a session may leave unread: this many notifications, or bytes of them.
const UNREAD_MAX: usize = 10_000;
const UNREAD_BYTES_MAX: usize = 4 << 20;
/// As in PostgreSQL.
pub const PAYLOAD_BYTES_MAX: usize = 7_999;
pub const CHANNEL_BYTES_MAX: usize = 63;
/// How many channels one session may listen to.
const CHANNELS_MAX: usize = 10_000;

/// A notification, and the session that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub process_id: i32,
    pub channel: Arc<str>,
    pub payload: Arc<str>,
}

/// What a session asks of its mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listening {
    Add(String),
    Remove(String),
    RemoveAll,
}

/// The mailboxes of this process, by the sessions' process ids.
#[derive(Debug, Default)]
pub struct Channels {
    boxes: Mutex<BTreeMap<i32, Mailbox>>,
}

#[derive(Debug)]
struct Mailbox {
    database: String,
    channels: BTreeSet<String>,
    unread: VecDeque<Notification>,
    unread_bytes: usize,
    arrived: Arc<Notify>,
}

impl Mailbox {
    fn hears(&self, database: &str, channel: &str) -> bool {
        self.database == database && self.channels.contains(channel)
    }
}

impl Channels {
    /// Changes what a session listens to; `arrived` is told of what comes.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`].
    pub fn listen(
        &self,
        process_id: i32,
        database: &str,
        arrived: &Arc<Notify>,
        changes: impl IntoIterator<Item = Listening>,
    ) -> Result<()> {
        let mut boxes = self.lock();
        let mailbox = boxes.entry(process_id).or_insert_with(|| Mailbox {
            database: database.to_owned(),
            channels: BTreeSet::new(),
            unread: VecDeque::new(),
            unread_bytes: 0,
            arrived: Arc::clone(arrived),
        });
        for change in changes {
            match change {
                Listening::Add(_) if mailbox.channels.len() >= CHANNELS_MAX => {
                    let message = format!("a session can listen to {CHANNELS_MAX} channels");
                    return Err(Error::LimitExceeded(message));
                }
                Listening::Add(channel) => drop(mailbox.channels.insert(channel)),
                Listening::Remove(channel) => drop(mailbox.channels.remove(&channel)),
                Listening::RemoveAll => mailbox.channels.clear(),
            }
        }
        if mailbox.channels.is_empty() && mailbox.unread.is_empty() {
            boxes.remove(&process_id);
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::LimitExceeded`] when a session that would hear of it has too much unread.
    pub fn ensure_room(&self, database: &str, sent: &[(String, String)]) -> Result<()> {
        let boxes = self.lock();
        for mailbox in boxes.values() {
            let heard = sent.iter().filter(|(channel, _)| mailbox.hears(database, channel));
            let (count, bytes) =
                heard.fold((0, 0), |(count, bytes), (_, text)| (count + 1, bytes + text.len()));
            let is_full =
                mailbox.unread.len() + count > UNREAD_MAX || mailbox.unread_bytes + bytes > UNREAD_BYTES_MAX;
            if count > 0 && is_full {
                return Err(Error::LimitExceeded("too many notifications in the NOTIFY queue".to_owned()));
            }
        }
        Ok(())
    }

    /// Delivers what a transaction has sent, each notification once, in order.
    pub fn publish(&self, process_id: i32, database: &str, sent: Vec<(String, String)>) {
        let mut seen = HashSet::new();
        let mut boxes = self.lock();
        for (channel, payload) in sent {
            if !seen.insert((channel.clone(), payload.clone())) {
                continue;
            }
            let (channel, payload): (Arc<str>, Arc<str>) = (channel.into(), payload.into());
            for mailbox in boxes.values_mut().filter(|mailbox| mailbox.hears(database, &channel)) {
                let (channel, payload) = (Arc::clone(&channel), Arc::clone(&payload));
                mailbox.unread_bytes += payload.len();
                mailbox.unread.push_back(Notification { process_id, channel, payload });
                mailbox.arrived.notify_one();
            }
        }
    }

    /// Takes what has arrived for a session.
    pub fn take(&self, process_id: i32) -> Vec<Notification> {
        let mut boxes = self.lock();
        let Some(mailbox) = boxes.get_mut(&process_id) else { return Vec::new() };
        mailbox.unread_bytes = 0;
        mailbox.unread.drain(..).collect()
    }

    /// The channels that a session listens to, by name.
    pub fn of(&self, process_id: i32) -> Vec<String> {
        let boxes = self.lock();
        boxes.get(&process_id).map_or_else(Vec::new, |mailbox| mailbox.channels.iter().cloned().collect())
    }

    /// The fullest mailbox's share of what may be unread, from 0 to 1.
    pub fn usage(&self) -> f64 {
        let unread = self.lock().values().map(|mailbox| mailbox.unread.len()).max().unwrap_or(0);
        unread as f64 / UNREAD_MAX as f64
    }

    /// Forgets a session.
    pub fn close(&self, process_id: i32) {
        self.lock().remove(&process_id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Mailbox>> {
        // A panic under this lock leaves whole values behind.
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_hears_each_notification_once_and_not_too_many() {
        let channels = Channels::default();
        let arrived = Arc::default();
        channels.listen(1, "lake", &arrived, [Listening::Add("a".to_owned())]).unwrap();
        let sent = |channel: &str, payload: &str| (channel.to_owned(), payload.to_owned());
        channels.publish(2, "lake", vec![sent("a", "x"), sent("b", "x"), sent("a", "y"), sent("a", "x")]);
        channels.publish(2, "tpch", vec![sent("a", "elsewhere")]);
        let heard: Vec<_> = channels.take(1).into_iter().map(|one| one.payload.to_string()).collect();
        assert_eq!(heard, ["x", "y"]);
        let flood: Vec<_> = (0..UNREAD_MAX).map(|number| sent("a", &number.to_string())).collect();
        channels.ensure_room("lake", &flood).unwrap();
        channels.publish(2, "lake", flood);
        assert_eq!(channels.ensure_room("lake", &[sent("a", "")]).unwrap_err().sqlstate(), "54000");
        channels.ensure_room("lake", &[sent("b", "")]).unwrap();
        channels.take(1);
        channels.listen(1, "lake", &arrived, [Listening::RemoveAll]).unwrap();
        assert!(channels.lock().is_empty(), "a mailbox that nobody needs is gone");
    }
}
