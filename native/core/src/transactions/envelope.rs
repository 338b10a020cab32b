//! `SignedTransaction`: a body with its signature and whoever signed it. Never hashed as a whole.

use std::ops::Range;

use super::SCHEME_ML_DSA_87;
use super::refusal::{Code, Refusal};
use super::wire::{Field, Kind, Occurs, Reader, exact};
use crate::Hash;
use crate::signatures::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};

/// More than an envelope can hold beside its body and a key by value: signature, tags, lengths.
pub(super) const OVERHEAD_BYTES: usize = SIGNATURE_BYTES + 64;

/// Twin of `SignedTransaction` in `proto/citychain/v1/transaction.proto`.
const ENVELOPE: &[Field] = &[
    Field(1, "body", Kind::Bytes, Occurs::Once),
    Field(2, "scheme", Kind::Integer, Occurs::Once),
    Field(3, "public_key", Kind::Bytes, Occurs::Choice(3)),
    Field(4, "key_id", Kind::Bytes, Occurs::Choice(3)),
    Field(5, "signature", Kind::Bytes, Occurs::Once),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer<'a> {
    PublicKey(&'a [u8; PUBLIC_KEY_BYTES]),
    KeyId(&'a Hash),
}

/// A parsed envelope; its body is not parsed yet.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub body: &'a [u8],
    pub signer: Signer<'a>,
    pub signature: &'a [u8; SIGNATURE_BYTES],
    /// Whether it came as [`StoredForm`] writes it, so that it can be kept without a copy.
    pub is_stored_form: bool,
}

impl<'a> Envelope<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let (mut body, mut signature, mut key): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        let (mut scheme, mut signer, mut last, mut in_order) = (0, 0, 0, true);
        let mut reader = Reader::new(bytes, ENVELOPE);
        while let Some(field) = reader.next()? {
            in_order &= field.number > last;
            last = field.number;
            match field.number {
                1 => body = field.bytes,
                2 => scheme = field.integer,
                5 => signature = field.bytes,
                number => (signer, key) = (number, field.bytes),
            }
        }
        if scheme == 0 {
            return Err(Refusal::malformed("scheme", "must be given"));
        }
        // The lengths below are this scheme's, so it is decided first.
        if scheme != u64::from(SCHEME_ML_DSA_87) {
            let detail = format!("is {scheme}, only {SCHEME_ML_DSA_87} (ML-DSA-87) is allowed");
            return Err(Refusal::new(Code::SchemeNotAllowed, "scheme", detail));
        }
        let signer = match signer {
            3 => Signer::PublicKey(exact(key, "public_key")?),
            4 => Signer::KeyId(exact(key, "key_id")?),
            _ => {
                return Err(Refusal::malformed(
                    "signer",
                    "must be given: public_key or key_id",
                ));
            }
        };
        Ok(Envelope {
            body,
            signature: exact(signature, "signature")?,
            is_stored_form: in_order && matches!(signer, Signer::KeyId(_)),
            signer,
        })
    }
}

/// The one form in which an envelope is kept, whatever the received one looked like:
/// `body`, `scheme`, `key_id`, `signature`, in this order.
///
/// ```text
/// 0A ‖ varint(len) ‖ body ‖ 10 01 ‖ 22 20 ‖ key id (32) ‖ 2A 93 24 ‖ signature (4627)
/// ```
pub struct StoredForm {
    body_bytes: usize,
}

const SCHEME_AND_KEY_ID: [u8; 4] = [0x10, SCHEME_ML_DSA_87, 0x22, 32];
/// 4627 as a varint is `93 24`.
const SIGNATURE: [u8; 3] = [0x2a, 0x93, 0x24];
const TAIL_BYTES: usize = SCHEME_AND_KEY_ID.len() + 32 + SIGNATURE.len() + SIGNATURE_BYTES;

impl StoredForm {
    pub fn new(body_bytes: usize) -> Self {
        StoredForm { body_bytes }
    }

    /// Where the body stands.
    pub fn body(&self) -> Range<usize> {
        let length_bytes = (usize::BITS - (self.body_bytes | 1).leading_zeros()).div_ceil(7);
        let start = 1 + length_bytes as usize;
        start..start + self.body_bytes
    }

    /// Where the signature stands: at the end.
    pub fn signature(&self) -> Range<usize> {
        self.size() - SIGNATURE_BYTES..self.size()
    }

    /// Bytes of the whole.
    pub fn size(&self) -> usize {
        self.body().end + TAIL_BYTES
    }

    /// Writes the whole into `out`, which is `size()` bytes long.
    pub fn write(&self, envelope: &Envelope<'_>, key_id: &Hash, out: &mut [u8]) {
        let body = self.body();
        out[0] = 0x0a;
        for (at, byte) in out[1..body.start].iter_mut().enumerate() {
            *byte = (self.body_bytes >> (7 * at)) as u8 | 0x80;
        }
        out[body.start - 1] &= 0x7f;
        let (head, tail) = out.split_at_mut(body.end);
        head[body].copy_from_slice(envelope.body);
        tail[..4].copy_from_slice(&SCHEME_AND_KEY_ID);
        tail[4..36].copy_from_slice(key_id);
        tail[36..39].copy_from_slice(&SIGNATURE);
        tail[39..].copy_from_slice(envelope.signature);
    }
}
