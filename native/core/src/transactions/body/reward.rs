//! `Reward`: what a city pays a key for one epoch.

use super::actions::{asset_name, positive};
use crate::Hash;
use crate::transactions::refusal::Refusal;
use crate::transactions::wire::{Field, Kind, Occurs, Reader, exact};

const REWARD: &[Field] = &[
    Field(1, "epoch", Kind::Integer, Occurs::Once),
    Field(2, "asset", Kind::Bytes, Occurs::Once),
    Field(3, "to", Kind::Bytes, Occurs::Once),
    Field(4, "amount", Kind::Integer, Occurs::Once),
];

/// What a key is paid for an epoch, from the author's balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reward<'a> {
    pub epoch: u64,
    pub asset: &'a str,
    pub to: &'a Hash,
    pub amount: u64,
}

pub fn reward(bytes: &[u8]) -> Result<Reward<'_>, Refusal> {
    let (mut epoch, mut amount) = (0, 0);
    let (mut asset, mut to): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes, REWARD);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => epoch = field.integer,
            2 => asset = field.bytes,
            3 => to = field.bytes,
            _ => amount = field.integer,
        }
    }
    Ok(Reward {
        epoch,
        asset: asset_name(asset)?,
        to: exact(to, "to")?,
        amount: positive(amount)?,
    })
}
