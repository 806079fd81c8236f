//! How many clients may be here at once.
//!
//! Two counts, as two kinds of client exhaust a server: *half-open* connections, which have not logged in
//! and may be anybody's, and sessions. A stranger can fill only the first, of it only a share from one
//! address, and for no longer than the startup may take; who is logged in keeps working. A permit gives
//! its place back when it is dropped.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Sessions, that is, connections that are logged in.
    pub sessions_max: usize,
    /// Connections that are not logged in.
    pub half_open_max: usize,
    /// Connections from one address that are not logged in (of IPv6, from one /64).
    pub half_open_peer_max: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { sessions_max: 200, half_open_max: 256, half_open_peer_max: 128 }
    }
}

/// The connections of a server, counted.
#[derive(Clone)]
pub struct Connections {
    limits: ConnectionLimits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    sessions: usize,
    half_open: usize,
    half_open_by_peer: HashMap<IpAddr, usize>,
}

/// A place among the half-open connections.
pub struct HalfOpenPermit {
    connections: Connections,
    peer: IpAddr,
}

/// A place among the sessions.
pub struct SessionPermit {
    connections: Connections,
}

impl Connections {
    /// Counts from zero, up to `limits`.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Takes a place for a connection from `peer` that has not logged in.
    ///
    /// # Errors
    /// [`Error::TooManyConnections`] when all places, or this address's share of them, are taken.
    pub fn half_open(&self, peer: IpAddr) -> Result<HalfOpenPermit> {
        let peer = share_of(peer);
        let mut counts = self.counts();
        let by_peer = counts.half_open_by_peer.get(&peer).copied().unwrap_or(0);
        if counts.half_open >= self.limits.half_open_max || by_peer >= self.limits.half_open_peer_max {
            return Err(too_many());
        }
        counts.half_open += 1;
        counts.half_open_by_peer.insert(peer, by_peer + 1);
        Ok(HalfOpenPermit { connections: self.clone(), peer })
    }

    /// Takes a place for a session.
    ///
    /// # Errors
    /// [`Error::TooManyConnections`] when all places are taken.
    pub fn session(&self) -> Result<SessionPermit> {
        let mut counts = self.counts();
        if counts.sessions >= self.limits.sessions_max {
            return Err(too_many());
        }
        counts.sessions += 1;
        Ok(SessionPermit { connections: self.clone() })
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.counts().sessions
    }

    /// How many connections have not logged in.
    pub fn half_open_count(&self) -> usize {
        self.counts().half_open
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for HalfOpenPermit {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        counts.half_open -= 1;
        if let Some(count) = counts.half_open_by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.half_open_by_peer.remove(&self.peer);
            }
        }
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        self.connections.counts().sessions -= 1;
    }
}

fn too_many() -> Error {
    Error::TooManyConnections("sorry, too many clients already".to_owned())
}

/// What counts as one address: whoever has an IPv6 address has 2^64 of them.
fn share_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shared_out_and_given_back() {
        let limits = ConnectionLimits { sessions_max: 1, half_open_max: 3, half_open_peer_max: 2 };
        let connections = Connections::new(limits);
        let half_open = |peer: &str| connections.half_open(peer.parse().unwrap());
        let first = half_open("192.0.2.1").unwrap();
        let _mapped = half_open("::ffff:192.0.2.1").unwrap();
        assert!(half_open("192.0.2.1").is_err(), "one address has a share only");
        let _other = half_open("192.0.2.2").unwrap();
        assert!(half_open("192.0.2.3").is_err(), "all places are taken");
        drop(first);
        assert!(half_open("192.0.2.1").is_ok());

        let session = connections.session().unwrap();
        assert!(connections.session().is_err(), "half-open places are not sessions' places");
        drop(session);
        assert!(connections.session().is_ok());
        assert_eq!(connections.sessions(), 0);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let share = |address: &str| share_of(address.parse().unwrap());
        assert_eq!(share("2001:db8:1:2::1"), share("2001:db8:1:2:ffff::9"));
        assert_ne!(share("2001:db8:1:2::1"), share("2001:db8:1:3::1"));
    }
}
