use super::*;

fn pool() -> ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap()
}

/// Entries of varied lengths that do not follow each other.
fn entries(count: usize) -> Vec<Entry> {
    (0..count)
        .map(|i| {
            let prev: Hash = Sha256::digest(i.to_le_bytes()).into();
            let mixin = Sha256::digest(prev).into();
            let num_hashes = 1 + (i as u64 * 7919) % 257;
            let hash = extend(&prev, num_hashes, &mixin).unwrap();
            Entry {
                prev,
                num_hashes,
                mixin,
                hash,
            }
        })
        .collect()
}

#[test]
fn extend_is_the_formula() {
    let (prev, mixin) = ([1; 32], [2; 32]);
    let mut h: Hash = prev;
    for num_hashes in 1..10 {
        assert_eq!(
            extend(&prev, num_hashes, &mixin),
            Ok(Sha256::digest([h, mixin].concat()).into())
        );
        h = Sha256::digest(h).into();
    }
}

#[test]
fn any_number_of_entries_verifies() {
    let entries = entries(70);
    for count in 0..=entries.len() {
        assert_eq!(
            verify(&entries[..count], 257, &pool()),
            Ok(()),
            "{count} entries"
        );
    }
}

#[test]
fn the_first_wrong_entry_is_named() {
    let pool = pool();
    for wrong in [0, 1, 17, 39] {
        let mut entries = entries(40);
        entries[wrong].hash[31] ^= 1;
        entries[39].mixin[0] ^= 1;
        assert_eq!(verify(&entries, 257, &pool), Err(Invalid::Hash(wrong)));
    }
}

#[test]
fn num_hashes_is_bounded_before_any_hashing() {
    let mut entries = entries(3);
    entries[0].hash = [0; 32];
    for num_hashes in [0, 1_001, u64::MAX] {
        entries[1].num_hashes = num_hashes;
        let error = NumHashesOutOfRange {
            num_hashes,
            max: 1_000,
        };
        assert_eq!(
            verify(&entries, 1_000, &pool()),
            Err(Invalid::NumHashes(1, error))
        );
    }
    for num_hashes in [0, NUM_HASHES_MAX + 1, u64::MAX] {
        assert!(extend(&[0; 32], num_hashes, &[0; 32]).is_err());
    }
}
