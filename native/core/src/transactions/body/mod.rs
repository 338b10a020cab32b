//! `TransactionBody`: the part that is signed and hashed.

mod actions;
mod committee;
mod exchange;
mod keyed;
mod objects;
mod presence;
mod reward;

use super::limits::Limits;
use super::refusal::Refusal;
use super::wire::{Field, Kind, Occurs, Reader, exact};
use crate::Hash;

pub use actions::{Action, Stake};
pub use committee::{Equivocation, Recovery, Seat};
pub use exchange::{Anchor, Delivery, DeliveryRefusal, PEER_BYTES_MAX, Remittance, Settlement};
pub use objects::ObjectVersion;
use objects::{OBJECT_READ, OBJECT_WRITE, object, push_object};
pub use presence::{Presence, WitnessSignature};
pub use reward::Reward;

/// The most transactions that one may depend on.
const DEPENDS_ON_MAX: usize = 4;

/// Twin of `TransactionBody` in `proto/citychain/v1/transaction.proto`.
const BODY: &[Field] = &[
    Field(1, "genesis", Kind::Bytes, Occurs::Once),
    Field(2, "author", Kind::Bytes, Occurs::Once),
    Field(3, "nonce", Kind::Bytes, Occurs::Once),
    Field(4, "created_at_ms", Kind::Integer, Occurs::Once),
    Field(5, "valid_until_ms", Kind::Integer, Occurs::Once),
    Field(6, "depends_on", Kind::Bytes, Occurs::Many),
    Field(7, "reads", Kind::Bytes, Occurs::Many),
    Field(8, "writes", Kind::Bytes, Occurs::Many),
    Field(16, "data", Kind::Bytes, Occurs::Choice(16)),
    Field(17, "transfer", Kind::Bytes, Occurs::Choice(16)),
    Field(18, "presence", Kind::Bytes, Occurs::Choice(16)),
    Field(19, "candidacy", Kind::Bytes, Occurs::Choice(16)),
    Field(20, "withdrawal", Kind::Bytes, Occurs::Choice(16)),
    Field(21, "witness", Kind::Bytes, Occurs::Choice(16)),
    Field(22, "equivocation", Kind::Bytes, Occurs::Choice(16)),
    Field(23, "recovery", Kind::Bytes, Occurs::Choice(16)),
    Field(24, "peer", Kind::Bytes, Occurs::Choice(16)),
    Field(25, "remittance", Kind::Bytes, Occurs::Choice(16)),
    Field(26, "delivery", Kind::Bytes, Occurs::Choice(16)),
    Field(27, "settlement", Kind::Bytes, Occurs::Choice(16)),
    Field(28, "anchor", Kind::Bytes, Occurs::Choice(16)),
    Field(29, "reward", Kind::Bytes, Occurs::Choice(16)),
];

/// A parsed body; every rule of the format holds for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Body<'a> {
    pub genesis: &'a Hash,
    pub author: &'a Hash,
    pub nonce: &'a [u8; 8],
    pub created_at_ms: u64,
    pub valid_until_ms: Option<u64>,
    pub depends_on: Vec<&'a Hash>,
    pub reads: Vec<ObjectVersion<'a>>,
    /// Each with the version the object must have before the write.
    pub writes: Vec<ObjectVersion<'a>>,
    pub action: Action<'a>,
}

impl<'a> Body<'a> {
    /// Field paths of a refusal are relative to the body.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, Refusal> {
        let (mut genesis, mut author, mut nonce): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        let (mut created_at_ms, mut valid_until_ms) = (0, None);
        let (mut depends_on, mut reads, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        let mut action = None;
        let mut reader = Reader::new(bytes, BODY);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => genesis = field.bytes,
                2 => author = field.bytes,
                3 => nonce = field.bytes,
                4 => created_at_ms = field.integer,
                5 => valid_until_ms = Some(field.integer),
                6 => push_dependency(&mut depends_on, field.bytes)?,
                7 => {
                    let read = object(field.bytes, OBJECT_READ, limits);
                    push_object(&mut reads, read, "reads", limits.reads_max)?;
                }
                8 => {
                    let write = object(field.bytes, OBJECT_WRITE, limits);
                    push_object(&mut writes, write, "writes", limits.writes_max)?;
                }
                number => {
                    action = Some(Action::parse(number, field.name, field.bytes, limits)?);
                }
            }
        }
        if created_at_ms == 0 {
            return Err(Refusal::malformed("created_at_ms", "must be at least 1"));
        }
        if valid_until_ms.is_some_and(|until| until <= created_at_ms) {
            return Err(Refusal::malformed(
                "valid_until_ms",
                "must be after created_at_ms",
            ));
        }
        Ok(Body {
            genesis: exact(genesis, "genesis")?,
            author: exact(author, "author")?,
            nonce: exact(nonce, "nonce")?,
            created_at_ms,
            valid_until_ms,
            depends_on,
            reads,
            writes,
            action: action
                .ok_or_else(|| Refusal::malformed("action", "must be given: data, transfer, …"))?,
        })
    }
}

fn push_dependency<'a>(depends_on: &mut Vec<&'a Hash>, bytes: &'a [u8]) -> Result<(), Refusal> {
    let name = || format!("depends_on[{}]", depends_on.len());
    if depends_on.len() == DEPENDS_ON_MAX {
        let detail = format!("is one too many, at most {DEPENDS_ON_MAX} are allowed");
        return Err(Refusal::malformed(&name(), detail));
    }
    let id = bytes.try_into().map_err(|_| {
        Refusal::malformed(&name(), format!("must be 32 bytes, has {}", bytes.len()))
    })?;
    if depends_on.contains(&id) {
        return Err(Refusal::malformed(&name(), "repeats an earlier one"));
    }
    depends_on.push(id);
    Ok(())
}
