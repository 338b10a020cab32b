//! Proof of History: a chain of SHA-256 that shows order, and that so much sequential hashing lay
//! between two events.
//!
//! ```text
//! h    = prev
//! h    = SHA-256(h)            num_hashes - 1 times
//! hash = SHA-256(h || mixin)
//! ```
//!
//! Making an entry is sequential, which is its point. Verifying entries is not: each one starts
//! from a `prev` that is given, so they are spread over the cores, and on each core over the lanes
//! of one instruction stream (see [`chains`]).

mod chains;

use std::cmp::Reverse;
use std::fmt;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::ThreadPool;
use sha2::{Digest, Sha256};

use crate::Hash;

/// The most hashes that [`extend`] makes in one call: minutes of work on any processor of today.
pub const NUM_HASHES_MAX: u64 = 1 << 32;

/// One entry; whether it follows another one is for the caller to see: `prev` is the other's `hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub prev: Hash,
    /// At least 1.
    pub num_hashes: u64,
    pub mixin: Hash,
    pub hash: Hash,
}

/// A number of hashes that is 0 or above the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumHashesOutOfRange {
    pub num_hashes: u64,
    pub max: u64,
}

/// Why entries do not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The first entry whose number of hashes is out of range; nothing was hashed.
    NumHashes(usize, NumHashesOutOfRange),
    /// The first entry whose hash is wrong.
    Hash(usize),
}

impl fmt::Display for NumHashesOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { num_hashes, max } = self;
        write!(f, "num_hashes must be from 1 to {max}, not {num_hashes}")
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NumHashes(index, error) => write!(f, "entry {index}: {error}"),
            Self::Hash(index) => write!(f, "entry {index}: the hash is not that of its chain"),
        }
    }
}

impl std::error::Error for NumHashesOutOfRange {}
impl std::error::Error for Invalid {}

/// The hash of the entry that follows `prev`; `num_hashes` is from 1 to [`NUM_HASHES_MAX`].
pub fn extend(prev: &Hash, num_hashes: u64, mixin: &Hash) -> Result<Hash, NumHashesOutOfRange> {
    check(num_hashes, NUM_HASHES_MAX)?;
    let mut chain = *prev;
    chains::advance(slice::from_mut(&mut chain), num_hashes - 1);
    Ok(mix(&chain, mixin))
}

/// Verifies the hash of each entry, on all threads of the pool.
pub fn verify(entries: &[Entry], max_num_hashes: u64, pool: &ThreadPool) -> Result<(), Invalid> {
    for (index, entry) in entries.iter().enumerate() {
        check(entry.num_hashes, max_num_hashes).map_err(|e| Invalid::NumHashes(index, e))?;
    }
    // Each worker may take its share at most, lest one fill its lanes while another stays idle.
    let lanes = entries
        .len()
        .div_ceil(pool.current_num_threads())
        .clamp(1, chains::LANES);
    let workers = entries
        .len()
        .div_ceil(lanes)
        .min(pool.current_num_threads());
    let queue = Queue::new(entries);
    pool.scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|_| queue.work(lanes));
        }
    });
    match queue.first_wrong.into_inner() {
        usize::MAX => Ok(()),
        index => Err(Invalid::Hash(index)),
    }
}

fn check(num_hashes: u64, max: u64) -> Result<(), NumHashesOutOfRange> {
    if (1..=max).contains(&num_hashes) {
        return Ok(());
    }
    Err(NumHashesOutOfRange { num_hashes, max })
}

fn mix(chain: &Hash, mixin: &Hash) -> Hash {
    Sha256::new()
        .chain_update(chain)
        .chain_update(mixin)
        .finalize()
        .into()
}

/// Entries waiting for a lane, the longest first, so that the last ones to run are short.
struct Queue<'a> {
    entries: &'a [Entry],
    order: Vec<usize>,
    next: AtomicUsize,
    first_wrong: AtomicUsize,
}

impl<'a> Queue<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_unstable_by_key(|&index| Reverse(entries[index].num_hashes));
        Self {
            entries,
            order,
            next: AtomicUsize::new(0),
            first_wrong: AtomicUsize::new(usize::MAX),
        }
    }

    /// Index of the next entry that can still be the first wrong one.
    fn take(&self) -> Option<usize> {
        loop {
            let index = *self.order.get(self.next.fetch_add(1, Ordering::Relaxed))?;
            if index < self.first_wrong.load(Ordering::Relaxed) {
                return Some(index);
            }
        }
    }

    /// Keeps up to `lanes` chains going: all advance until one ends, and the next takes its lane.
    fn work(&self, lanes: usize) {
        let mut chains = Vec::with_capacity(lanes);
        let mut jobs: Vec<Job> = Vec::with_capacity(lanes);
        loop {
            while jobs.len() < lanes
                && let Some(index) = self.take()
            {
                let entry = &self.entries[index];
                chains.push(entry.prev);
                jobs.push(Job {
                    index,
                    remaining: entry.num_hashes - 1,
                });
            }
            let Some(steps) = jobs.iter().map(|job| job.remaining).min() else {
                return;
            };
            chains::advance(&mut chains, steps);
            for lane in (0..jobs.len()).rev() {
                jobs[lane].remaining -= steps;
                if jobs[lane].remaining == 0 {
                    self.finish(jobs.swap_remove(lane).index, &chains.swap_remove(lane));
                }
            }
        }
    }

    fn finish(&self, index: usize, chain: &Hash) {
        let entry = &self.entries[index];
        if mix(chain, &entry.mixin) != entry.hash {
            self.first_wrong.fetch_min(index, Ordering::Relaxed);
        }
    }
}

struct Job {
    index: usize,
    remaining: u64,
}

#[cfg(test)]
mod tests;
