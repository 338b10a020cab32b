//! `Equivocation` and `Recovery`: what changes who may approve.

use super::actions::stake_amount;
use super::keyed::Keyed;
use crate::Hash;
use crate::signatures::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};
use crate::transactions::refusal::Refusal;
use crate::transactions::wire::{Field, Kind, Occurs, Reader, exact};

/// The most seats of a committee.
const SEATS_MAX: usize = 256;

const EQUIVOCATION: &[Field] = &[
    Field(1, "public_key", Kind::Bytes, Occurs::Once),
    Field(2, "round", Kind::Integer, Occurs::Once),
    Field(3, "first_hash", Kind::Bytes, Occurs::Once),
    Field(4, "first_signature", Kind::Bytes, Occurs::Once),
    Field(5, "second_hash", Kind::Bytes, Occurs::Once),
    Field(6, "second_signature", Kind::Bytes, Occurs::Once),
];
const RECOVERY: &[Field] = &[
    Field(1, "from_round", Kind::Integer, Occurs::Once),
    Field(2, "previous", Kind::Bytes, Occurs::Once),
    Field(3, "seats", Kind::Bytes, Occurs::Many),
];
const SEAT: &[Field] = &[
    Field(1, "key_id", Kind::Bytes, Occurs::Once),
    Field(2, "stake", Kind::Integer, Occurs::Once),
];

/// Two votes of one key in one round. Whether the signatures hold is not looked at here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivocation<'a> {
    pub public_key: &'a [u8; PUBLIC_KEY_BYTES],
    pub round: u64,
    pub first_hash: &'a Hash,
    pub first_signature: &'a [u8; SIGNATURE_BYTES],
    /// Another than `first_hash`.
    pub second_hash: &'a Hash,
    pub second_signature: &'a [u8; SIGNATURE_BYTES],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery<'a> {
    /// At least 1.
    pub from_round: u64,
    pub previous: &'a Hash,
    /// At least one; of different keys.
    pub seats: Vec<Seat<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat<'a> {
    pub key_id: &'a Hash,
    pub stake: u64,
}

pub fn equivocation(bytes: &[u8]) -> Result<Equivocation<'_>, Refusal> {
    let (mut public_key, mut round): (&[u8], u64) = (&[], 0);
    let (mut first_hash, mut first_signature): (&[u8], &[u8]) = (&[], &[]);
    let (mut second_hash, mut second_signature): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes, EQUIVOCATION);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => public_key = field.bytes,
            2 => round = field.integer,
            3 => first_hash = field.bytes,
            4 => first_signature = field.bytes,
            5 => second_hash = field.bytes,
            _ => second_signature = field.bytes,
        }
    }
    let read = Equivocation {
        public_key: exact(public_key, "public_key")?,
        round,
        first_hash: exact(first_hash, "first_hash")?,
        first_signature: exact(first_signature, "first_signature")?,
        second_hash: exact(second_hash, "second_hash")?,
        second_signature: exact(second_signature, "second_signature")?,
    };
    if read.first_hash == read.second_hash {
        let detail = "must not be the same as first_hash";
        return Err(Refusal::malformed("second_hash", detail));
    }
    Ok(read)
}

pub fn recovery(bytes: &[u8]) -> Result<Recovery<'_>, Refusal> {
    let (mut from_round, mut previous): (u64, &[u8]) = (0, &[]);
    let mut seats = Keyed::new();
    let mut reader = Reader::new(bytes, RECOVERY);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => from_round = field.integer,
            2 => previous = field.bytes,
            _ => seats.push(seat(field.bytes), "seats", SEATS_MAX)?,
        }
    }
    if from_round == 0 {
        return Err(Refusal::malformed("from_round", "must be at least 1"));
    }
    let previous = exact(previous, "previous")?;
    if seats.entries.is_empty() {
        return Err(Refusal::malformed("seats", "must be at least one"));
    }
    Ok(Recovery {
        from_round,
        previous,
        seats: seats.entries,
    })
}

fn seat(bytes: &[u8]) -> Result<(&Hash, Seat<'_>), Refusal> {
    let (mut key_id, mut stake): (&[u8], u64) = (&[], 0);
    let mut reader = Reader::new(bytes, SEAT);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => key_id = field.bytes,
            _ => stake = field.integer,
        }
    }
    let (key_id, stake) = (exact(key_id, "key_id")?, stake_amount(stake)?);
    Ok((key_id, Seat { key_id, stake }))
}
