//! The checks that stand between a received envelope and the ledger.

use std::sync::Arc;

use rayon::prelude::*;

use super::body::Body;
use super::envelope::{Envelope, Signer};
use super::limits::Limits;
use super::refusal::{Code, Refusal};
use super::{SCHEME_ML_DSA_87, SIGNATURE_CONTEXT, key_id, tx_id};
use crate::Hash;
use crate::pool::pool;
use crate::signatures::{KeyCache, PreparedKey};

/// What a city checks against.
pub struct Rules<'a> {
    pub genesis: &'a Hash,
    pub keys: &'a KeyCache,
    pub limits: &'a Limits,
    pub now_ms: u64,
}

/// An envelope that passed.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    pub tx_id: Hash,
    pub author: &'a Hash,
    pub envelope: Envelope<'a>,
}

/// Checks one received envelope, cheap things first, the signature last.
pub fn check<'a>(bytes: &'a [u8], rules: &Rules<'_>) -> Result<Checked<'a>, Refusal> {
    Refusal::past(rules.limits.envelope_bytes_max(), bytes.len(), "bytes", "")?;
    let envelope = Envelope::parse(bytes)?;
    Refusal::past(
        rules.limits.body_bytes_max,
        envelope.body.len(),
        "bytes",
        "body",
    )?;
    let body = Body::parse(envelope.body, rules.limits).map_err(|e| e.within("body"))?;
    let tx_id = tx_id(envelope.body);
    match check_admission(&envelope, &body, rules) {
        Ok(()) => Ok(Checked {
            tx_id,
            author: body.author,
            envelope,
        }),
        Err(refusal) => Err(Refusal {
            tx_id: Some(tx_id),
            ..refusal
        }),
    }
}

fn check_admission(
    envelope: &Envelope<'_>,
    body: &Body<'_>,
    rules: &Rules<'_>,
) -> Result<(), Refusal> {
    if body.genesis != rules.genesis {
        let detail = "is not this city's genesis";
        return Err(Refusal::new(Code::WrongGenesis, "body.genesis", detail));
    }
    if let Some(until) = body.valid_until_ms.filter(|until| *until < rules.now_ms) {
        let detail = format!("is {until}, the city's clock is at {}", rules.now_ms);
        return Err(Refusal::new(Code::Expired, "body.valid_until_ms", detail));
    }
    check_signature(envelope, body.author, rules.keys)
}

/// Reads an envelope in the stored form; its signature was checked before it was stored.
pub fn decode(bytes: &[u8]) -> Result<Checked<'_>, Refusal> {
    let envelope = Envelope::parse(bytes)?;
    let body = Body::parse(envelope.body, &Limits::WIDEST).map_err(|e| e.within("body"))?;
    if !envelope.is_stored_form || envelope.signer != Signer::KeyId(body.author) {
        return Err(Refusal::malformed(
            "",
            "is not in the form in which envelopes are stored",
        ));
    }
    Ok(Checked {
        tx_id: tx_id(envelope.body),
        author: body.author,
        envelope,
    })
}

/// Checks received envelopes, each by itself, spread over the pool; results stand in their order.
pub fn check_batch<'a, E: AsRef<[u8]> + Sync>(
    envelopes: &'a [E],
    rules: &Rules<'_>,
) -> Vec<Result<Checked<'a>, Refusal>> {
    let check = |envelope: &'a E| check(envelope.as_ref(), rules);
    pool().install(|| envelopes.par_iter().map(check).collect())
}

/// Reads stored envelopes, spread over the pool; results stand in their order.
pub fn decode_batch<E: AsRef<[u8]> + Sync>(envelopes: &[E]) -> Vec<Result<Checked<'_>, Refusal>> {
    let decode = |envelope| decode(AsRef::as_ref(envelope));
    pool().install(|| envelopes.par_iter().map(decode).collect())
}

/// The key must be the author's before the signature is looked at, and is kept only after one
/// held, so that nobody can fill the cache, or the ledger, with keys that they do not own.
fn check_signature(envelope: &Envelope<'_>, author: &Hash, keys: &KeyCache) -> Result<(), Refusal> {
    match envelope.signer {
        Signer::KeyId(id) if id != author => Err(mismatch("key_id")),
        Signer::KeyId(id) => verify(&*keys.get(id).ok_or_else(|| unknown(id))?, envelope),
        Signer::PublicKey(bytes) => {
            // The bytes of the author's known key need not be hashed again.
            if let Some(key) = keys.get(author).filter(|key| key.public_key() == bytes) {
                return verify(&key, envelope);
            }
            if key_id(SCHEME_ML_DSA_87, bytes) != *author {
                return Err(mismatch("public_key"));
            }
            let key = PreparedKey::new(bytes)
                .map_err(|error| Refusal::malformed("public_key", error.to_string()))?;
            verify(&key, envelope)?;
            keys.insert(*author, Arc::new(key));
            Ok(())
        }
    }
}

fn verify(key: &PreparedKey, envelope: &Envelope<'_>) -> Result<(), Refusal> {
    if key.verify(envelope.body, SIGNATURE_CONTEXT, envelope.signature) {
        return Ok(());
    }
    let detail = "does not hold for this body and the author's key";
    Err(Refusal::new(Code::BadSignature, "signature", detail))
}

fn mismatch(field: &str) -> Refusal {
    Refusal::new(Code::KeyMismatch, field, "does not belong to body.author")
}

fn unknown(id: &Hash) -> Refusal {
    let detail = "is not known to this city: send the public key once";
    let refusal = Refusal::new(Code::UnknownKey, "key_id", detail);
    Refusal {
        key_id: Some(*id),
        ..refusal
    }
}
