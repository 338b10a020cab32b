//! Transactions: the strict parser of their wire form, and the checks one must pass to be admitted.
//!
//! A signature covers the exact bytes of a `TransactionBody`, and the hash of those bytes is the
//! transaction's id. An ordinary protobuf parser accepts many encodings of one message and skips
//! what it does not know, so two readers could disagree about what was signed. Here every reader
//! sees the same: unknown and repeated fields, non-minimal varints and anything left over are
//! refused. Only the order of fields is free.
//!
//! Nothing is copied: a parsed message borrows from the bytes it was read from.

mod body;
mod check;
mod envelope;
mod limits;
mod refusal;
mod wire;

pub use body::{
    Action, Anchor, Body, Delivery, DeliveryRefusal, Equivocation, ObjectVersion, PEER_BYTES_MAX,
    Presence, Recovery, Remittance, Reward, Seat, Settlement, Stake, WitnessSignature,
};
pub use check::{Checked, Rules, check, check_batch, decode, decode_batch};
pub use envelope::{Envelope, Signer, StoredForm};
pub use limits::Limits;
pub use refusal::{Code, Refusal};

use sha2::{Digest, Sha256};

use crate::Hash;

/// The only signature scheme so far: ML-DSA-87 (FIPS 204), `SCHEME_ML_DSA_87` on the wire.
pub const SCHEME_ML_DSA_87: u8 = 1;

/// The FIPS 204 context string of a transaction's signature.
pub const SIGNATURE_CONTEXT: &[u8] = b"citychain/tx/v1";

/// `SHA256("citychain/tx/v1\0" ‖ body)`: over the body alone, so that another valid signature of
/// the same body is the same transaction.
pub fn tx_id(body: &[u8]) -> Hash {
    Sha256::new_with_prefix(b"citychain/tx/v1\0")
        .chain_update(body)
        .finalize()
        .into()
}

/// `SHA256("citychain/key/v1\0" ‖ scheme ‖ public key)`: names a key, and so an author.
pub fn key_id(scheme: u8, public_key: &[u8]) -> Hash {
    Sha256::new_with_prefix(b"citychain/key/v1\0")
        .chain_update([scheme])
        .chain_update(public_key)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests;
