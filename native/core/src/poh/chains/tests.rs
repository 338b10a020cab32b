use super::*;

type Advance = fn(&mut [Hash], u64);

/// All that this processor can run.
fn implementations() -> Vec<(&'static str, Advance)> {
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
    let mut found: Vec<(&str, Advance)> = vec![("dispatch", advance)];
    #[cfg(target_arch = "x86_64")]
    {
        if sha_ni::is_available() {
            // SAFETY: the processor has what is enabled.
            found.push(("sha_ni", |c, n| unsafe { sha_ni::advance(c, n) }));
        }
        if avx512::is_available() {
            // SAFETY: the processor has what is enabled.
            found.push(("avx512", |c, n| unsafe { avx512::advance(c, n) }));
        }
    }
    found
}

#[test]
fn every_implementation_agrees_with_the_portable_one() {
    for lanes in 0..=LANES {
        let start: Vec<Hash> = (0..lanes)
            .map(|i| Sha256::digest([i as u8]).into())
            .collect();
        for num_hashes in [0, 1, 2, 3, 100] {
            let mut expected = start.clone();
            advance_portable(&mut expected, num_hashes);
            for (name, advance) in implementations() {
                let mut chains = start.clone();
                advance(&mut chains, num_hashes);
                assert_eq!(
                    chains, expected,
                    "{name}: {lanes} lanes, {num_hashes} hashes"
                );
            }
        }
    }
}

#[test]
fn the_successor_of_zero_is_the_published_digest() {
    // SHA-256 of 32 zero bytes.
    let mut chain = [[0; 32]];
    advance(&mut chain, 1);
    assert_eq!(
        chain[0][..8],
        [0x66, 0x68, 0x7a, 0xad, 0xf8, 0x62, 0xbd, 0x77]
    );
}
