//! `ObjectRead` and `ObjectWrite`: objects with their versions.

use crate::transactions::limits::Limits;
use crate::transactions::refusal::Refusal;
use crate::transactions::wire::{Field, Kind, Occurs, Reader, text};

/// Object ids that start with it are the ledger's own, such as `$balance/…`.
const RESERVED_PREFIX: char = '$';

pub const OBJECT_READ: &[Field] = &[
    Field(1, "object", Kind::Bytes, Occurs::Once),
    Field(2, "version", Kind::Integer, Occurs::Once),
];
pub const OBJECT_WRITE: &[Field] = &[
    Field(1, "object", Kind::Bytes, Occurs::Once),
    Field(2, "expected_version", Kind::Integer, Occurs::Once),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectVersion<'a> {
    pub object: &'a str,
    pub version: u64,
}

pub fn push_object<'a>(
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
pub fn object<'a>(
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
