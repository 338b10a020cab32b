//! The tree as its peaks: all that appending needs.

use sha2::{Digest, Sha256};

use super::{Error, check_count, hash_children};
use crate::Hash;

/// Subtrees are worth storing at levels that are multiples of this: 256 leaves, 65,536, ...
pub const STORED_LEVELS: u32 = 8;

/// A perfect subtree: the hash over leaves `[index << level, (index + 1) << level)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subtree {
    pub level: u32,
    pub index: u64,
    pub hash: Hash,
}

/// An append-only tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    peaks: Vec<Hash>,
}

impl Tree {
    /// The tree of so many leaves with these peaks, left to right: one for each bit set in `size`.
    pub fn from_peaks(size: u64, peaks: Vec<Hash>) -> Result<Self, Error> {
        check_count("peaks", size.count_ones() as usize, peaks.len())?;
        Ok(Self { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    pub fn root(&self) -> Hash {
        self.peaks
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| hash_children(&left, &right))
            .unwrap_or_else(|| Sha256::digest(b"").into())
    }

    /// Appends leaves, all or none; returns the subtrees to store that they completed.
    pub fn append(&mut self, leaf_hashes: &[Hash]) -> Result<Vec<Subtree>, Error> {
        self.size_with(leaf_hashes.len())?;
        let mut completed = Vec::new();
        for hash in leaf_hashes {
            self.push(0, *hash, &mut completed);
        }
        Ok(completed)
    }

    /// The size after so many more leaves.
    pub(super) fn size_with(&self, added: usize) -> Result<u64, Error> {
        let size = self.size;
        size.checked_add(added as u64)
            .ok_or(Error::TooLarge { size, added })
    }

    /// Appends a perfect subtree; the size must be a multiple of its own.
    pub(super) fn push(&mut self, level: u32, hash: Hash, completed: &mut Vec<Subtree>) {
        let mut node = Subtree {
            level,
            index: self.size >> level,
            hash,
        };
        // Each trailing one of the index is a peak of its level, waiting for its right sibling.
        let merges = node.index.trailing_ones() as usize;
        for left in self.peaks.drain(self.peaks.len() - merges..).rev() {
            node.level += 1;
            node.index >>= 1;
            node.hash = hash_children(&left, &node.hash);
            if node.level.is_multiple_of(STORED_LEVELS) {
                completed.push(node);
            }
        }
        self.peaks.push(node.hash);
        self.size += 1 << level;
    }
}
