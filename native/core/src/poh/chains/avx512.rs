//! Sixteen chains side by side on AVX-512: word `i` of all chains in one register, plain FIPS 180-4.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_ror_epi32, _mm512_set1_epi32,
    _mm512_srli_epi32, _mm512_storeu_si512, _mm512_ternarylogic_epi32,
};

use super::{INITIAL, K, LANES, PADDING, from_words, to_words};
use crate::Hash;

pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// Advances at most [`LANES`] chains; lanes without one run idle.
#[target_feature(enable = "avx512f")]
pub fn advance(chains: &mut [Hash], num_hashes: u64) {
    let mut words = [[0; LANES]; 8];
    for (lane, chain) in chains.iter().enumerate() {
        for (i, word) in to_words(chain).into_iter().enumerate() {
            words[i][lane] = word;
        }
    }
    advance_words(&mut words, num_hashes);
    for (lane, chain) in chains.iter_mut().enumerate() {
        *chain = from_words(&words.map(|word| word[lane]));
    }
}

#[target_feature(enable = "avx512f")]
fn advance_words(words: &mut [[u32; LANES]; 8], num_hashes: u64) {
    let mut digest = [all(0); 8];
    for i in 0..8 {
        digest[i] = load(&words[i]);
    }
    for _ in 0..num_hashes {
        let mut w = [all(0); 16];
        let mut state = [all(0); 8];
        for i in 0..8 {
            w[i] = digest[i];
            w[i + 8] = all(PADDING[i]);
            state[i] = all(INITIAL[i]);
        }
        macro_rules! sixteen_rounds {
            ($first:expr, $schedule:ident) => {
                sixteen_rounds!($first, $schedule, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
            };
            ($first:expr, $schedule:ident, $($i:literal)*) => { $(
                w[$i] = $schedule(w[$i], w[($i + 1) % 16], w[($i + 9) % 16], w[($i + 14) % 16]);
                state = round(state, add(w[$i], all(K[$first + $i])));
            )* };
        }
        sixteen_rounds!(0, given);
        for first in [16, 32, 48] {
            sixteen_rounds!(first, scheduled);
        }
        for i in 0..8 {
            digest[i] = add(state[i], all(INITIAL[i]));
        }
    }
    for i in 0..8 {
        store(digest[i], &mut words[i]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn round([a, b, c, d, e, f, g, h]: [__m512i; 8], wk: __m512i) -> [__m512i; 8] {
    let sigma1 = xor(ror::<6>(e), ror::<11>(e), ror::<25>(e));
    let choice = _mm512_ternarylogic_epi32(e, f, g, 0xca);
    let t1 = add(add(h, wk), add(sigma1, choice));
    let sigma0 = xor(ror::<2>(a), ror::<13>(a), ror::<22>(a));
    let majority = _mm512_ternarylogic_epi32(a, b, c, 0xe8);
    [add(t1, add(sigma0, majority)), a, b, c, add(d, t1), e, f, g]
}

/// Word `t` of the message schedule from those at `t - 16`, `t - 15`, `t - 7` and `t - 2`.
#[inline]
#[target_feature(enable = "avx512f")]
fn scheduled(w16: __m512i, w15: __m512i, w7: __m512i, w2: __m512i) -> __m512i {
    let sigma0 = xor(ror::<7>(w15), ror::<18>(w15), _mm512_srli_epi32::<3>(w15));
    let sigma1 = xor(ror::<17>(w2), ror::<19>(w2), _mm512_srli_epi32::<10>(w2));
    add(add(w16, sigma0), add(w7, sigma1))
}

/// The first sixteen words are those of the block.
#[inline]
fn given(w: __m512i, _: __m512i, _: __m512i, _: __m512i) -> __m512i {
    w
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32(a, b, c, 0x96)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn ror<const N: i32>(a: __m512i) -> __m512i {
    _mm512_ror_epi32(a, N)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u32; LANES]) -> __m512i {
    // SAFETY: sixteen words are the 64 bytes that are read; any alignment is allowed.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(from: __m512i, words: &mut [u32; LANES]) {
    // SAFETY: sixteen words are the 64 bytes that are written; any alignment is allowed.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), from) }
}
