//! The cache of what was read from files that never change: table metadata and manifests.
//!
//! Their names hold a random part and a table's files are never overwritten, so the URL is the key
//! and nothing is ever stale. What was not used for longest goes first.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// About how much memory the cache may hold, in the whole process.
const BYTES_MAX: usize = 128 << 20;

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(|| Mutex::new(Cache::new(BYTES_MAX)));

/// Returns what [`put`] kept under `key`, if it is still there and of this type.
pub(super) fn get<T: Any + Send + Sync>(key: &str) -> Option<Arc<T>> {
    lock().get(key)?.downcast().ok()
}

/// Keeps `value` under `key`, counted as `bytes`.
pub(super) fn put<T: Any + Send + Sync>(key: &str, value: Arc<T>, bytes: usize) {
    lock().put(key, value, bytes);
}

fn lock() -> MutexGuard<'static, Cache> {
    // A panic between two lines of a cache leaves a cache.
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Cache {
    entries: HashMap<String, Entry>,
    bytes: usize,
    bytes_max: usize,
    clock: u64,
}

struct Entry {
    value: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    used: u64,
}

impl Cache {
    fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), bytes: 0, bytes_max, clock: 0 }
    }

    fn get(&mut self, key: &str) -> Option<Arc<dyn Any + Send + Sync>> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.clock;
        Some(entry.value.clone())
    }

    fn put(&mut self, key: &str, value: Arc<dyn Any + Send + Sync>, bytes: usize) {
        let bytes = bytes + key.len() + size_of::<Entry>();
        if bytes > self.bytes_max {
            return;
        }
        self.remove(key);
        while self.bytes + bytes > self.bytes_max {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = oldest.map(|(key, _)| key.clone()).expect("bytes in the cache belong to an entry");
            self.remove(&oldest);
        }
        self.clock += 1;
        self.bytes += bytes;
        self.entries.insert(key.to_owned(), Entry { value, bytes, used: self.clock });
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_goes_first_and_the_limit_holds() {
        let mut cache = Cache::new(1000);
        cache.put("a", Arc::new(1), 300);
        cache.put("b", Arc::new(2), 300);
        assert!(cache.get("a").is_some());
        cache.put("c", Arc::new(3), 300);
        assert!(cache.get("b").is_none() && cache.get("a").is_some() && cache.get("c").is_some());
        cache.put("d", Arc::new(4), 2000);
        assert!(cache.get("d").is_none() && cache.bytes <= 1000);
        cache.put("a", Arc::new(5), 100);
        assert_eq!(*cache.get("a").unwrap().downcast::<i32>().unwrap(), 5);
    }
}
