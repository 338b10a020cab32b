//! The chain on the SHA extensions of x86-64, its digest held in registers.
//!
//! `sha256rnds2` finishes later than the next one can begin, so a single chain leaves the unit idle
//! part of the time. Two chains that take turns, instruction by instruction, keep it busy; a third
//! adds nothing and runs out of registers.
//!
//! Two properties of the chain save work: a digest enters the next hash as words, so no byte is
//! swapped in the loop, and half of each block is padding, whose part of the message schedule the
//! compiler computes. The latter needs constant indices, hence the macro.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_extract_epi32, _mm_set_epi32,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi32,
    _mm_sub_epi32,
};

use super::{INITIAL, K, PADDING, from_words, to_words};
use crate::Hash;

pub fn is_available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1")
}

#[target_feature(enable = "sha,sse4.1")]
pub fn advance(chains: &mut [Hash], num_hashes: u64) {
    let (pairs, rest) = chains.as_chunks_mut::<2>();
    for pair in pairs {
        advance_together(pair, num_hashes);
    }
    for single in rest.as_chunks_mut::<1>().0 {
        advance_together(single, num_hashes);
    }
}

#[target_feature(enable = "sha,sse4.1")]
fn advance_together<const N: usize>(chains: &mut [Hash; N], num_hashes: u64) {
    let [abcd, efgh] = halves(INITIAL);
    let padding = halves(PADDING);
    // The order in which the instructions take the state: F E B A and H G D C, lowest word first.
    let [a, b, c, d, e, f, g, h] = INITIAL;
    let [feba, hgdc] = halves([f, e, b, a, h, g, d, c]);

    // Without the final addition of the initial value: at the start of the next hash it costs no
    // time, for there the compiler merges it with the addition of the round constants.
    let mut digests = [padding; N];
    for n in 0..N {
        let [first, second] = halves(to_words(&chains[n]));
        digests[n] = [_mm_sub_epi32(first, abcd), _mm_sub_epi32(second, efgh)];
    }
    for _ in 0..num_hashes {
        let mut w = [[padding[0]; 4]; N];
        let mut state = [[feba, hgdc]; N];
        for n in 0..N {
            let [first, second] = digests[n];
            w[n] = [
                _mm_add_epi32(first, abcd),
                _mm_add_epi32(second, efgh),
                padding[0],
                padding[1],
            ];
        }
        macro_rules! four_rounds {
            ($($i:literal)*) => { $(
                let k = words([K[4 * $i], K[4 * $i + 1], K[4 * $i + 2], K[4 * $i + 3]]);
                for n in 0..N {
                    let [w0, w1, w2, w3] = w[n];
                    let wk = _mm_add_epi32(w0, k);
                    let [abef, cdgh] = state[n];
                    let next = _mm_sha256rnds2_epu32(cdgh, abef, wk);
                    let wk = _mm_shuffle_epi32(wk, 0b_11_10);
                    state[n] = [_mm_sha256rnds2_epu32(abef, next, wk), next];
                    let w4 = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
                    w[n] = [w1, w2, w3, _mm_sha256msg2_epu32(w4, w3)];
                }
            )* };
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for n in 0..N {
            let [feba, hgdc] = state[n];
            let abef = _mm_shuffle_epi32(feba, 0b_00_01_10_11);
            let ghcd = _mm_shuffle_epi32(hgdc, 0b_10_11_00_01);
            digests[n] = [
                _mm_blend_epi16(abef, ghcd, 0xf0),
                _mm_alignr_epi8(ghcd, abef, 8),
            ];
        }
    }
    for n in 0..N {
        let [first, second] = digests[n];
        chains[n] = from_words(&all_words([
            _mm_add_epi32(first, abcd),
            _mm_add_epi32(second, efgh),
        ]));
    }
}

#[inline]
#[target_feature(enable = "sha,sse4.1")]
fn words(w: [u32; 4]) -> __m128i {
    _mm_set_epi32(w[3] as i32, w[2] as i32, w[1] as i32, w[0] as i32)
}

#[inline]
#[target_feature(enable = "sha,sse4.1")]
fn halves([a, b, c, d, e, f, g, h]: [u32; 8]) -> [__m128i; 2] {
    [words([a, b, c, d]), words([e, f, g, h])]
}

#[target_feature(enable = "sha,sse4.1")]
fn all_words([first, second]: [__m128i; 2]) -> [u32; 8] {
    [
        _mm_extract_epi32(first, 0) as u32,
        _mm_extract_epi32(first, 1) as u32,
        _mm_extract_epi32(first, 2) as u32,
        _mm_extract_epi32(first, 3) as u32,
        _mm_extract_epi32(second, 0) as u32,
        _mm_extract_epi32(second, 1) as u32,
        _mm_extract_epi32(second, 2) as u32,
        _mm_extract_epi32(second, 3) as u32,
    ]
}
