//! The internal algorithms of FIPS 204 (section 6), in which the test vectors of NIST are written.
//!
//! They take the randomness as an argument and the message without the prefix that separates
//! domains. Nothing but a test should call them.

use super::aws_lc;
use super::{PUBLIC_KEY_BYTES, PreparedKey, SEED_BYTES, SIGNATURE_BYTES};

pub use super::aws_lc::{PRIVATE_KEY_BYTES, RANDOMNESS_BYTES};

/// `ML-DSA.KeyGen_internal`: the encoded public and private key.
pub fn key_pair(seed: &[u8; SEED_BYTES]) -> ([u8; PUBLIC_KEY_BYTES], [u8; PRIVATE_KEY_BYTES]) {
    let (public, private) = aws_lc::key_pair(seed);
    (public, **private)
}

/// `ML-DSA.Sign_internal`; `None` if the library gave no signature.
pub fn sign(
    private_key: &[u8; PRIVATE_KEY_BYTES],
    message: &[u8],
    randomness: &[u8; RANDOMNESS_BYTES],
) -> Option<[u8; SIGNATURE_BYTES]> {
    aws_lc::sign(private_key, &[], message, randomness)
}

/// `ML-DSA.Verify_internal`, expanding the key anew.
pub fn verify(public_key: &[u8; PUBLIC_KEY_BYTES], message: &[u8], signature: &[u8]) -> bool {
    aws_lc::verify(public_key, &[], message, signature)
}

/// `ML-DSA.Verify_internal` with a prepared key.
pub fn verify_prepared(key: &PreparedKey, message: &[u8], signature: &[u8]) -> bool {
    key.verify_internal(&[], message, signature)
}
