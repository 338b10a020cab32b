//! The Merkle tree of an append-only log: RFC 6962, section 2, as RFC 9162, section 2, restates it.
//!
//! ```text
//! hash of a leaf    SHA-256(0x00 || data)
//! hash of a node    SHA-256(0x01 || left || right)
//! hash of no leaf   SHA-256("")
//! ```
//!
//! A subtree over leaves `[begin, end)` splits at the largest power of two below its size, so all
//! but those at the right edge are perfect: of `1 << level` leaves. What the rest of the tree needs
//! of a log of any size is the hashes of its maximal perfect subtrees, the peaks: at most 64.

mod proof;
mod range;
mod round;
mod tree;

use std::fmt;

use sha2::{Digest, Sha256};

pub use proof::{verify_consistency, verify_inclusion};
pub use range::{Read, consistency_ranges, fold, inclusion_ranges, range_reads};
pub use round::Round;
pub use tree::{STORED_LEVELS, Subtree, Tree};

use crate::Hash;

/// More hashes than this no proof has: a subtree hash, and a sibling on each of 64 levels.
pub const PROOF_HASHES_MAX: usize = 65;

/// What is wrong with arguments or with a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The leaf is not among those that can be proven.
    Index { index: u64, begin: u64, end: u64 },
    /// The sizes do not fulfil `1 <= first <= second`.
    Sizes { first: u64, second: u64 },
    /// No subtree covers these leaves.
    Range { begin: u64, end: u64 },
    /// More leaves than 64 bits can count.
    TooLarge { size: u64, added: usize },
    /// Another number of hashes is wanted.
    Count {
        what: &'static str,
        expected: usize,
        found: usize,
    },
    /// The proof leads to another root than this one.
    Root(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { index, begin, end } => {
                write!(f, "index {index} is not in [{begin}, {end})")
            }
            Self::Sizes { first, second } => {
                write!(
                    f,
                    "sizes {first} and {second} do not fulfil 1 <= first <= second"
                )
            }
            Self::Range { begin, end } => {
                write!(
                    f,
                    "[{begin}, {end}) does not begin where a subtree of its size does"
                )
            }
            Self::TooLarge { size, added } => {
                write!(f, "{added} more leaves are too many for a tree of {size}")
            }
            Self::Count {
                what,
                expected,
                found,
            } => {
                write!(f, "{what} must have {expected} hashes, not {found}")
            }
            Self::Root(which) => write!(f, "the proof does not lead to the {which}"),
        }
    }
}

impl std::error::Error for Error {}

pub fn hash_leaf(data: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(data)
        .finalize()
        .into()
}

pub fn hash_children(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 65];
    node[1..33].copy_from_slice(left);
    node[33..].copy_from_slice(right);
    Sha256::digest(node).into()
}

fn check_count(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Count {
        what,
        expected,
        found,
    })
}

#[cfg(test)]
mod tests;
