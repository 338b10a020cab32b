//! ML-DSA-87 from AWS-LC: FIPS 204's internal algorithms, key generation, signing, verification.
//!
//! The EVP interface can neither sign deterministically nor take the randomness from a test
//! vector, so the functions below it are called. They are exported by the library but not declared
//! by the crate, and their names carry its version, hence the exact pin in Cargo.toml.

use aws_lc_sys::RAND_bytes;
use zeroize::Zeroizing;

use super::{PUBLIC_KEY_BYTES, SEED_BYTES, SIGNATURE_BYTES};

pub const PRIVATE_KEY_BYTES: usize = 4896;
pub const RANDOMNESS_BYTES: usize = 32;

/// What every function below returns when it succeeded, or when the signature holds.
const SUCCESS: i32 = 1;

unsafe extern "C" {
    #[link_name = "aws_lc_0_47_0_ml_dsa_87_keypair_internal"]
    fn keypair_internal(public_key: *mut u8, private_key: *mut u8, seed: *const u8) -> i32;

    #[link_name = "aws_lc_0_47_0_ml_dsa_87_sign_internal"]
    fn sign_internal(
        private_key: *const u8,
        signature: *mut u8,
        signature_len: *mut usize,
        message: *const u8,
        message_len: usize,
        prefix: *const u8,
        prefix_len: usize,
        randomness: *const u8,
    ) -> i32;

    #[link_name = "aws_lc_0_47_0_ml_dsa_87_verify_internal"]
    fn verify_internal(
        public_key: *const u8,
        signature: *const u8,
        signature_len: usize,
        message: *const u8,
        message_len: usize,
        prefix: *const u8,
        prefix_len: usize,
    ) -> i32;
}

/// `ML-DSA.KeyGen_internal` (algorithm 6): the public and the private key of a seed.
pub fn key_pair(
    seed: &[u8; SEED_BYTES],
) -> (
    [u8; PUBLIC_KEY_BYTES],
    Box<Zeroizing<[u8; PRIVATE_KEY_BYTES]>>,
) {
    let mut public = [0; PUBLIC_KEY_BYTES];
    // On the heap, so that moving the key leaves no copy behind.
    let mut private = Box::new(Zeroizing::new([0; PRIVATE_KEY_BYTES]));
    // SAFETY: each pointer leads to as many bytes as ML-DSA-87 reads or writes there.
    let status =
        unsafe { keypair_internal(public.as_mut_ptr(), private.as_mut_ptr(), seed.as_ptr()) };
    // Only the pairwise test of AWS-LC's FIPS build can fail, and that build is not used.
    assert_eq!(status, SUCCESS, "ML-DSA-87 generates a key from any seed");
    (public, private)
}

/// `ML-DSA.Sign_internal` (algorithm 7) of `prefix ‖ message`; `None` if the library failed.
pub fn sign(
    private_key: &[u8; PRIVATE_KEY_BYTES],
    prefix: &[u8],
    message: &[u8],
    randomness: &[u8; RANDOMNESS_BYTES],
) -> Option<[u8; SIGNATURE_BYTES]> {
    let mut signature = [0; SIGNATURE_BYTES];
    let mut signature_len = 0;
    // SAFETY: key, signature and randomness have the lengths ML-DSA-87 reads and writes; the
    // slices are passed with their own lengths.
    let status = unsafe {
        sign_internal(
            private_key.as_ptr(),
            signature.as_mut_ptr(),
            &mut signature_len,
            message.as_ptr(),
            message.len(),
            prefix.as_ptr(),
            prefix.len(),
            randomness.as_ptr(),
        )
    };
    (status == SUCCESS && signature_len == SIGNATURE_BYTES).then_some(signature)
}

/// `ML-DSA.Verify_internal` (algorithm 8) of `prefix ‖ message`.
pub fn verify(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    prefix: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    // SAFETY: the key has the length ML-DSA-87 reads; the slices are passed with their own
    // lengths, and a signature of another length is refused before it is read.
    let status = unsafe {
        verify_internal(
            public_key.as_ptr(),
            signature.as_ptr(),
            signature.len(),
            message.as_ptr(),
            message.len(),
            prefix.as_ptr(),
            prefix.len(),
        )
    };
    status == SUCCESS
}

/// Fresh randomness; AWS-LC aborts the process rather than return without any.
pub fn random() -> Zeroizing<[u8; RANDOMNESS_BYTES]> {
    let mut bytes = Zeroizing::new([0; RANDOMNESS_BYTES]);
    // SAFETY: the pointer leads to as many bytes as are asked for.
    let status = unsafe { RAND_bytes(bytes.as_mut_ptr(), bytes.len()) };
    assert_eq!(status, SUCCESS, "the operating system gives randomness");
    bytes
}
