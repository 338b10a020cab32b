//! `TransactionBody`: the part that is signed and hashed.

use super::limits::Limits;
use super::refusal::Refusal;
use super::wire::{Field, Kind, Occurs, Reader, exact, text};

use crate::Hash;

/// The most transactions that one may depend on.
pub const DEPENDS_ON_MAX: usize = 4;
/// The longest name of an asset.
pub const ASSET_BYTES_MAX: usize = 32;
/// Object ids that start with it are the ledger's own, such as `$balance/…`.
pub const RESERVED_PREFIX: char = '$';

/// Twin of `TransactionBody` in `proto/citychain/v1/transaction.proto`; 9 is kept for presence.
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
];
const OBJECT_READ: &[Field] = &[
    Field(1, "object", Kind::Bytes, Occurs::Once),
    Field(2, "version", Kind::Integer, Occurs::Once),
];
const OBJECT_WRITE: &[Field] = &[
    Field(1, "object", Kind::Bytes, Occurs::Once),
    Field(2, "expected_version", Kind::Integer, Occurs::Once),
];
const DATA: &[Field] = &[
    Field(1, "content_type", Kind::Bytes, Occurs::Once),
    Field(2, "content", Kind::Bytes, Occurs::Once),
];
const TRANSFER: &[Field] = &[
    Field(1, "asset", Kind::Bytes, Occurs::Once),
    Field(2, "to", Kind::Bytes, Occurs::Once),
    Field(3, "amount", Kind::Integer, Occurs::Once),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectVersion<'a> {
    pub object: &'a str,
    pub version: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
                16 => action = Some(data(field.bytes, limits).map_err(|e| e.within("data"))?),
                _ => action = Some(transfer(field.bytes).map_err(|e| e.within("transfer"))?),
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
                .ok_or_else(|| Refusal::malformed("action", "must be given: data or transfer"))?,
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

fn push_object<'a>(
    objects: &mut Vec<ObjectVersion<'a>>,
    parsed: Result<ObjectVersion<'a>, Refusal>,
    list: &str,
    maximum: usize,
) -> Result<(), Refusal> {
    Refusal::past(maximum, objects.len() + 1, "entries", list)?;
    let unlike_earlier = |entry: ObjectVersion<'a>| match objects
        .iter()
        .any(|earlier| earlier.object == entry.object)
    {
        true => Err(Refusal::malformed(
            "object",
            "is named by an earlier entry too",
        )),
        false => Ok(entry),
    };
    let entry = parsed.and_then(unlike_earlier);
    objects.push(entry.map_err(|e| e.within(&format!("{list}[{}]", objects.len())))?);
    Ok(())
}

/// Reads and writes have the same layout; the schemas differ in the name of the version alone.
fn object<'a>(
    bytes: &'a [u8],
    schema: &'static [Field],
    limits: &Limits,
) -> Result<ObjectVersion<'a>, Refusal> {
    let (mut object, mut version): (&[u8], u64) = (&[], 0);
    let mut reader = Reader::new(bytes, schema);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => object = field.bytes,
            _ => version = field.integer,
        }
    }
    Refusal::past(limits.object_id_bytes_max, object.len(), "bytes", "object")?;
    let object = text(object, "object")?;
    if object.is_empty() {
        return Err(Refusal::malformed("object", "must not be empty"));
    }
    if object.starts_with(RESERVED_PREFIX) {
        let detail = format!("must not start with {RESERVED_PREFIX}: such ids are the ledger's");
        return Err(Refusal::malformed("object", detail));
    }
    Ok(ObjectVersion { object, version })
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
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if asset.is_empty() || asset.len() > ASSET_BYTES_MAX || !asset.iter().all(allowed) {
        let detail = format!("must be 1 to {ASSET_BYTES_MAX} characters out of a-z, 0-9 and -");
        return Err(Refusal::malformed("asset", detail));
    }
    if amount == 0 {
        return Err(Refusal::malformed("amount", "must be at least 1"));
    }
    Ok(Action::Transfer {
        asset: text(asset, "asset")?,
        to: exact(to, "to")?,
        amount,
    })
}
