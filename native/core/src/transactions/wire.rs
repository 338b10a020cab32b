//! A strict reader of one protobuf message, following a schema.
//!
//! Format: <https://protobuf.dev/programming-guides/encoding/>. A field is a tag varint
//! (`number << 3 | wire type`) and a value: wire type 0 is a varint, 2 is a length and so many
//! bytes. Fixed-width values and groups do not occur in our messages.

use super::refusal::Refusal;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer = 0,
    Bytes = 2,
}

#[derive(Clone, Copy)]
pub(super) enum Occurs {
    Once,
    Many,
    /// A member of a oneof: of the fields that share a slot, one may be given. The slot is the
    /// smallest number among them.
    Choice(u32),
}

/// One field of a message. Numbers are below 32, so that a `u32` records which were seen.
pub(super) struct Field(pub u32, pub &'static str, pub Kind, pub Occurs);

/// A field as read. Of `integer` and `bytes` the one that is not of the field's kind is empty.
pub(super) struct Token<'a> {
    pub number: u32,
    pub name: &'static str,
    pub integer: u64,
    pub bytes: &'a [u8],
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    schema: &'static [Field],
    seen: u32,
}

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8], schema: &'static [Field]) -> Self {
        Reader {
            rest: message,
            schema,
            seen: 0,
        }
    }

    /// The next field, or none at the end of the message.
    pub fn next(&mut self) -> Result<Option<Token<'a>>, Refusal> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint("")?;
        let Some(Field(number, name, kind, occurs)) = self
            .schema
            .iter()
            .find(|field| u64::from(field.0) == tag >> 3)
        else {
            return Err(Refusal::malformed(
                "",
                format!("has an unknown field {}", tag >> 3),
            ));
        };
        if tag & 7 != *kind as u64 {
            let detail = format!("has wire type {}, must be {}", tag & 7, *kind as u64);
            return Err(Refusal::malformed(name, detail));
        }
        self.note(*number, name, *occurs)?;
        let mut token = Token {
            number: *number,
            name,
            integer: 0,
            bytes: &[],
        };
        match kind {
            Kind::Integer => token.integer = self.varint(name)?,
            Kind::Bytes => token.bytes = self.bytes(name)?,
        }
        Ok(Some(token))
    }

    fn note(&mut self, number: u32, name: &str, occurs: Occurs) -> Result<(), Refusal> {
        let (slot, detail) = match occurs {
            Occurs::Many => return Ok(()),
            Occurs::Once => (number, "is given more than once"),
            Occurs::Choice(slot) => (slot, "is given more than once, or beside its alternative"),
        };
        if self.seen & (1 << slot) != 0 {
            return Err(Refusal::malformed(name, detail));
        }
        self.seen |= 1 << slot;
        Ok(())
    }

    fn bytes(&mut self, name: &str) -> Result<&'a [u8], Refusal> {
        let length = self.varint(name)?;
        let split = usize::try_from(length)
            .ok()
            .and_then(|at| self.rest.split_at_checked(at));
        let Some((bytes, rest)) = split else {
            let detail = format!(
                "is truncated: {length} bytes announced, {} left",
                self.rest.len()
            );
            return Err(Refusal::malformed(name, detail));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// A base-128 varint of at most 64 bits, in the one shortest form.
    fn varint(&mut self, name: &str) -> Result<u64, Refusal> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().enumerate().take(10) {
            if at == 9 && byte > 1 {
                return Err(Refusal::malformed(
                    name,
                    "has a varint of more than 64 bits",
                ));
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                if byte == 0 && at > 0 {
                    return Err(Refusal::malformed(name, "has a varint that is not minimal"));
                }
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Refusal::malformed(name, "is truncated within a varint"))
    }
}

pub(super) fn text<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::malformed(name, "is not valid UTF-8"))
}

/// The bytes as an array of exactly `N`; a field that is missing has none.
pub(super) fn exact<'a, const N: usize>(
    bytes: &'a [u8],
    name: &str,
) -> Result<&'a [u8; N], Refusal> {
    bytes
        .try_into()
        .map_err(|_| Refusal::malformed(name, format!("must be {N} bytes, has {}", bytes.len())))
}

/// A `uint32`. Other parsers drop the upper half of a longer one; here it is refused.
pub(super) fn unsigned(integer: u64, name: &str) -> Result<u32, Refusal> {
    integer
        .try_into()
        .map_err(|_| Refusal::malformed(name, "has more than 32 bits"))
}

/// A `sint32`: 0, -1, 1, -2, … are written as 0, 1, 2, 3, ….
pub(super) fn signed(integer: u64, name: &str) -> Result<i32, Refusal> {
    let integer = unsigned(integer, name)?;
    Ok((integer >> 1) as i32 ^ -((integer & 1) as i32))
}

/// A `bool`. Other parsers take any number but 0 for true.
pub(super) fn flag(integer: u64, name: &str) -> Result<bool, Refusal> {
    match integer {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Refusal::malformed(name, "must be 0 or 1")),
    }
}
