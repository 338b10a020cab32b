//! Which subtrees a proof consists of, and how the hash of each is put together from stored ones.

use std::ops::Range;

use super::{Error, STORED_LEVELS, Tree, check_count};
use crate::Hash;

/// A run of stored hashes: those of a level, 0 being the leaves', with `begin <= index < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub level: u32,
    pub begin: u64,
    pub end: u64,
}

/// The subtrees, as ranges of leaves, whose hashes are the inclusion proof `PATH(index, D[size])`.
pub fn inclusion_ranges(index: u64, size: u64) -> Result<Vec<Range<u64>>, Error> {
    if index >= size {
        return Err(Error::Index {
            index,
            begin: 0,
            end: size,
        });
    }
    let (siblings, _) = descend(size, index, |subtree| subtree.end - subtree.start == 1);
    Ok(siblings)
}

/// The subtrees, as ranges of leaves, whose hashes are the consistency proof
/// `PROOF(first, D[second])`.
pub fn consistency_ranges(first: u64, second: u64) -> Result<Vec<Range<u64>>, Error> {
    if first == 0 || first > second {
        return Err(Error::Sizes { first, second });
    }
    let (mut ranges, last) = descend(second, first - 1, |subtree| subtree.end == first);
    // The largest subtree that ends where the first tree does. It comes first, unless it is that
    // tree: then the verifier has its hash.
    if last.start > 0 {
        ranges.insert(0, last);
    }
    Ok(ranges)
}

/// Goes from the root towards a leaf until the subtree is the one wanted; returns the siblings on
/// the way, the lowest first, and that subtree.
fn descend(
    size: u64,
    leaf: u64,
    is_wanted: impl Fn(&Range<u64>) -> bool,
) -> (Vec<Range<u64>>, Range<u64>) {
    let mut siblings = Vec::new();
    let mut subtree = 0..size;
    while !is_wanted(&subtree) {
        let Range { start, end } = subtree;
        let middle = start + (1 << (end - start - 1).ilog2());
        let (left, right) = (start..middle, middle..end);
        let sibling;
        (subtree, sibling) = if leaf < middle {
            (left, right)
        } else {
            (right, left)
        };
        siblings.push(sibling);
    }
    siblings.reverse();
    (siblings, subtree)
}

/// The stored hashes, one run a level, from which [`fold`] makes the hash of a subtree: those of
/// the highest stored level, then those of the right edge that no such subtree covers.
pub fn range_reads(begin: u64, end: u64) -> Result<Vec<Read>, Error> {
    // `None` is a span of 1 << 64: only the subtree at the left edge can have it.
    let is_subtree = begin < end
        && match (end - begin).checked_next_power_of_two() {
            Some(span) => begin.is_multiple_of(span),
            None => begin == 0,
        };
    if !is_subtree {
        return Err(Error::Range { begin, end });
    }
    let mut reads = Vec::new();
    let mut position = begin;
    for level in (0..u64::BITS).step_by(STORED_LEVELS as usize).rev() {
        let count = (end - position) >> level;
        if count > 0 {
            let begin = position >> level;
            reads.push(Read {
                level,
                begin,
                end: begin + count,
            });
            position += count << level;
        }
    }
    Ok(reads)
}

/// The hash of the subtree over leaves `[begin, end)`, from all that [`range_reads`] names, in
/// that order.
pub fn fold(begin: u64, end: u64, hashes: &[Hash]) -> Result<Hash, Error> {
    let reads = range_reads(begin, end)?;
    let expected: u64 = reads.iter().map(|read| read.end - read.begin).sum();
    check_count("the range", expected as usize, hashes.len())?;
    let levels = reads
        .iter()
        .flat_map(|read| (read.begin..read.end).map(|_| read.level));
    let mut tree = Tree::default();
    for (level, hash) in levels.zip(hashes) {
        tree.push(level, *hash, &mut Vec::new());
    }
    Ok(tree.root())
}
