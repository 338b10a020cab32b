//! `Presence`: the claim of having been at a place.

use super::keyed::Keyed;
use crate::Hash;
use crate::signatures::SIGNATURE_BYTES;
use crate::transactions::refusal::Refusal;
use crate::transactions::wire::{Field, Kind, Occurs, Reader, exact, signed, unsigned};

/// The most witnesses of one claim.
const WITNESSES_MAX: usize = 16;
/// Degrees times 10^7.
const LATITUDE_E7_MAX: i32 = 900_000_000;
const LONGITUDE_E7_MAX: i32 = 1_800_000_000;

const PRESENCE: &[Field] = &[
    Field(1, "latitude_e7", Kind::Integer, Occurs::Once),
    Field(2, "longitude_e7", Kind::Integer, Occurs::Once),
    Field(3, "accuracy_m", Kind::Integer, Occurs::Once),
    Field(4, "first_round", Kind::Integer, Occurs::Once),
    Field(5, "last_round", Kind::Integer, Occurs::Once),
    Field(6, "anchor", Kind::Bytes, Occurs::Once),
    Field(7, "witnesses", Kind::Bytes, Occurs::Many),
];
const WITNESS_SIGNATURE: &[Field] = &[
    Field(1, "key_id", Kind::Bytes, Occurs::Once),
    Field(2, "signature", Kind::Bytes, Occurs::Once),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence<'a> {
    pub latitude_e7: i32,
    pub longitude_e7: i32,
    pub accuracy_m: u32,
    pub first_round: u64,
    pub last_round: u64,
    pub anchor: &'a Hash,
    /// Of different keys.
    pub witnesses: Vec<WitnessSignature<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessSignature<'a> {
    pub key_id: &'a Hash,
    pub signature: &'a [u8; SIGNATURE_BYTES],
}

pub fn presence(bytes: &[u8]) -> Result<Presence<'_>, Refusal> {
    let (mut latitude, mut longitude, mut accuracy) = (0, 0, 0);
    let (mut first_round, mut last_round, mut anchor): (_, _, &[u8]) = (0, 0, &[]);
    let mut witnesses = Keyed::new();
    let mut reader = Reader::new(bytes, PRESENCE);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => latitude = field.integer,
            2 => longitude = field.integer,
            3 => accuracy = field.integer,
            4 => first_round = field.integer,
            5 => last_round = field.integer,
            6 => anchor = field.bytes,
            _ => witnesses.push(witness(field.bytes), "witnesses", WITNESSES_MAX)?,
        }
    }
    if first_round > last_round {
        let detail = "must not be before first_round";
        return Err(Refusal::malformed("last_round", detail));
    }
    Ok(Presence {
        latitude_e7: degrees(latitude, "latitude_e7", LATITUDE_E7_MAX)?,
        longitude_e7: degrees(longitude, "longitude_e7", LONGITUDE_E7_MAX)?,
        accuracy_m: unsigned(accuracy, "accuracy_m")?,
        first_round,
        last_round,
        anchor: exact(anchor, "anchor")?,
        witnesses: witnesses.entries,
    })
}

fn degrees(value: u64, name: &str, maximum: i32) -> Result<i32, Refusal> {
    let degrees = signed(value, name)?;
    if (-maximum..=maximum).contains(&degrees) {
        return Ok(degrees);
    }
    Err(Refusal::malformed(
        name,
        format!("must be -{maximum} to {maximum}"),
    ))
}

fn witness(bytes: &[u8]) -> Result<(&Hash, WitnessSignature<'_>), Refusal> {
    let (mut key_id, mut signature): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes, WITNESS_SIGNATURE);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => key_id = field.bytes,
            _ => signature = field.bytes,
        }
    }
    let key_id = exact(key_id, "key_id")?;
    let signature = exact(signature, "signature")?;
    Ok((key_id, WitnessSignature { key_id, signature }))
}
