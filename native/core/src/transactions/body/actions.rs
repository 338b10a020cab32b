//! What a transaction does: one of the members of the oneof `action`.

use super::committee::{Equivocation, Recovery, equivocation, recovery};
use super::exchange::{
    Anchor, Delivery, Remittance, Settlement, anchor, delivery, peer, remittance, settlement,
};
use super::presence::{Presence, presence};
use super::reward::{Reward, reward};
use crate::Hash;
use crate::signatures::PUBLIC_KEY_BYTES;
use crate::transactions::limits::Limits;
use crate::transactions::refusal::Refusal;
use crate::transactions::wire::{Field, Kind, Occurs, Reader, exact, flag, text};

/// The longest name of an asset.
const ASSET_BYTES_MAX: usize = 32;
/// The most that a stake can be: no asset has more in all.
const STAKE_MAX: u64 = i64::MAX as u64;

const DATA: &[Field] = &[
    Field(1, "content_type", Kind::Bytes, Occurs::Once),
    Field(2, "content", Kind::Bytes, Occurs::Once),
];
const TRANSFER: &[Field] = &[
    Field(1, "asset", Kind::Bytes, Occurs::Once),
    Field(2, "to", Kind::Bytes, Occurs::Once),
    Field(3, "amount", Kind::Integer, Occurs::Once),
];
/// `Candidacy` and `Withdrawal` have the same layout.
const STAKE: &[Field] = &[
    Field(1, "asset", Kind::Bytes, Occurs::Once),
    Field(2, "stake", Kind::Integer, Occurs::Once),
];
const WITNESS: &[Field] = &[
    Field(1, "public_key", Kind::Bytes, Occurs::Once),
    Field(2, "revoked", Kind::Integer, Occurs::Once),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    Data {
        content_type: &'a str,
        content: &'a [u8],
    },
    Transfer {
        asset: &'a str,
        to: &'a Hash,
        amount: u64,
    },
    Presence(Presence<'a>),
    Candidacy(Stake<'a>),
    Withdrawal(Stake<'a>),
    Witness {
        public_key: &'a [u8; PUBLIC_KEY_BYTES],
        revoked: bool,
    },
    Equivocation(Equivocation<'a>),
    Recovery(Recovery<'a>),
    /// The genesis file of another city; whether it is one is not looked at here.
    Peer {
        genesis_file: &'a [u8],
    },
    Remittance(Remittance<'a>),
    Delivery(Delivery<'a>),
    Settlement(Settlement<'a>),
    Anchor(Anchor<'a>),
    Reward(Reward<'a>),
}

/// An amount that goes into the author's stake, or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stake<'a> {
    pub asset: &'a str,
    pub amount: u64,
}

impl<'a> Action<'a> {
    /// Parses the member of this number; `name` is the field's.
    pub(super) fn parse(
        number: u32,
        name: &str,
        bytes: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let parsed = match number {
            16 => data(bytes, limits),
            17 => transfer(bytes),
            18 => presence(bytes).map(Action::Presence),
            19 => stake(bytes).map(Action::Candidacy),
            20 => stake(bytes).map(Action::Withdrawal),
            21 => witness(bytes),
            22 => equivocation(bytes).map(Action::Equivocation),
            23 => recovery(bytes).map(Action::Recovery),
            24 => peer(bytes).map(|genesis_file| Action::Peer { genesis_file }),
            25 => remittance(bytes).map(Action::Remittance),
            26 => delivery(bytes).map(Action::Delivery),
            27 => settlement(bytes).map(Action::Settlement),
            28 => anchor(bytes).map(Action::Anchor),
            _ => reward(bytes).map(Action::Reward),
        };
        parsed.map_err(|refusal| refusal.within(name))
    }

    /// Its field's name in `TransactionBody`.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Data { .. } => "data",
            Action::Transfer { .. } => "transfer",
            Action::Presence(..) => "presence",
            Action::Candidacy(..) => "candidacy",
            Action::Withdrawal(..) => "withdrawal",
            Action::Witness { .. } => "witness",
            Action::Equivocation(..) => "equivocation",
            Action::Recovery(..) => "recovery",
            Action::Peer { .. } => "peer",
            Action::Remittance(..) => "remittance",
            Action::Delivery(..) => "delivery",
            Action::Settlement(..) => "settlement",
            Action::Anchor(..) => "anchor",
            Action::Reward(..) => "reward",
        }
    }
}

fn data<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Action<'a>, Refusal> {
    let (mut content_type, mut content): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(bytes, DATA);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => content_type = field.bytes,
            _ => content = field.bytes,
        }
    }
    let maximum = limits.content_type_bytes_max;
    Refusal::past(maximum, content_type.len(), "bytes", "content_type")?;
    Ok(Action::Data {
        content_type: text(content_type, "content_type")?,
        content,
    })
}

fn transfer(bytes: &[u8]) -> Result<Action<'_>, Refusal> {
    let (mut asset, mut to, mut amount): (&[u8], &[u8], u64) = (&[], &[], 0);
    let mut reader = Reader::new(bytes, TRANSFER);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => asset = field.bytes,
            2 => to = field.bytes,
            _ => amount = field.integer,
        }
    }
    let (asset, amount) = (asset_name(asset)?, positive(amount)?);
    Ok(Action::Transfer {
        asset,
        to: exact(to, "to")?,
        amount,
    })
}

fn stake(bytes: &[u8]) -> Result<Stake<'_>, Refusal> {
    let (mut asset, mut amount): (&[u8], u64) = (&[], 0);
    let mut reader = Reader::new(bytes, STAKE);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => asset = field.bytes,
            _ => amount = field.integer,
        }
    }
    Ok(Stake {
        asset: asset_name(asset)?,
        amount: stake_amount(amount)?,
    })
}

fn witness(bytes: &[u8]) -> Result<Action<'_>, Refusal> {
    let (mut public_key, mut revoked): (&[u8], u64) = (&[], 0);
    let mut reader = Reader::new(bytes, WITNESS);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => public_key = field.bytes,
            _ => revoked = field.integer,
        }
    }
    Ok(Action::Witness {
        public_key: exact(public_key, "public_key")?,
        revoked: flag(revoked, "revoked")?,
    })
}

/// The value of a field `asset`, of whichever message.
pub(super) fn asset_name(asset: &[u8]) -> Result<&str, Refusal> {
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if asset.is_empty() || asset.len() > ASSET_BYTES_MAX || !asset.iter().all(allowed) {
        let detail = format!("must be 1 to {ASSET_BYTES_MAX} characters out of a-z, 0-9 and -");
        return Err(Refusal::malformed("asset", detail));
    }
    text(asset, "asset")
}

/// The value of a field `amount`, of whichever message.
pub(super) fn positive(amount: u64) -> Result<u64, Refusal> {
    match amount {
        0 => Err(Refusal::malformed("amount", "must be at least 1")),
        _ => Ok(amount),
    }
}

/// The value of a field `stake`, of whichever message.
pub(super) fn stake_amount(stake: u64) -> Result<u64, Refusal> {
    match stake {
        1..=STAKE_MAX => Ok(stake),
        _ => Err(Refusal::malformed("stake", "must be 1 to 2^63 - 1")),
    }
}
