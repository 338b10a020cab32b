//! Verification of proofs: RFC 9162, sections 2.1.3.2 and 2.1.4.2.
//!
//! The sizes alone say how many hashes a proof has and on which side each belongs, so both are
//! taken from the ranges that making the proof goes by, never from the proof.

use super::{Error, check_count, consistency_ranges, hash_children, inclusion_ranges};
use crate::Hash;

/// Verifies that the leaf with this hash stands at `index` in the tree of this size and root.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), Error> {
    let ranges = inclusion_ranges(index, size)?;
    check_count("the proof", ranges.len(), proof.len())?;
    let mut hash = *leaf_hash;
    for (range, sibling) in ranges.iter().zip(proof) {
        hash = if range.start > index {
            hash_children(&hash, sibling)
        } else {
            hash_children(sibling, &hash)
        };
    }
    check_root("root", &hash, root)
}

/// Verifies that the second tree begins with all leaves of the first one, which is not empty.
pub fn verify_consistency(
    first_size: u64,
    second_size: u64,
    proof: &[Hash],
    first_root: &Hash,
    second_root: &Hash,
) -> Result<(), Error> {
    let ranges = consistency_ranges(first_size, second_size)?;
    check_count("the proof", ranges.len(), proof.len())?;
    // Where the proof has no subtree that both trees end with, that subtree is the first tree.
    let (mut first, mut second) = (*first_root, *first_root);
    for (range, hash) in ranges.iter().zip(proof) {
        if range.end == first_size {
            (first, second) = (*hash, *hash);
        } else if range.start < first_size {
            first = hash_children(hash, &first);
            second = hash_children(hash, &second);
        } else {
            second = hash_children(&second, hash);
        }
    }
    check_root("first root", &first, first_root)?;
    check_root("second root", &second, second_root)
}

fn check_root(which: &'static str, found: &Hash, expected: &Hash) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Root(which))
}
