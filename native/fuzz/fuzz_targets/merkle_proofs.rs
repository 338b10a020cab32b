//! Bytes as Merkle proofs: no verifier panics, and no proof but the valid one verifies.

#![no_main]

use citychain_core::Hash;
use citychain_core::merkle::{
    Round, Tree, consistency_ranges, fold, hash_leaf, inclusion_ranges, range_reads,
    verify_consistency, verify_inclusion,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Taken as they are.
    first: u64,
    second: u64,
    proof: Vec<Hash>,
    roots: [Hash; 2],
    /// A valid proof, and what becomes of it.
    sizes: [u16; 2],
    change: Change,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Flip { at: u8, bit: u8 },
    Remove { at: u8 },
    Insert { at: u8, hash: Hash },
    Swap { at: u8, other: u8 },
    Replace(Vec<Hash>),
}

fuzz_target!(|input: Input| {
    claims(&input);
    changed_proofs(&input);
});

/// Any numbers and hashes are answered; a verdict follows from no luck of 64-bit arithmetic.
fn claims(input: &Input) {
    let Input {
        first,
        second,
        proof,
        roots: [one, two],
        ..
    } = input;
    let _ = verify_inclusion(one, *first, *second, proof, two);
    let _ = verify_consistency(*first, *second, proof, one, two);
    let _ = range_reads(*first, *second);
    let _ = fold(*first, *second, proof);
    if let Ok(mut tree) = Tree::from_peaks(*first, proof.clone()) {
        let _ = Round::new(&tree, &input.roots).map(|round| round.inclusion(*second));
        let _ = tree.append(&input.roots);
    }
}

fn changed_proofs(input: &Input) {
    let second = u64::from(input.sizes[0] % 300) + 1;
    let first = u64::from(input.sizes[1]) % second + 1;
    let leaves: Vec<Hash> = (0..second).map(|i| hash_leaf(&i.to_be_bytes())).collect();
    let hash = |begin: u64, end: u64| root(&leaves[begin as usize..end as usize]);
    let roots = [hash(0, first), hash(0, second)];

    let index = first - 1;
    let leaf = &leaves[index as usize];
    let ranges = inclusion_ranges(index, second).expect("the index is below the size");
    let proof: Vec<Hash> = ranges
        .iter()
        .map(|range| hash(range.start, range.end))
        .collect();
    let verify = |proof: &[Hash]| verify_inclusion(leaf, index, second, proof, &roots[1]);
    verify(&proof).expect("a valid proof verifies");
    let changed = input.change.apply(&proof);
    assert!(changed == proof || verify(&changed).is_err());

    let ranges = consistency_ranges(first, second).expect("the sizes are in order");
    let proof: Vec<Hash> = ranges
        .iter()
        .map(|range| hash(range.start, range.end))
        .collect();
    let verify = |proof: &[Hash]| verify_consistency(first, second, proof, &roots[0], &roots[1]);
    verify(&proof).expect("a valid proof verifies");
    let changed = input.change.apply(&proof);
    assert!(changed == proof || verify(&changed).is_err());
}

fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    tree.append(leaves).expect("few leaves");
    tree.root()
}

impl Change {
    fn apply(&self, proof: &[Hash]) -> Vec<Hash> {
        let mut changed = proof.to_vec();
        let position = |at: u8| usize::from(at) % proof.len().max(1);
        match self {
            Self::Insert { at, hash } => changed.insert(position(*at), *hash),
            Self::Replace(other) => changed = other.clone(),
            _ if proof.is_empty() => {}
            Self::Flip { at, bit } => {
                changed[position(*at)][usize::from(bit / 8)] ^= 1 << (bit % 8);
            }
            Self::Remove { at } => drop(changed.remove(position(*at))),
            Self::Swap { at, other } => changed.swap(position(*at), position(*other)),
        }
        changed
    }
}
