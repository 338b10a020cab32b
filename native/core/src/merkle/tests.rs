use super::*;

/// MTH of RFC 9162, section 2.1.1, as it stands there.
fn tree_hash(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest(b"").into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            hash_children(&tree_hash(left), &tree_hash(right))
        }
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|i| hash_leaf(&i.to_be_bytes())).collect()
}

fn subtree(leaves: &[Hash], range: &std::ops::Range<u64>) -> Hash {
    tree_hash(&leaves[range.start as usize..range.end as usize])
}

/// The eight leaves that implementations of Certificate Transparency share, and their root.
#[test]
fn the_root_of_the_common_test_tree_is_the_published_one() {
    let data: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let mut tree = Tree::default();
    tree.append(&data.map(hash_leaf)).unwrap();
    let root: String = tree
        .root()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        root,
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    );
}

#[test]
fn the_root_is_the_tree_hash_however_leaves_arrive() {
    let all = leaves(300);
    let mut one_by_one = Tree::default();
    for size in 0..=all.len() {
        assert_eq!(one_by_one.root(), tree_hash(&all[..size]));
        let mut batches = Tree::default();
        batches.append(&all[..size / 3]).unwrap();
        batches.append(&all[size / 3..size]).unwrap();
        assert_eq!(batches, one_by_one);
        one_by_one
            .append(&all[size..(size + 1).min(all.len())])
            .unwrap();
    }
}

#[test]
fn append_returns_each_stored_subtree_once() {
    let all = leaves(1 << 17);
    let mut tree = Tree::default();
    let mut found: Vec<Subtree> = Vec::new();
    for batch in all.chunks(777) {
        found.extend(tree.append(batch).unwrap());
    }
    found.sort_by_key(|subtree| (subtree.level, subtree.index));
    let mut expected = Vec::new();
    for level in [8, 16] {
        for (index, part) in all.chunks(1 << level).enumerate() {
            let hash = tree_hash(part);
            expected.push(Subtree {
                level,
                index: index as u64,
                hash,
            });
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn proofs_of_the_ranges_verify_and_no_changed_one_does() {
    for size in 1..=40 {
        let all = leaves(size);
        let root = tree_hash(&all);
        for index in 0..size {
            let leaf = &all[index as usize];
            let proof: Vec<Hash> = inclusion_ranges(index, size)
                .unwrap()
                .iter()
                .map(|range| subtree(&all, range))
                .collect();
            assert_eq!(verify_inclusion(leaf, index, size, &proof, &root), Ok(()));
            assert!(verify_inclusion(leaf, index ^ 1, size, &proof, &root).is_err() || size == 1);
            for changed in changes(&proof) {
                assert!(verify_inclusion(leaf, index, size, &changed, &root).is_err());
            }
        }
        for first in 1..=size {
            let first_root = tree_hash(&all[..first as usize]);
            let proof: Vec<Hash> = consistency_ranges(first, size)
                .unwrap()
                .iter()
                .map(|range| subtree(&all, range))
                .collect();
            let verify = |proof: &[Hash], one: &Hash, two: &Hash| {
                verify_consistency(first, size, proof, one, two)
            };
            assert_eq!(verify(&proof, &first_root, &root), Ok(()));
            assert!(verify(&proof, &first_root, &[0; 32]).is_err());
            assert!(verify(&proof, &[0; 32], &root).is_err());
            for changed in changes(&proof) {
                assert!(verify(&changed, &first_root, &root).is_err());
            }
        }
    }
}

/// A bit flipped in each hash, a hash too few, a hash too many.
fn changes(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut changes = vec![[proof, &[[0; 32]]].concat()];
    for i in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[i][i % 32] ^= 1;
        let mut short = proof.to_vec();
        short.remove(i);
        changes.extend([flipped, short]);
    }
    changes
}

#[test]
fn a_subtree_folds_from_its_reads() {
    let all = leaves(70_000);
    let mut tree = Tree::default();
    let stored = tree.append(&all).unwrap();
    let hash = |level, index| match level {
        0 => all[index as usize],
        _ => {
            stored
                .iter()
                .find(|s| (s.level, s.index) == (level, index))
                .unwrap()
                .hash
        }
    };
    let ranges = [
        0..70_000,
        65_536..70_000,
        0..65_536,
        69_888..69_890,
        512..1024,
        768..1023,
        3..4,
    ];
    for range in ranges {
        let hashes: Vec<Hash> = range_reads(range.start, range.end)
            .unwrap()
            .iter()
            .flat_map(|read| (read.begin..read.end).map(|index| hash(read.level, index)))
            .collect();
        assert_eq!(
            fold(range.start, range.end, &hashes),
            Ok(subtree(&all, &range)),
            "{range:?}"
        );
        assert!(fold(range.start, range.end, &hashes[1..]).is_err());
    }
}

#[test]
fn a_round_gives_the_proofs_of_its_leaves() {
    let all = leaves(80);
    for begin in 0..=40_u64 {
        let mut before = Tree::default();
        before.append(&all[..begin as usize]).unwrap();
        for end in begin..=all.len() as u64 {
            let round = Round::new(&before, &all[begin as usize..end as usize]).unwrap();
            for index in begin..end {
                let expected: Vec<Hash> = inclusion_ranges(index, end)
                    .unwrap()
                    .iter()
                    .map(|range| subtree(&all, range))
                    .collect();
                assert_eq!(round.inclusion(index), Ok(expected));
            }
            assert!(round.inclusion(end).is_err());
            assert!(begin == 0 || round.inclusion(begin - 1).is_err());
        }
    }
}

#[test]
fn the_largest_sizes_neither_overflow_nor_panic() {
    let max = u64::MAX;
    assert_eq!(inclusion_ranges(0, max).unwrap().len(), 64);
    assert_eq!(inclusion_ranges(max - 1, max).unwrap().len(), 63);
    assert!(inclusion_ranges(max, max).is_err());
    assert_eq!(consistency_ranges(max, max), Ok(vec![]));
    assert_eq!(
        consistency_ranges(max - 2, max).unwrap().len(),
        PROOF_HASHES_MAX
    );
    assert_eq!(range_reads(0, max).unwrap().len(), 8);
    assert!(range_reads(1, max).is_err());
    assert!(range_reads(1, 3).is_err());
    assert!(range_reads(5, 5).is_err());
    let full = Tree::from_peaks(max, vec![[0; 32]; 64]).unwrap();
    assert!(full.clone().append(&[[0; 32]]).is_err());
    assert!(Round::new(&full, &[[0; 32]]).is_err());
    assert!(Tree::from_peaks(max, vec![[0; 32]; 63]).is_err());
}
