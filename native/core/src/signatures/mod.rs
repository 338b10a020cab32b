//! ML-DSA-87 signatures (FIPS 204), pure form with a context string.

mod aws_lc;
mod cache;
pub mod internal;
mod prepared;

use std::collections::HashMap;
use std::fmt;

use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::pool::pool;

pub use cache::KeyCache;
pub use prepared::PreparedKey;

/// Length of an encoded public key.
pub const PUBLIC_KEY_BYTES: usize = 2592;
/// Length of a signature.
pub const SIGNATURE_BYTES: usize = 4627;
/// Length of the seed ξ from which a key pair is generated.
pub const SEED_BYTES: usize = 32;
/// The longest context string FIPS 204 allows.
pub const CONTEXT_BYTES_MAX: usize = 255;

/// Why a key or a signature could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A public key has another length than [`PUBLIC_KEY_BYTES`].
    PublicKeyLength(usize),
    /// A context is longer than [`CONTEXT_BYTES_MAX`].
    ContextLength(usize),
    /// The library gave no signature.
    Signing,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublicKeyLength(len) => {
                write!(
                    f,
                    "public_key must have {PUBLIC_KEY_BYTES} bytes, not {len}"
                )
            }
            Self::ContextLength(len) => {
                write!(
                    f,
                    "context must have at most {CONTEXT_BYTES_MAX} bytes, not {len}"
                )
            }
            Self::Signing => write!(f, "ML-DSA-87 gave no signature"),
        }
    }
}

impl std::error::Error for Error {}

/// A key that signs. It is wiped from memory when dropped.
pub struct SigningKey {
    public: Box<[u8; PUBLIC_KEY_BYTES]>,
    private: Box<Zeroizing<[u8; aws_lc::PRIVATE_KEY_BYTES]>>,
}

impl SigningKey {
    pub fn from_seed(seed: &[u8; SEED_BYTES]) -> Self {
        let (public, private) = aws_lc::key_pair(seed);
        Self {
            public: Box::new(public),
            private,
        }
    }

    pub fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.public
    }

    /// Signs a message under a context of at most 255 bytes.
    ///
    /// Signatures are hedged with fresh randomness unless `deterministic` is set; both kinds verify
    /// alike. Deterministic ones are reproducible but give a side channel more to work with.
    pub fn sign(
        &self,
        message: &[u8],
        context: &[u8],
        deterministic: bool,
    ) -> Result<[u8; SIGNATURE_BYTES], Error> {
        let prefix = Prefix::pure(context).ok_or(Error::ContextLength(context.len()))?;
        let randomness = if deterministic {
            Zeroizing::default()
        } else {
            aws_lc::random()
        };
        aws_lc::sign(&self.private, prefix.bytes(), message, &randomness).ok_or(Error::Signing)
    }

    /// Signs each message as [`SigningKey::sign`] does, spread over the pool.
    pub fn sign_batch<M: AsRef<[u8]> + Sync>(
        &self,
        messages: &[M],
        context: &[u8],
        deterministic: bool,
    ) -> Result<Vec<[u8; SIGNATURE_BYTES]>, Error> {
        let sign = |message: &M| self.sign(message.as_ref(), context, deterministic);
        pool().install(|| messages.par_iter().map(sign).collect())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// What checks signatures by one public key: the seam at which verifying engines are exchanged.
///
/// Whatever is malformed (a context that is too long, a signature of another length) does not
/// verify; nothing panics.
pub trait Verifier: Send + Sync {
    fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES];
    fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> bool;
}

/// A public key as it is encoded; every verification expands it anew.
pub struct PublicKey<'a>(&'a [u8; PUBLIC_KEY_BYTES]);

impl<'a> PublicKey<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| Error::PublicKeyLength(bytes.len()))
    }
}

impl Verifier for PublicKey<'_> {
    fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        self.0
    }

    fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> bool {
        Prefix::pure(context)
            .is_some_and(|prefix| aws_lc::verify(self.0, prefix.bytes(), message, signature))
    }
}

/// Whether `signature` is a signature of `message` under `context` by an encoded public key.
pub fn verify(public_key: &[u8], message: &[u8], context: &[u8], signature: &[u8]) -> bool {
    PublicKey::new(public_key).is_ok_and(|key| key.verify(message, context, signature))
}

/// One signature to verify in a batch, with the key that shall verify it.
pub struct Item<'a> {
    pub key: &'a dyn Verifier,
    pub message: &'a [u8],
    pub context: &'a [u8],
    pub signature: &'a [u8],
}

/// Verifies each item by itself, spread over the pool; the results stand in the order of the items.
pub fn verify_batch(items: &[Item<'_>]) -> Vec<bool> {
    let verify = |item: &Item<'_>| item.key.verify(item.message, item.context, item.signature);
    pool().install(|| items.par_iter().map(verify).collect())
}

/// One signature to verify in a batch, with its key still encoded.
pub struct Signed<'a> {
    pub public_key: &'a [u8],
    pub message: &'a [u8],
    pub context: &'a [u8],
    pub signature: &'a [u8],
}

/// Verifies as [`verify_batch`] does, preparing each different key once.
///
/// A prepared key lives only as long as the items it stands in, so that a batch of many different
/// keys takes no more memory than one.
pub fn verify_signed(items: &[Signed<'_>]) -> Vec<bool> {
    let mut places_by_key: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (place, item) in items.iter().enumerate() {
        places_by_key
            .entry(item.public_key)
            .or_default()
            .push(place);
    }
    let held = |(public_key, places): (&[u8], Vec<usize>)| {
        let key = PreparedKey::new(public_key).ok();
        places.into_par_iter().filter(move |&place| {
            let Signed {
                message,
                context,
                signature,
                ..
            } = items[place];
            key.as_ref()
                .is_some_and(|key| key.verify(message, context, signature))
        })
    };
    let held: Vec<usize> =
        pool().install(|| places_by_key.into_par_iter().flat_map(held).collect());
    let mut results = vec![false; items.len()];
    for place in held {
        results[place] = true;
    }
    results
}

/// What FIPS 204 sets before a message: in pure form `0x00 ‖ len(context) ‖ context`.
struct Prefix {
    bytes: [u8; 2 + CONTEXT_BYTES_MAX],
    len: usize,
}

impl Prefix {
    /// The prefix of the pure form; `None` if the context is too long.
    fn pure(context: &[u8]) -> Option<Self> {
        let context_len = u8::try_from(context.len()).ok()?;
        let len = 2 + context.len();
        let mut bytes = [0; 2 + CONTEXT_BYTES_MAX];
        bytes[1] = context_len;
        bytes[2..len].copy_from_slice(context);
        Some(Self { bytes, len })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests;
