//! `h = SHA-256(h)` over and over, for several chains at once, by the best means of the processor.
//!
//! One chain can go no faster than the latency of its instructions. Chains that do not depend on
//! each other fill the time in between: two by turns on the SHA extensions, or sixteen side by side
//! in the words of AVX-512 registers.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

use sha2::{Digest, Sha256};

use crate::Hash;

/// More chains than this gain nothing by going together.
pub const LANES: usize = 16;

/// Replaces each of at most [`LANES`] chains by its `num_hashes`-th successor.
pub fn advance(chains: &mut [Hash], num_hashes: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        // Sixteen lanes together, used or not, take as long as about four pairs by turns.
        if chains.len() > 8 && avx512::is_available() {
            // SAFETY: the processor has what `avx512::advance` enables.
            return unsafe { avx512::advance(chains, num_hashes) };
        }
        if sha_ni::is_available() {
            // SAFETY: the processor has what `sha_ni::advance` enables.
            return unsafe { sha_ni::advance(chains, num_hashes) };
        }
    }
    advance_portable(chains, num_hashes);
}

fn advance_portable(chains: &mut [Hash], num_hashes: u64) {
    for chain in chains {
        for _ in 0..num_hashes {
            *chain = Sha256::digest(*chain).into();
        }
    }
}

/// Initial hash value of FIPS 180-4, section 5.3.3.
#[cfg(target_arch = "x86_64")]
const INITIAL: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// Round constants of FIPS 180-4, section 4.2.2.
#[cfg(target_arch = "x86_64")]
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The second half of the only block of a 32-byte message: a one bit, zeros, the length in bits.
#[cfg(target_arch = "x86_64")]
const PADDING: [u32; 8] = [0x80000000, 0, 0, 0, 0, 0, 0, 256];

#[cfg(target_arch = "x86_64")]
fn to_words(hash: &Hash) -> [u32; 8] {
    let (bytes, _) = hash.as_chunks();
    std::array::from_fn(|i| u32::from_be_bytes(bytes[i]))
}

#[cfg(target_arch = "x86_64")]
fn from_words(words: &[u32; 8]) -> Hash {
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

#[cfg(test)]
mod tests;
