//! `Peer`, `Remittance`, `Delivery`, `Settlement` and `Anchor`: what cities say to each other.
//!
//! What a proof proves is not looked at here.

use super::actions::{asset_name, positive};
use crate::Hash;
use crate::transactions::refusal::Refusal;
use crate::transactions::wire::{Field, Kind, Occurs, Reader, exact, flag, text};

/// The longest genesis file of another city.
pub const PEER_BYTES_MAX: usize = 256 * 1024;
/// The same as those of a rejection in a round's record.
const REFUSAL_CODE_BYTES_MAX: usize = 32;
const REFUSAL_REASON_BYTES_MAX: usize = 255;
/// A checkpoint begins with a version of 2 bytes, a genesis id and a round of 8 bytes.
const ROUND_AT: usize = 34;
const CHECKPOINT_BYTES_MAX: usize = 128 * 1024;

const PEER: &[Field] = &[Field(1, "genesis_file", Kind::Bytes, Occurs::Once)];
const REMITTANCE: &[Field] = &[
    Field(1, "asset", Kind::Bytes, Occurs::Once),
    Field(2, "city", Kind::Bytes, Occurs::Once),
    Field(3, "to", Kind::Bytes, Occurs::Once),
    Field(4, "amount", Kind::Integer, Occurs::Once),
];
const DELIVERY: &[Field] = &[
    Field(1, "city", Kind::Bytes, Occurs::Once),
    Field(2, "tx_id", Kind::Bytes, Occurs::Once),
    Field(3, "asset", Kind::Bytes, Occurs::Once),
    Field(4, "to", Kind::Bytes, Occurs::Once),
    Field(5, "amount", Kind::Integer, Occurs::Once),
    Field(6, "proof", Kind::Bytes, Occurs::Once),
    Field(7, "refusal_code", Kind::Bytes, Occurs::Once),
    Field(8, "refusal_reason", Kind::Bytes, Occurs::Once),
];
const SETTLEMENT: &[Field] = &[
    Field(1, "tx_id", Kind::Bytes, Occurs::Once),
    Field(2, "payer", Kind::Bytes, Occurs::Once),
    Field(3, "city", Kind::Bytes, Occurs::Once),
    Field(4, "asset", Kind::Bytes, Occurs::Once),
    Field(5, "amount", Kind::Integer, Occurs::Once),
    Field(6, "returned", Kind::Integer, Occurs::Once),
    Field(7, "proof", Kind::Bytes, Occurs::Once),
];
const ANCHOR: &[Field] = &[
    Field(1, "city", Kind::Bytes, Occurs::Once),
    Field(2, "checkpoint", Kind::Bytes, Occurs::Once),
    Field(3, "proof", Kind::Bytes, Occurs::Once),
];

/// An amount for a key in another city.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remittance<'a> {
    pub asset: &'a str,
    pub city: &'a Hash,
    pub to: &'a Hash,
    pub amount: u64,
}

/// The arrival of a remittance in the city that it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Where the remittance comes from.
    pub city: &'a Hash,
    /// The remittance's.
    pub tx_id: &'a Hash,
    pub asset: &'a str,
    pub to: &'a Hash,
    pub amount: u64,
    /// Not empty.
    pub proof: &'a [u8],
    /// Given if it does not reach the payee.
    pub refusal: Option<DeliveryRefusal<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRefusal<'a> {
    pub code: &'a str,
    pub reason: &'a str,
}

/// What became of a remittance, in the city that sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement<'a> {
    /// The remittance's.
    pub tx_id: &'a Hash,
    pub payer: &'a Hash,
    /// Where the remittance went.
    pub city: &'a Hash,
    pub asset: &'a str,
    pub amount: u64,
    pub returned: bool,
    /// Not empty.
    pub proof: &'a [u8],
}

/// A checkpoint of another city.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor<'a> {
    pub city: &'a Hash,
    /// Long enough to have a round.
    pub checkpoint: &'a [u8],
    /// Not empty.
    pub proof: &'a [u8],
}

impl Anchor<'_> {
    /// The round that the checkpoint says it is of.
    pub fn round(&self) -> u64 {
        let bytes = self.checkpoint[ROUND_AT..].first_chunk();
        u64::from_be_bytes(*bytes.expect("a checkpoint is that long"))
    }
}

/// The genesis file.
pub fn peer(bytes: &[u8]) -> Result<&[u8], Refusal> {
    let mut genesis_file: &[u8] = &[];
    let mut reader = Reader::new(bytes, PEER);
    while let Some(field) = reader.next()? {
        genesis_file = field.bytes;
    }
    let file = given(genesis_file, "genesis_file")?;
    Refusal::past(PEER_BYTES_MAX, file.len(), "bytes", "genesis_file")?;
    Ok(file)
}

pub fn remittance(bytes: &[u8]) -> Result<Remittance<'_>, Refusal> {
    let (mut asset, mut amount): (&[u8], u64) = (&[], 0);
    let (mut city, mut to): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes, REMITTANCE);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => asset = field.bytes,
            2 => city = field.bytes,
            3 => to = field.bytes,
            _ => amount = field.integer,
        }
    }
    Ok(Remittance {
        asset: asset_name(asset)?,
        city: exact(city, "city")?,
        to: exact(to, "to")?,
        amount: positive(amount)?,
    })
}

pub fn delivery(bytes: &[u8]) -> Result<Delivery<'_>, Refusal> {
    let (mut city, mut tx_id, mut asset): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    let (mut to, mut amount, mut proof): (&[u8], u64, &[u8]) = (&[], 0, &[]);
    let (mut code, mut reason): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes, DELIVERY);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => city = field.bytes,
            2 => tx_id = field.bytes,
            3 => asset = field.bytes,
            4 => to = field.bytes,
            5 => amount = field.integer,
            6 => proof = field.bytes,
            7 => code = field.bytes,
            _ => reason = field.bytes,
        }
    }
    Ok(Delivery {
        city: exact(city, "city")?,
        tx_id: exact(tx_id, "tx_id")?,
        asset: asset_name(asset)?,
        to: exact(to, "to")?,
        amount: positive(amount)?,
        proof: given(proof, "proof")?,
        refusal: delivery_refusal(code, reason)?,
    })
}

pub fn settlement(bytes: &[u8]) -> Result<Settlement<'_>, Refusal> {
    let (mut tx_id, mut payer, mut city): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    let (mut asset, mut amount): (&[u8], u64) = (&[], 0);
    let (mut returned, mut proof): (u64, &[u8]) = (0, &[]);
    let mut reader = Reader::new(bytes, SETTLEMENT);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => tx_id = field.bytes,
            2 => payer = field.bytes,
            3 => city = field.bytes,
            4 => asset = field.bytes,
            5 => amount = field.integer,
            6 => returned = field.integer,
            _ => proof = field.bytes,
        }
    }
    Ok(Settlement {
        tx_id: exact(tx_id, "tx_id")?,
        payer: exact(payer, "payer")?,
        city: exact(city, "city")?,
        asset: asset_name(asset)?,
        amount: positive(amount)?,
        returned: flag(returned, "returned")?,
        proof: given(proof, "proof")?,
    })
}

pub fn anchor(bytes: &[u8]) -> Result<Anchor<'_>, Refusal> {
    let (mut city, mut checkpoint, mut proof): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    let mut reader = Reader::new(bytes, ANCHOR);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => city = field.bytes,
            2 => checkpoint = field.bytes,
            _ => proof = field.bytes,
        }
    }
    let least = ROUND_AT + 8;
    if checkpoint.len() < least {
        let detail = format!("must be at least {least} bytes, has {}", checkpoint.len());
        return Err(Refusal::malformed("checkpoint", detail));
    }
    let length = checkpoint.len();
    Refusal::past(CHECKPOINT_BYTES_MAX, length, "bytes", "checkpoint")?;
    Ok(Anchor {
        city: exact(city, "city")?,
        checkpoint,
        proof: given(proof, "proof")?,
    })
}

fn delivery_refusal<'a>(
    code: &'a [u8],
    reason: &'a [u8],
) -> Result<Option<DeliveryRefusal<'a>>, Refusal> {
    if code.is_empty() {
        return match reason {
            [] => Ok(None),
            _ => Err(Refusal::malformed(
                "refusal_reason",
                "is given without a refusal_code",
            )),
        };
    }
    let allowed = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
    if code.len() > REFUSAL_CODE_BYTES_MAX || !code.iter().all(allowed) {
        let detail =
            format!("must be 1 to {REFUSAL_CODE_BYTES_MAX} characters out of A-Z, 0-9 and _");
        return Err(Refusal::malformed("refusal_code", detail));
    }
    let length = reason.len();
    Refusal::past(REFUSAL_REASON_BYTES_MAX, length, "bytes", "refusal_reason")?;
    Ok(Some(DeliveryRefusal {
        code: text(code, "refusal_code")?,
        reason: text(reason, "refusal_reason")?,
    }))
}

fn given<'a>(bytes: &'a [u8], name: &str) -> Result<&'a [u8], Refusal> {
    match bytes {
        [] => Err(Refusal::malformed(name, "must not be empty")),
        _ => Ok(bytes),
    }
}
