//! Public keys prepared for many verifications.

use super::{Error, PUBLIC_KEY_BYTES, Prefix, Verifier, aws_lc};

/// A public key made ready to verify many signatures.
pub struct PreparedKey {
    public: Box<[u8; PUBLIC_KEY_BYTES]>,
}

impl PreparedKey {
    pub fn new(public_key: &[u8]) -> Result<Self, Error> {
        let public: &[u8; PUBLIC_KEY_BYTES] = public_key
            .try_into()
            .map_err(|_| Error::PublicKeyLength(public_key.len()))?;
        Ok(Self {
            public: Box::new(*public),
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
        aws_lc::verify(&self.public, prefix, message, signature)
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
