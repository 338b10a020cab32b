//! Public keys prepared for many verifications.
//!
//! What a verification computes from the public key alone (ExpandA, t1 in NTT form, tr) is most of
//! its work; here it is computed once and kept. Both halves stand in prepared.c.

use super::{Error, PUBLIC_KEY_BYTES, Prefix, SIGNATURE_BYTES, Verifier};

/// Twin of `expanded_key` in prepared.c, which asserts this size and alignment.
#[repr(C, align(32))]
struct Expanded([u8; 65_600]);

unsafe extern "C" {
    fn citychain_mldsa87_expand(key: *mut Expanded, public_key: *const u8);
    fn citychain_mldsa87_verify(
        key: *const Expanded,
        prefix: *const u8,
        prefix_len: usize,
        message: *const u8,
        message_len: usize,
        signature: *const u8,
    ) -> i32;
}

/// A public key made ready to verify many signatures; it takes 68 KB.
pub struct PreparedKey {
    public: Box<[u8; PUBLIC_KEY_BYTES]>,
    expanded: Box<Expanded>,
}

impl PreparedKey {
    pub fn new(public_key: &[u8]) -> Result<Self, Error> {
        let public: &[u8; PUBLIC_KEY_BYTES] = public_key
            .try_into()
            .map_err(|_| Error::PublicKeyLength(public_key.len()))?;
        let mut expanded = Box::<Expanded>::new_uninit();
        // SAFETY: the public key has the length ML-DSA-87 reads, and the function sets every byte
        // of the expanded key, whose size and alignment it shares.
        let expanded = unsafe {
            citychain_mldsa87_expand(expanded.as_mut_ptr(), public.as_ptr());
            expanded.assume_init()
        };
        Ok(Self {
            public: Box::new(*public),
            expanded,
        })
    }

    pub fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.public
    }

    /// Whether `signature` is a signature of `message` under `context` by this key.
    pub fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> bool {
        Prefix::pure(context)
            .is_some_and(|prefix| self.verify_internal(prefix.bytes(), message, signature))
    }

    pub(super) fn verify_internal(&self, prefix: &[u8], message: &[u8], signature: &[u8]) -> bool {
        if signature.len() != SIGNATURE_BYTES {
            return false;
        }
        // SAFETY: the signature has the length ML-DSA-87 reads; the slices are passed with their
        // own lengths; the key was set by `citychain_mldsa87_expand` and is only read.
        let verified = unsafe {
            citychain_mldsa87_verify(
                &*self.expanded,
                prefix.as_ptr(),
                prefix.len(),
                message.as_ptr(),
                message.len(),
                signature.as_ptr(),
            )
        };
        verified == 1
    }
}

impl Verifier for PreparedKey {
    fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        self.public_key()
    }

    fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> bool {
        self.verify(message, context, signature)
    }
}
