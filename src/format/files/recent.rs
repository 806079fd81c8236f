//! A map that keeps what was used last, within a limit of weight.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most `weight_max` of entries; the one that was not asked for the longest leaves first.
#[derive(Debug)]
pub struct Recent<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys by the moment of their last use.
    order: BTreeMap<u64, K>,
    clock: u64,
    weight: usize,
    weight_max: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    pub fn new(weight_max: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, weight: 0, weight_max }
    }

    pub fn find(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        self.order.remove(&entry.used);
        self.order.insert(self.clock, key.clone());
        entry.used = self.clock;
        Some(entry.value.clone())
    }

    /// Keeps `value` under `key`, and drops others until the weight fits.
    pub fn keep(&mut self, key: K, value: V, weight: usize) {
        self.forget(&key);
        self.clock += 1;
        self.weight += weight;
        self.order.insert(self.clock, key.clone());
        self.entries.insert(key, Entry { value, weight, used: self.clock });
        while self.weight > self.weight_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.forget(&oldest);
        }
    }

    pub fn forget(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.weight -= entry.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_leaves_first() {
        let mut recent = Recent::new(3);
        recent.keep("a", 1, 1);
        recent.keep("b", 2, 1);
        assert_eq!(recent.find(&"a"), Some(1));
        recent.keep("c", 3, 2);
        assert_eq!((recent.find(&"a"), recent.find(&"b"), recent.find(&"c")), (Some(1), None, Some(3)));
        recent.keep("too heavy", 4, 9);
        assert_eq!(recent.find(&"too heavy"), None);
        assert_eq!((recent.weight, recent.order.len()), (0, 0));
    }
}
