//! A bounded cache of public keys, the busiest of them prepared.
//!
//! A prepared key takes 66 KB and a public key 2.6 KB, so each kind has a bound of its own. A key
//! is held once: when a prepared key is evicted it stays as a public key, and when a public key is
//! asked for it is prepared again. Eviction is by the clock algorithm: each entry used since the
//! hand last passed is spared once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{PUBLIC_KEY_BYTES, PreparedKey};

type KeyId = [u8; 32];

/// Keys by their id, shared by threads.
pub struct KeyCache {
    keys: Mutex<Keys>,
}

struct Keys {
    prepared: Clock<Arc<PreparedKey>>,
    public: Clock<Box<[u8; PUBLIC_KEY_BYTES]>>,
}

impl KeyCache {
    /// A cache of at most `prepared_capacity` prepared keys and `public_capacity` further ones.
    pub fn new(prepared_capacity: usize, public_capacity: usize) -> Self {
        let prepared = Clock::new(prepared_capacity);
        let public = Clock::new(public_capacity);
        Self {
            keys: Mutex::new(Keys { prepared, public }),
        }
    }

    /// The key of this id, prepared now if only its public key is held; `None` if it is unknown.
    pub fn get(&self, key_id: &KeyId) -> Option<Arc<PreparedKey>> {
        let public = {
            let mut keys = self.lock();
            if let Some(key) = keys.prepared.get(key_id) {
                return Some(Arc::clone(key));
            }
            keys.public.get(key_id)?.clone()
        };
        // Without the lock, since it takes as long as thousands of look-ups. Threads that prepare
        // the same key at once do so in vain, but agree.
        let key = Arc::new(PreparedKey::new(public.as_slice()).ok()?);
        self.insert(*key_id, Arc::clone(&key));
        Some(key)
    }

    /// Holds a prepared key; the caller answers for it that the id is the key's.
    pub fn insert(&self, key_id: KeyId, key: Arc<PreparedKey>) {
        let mut keys = self.lock();
        keys.public.remove(&key_id);
        if let Some((evicted_id, evicted)) = keys.prepared.insert(key_id, key) {
            keys.public
                .insert(evicted_id, Box::new(*evicted.public_key()));
        }
    }

    /// Holds a public key, to be prepared when it is first asked for.
    pub fn add_public_key(&self, key_id: KeyId, public_key: &[u8; PUBLIC_KEY_BYTES]) {
        let mut keys = self.lock();
        if keys.prepared.get(&key_id).is_none() {
            keys.public.insert(key_id, Box::new(*public_key));
        }
    }

    /// How many keys are held, prepared or not.
    pub fn len(&self) -> usize {
        let keys = self.lock();
        keys.prepared.slots.len() + keys.public.slots.len()
    }

    /// How many of the keys held are prepared.
    pub fn prepared_len(&self) -> usize {
        self.lock().prepared.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A map of bounded size that evicts by second chance.
struct Clock<V> {
    capacity: usize,
    slots: Vec<Slot<V>>,
    index: HashMap<KeyId, usize>,
    hand: usize,
}

struct Slot<V> {
    key_id: KeyId,
    value: V,
    used: bool,
}

impl<V> Clock<V> {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            slots: Vec::new(),
            index: HashMap::new(),
            hand: 0,
        }
    }

    fn get(&mut self, key_id: &KeyId) -> Option<&V> {
        let slot = &mut self.slots[*self.index.get(key_id)?];
        slot.used = true;
        Some(&slot.value)
    }

    /// Sets the value of an id; returns what had to leave for it.
    fn insert(&mut self, key_id: KeyId, value: V) -> Option<(KeyId, V)> {
        if let Some(&at) = self.index.get(&key_id) {
            self.slots[at].value = value;
            return None;
        }
        let slot = Slot {
            key_id,
            value,
            used: false,
        };
        if self.slots.len() < self.capacity {
            self.index.insert(key_id, self.slots.len());
            self.slots.push(slot);
            return None;
        }
        if self.capacity == 0 {
            return Some((key_id, slot.value));
        }
        let at = self.turn_hand();
        self.index.insert(key_id, at);
        let evicted = std::mem::replace(&mut self.slots[at], slot);
        self.index.remove(&evicted.key_id);
        Some((evicted.key_id, evicted.value))
    }

    fn remove(&mut self, key_id: &KeyId) {
        if let Some(at) = self.index.remove(key_id) {
            self.slots.swap_remove(at);
            if let Some(moved) = self.slots.get(at) {
                self.index.insert(moved.key_id, at);
            }
        }
    }

    /// The next slot that was not used since the hand last passed it; the clock is full.
    fn turn_hand(&mut self) -> usize {
        loop {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            if !std::mem::take(&mut self.slots[at].used) {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::SigningKey;
    use super::*;

    fn key(n: u8) -> (KeyId, Arc<PreparedKey>) {
        let signing = SigningKey::from_seed(&[n; 32]);
        (
            [n; 32],
            Arc::new(PreparedKey::new(signing.public_key()).unwrap()),
        )
    }

    fn is_prepared(cache: &KeyCache, n: u8) -> bool {
        cache.lock().prepared.index.contains_key(&[n; 32])
    }

    #[test]
    fn a_displaced_key_stays_as_a_public_key_and_is_prepared_again() {
        let cache = KeyCache::new(2, 2);
        for n in 0..3 {
            let (id, key) = key(n);
            cache.insert(id, key);
        }
        assert_eq!((cache.prepared_len(), cache.len()), (2, 3));
        assert!(!is_prepared(&cache, 0));
        let again = cache.get(&[0; 32]).unwrap();
        assert_eq!(again.public_key(), key(0).1.public_key());
        assert!(is_prepared(&cache, 0));
        assert_eq!((cache.prepared_len(), cache.len()), (2, 3));
    }

    #[test]
    fn the_bounds_hold_and_what_exceeds_both_is_forgotten() {
        for (prepared, public) in [(0, 0), (0, 2), (1, 0), (1, 1), (2, 3)] {
            let cache = KeyCache::new(prepared, public);
            for n in 0..10 {
                let (id, key) = key(n);
                cache.insert(id, Arc::clone(&key));
                cache.add_public_key([n + 100; 32], key.public_key());
                assert!(cache.prepared_len() <= prepared);
                assert!(cache.len() <= prepared + public);
            }
            assert_eq!(cache.len(), prepared + public);
            assert!(cache.get(&[0; 32]).is_none());
            assert!(cache.get(&[99; 32]).is_none());
        }
    }

    #[test]
    fn a_key_in_use_outlives_keys_that_come_and_go() {
        let cache = KeyCache::new(3, 0);
        for n in 0..20 {
            let (id, key) = key(n);
            cache.insert(id, key);
            assert!(cache.get(&[0; 32]).is_some(), "after {n}");
        }
    }

    #[test]
    fn a_key_is_held_once() {
        let cache = KeyCache::new(2, 2);
        let (id, prepared) = key(1);
        cache.add_public_key(id, prepared.public_key());
        cache.insert(id, Arc::clone(&prepared));
        cache.insert(id, Arc::clone(&prepared));
        cache.add_public_key(id, prepared.public_key());
        assert_eq!((cache.prepared_len(), cache.len()), (1, 1));
    }

    #[test]
    fn threads_get_the_key_of_the_id_they_asked_for() {
        let cache = KeyCache::new(3, 4);
        let keys: Vec<_> = (0..8).map(key).collect();
        thread::scope(|scope| {
            for start in 0..4 {
                let (cache, keys) = (&cache, &keys);
                scope.spawn(move || {
                    for step in 0..200 {
                        let (id, key) = &keys[(start + step * 3) % keys.len()];
                        cache.add_public_key(*id, key.public_key());
                        if let Some(held) = cache.get(id) {
                            assert_eq!(held.public_key(), key.public_key());
                        }
                        assert!(cache.prepared_len() <= 3 && cache.len() <= 7);
                    }
                });
            }
        });
        assert_eq!((cache.prepared_len(), cache.len()), (3, 7));
    }
}
