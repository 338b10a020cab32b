//! Why a transaction was not admitted. Nothing is recorded of it: it was never acknowledged.

use crate::Hash;

/// What kind of fault it is, by what the sender can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Malformed,
    TooLarge,
    WrongGenesis,
    KeyMismatch,
    UnknownKey,
    BadSignature,
    Expired,
    SchemeNotAllowed,
}

impl Code {
    pub const ALL: [Code; 8] = [
        Code::Malformed,
        Code::TooLarge,
        Code::WrongGenesis,
        Code::KeyMismatch,
        Code::UnknownKey,
        Code::BadSignature,
        Code::Expired,
        Code::SchemeNotAllowed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Code::Malformed => "MALFORMED",
            Code::TooLarge => "TOO_LARGE",
            Code::WrongGenesis => "WRONG_GENESIS",
            Code::KeyMismatch => "KEY_MISMATCH",
            Code::UnknownKey => "UNKNOWN_KEY",
            Code::BadSignature => "BAD_SIGNATURE",
            Code::Expired => "EXPIRED",
            Code::SchemeNotAllowed => "SCHEME_NOT_ALLOWED",
        }
    }

    /// One sentence for people: when this code is given.
    pub fn meaning(self) -> &'static str {
        match self {
            Code::Malformed => "The bytes are not a transaction in any city: the format is broken.",
            Code::TooLarge => "A size or count is past a limit of this city.",
            Code::WrongGenesis => "The body names another city's genesis.",
            Code::KeyMismatch => "The key, given by value or by id, is not the body's author.",
            Code::UnknownKey => "The city does not know the key id yet: send the key by value.",
            Code::BadSignature => "The signature does not hold for this body and key.",
            Code::Expired => "The transaction was valid only until a time that has passed.",
            Code::SchemeNotAllowed => "The signature scheme is not allowed in this city.",
        }
    }
}

/// One transaction's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// Dotted path of the field at fault, such as `body.writes[2].object`; none for the whole.
    pub field: Option<String>,
    /// Plain words, with the bound that was missed. Never echoes bytes of the sender's.
    pub detail: String,
    /// With `UnknownKey`: the id that is not known.
    pub key_id: Option<Hash>,
    /// The transaction's id, where the body could be read: it may have been admitted before.
    pub tx_id: Option<Hash>,
}

impl Refusal {
    pub(super) fn new(code: Code, field: &str, detail: impl Into<String>) -> Self {
        let field = (!field.is_empty()).then(|| field.to_owned());
        Refusal {
            code,
            field,
            detail: detail.into(),
            key_id: None,
            tx_id: None,
        }
    }

    pub(super) fn malformed(field: &str, detail: impl Into<String>) -> Self {
        Refusal::new(Code::Malformed, field, detail)
    }

    /// A refusal if `actual` is past `bound`; `unit` is what is counted.
    pub(super) fn past(
        bound: usize,
        actual: usize,
        unit: &str,
        field: &str,
    ) -> Result<(), Refusal> {
        if actual <= bound {
            return Ok(());
        }
        let detail = format!("has {actual} {unit}, at most {bound} are allowed");
        Err(Refusal::new(Code::TooLarge, field, detail))
    }

    /// The same refusal, seen from the message that holds `parent`.
    pub(super) fn within(mut self, parent: &str) -> Self {
        self.field = Some(match self.field {
            Some(field) => format!("{parent}.{field}"),
            None => parent.to_owned(),
        });
        self
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}: {field} {}", self.code.name(), self.detail),
            None => write!(f, "{}: {}", self.code.name(), self.detail),
        }
    }
}

impl std::error::Error for Refusal {}
