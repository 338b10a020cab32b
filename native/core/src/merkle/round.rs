//! Inclusion proofs of the leaves that one append adds, from the peaks before it and those leaves.
//!
//! No stored hash is read: a left sibling of such a leaf ends before the append, and then it is one
//! of the peaks, or is made of peaks and new leaves.

use std::mem;

use super::{Error, Tree, hash_children};
use crate::Hash;

/// The tree above the leaves of an append, as far as their proofs need it.
pub struct Round {
    begin: u64,
    end: u64,
    /// By level, from the leaves to the root's children.
    rows: Vec<Row>,
}

/// Adjacent nodes of a level, up to the right edge; `begin`, the index of the first, is even.
struct Row {
    begin: u64,
    nodes: Vec<Hash>,
}

impl Round {
    pub fn new(before: &Tree, leaf_hashes: &[Hash]) -> Result<Self, Error> {
        let end = before.size_with(leaf_hashes.len())?;
        let mut peaks = before.peaks().iter().rev();
        let mut rows = Vec::new();
        let mut row = Row {
            begin: before.size(),
            nodes: leaf_hashes.to_vec(),
        };
        while row.begin > 0 || row.nodes.len() > 1 {
            // `begin` is the old size shifted by the level: if it is odd, the left sibling is the
            // peak of that level.
            if !row.begin.is_multiple_of(2) {
                row.begin -= 1;
                row.nodes.splice(..0, peaks.next().copied());
            }
            let above = row.above();
            rows.push(mem::replace(&mut row, above));
        }
        Ok(Self {
            begin: before.size(),
            end,
            rows,
        })
    }

    /// The proof `PATH(index, D[n])`, `n` being the size after the append.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>, Error> {
        let Self { begin, end, .. } = *self;
        if !(begin..end).contains(&index) {
            return Err(Error::Index { index, begin, end });
        }
        let siblings = self.rows.iter().enumerate().filter_map(|(level, row)| {
            let sibling = (index >> level) ^ 1;
            // None at the right edge: a node without a sibling is its own parent.
            row.nodes.get((sibling - row.begin) as usize).copied()
        });
        Ok(siblings.collect())
    }
}

impl Row {
    fn above(&self) -> Self {
        let parent = |children: &[Hash]| match children {
            [left, right] => hash_children(left, right),
            edge => edge[0],
        };
        Self {
            begin: self.begin / 2,
            nodes: self.nodes.chunks(2).map(parent).collect(),
        }
    }
}
