//! ML-DSA-87 signatures (FIPS 204).

/// Length of an encoded public key.
pub const PUBLIC_KEY_BYTES: usize = 2592;
/// Length of a signature.
pub const SIGNATURE_BYTES: usize = 4627;
/// Length of the seed ξ from which a key pair is generated.
pub const SEED_BYTES: usize = 32;
